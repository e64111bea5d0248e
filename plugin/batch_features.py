"""Features of a vector layer for a batch job, written to a GeoPackage as they are now: edits not yet saved too.

What to read is settled on the main thread, which costs next to nothing; reading and writing is a task.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsFeature,
    QgsFeatureRequest,
    QgsFeedback,
    QgsFields,
    QgsGeometry,
    QgsVectorFileWriter,
    QgsVectorLayer,
    QgsVectorLayerFeatureSource,
    QgsWkbTypes,
)

from ..engine.batch_messages import VectorSource
from ..models.errors import CancelledByUser, OutputError
from .tasks import BaseTask

EDGE_POINTS = 20
"""Points put on each edge of the map's outline: a straight edge of the map is bent in another CRS."""


@dataclass(frozen=True, eq=False)
class FeatureSnapshot:
    """Features that can be read in a thread; equal to itself only.

    Attributes:
        name: of the layer, for the user.
        kind: type of the geometries written: two-dimensional, without curves.
        crs: of the geometries; may be invalid, which means the rasters' coordinates.
        fields: attributes that go along.
        count: of the features; about right.
        source: gives them; None for the one in ``drawn``.
        request: which of them.
        drawn: a geometry in place of a source.
    """

    name: str
    kind: Qgis.WkbType
    crs: QgsCoordinateReferenceSystem
    fields: QgsFields
    count: int
    source: QgsVectorLayerFeatureSource | None = None
    request: QgsFeatureRequest | None = None
    drawn: QgsGeometry | None = None

    def features(self) -> Iterator[QgsFeature]:
        """Yield the features, attributes in the order of ``fields``; in any thread."""
        if self.source is not None:
            yield from self.source.getFeatures(self.request or QgsFeatureRequest())
        if self.drawn is not None:
            feature = QgsFeature(self.fields)
            feature.setGeometry(self.drawn)
            yield feature


def features_of(layer: QgsVectorLayer, *, selected: bool) -> FeatureSnapshot:
    """Take a snapshot of a layer.

    Args:
        layer: of any provider, edited or not.
        selected: only the selected features.
    """
    request = QgsFeatureRequest()
    if selected:
        request.setFilterFids(layer.selectedFeatureIds())
    return FeatureSnapshot(
        layer.name(),
        QgsWkbTypes.flatType(QgsWkbTypes.linearType(layer.wkbType())),
        layer.crs(),
        layer.fields(),
        layer.selectedFeatureCount() if selected else max(0, layer.featureCount()),
        QgsVectorLayerFeatureSource(layer),
        request,
    )


def outline_of(polygon: QgsGeometry, crs: QgsCoordinateReferenceSystem, name: str) -> FeatureSnapshot:
    """Take what a map shows.

    Args:
        polygon: its outline, in ``crs``.
        crs: of the map.
        name: for the user.
    """
    drawn = polygon.densifyByCount(EDGE_POINTS)
    return FeatureSnapshot(name, Qgis.WkbType.Polygon, crs, QgsFields(), 1, drawn=drawn)


class WriteFeaturesTask(BaseTask):
    """Writes snapshots to GeoPackages. Its result is a tuple of :class:`VectorSource`, in the snapshots' order."""

    def __init__(self, description: str, wanted: Sequence[tuple[FeatureSnapshot, Path]]) -> None:
        """Take the snapshots.

        Args:
            description: for QGIS's task list.
            wanted: each with the file that it goes to, which is replaced where it exists.
        """
        super().__init__(description)
        self._wanted = tuple(wanted)

    def _run(self, feedback: QgsFeedback) -> tuple[VectorSource, ...]:
        return tuple(self._write(snapshot, path, feedback) for snapshot, path in self._wanted)

    def _write(self, snapshot: FeatureSnapshot, path: Path, feedback: QgsFeedback) -> VectorSource:
        """Write one file beside its final name and move it there, so that a failure leaves the former one."""
        try:
            with tempfile.TemporaryDirectory(prefix=".samtune-", dir=path.parent) as folder:
                made = Path(folder) / path.name
                self._fill(snapshot, made, feedback)
                made.replace(path)
        except OSError as error:
            raise self._failed(snapshot, path, str(error)) from error
        return VectorSource(str(path), path.stem)

    def _fill(self, snapshot: FeatureSnapshot, path: Path, feedback: QgsFeedback) -> None:
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName = "GPKG"
        options.layerName = path.stem
        options.layerOptions = ["FID=samtune_fid"]  # a field "fid" of the layer stays what it is, unique or not
        writer = QgsVectorFileWriter.create(
            str(path), snapshot.fields, snapshot.kind, snapshot.crs, QgsCoordinateTransformContext(), options
        )
        if writer.hasError() != QgsVectorFileWriter.WriterError.NoError:
            raise self._failed(snapshot, path, writer.errorMessage())
        written = 0
        for number, feature in enumerate(snapshot.features()):
            if feedback.isCanceled():
                raise CancelledByUser
            for geometry in feature.geometry().coerceToType(snapshot.kind) if feature.hasGeometry() else ():
                feature.setGeometry(geometry)
                if not writer.addFeature(feature):
                    raise self._failed(snapshot, path, writer.errorMessage())
                written += 1
            self.setProgress(100.0 * number / max(1, snapshot.count))
        del writer  # closes the file
        if not written:
            text = self.tr("“{name}” has no features to work with. Choose another layer, or other features.")
            raise OutputError(text.format(name=snapshot.name))

    def _failed(self, snapshot: FeatureSnapshot, path: Path, details: str) -> OutputError:
        text = self.tr("The features of “{name}” cannot be written to {folder}. Choose another place for the job file.")
        return OutputError(text.format(name=snapshot.name, folder=path.parent), f"{path}: {details}")
