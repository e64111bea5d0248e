"""What the map tool draws on the canvas: prompts, outline, preview and crop frame. Made once, hidden when idle."""

from __future__ import annotations

from qgis.core import Qgis, QgsGeometry, QgsPointXY
from qgis.gui import QgsMapCanvas, QgsRubberBand
from qgis.PyQt.QtCore import QObject, Qt
from qgis.PyQt.QtGui import QColor

from .map_frame import MapFrame, polygon
from .session import Session

POSITIVE = QColor(0, 158, 115)
NEGATIVE = QColor(213, 94, 0)
OUTLINE = QColor(240, 228, 66)
PREVIEW = QColor(86, 180, 233)
FRAME = QColor(255, 255, 255, 160)
DRAG = QColor(0, 158, 115)


class CanvasBands(QObject):
    """Rubber bands that follow the session, in whatever CRS the canvas has at the moment.

    Colours are of a palette that colour-blind people tell apart; positive and negative prompts also differ in shape.

    Attributes:
        positive: points that belong to the object.
        negative: points that do not.
        box: the box prompt.
        outline: the current outline.
        preview: the outline that a click here would give.
        frame: border of the crop that the model sees.
        drag: the box being drawn, in map coordinates.
    """

    def __init__(self, canvas: QgsMapCanvas, session: Session, frame: MapFrame, parent: QObject | None = None) -> None:
        """Make all bands, hidden, and listen to the session and the canvas's CRS."""
        super().__init__(parent)
        self._canvas = canvas
        self._session = session
        self._map_frame = frame
        self._visible = False
        self.frame = self._area_band(FRAME, 1, Qt.PenStyle.DotLine)
        self.preview = self._area_band(PREVIEW, 2, Qt.PenStyle.SolidLine, fill_alpha=50)
        self.outline = self._area_band(OUTLINE, 2, Qt.PenStyle.SolidLine, fill_alpha=60)
        self.box = self._area_band(POSITIVE, 2, Qt.PenStyle.DashLine)
        self.drag = self._area_band(DRAG, 1, Qt.PenStyle.DashLine, fill_alpha=30)
        self.positive = self._point_band(POSITIVE, QgsRubberBand.IconType.ICON_CIRCLE)
        self.negative = self._point_band(NEGATIVE, QgsRubberBand.IconType.ICON_X)
        session.steps_changed.connect(self._draw_prompts)
        session.outline_changed.connect(self._draw_outline)
        session.preview_changed.connect(self._draw_preview)
        session.crop_changed.connect(self._draw_frame)
        canvas.destinationCrsChanged.connect(self.redraw)

    def all(self) -> list[QgsRubberBand]:
        """Return every band."""
        return [self.frame, self.preview, self.outline, self.box, self.drag, self.positive, self.negative]

    def set_visible(self, visible: bool) -> None:  # noqa: FBT001 - as Qt's setVisible
        """Show what the session holds, or hide everything without forgetting it."""
        self._visible = visible
        self.redraw()

    def redraw(self) -> None:
        """Draw everything anew, for instance in another CRS."""
        self._draw_prompts()
        self._draw_outline()
        self._draw_preview()
        self._draw_frame()
        self.drag.reset(Qgis.GeometryType.Polygon)

    def show_drag(self, corners: tuple[QgsPointXY, ...]) -> None:
        """Draw the box under way; no corners to take it away.

        Args:
            corners: in the map's CRS.
        """
        self.drag.reset(Qgis.GeometryType.Polygon)
        if corners:
            self.drag.setToGeometry(QgsGeometry.fromPolygonXY([list(corners)]))

    def remove(self) -> None:
        """Take the bands out of the canvas for good."""
        self._canvas.destinationCrsChanged.disconnect(self.redraw)
        session = self._session
        session.steps_changed.disconnect(self._draw_prompts)
        session.outline_changed.disconnect(self._draw_outline)
        session.preview_changed.disconnect(self._draw_preview)
        session.crop_changed.disconnect(self._draw_frame)
        for band in self.all():
            self._canvas.scene().removeItem(band)

    def _area_band(self, colour: QColor, width: int, line: Qt.PenStyle, fill_alpha: int = 0) -> QgsRubberBand:
        band = QgsRubberBand(self._canvas, Qgis.GeometryType.Polygon)
        band.setStrokeColor(colour)
        band.setSecondaryStrokeColor(QColor(0, 0, 0, 120))
        band.setWidth(width)
        band.setLineStyle(line)
        fill = QColor(colour)
        fill.setAlpha(fill_alpha)
        band.setFillColor(fill)
        band.hide()
        return band

    def _point_band(self, colour: QColor, icon: QgsRubberBand.IconType) -> QgsRubberBand:
        band = QgsRubberBand(self._canvas, Qgis.GeometryType.Point)
        band.setIcon(icon)
        band.setIconSize(11)
        band.setWidth(3)
        band.setColor(colour)
        band.setSecondaryStrokeColor(QColor(255, 255, 255, 200))
        band.hide()
        return band

    def _draw_prompts(self) -> None:
        points = self._session.points
        for band, positive in ((self.positive, True), (self.negative, False)):
            places = [QgsPointXY(point.x, point.y) for point in points if point.positive is positive]
            self._show(band, QgsGeometry.fromMultiPointXY(places) if places else QgsGeometry())
        self._show(self.box, polygon(self._session.box))

    def _draw_outline(self) -> None:
        outline = self._session.outline
        self._show(self.outline, outline.geometry if outline else QgsGeometry())

    def _draw_preview(self) -> None:
        self._show(self.preview, self._session.preview or QgsGeometry())

    def _draw_frame(self) -> None:
        self._show(self.frame, polygon(self._session.crop))

    def _show(self, band: QgsRubberBand, geometry: QgsGeometry) -> None:
        points = band in (self.positive, self.negative)
        band.reset(Qgis.GeometryType.Point if points else Qgis.GeometryType.Polygon)
        layer = self._session.layer
        shown = None
        if self._visible and layer is not None and not geometry.isEmpty():
            shown = self._map_frame.to_map(geometry, layer.crs())
        if shown is None:
            band.hide()
        else:
            band.setToGeometry(shown)
            band.show()
