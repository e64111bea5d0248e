"""What there is to learn from: numbers of each class, sizes, what was mended or left out, and the crops themselves."""

from __future__ import annotations

from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor, QPixmap
from qgis.PyQt.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...engine.tune_messages import Inspection, PictureKind
from ...plugin.tune_preparer import TunePreparer
from ...plugin.tune_texts import count_text
from ..forms import text_label
from .histogram import SizeHistogram
from .pictures import PictureStrip

PICTURE_SIDE = 128


class InspectionView(QWidget):
    """A view of the preparer's inspection.

    Attributes:
        count_label: how many objects, and how they are parted.
        classes: a line for each class.
        histogram: of sizes.
        issues_label: what was repaired, left out or overlaps, with links.
        small_label: how many objects are too small, and
        level_button: takes the level that fits them.
        strip: the crops that training will see.
        notes_label: what the user should know.
        problem_label: why there is nothing to learn from.
        busy: shown while an answer is awaited.

    Signals:
        level_wanted: the level that fits the small objects is to be used.
        show_wanted: label polygons of these numbers are to be shown on the map.
    """

    level_wanted = pyqtSignal(int)
    show_wanted = pyqtSignal(tuple)

    def __init__(self, preparer: TunePreparer, parent: QWidget | None = None) -> None:
        """Build the widgets and listen to the preparer."""
        super().__init__(parent)
        self._preparer = preparer
        self.problem_label, self.count_label, self.issues_label = text_label(self), text_label(self), text_label(self)
        self.small_label, self.notes_label = text_label(self), text_label(self)
        for label in (self.count_label, self.issues_label):  # numbers and links of ours, no names
            label.setTextFormat(Qt.TextFormat.RichText)
        self.problem_label.setObjectName("samtune_problem")
        self.issues_label.linkActivated.connect(self._show_issue)
        self.classes = QTreeWidget(self)
        self.classes.setHeaderLabels(
            [self.tr("Class"), self.tr("Objects"), self.tr("To learn from"), self.tr("Held out")]
        )
        self.classes.setRootIsDecorated(False)
        self.classes.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.classes.header().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.classes.header().setStretchLastSection(True)
        self.histogram = SizeHistogram(self)
        self.sizes_label = QLabel(self.tr("Sizes of the objects:"), self)
        self.strip_label = QLabel(self.tr("This is what the model will see:"), self)
        self.level_button = QPushButton(self)
        self.level_button.clicked.connect(self._take_level)
        self.strip = PictureStrip(PICTURE_SIDE, self)
        self.busy = QProgressBar(self)
        self.busy.setRange(0, 0)
        self.busy.setFixedHeight(6)
        self.busy.setTextVisible(False)
        policy = self.busy.sizePolicy()
        policy.setRetainSizeWhenHidden(True)  # so that nothing jumps
        self.busy.setSizePolicy(policy)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(4, 0, 6, 0)
        for widget in (
            *(self.busy, self.problem_label, self.count_label, self.classes, self.sizes_label, self.histogram),
            *(self.small_label, self.level_button, self.issues_label, self.strip_label, self.strip, self.notes_label),
        ):
            rows.addWidget(widget)
        rows.addStretch(1)
        preparer.inspected.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show what is known; of before while an answer is awaited."""
        preparer = self._preparer
        self.busy.setVisible(preparer.inspecting)
        found = preparer.inspection or Inspection()
        waiting = preparer.inspecting and preparer.inspection is None
        problem = self.tr("Looking at the polygons…") if waiting else preparer.problem
        self.problem_label.setText(problem)
        self.problem_label.setStyleSheet("" if waiting else "font-weight: bold;")
        self.problem_label.setVisible(bool(problem))
        self.count_label.setText(count_text(found))
        self.count_label.setVisible(bool(found.classes))
        self._show_classes(found)
        self.histogram.show_sizes(found.sizes)
        for widget in (self.histogram, self.sizes_label):
            widget.setVisible(bool(found.sizes))
        self._show_small(found)
        self._show_issues(found)
        self.strip.show_pictures([one for one in found.pictures if one.kind is PictureKind.CROP])
        for widget in (self.strip, self.strip_label):
            widget.setVisible(bool(found.pictures))
        own = preparer.labels.notes if preparer.labels is not None else ()
        self.notes_label.setText("\n".join([*own, *found.notes]))
        self.notes_label.setVisible(bool(own or found.notes))

    def _show_classes(self, found: Inspection) -> None:
        self.classes.clear()
        for one in found.classes:
            item = QTreeWidgetItem([one.name, str(one.objects), str(one.train), str(one.held_out)])
            colour = QPixmap(12, 12)
            colour.fill(QColor(one.colour))
            item.setData(0, Qt.ItemDataRole.DecorationRole, colour)
            self.classes.addTopLevelItem(item)
        lines = min(5, max(1, len(found.classes)))
        row = self.classes.sizeHintForRow(0) if found.classes else self.fontMetrics().height()
        self.classes.setFixedHeight(self.classes.header().sizeHint().height() + lines * max(row, 18) + 6)
        self.classes.setVisible(bool(found.classes))

    def _show_small(self, found: Inspection) -> None:
        fits = found.fitting_level == found.level
        text = self.tr("{n} objects are too small to be seen well at level {level}.")
        self.small_label.setText(text.format(n=found.too_small, level=found.level))
        self.small_label.setVisible(found.too_small > 0)
        self.level_button.setText(self.tr("Look closer: use level {level}").format(level=found.fitting_level))
        self.level_button.setVisible(found.too_small > 0 and not fits)

    def _show_issues(self, found: Inspection) -> None:
        groups = (
            ("repaired", found.repaired, self.tr("{n} invalid and repaired")),
            ("left_out", found.left_out, self.tr("{n} left out (too small, empty or beyond the raster)")),
            ("overlapping", found.overlapping, self.tr("{n} overlapping another one")),
        )
        lines = [f'<a href="{key}">{text.format(n=len(rows))}</a>' for key, rows, text in groups if rows]
        self.issues_label.setText(
            self.tr("Of the polygons: {list}. Click to see them on the map.").format(list=", ".join(lines))
        )
        self.issues_label.setVisible(bool(lines))

    def _show_issue(self, key: str) -> None:
        if self._preparer.inspection is not None:
            self.show_wanted.emit(getattr(self._preparer.inspection, key))

    def _take_level(self) -> None:
        if self._preparer.inspection is not None:
            self.level_wanted.emit(self._preparer.inspection.fitting_level)
