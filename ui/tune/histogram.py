"""How large the labelled objects are: a bar for each range of sizes."""

from __future__ import annotations

from qgis.PyQt.QtCore import QPointF, QRectF, QSize, Qt
from qgis.PyQt.QtGui import QColor, QPainter, QPaintEvent
from qgis.PyQt.QtWidgets import QSizePolicy, QWidget

from ...engine.tune_messages import SizeBin

BAR = QColor(86, 180, 233)


class SizeHistogram(QWidget):
    """Bars with their numbers above and their sizes in pixels below."""

    def __init__(self, parent: QWidget | None = None) -> None:
        """Begin empty."""
        super().__init__(parent)
        self.bins: tuple[SizeBin, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(self.tr("Longer side of the objects, in pixels of the raster"))

    def sizeHint(self) -> QSize:
        """Called by Qt."""
        return QSize(300, 92)

    def show_sizes(self, bins: tuple[SizeBin, ...]) -> None:
        """Draw other bars."""
        self.bins = bins
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Called by Qt."""
        painter = QPainter(self)
        metrics = self.fontMetrics()
        painter.setPen(self.palette().text().color())
        most = max((one.objects for one in self.bins), default=0)
        if not most:
            painter.end()
            return
        width = self.width() / len(self.bins)
        room = self.height() - 2 * metrics.height() - 4
        for index, one in enumerate(self.bins):
            height = room * one.objects / most
            left, top = index * width, metrics.height() + room - height
            painter.fillRect(QRectF(left + 3, top, width - 6, height), BAR)
            if one.objects:
                number = str(one.objects)
                painter.drawText(QPointF(left + (width - metrics.horizontalAdvance(number)) / 2, top - 2), number)
            below = QRectF(left, self.height() - metrics.height() - 2, width, metrics.height() + 2)
            unit = self.tr(" px") if index == len(self.bins) - 1 else ""
            painter.drawText(below, Qt.AlignmentFlag.AlignCenter, f"{one.low:.0f}–{one.high:.0f}{unit}")
        painter.end()
