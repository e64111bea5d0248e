"""Between the map canvas and a raster: coordinates both ways, and the canvas scale in the raster's own units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsGeometry,
    QgsMapSettings,
    QgsPointXY,
    QgsProject,
)
from qgis.PyQt.QtCore import QCoreApplication

from ..engine.messages import RasterInfo
from ..models.errors import PromptError

if TYPE_CHECKING:
    from qgis.gui import QgsMapCanvas

SURROUNDINGS = 3.0
"""How many times as wide as an object the map around it is."""


class Canvas(Protocol):
    """What is needed of a ``QgsMapCanvas``."""

    def mapSettings(self) -> QgsMapSettings:
        """Return the settings that the map is drawn with."""

    def mapUnitsPerPixel(self) -> float:
        """Return the width of a screen pixel in map units."""


class MapFrame:
    """Transforms between the canvas's CRS, as it is at the moment of the call, and a raster's.

    A raster or a canvas without CRS is taken to share the other's coordinates, which is how QGIS draws it.
    """

    def __init__(self, canvas: Canvas, project: QgsProject) -> None:
        """Keep the canvas, and the project for its datum transformations."""
        self._canvas = canvas
        self._project = project

    def map_crs(self) -> QgsCoordinateReferenceSystem:
        """Return the CRS that the canvas draws in."""
        return self._canvas.mapSettings().destinationCrs()

    def to_raster(self, point: QgsPointXY, crs: QgsCoordinateReferenceSystem) -> QgsPointXY:
        """Turn a place on the map into the raster's CRS.

        Args:
            point: in the canvas's CRS.
            crs: the raster layer's CRS.

        Raises:
            PromptError: the place has no coordinates there.
        """
        transform = QgsCoordinateTransform(self.map_crs(), crs, self._project.transformContext())
        try:
            return transform.transform(point)
        except QgsCsException as error:
            raise PromptError(
                QCoreApplication.translate(
                    "MapFrame", "This place has no coordinates in the raster's CRS. Click on the raster."
                ),
                str(error),
            ) from error

    def to_map(self, geometry: QgsGeometry, crs: QgsCoordinateReferenceSystem) -> QgsGeometry | None:
        """Turn a geometry from the raster's CRS into the canvas's.

        Returns:
            A new geometry; None when it cannot be shown in the canvas's CRS.
        """
        shown = QgsGeometry(geometry)
        transform = QgsCoordinateTransform(crs, self.map_crs(), self._project.transformContext())
        try:
            shown.transform(transform)
        except QgsCsException:
            return None
        return shown

    def screen_pixel(self, point: QgsPointXY, crs: QgsCoordinateReferenceSystem) -> float:
        """Return the side of a screen pixel at a place, in raster CRS units.

        Args:
            point: in the canvas's CRS.
            crs: the raster layer's CRS.

        Raises:
            PromptError: the place has no coordinates in the raster's CRS.
        """
        step = self._canvas.mapUnitsPerPixel()
        here = self.to_raster(point, crs)
        right = self.to_raster(QgsPointXY(point.x() + step, point.y()), crs)
        up = self.to_raster(QgsPointXY(point.x(), point.y() + step), crs)
        return math.sqrt(here.distance(right) * here.distance(up))


def zoom_to(
    canvas: QgsMapCanvas, geometry: QgsGeometry, crs: QgsCoordinateReferenceSystem, project: QgsProject
) -> None:
    """Show a geometry in the middle of the map, with its surroundings; the map stays where it cannot be shown.

    Args:
        canvas: the map.
        geometry: anything with an extent.
        crs: of the geometry.
        project: for datum transformations.
    """
    transform = QgsCoordinateTransform(crs, canvas.mapSettings().destinationCrs(), project.transformContext())
    try:
        extent = transform.transformBoundingBox(geometry.boundingBox())
    except QgsCsException:
        return
    if extent.isFinite():
        extent.scale(SURROUNDINGS)
        canvas.zoomToFeatureExtent(extent)


def auto_level(screen_pixel: float, raster: RasterInfo) -> int:
    """Choose the crop level at which the model sees about what the user sees.

    Args:
        screen_pixel: side of a screen pixel, raster CRS units.
        raster: gives the pixel size and the range of useful levels.

    Returns:
        The level whose pixel is nearest to the screen's, within the raster's range.
    """
    if not (screen_pixel > 0 and raster.pixel_size > 0 and math.isfinite(screen_pixel)):
        return max(raster.min_level, min(0, raster.max_level))
    level = round(math.log2(screen_pixel / raster.pixel_size))
    return max(raster.min_level, min(level, raster.max_level))


def polygon(corners: tuple[tuple[float, float], ...]) -> QgsGeometry:
    """Make a polygon of corners; densified, so that it bends as it should in another CRS."""
    ring = [QgsPointXY(x, y) for x, y in corners]
    return QgsGeometry.fromPolygonXY([ring]).densifyByCount(8) if ring else QgsGeometry()


def from_wkb_hex(text: str) -> QgsGeometry:
    """Read a geometry from hexadecimal WKB."""
    geometry = QgsGeometry()
    geometry.fromWkb(bytes.fromhex(text))
    return geometry


def ground_text(length: float, crs: QgsCoordinateReferenceSystem, at: QgsPointXY, project: QgsProject) -> str:
    """Say a length of the raster's CRS in units that the user thinks in.

    Args:
        length: raster CRS units.
        crs: the raster layer's CRS.
        at: a place on the raster, in its CRS: a degree's length depends on it.
        project: gives the datum transformations and the ellipsoid.

    Returns:
        Metres or kilometres where the CRS has a place on Earth, otherwise pixels ("px").
    """
    if not crs.isValid():
        return f"{length:.3g} px"
    metres = length * metres_per_unit(crs, at, project)
    if metres >= 1000.0:
        return f"{metres / 1000.0:.3g} km"
    return f"{metres:.3g} m" if metres >= 1.0 or metres == 0.0 else f"{metres * 100.0:.3g} cm"


def metres_per_unit(crs: QgsCoordinateReferenceSystem, at: QgsPointXY, project: QgsProject) -> float:
    """Return how many metres a unit of a CRS is at a place (mean of both axes, on the ellipsoid)."""
    from qgis.core import Qgis, QgsDistanceArea

    if not crs.isGeographic():
        from qgis.core import QgsUnitTypes

        return float(QgsUnitTypes.fromUnitToUnitFactor(crs.mapUnits(), Qgis.DistanceUnit.Meters))
    measure = QgsDistanceArea()
    measure.setSourceCrs(crs, project.transformContext())
    measure.setEllipsoid(crs.ellipsoidAcronym())
    step = 1e-4
    east = measure.measureLine(at, QgsPointXY(at.x() + step, at.y()))
    north = measure.measureLine(at, QgsPointXY(at.x(), at.y() + step))
    return math.sqrt(east * north) / step
