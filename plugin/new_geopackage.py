"""A new GeoPackage for accepted polygons: made beside its final name and moved there, so a failure leaves nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsFields,
    QgsFillSymbol,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QCoreApplication

from ..models.errors import OutputError
from .target_fields import FIELD_TYPES, make_field

translate = QCoreApplication.translate

OUTLINE_COLOUR = "#cc79a7"  # unlike the outline under way, also for colour-blind people


def create_geopackage(path: Path, crs: QgsCoordinateReferenceSystem, context: QgsCoordinateTransformContext) -> Path:
    """Write an empty GeoPackage with SamTune's fields.

    Args:
        path: where; the ending ``.gpkg`` is added where it lacks. The layer inside gets the file's name.
        crs: of the polygons; may be invalid.
        context: datum transformations (the writer wants them).

    Returns:
        The file.

    Raises:
        OutputError: it exists already, or cannot be written there.
    """
    if path.suffix.lower() != ".gpkg":
        path = path.with_name(path.name + ".gpkg")
    if path.exists():
        raise OutputError(
            translate(
                "NewGeoPackage",
                "“{name}” exists already and stays as it is. Choose another name, or add the file to the project and "
                "choose its layer as the target.",
            ).format(name=path.name),
            str(path),
        )
    try:
        with tempfile.TemporaryDirectory(prefix=".samtune-", dir=path.parent) as folder:
            made = Path(folder) / path.name
            _write_empty(made, crs, context)
            made.replace(path)
    except OSError as error:
        raise _cannot_write(path, str(error)) from error
    return path


def load_geopackage(path: Path) -> QgsVectorLayer:
    """Open a GeoPackage made by :func:`create_geopackage`, styled so that the imagery stays visible.

    Raises:
        OutputError: QGIS cannot open it.
    """
    layer = QgsVectorLayer(f"{path}|layername={path.stem}", path.stem, "ogr")
    if not layer.isValid():
        raise _cannot_write(path, "the layer is invalid")
    symbol = QgsFillSymbol.createSimple(
        {"color": "204,121,167,50", "outline_color": OUTLINE_COLOUR, "outline_width": "0.5", "outline_style": "solid"}
    )
    layer.renderer().setSymbol(symbol)
    return layer


def _write_empty(path: Path, crs: QgsCoordinateReferenceSystem, context: QgsCoordinateTransformContext) -> None:
    fields = QgsFields()
    for name in FIELD_TYPES:
        fields.append(make_field(name))
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GPKG"
    options.layerName = path.stem
    writer = QgsVectorFileWriter.create(str(path), fields, Qgis.WkbType.MultiPolygon, crs, context, options)
    error, text = writer.hasError(), writer.errorMessage()
    del writer  # closes the file
    if error != QgsVectorFileWriter.WriterError.NoError:
        raise _cannot_write(path, text)


def _cannot_write(path: Path, details: str) -> OutputError:
    return OutputError(
        translate("NewGeoPackage", "“{name}” cannot be written in that folder. Choose another folder.").format(
            name=path.name
        ),
        f"{path}: {details}",
    )
