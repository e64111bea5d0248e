"""Features that an algorithm hands over, and the attributes of a report's figures."""

from __future__ import annotations

from collections.abc import Mapping

from qgis.core import QgsFeature, QgsField, QgsFields, QgsGeometry
from qgis.PyQt.QtCore import QMetaType

from ...engine.tune_messages import FigureRow

FIGURE_FIELDS: dict[str, QMetaType.Type] = {
    "figure": QMetaType.Type.QString,
    "title": QMetaType.Type.QString,
    "class": QMetaType.Type.QString,
    "before": QMetaType.Type.Double,
    "after": QMetaType.Type.Double,
    "low": QMetaType.Type.Double,
    "high": QMetaType.Type.Double,
}


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
