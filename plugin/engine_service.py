"""The engine as the rest of the plugin sees it: one object that is always there, whatever the process does.

Requests may be made from any thread; the engine is started by the first. Callbacks and signals come on the main thread,
through queued signals. Nothing here waits, and nothing is retried silently: when an engine dies, its requests fail and
the next request starts a new one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Union

from qgis.PyQt.QtCore import QObject, Qt, pyqtSignal

from ..engine.messages import EngineInfo, EngineSettings, Method
from ..models.errors import CancelledByUser, EnvironmentMissingError, SamTuneError
from .engine_process import EngineProcess, Limits
from .pending import PendingRequest, ProgressCallback, cancelled_request

ResultCallback = Callable[[object], None]
ErrorCallback = Callable[[Union[SamTuneError, CancelledByUser]], None]
Command = Callable[[], Sequence[str]]


class ServiceState(Enum):
    """What the engine is doing.

    ABSENT: not started, or stopped on purpose. STARTING: process up, handshake not answered. READY: idle. BUSY: working
    on a request. FAILED: ended by itself or did not come up; :attr:`EngineService.last_error` says why.
    """

    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    FAILED = "failed"


@dataclass(frozen=True)
class EngineConfig:
    """How to start an engine.

    Attributes:
        command: gives program and arguments; called in a thread, may look for the interpreter and raise
            EnvironmentMissingError.
        settings: for the handshake.
        key: engines with the same key and settings are the same; normally the interpreter of the settings.
    """

    command: Command
    settings: EngineSettings
    key: str = ""

    def same_as(self, other: EngineConfig) -> bool:
        """Return whether an engine of the other configuration would be no different."""
        return (self.key, self.settings) == (other.key, other.settings)


class RequestHandle:
    """A request made with callbacks."""

    def __init__(self, pending: PendingRequest) -> None:
        """Wrap the answer to come."""
        self._pending = pending

    @property
    def done(self) -> bool:
        """Return whether the engine has answered; the callback may still be on its way to the main thread."""
        return self._pending.done()

    def cancel(self) -> None:
        """Ask the engine to stop; the error callback then gets :class:`~samtune.models.errors.CancelledByUser`."""
        self._pending.cancel()


class EngineService(QObject):
    """Owns at most one engine process.

    Signals:
        state_changed: a :class:`ServiceState` and a text for the user, empty unless FAILED.
        starting: fraction (0 to 1, negative when unknown) and text of what the engine loads while it starts.
        info: the :class:`~samtune.engine.messages.EngineInfo` of an engine that came up.
    """

    state_changed = pyqtSignal(object, str)
    starting = pyqtSignal(float, str)
    info = pyqtSignal(object)
    _deliver = pyqtSignal(object)

    def __init__(
        self, config: EngineConfig, client: str = "samtune", limits: Limits | None = None, parent: QObject | None = None
    ) -> None:
        """Prepare; no process is started before the first request.

        Args:
            config: how to start an engine.
            client: who we are, for the engine's log.
            limits: deadlines; None for the usual ones.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._config = config
        self._client = client
        self._limits = limits
        self._lock = threading.RLock()
        self._engine: EngineProcess | None = None
        self._closed = False
        self._shown = (ServiceState.ABSENT, "")
        self.last_error: SamTuneError | None = None
        self.last_info: EngineInfo | None = None
        self._deliver.connect(self._run_delivery, Qt.ConnectionType.QueuedConnection)

    @property
    def state(self) -> ServiceState:
        """Return the state last announced."""
        return self._shown[0]

    @property
    def pid(self) -> int | None:
        """Return the engine's process id, None when there is none."""
        engine = self._engine
        return engine.pid if engine is not None and engine.alive() else None

    @property
    def log_tail(self) -> str:
        """Return the last lines that the newest engine wrote, also after its end."""
        return self._engine.log_tail if self._engine is not None else ""

    @property
    def memory_bytes(self) -> int:
        """Return the memory that the engine last said it uses; 0 when there is none."""
        engine = self._engine
        if engine is None or not engine.alive() or engine.last_heartbeat is None:
            return 0
        return engine.last_heartbeat.rss_bytes

    def start(self) -> None:
        """Start the engine if it does not run, so that the first request need not wait for it."""
        self._ensure_engine()

    def configure(self, config: EngineConfig) -> None:
        """Take over new settings. An engine running with others is ended; the next request starts a new one.

        Args:
            config: how to start an engine from now on.
        """
        with self._lock:
            if config.same_as(self._config):
                return
            self._config = config
        self.stop()

    def stop(self) -> None:
        """End the engine, if one runs. What is under way ends as cancelled. Returns at once."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
        self._post(self._refresh)

    def shutdown(self) -> None:
        """End the engine for good: later requests end as cancelled, and no callback comes any more. Returns at once."""
        with self._lock:
            self._closed = True
        self.stop()

    def request(
        self, method: Method, params: object = None, on_progress: ProgressCallback | None = None
    ) -> PendingRequest:
        """Ask for something, from any thread.

        Args:
            method: what.
            params: the method's message; None where it has none.
            on_progress: called in a thread of the engine's client.

        Returns:
            The answer to come. Wait for it only off the main thread.
        """
        engine = self._ensure_engine()
        if engine is None:
            return cancelled_request(method)
        return engine.request(method, params, on_progress)

    def request_async(
        self,
        method: Method,
        params: object,
        on_result: ResultCallback,
        on_error: ErrorCallback,
        on_progress: ProgressCallback | None = None,
    ) -> RequestHandle:
        """Ask for something and be called on the main thread.

        Args:
            method: what.
            params: the method's message; None where it has none.
            on_result: gets the method's result message.
            on_error: gets a SamTuneError, or CancelledByUser after :meth:`RequestHandle.cancel`, which is nothing to
                show. Exactly one of the two is called, once.
            on_progress: gets a fraction and a text; never called after the end.

        Returns:
            A handle to cancel with.
        """
        ended = False

        def finish(pending: PendingRequest) -> None:
            nonlocal ended
            ended = True
            try:
                result = pending.result(0)
            except (SamTuneError, CancelledByUser) as error:
                on_error(error)
            else:
                on_result(result)

        def show(fraction: float, text: str) -> None:
            if on_progress is not None and not ended:
                on_progress(fraction, text)

        pending = self.request(method, params, lambda fraction, text: self._post(lambda: show(fraction, text)))
        pending.add_done_callback(lambda done: self._post(lambda: finish(done)))
        return RequestHandle(pending)

    def _ensure_engine(self) -> EngineProcess | None:
        with self._lock:
            if self._closed:
                return None
            if self._engine is None or not self._engine.alive():
                config = self._config
                self._engine = EngineProcess(
                    config.command,
                    config.settings,
                    self._client,
                    on_change=lambda: self._post(self._refresh),
                    on_start_progress=self._announce_start,
                    limits=self._limits,
                )
                self._engine.ready.add_done_callback(lambda done: self._post(lambda: self._greet(done)))
                self._post(self._refresh)
            return self._engine

    def _post(self, call: Callable[[], None]) -> None:
        """Have something done on the main thread, from any thread."""
        if self._closed:
            return
        try:
            self._deliver.emit(call)
        except RuntimeError:  # the C++ part was deleted with its parent: nobody is left to tell
            self._closed = True

    def _run_delivery(self, call: Callable[[], None]) -> None:
        if not self._closed:
            call()

    def _announce_start(self, fraction: float, text: str) -> None:
        self._post(lambda: self.starting.emit(fraction, text))

    def _greet(self, handshake: PendingRequest) -> None:
        try:
            answer = handshake.result(0)
        except (SamTuneError, CancelledByUser):
            return  # told through the state and through every request
        if isinstance(answer, EngineInfo):
            self.last_info = answer
            self.info.emit(answer)

    def _refresh(self) -> None:
        """Announce the state if it is another than before."""
        shown = self._current()
        if shown != self._shown:
            self._shown = shown
            self.state_changed.emit(*shown)

    def _current(self) -> tuple[ServiceState, str]:
        engine = self._engine
        if engine is None:
            return ServiceState.ABSENT, ""
        if not engine.alive():
            self.last_error = engine.end_error or self.last_error
            return (ServiceState.FAILED, engine.end_error.user_text) if engine.end_error else (ServiceState.ABSENT, "")
        if not engine.ready.done():
            return ServiceState.STARTING, ""
        self.last_error = None
        return (ServiceState.BUSY if engine.busy() else ServiceState.READY), ""

    def environment_missing(self) -> bool:
        """Return whether the engine could not start because there is no environment for it."""
        return isinstance(self.last_error, EnvironmentMissingError)
