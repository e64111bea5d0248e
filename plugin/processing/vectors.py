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
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QCoreApplication

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
        if field.name().lower() != "fid":  # a GeoPackage numbers its features itself
            fields.append(field)
    positions = [source.fields().indexOf(field.name()) for field in fields]

    def features() -> Iterator[QgsFeature]:
        for given in source.getFeatures():
            if feedback.isCanceled():
                return
            made = QgsFeature(fields)
            made.setGeometry(given.geometry())
            made.setAttributes([given.attributes()[position] for position in positions])
            yield made

    return _write(features(), fields, source.wkbType(), source.sourceCrs(), path, context)


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
    feature = QgsFeature(QgsFields())
    feature.setGeometry(shape)
    _write(iter([feature]), QgsFields(), Qgis.WkbType.MultiPolygon, crs, path, context)
    return True


def _write(
    features: Iterator[QgsFeature],
    fields: QgsFields,
    kind: Qgis.WkbType,
    crs: QgsCoordinateReferenceSystem,
    path: Path,
    context: QgsProcessingContext,
) -> int:
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GPKG"
    options.layerName = path.stem
    writer = QgsVectorFileWriter.create(str(path), fields, kind, crs, context.transformContext(), options)
    count = 0
    for feature in features:
        if writer.hasError() or not writer.addFeature(feature, QgsFeatureSink.Flag.FastInsert):
            break
        count += 1
    error, text = writer.hasError(), writer.errorMessage()
    del writer  # closes the file
    if error != QgsVectorFileWriter.WriterError.NoError:
        raise QgsProcessingException(
            translate("Vectors", "{path} cannot be written. Check the free space and your rights there.").format(
                path=path
            )
            + f"\n{text}"
        )
    return count


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
