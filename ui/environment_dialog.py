"""Sets up the engine's Python environment: says what would be done, does it on consent, with progress and cancel."""

from __future__ import annotations

import shlex
from pathlib import Path

from qgis.core import QgsApplication
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from ..models.errors import EnvironmentMissingError, SamTuneError
from ..plugin.environment import EngineLocation
from ..plugin.environment_plan import EnvironmentOptions, EnvironmentPlan, TorchBuild
from ..plugin.environment_task import CreateEnvironmentTask, PlanEnvironmentTask
from ..plugin.status import size_text
from ..plugin.tasks import BaseTask, TaskController

MAX_LOG_LINES = 2000


class EnvironmentDialog(QDialog):
    """First looks at this machine and says what it found; nothing is written before the user agrees.

    Accepted when the environment is ready.
    """

    def __init__(self, where: EngineLocation, parent: QWidget | None = None) -> None:
        """Build the dialog and begin to look at the machine.

        Args:
            where: where the environment goes.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.setWindowTitle(self.tr("Set up the SamTune engine"))
        self.resize(560, 380)
        self._where = where
        self._plan: EnvironmentPlan | None = None
        self._task: BaseTask | None = None
        self._wheels: Path | None = None
        self._asked_extra = ""
        self._tasks = TaskController(QgsApplication.taskManager(), self)
        self.label = QLabel(self)
        self.label.setWordWrap(True)
        self.offline = QCheckBox(self.tr("Without internet: install from a folder of wheels…"), self)
        self.build = QComboBox(self)
        self.build.addItem(self.tr("PyTorch: as fits this machine"), None)
        self.build.addItem(self.tr("PyTorch for the processor (small)"), TorchBuild.CPU)
        self.build.addItem(self.tr("PyTorch for NVIDIA graphics cards (large)"), TorchBuild.GPU)
        self.extra = QLineEdit(self)
        self.extra.setPlaceholderText(self.tr("Options for the installer (mirror, proxy, certificate); usually empty"))
        self.log = QPlainTextEdit(self)
        self.log.setReadOnly(True)
        self.log.setMaximumBlockCount(MAX_LOG_LINES)
        self.progress = QProgressBar(self)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel, self)
        self.set_up_button = self.buttons.addButton(self.tr("Set up"), QDialogButtonBox.ButtonRole.ActionRole)
        layout = QVBoxLayout(self)
        for widget in (self.label, self.build, self.extra, self.offline, self.log, self.progress, self.buttons):
            layout.addWidget(widget)
        self.buttons.rejected.connect(self.reject)
        self.set_up_button.clicked.connect(self._create)
        self.offline.clicked.connect(self._choose_wheels)
        self.build.activated.connect(lambda _index: self._look())
        self.extra.editingFinished.connect(self._look_again)
        self._look()

    def reject(self) -> None:
        """Cancel what runs, then close."""
        self._tasks.cancel_all()
        super().reject()

    def _choose_wheels(self, checked: bool) -> None:  # noqa: FBT001 - Qt's slot
        folder = QFileDialog.getExistingDirectory(self, self.tr("Folder of wheels")) if checked else ""
        self._wheels = Path(folder) if folder else None
        self.offline.setChecked(self._wheels is not None)
        self._look()

    def _options(self) -> EnvironmentOptions:
        try:
            extra = tuple(shlex.split(self.extra.text()))
        except ValueError as error:
            raise EnvironmentMissingError(
                self.tr("The options for the installer have an unfinished quotation. Correct them.")
            ) from error
        return EnvironmentOptions(self._wheels, extra, self.build.currentData())

    def _look_again(self) -> None:
        """Look anew where the installer's options were changed, not whenever the field loses the focus."""
        if self._asked_extra != self.extra.text():
            self._look()

    def _look(self) -> None:
        self._tasks.cancel_all()
        self._plan, self._task, self._asked_extra = None, None, self.extra.text()
        self._show_busy(self.tr("Looking at this machine…"))
        try:
            options = self._options()
        except EnvironmentMissingError as error:
            self._show_error(error)
            return
        task = PlanEnvironmentTask(self._where, options)
        task.succeeded.connect(lambda plan, asked=task: self._show_plan(plan) if asked is self._task else None)
        self._run(task)

    def _show_plan(self, plan: EnvironmentPlan) -> None:
        self._plan = plan
        lines = [
            self.tr(
                "SamTune runs its models in a Python of its own, apart from QGIS. It will be made in {folder} with "
                "{tool}; {free} are free there."
            ).format(folder=plan.folder, tool=plan.tool.value, free=size_text(plan.free_bytes)),
            *plan.notes,
        ]
        self.label.setText("\n\n".join(lines))
        self.progress.hide()
        self.set_up_button.setEnabled(True)
        self._enable_choices(enabled=True)

    def _enable_choices(self, *, enabled: bool) -> None:
        for widget in (self.build, self.extra, self.offline):
            widget.setEnabled(enabled)

    def _create(self) -> None:
        if self._plan is None:
            return
        self._show_busy(self.tr("Setting up the engine. This downloads packages and takes some minutes."))
        self._enable_choices(enabled=False)
        task = CreateEnvironmentTask(self._plan)
        task.succeeded.connect(lambda _python: self.accept())
        task.message.connect(self.log.appendPlainText)
        task.progressChanged.connect(self._show_progress)
        self._run(task)

    def _run(self, task: BaseTask) -> None:
        self._task = task
        task.failed.connect(lambda error, asked=task: self._show_error(error) if asked is self._task else None)
        self._tasks.submit(task)

    def _show_busy(self, text: str) -> None:
        self.label.setText(text)
        self.progress.setRange(0, 0)
        self.progress.show()
        self.set_up_button.setEnabled(False)

    def _show_progress(self, percent: float) -> None:
        self.progress.setRange(0, 100)
        self.progress.setValue(round(percent))

    def _show_error(self, error: SamTuneError) -> None:
        self.label.setText(error.user_text)
        if error.details:
            self.log.appendPlainText(error.details)
        self.progress.hide()
        self._enable_choices(enabled=True)
        self.set_up_button.setEnabled(self._plan is not None)
