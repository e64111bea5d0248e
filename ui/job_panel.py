"""The panel of batch jobs: which there are, how each is doing, and what can be done with it."""

from __future__ import annotations

from pathlib import Path

from qgis.gui import QgsDockWidget
from qgis.PyQt.QtCore import QSignalBlocker, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QAction,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QMenu,
    QPushButton,
    QSplitter,
    QToolButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ..plugin.batch_book import JOB_SUFFIX, JobRecord
from ..plugin.batch_controller import BatchController
from ..plugin.batch_texts import Standing, progress_sentence, standing_name, summary_sentence, task_name
from .forms import text_label
from .job_rasters import JobRastersTable
from .progress_delegate import SHARE_ROLE, ProgressDelegate

PANEL_NAME = "SamTuneJobPanel"
PATH = Qt.ItemDataRole.UserRole
AT_WORK = (Standing.PREPARING, Standing.RUNNING, Standing.WRITING)


class JobPanel(QgsDockWidget):
    """On the left all jobs, on the right the one selected. It shows what the controller knows, and sends signals.

    Attributes:
        list: the jobs.
        table: the rasters of the selected one.
        state_label: how that is doing.
        problem_label: why it stopped.

    Signals carry the path of a job file: ``selected`` says which one is looked at.
    """

    selected = pyqtSignal(str)
    pause_wanted = pyqtSignal(str)
    resume_wanted = pyqtSignal(str)
    resume_from_wanted = pyqtSignal(str, str)
    elsewhere_wanted = pyqtSignal(str)
    forget_wanted = pyqtSignal(str)
    open_wanted = pyqtSignal(str)
    log_wanted = pyqtSignal()
    folder_wanted = pyqtSignal(str)
    add_wanted = pyqtSignal(str)
    new_wanted = pyqtSignal()

    def __init__(self, controller: BatchController, parent: QWidget | None = None) -> None:
        """Build the panel.

        Args:
            controller: the jobs to show.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.setWindowTitle(self.tr("SamTune batch jobs"))
        self.setObjectName(PANEL_NAME)
        self._controller = controller
        self.list = QTreeWidget(self)
        self.list.setRootIsDecorated(False)
        self.list.setHeaderLabels([self.tr("Job"), self.tr("Progress"), self.tr("State")])
        self.list.setItemDelegateForColumn(1, ProgressDelegate(self.list))
        self.new_button = self._button(self.tr("New…"), self.tr("Make a new batch job"))
        self.add_button = self._button(
            self.tr("Open job…"), self.tr("Take a job file into the list, for instance one from another machine")
        )
        self.state_label, self.problem_label = text_label(self), text_label(self)
        self.table = JobRastersTable(self)
        self.pause_button = self._button(
            self.tr("Pause"), self.tr("Stop after what is under way; the job can be resumed at any time")
        )
        self.resume_button = self._button(self.tr("Resume"), self.tr("Go on where the job stopped"))
        self.open_button = self._button(self.tr("Show results"), self.tr("Put the results into the project"))
        self.more_button = self._make_more()
        self._lay_out()
        self._connect()
        self.refresh()

    @property
    def path(self) -> str:
        """Return the path of the selected job; empty for none."""
        item = self.list.currentItem()
        return str(item.data(0, PATH)) if item is not None else ""

    def select(self, path: str) -> None:
        """Select a job."""
        for number in range(self.list.topLevelItemCount()):
            item = self.list.topLevelItem(number)
            if item.data(0, PATH) == path:
                self.list.setCurrentItem(item)

    def refresh(self) -> None:
        """List the jobs anew; the selected one stays selected."""
        before = self.path
        with QSignalBlocker(self.list):
            self.list.clear()
            for record in self._controller.jobs:
                item = QTreeWidgetItem([record.name])
                item.setData(0, PATH, record.path)
                self._show_row(item, record)
                self.list.addTopLevelItem(item)
            self.list.setCurrentItem(self.list.topLevelItem(0))
            self.select(before)
        self._show_selected()

    def show_job(self, path: str) -> None:
        """Show what is new about a job."""
        record = self._controller.job(path)
        for number in range(self.list.topLevelItemCount()):
            item = self.list.topLevelItem(number)
            if record is not None and item.data(0, PATH) == path:
                self._show_row(item, record)
        if path == self.path:
            self._show_selected()

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _show_row(self, item: QTreeWidgetItem, record: JobRecord) -> None:
        standing = self._controller.standing(record)
        share = record.done / record.tiles if record.tiles else 1.0 if standing is Standing.FINISHED else 0.0
        item.setText(1, f"{int(100 * share)} %")
        item.setData(1, SHARE_ROLE, share)
        item.setText(2, standing_name(standing))
        for number in range(3):
            item.setToolTip(number, record.path)

    def _show_selected(self) -> None:
        record = self._controller.job(self.path)
        status = self._controller.status(self.path)
        standing = self._controller.standing(record) if record is not None else None
        self.state_label.setText(self._state_text(record, standing))
        problem = self._problem_text(record, standing)
        self.problem_label.setText(f"⚠ {problem}")
        self.problem_label.setVisible(bool(problem))
        self.table.rasters.show(status.rasters if status is not None else ())
        self.pause_button.setEnabled(standing in AT_WORK)
        self.resume_button.setEnabled(standing in (Standing.PAUSED, Standing.INTERRUPTED, Standing.STOPPED))
        self.open_button.setEnabled(standing is Standing.FINISHED and status is not None and bool(status.outputs))
        self.more_button.setEnabled(record is not None)
        idle = standing not in (*AT_WORK, Standing.MISSING)
        self.root_action.setEnabled(idle)
        self.elsewhere_action.setEnabled(idle)

    def _state_text(self, record: JobRecord | None, standing: Standing | None) -> str:
        if record is None or standing is None:
            return self.tr("There are no batch jobs yet. “New…” makes one.")
        parts = [f"{record.name} — {task_name(record.task)}: {standing_name(standing)}"]
        status = self._controller.status(record.path)
        if status is not None:
            parts.append(summary_sentence(status) if standing is Standing.FINISHED else progress_sentence(status))
            parts.extend(status.notes)
        parts.append(self._controller.doing(record.path))
        return "\n".join(filter(None, parts))

    def _problem_text(self, record: JobRecord | None, standing: Standing | None) -> str:
        if record is None:
            return ""
        if standing is Standing.MISSING:
            text = self.tr("The job file is not at {path} any more. If it was moved, open it where it is now.")
            return text.format(path=record.path)
        if standing is Standing.INTERRUPTED and not record.problem:
            return self.tr("QGIS or its engine ended while this job ran. Nothing that was done is lost: resume it.")
        return record.problem

    # --- building ---------------------------------------------------------------------------------------------------

    def _button(self, text: str, tooltip: str) -> QPushButton:
        button = QPushButton(text, self)
        button.setToolTip(tooltip)
        return button

    def _make_more(self) -> QToolButton:
        button = QToolButton(self)
        button.setText("☰")
        button.setToolTip(self.tr("More to do with this job"))
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(button)

        def action(text: str) -> QAction:
            return menu.addAction(text)

        self.root_action = action(self.tr("Resume with the rasters in another folder…"))
        self.elsewhere_action = action(self.tr("Write the results elsewhere…"))
        self.folder_action = action(self.tr("Show the folder of the job file"))
        self.log_action = action(self.tr("Open the engine's log"))
        menu.addSeparator()
        self.forget_action = action(self.tr("Cancel and forget…"))
        button.setMenu(menu)
        return button

    def _connect(self) -> None:
        self.list.currentItemChanged.connect(lambda _now, _before: self._on_selected())
        self.new_button.clicked.connect(self.new_wanted)
        self.add_button.clicked.connect(self._choose_job)
        for signal, wanted in (
            (self.pause_button.clicked, self.pause_wanted),
            (self.resume_button.clicked, self.resume_wanted),
            (self.open_button.clicked, self.open_wanted),
            (self.elsewhere_action.triggered, self.elsewhere_wanted),
            (self.folder_action.triggered, self.folder_wanted),
            (self.forget_action.triggered, self.forget_wanted),
        ):
            signal.connect(lambda _checked=False, wanted=wanted: wanted.emit(self.path))
        self.log_action.triggered.connect(self.log_wanted)
        self.root_action.triggered.connect(self._choose_root)
        self._controller.listed.connect(self.refresh)
        self._controller.changed.connect(self.show_job)
        self.dockLocationChanged.connect(self._turn)

    def _on_selected(self) -> None:
        self._show_selected()
        if self.path:
            self.selected.emit(self.path)

    def _turn(self, area: Qt.DockWidgetArea) -> None:
        """Put the list above the table in a high and narrow dock."""
        upright = area in (Qt.DockWidgetArea.LeftDockWidgetArea, Qt.DockWidgetArea.RightDockWidgetArea)
        self._halves.setOrientation(Qt.Orientation.Vertical if upright else Qt.Orientation.Horizontal)

    def _choose_job(self) -> None:
        kinds = self.tr("Batch jobs (*{suffix})").format(suffix=JOB_SUFFIX)
        path, _filter = QFileDialog.getOpenFileName(self, self.tr("Open a batch job"), "", kinds)
        if path:
            self.add_wanted.emit(path)
            self.select(path)

    def _choose_root(self) -> None:
        folder = QFileDialog.getExistingDirectory(
            self, self.tr("Folder where the rasters are now"), str(Path(self.path).parent)
        )
        if folder:
            self.resume_from_wanted.emit(self.path, folder)

    def _lay_out(self) -> None:
        left, right = QWidget(self), QWidget(self)
        jobs = QVBoxLayout(left)
        jobs.setContentsMargins(0, 0, 0, 0)
        jobs.addWidget(self.list, 1)
        below = QHBoxLayout()
        below.addWidget(self.new_button)
        below.addWidget(self.add_button)
        below.addStretch(1)
        jobs.addLayout(below)
        buttons = QHBoxLayout()
        for button in (self.pause_button, self.resume_button, self.open_button):
            buttons.addWidget(button)
        buttons.addStretch(1)
        buttons.addWidget(self.more_button)
        one = QVBoxLayout(right)
        one.setContentsMargins(0, 0, 0, 0)
        one.addWidget(self.state_label)
        one.addWidget(self.problem_label)
        one.addWidget(self.table, 1)
        one.addLayout(buttons)
        header = self.list.header()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setStretchLastSection(False)
        for number in (1, 2):
            header.setSectionResizeMode(number, QHeaderView.ResizeMode.ResizeToContents)
        self._halves = halves = QSplitter(Qt.Orientation.Horizontal, self)
        halves.addWidget(left)
        halves.addWidget(right)
        halves.setStretchFactor(0, 2)
        halves.setStretchFactor(1, 3)
        halves.setChildrenCollapsible(False)
        content = QWidget(self)
        whole = QVBoxLayout(content)
        whole.setContentsMargins(6, 6, 6, 6)
        whole.addWidget(halves)
        self.setWidget(content)
