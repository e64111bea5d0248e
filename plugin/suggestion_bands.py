"""Places to label next, on the map: outlines with their numbers, the current one brighter."""

from __future__ import annotations

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
)
from qgis.gui import QgsMapCanvas, QgsMapCanvasItem, QgsRubberBand
from qgis.PyQt.QtCore import QPointF, QRectF, Qt
from qgis.PyQt.QtGui import QColor, QFont, QFontMetricsF, QPainter
from qgis.PyQt.QtWidgets import QStyleOptionGraphicsItem, QWidget

PLAIN = QColor(86, 180, 233)
CURRENT = QColor(230, 159, 0)
PADDING = 4.0


class NumberItem(QgsMapCanvasItem):
    """A number in a disc at a place of the map."""

    def __init__(self, canvas: QgsMapCanvas, text: str) -> None:
        """Make it, hidden until it has a place."""
        super().__init__(canvas)
        self._canvas = canvas
        self._text = text
        self._place: QgsPointXY | None = None
        self._colour = PLAIN
        font = QFont(canvas.font())
        font.setBold(True)
        self._font = font
        size = QFontMetricsF(font).boundingRect(text)
        side = max(size.width(), size.height()) + 2 * PADDING
        self._box = QRectF(-side / 2, -side / 2, side, side)
        self.setZValue(200)
        self.hide()

    def put(self, place: QgsPointXY | None, colour: QColor) -> None:
        """Show it at a place, in the map's CRS; None to hide it."""
        self._place, self._colour = place, colour
        self.setVisible(place is not None)
        self.updatePosition()
        self.update()

    def updatePosition(self) -> None:
        """Called by QGIS when the map has moved."""
        if self._place is not None:
            self.setPos(QPointF(self.toCanvasCoordinates(self._place)))

    def boundingRect(self) -> QRectF:
        """Called by Qt: the disc, around the place."""
        return self._box.adjusted(-1, -1, 1, 1)

    def paint(
        self, painter: QPainter, _option: QStyleOptionGraphicsItem | None = None, _widget: QWidget | None = None
    ) -> None:
        """Called by Qt."""
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QColor(255, 255, 255))
        painter.setBrush(self._colour)
        painter.drawEllipse(self._box)
        painter.setPen(QColor(0, 0, 0))
        painter.setFont(self._font)
        painter.drawText(self._box, Qt.AlignmentFlag.AlignCenter, self._text)


class SuggestionBands:
    """One outline and one number for each place; made for one list, taken away with it."""

    def __init__(self, canvas: QgsMapCanvas, project: QgsProject) -> None:
        """Show nothing yet."""
        self._canvas = canvas
        self._project = project
        self._items: dict[int, tuple[QgsRubberBand, NumberItem]] = {}

    def show(
        self, places: dict[int, tuple[QgsGeometry, QgsPointXY]], crs: QgsCoordinateReferenceSystem, current: int | None
    ) -> None:
        """Draw places, in whatever CRS the map has at the moment.

        Args:
            places: by their numbers, outline and click, in the raster's CRS.
            crs: the raster's.
            current: number of the one that stands out.
        """
        for number in set(self._items) - set(places):
            self._take_away(number)
        transform = QgsCoordinateTransform(
            crs, self._canvas.mapSettings().destinationCrs(), self._project.transformContext()
        )
        for number, (outline, click) in places.items():
            if number not in self._items:
                self._items[number] = (
                    QgsRubberBand(self._canvas, Qgis.GeometryType.Polygon),
                    NumberItem(self._canvas, str(number)),
                )
            self._draw(number, outline, click, transform, bright=number == current)

    def clear(self) -> None:
        """Take everything away."""
        for number in list(self._items):
            self._take_away(number)

    def _draw(
        self, number: int, outline: QgsGeometry, click: QgsPointXY, transform: QgsCoordinateTransform, *, bright: bool
    ) -> None:
        band, item = self._items[number]
        colour = CURRENT if bright else PLAIN
        fill = QColor(colour)
        fill.setAlpha(60 if bright else 25)
        band.setStrokeColor(colour)
        band.setSecondaryStrokeColor(QColor(0, 0, 0, 120))
        band.setWidth(3 if bright else 1)
        band.setFillColor(fill)
        shown = QgsGeometry(outline)
        try:
            shown.transform(transform)
            band.setToGeometry(shown)
            item.put(transform.transform(click), colour)
        except QgsCsException:
            band.hide()
            item.put(None, colour)

    def _take_away(self, number: int) -> None:
        for item in self._items.pop(number):
            self._canvas.scene().removeItem(item)
