"""Features of results: SamTune's attributes, geometries from the wire, areas on the ground."""

from __future__ import annotations

from collections.abc import Mapping

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsDistanceArea,
    QgsFeature,
    QgsField,
    QgsFields,
    QgsGeometry,
    QgsProcessingContext,
)
from qgis.PyQt.QtCore import QByteArray, QMetaType

from ...engine.tune_messages import FigureRow
from ..target_fields import FIELD_TYPES, make_field

FIGURE_FIELDS: dict[str, QMetaType.Type] = {
    "figure": QMetaType.Type.QString,
    "title": QMetaType.Type.QString,
    "class": QMetaType.Type.QString,
    "before": QMetaType.Type.Double,
    "after": QMetaType.Type.Double,
    "low": QMetaType.Type.Double,
    "high": QMetaType.Type.Double,
}


def object_fields() -> QgsFields:
    """Return the attributes of outlines, as in the interactive tool."""
    fields = QgsFields()
    for name in FIELD_TYPES:
        fields.append(make_field(name))
    return fields


def fields_of(types: Mapping[str, QMetaType.Type]) -> QgsFields:
    """Return fields by name and type."""
    fields = QgsFields()
    for name, kind in types.items():
        fields.append(QgsField(name, kind))
    return fields


def feature(fields: QgsFields, geometry: QgsGeometry, values: Mapping[str, object]) -> QgsFeature:
    """Make a feature; what is not named is NULL.

    Args:
        fields: of the sink.
        geometry: of the feature.
        values: attributes by field name.
    """
    made = QgsFeature(fields)
    made.setGeometry(geometry)
    for name, value in values.items():
        made.setAttribute(name, value)
    return made


def geometry_of(wkb: str) -> QgsGeometry:
    """Return a geometry from hexadecimal WKB."""
    geometry = QgsGeometry()
    geometry.fromWkb(QByteArray(bytes.fromhex(wkb)))
    return geometry


class GroundArea:
    """Measures polygons in square metres on the ellipsoid; in square units where there is no CRS."""

    def __init__(self, crs: QgsCoordinateReferenceSystem, context: QgsProcessingContext) -> None:
        """Prepare.

        Args:
            crs: of the polygons; may be invalid.
            context: of the algorithm, for its ellipsoid and transformations.
        """
        self._measure = QgsDistanceArea()
        self._measure.setSourceCrs(crs, context.transformContext())
        self._metric = crs.isValid()
        if self._metric:
            ellipsoid = context.ellipsoid()
            self._measure.setEllipsoid(crs.ellipsoidAcronym() if ellipsoid in ("", "NONE") else ellipsoid)

    def of(self, geometry: QgsGeometry) -> float:
        """Return a polygon's area."""
        area = float(self._measure.measureArea(geometry))
        if not self._metric:
            return area
        return round(float(self._measure.convertAreaMeasurement(area, Qgis.AreaUnit.SquareMeters)), 3)


def figure_values(row: FigureRow) -> dict[str, object]:
    """Return a figure's attributes; what it has not is left NULL."""
    values: dict[str, object] = {
        "figure": row.name,
        "title": row.title,
        "class": row.group or None,
        "before": row.before if row.before >= 0 else None,
        "after": row.after,
    }
    if row.low or row.high:
        values.update(low=row.low, high=row.high)
    return values
