"""The rasters of a batch job as a table: there may be thousands of them, and they change every few seconds."""

from __future__ import annotations

from qgis.PyQt.QtCore import QAbstractTableModel, QModelIndex, QObject, QSortFilterProxyModel, Qt
from qgis.PyQt.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from ..engine.batch_messages import BatchState, RasterProgress
from ..plugin.batch_texts import count_text, raster_state
from .progress_delegate import SHARE_ROLE, ProgressDelegate

SORT_ROLE = int(Qt.ItemDataRole.UserRole) + 8
NAME, PROGRESS, OBJECTS, REMARK = range(4)
ORDER = (BatchState.FAILED, BatchState.RUNNING, BatchState.WRITING, BatchState.FINISHED, BatchState.WAITING)


class JobRasters(QAbstractTableModel):
    """Name, progress, objects, and what went wrong."""

    def __init__(self, parent: QObject | None = None) -> None:
        """Start empty."""
        super().__init__(parent)
        self._rasters: tuple[RasterProgress, ...] = ()

    def show(self, rasters: tuple[RasterProgress, ...]) -> None:
        """Show other rasters, or the same ones further on."""
        if rasters is self._rasters:
            return
        before, same = self._rasters, len(rasters) == len(self._rasters)
        if not same:
            self.beginResetModel()
        self._rasters = rasters
        if not same:
            self.endResetModel()
            return
        for row, (old, new) in enumerate(zip(before, rasters)):
            if old != new:
                self.dataChanged.emit(self.index(row, 0), self.index(row, REMARK))

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Called by Qt."""
        return len(self._rasters) if parent is None or not parent.isValid() else 0

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Called by Qt."""
        return 0 if parent is not None and parent.isValid() else REMARK + 1

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Called by Qt."""
        if orientation != Qt.Orientation.Horizontal or role != Qt.ItemDataRole.DisplayRole:
            return None
        return (self.tr("Raster"), self.tr("Progress"), self.tr("Objects"), self.tr("Remark"))[section]

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Called by Qt."""
        raster, column = self._rasters[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(raster, column)
        if role == SORT_ROLE:
            share = raster.done / raster.tiles if raster.tiles else 0.0
            progress = ORDER.index(raster.state) - min(share, 0.99)
            return (raster.name.casefold(), progress, raster.objects, raster.problem)[column]
        if role == SHARE_ROLE and column == PROGRESS and raster.tiles and raster.state is not BatchState.FAILED:
            return raster.done / raster.tiles
        if role == Qt.ItemDataRole.ToolTipRole:
            return raster.problem or raster.name
        if role == Qt.ItemDataRole.TextAlignmentRole and column == OBJECTS:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def _text(self, raster: RasterProgress, column: int) -> str:
        if column == NAME:
            return raster.name
        if column == OBJECTS:
            return count_text(raster.objects) if raster.objects else ""
        if column == REMARK:
            skipped = self.tr("{count} without data").format(count=count_text(raster.skipped)) if raster.skipped else ""
            return raster.problem or skipped
        if raster.state is BatchState.FAILED or not raster.tiles:
            return raster_state(raster.state)
        return f"{count_text(raster.done)} / {count_text(raster.tiles)}"


class JobRastersTable(QTableView):
    """Sorted as the user likes; at first, those that failed are on top."""

    def __init__(self, parent: QWidget | None = None) -> None:
        """Build the table, empty."""
        super().__init__(parent)
        self.rasters = JobRasters(self)
        sorted_ones = QSortFilterProxyModel(self)
        sorted_ones.setSourceModel(self.rasters)
        sorted_ones.setSortRole(SORT_ROLE)
        self.setModel(sorted_ones)
        self.setItemDelegateForColumn(PROGRESS, ProgressDelegate(self))
        self.setSortingEnabled(True)
        self.sortByColumn(PROGRESS, Qt.SortOrder.AscendingOrder)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setAlternatingRowColors(True)
        self.setWordWrap(False)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 8)
        header = self.horizontalHeader()
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Interactive)
        header.resizeSection(NAME, 200)
        header.resizeSection(PROGRESS, 120)
        header.resizeSection(OBJECTS, 80)
        header.setStretchLastSection(True)
