"""One engine process and the conversation with it. No Qt; used by the service on QGIS's main thread and by tests.

Nothing here blocks the caller. Four daemon threads do the waiting: one starts the process and writes, one reads
answers, one reads stderr (whose last lines become part of an error), one watches deadlines.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import queue
import subprocess  # nosec B404
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..engine.framing import FrameReader, FrameWriter, JsonObject
from ..engine.messages import (
    PROTOCOL_VERSION,
    CancelParams,
    DeadlineClass,
    EngineInfo,
    EngineSettings,
    Heartbeat,
    InitializeParams,
    Method,
    NoParams,
    Progress,
)
from ..engine.provenance import without_secrets
from ..engine.wire import REQUESTS, from_wire, to_wire
from ..models.errors import (
    CancelledByUser,
    DeadlineError,
    EngineDiedError,
    EngineStartError,
    ProtocolError,
    SamTuneError,
)
from .child import spawn
from .engine_errors import GARBLED_TEXT, START_TEXT, describe_exit, error_from_wire
from .pending import PendingRequest, ProgressCallback

_TAIL_LINES = 60
_WRITE_END = None


@dataclass(frozen=True)
class Limits:
    """Times after which an engine counts as hung, seconds.

    Attributes:
        start_silence: longest silence during the handshake. Generous: loading torch's libraries from a slow disk holds
            everything up, heartbeats included.
        silence: longest silence afterwards while a request is under way; heartbeats come each second.
        interactive: longest time for an answer to an INTERACTIVE request.
        shutdown: what a process gets to end by itself after its stdin was closed.
    """

    start_silence: float = 120.0
    silence: float = 30.0
    interactive: float = 30.0
    shutdown: float = 1.5


class EngineProcess:
    """Starts an engine and talks to it, until it ends. Not restartable: make a new one."""

    def __init__(
        self,
        command: Callable[[], Sequence[str]],
        settings: EngineSettings,
        client: str = "samtune",
        on_change: Callable[[], None] | None = None,
        on_start_progress: ProgressCallback | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Begin to start an engine, and return at once.

        Args:
            command: gives program and arguments; called in a thread of its own, may take its time, may raise
                SamTuneError.
            settings: for the handshake.
            client: who we are, for the engine's log.
            on_change: called from any thread when the engine is ready, has ended, or went from idle to busy or back.
            on_start_progress: told what the engine loads before it is ready, in the reader thread.
            limits: deadlines; None for the usual ones.
        """
        self._command = command
        self._on_change = on_change
        self._limits = limits or Limits()
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._pending: dict[int, PendingRequest] = {}
        self._outgoing: queue.SimpleQueue[JsonObject | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        self._heard_at = time.monotonic()
        self._ready_at = 0.0
        self._closing = False
        self._verdict: SamTuneError | None = None
        self._ended = threading.Event()
        self.last_heartbeat: Heartbeat | None = None
        self.end_error: SamTuneError | None = None
        """Why the engine ended, once :meth:`alive` is False; None when it was closed on purpose."""
        hello = InitializeParams(PROTOCOL_VERSION, client, settings)
        self.ready = self.request(Method.INITIALIZE, hello, on_start_progress)
        """The handshake; its result is an :class:`~samtune.engine.messages.EngineInfo`."""
        self.ready.add_done_callback(self._after_handshake)
        self._start_thread("write", self._write_loop)
        self._start_thread("watch", self._watch_loop)

    @property
    def pid(self) -> int | None:
        """Return the process's id, None before it has one."""
        return None if self._process is None else self._process.pid

    @property
    def log_tail(self) -> str:
        """Return the last lines that the engine wrote to stderr."""
        return "\n".join(tuple(self._tail))

    def alive(self) -> bool:
        """Return whether requests can still be made."""
        return not self._closing and self._verdict is None and not self._ended.is_set()

    def busy(self) -> bool:
        """Return whether a request is under way (the handshake apart)."""
        with self._lock:
            return any(pending is not self.ready for pending in self._pending.values())

    def request(
        self, method: Method, params: object = None, on_progress: ProgressCallback | None = None
    ) -> PendingRequest:
        """Ask for something. Returns at once, from any thread; never raises for an engine that is gone.

        Args:
            method: what.
            params: the method's message; None where it has none.
            on_progress: called in the reader thread with a fraction and a text.

        Returns:
            The answer to come.
        """
        pending = PendingRequest(next(self._ids), method, on_progress, self._send_cancel)
        with self._lock:
            refusal = self._refusal()
            if refusal is None:
                was_idle = len(self._pending) == 0
                self._pending[pending.request] = pending
        if refusal is not None:
            pending.fail(refusal)
            return pending
        payload = to_wire(NoParams() if params is None else params)
        self._outgoing.put({"jsonrpc": "2.0", "id": pending.request, "method": method.value, "params": payload})
        if was_idle:
            self._changed()
        return pending

    def close(self) -> None:
        """End the engine: close its stdin, wait shortly in a thread, then kill. Returns at once.

        What is under way ends as cancelled.
        """
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._outgoing.put(_WRITE_END)
        self._fail_all(CancelledByUser())
        self._start_thread("close", self._kill_when_late)

    def wait(self, timeout: float) -> bool:
        """Wait for the process's end.

        Args:
            timeout: seconds.

        Returns:
            Whether it has ended.
        """
        return self._ended.wait(timeout)

    def _refusal(self) -> SamTuneError | CancelledByUser | None:
        if self._closing:
            return CancelledByUser()
        if self._ended.is_set() or self._verdict is not None:
            return self.end_error or self._verdict
        return None

    def _start_thread(self, name: str, target: Callable[[], None]) -> None:
        threading.Thread(target=target, name=f"samtune-engine-{name}", daemon=True).start()

    # ---- the writing thread, which also starts the process

    def _write_loop(self) -> None:
        try:
            process = None if self._closing else self._launch()
        except SamTuneError as error:
            self._end(None if self._closing else error)
            return
        if process is None or process.stdin is None:
            self._end(None)
            return
        writer = FrameWriter(process.stdin)
        try:
            while (message := self._outgoing.get()) is not _WRITE_END:
                writer.write(message)
        except OSError as error:
            # The engine is gone; the reading thread sees that too and tells everybody.
            self._tail.append(f"(QGIS could not write to the engine: {error})")
        with contextlib.suppress(OSError):  # what could not be written is still in the buffer
            writer.close()

    def _launch(self) -> subprocess.Popen[bytes]:
        try:
            command = self._command()
        except SamTuneError:
            raise
        except Exception as error:
            raise EngineStartError(START_TEXT, repr(error)) from error
        try:
            process = spawn(command)
        except OSError as error:
            raise EngineStartError(f"{START_TEXT} ({error})", f"{command}: {error}") from error
        with self._lock:
            self._heard_at = time.monotonic()
            self._process = process
        self._start_thread("read", self._read_loop)
        return process

    # ---- the reading threads

    def _read_loop(self) -> None:
        process = self._process
        if process is None or process.stdout is None:
            return
        stderr_reader = threading.Thread(target=self._read_stderr, name="samtune-engine-log", daemon=True)
        stderr_reader.start()
        reader = FrameReader(process.stdout, on_noise=self._tail.append)
        try:
            while (message := reader.read()) is not None:
                self._heard_at = time.monotonic()
                self._receive(message)
        except Exception as error:  # this thread's boundary: were it to die, every request would hang
            self._condemn(error if isinstance(error, SamTuneError) else ProtocolError(GARBLED_TEXT, repr(error)))
        try:
            code = process.wait(self._limits.shutdown)
        except subprocess.TimeoutExpired:  # it closed its stdout but goes on: of no use to anybody
            process.kill()
            code = process.wait()
        stderr_reader.join(1.0)
        process.stdout.close()
        self._end(None if self._closing else self._verdict or self._died(code))

    def _read_stderr(self) -> None:
        if self._process is None or self._process.stderr is None:
            return
        with self._process.stderr as stream:
            for line in stream:
                self._tail.append(without_secrets(line.decode("utf-8", errors="replace").rstrip()))

    def _receive(self, message: JsonObject) -> None:
        method, request = message.get("method"), message.get("id")
        if method == Method.HEARTBEAT.value:
            self.last_heartbeat = from_wire(Heartbeat, message.get("params"))
        elif method == Method.PROGRESS.value:
            progress = from_wire(Progress, message.get("params"))
            with self._lock:
                pending = self._pending.get(progress.request)
            if pending is not None:
                pending.progress(progress.fraction, progress.message)
        elif isinstance(request, int):
            self._answered(request, message)
        elif "error" in message:
            raise error_from_wire(message["error"])  # about the stream, not about one request

    def _answered(self, request: int, message: JsonObject) -> None:
        with self._lock:
            pending = self._pending.pop(request, None)
            idle = not self._pending
        if pending is None:
            return  # failed by its deadline before the answer came
        if "error" in message:
            pending.fail(error_from_wire(message["error"]))
        else:
            try:
                pending.succeed(from_wire(REQUESTS[pending.method].result, message.get("result")))
            except ProtocolError as error:
                pending.fail(error)
        if idle:
            self._changed()

    def _after_handshake(self, handshake: PendingRequest) -> None:
        """End an engine whose handshake failed: it is of no use."""
        try:
            info = handshake.result(0)
        except SamTuneError as error:
            self._condemn(error)
        except CancelledByUser:
            if not self._closing:
                self._condemn(EngineStartError(START_TEXT, "the handshake was cancelled"))
        else:
            self._ready_at = time.monotonic()
            if not isinstance(info, EngineInfo) or info.protocol != PROTOCOL_VERSION:
                self._condemn(ProtocolError(GARBLED_TEXT, f"handshake answered by {info!r}"))
            self._changed()

    # ---- deadlines and the end

    def _watch_loop(self) -> None:
        tick = min(0.25, self._limits.silence / 4, self._limits.interactive / 4)
        last = time.monotonic()
        while not self._ended.wait(tick):
            now = time.monotonic()
            if now - last > tick + 2.0:  # this process itself was stopped (the laptop slept): do not blame the engine
                self._heard_at = now
            last = now
            self._check_deadlines(now)

    def _check_deadlines(self, now: float) -> None:
        with self._lock:
            waiting = list(self._pending.values())
            started = self._process is not None
        starting = not self.ready.done()
        limit = self._limits.start_silence if starting else self._limits.silence
        if waiting and started and now - self._heard_at > limit:
            text = "The SamTune engine stopped responding and was ended. Try again: a new one starts by itself."
            self._condemn(DeadlineError(text, f"no sign of life for {limit:g} s\n{self.log_tail}"))
            return
        for pending in waiting:
            interactive = pending.deadline is DeadlineClass.INTERACTIVE and not starting
            if interactive and now - max(pending.sent_at, self._ready_at) > self._limits.interactive:
                self._expire(pending)

    def _expire(self, pending: PendingRequest) -> None:
        with self._lock:
            ours = self._pending.pop(pending.request, None) is not None
            idle = not self._pending
        if not ours:
            return  # answered since the deadlines were looked at
        self._send_cancel(pending)
        text = (
            "The SamTune engine is busy and did not answer in time. Wait for it, or cancel what it does, and try again."
        )
        pending.fail(DeadlineError(text, f"{pending.method.value}: no answer in {self._limits.interactive:g} s"))
        if idle:
            self._changed()

    def _condemn(self, verdict: SamTuneError) -> None:
        """Fail everything with one error and kill the process."""
        with self._lock:
            if self._verdict is None:
                self._verdict = verdict
            process = self._process
        self._fail_all(self._verdict)
        if process is not None:
            process.kill()

    def _end(self, error: SamTuneError | None) -> None:
        with self._lock:
            self.end_error = error
            self._ended.set()
        self._outgoing.put(_WRITE_END)
        self._fail_all(error or CancelledByUser())
        self._changed()

    def _fail_all(self, error: SamTuneError | CancelledByUser) -> None:
        with self._lock:
            waiting = list(self._pending.values())
            self._pending.clear()
        for pending in waiting:
            pending.fail(error)

    def _died(self, code: int) -> SamTuneError:
        how = describe_exit(code)
        details = f"{how}\n{self.log_tail}"
        if self.ready.done() and self.ready.succeeded():
            text = (
                f"The SamTune engine ended unexpectedly ({how}). Your layers are as they were. "
                "Try again: a new one starts by itself."
            )
            return EngineDiedError(text, details)
        return EngineStartError(f"{START_TEXT} ({how})", details)

    def _kill_when_late(self) -> None:
        if not self._ended.wait(self._limits.shutdown) and self._process is not None:
            self._process.kill()

    def _send_cancel(self, pending: PendingRequest) -> None:
        payload = to_wire(CancelParams(pending.request))
        self._outgoing.put({"jsonrpc": "2.0", "method": Method.CANCEL.value, "params": payload})

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()
