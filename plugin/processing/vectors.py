"""Vector files between Processing and the engine: what the user chose goes out as a GeoPackage, results come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsFeature,
    QgsFeatureSink,
    QgsFields,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSource,
    QgsProcessingFeedback,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QCoreApplication

from ..feature_file import FeatureFile, flat_type

translate = QCoreApplication.translate


def write_source(
    source: QgsProcessingFeatureSource, path: Path, context: QgsProcessingContext, feedback: QgsProcessingFeedback
) -> int:
    """Write the features of a source, those selected or filtered where the user said so, to a GeoPackage.

    Args:
        source: of the algorithm.
        path: new file; its layer has the file's name.
        context: of the run.
        feedback: asked for a cancel.

    Returns:
        How many there are.

    Raises:
        QgsProcessingException: they cannot be written.
    """
    fields = QgsFields()
    for field in source.fields():
        if field.name().lower() != "fid":  # the engine's result numbers its own
            fields.append(field)
    positions = [source.fields().indexOf(field.name()) for field in fields]

    count = 0
    with _file(path, fields, source.wkbType(), source.sourceCrs(), context) as file:
        for given in source.getFeatures():
            if feedback.isCanceled():
                break
            attributes = given.attributes()
            count += file.add(given.geometry(), [attributes[position] for position in positions])
    return count


def area_geometry(
    polygons: QgsProcessingFeatureSource | None,
    extent: QgsRectangle,
    crs: QgsCoordinateReferenceSystem,
    context: QgsProcessingContext,
) -> QgsGeometry | None:
    """Return the area of interest: the polygons, cut by the extent where both are given.

    Args:
        polygons: None for none.
        extent: null for none.
        crs: of the extent, and of what is returned.
        context: of the run.

    Returns:
        A multipolygon; None where there is no limit.

    Raises:
        QgsProcessingException: nothing is in it, or the polygons have no coordinates in the CRS.
    """
    if polygons is None and extent.isNull():
        return None
    shape = QgsGeometry.fromRect(extent)
    if polygons is not None:
        union = QgsGeometry.unaryUnion(list(_polygons(polygons, crs, context)))
        shape = union if extent.isNull() else union.intersection(shape)
    if shape.isEmpty():
        raise QgsProcessingException(translate("Vectors", "The area of interest is empty. Choose another one."))
    shape.convertToMultiType()
    return shape


def _polygons(
    source: QgsProcessingFeatureSource, crs: QgsCoordinateReferenceSystem, context: QgsProcessingContext
) -> Iterator[QgsGeometry]:
    to_crs = QgsCoordinateTransform(source.sourceCrs(), crs, context.transformContext())
    for feature in source.getFeatures():
        shape = QgsGeometry(feature.geometry())
        try:
            shape.transform(to_crs)
        except QgsCsException as error:
            text = translate("Vectors", "The area of interest has no coordinates in the raster's CRS. Choose another.")
            raise QgsProcessingException(text) from error
        yield shape.makeValid()


def write_area(
    polygons: QgsProcessingFeatureSource | None,
    extent: QgsRectangle,
    crs: QgsCoordinateReferenceSystem,
    path: Path,
    context: QgsProcessingContext,
    *,
    margin: float = 0.0,
) -> bool:
    """Write the area of interest, see :func:`area_geometry`, to a new GeoPackage.

    Args:
        polygons: None for none.
        extent: null for none.
        crs: of the extent, and of what is written.
        path: of the GeoPackage.
        context: of the run.
        margin: widens the area by this share of the side of a square as large.

    Returns:
        Whether there is an area; when not, nothing is written.
    """
    shape = area_geometry(polygons, extent, crs, context)
    if shape is None:
        return False
    if margin:
        shape = shape.buffer(margin * shape.area() ** 0.5, 4)
        shape.convertToMultiType()
    with _file(path, QgsFields(), Qgis.WkbType.MultiPolygon, crs, context) as file:
        file.add(shape, [])
    return True


def _file(
    path: Path, fields: QgsFields, kind: Qgis.WkbType, crs: QgsCoordinateReferenceSystem, context: QgsProcessingContext
) -> FeatureFile:
    def failed(details: str) -> QgsProcessingException:
        text = translate("Vectors", "{path} cannot be written. Check the free space and your rights there.")
        return QgsProcessingException(f"{text.format(path=path)}\n{details}")

    return FeatureFile(path, fields, flat_type(kind), crs, failed, context=context.transformContext())


def open_result(path: Path, layer: str) -> QgsVectorLayer:
    """Open a GeoPackage that the engine has written.

    Raises:
        QgsProcessingException: QGIS cannot.
    """
    found = QgsVectorLayer(f"{path}|layername={layer}", layer, "ogr")
    if not found.isValid():
        raise QgsProcessingException(
            translate("Vectors", "The engine's result {path} cannot be read.").format(path=path)
        )
    return found


def without_fid(fields: QgsFields) -> QgsFields:
    """Return the fields but for the number that a GeoPackage gives its features."""
    kept = QgsFields()
    for field in fields:
        if field.name().lower() != "fid":
            kept.append(field)
    return kept


def pour(layer: QgsVectorLayer, sink: QgsFeatureSink, fields: QgsFields, feedback: QgsProcessingFeedback) -> int:
    """Copy a layer's features into a sink.

    Args:
        layer: a result.
        sink: of the algorithm.
        fields: of the sink, by name among the layer's.
        feedback: asked for a cancel.

    Returns:
        How many.

    Raises:
        QgsProcessingException: the sink did not take one.
    """
    positions = [layer.fields().indexOf(field.name()) for field in fields]
    count = 0
    for given in layer.getFeatures():
        if feedback.isCanceled():
            break
        made = QgsFeature(fields)
        made.setGeometry(given.geometry())
        made.setAttributes([given.attributes()[position] if position >= 0 else None for position in positions])
        put(sink, made)
        count += 1
    return count


def put(sink: QgsFeatureSink, feature: QgsFeature) -> None:
    """Add a feature to a sink.

    Raises:
        QgsProcessingException: the sink did not take it.
    """
    if not sink.addFeature(feature, QgsFeatureSink.Flag.FastInsert):
        raise QgsProcessingException(
            translate("Vectors", "The output did not take a feature: {reason}").format(reason=sink.lastError())
        )
