"""The numbers of a batch job: level, thresholds, cleaning of outlines. Only those that the task uses are shown."""

from __future__ import annotations

from dataclasses import replace

from qgis.core import QgsProject
from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QDoubleSpinBox, QSpinBox, QVBoxLayout, QWidget

from ..engine.batch_messages import BatchOptions, BatchTask
from ..plugin.map_frame import metres_per_unit
from ..plugin.session import Session
from .forms import column, wide_row

LEVELS = range(-2, 9)
DEFAULTS = BatchOptions()
POLYGONS = (BatchTask.PROMPTS, BatchTask.AUTOMATIC, BatchTask.FIND, BatchTask.MAP)


class BatchOptionsBox(QWidget):
    """Begins with the panel's outline options, in metres on the ground of the panel's raster.

    Attributes:
        level_combo: automatic, or a level.
        threshold_spin: least score of an object found.
        group: the rest, folded away.
    """

    changed = pyqtSignal()

    def __init__(self, session: Session, project: QgsProject, parent: QWidget | None = None) -> None:
        """Build the widgets.

        Args:
            session: the panel's outline options.
            project: for metres on the ground.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.level_combo = QComboBox(self)
        self.level_combo.addItem("", None)
        for level in LEVELS:
            self.level_combo.addItem(self._level_text(level), level)
        self.level_combo.setToolTip(self.tr("How large a pixel is that the model sees"))
        self.threshold_spin = self._share(DEFAULTS.threshold)
        self.simplify_spin = self._length(" m")
        self.hole_spin, self.part_spin = self._length(" m²"), self._length(" m²")
        self.iou_spin, self.stability_spin = self._share(DEFAULTS.iou), self._share(DEFAULTS.stability)
        for spin in (self.iou_spin, self.stability_spin):
            spin.setSpecialValueText(self.tr("as suits the model"))
        self.points_spin = self._whole(DEFAULTS.points, 2, 64)
        self.levels_spin = self._whole(DEFAULTS.levels, 1, 5)
        self.group = QgsCollapsibleGroupBox(self.tr("More options"), self)
        self._rows = self._make_rows()
        self._lay_out()
        self._take_outline(session, project)
        self.level_combo.currentIndexChanged.connect(lambda _index: self.changed.emit())

    def show_for(self, task: BatchTask) -> None:
        """Show what a task uses."""
        automatic = {
            BatchTask.PROMPTS: self.tr("By the size of each object"),
            BatchTask.AUTOMATIC: self.tr("1 pixel of the raster, finer if it is small"),
            BatchTask.FIND: self.tr("As the adapter was tuned"),
            BatchTask.MAP: self.tr("As the adapter was tuned"),
            BatchTask.EMBEDDINGS: self.tr("1 pixel of the raster"),
        }
        self.level_combo.setItemText(0, self.tr("Auto: {text}").format(text=automatic[task]))
        for row, tasks in self._rows:
            row.setVisible(task in tasks)
        self.group.setVisible(task in POLYGONS)

    def options(self, task: BatchTask) -> BatchOptions:
        """Return what is chosen, without what the task does not use."""
        options = BatchOptions(level=self.level_combo.currentData())
        if task in POLYGONS:
            options = replace(
                options,
                simplify=self.simplify_spin.value(),
                min_hole=self.hole_spin.value(),
                min_part=self.part_spin.value(),
            )
        if task is BatchTask.FIND:
            options = replace(options, threshold=self.threshold_spin.value())
        if task is BatchTask.AUTOMATIC:
            options = replace(
                options,
                points=self.points_spin.value(),
                iou=self.iou_spin.value(),
                stability=self.stability_spin.value(),
                levels=self.levels_spin.value(),
            )
        return options

    def _level_text(self, level: int) -> str:
        if level < 0:
            return self.tr("1/{count} of a pixel of the raster").format(count=2**-level)
        if level == 0:
            return self.tr("1 pixel of the raster")
        return self.tr("{count} pixels of the raster").format(count=2**level)

    def _take_outline(self, session: Session, project: QgsProject) -> None:
        layer, pixel = session.layer, session.model_pixel()
        if layer is None or pixel <= 0:
            return
        metres = pixel
        if layer.crs().isValid():
            metres *= metres_per_unit(layer.crs(), layer.extent().center(), project)
        self.simplify_spin.setValue(session.simplify * metres)
        self.hole_spin.setValue((session.fill_holes * metres) ** 2)
        self.part_spin.setValue((session.fill_holes * metres) ** 2)

    def _share(self, value: float) -> QDoubleSpinBox:
        spin = QDoubleSpinBox(self)
        spin.setRange(0.0, 1.0)
        spin.setSingleStep(0.05)
        spin.setValue(value)
        spin.valueChanged.connect(lambda _value: self.changed.emit())
        return spin

    def _length(self, unit: str) -> QDoubleSpinBox:
        spin = QDoubleSpinBox(self)
        spin.setRange(0.0, 1e9)
        spin.setSuffix(unit)
        spin.setSpecialValueText(self.tr("off"))
        spin.valueChanged.connect(lambda _value: self.changed.emit())
        return spin

    def _whole(self, value: int, least: int, most: int) -> QSpinBox:
        spin = QSpinBox(self)
        spin.setRange(least, most)
        spin.setValue(value)
        spin.valueChanged.connect(lambda _value: self.changed.emit())
        return spin

    def _make_rows(self) -> list[tuple[QWidget, tuple[BatchTask, ...]]]:
        everything, polygons = (BatchTask.AUTOMATIC,), POLYGONS
        self.points_spin.setToolTip(self.tr("Clicks per side of the grid laid over each crop: more find more, slower"))
        self.iou_spin.setToolTip(self.tr("How sure the model must be of an outline"))
        self.stability_spin.setToolTip(self.tr("How little an outline may change when it is drawn tighter or wider"))
        self.levels_spin.setToolTip(self.tr("Large objects need coarser levels as well, each twice as coarse"))
        self._head = [
            (wide_row(self, self.tr("&Detail"), self.level_combo), tuple(BatchTask)),
            (wide_row(self, self.tr("Least &score"), self.threshold_spin), (BatchTask.FIND,)),
        ]
        self._folded = [
            (wide_row(self, self.tr("Clicks per side"), self.points_spin), everything),
            (wide_row(self, self.tr("Least predicted IoU"), self.iou_spin), everything),
            (wide_row(self, self.tr("Least stability"), self.stability_spin), everything),
            (wide_row(self, self.tr("Levels of detail"), self.levels_spin), everything),
            (wide_row(self, self.tr("Simplify by"), self.simplify_spin), polygons),
            (wide_row(self, self.tr("Fill holes below"), self.hole_spin), polygons),
            (wide_row(self, self.tr("Drop parts below"), self.part_spin), polygons),
        ]
        return self._head + self._folded

    def _lay_out(self) -> None:
        rows = column(self)
        for row, _tasks in self._head:
            rows.addWidget(row)
        content = QWidget(self.group)  # unfolding shows all children of the group; the rows are not among them
        inside = column(content)
        for row, _tasks in self._folded:
            inside.addWidget(row)
        QVBoxLayout(self.group).addWidget(content)
        self.group.setCollapsed(True)
        rows.addWidget(self.group)
