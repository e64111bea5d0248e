"""The fine-tune wizard: six pages in a window of its own, beside which QGIS can be used."""

from __future__ import annotations

from enum import IntEnum

from qgis.core import QgsProject
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QMessageBox, QWidget, QWizard

from ...plugin.adapter_state import AdapterState
from ...plugin.tune_controller import TuneController
from ...plugin.tune_runner import RunStage
from .better_page import BetterPage
from .how_page import HowPage
from .keep_page import KeepPage
from .learn_page import LearnPage
from .task_page import TaskPage
from .training_page import TrainingPage


class PageId(IntEnum):
    """The pages, in order."""

    LEARN = 0
    TASK = 1
    HOW = 2
    TRAINING = 3
    BETTER = 4
    KEEP = 5


class TuneWizard(QWizard):
    """The window. Closing it while a run is under way asks what is to become of that.

    Attributes:
        learn: what to learn from.
        task: what for.
        how: how.
        training: the run.
        better: what came of it.
        keep: name and notes.

    Signals:
        closed: the window is gone from the screen.
    """

    closed = pyqtSignal()

    def __init__(
        self,
        controller: TuneController,
        adapters: AdapterState,
        project: QgsProject,
        parent: QWidget | None = None,
    ) -> None:
        """Build the pages.

        Args:
            controller: the wizard's state.
            adapters: those that a run can go on with.
            project: whose layers are offered.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._controller = controller
        self.setWindowTitle(self.tr("SamTune: teach it your objects"))
        self.setModal(False)
        self.setWizardStyle(QWizard.WizardStyle.ModernStyle)
        self.setOption(QWizard.WizardOption.NoBackButtonOnStartPage)
        self.setOption(QWizard.WizardOption.NoDefaultButton)  # Return in a field must not start a run
        self.setButtonText(QWizard.WizardButton.FinishButton, self.tr("&Keep it"))
        self.setButtonText(QWizard.WizardButton.CancelButton, self.tr("Close"))
        self.learn = LearnPage(controller, project, self)
        self.task = TaskPage(controller, self)
        self.how = HowPage(controller, adapters, self)
        self.training = TrainingPage(controller, self)
        self.better = BetterPage(controller, self)
        self.keep = KeepPage(controller, self)
        pages = (self.learn, self.task, self.how, self.training, self.better, self.keep)
        for number, page in zip(PageId, pages):
            self.setPage(number, page)
        self.resize(1000, 700)
        self.learn.banner.go_on_wanted.connect(self._go_on)
        self.training.anew_wanted.connect(self._choose_anew)
        self.better.anew_wanted.connect(self._choose_anew)
        controller.runner.stage_changed.connect(self._on_stage)
        controller.kept.connect(self._on_kept)

    def begin(self) -> None:
        """Show the page that fits: the run where there is one, otherwise the first."""
        running = self._controller.runner.stage is not RunStage.IDLE
        self.setStartId(PageId.TRAINING if running else PageId.LEARN)
        self.restart()
        self._on_stage()

    def accept(self) -> None:
        """Called by Qt for the last button: keep the adapter; the window closes when it is there."""
        self._controller.keep(self.keep.name_edit.text(), self.keep.notes_edit.toPlainText())

    def reject(self) -> None:
        """Called by Qt for closing, by whatever way."""
        runner = self._controller.runner
        if runner.active and not runner.ending and self.isVisible():
            answer = self._ask()
            if answer is None:
                return
            if answer:
                runner.cancel()
        super().reject()
        self.closed.emit()

    def _ask(self) -> bool | None:
        """Ask whether the run is to be stopped; None for a change of mind."""
        box = QMessageBox(self)
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle(self.tr("Still learning"))
        box.setText(self.tr("It is still learning. Keep it running in the background?"))
        box.setInformativeText(
            self.tr("Open this window again at any time to see how it is doing. If you stop it, you can go on later.")
        )
        keep = box.addButton(self.tr("Keep it running"), QMessageBox.ButtonRole.AcceptRole)
        stop = box.addButton(self.tr("Stop it"), QMessageBox.ButtonRole.DestructiveRole)
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(keep)
        box.exec()
        chosen = box.clickedButton()
        return {keep: False, stop: True}.get(chosen)

    def _go_on(self, run: object) -> None:
        self._controller.resume(run)
        self.begin()

    def _choose_anew(self) -> None:
        """Back to the first page, with all choices as they were."""
        self._controller.choose_anew()
        self.begin()

    def _on_stage(self) -> None:
        if self._controller.runner.stage is RunStage.DONE and self.currentId() == PageId.TRAINING:
            self.next()

    def _on_kept(self, _report: object) -> None:
        self.keep.name_edit.clear()
        self.keep.notes_edit.clear()
        super().accept()
        self.closed.emit()
