"""Many objects into a layer's edit buffer: one undo command, written in slices so that QGIS stays usable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qgis.core import QgsVectorLayer
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..models.errors import OutputError
from .slices import Slices, Steps
from .target_fields import add_fields, plan_fields
from .target_layer import Accepted, Fitted, TargetWriter, add_feature, begin_editing, check_writable, one_command


@dataclass(frozen=True)
class BulkWritten:
    """What was written.

    Attributes:
        count: features.
        unplaced: objects that have no place in the layer's CRS or type, and were left out.
        dropped_parts: parts that a layer of single polygons could not take.
    """

    count: int
    unplaced: int
    dropped_parts: int


class BulkWriter(QObject):
    """Writes one list of objects at a time. What is written is there as a whole, or not at all.

    Signals:
        progressed: objects done, of how many.
        written: a :class:`BulkWritten`.
        failed: an :class:`~samtune.models.errors.OutputError`; the layer is as it was.
    """

    progressed = pyqtSignal(int, int)
    written = pyqtSignal(object)
    failed = pyqtSignal(object)

    def __init__(self, writer: TargetWriter, parent: QObject | None = None) -> None:
        """Keep how single objects are fitted to a layer."""
        super().__init__(parent)
        self._writer = writer
        self._slices = Slices(self)
        self._layer: QgsVectorLayer | None = None
        self._result = BulkWritten(0, 0, 0)
        self._started = False

    @property
    def busy(self) -> bool:
        """Return whether a list is being written."""
        return self._slices.running

    def write(
        self, layer: QgsVectorLayer, objects: Iterator[Accepted], count: int, class_field: str, command: str
    ) -> None:
        """Write objects, in slices; asks first where fields are missing.

        Args:
            layer: polygon layer; editing is started where it is off.
            objects: read one by one.
            count: how many they are.
            class_field: field that takes the class; empty for one called ``class``.
            command: name of the undo command.
        """
        self.cancel()
        try:
            check_writable(layer)
        except OutputError as error:
            self.failed.emit(error)
            return
        missing = self._writer.addable_fields(layer, class_field, with_class=True)
        self._layer = layer
        for signal in (layer.willBeDeleted, layer.beforeRollBack, layer.beforeCommitChanges):
            signal.connect(self._interrupted)
        self._slices.run(
            self._steps(layer, objects, count, class_field, missing, command), self._on_done, self._on_failed
        )

    def cancel(self) -> None:
        """Stop; what was written of the list goes again. Nobody is told."""
        self._slices.stop()
        self._let_go(undone=True)

    def _steps(
        self,
        layer: QgsVectorLayer,
        objects: Iterator[Accepted],
        count: int,
        class_field: str,
        missing: tuple[str, ...],
        command: str,
    ) -> Steps:
        fitted: list[Fitted] = []
        unplaced = 0
        for seen, accepted in enumerate(objects, 1):
            try:
                fitted.append(self._writer.fit(layer, accepted))
            except OutputError:
                unplaced += 1
            self.progressed.emit(seen, 2 * count)
            yield
        check_writable(layer)  # meanwhile anything may have happened to it
        self._started = begin_editing(layer)
        with one_command(layer, command):
            add_fields(layer, missing)
            plan = plan_fields(layer, class_field, True)
            for number, found in enumerate(fitted, 1):
                add_feature(layer, found.geometry, plan.attributes(found.values))
                self.progressed.emit(count + number, 2 * count)
                yield
        dropped = sum(found.dropped_parts for found in fitted)
        self._result = BulkWritten(len(fitted), unplaced, dropped)

    def _on_done(self) -> None:
        layer, result = self._layer, self._result
        self._let_go()
        if layer is not None:
            layer.triggerRepaint()
        self.written.emit(result)

    def _on_failed(self, error: OutputError) -> None:
        self._let_go(undone=True)
        self.failed.emit(error)

    def _interrupted(self) -> None:
        """The layer goes, or its edits are being saved or given up: half a list must be in neither.

        Whoever does that ends the editing too: ending it here as well would take the edit buffer from under them.
        """
        self._started = False
        self.cancel()
        text = self.tr("Editing the target layer ended while objects were being written to it.")
        self.failed.emit(OutputError(text))

    def _let_go(self, *, undone: bool = False) -> None:
        layer, self._layer = self._layer, None
        started, self._started = self._started, False
        if layer is not None:
            for signal in (layer.willBeDeleted, layer.beforeRollBack, layer.beforeCommitChanges):
                signal.disconnect(self._interrupted)
            if undone and started and not layer.isModified():
                layer.rollBack()  # editing was off before
