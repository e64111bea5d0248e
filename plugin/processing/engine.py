"""The engines that run algorithms: processes of their own, one per run at a time, kept a while for the next run.

Works in any thread and without an event loop, so in Processing's background threads and in ``qgis_process``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import TimeoutError as NotYetError
from contextlib import contextmanager
from dataclasses import dataclass

from qgis.core import QgsProcessingException, QgsProcessingFeedback
from qgis.PyQt.QtCore import QCoreApplication

from ...engine.messages import Method
from ...models.errors import CancelledByUser, EnvironmentMissingError, SamTuneError
from ..engine_process import EngineProcess, Limits
from ..engine_service import EngineConfig
from ..environment import PYTHON_VARIABLE
from ..pending import PendingRequest

LINGER = 60.0
"""Seconds that an idle engine stays for the next run: to load torch takes longer than many a run of a model."""

CANCEL_PATIENCE = 5.0
"""Seconds that an engine gets to heed a cancel before it is ended."""

_POLL_SECONDS = 0.1
_TEXT_SECONDS = 2.0


@dataclass
class _Idle:
    """An engine that waits for the next run, and the timer that ends it."""

    config: EngineConfig
    engine: EngineProcess
    timer: threading.Timer


class Engines:
    """Lends engines to algorithms. Runs at the same time get one each."""

    def __init__(self, limits: Limits | None = None, linger: float = LINGER) -> None:
        """Start with none.

        Args:
            limits: deadlines of the engines; None for the usual ones.
            linger: seconds that an idle engine is kept.
        """
        self._limits = limits
        self._linger = linger
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []
        self._lent: list[EngineProcess] = []
        self._closed = False

    @contextmanager
    def borrow(self, config: EngineConfig) -> Iterator[EngineProcess]:
        """Lend an engine for the time of the block.

        Args:
            config: how to start one, if none that fits is idle.

        Yields:
            An engine that nobody else uses; it may still be starting.
        """
        engine = self._take(config)
        try:
            yield engine
        finally:
            self._give_back(config, engine)

    def close(self) -> None:
        """End all engines; runs under way end as cancelled. Returns at once."""
        with self._lock:
            self._closed = True
            engines = [*self._lent, *(idle.engine for idle in self._idle)]
            for idle in self._idle:
                idle.timer.cancel()
            self._idle.clear()
        for engine in engines:
            engine.close()

    def _take(self, config: EngineConfig) -> EngineProcess:
        with self._lock:
            if self._closed:
                raise QgsProcessingException(_cancelled())
            fitting = next((idle for idle in self._idle if idle.config.same_as(config) and idle.engine.alive()), None)
            if fitting is not None:
                self._idle.remove(fitting)
                fitting.timer.cancel()
            engine = fitting.engine if fitting else self._start(config)
            self._lent.append(engine)
            return engine

    def _start(self, config: EngineConfig) -> EngineProcess:
        return EngineProcess(config.command, config.settings, "processing", limits=self._limits)

    def _give_back(self, config: EngineConfig, engine: EngineProcess) -> None:
        timer = threading.Timer(self._linger, self._retire, (engine,))
        timer.daemon = True
        with self._lock:
            self._lent.remove(engine)
            if engine.alive() and not self._closed:
                self._idle.append(_Idle(config, engine, timer))
                timer.start()

    def _retire(self, engine: EngineProcess) -> None:
        with self._lock:
            waiting = [idle for idle in self._idle if idle.engine is engine]
            self._idle = [idle for idle in self._idle if idle.engine is not engine]
        for idle in waiting:  # none when a run took it just now
            idle.engine.close()


def ask(engine: EngineProcess, method: Method, params: object, feedback: QgsProcessingFeedback) -> object:
    """Ask an engine for something and wait for it, with progress and cancel.

    Args:
        engine: borrowed.
        method: what.
        params: the method's message.
        feedback: of the algorithm; only ever called in the thread that calls this function.

    Returns:
        The method's result message.

    Raises:
        QgsProcessingException: it failed, in words, or was cancelled.
    """
    news = _News(feedback)
    pending = engine.request(method, params, news.note)
    given_up = float("inf")
    while True:
        if feedback.isCanceled() and not pending.cancel_asked:
            pending.cancel()
            given_up = time.monotonic() + CANCEL_PATIENCE
        if time.monotonic() > given_up:
            engine.close()
        try:
            return _result(pending)
        except NotYetError:
            news.tell()


def _result(pending: PendingRequest) -> object:
    try:
        return pending.result(_POLL_SECONDS)
    except CancelledByUser as error:
        raise QgsProcessingException(_cancelled()) from error
    except SamTuneError as error:
        raise processing_error(error) from error


def _cancelled() -> str:
    return QCoreApplication.translate("Engines", "Cancelled.")


def processing_error(error: SamTuneError) -> QgsProcessingException:
    """Return an error as Processing shows it: its sentence, then the details."""
    text = error.user_text
    if isinstance(error, EnvironmentMissingError):
        hint = QCoreApplication.translate(
            "Engines", "Without QGIS's window, name such a Python in the variable {variable}."
        )
        text = f"{text} {hint.format(variable=PYTHON_VARIABLE)}"
    return QgsProcessingException(f"{text}\n{error.details}" if error.details else text)


class _News:
    """Keeps the last progress that the engine's reader thread heard, for the algorithm's thread to pass on."""

    def __init__(self, feedback: QgsProcessingFeedback) -> None:
        self._feedback = feedback
        self._last: tuple[float, str] = (-1.0, "")
        self._shown: tuple[float, str] = (-1.0, "")
        self._next_text = 0.0

    def note(self, fraction: float, text: str) -> None:
        """Take progress, in any thread."""
        self._last = (fraction, text)

    def tell(self) -> None:
        """Pass on what is new. Texts are thinned out, for Processing's log keeps each as a line."""
        fraction, text = self._last
        if fraction >= 0 and fraction != self._shown[0]:
            self._feedback.setProgress(100.0 * min(fraction, 1.0))
            self._shown = (fraction, self._shown[1])
        if text and text != self._shown[1] and time.monotonic() >= self._next_text:
            self._next_text = time.monotonic() + _TEXT_SECONDS
            self._feedback.setProgressText(text)
            self._shown = (self._shown[0], text)
