"""A small chart of curves over steps, drawn by hand: QtCharts is not in every QGIS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qgis.PyQt.QtCore import QPointF, QRectF, QSize, Qt
from qgis.PyQt.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qgis.PyQt.QtWidgets import QSizePolicy, QWidget

LOSS = QColor(0, 114, 178)
HELD_OUT = QColor(213, 94, 0)
TICKS = 4
ROUNDING = 1e-6


@dataclass(frozen=True)
class Curve:
    """One line: points (step, value), its colour, and whether single points are marked."""

    points: tuple[tuple[float, float], ...]
    colour: QColor
    marked: bool = False


class CurveChart(QWidget):
    """Axes, a title, and curves."""

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        """Begin empty.

        Args:
            title: shown above.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.title = title
        self.curves: tuple[Curve, ...] = ()
        self._steps = 1.0
        self._marker = 0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName(title)

    def sizeHint(self) -> QSize:
        """Called by Qt."""
        return QSize(380, 170)

    def minimumSizeHint(self) -> QSize:
        """Called by Qt."""
        return QSize(200, 100)

    def show_curves(self, curves: Sequence[Curve], steps: int, marker: int = 0) -> None:
        """Draw other curves.

        Args:
            curves: the lines.
            steps: right end of the axis.
            marker: step to mark by an upright line; 0 for none.
        """
        self.curves, self._steps, self._marker = tuple(curves), float(max(1, steps)), marker
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Called by Qt."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        metrics = self.fontMetrics()
        text = self.palette().text().color()
        area = QRectF(self.rect()).adjusted(
            metrics.horizontalAdvance("0.000") + 8, metrics.height() + 14, -8, -metrics.height() - 6
        )
        painter.setPen(text)
        painter.drawText(QPointF(4, metrics.ascent() + 1), self.title)
        values = [value for curve in self.curves for _step, value in curve.points if math.isfinite(value)]
        if not values:
            painter.drawText(area, Qt.AlignmentFlag.AlignCenter, self.tr("nothing yet"))
            painter.end()
            return
        low, high, ticks = nice_range(values)
        self._draw_axes(painter, area, low, high, ticks)
        if self._marker:
            painter.setPen(QPen(HELD_OUT, 1, Qt.PenStyle.DashLine))
            x = area.left() + area.width() * self._marker / self._steps
            painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()))
        for curve in self.curves:
            self._draw_curve(painter, area, curve, low, high)
        painter.end()

    def _draw_axes(self, painter: QPainter, area: QRectF, low: float, high: float, ticks: int) -> None:
        text, metrics = self.palette().text().color(), self.fontMetrics()
        faint = QColor(text)
        faint.setAlpha(50)
        for tick in range(ticks + 1):
            share = tick / ticks
            y = area.bottom() - share * area.height()
            painter.setPen(faint)
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            label = f"{low + share * (high - low):.3g}"
            painter.setPen(text)
            painter.drawText(
                QPointF(area.left() - metrics.horizontalAdvance(label) - 4, y + metrics.ascent() / 2 - 1), label
            )
        for share in (0.0, 0.5, 1.0):
            label = f"{round(share * self._steps)}"
            x = area.left() + share * area.width() - metrics.horizontalAdvance(label) * share
            painter.drawText(QPointF(x, area.bottom() + metrics.height()), label)

    def _draw_curve(self, painter: QPainter, area: QRectF, curve: Curve, low: float, high: float) -> None:
        places = [
            QPointF(
                area.left() + area.width() * min(1.0, step / self._steps),
                area.bottom() - area.height() * (value - low) / (high - low),
            )
            for step, value in curve.points
            if math.isfinite(value)
        ]
        painter.setPen(QPen(curve.colour, 2))
        painter.drawPolyline(QPolygonF(places))
        if curve.marked or len(places) == 1:
            painter.setBrush(curve.colour)
            for place in places:
                painter.drawEllipse(place, 3, 3)
            painter.setBrush(Qt.BrushStyle.NoBrush)


def nice_range(values: Sequence[float]) -> tuple[float, float, int]:
    """Return the ends of the upright axis, at round numbers about the values, and how many steps it is parted into.

    Args:
        values: at least one.
    """
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    # Values that differ by rounding alone are one value: ends as near to each other would be the same number.
    span = high - low if high - low > ROUNDING * size else 0.1 * size or 1.0
    rough = span / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return first * step, last * step, last - first
