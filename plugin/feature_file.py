"""Features of a layer as they are now, edits not yet saved too, and the GeoPackage in which the engine gets them.

What to read is settled on the main thread, which costs next to nothing; reading and writing is for a task.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsFeature,
    QgsFeatureRequest,
    QgsFeatureSink,
    QgsFeedback,
    QgsField,
    QgsFields,
    QgsGeometry,
    QgsVectorFileWriter,
    QgsVectorLayer,
    QgsVectorLayerFeatureSource,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QMetaType

from ..models.errors import CancelledByUser

CLASS = "class"
LABELS = "labels"
EDGE_POINTS = 20
"""Points put on each edge of the map's outline: a straight edge of the map is bent in another CRS."""


@dataclass(frozen=True, eq=False)
class FeatureSnapshot:
    """Features that can be read in a thread; equal to itself only.

    Attributes:
        layer: its id; empty for a drawn shape.
        name: of the layer, for the user.
        kind: type of the geometries written: two-dimensional, without curves.
        crs: of the geometries; may be invalid, which means the rasters' coordinates.
        fields: attributes that go along.
        count: of the features; about right.
        source: gives them; None for the one in ``drawn``.
        request: which of them, and
        only: their ids; None for all that the request gives.
        drawn: a geometry in place of a source.
    """

    layer: str
    name: str
    kind: Qgis.WkbType
    crs: QgsCoordinateReferenceSystem
    fields: QgsFields
    count: int
    source: QgsVectorLayerFeatureSource | None = None
    request: QgsFeatureRequest | None = None
    only: frozenset[int] | None = None
    drawn: QgsGeometry | None = None

    def features(self, feedback: QgsFeedback) -> Iterator[QgsFeature]:
        """Yield the features, attributes in the order of ``fields``; in any thread.

        Args:
            feedback: asked for a cancel before each.

        Raises:
            CancelledByUser: it was.
        """
        for feature in self._all():
            if feedback.isCanceled():
                raise CancelledByUser
            if self.only is None or feature.id() in self.only:
                yield feature

    def _all(self) -> Iterator[QgsFeature]:
        if self.source is not None:
            yield from self.source.getFeatures(self.request or QgsFeatureRequest())
        if self.drawn is not None:
            feature = QgsFeature(self.fields)
            feature.setGeometry(self.drawn)
            yield feature


def features_of(layer: QgsVectorLayer, *, selected: bool = False, expression: str = "") -> FeatureSnapshot:
    """Take a snapshot of a layer.

    Args:
        layer: of any provider, edited or not.
        selected: only the selected features.
        expression: filter, known to be a sound one; empty for none.
    """
    request = QgsFeatureRequest()
    only = frozenset(layer.selectedFeatureIds()) if selected else None
    if expression:  # a request takes an expression or ids, not both
        request.setFilterExpression(expression)
        request.setExpressionContext(layer.createExpressionContext())
    elif only is not None:
        request.setFilterFids(list(only))
    return FeatureSnapshot(
        layer.id(),
        layer.name(),
        flat_type(layer.wkbType()),
        layer.crs(),
        layer.fields(),
        len(only) if only is not None else max(0, layer.featureCount()),
        QgsVectorLayerFeatureSource(layer),
        request,
        only,
    )


def outline_of(polygon: QgsGeometry, crs: QgsCoordinateReferenceSystem, name: str) -> FeatureSnapshot:
    """Take what a map shows.

    Args:
        polygon: its outline, in ``crs``.
        crs: of the map.
        name: for the user.
    """
    drawn = polygon.densifyByCount(EDGE_POINTS)
    return FeatureSnapshot("", name, Qgis.WkbType.Polygon, crs, QgsFields(), 1, drawn=drawn)


def flat_type(kind: Qgis.WkbType) -> Qgis.WkbType:
    """Return a geometry type without curves, heights and measures."""
    return QgsWkbTypes.flatType(QgsWkbTypes.linearType(kind))


def class_text(feature: QgsFeature, field: int) -> str:
    """Return a feature's class; empty for none. As ``engine/class_names.py`` has it.

    Args:
        feature: of a layer.
        field: index of the attribute; whole numbers are written as such, whatever their type.
    """
    value = feature.attribute(field)
    if value is None or str(value) in ("", "NULL"):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


class FeatureFile:
    """A GeoPackage with one layer, in any thread. It is at its place when all is in it, or not at all.

    A context: leaving it without an error puts the file there, in place of one that is there.
    """

    def __init__(
        self,
        path: Path,
        fields: QgsFields,
        kind: Qgis.WkbType,
        crs: QgsCoordinateReferenceSystem,
        failed: Callable[[str], Exception],
        *,
        layer: str = "",
        context: QgsCoordinateTransformContext | None = None,
    ) -> None:
        """Describe the layer.

        Args:
            path: of the file, in a folder that exists.
            fields: attributes.
            kind: type of the geometries.
            crs: of the geometries.
            failed: makes the error to raise, of technical details.
            layer: its name; empty for the file's.
            context: datum transformations.
        """
        self._path, self._fields, self._kind, self._crs = path, fields, kind, crs
        self._failed = failed
        self._layer = layer or path.stem
        self._context = context or QgsCoordinateTransformContext()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._writer: QgsVectorFileWriter | None = None

    def __enter__(self) -> FeatureFile:
        """Begin the file beside its place."""
        try:
            self._folder = tempfile.TemporaryDirectory(prefix=".samtune-", dir=self._path.parent)
        except OSError as error:
            raise self._failed(f"{self._path}: {error}") from error
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName = "GPKG"
        options.layerName = self._layer
        options.layerOptions = ["FID=samtune_fid"]  # a field "fid" of a layer stays what it is, unique or not
        self._writer = QgsVectorFileWriter.create(
            str(self._made), self._fields, self._kind, self._crs, self._context, options
        )
        if self._writer.hasError() != QgsVectorFileWriter.WriterError.NoError:
            error = self._refused()
            self._close()
            raise error
        return self

    def __exit__(self, kind: type[BaseException] | None, *_details: object) -> None:
        """Close the file, and put it at its place unless there was an error."""
        self._writer = None  # closes the file
        try:
            if kind is None:
                self._made.replace(self._path)
        except OSError as error:
            raise self._failed(f"{self._path}: {error}") from error
        finally:
            self._close()

    @property
    def _made(self) -> Path:
        return Path(self._folder.name if self._folder is not None else "") / self._path.name

    def add(self, geometry: QgsGeometry, values: Iterable[object]) -> int:
        """Write a geometry, as several features where its parts do not fit into one.

        Args:
            geometry: of any type.
            values: attributes, in the order of the fields.

        Returns:
            How many features it became: none where nothing of it is of the file's type.
        """
        fitting, attributes = self._fitting(geometry), list(values)
        for part in fitting:
            self._write(part, attributes)
        return len(fitting)

    def add_one(self, geometry: QgsGeometry, values: Iterable[object]) -> None:
        """Write one feature, so that it can be told of by its number; without geometry where that does not fit.

        Args:
            geometry: of any type.
            values: attributes, in the order of the fields.
        """
        fitting = self._fitting(geometry)
        self._write(fitting[0] if len(fitting) == 1 else QgsGeometry(), list(values))

    def _fitting(self, geometry: QgsGeometry) -> list[QgsGeometry]:
        return [] if geometry.isEmpty() else geometry.coerceToType(self._kind)

    def _write(self, geometry: QgsGeometry, values: list[object]) -> None:
        feature = QgsFeature(self._fields)
        feature.setGeometry(geometry)
        feature.setAttributes(values)
        if self._writer is None or not self._writer.addFeature(feature, QgsFeatureSink.Flag.FastInsert):
            raise self._refused()

    def _refused(self) -> Exception:
        return self._failed(f"{self._path}: {self._writer.errorMessage() if self._writer is not None else 'closed'}")

    def _close(self) -> None:
        self._writer = None
        if self._folder is not None:
            self._folder.cleanup()


def label_file(
    path: Path,
    crs: QgsCoordinateReferenceSystem,
    failed: Callable[[str], Exception],
    context: QgsCoordinateTransformContext | None = None,
) -> FeatureFile:
    """Return a file of polygons with a class: layer :data:`LABELS`, attribute :data:`CLASS`.

    Args:
        path: of the file.
        crs: of the polygons.
        failed: makes the error to raise, of technical details.
        context: datum transformations.
    """
    fields = QgsFields()
    fields.append(QgsField(CLASS, QMetaType.Type.QString))
    return FeatureFile(path, fields, Qgis.WkbType.MultiPolygon, crs, failed, layer=LABELS, context=context)
