"""How long work tells its caller about itself. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Check = Callable[[], None]
"""Gives the caller a chance to stop the work, see :meth:`Progress.check`."""


class Progress(Protocol):
    """What a service is given to report to, and to ask whether it should stop."""

    def report(self, fraction: float, message: str) -> None:
        """Say how far the work is. Cheap: may be called often, the receiver thins out.

        Args:
            fraction: 0 to 1, or negative when unknown.
            message: what is being done, for the user.
        """

    def check(self) -> None:
        """Give the caller a chance to stop the work. Call it between steps of at most 200 ms where possible.

        Raises:
            CancelledByUser: the work is no longer wanted.
        """


class NullProgress:
    """A :class:`Progress` that nobody listens to and that never cancels."""

    def report(self, fraction: float, message: str) -> None:
        """Do nothing.

        Args:
            fraction: ignored.
            message: ignored.
        """

    def check(self) -> None:
        """Do nothing: nobody can cancel."""


def never_stops() -> None:
    """A :data:`Check` of work that nobody can stop."""
