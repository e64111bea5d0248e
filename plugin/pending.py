"""A request that the engine has not answered yet. No Qt."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError

from ..engine.messages import DeadlineClass, Method
from ..engine.wire import REQUESTS
from ..models.errors import CancelledByUser, SamTuneError

ProgressCallback = Callable[[float, str], None]
"""Takes a fraction (0 to 1, negative when unknown) and a text."""


class PendingRequest:
    """The answer to come, much like a future.

    It ends exactly once: with a result, with a :class:`~samtune.models.errors.SamTuneError`, or cancelled.
    """

    def __init__(
        self,
        request: int,
        method: Method,
        on_progress: ProgressCallback | None,
        send_cancel: Callable[[PendingRequest], None],
    ) -> None:
        """Describe a request.

        Args:
            request: its id on the wire.
            method: what is asked.
            on_progress: called in the reader thread.
            send_cancel: tells the engine that the answer is no longer wanted; must not block.
        """
        self.request = request
        self.method = method
        self.sent_at = time.monotonic()
        self.cancel_asked = False
        self._on_progress = on_progress
        self._send_cancel = send_cancel
        self._future: Future[object] = Future()

    @property
    def deadline(self) -> DeadlineClass:
        """Return how long this may take."""
        return REQUESTS[self.method].deadline

    def done(self) -> bool:
        """Return whether it has ended."""
        return self._future.done()

    def succeeded(self) -> bool:
        """Return whether it has ended with a result."""
        return self._future.done() and self._future.exception() is None

    def cancel(self) -> None:
        """Ask the engine to stop. Returns at once; the request ends when the engine says so, or ends itself."""
        if not self.done() and not self.cancel_asked:
            self.cancel_asked = True
            self._send_cancel(self)

    def result(self, timeout: float | None = None) -> object:
        """Wait for the end. Never call this on QGIS's main thread.

        Args:
            timeout: seconds; None for ever.

        Returns:
            The method's result message.

        Raises:
            SamTuneError: the request failed.
            CancelledByUser: it was cancelled.
            concurrent.futures.TimeoutError: it has not ended yet.
        """
        return self._future.result(timeout)

    def add_done_callback(self, callback: Callable[[PendingRequest], None]) -> None:
        """Have a function called when the request ends, in whichever thread that happens; at once if it has."""
        self._future.add_done_callback(lambda _: callback(self))

    def progress(self, fraction: float, message: str) -> None:
        """Pass on progress; dropped once the request has ended."""
        if self._on_progress is not None and not self.done():
            self._on_progress(fraction, message)

    def succeed(self, result: object) -> None:
        """End with a result; does nothing when it has ended already."""
        with contextlib.suppress(InvalidStateError):  # several threads may end it; the future takes the first
            self._future.set_result(result)

    def fail(self, error: SamTuneError | CancelledByUser) -> None:
        """End with an error or as cancelled; does nothing when it has ended already."""
        with contextlib.suppress(InvalidStateError):
            self._future.set_exception(error)


def cancelled_request(method: Method) -> PendingRequest:
    """Return a request that has ended as cancelled, for when there is nobody to ask any more."""
    pending = PendingRequest(0, method, None, lambda _: None)
    pending.fail(CancelledByUser())
    return pending
