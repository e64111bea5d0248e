"""Draws a share as a progress bar in a cell of a list."""

from __future__ import annotations

from qgis.PyQt.QtCore import QModelIndex, QSize, Qt
from qgis.PyQt.QtGui import QPainter
from qgis.PyQt.QtWidgets import QApplication, QStyle, QStyledItemDelegate, QStyleOptionProgressBar, QStyleOptionViewItem

SHARE_ROLE = int(Qt.ItemDataRole.UserRole) + 7
"""Data of a cell: 0 to 1; None for no bar."""

WIDTH = 110
MARGIN = 2


class ProgressDelegate(QStyledItemDelegate):
    """The cell's text is written on the bar."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Called by Qt."""
        share = index.data(SHARE_ROLE)
        if share is None:
            super().paint(painter, option, index)
            return
        style = option.widget.style() if option.widget is not None else QApplication.style()
        bar = QStyleOptionProgressBar()
        bar.rect = option.rect.adjusted(MARGIN, MARGIN, -MARGIN, -MARGIN)
        bar.state = QStyle.StateFlag.State_Enabled | QStyle.StateFlag.State_Horizontal
        bar.palette, bar.fontMetrics, bar.direction = option.palette, option.fontMetrics, option.direction
        bar.minimum, bar.maximum, bar.progress = 0, 100, round(100 * float(share))
        bar.text, bar.textVisible = str(index.data() or ""), True
        bar.textAlignment = Qt.AlignmentFlag.AlignCenter
        style.drawControl(QStyle.ControlElement.CE_ProgressBar, bar, painter, option.widget)

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        """Called by Qt."""
        hint = super().sizeHint(option, index)
        return QSize(max(hint.width(), WIDTH), hint.height() + 2 * MARGIN)
