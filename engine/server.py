"""The JSON-RPC server of the engine process. Standard library only, so that it answers before torch is imported.

The calling thread reads; lanes (see :mod:`samtune.engine.jobs`) work; one more thread sends a heartbeat each second,
from before the first heavy import on. What the server can do comes from a factory, called in the model lane with the
settings of the handshake: that call is where torch and rasterio are imported.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import BinaryIO, TypeAlias

from ..models.errors import CancelledByUser, DeviceError, EngineStartError, ProtocolError, SamTuneError
from .framing import BodyError, FrameReader, FrameWriter, JsonObject
from .jobs import LANES, Job, Lane, LaneRunner
from .memory import resident_bytes
from .messages import (
    CANCELLED_CODE,
    FAILED_CODE,
    PROTOCOL_VERSION,
    CancelParams,
    EngineSettings,
    Failure,
    Heartbeat,
    InitializeParams,
    Method,
    NoParams,
)
from .messages import (
    Progress as ProgressMessage,
)
from .progress import Progress
from .provenance import without_secrets
from .wire import REQUESTS, from_wire, to_wire

HEARTBEAT_SECONDS = 1.0
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
UNKNOWN_METHOD = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
_MEMORY_PHRASES = ("out of memory", "can't allocate memory", "not enough memory")

Handler: TypeAlias = Callable[[object, Progress], object]
"""Takes the method's params message and a progress; returns the method's result message."""

Handlers: TypeAlias = Mapping[Method, Handler]
"""Must hold INFO, which also answers the handshake."""

HandlerFactory: TypeAlias = Callable[[EngineSettings, Progress], Handlers]

_log = logging.getLogger(__name__)


class Server:
    """Serves one client until its stream ends."""

    def __init__(self, reader: FrameReader, writer: FrameWriter, factory: HandlerFactory) -> None:
        """Prepare; nothing is read before :meth:`run`.

        Args:
            reader: requests.
            writer: answers and notifications.
            factory: makes the handlers; slow imports belong in there.
        """
        self._reader = reader
        self._writer = writer
        self._factory = factory
        self._handlers: Handlers = {}
        self._start_error: SamTuneError | None = None
        self._initialized = False
        self._ready = threading.Event()
        self._stopped = threading.Event()
        self._jobs: dict[int, Job] = {}
        self._jobs_lock = threading.Lock()
        self._lanes = {lane: LaneRunner(lane, self._execute) for lane in Lane}

    def run(self) -> None:
        """Serve until the input ends. Work still under way is abandoned: end the process after this returns.

        Raises:
            ProtocolError: the input is corrupt; the client was told.
        """
        threading.Thread(target=self._beat, name="samtune-heartbeat", daemon=True).start()
        try:
            while True:
                try:
                    message = self._reader.read()
                except BodyError as error:
                    self._answer_error(None, PARSE_ERROR, ProtocolError(error.user_text, error.details))
                    continue
                if message is None:
                    return
                self._receive(message)
        except ProtocolError as error:
            self._answer_error(None, PARSE_ERROR, error)
            raise
        finally:
            self._stopped.set()

    def _receive(self, message: JsonObject) -> None:
        method, request = message.get("method"), message.get("id")
        if method == Method.CANCEL.value:
            self._cancel(message.get("params"))
        elif not isinstance(request, int) or isinstance(request, bool) or not isinstance(method, str):
            if request is not None or method is None:
                self._answer_error(None, INVALID_REQUEST, _misunderstood(f"no request: {str(message)[:200]}"))
            else:
                _log.warning("Unknown notification %s is ignored.", method)
        else:
            self._accept(request, method, message.get("params"))

    def _accept(self, request: int, method_name: str, raw_params: object) -> None:
        try:
            method = Method(method_name)
            request_type = REQUESTS[method]
        except (ValueError, KeyError):
            self._answer_error(request, UNKNOWN_METHOD, _misunderstood(f"unknown method {method_name!r}"))
            return
        try:
            self._check_order(method, raw_params)
            params: object = from_wire(request_type.params, {} if raw_params is None else raw_params)
        except ProtocolError as error:
            self._answer_error(request, INVALID_PARAMS, error)
            return
        job = Job(request, method, params, self._notify_progress)
        with self._jobs_lock:
            duplicate = request in self._jobs
            self._jobs.setdefault(request, job)
        if duplicate:
            self._answer_error(request, INVALID_REQUEST, _misunderstood(f"request id {request} is in use"))
            return
        self._lanes[LANES.get(method, Lane.MODEL)].put(job)

    def _check_order(self, method: Method, raw_params: object) -> None:
        """Let only one handshake through, first, and only with a client of the same protocol."""
        if (method is Method.INITIALIZE) == self._initialized:
            raise _misunderstood("a second handshake" if self._initialized else f"{method.value} before the handshake")
        if method is Method.INITIALIZE:
            theirs = raw_params.get("protocol") if isinstance(raw_params, dict) else None
            if theirs != PROTOCOL_VERSION:
                raise _misunderstood(f"protocol {theirs!r} of QGIS, {PROTOCOL_VERSION} of the engine")
            self._initialized = True

    def _cancel(self, raw_params: object) -> None:
        try:
            request = from_wire(CancelParams, raw_params).id
        except ProtocolError as error:
            _log.warning("Malformed cancellation: %s", error.details)
            return
        with self._jobs_lock:
            job = self._jobs.get(request)
        if job is None:
            return  # answered already: the two messages crossed
        job.cancelled.set()
        if self._lanes[LANES.get(job.method, Lane.MODEL)].withdraw(job):
            self._finish(job)
            self._answer_cancelled(request)

    def _execute(self, job: Job) -> None:
        """Run a job in its lane's thread and answer it. The boundary where every exception ends."""
        try:
            result = self._dispatch(job)
            job.check()
            answer: JsonObject = {"jsonrpc": "2.0", "id": job.request, "result": to_wire(result)}
            self._finish(job)
            self._send(answer)
        except CancelledByUser:
            self._finish(job)
            self._answer_cancelled(job.request)
        except SamTuneError as error:
            self._finish(job)
            _log.warning("%s failed: %s\n%s", job.method.value, error.user_text, error.details)
            self._answer_error(job.request, FAILED_CODE, error)
        except (Exception, SystemExit) as error:  # the task boundary: an answer instead of an end
            self._finish(job)
            _log.exception("%s failed", job.method.value)
            code, typed = _translate(error)
            self._answer_error(job.request, code, typed)

    def _dispatch(self, job: Job) -> object:
        if job.method is Method.INITIALIZE:
            return self._initialize(job)
        while not self._ready.wait(0.05):
            job.check()
        if self._start_error is not None:
            raise self._start_error
        handler = self._handlers.get(job.method)
        if handler is None:
            raise _misunderstood(f"this engine does not serve {job.method.value}")
        job.check()
        return handler(job.params, job)

    def _initialize(self, job: Job) -> object:
        if not isinstance(job.params, InitializeParams):
            raise _misunderstood("no handshake")
        _log.info("Handshake with %s, settings %s", job.params.client, job.params.settings)
        try:
            handlers = self._factory(job.params.settings, job)
            info = handlers[Method.INFO](NoParams(), job)
        except CancelledByUser:
            self._start_error = EngineStartError(
                "The start of the SamTune engine was cancelled. Try again to start it."
            )
            raise
        except SamTuneError as error:
            self._start_error = error
            raise
        except (Exception, SystemExit) as error:
            self._start_error = EngineStartError(
                f"The SamTune engine could not load its parts ({_brief(error)}). "
                "Check its Python environment in the settings, or make it anew.",
                traceback.format_exc(),
            )
            raise self._start_error from error
        else:
            self._handlers = handlers
            return info
        finally:
            self._ready.set()

    def _finish(self, job: Job) -> None:
        with self._jobs_lock:
            self._jobs.pop(job.request, None)

    def _notify_progress(self, request: int, fraction: float, message: str) -> None:
        payload = to_wire(ProgressMessage(request, float(fraction), message))
        self._send({"jsonrpc": "2.0", "method": Method.PROGRESS.value, "params": payload})

    def _answer_cancelled(self, request: int) -> None:
        error = {"code": CANCELLED_CODE, "message": "Cancelled."}
        self._send({"jsonrpc": "2.0", "id": request, "error": error})

    def _answer_error(self, request: int | None, code: int, error: SamTuneError) -> None:
        data = to_wire(Failure(error.kind, without_secrets(error.details)))
        text = without_secrets(error.user_text)
        self._send({"jsonrpc": "2.0", "id": request, "error": {"code": code, "message": text, "data": data}})

    def _send(self, message: JsonObject) -> None:
        try:
            self._writer.write(message)
        except OSError as error:
            # The client is gone or going; the reader sees the end of the input and stops the server.
            _log.warning("An answer could not be sent: %s", error)

    def _beat(self) -> None:
        while not self._stopped.is_set():
            running = self._lanes[Lane.MODEL].running
            payload = to_wire(Heartbeat(running.request if running else 0, resident_bytes()))
            self._send({"jsonrpc": "2.0", "method": Method.HEARTBEAT.value, "params": payload})
            self._stopped.wait(HEARTBEAT_SECONDS)


def claim_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take stdin and stdout for the protocol alone.

    From here on a stray ``print``, a C library's output or a grandchild's goes to stderr, and nobody else reads stdin.

    Returns:
        Binary streams of the original stdin and stdout.
    """
    sys.stdout.flush()
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return source, sink


def _misunderstood(details: str) -> ProtocolError:
    return ProtocolError(
        "QGIS and the SamTune engine do not understand each other. Restart QGIS; if that does not help, update the "
        "engine environment in the settings.",
        details,
    )


def _translate(error: BaseException) -> tuple[int, SamTuneError]:
    """Give an unexpected exception a text for the user. Call inside its ``except`` block, for the traceback."""
    details = traceback.format_exc()
    if is_out_of_memory(error):
        text = (
            "There was not enough memory for this. Close other programs, choose a smaller model, or set the device to "
            "cpu in the settings."
        )
        return FAILED_CODE, DeviceError(text, details)
    text = f"Something unexpected happened in the SamTune engine ({_brief(error)}). Try again; the log has the details."
    return INTERNAL_ERROR, SamTuneError(text, details)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory ran out, on the machine or on its GPU.

    Torch is not imported for this: its exceptions are known by name and text.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in _MEMORY_PHRASES)


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
