"""One request of a kind at a time: a newer one replaces an older, answers to older ones are dropped by number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Union

from ..engine.messages import Method
from ..models.errors import CancelledByUser, SamTuneError
from .session import Busy, Session

OnResult = Callable[[object], None]
OnError = Callable[[SamTuneError], None]
OnServiceError = Callable[[Union[SamTuneError, CancelledByUser]], None]
OnProgress = Callable[[float, str], None]


class Handle(Protocol):
    """A request under way."""

    def cancel(self) -> None:
        """Ask the engine to stop working on it."""


class Service(Protocol):
    """The part of the engine service that the controllers use. Every callback comes on the main thread."""

    def request_async(
        self,
        method: Method,
        params: object,
        on_result: OnResult,
        on_error: OnServiceError,
        on_progress: OnProgress | None = None,
    ) -> Handle:
        """Send a request; the engine is started where it does not run."""


class LatestRequest:
    """The newest request of one kind (open, segment, hover...).

    Attributes:
        params: what was sent last.
    """

    def __init__(self, service: Service, session: Session, key: str, text: str = "") -> None:
        """Keep the service, and how to say in the session that this is under way.

        Args:
            service: sends the request.
            session: told about progress under ``key``.
            key: name of this kind of request.
            text: what is being done, for the user; empty where nobody need know (hover).
        """
        self._service = service
        self._session = session
        self._key = key
        self._text = text
        self._number = 0
        self._handle: Handle | None = None
        self._busy = False
        self.params: object = None

    @property
    def busy(self) -> bool:
        """Return whether an answer is awaited."""
        return self._busy

    def send(self, method: Method, params: object, on_result: OnResult, on_error: OnError) -> None:
        """Send a request in place of the one under way, if any.

        Args:
            method: the request's name.
            params: its parameters.
            on_result: called with the answer, unless a newer request was sent or this one cancelled.
            on_error: called with the error, under the same condition; never for a cancellation.
        """
        self.cancel()
        self._number += 1
        number = self._number
        self._busy, self.params = True, params
        self._show(Busy(self._text))

        def deliver(result: object) -> None:
            if self._finish(number):
                on_result(result)

        def fail(error: SamTuneError | CancelledByUser) -> None:
            if self._finish(number) and isinstance(error, SamTuneError):
                on_error(error)

        def progress(fraction: float, message: str) -> None:
            if number == self._number and self._busy:
                self._show(Busy(message or self._text, fraction))

        handle = self._service.request_async(method, params, deliver, fail, progress)
        if number == self._number and self._busy:
            self._handle = handle

    def cancel(self) -> None:
        """Stop the request under way; whatever it still answers is dropped."""
        handle, self._handle = self._handle, None
        if self._finish(self._number) and handle is not None:
            handle.cancel()

    def _finish(self, number: int) -> bool:
        if number != self._number or not self._busy:
            return False
        self._busy, self._handle = False, None
        self._show(None)
        return True

    def _show(self, busy: Busy | None) -> None:
        if self._text:
            self._session.set_busy(self._key, busy)
