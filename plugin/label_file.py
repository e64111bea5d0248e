"""Polygons of a layer, with the edits that are not saved yet, written to a GeoPackage in a thread of QGIS's tasks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

from qgis.core import QgsApplication, QgsFeedback, QgsVectorLayer
from qgis.PyQt.QtCore import QObject

from ..engine.tune_messages import LabelSource
from ..models.errors import OutputError, SamTuneError
from .feature_file import CLASS, LABELS, class_text, features_of, label_file
from .session import Busy, Session
from .tasks import BaseTask, TaskController


class LabelFileTask(BaseTask):
    """Writes all polygons of a layer. Its result is a :class:`LabelSource` of the file."""

    def __init__(self, description: str, layer: QgsVectorLayer, class_field: str, path: Path) -> None:
        """Take a snapshot of the layer.

        Args:
            description: for QGIS's task list.
            layer: polygon layer.
            class_field: its field with the class; empty for none.
            path: of the GeoPackage to write.
        """
        super().__init__(description)
        self._polygons = features_of(layer)
        self._field = layer.fields().lookupField(class_field) if class_field else -1
        self._path = path

    def _run(self, feedback: QgsFeedback) -> LabelSource:
        with label_file(self._path, self._polygons.crs, self._failed) as file:
            for number, feature in enumerate(self._polygons.features(feedback)):
                name = class_text(feature, self._field) if self._field >= 0 else ""
                file.add(feature.geometry(), [name or None])
                self.setProgress(100.0 * number / max(1, self._polygons.count))
        return LabelSource(str(self._path), LABELS, CLASS if self._field >= 0 else "")

    def _failed(self, details: str) -> OutputError:
        text = self.tr("The labelled polygons could not be written to {folder}. Make room there, then try again.")
        return OutputError(text.format(folder=self._path.parent), details)


class LabelWriter(QObject):
    """Writes the polygons of one layer at a time, to a file that lasts until the next one or :meth:`drop`."""

    def __init__(self, session: Session, key: str, parent: QObject | None = None) -> None:
        """Keep where progress is shown.

        Args:
            session: told that this is under way.
            key: name of this writer in the session.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._key = key
        self._tasks = TaskController(QgsApplication.taskManager(), self)
        self._task: LabelFileTask | None = None
        self._folder = ""

    @property
    def busy(self) -> bool:
        """Return whether a file is being written."""
        return self._task is not None

    def write(
        self,
        layer: QgsVectorLayer,
        class_field: str,
        on_written: Callable[[LabelSource], None],
        on_failed: Callable[[SamTuneError], None],
    ) -> None:
        """Write a layer's polygons; one of the two is called unless it is cancelled.

        Args:
            layer: polygon layer.
            class_field: its field with the class; empty for none.
            on_written: gets where they are.
            on_failed: gets why not.
        """
        self.drop()
        self._folder = mkdtemp(prefix="samtune-labels-")
        title = self.tr("SamTune: collect the labelled polygons")
        task = LabelFileTask(title, layer, class_field, Path(self._folder) / "labels.gpkg")
        self._task = task
        self._session.set_busy(self._key, Busy(title))

        def ended(call: Callable[[object], None], outcome: object) -> None:
            if self._task is task:
                self._end()
                call(outcome)

        task.succeeded.connect(lambda labels: ended(on_written, labels))
        task.failed.connect(lambda error: ended(on_failed, error))
        task.cancelled.connect(lambda: ended(lambda _nothing: self.drop(), None))
        self._tasks.submit(task)

    def drop(self) -> None:
        """Stop, and remove the file."""
        task = self._task
        self._end()
        if task is not None:
            task.cancel()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    def _end(self) -> None:
        self._task = None
        self._session.set_busy(self._key, None)
