"""A layer in memory with SamTune's fields: for objects whose target has gone, so that nothing found is lost."""

from __future__ import annotations

from qgis.core import QgsCoordinateReferenceSystem, QgsVectorLayer

from ..models.errors import OutputError
from .target_fields import FIELD_TYPES, make_field


def scratch_layer(name: str, crs: QgsCoordinateReferenceSystem) -> QgsVectorLayer:
    """Make a layer of multipolygons in memory.

    Args:
        name: of the layer.
        crs: of its polygons; may be invalid.

    Raises:
        OutputError: QGIS could not make it.
    """
    layer = QgsVectorLayer("MultiPolygon", name, "memory")
    layer.setCrs(crs)
    if not layer.isValid() or not layer.dataProvider().addAttributes([make_field(field) for field in FIELD_TYPES]):
        raise OutputError(f"The layer “{name}” could not be made in memory.", "; ".join(layer.dataProvider().errors()))
    layer.updateFields()
    return layer
