"""What the fine-tune wizard does on the map: rectangles drawn and shown, polygons found again."""

from __future__ import annotations

from dataclasses import replace

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsGeometry,
    QgsProject,
    QgsRectangle,
)
from qgis.gui import QgsMapCanvas, QgsMapTool, QgsMapToolExtent, QgsRubberBand
from qgis.PyQt.QtCore import QObject, Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor

from .tune_draft import ExtentKind, TuneDraft

COLOUR = QColor(230, 159, 0)


class ExtentDrawing(QObject):
    """Draws rectangles into the draft's extent, and shows them while the wizard is there.

    Signals:
        drawn: there is one more.
    """

    drawn = pyqtSignal()

    def __init__(
        self, canvas: QgsMapCanvas, draft: TuneDraft, project: QgsProject, parent: QObject | None = None
    ) -> None:
        """Listen to the draft.

        Args:
            canvas: the map.
            draft: gets the rectangles.
            project: gives the datum transformations.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._canvas = canvas
        self._draft = draft
        self._project = project
        self._before: QgsMapTool | None = None
        self._visible = False
        self._band = QgsRubberBand(canvas, Qgis.GeometryType.Polygon)
        self._band.setStrokeColor(COLOUR)
        self._band.setWidth(2)
        self._band.setLineStyle(Qt.PenStyle.DashLine)
        self._band.setFillColor(QColor(230, 159, 0, 30))
        self.tool = QgsMapToolExtent(canvas)
        self.tool.extentChanged.connect(self._add)
        draft.inputs_changed.connect(self._show)
        canvas.destinationCrsChanged.connect(self._show)

    def take_up(self) -> None:
        """Have the next drag on the map draw a rectangle."""
        self._before = self._canvas.mapTool()
        self.tool.clearRubberBand()
        self._canvas.setMapTool(self.tool)

    def lay_down(self) -> None:
        """Give the map back to the tool of before."""
        self.tool.clearRubberBand()
        if self._canvas.mapTool() is self.tool:
            self._canvas.unsetMapTool(self.tool)
            if self._before is not None:
                self._canvas.setMapTool(self._before)
        self._before = None

    def set_visible(self, visible: bool) -> None:  # noqa: FBT001 - as Qt's setVisible
        """Show the rectangles, or hide them."""
        self._visible = visible
        self._show()

    def remove(self) -> None:
        """Take everything out of the canvas for good."""
        self._before = None
        self.lay_down()
        self._canvas.destinationCrsChanged.disconnect(self._show)
        self._draft.inputs_changed.disconnect(self._show)
        self._canvas.scene().removeItem(self._band)
        self.tool.deleteLater()

    def _add(self, rectangle: QgsRectangle) -> None:
        if rectangle.isEmpty():
            return
        extent = self._draft.extent
        crs = self._canvas.mapSettings().destinationCrs().toWkt(Qgis.CrsWktVariant.Preferred)
        before = extent.drawn if extent.crs == crs else ()
        drawn = (*before, QgsRectangle(rectangle))
        self._draft.set_extent(replace(extent, kind=ExtentKind.DRAWN, drawn=drawn, crs=crs))
        self.drawn.emit()

    def _show(self) -> None:
        extent = self._draft.extent
        self._band.reset(Qgis.GeometryType.Polygon)
        if not self._visible or extent.kind is not ExtentKind.DRAWN or not extent.drawn:
            self._band.hide()
            return
        source = QgsCoordinateReferenceSystem.fromWkt(extent.crs)
        target = self._canvas.mapSettings().destinationCrs()
        transform = QgsCoordinateTransform(source, target, self._project.transformContext())
        whole = QgsGeometry.unaryUnion([QgsGeometry.fromRect(one).densifyByCount(8) for one in extent.drawn])
        try:
            whole.transform(transform)
        except QgsCsException:
            self._band.hide()
            return
        self._band.setToGeometry(whole)
        self._band.show()


def show_on_map(
    canvas: QgsMapCanvas, draft: TuneDraft, origins: tuple[tuple[str, int], ...], numbers: tuple[int, ...]
) -> None:
    """Zoom to label polygons and let them flash.

    Args:
        canvas: the map.
        draft: knows the layers.
        origins: layer id and feature id of each polygon in the file that the engine read.
        numbers: of polygons in that file, from 1.
    """
    found = [origins[number - 1] for number in numbers if 1 <= number <= len(origins)]
    for name in dict.fromkeys(layer for layer, _feature in found):
        layer = draft.polygon_layer(name)
        if layer is not None:
            features = [feature for owner, feature in found if owner == name]
            canvas.zoomToFeatureIds(layer, features)
            canvas.flashFeatureIds(layer, features)
