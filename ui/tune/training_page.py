"""Page 4: the run, live."""

from __future__ import annotations

from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor
from qgis.PyQt.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
    QWizard,
)

from ...engine.tune_messages import CurvePoint, RunState, TuneAction
from ...models.errors import SamTuneError
from ...plugin.tune_controller import TuneController
from ...plugin.tune_runner import RunStage
from ...plugin.tune_texts import duration_text
from .curves import HELD_OUT, LOSS, Curve, CurveChart
from .page import TunePage
from .pictures import PictureStrip

PICTURE_SIDE = 208
VALUE = "value"
SMOOTHING = 0.15
"""Share of each new value in the smoothed curve."""

FAINT = QColor(LOSS.red(), LOSS.green(), LOSS.blue(), 90)


class TrainingPage(TunePage):
    """A view of the runner.

    Attributes:
        loss_chart: of the training.
        value_chart: of the hold-out.
        pictures: predictions on it.
        progress: steps done.
        state_label: what is going on, and how long it will take.
        pause_button: pauses, and resumes.
        finish_button: ends the training early and keeps the best.
        cancel_button: gives the run up.
        go_on_button: goes on with one that stopped or broke.
        back_button: to the choices.

    Signals:
        anew_wanted: the user wants back to the choices.
    """

    anew_wanted = pyqtSignal()

    def __init__(self, controller: TuneController, parent: QWidget | None = None) -> None:
        """Build the widgets."""
        super().__init__(parent)
        self._controller = controller
        self._runner = controller.runner
        self.setTitle(self.tr("Learning"))
        self.setSubTitle(
            self.tr("You can go on working in QGIS meanwhile, clicks included. You may close this window, too.")
        )
        self.setCommitPage(True)
        self.setButtonText(QWizard.WizardButton.CommitButton, self.tr("&Next"))
        self.loss_chart = CurveChart(self.tr("How wrong it still is (loss): falling is good"), self)
        self.value_chart = CurveChart(self.tr("Held-out objects (0 to 1): rising is good"), self)
        self.pictures = PictureStrip(PICTURE_SIDE, self)
        self.pictures_label = QLabel(self)
        self.progress = QProgressBar(self)
        self.state_label = QLabel(self)
        self.state_label.setWordWrap(True)
        self.error_label = QLabel(self)
        self.error_label.setWordWrap(True)
        self.error_label.setFrameShape(QFrame.Shape.StyledPanel)
        self.error_label.setStyleSheet("background: #fde7e9; color: #222; padding: 6px;")
        self.error_label.setTextFormat(Qt.TextFormat.PlainText)
        self.pause_button = QPushButton(self.tr("&Pause"), self)
        self.finish_button = QPushButton(self.tr("Stop and &keep the best"), self)
        self.finish_button.setToolTip(self.tr("End the training now; what did best on the held-out objects is kept"))
        self.cancel_button = QPushButton(self.tr("Give up"), self)
        self.cancel_button.setToolTip(self.tr("Stop without a result. You can go on from here later."))
        self.go_on_button = QPushButton(self.tr("&Go on"), self)
        self.back_button = QPushButton(self.tr("Change the settings"), self)
        self._lay_out()
        self.pause_button.clicked.connect(self._pause)
        self.finish_button.clicked.connect(lambda: self._runner.control(TuneAction.FINISH))
        self.cancel_button.clicked.connect(self._runner.cancel)
        self.go_on_button.clicked.connect(self._runner.go_on)
        self.back_button.clicked.connect(self.anew_wanted)
        self._runner.watched.connect(self.refresh)
        self._runner.stage_changed.connect(self._on_stage)
        self.refresh()

    def _lay_out(self) -> None:
        charts = QVBoxLayout()
        charts.addWidget(self.loss_chart, 1)
        charts.addWidget(self.value_chart, 1)
        shown = QVBoxLayout()
        shown.addWidget(self.pictures_label)
        shown.addWidget(self.pictures)
        shown.addStretch(1)
        self.pictures.setFixedWidth(2 * (PICTURE_SIDE + 12) + 8)
        columns = QHBoxLayout()
        columns.addLayout(charts, 1)
        columns.addLayout(shown)
        buttons = QHBoxLayout()
        for button in (self.pause_button, self.finish_button, self.cancel_button):
            buttons.addWidget(button)
        buttons.addStretch(1)
        for button in (self.back_button, self.go_on_button):
            buttons.addWidget(button)
        rows = QVBoxLayout(self)
        rows.addLayout(columns, 1)
        rows.addWidget(self.error_label)
        rows.addWidget(self.state_label)
        rows.addWidget(self.progress)
        rows.addLayout(buttons)

    def initializePage(self) -> None:
        """Called by Qt when the page is reached: start, unless a run is there already."""
        if self._runner.stage is RunStage.IDLE:
            try:
                self._controller.start()
            except SamTuneError as error:  # a layer went away in this very moment
                self.error_label.setText(error.user_text)
                self.error_label.show()
        self.refresh()

    def isComplete(self) -> bool:
        """Called by Qt."""
        return self._runner.stage is RunStage.DONE

    def refresh(self) -> None:
        """Show the run."""
        runner, watch = self._runner, self._runner.watch
        steps = max(watch.steps, watch.step, 1)
        loss = tuple((float(point.step), point.figures["loss"]) for point in runner.training if "loss" in point.figures)
        self.loss_chart.show_curves([Curve(loss, FAINT), Curve(_smoothed(loss), LOSS)], steps)
        held_out = tuple((float(point.step), point.figures[VALUE]) for point in _valued(runner.held_out))
        self.value_chart.show_curves([Curve(held_out, HELD_OUT, marked=True)], steps, watch.best_step)
        self.pictures.show_pictures(watch.pictures)
        self.pictures_label.setText(
            self.tr("Held-out objects. White: what you drew; coloured: what it finds.")
            if watch.pictures
            else self.tr("Two of the held-out objects will be shown here, as soon as there is something to see.")
        )
        counted = watch.steps > 0 and watch.state is not RunState.PREPARING
        self.progress.setRange(0, watch.steps if counted else int(not runner.active))
        self.progress.setValue(watch.step if counted else 0)
        self.progress.setFormat(self.tr("step %v of %m") if counted else "")
        self.state_label.setText(self._state_text())
        self._show_buttons()
        self._show_error()

    def _state_text(self) -> str:
        runner, watch = self._runner, self._runner.watch
        left = duration_text(watch.seconds_left)
        texts = {
            RunStage.IDLE: "",
            RunStage.DONE: self.tr("Done. “Next” shows whether it helped."),
            RunStage.STOPPED: self.tr("Given up. What it had learnt so far is kept: you can go on from there."),
            RunStage.BROKEN: self.tr("Interrupted. What it had learnt at the last checkpoint is kept."),
        }
        if runner.stage in texts:
            return texts[runner.stage]
        if runner.ending:
            return self.tr("Stopping…")
        states = {
            RunState.PREPARING: self.tr("Getting ready…"),
            RunState.PAUSED: self.tr("Paused."),
            RunState.MEASURING: self.tr("Measuring whether it helped…"),
        }
        text = states.get(watch.state, self.tr("Learning…"))
        parts = [text]
        if runner.message and watch.state in (RunState.PREPARING, RunState.MEASURING):
            parts.append(runner.message)
        if left and watch.state is not RunState.PAUSED:
            parts.append(self.tr("About {time} left.").format(time=left))
        return " ".join([*parts, *watch.notes])

    def _show_buttons(self) -> None:
        runner, state = self._runner, self._runner.watch.state
        active = runner.active and not runner.ending
        training = state in (RunState.RUNNING, RunState.PAUSED)
        self.pause_button.setText(self.tr("&Resume") if runner.paused else self.tr("&Pause"))
        self.pause_button.setEnabled(active and training)
        self.finish_button.setEnabled(active and training)
        self.cancel_button.setEnabled(active)
        for button in (self.pause_button, self.finish_button, self.cancel_button):
            button.setVisible(runner.active)
        over = runner.stage in (RunStage.STOPPED, RunStage.BROKEN)
        self.go_on_button.setVisible(over)
        self.back_button.setVisible(over or runner.stage is RunStage.IDLE)

    def _show_error(self) -> None:
        error = self._runner.error
        if error is not None:
            self.error_label.setText(error.user_text)
        self.error_label.setVisible(error is not None)

    def _pause(self) -> None:
        self._runner.control(TuneAction.RESUME if self._runner.paused else TuneAction.PAUSE)

    def _on_stage(self) -> None:
        self.refresh()
        self.tell_completeness()


def _valued(points: tuple[CurvePoint, ...]) -> list[CurvePoint]:
    return [point for point in points if VALUE in point.figures]


def _smoothed(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """Return a running mean: the loss of single steps goes up and down with the objects in them."""
    smoothed, mean, weight = [], 0.0, 0.0
    for step, value in points:
        mean = (1 - SMOOTHING) * mean + SMOOTHING * value
        weight = (1 - SMOOTHING) * weight + SMOOTHING
        smoothed.append((step, mean / weight))
    return tuple(smoothed)
