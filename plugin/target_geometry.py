"""Outlines on their way from the raster's CRS to the target's: whole, valid, and not around the world."""

from __future__ import annotations

from qgis.core import Qgis, QgsCoordinateTransform, QgsGeometry, QgsPointXY, QgsRectangle

HALF_TURN = 180.0


def transformed(geometry: QgsGeometry, transform: QgsCoordinateTransform) -> QgsGeometry:
    """Return polygons in another CRS, in two parts where that one ends at the antimeridian and they cross it.

    Args:
        geometry: polygons in the transformation's source CRS.
        transform: from there to the target's CRS.

    Raises:
        QgsCsException: they have no coordinates there.
    """
    result = QgsGeometry(geometry)
    result.transform(transform)
    turned = transform.destinationCrs().isGeographic() and not transform.sourceCrs().isGeographic()
    if turned and result.boundingBox().width() > HALF_TURN:
        dense = geometry.densifyByCount(8)
        dense.transform(transform)
        if crosses_antimeridian(dense):
            return cut_at_antimeridian(result)
    return result


def crosses_antimeridian(geometry: QgsGeometry) -> bool:
    """Return whether an outline seems to go around the world only because longitudes jump from 180 to -180.

    Args:
        geometry: in degrees, transformed with enough points that one truly as wide has some around longitude 0.
    """
    if geometry.boundingBox().width() <= HALF_TURN:
        return False
    longitudes = [vertex.x() % (2 * HALF_TURN) for vertex in geometry.vertices()]
    return max(longitudes) - min(longitudes) <= HALF_TURN


def cut_at_antimeridian(geometry: QgsGeometry) -> QgsGeometry:
    """Split an outline over the antimeridian in two; transformed point by point, it reaches around the world instead.

    Args:
        geometry: polygons in degrees that cross it.

    Returns:
        Parts on both sides, within longitudes -180 to 180.
    """
    whole = QgsGeometry(geometry)
    whole.convertToMultiType()
    around = [
        [[QgsPointXY(point.x() % (2 * HALF_TURN), point.y()) for point in ring] for ring in rings]
        for rings in whole.asMultiPolygon()
    ]
    shifted = QgsGeometry.fromMultiPolygonXY(around)
    shifted = shifted if shifted.isGeosValid() else shifted.makeValid()
    west = shifted.intersection(QgsGeometry.fromRect(QgsRectangle(0, -HALF_TURN, HALF_TURN, HALF_TURN)))
    east = shifted.intersection(QgsGeometry.fromRect(QgsRectangle(HALF_TURN, -HALF_TURN, 2 * HALF_TURN, HALF_TURN)))
    east.translate(-2 * HALF_TURN, 0)
    return QgsGeometry.collectGeometry([*west.asGeometryCollection(), *east.asGeometryCollection()])


def polygon_parts(geometry: QgsGeometry) -> list[QgsGeometry]:
    """Return the valid, non-empty polygons of a geometry that a transformation may have made invalid."""
    valid = geometry if geometry.isGeosValid() else geometry.makeValid()
    return [
        part
        for part in valid.asGeometryCollection()
        if part.type() == Qgis.GeometryType.Polygon and not part.isEmpty() and part.area() > 0
    ]
