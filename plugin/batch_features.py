"""Features of vector layers for a batch job, written to GeoPackages by a task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qgis.core import QgsFeedback

from ..engine.batch_messages import VectorSource
from ..models.errors import OutputError
from .feature_file import FeatureFile, FeatureSnapshot
from .tasks import BaseTask


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
        def failed(details: str) -> OutputError:
            text = self.tr(
                "The features of “{name}” cannot be written to {folder}. Choose another place for the job file."
            )
            return OutputError(text.format(name=snapshot.name, folder=path.parent), details)

        written = 0
        with FeatureFile(path, snapshot.fields, snapshot.kind, snapshot.crs, failed) as file:
            for number, feature in enumerate(snapshot.features(feedback)):
                written += file.add(feature.geometry(), feature.attributes())
                self.setProgress(100.0 * number / max(1, snapshot.count))
            if not written:
                text = self.tr("“{name}” has no features to work with. Choose another layer, or other features.")
                raise OutputError(text.format(name=snapshot.name))
        return VectorSource(str(path), path.stem)
