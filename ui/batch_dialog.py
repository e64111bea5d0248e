"""The batch dialog: puts the boxes together, shows what the job would take, and orders it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qgis.core import QgsProject
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFrame,
    QGroupBox,
    QHBoxLayout,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from ..engine.batch_messages import BatchEstimate, BatchSpec
from ..plugin.batch_order import BatchOrder
from ..plugin.session import Session
from .batch_area_box import BatchAreaBox
from .batch_estimate_box import BatchEstimateBox
from .batch_output_box import BatchOutputBox
from .batch_rasters_box import BatchRastersBox
from .batch_task_box import BatchTaskBox


class BatchDialog(QDialog):
    """Stays open beside the map. What it shows is what it orders.

    Attributes:
        rasters_box: which rasters.
        area_box: where on them.
        task_box: what is done.
        output_box: where the results go.
        estimate_box: what it would take.
        start_button: disabled with the reason as long as something is missing.

    Signals:
        ordered: a :class:`BatchOrder` to begin with.
        estimate_wanted: a :class:`BatchOrder` that is complete, or None when nothing is to be estimated.
        panel_wanted: show the job panel.
    """

    ordered = pyqtSignal(object)
    estimate_wanted = pyqtSignal(object)
    panel_wanted = pyqtSignal()

    def __init__(
        self, session: Session, project: QgsProject, canvas: QgsMapCanvas, folder: Path, parent: QWidget | None = None
    ) -> None:
        """Build the dialog.

        Args:
            session: the panel's choices, which it begins with.
            project: whose layers can be chosen.
            canvas: the map.
            folder: where results go at first.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.setWindowTitle(self.tr("Batch: whole layers and folders"))
        self.setObjectName("SamTuneBatchDialog")
        self._estimate: BatchEstimate | None = None
        self._asked: BatchOrder | None = None
        self.rasters_box = BatchRastersBox(session, project, self)
        self.area_box = BatchAreaBox(canvas, project, self)
        self.task_box = BatchTaskBox(session, project, self)
        self.output_box = BatchOutputBox(folder, self)
        self.estimate_box = BatchEstimateBox(self)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        self.start_button = self.buttons.addButton(self.tr("&Start"), QDialogButtonBox.ButtonRole.ActionRole)
        self.panel_button = self.buttons.addButton(self.tr("&Jobs"), QDialogButtonBox.ButtonRole.HelpRole)
        self.panel_button.setToolTip(self.tr("Show the panel of batch jobs"))
        self._lay_out()
        for button in self.findChildren(QPushButton):
            button.setAutoDefault(False)  # Enter in a field is no order to begin
        self.task_box.task_combo.currentIndexChanged.connect(
            lambda _index: self.output_box.show_for(self.task_box.task)
        )
        for box in (self.rasters_box, self.area_box, self.task_box, self.output_box):
            box.changed.connect(self.refresh)
        self.start_button.clicked.connect(self._start)
        self.panel_button.clicked.connect(self.panel_wanted)
        self.buttons.rejected.connect(self.reject)
        self.refresh()

    def order(self) -> BatchOrder:
        """Return what is chosen, whether or not something is missing."""
        choice = self.task_box.choice()
        spec = BatchSpec(
            task=choice.task,
            rasters=replace(self.rasters_box.rasters(), second=choice.second),
            model=choice.model,
            adapter=choice.adapter,
            class_field=choice.class_field,
            class_name=choice.class_name,
            outputs=self.output_box.outputs(),
            options=choice.options,
        )
        show = self.output_box.show_check.isChecked()
        return BatchOrder(spec, self.output_box.job, choice.prompts, self.area_box.area(), show)

    def problem(self) -> str:
        """Say why the job cannot be started; empty when it can."""
        return self._missing() or (self._estimate.problem if self._estimate is not None else "")

    def refresh(self) -> None:
        """Show what is missing; where nothing is, have the job estimated unless it is still the same."""
        if not self.isVisible():
            return
        missing = self._missing()
        order = None if missing else self.order()
        if order is None or order != self._asked:
            self._asked, self._estimate = order, None
            self.estimate_box.show_text(missing or self.tr("Estimating…"))
            self.estimate_wanted.emit(order)
        self._show_start()

    def show_estimate(self, estimate: BatchEstimate) -> None:
        """Show what the job would take."""
        self._estimate = estimate
        self.estimate_box.show_estimate(estimate, self.task_box.task)
        self._show_start()

    def show_failure(self, text: str) -> None:
        """Say why there is no estimate; the job can be started all the same."""
        self.estimate_box.show_text(self.tr("There is no estimate: {reason}").format(reason=text))

    def ordered_well(self) -> None:
        """Suggest other names for the next job: those of this one are taken."""
        self.output_box.renew()

    def showEvent(self, event: object) -> None:
        """Called by Qt: what has changed while the dialog was closed is looked at."""
        super().showEvent(event)
        self._asked = None
        self.refresh()

    def hideEvent(self, event: object) -> None:
        """Called by Qt: nobody looks at an estimate any more."""
        super().hideEvent(event)
        self._asked, self._estimate = None, None
        self.estimate_wanted.emit(None)

    def stop(self) -> None:
        """Stop listening to what outlives the dialog; for unloading."""
        self.rasters_box.stop()
        self.area_box.stop()

    def _missing(self) -> str:
        boxes = (self.rasters_box, self.task_box, self.area_box, self.output_box)
        return next(filter(None, (box.problem() for box in boxes)), "")

    def _start(self) -> None:
        if not self.problem():
            self.ordered.emit(self.order())

    def _show_start(self) -> None:
        missing = self.problem()
        self.start_button.setEnabled(not missing)
        self.start_button.setToolTip(missing or self.tr("Begin with the job; it can be paused and resumed"))

    def _lay_out(self) -> None:
        left, right = QWidget(self), QWidget(self)
        self._group(left, self.tr("Rasters"), self.rasters_box, self.area_box)
        self._group(right, self.tr("What is done"), self.task_box)
        self._group(right, self.tr("Results"), self.output_box)
        right.layout().addStretch(1)
        area = QScrollArea(self)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidget(right)
        halves = QHBoxLayout()
        halves.addWidget(left, 1)
        halves.addWidget(area, 1)
        whole = QVBoxLayout(self)
        whole.addLayout(halves, 1)
        whole.addWidget(self.estimate_box)
        whole.addWidget(self.buttons)
        self.resize(1000, 640)

    def _group(self, side: QWidget, title: str, *boxes: QWidget) -> None:
        layout = side.layout() or QVBoxLayout(side)
        layout.setContentsMargins(0, 0, 0, 0)
        group = QGroupBox(title, side)
        inside = QVBoxLayout(group)
        for number, box in enumerate(boxes):
            inside.addWidget(box, 0 if number else 1)
        layout.addWidget(group)
