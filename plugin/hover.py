"""The outline under the pointer before any click, and encoding ahead where the pointer dwells."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import cast

from qgis.core import QgsPointXY
from qgis.PyQt.QtCore import QElapsedTimer, QObject, QTimer, pyqtSignal

from ..engine.messages import Empty, Method, PrepareParams, PrepareResult, Prompt, SegmentParams, SegmentResult
from ..models.errors import PromptError, RasterError, SamTuneError
from .latest_request import LatestRequest, Service
from .map_frame import MapFrame, from_wkb_hex
from .session import Box, EngineState, NoticeLevel, Session
from .thumbnail import THUMBNAIL_SIDE

HOVER_MS = 40
"""Shortest time between two previews."""

DWELL_MS = 350
"""How long the pointer must rest on a cold crop before it is encoded."""

DEFAULT_INPUT = 1024


class HoverPreview(QObject):
    """Asks for previews of the newest pointer position only, and only from what is encoded already.

    A preview costs one decoder run. Where the crop is not encoded, resting the pointer encodes it (with progress and
    cancel); one such request is under way at a time.

    Signals:
        preparing: a crop is about to be encoded; whatever else the engine does ahead should make way.
    """

    preparing = pyqtSignal()

    def __init__(
        self,
        session: Session,
        service: Service,
        frame: MapFrame,
        level_at: Callable[[QgsPointXY], int],
        parent: QObject | None = None,
    ) -> None:
        """Wait for the pointer.

        Args:
            session: the state; gets previews, crop and thumbnail.
            service: sends requests to the engine.
            frame: coordinates between the map and the raster.
            level_at: gives the crop level for a place in the map's CRS.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._frame = frame
        self._level_at = level_at
        self._segment = LatestRequest(service, session, "hover")
        self._prepare = LatestRequest(service, session, "prepare", self.tr("Preparing this part of the image…"))
        self._pointer: QgsPointXY | None = None
        self._asked: QgsPointXY | None = None
        self._refused: tuple[object, ...] = ()
        self._paused = False
        self._since_asked = QElapsedTimer()
        self._timer = self._make_timer(HOVER_MS, self._ask)
        self._dwell = self._make_timer(DWELL_MS, self._on_dwell)

    def move(self, point: QgsPointXY) -> None:
        """Follow the pointer.

        Args:
            point: in the map's CRS.
        """
        self._pointer = point
        self._dwell.stop()
        self._ask_soon()

    def leave(self) -> None:
        """The pointer left the map: no preview any more. Encoding goes on, for it will be wanted."""
        self._pointer = None
        self._timer.stop()
        self._dwell.stop()
        self._segment.cancel()
        self._session.set_preview(None)

    def stop(self) -> None:
        """Drop previews and encoding ahead."""
        self.leave()
        self._prepare.cancel()

    def pause(self) -> None:
        """Encode nothing ahead until :meth:`resume`: the user has cancelled it and would see it start again."""
        self.stop()
        self._paused = True

    def resume(self) -> None:
        """Encode ahead again where the pointer rests."""
        self._paused = False

    def make_way(self, step: Prompt | Box) -> None:
        """A prompt is about to be sent: previews stop, and so does encoding of a crop that the prompt does not need.

        Args:
            step: the prompt, in the raster's CRS.
        """
        self._timer.stop()
        self._dwell.stop()
        self._segment.cancel()
        if self._prepare.busy and not self._same_crop(step):
            self._prepare.cancel()

    def prepare(self, point: QgsPointXY) -> None:
        """Encode the crop around a place ahead of clicks, unless that is not wanted now.

        Args:
            point: in the map's CRS.
        """
        params = self._prepare_params(point)
        if params is None or self._paused or self._prepare.busy or not self._engine_ready():
            return
        key = (params.raster, params.model, params.adapter, params.second, params.level, point.x(), point.y())
        if key == self._refused:
            return

        def failed(error: SamTuneError) -> None:
            self._refused = key
            harmless = isinstance(error, (PromptError, RasterError))  # the pointer rests on nodata, say
            level = NoticeLevel.INFO if harmless else NoticeLevel.ERROR
            self._session.notify(level, error.user_text, f"{error.kind}: {error.details}")

        self.preparing.emit()
        self._prepare.send(
            Method.PREPARE, params, lambda result: self._on_prepared(cast("PrepareResult", result), params), failed
        )

    def _make_timer(self, milliseconds: int, slot: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(slot)
        return timer

    def _ask_soon(self) -> None:
        """Ask as soon as the pause between two previews allows; at once if the last answer took longer than that."""
        if not self._timer.isActive():
            passed = self._since_asked.elapsed() if self._since_asked.isValid() else HOVER_MS
            self._timer.start(max(0, HOVER_MS - passed))

    def _engine_ready(self) -> bool:
        info = self._session.model_info
        ready = self._session.engine_state is EngineState.READY and (info is None or info.present)
        return ready and not self._session.adapters.problem

    def _place(self, point: QgsPointXY) -> QgsPointXY | None:
        layer = self._session.layer
        if layer is None:
            return None
        try:
            place = self._frame.to_raster(point, layer.crs())
        except PromptError:
            return None
        return place if layer.extent().contains(place) else None

    def _ask(self) -> None:
        session, point = self._session, self._pointer
        if point is None or session.steps or self._segment.busy or not self._engine_ready():
            return
        place = self._place(point)
        if session.raster is None or place is None:
            session.set_preview(None)
            return
        level = self._level_at(point)
        params = SegmentParams(
            raster=session.raster.spec,
            model=session.model,
            level=level,
            points=(Prompt(place.x(), place.y()),),
            outline=session.outline_options(level),
            cached_only=True,
            adapter=session.adapters.path,
            second=session.adapters.second_path,
        )
        self._asked = point
        self._since_asked.start()
        self._segment.send(
            Method.SEGMENT,
            params,
            lambda result: self._on_preview(cast("SegmentResult", result)),
            lambda _error: self._on_no_preview(),
        )

    def _on_no_preview(self) -> None:
        """The pointer is over nodata, say: what was shown belongs to another place."""
        self._session.set_preview(None)
        if self._pointer is not None and self._pointer != self._asked:
            self._ask_soon()

    def _on_preview(self, result: SegmentResult) -> None:
        session = self._session
        if session.steps:
            return
        session.adapters.set_notes(result.notes)
        if result.crop:
            session.set_crop(result.crop, result.level)
        found = result.empty is Empty.NONE and session.hover_enabled
        session.set_preview(from_wkb_hex(result.wkb) if found else None)
        if self._pointer is not None and self._pointer != self._asked:
            self._ask_soon()
        elif result.empty is Empty.COLD:
            self._dwell.start()

    def _on_dwell(self) -> None:
        if self._pointer is not None and not self._session.steps:
            self.prepare(self._pointer)

    def _prepare_params(self, point: QgsPointXY) -> PrepareParams | None:
        raster, place = self._session.raster, self._place(point)
        if raster is None or place is None:
            return None
        side = THUMBNAIL_SIDE if self._session.thumbnail_wanted else 0
        return PrepareParams(
            raster.spec,
            self._session.model,
            self._level_at(point),
            place.x(),
            place.y(),
            side,
            adapter=self._session.adapters.path,
            second=self._session.adapters.second_path,
        )

    def _on_prepared(self, result: PrepareResult, params: PrepareParams) -> None:
        session = self._session
        if session.raster is None or params.raster != session.raster.spec:
            return
        if not session.steps:
            session.set_crop(result.crop, result.level)
        if result.thumbnail_png:
            session.set_thumbnail(base64.b64decode(result.thumbnail_png), result.crop)
        if self._pointer is not None:
            self._ask_soon()

    def _same_crop(self, step: Prompt | Box) -> bool:
        params = self._prepare.params
        if not isinstance(params, PrepareParams):
            return False
        places = step.corners if isinstance(step, Box) else ((step.x, step.y),)
        x = sum(place[0] for place in places) / len(places)
        y = sum(place[1] for place in places) / len(places)
        info = self._session.model_info
        crop = (info.input_size if info else DEFAULT_INPUT) * self._session.model_pixel(params.level)
        return max(abs(params.x - x), abs(params.y - y)) < crop / 4
