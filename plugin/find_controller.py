"""Find all: asks the engine for the objects of an area, and writes them into a layer to be reviewed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsVectorLayer
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..engine.area_messages import FindParams, FindResult
from ..engine.messages import Method
from ..engine.provenance import raster_name
from ..models.errors import OutputError, SamTuneError
from .bulk_writer import BulkWriter, BulkWritten
from .latest_request import LatestRequest, Service
from .map_frame import from_wkb_hex
from .scratch_layer import scratch_layer
from .session import Busy, NoticeLevel, Session
from .target_fields import CLASS
from .target_layer import Accepted, TargetWriter

PROMPT = "find"
"""What the attribute ``prompt`` of a found object says."""


@dataclass(frozen=True)
class FindOrder:
    """What to find and where to put it.

    Attributes:
        area: hexadecimal WKB in the raster's CRS; empty for the whole raster.
        threshold: least score of an object, 0 to 1.
        target: polygon layer that takes the objects.
        class_field: its field for the class; empty for one called ``class``.
    """

    area: str
    threshold: float
    target: QgsVectorLayer
    class_field: str = ""


@dataclass(frozen=True)
class _Sent:
    """What the answer belongs to: layer and session may be others by the time it comes."""

    params: FindParams
    crs: QgsCoordinateReferenceSystem
    target_id: str
    class_field: str


class FindController(QObject):
    """One search at a time. The search itself runs in the engine for long work; clicks are answered meanwhile.

    Signals:
        finished: the layer that took the objects.
    """

    finished = pyqtSignal(object)

    def __init__(
        self, session: Session, work: Service, project: QgsProject, writer: TargetWriter, parent: QObject | None = None
    ) -> None:
        """Keep what is needed.

        Args:
            session: the state.
            work: sends requests to the engine for long work.
            project: where the target layer is looked up when the answer comes.
            writer: fits objects to layers.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._project = project
        self._find = LatestRequest(work, session, "find", self.tr("Looking for objects…"))
        self._writer = writer
        self._bulk = BulkWriter(writer, self)
        self._bulk.progressed.connect(self._show_writing)
        self._bulk.written.connect(self._on_written)
        self._bulk.failed.connect(self._on_not_written)
        self._percent = -1
        self._sent: _Sent | None = None
        self._result: FindResult | None = None
        self._into: QgsVectorLayer | None = None
        self._rescue = False

    @property
    def busy(self) -> bool:
        """Return whether a search, or writing what it found, is under way."""
        return self._find.busy or self._bulk.busy

    def run(self, order: FindOrder) -> None:
        """Search, in place of a search under way.

        Args:
            order: what and where; the session's raster, model and adapter as they are now.
        """
        session = self._session
        if session.layer is None or session.raster is None or not session.adapters.file:
            return
        self.cancel()
        self._writer.addable_fields(order.target, order.class_field, with_class=True)  # asks now, not when it is done
        params = FindParams(
            raster=session.raster.spec,
            model=session.model,
            adapter=session.adapters.file,
            second=session.adapters.second_file,
            area=order.area,
            threshold=order.threshold,
            outline=session.outline_options(session.fixed_level or 0),
        )
        self._sent = _Sent(params, session.layer.crs(), order.target.id(), order.class_field)
        self._find.send(Method.FIND, params, lambda result: self._on_found(cast("FindResult", result)), self._on_failed)

    def cancel(self) -> None:
        """Stop searching or writing; nothing of it stays."""
        self._find.cancel()
        self._bulk.cancel()
        self._end()

    def _on_found(self, result: FindResult) -> None:
        sent, session = self._sent, self._session
        if sent is None:
            return
        for note in result.notes:
            session.notify(NoticeLevel.INFO, note)
        if not result.objects:
            text = self.tr("Nothing was found with a score of at least {least:.2f}. Lower that, or look elsewhere.")
            session.notify(NoticeLevel.WARNING, text.format(least=sent.params.threshold))
            self._end()
            return
        self._result = result
        target = self._project.mapLayer(sent.target_id)
        if isinstance(target, QgsVectorLayer):
            self._write(target, sent.class_field)
        else:
            self._save_from_loss(self.tr("The target layer is gone."))

    def _write(self, target: QgsVectorLayer, class_field: str) -> None:
        if self._result is None or self._sent is None:
            return
        self._into = target
        count = len(self._result.objects)
        self._bulk.write(
            target, _accepted(self._result, self._sent), count, class_field, self.tr("Add objects found by SamTune")
        )

    def _save_from_loss(self, reason: str, details: str = "") -> None:
        """Put what was found into a layer in memory, since its target cannot take it."""
        if self._rescue or self._sent is None:
            self._session.notify(NoticeLevel.ERROR, reason, details)
            self._end()
            return
        self._rescue = True
        try:
            layer = scratch_layer(self.tr("Found objects"), self._sent.crs)
        except OutputError as error:
            self._session.notify(NoticeLevel.ERROR, error.user_text, error.details)
            self._end()
            return
        self._project.addMapLayer(layer)
        text = self.tr("{reason} The objects go into the temporary layer “{layer}”; save that where you want it.")
        self._session.notify(NoticeLevel.WARNING, text.format(reason=reason, layer=layer.name()), details)
        self._write(layer, CLASS)

    def _on_written(self, written: BulkWritten) -> None:
        layer, session = self._into, self._session
        self._end()
        if layer is None:
            return
        text = self.tr("%n object(s) found; they are in “{layer}”. “Review” goes through them.", "", written.count)
        session.notify(NoticeLevel.SUCCESS, text.format(layer=layer.name()))
        if written.unplaced or written.dropped_parts:
            text = self.tr("“{layer}” could not take {objects} object(s) and {parts} smaller part(s) of others.")
            shown = text.format(layer=layer.name(), objects=written.unplaced, parts=written.dropped_parts)
            session.notify(NoticeLevel.WARNING, shown)
        self.finished.emit(layer)

    def _on_not_written(self, error: OutputError) -> None:
        self._save_from_loss(error.user_text, error.details)

    def _on_failed(self, error: SamTuneError) -> None:
        self._end()
        self._session.notify(NoticeLevel.ERROR, error.user_text, f"{error.kind}: {error.details}")

    def _show_writing(self, done: int, of: int) -> None:
        percent = 100 * done // max(of, 1)
        if percent != self._percent:
            self._percent = percent
            self._session.set_busy("find-write", Busy(self.tr("Writing the objects…"), percent / 100))

    def _end(self) -> None:
        self._session.set_busy("find-write", None)
        self._percent, self._rescue = -1, False
        self._sent = self._result = self._into = None


def _accepted(result: FindResult, sent: _Sent) -> Iterator[Accepted]:
    raster = raster_name(sent.params.raster.uri)
    for found in result.objects:
        yield Accepted(
            geometry=from_wkb_hex(found.wkb),
            crs=sent.crs,
            score=found.score,
            model=sent.params.model,
            prompt=PROMPT,
            raster=raster,
            bands=sent.params.raster.bands,
            class_value=found.label,
            adapter=result.adapter,
            reviewed=False,
        )
