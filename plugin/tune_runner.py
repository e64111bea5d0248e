"""One tuning run: started or gone on with, watched, paused, ended early, given up; and whatever became of it."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import cast

from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from ..engine.messages import Method
from ..engine.tune_messages import (
    ControlParams,
    CurvePoint,
    RunState,
    TuneAction,
    TuneParams,
    TuneReport,
    TuneRunParams,
    TuneWatch,
    WatchParams,
)
from ..models.errors import CancelledByUser, SamTuneError
from .latest_request import Handle, Service

WATCH_MS = 500


class RunStage(Enum):
    """Where the run is, as the wizard sees it.

    IDLE: there is none. RUNNING: under way, paused included. DONE: there is a report. STOPPED: the user gave it up.
    BROKEN: it failed or its engine died. What a stopped or broken run had reached is in its folder.
    """

    IDLE = "idle"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    BROKEN = "broken"


class TuneRunner(QObject):
    """At most one run at a time.

    Attributes:
        stage: where it is.
        params: the run; None while there is none.
        watch: what was last heard of it; its lists of points are in ``training`` and ``held_out``.
        training: points of the training's curve so far.
        held_out: points of the hold-out's.
        message: what is being done, for the user.
        error: why it is BROKEN.
        report: what came of it.

    Signals:
        stage_changed: ``stage``, and with it all else.
        watched: there is news of the run under way.
    """

    stage_changed = pyqtSignal()
    watched = pyqtSignal()

    def __init__(self, work: Service, parent: QObject | None = None) -> None:
        """Begin without a run.

        Args:
            work: sends requests to the engine for long work.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._work = work
        self._handle: Handle | None = None
        self._number = 0
        self._asking = self._ending = False
        self._timer = QTimer(self)
        self._timer.setInterval(WATCH_MS)
        self._timer.timeout.connect(self._ask)
        self.stage = RunStage.IDLE
        self._forget(None)

    def _forget(self, params: TuneParams | None) -> None:
        self.params = params
        self.watch = TuneWatch(RunState.PREPARING)
        self.training: tuple[CurvePoint, ...] = ()
        self.held_out: tuple[CurvePoint, ...] = ()
        self.message = ""
        self.error: SamTuneError | None = None
        self.report: TuneReport | None = None

    @property
    def active(self) -> bool:
        """Return whether a run is under way."""
        return self.stage is RunStage.RUNNING

    @property
    def paused(self) -> bool:
        """Return whether it is held."""
        return self.active and self.watch.state is RunState.PAUSED

    @property
    def ending(self) -> bool:
        """Return whether the user has asked for its end: finishing early or cancelling."""
        return self.active and self._ending

    def start(self, params: TuneParams, *, resume: bool = False) -> None:
        """Start a run.

        Args:
            params: the run.
            resume: go on from the checkpoint in its folder.
        """
        if self.active:
            return
        self._forget(params)
        self._number += 1
        number = self._number
        self._asking = self._ending = False
        self._set(RunStage.RUNNING)
        self._timer.start()

        def done(result: object) -> None:
            if number == self._number:
                self.report = cast("TuneReport", result)
                self._end(RunStage.DONE)

        def failed(error: SamTuneError | CancelledByUser) -> None:
            if number == self._number:
                self.error = error if isinstance(error, SamTuneError) else None
                self._end(RunStage.STOPPED if self.error is None else RunStage.BROKEN)

        def progress(_fraction: float, text: str) -> None:
            if number == self._number and text and text != self.message:
                self.message = text
                self.watched.emit()

        request = TuneRunParams(params, resume)
        handle = self._work.request_async(Method.TUNE_RUN, request, done, failed, progress)
        if self.active and number == self._number:
            self._handle = handle

    def take(self, params: TuneParams, report: TuneReport) -> None:
        """Take up a run that was finished before.

        Args:
            params: the run.
            report: what came of it.
        """
        if self.active:
            return
        self._number += 1
        self._forget(params)
        self.report = report
        self._set(RunStage.DONE)

    def go_on(self) -> None:
        """Go on with a run that was stopped or broke, from its checkpoint."""
        if self.params is not None and self.stage in (RunStage.STOPPED, RunStage.BROKEN):
            self.start(self.params, resume=True)

    def control(self, action: TuneAction) -> None:
        """Pause, resume or finish the run under way."""
        if not self.active or self.params is None:
            return
        self._ending = self._ending or action is TuneAction.FINISH
        request = ControlParams(self.params.folder, action)
        self._work.request_async(Method.TUNE_CONTROL, request, lambda _done: self._ask(), self._on_uncontrolled)
        self.watched.emit()

    def cancel(self) -> None:
        """Give the run up; its checkpoint stays."""
        if self._handle is not None:
            self._ending = True
            self._handle.cancel()
            self.watched.emit()

    def clear(self) -> None:
        """Forget a run that has ended."""
        if not self.active:
            self._forget(None)
            self._set(RunStage.IDLE)

    def stop(self) -> None:
        """Listen no more; for unloading. The run itself is the engine's and of those who end that."""
        self._number += 1
        self._timer.stop()
        self._handle = None

    def _set(self, stage: RunStage) -> None:
        self.stage = stage
        self.stage_changed.emit()

    def _end(self, stage: RunStage) -> None:
        self._timer.stop()
        self._handle = None
        self._set(stage)
        if stage is not RunStage.BROKEN:  # the last points of the curves; a dead engine is not started for them
            self._asking = False
            self._ask()

    def _ask(self) -> None:
        if self._asking or self.params is None:
            return
        number, self._asking = self._number, True
        steps = self.training[-1].step if self.training else 0
        request = WatchParams(self.params.folder, steps, self.watch.pictures_step)

        def show(result: object) -> None:
            if number == self._number:
                self._asking = False
                self._take(cast("TuneWatch", result))

        def fail(_error: SamTuneError | CancelledByUser) -> None:  # the run's own request tells what is wrong
            if number == self._number:
                self._asking = False

        self._work.request_async(Method.TUNE_WATCH, request, show, fail)

    def _take(self, news: TuneWatch) -> None:
        if news.state is RunState.CANCELLED and self.active:
            return  # not begun yet: the run waits its turn in the engine
        last = self.training[-1].step if self.training else 0
        self.training += tuple(point for point in news.training if point.step > last)
        self.held_out = news.held_out
        if news.pictures_step == self.watch.pictures_step or not news.pictures:
            news = _with_pictures(news, self.watch)
        self.watch = news
        self.watched.emit()

    def _on_uncontrolled(self, error: SamTuneError | CancelledByUser) -> None:
        self._ending = False
        if self.active and isinstance(error, SamTuneError):
            self.message = error.user_text
            self.watched.emit()


def _with_pictures(news: TuneWatch, before: TuneWatch) -> TuneWatch:
    return replace(news, pictures=before.pictures, pictures_step=before.pictures_step)
