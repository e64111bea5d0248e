"""Between the session and the engine: opens the raster, turns prompts into an outline, has it accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from qgis.core import QgsPointXY
from qgis.PyQt.QtCore import QObject, QTimer

from ..engine.messages import (
    Empty,
    Method,
    Prompt,
    SegmentParams,
    SegmentResult,
)
from ..models.errors import PromptError, SamTuneError
from .hover import HoverPreview
from .latest_request import LatestRequest, Service
from .map_frame import MapFrame, auto_level, from_wkb_hex
from .raster_opener import RasterOpener
from .session import Box, NoticeLevel, Outline, Session, Step
from .thumbnail import Thumbnail

MAX_RAISES = 2
"""How often an object that reaches over its crop is asked for again, one level coarser."""

SLIDER_DELAY_MS = 60

Accept = Callable[[], bool]


class ClickController(QObject):
    """Sends what the session holds to the engine and puts the answers into the session.

    At most one ``segment`` request is under way: prompts that come meanwhile go together in the next one, because the
    encoding under way is needed for them as well. No prompt is lost to waiting: those given while the raster is being
    opened are sent once it is open, and what is done while an outline waits to be kept is done after that.
    """

    def __init__(self, session: Session, service: Service, frame: MapFrame, parent: QObject | None = None) -> None:
        """Listen to the session.

        Args:
            session: the state.
            service: sends requests to the engine.
            frame: coordinates between the map and the raster.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._service = service
        self._frame = frame
        self._opener = RasterOpener(session, service, self)
        self._segment = LatestRequest(service, session, "segment", self.tr("Looking at the image…"))
        self._thumbnail = Thumbnail(session, service, self)
        self.hover = HoverPreview(session, service, frame, self.level_at, self)
        self._level: int | None = None
        self._screen_pixel = 0.0
        self._raises = 0
        self._answered: tuple[Step, ...] = ()
        self._outdated = False
        self._accept_when_done = False
        self._held: list[Callable[[], object]] = []
        self._accept: Accept | None = None
        self._slider_timer = QTimer(self)
        self._slider_timer.setSingleShot(True)
        self._slider_timer.setInterval(SLIDER_DELAY_MS)
        self._slider_timer.timeout.connect(self.request_outline)
        self._opener.opened.connect(self._on_opened)
        self._opener.failed.connect(self._drop_unanswered)
        self.hover.preparing.connect(self._opener.stop_warming)
        session.layer_changed.connect(self._on_layer_changed)
        session.source_changed.connect(self.open_raster)
        session.style_changed.connect(self._on_style_changed)
        session.model_changed.connect(self._on_model_changed)
        session.level_changed.connect(self._on_level_changed)
        session.options_changed.connect(self._slider_timer.start)

    def set_accept(self, accept: Accept) -> None:
        """Set what writes the current outline; it returns whether it did."""
        self._accept = accept

    # --- the raster -------------------------------------------------------------------------------------------------

    def open_raster(self) -> None:
        """Open the session's layer in the engine, with its bands and stretch."""
        self._segment.cancel()
        self._thumbnail.cancel()
        self.hover.stop()
        self._opener.open()

    def _on_opened(self) -> None:
        self._session.set_thumbnail(b"")
        if self._session.steps:
            self.request_outline()

    def _on_style_changed(self) -> None:
        if self._opener.is_outdated():
            self.open_raster()

    def _on_layer_changed(self) -> None:
        self._forget_object()
        self.open_raster()

    # --- the tool ---------------------------------------------------------------------------------------------------

    def activate(self, centre: QgsPointXY) -> None:
        """The map tool was taken up: get ready for the middle of the map.

        Args:
            centre: in the map's CRS.
        """
        self.hover.resume()
        session = self._session
        if session.raster is None and session.layer is not None and not self._opener.busy:
            self.open_raster()
        elif session.raster is not None:
            self.hover.prepare(centre)

    def deactivate(self) -> None:
        """The map tool was laid down; prompts and outline stay."""
        self.hover.stop()

    def add_point(self, point: QgsPointXY, positive: bool) -> None:  # noqa: FBT001 - also a signal's slot
        """Take a click.

        Args:
            point: in the map's CRS.
            positive: whether the place belongs to the object.
        """
        if self._hold(lambda: self.add_point(point, positive)):
            return
        place = self._to_raster(point)
        if place is None:
            return
        if not positive and not self._session.steps:
            self._session.notify(
                NoticeLevel.INFO,
                self.tr("Click on the object first (left button); then take away what does not belong to it."),
            )
            return
        self._add_step(Prompt(place.x(), place.y(), positive), point)

    def add_box(self, corners: tuple[QgsPointXY, ...]) -> None:
        """Take a box.

        Args:
            corners: four corners in the map's CRS, in order around the box.
        """
        if self._hold(lambda: self.add_box(corners)):
            return
        places = [self._to_raster(corner) for corner in corners]
        found = [(place.x(), place.y()) for place in places if place is not None]
        if len(found) == len(corners):
            middle = QgsPointXY(
                sum(corner.x() for corner in corners) / len(corners),
                sum(corner.y() for corner in corners) / len(corners),
            )
            self._add_step(Box(tuple(found)), middle)

    def undo(self) -> None:
        """Take back the last prompt, or what waits to be done after an accept."""
        session = self._session
        if self._held:
            self._held.pop()
            return
        self._accept_when_done = False
        if not session.steps:
            return
        session.set_steps(session.steps[:-1])
        if session.steps:
            self._answered = session.steps
            self.request_outline()
        else:
            self.clear()

    def clear(self) -> None:
        """Give up the object under way."""
        self._forget_object()
        self._session.reset_object()

    def accept(self) -> bool:
        """Keep the outline as a polygon of the target layer; waits for the outline when it is under way.

        Returns:
            Whether a polygon was written just now.
        """
        session = self._session
        if self._held:
            self._held.append(self.accept)
            return False
        if self._answer_due():
            self._accept_when_done = True
            return False
        if session.outline is None:
            session.notify(NoticeLevel.INFO, self.tr("There is no outline yet. Click on an object first."))
            return False
        if self._accept is None or not self._accept():
            return False
        self.clear()
        return True

    def cancel(self) -> None:
        """Stop whatever is under way, as the user asked."""
        busy_with_outline = self._answer_due()
        self._opener.cancel()
        self._segment.cancel()
        self._thumbnail.cancel()
        self.hover.pause()
        if busy_with_outline:
            self._drop_unanswered()

    def stop(self) -> None:
        """Drop all requests; for unloading."""
        self._slider_timer.stop()
        self._forget_object()
        self._opener.cancel()
        self._thumbnail.cancel()
        self.hover.stop()

    def level_at(self, point: QgsPointXY) -> int:
        """Return the level for an object at a place: the fixed one, or by the map's scale there.

        Args:
            point: in the map's CRS.

        Raises:
            PromptError: the place has no coordinates in the raster's CRS.
        """
        session = self._session
        if session.layer is None:
            return session.fixed_level or 0
        return self._level_for(self._frame.screen_pixel(point, session.layer.crs()))

    def _level_for(self, screen_pixel: float) -> int:
        raster, fixed = self._session.raster, self._session.fixed_level
        if raster is None:
            return fixed or 0
        if fixed is not None:
            return max(raster.min_level, min(fixed, raster.max_level))
        return auto_level(screen_pixel, raster)

    # --- the outline ------------------------------------------------------------------------------------------------

    def request_outline(self) -> None:
        """Ask for the outline of the session's prompts, now or once the request under way has answered."""
        session = self._session
        self._slider_timer.stop()
        if not session.steps or session.raster is None:
            return
        if self._level is None:
            self._level = self._level_for(self._screen_pixel)
        if self._segment.busy:
            self._outdated = True
            return
        self._outdated = False
        steps = session.steps
        params = SegmentParams(
            raster=session.raster.spec,
            model=session.model,
            level=self._level,
            points=session.points,
            box=session.box,
            outline=session.outline_options(self._level),
        )
        self._segment.send(
            Method.SEGMENT,
            params,
            lambda result: self._on_outline(cast("SegmentResult", result), steps, params),
            self._on_segment_failed,
        )

    def _add_step(self, step: Step, at: QgsPointXY) -> None:
        session = self._session
        if session.layer is None:
            return
        if not session.steps:
            try:
                self._screen_pixel = self._frame.screen_pixel(at, session.layer.crs())
            except PromptError as error:
                self._report(error)
                return
            self._level, self._raises, self._answered = None, 0, ()
        self._opener.stop_warming()
        self._thumbnail.cancel()
        self.hover.resume()
        self.hover.make_way(step)
        session.add_step(step)
        if session.raster is None and not self._opener.busy:
            self.open_raster()
        self.request_outline()

    def _answer_due(self) -> bool:
        """Return whether the session's prompts still wait for their outline."""
        session = self._session
        unanswered = bool(session.steps) and session.steps != self._answered
        return self._segment.busy or self._slider_timer.isActive() or (unanswered and self._opener.busy)

    def _hold(self, act: Callable[[], object]) -> bool:
        """Put something off until the accepted outline has been kept: it belongs to the next object."""
        if self._accept_when_done:
            self._held.append(act)
        return self._accept_when_done

    def _on_outline(self, result: SegmentResult, steps: tuple[Step, ...], sent: SegmentParams) -> None:
        session = self._session
        self._answered = steps
        raised = session.outline is not None and result.level > session.outline.result.level and self._raises > 0
        if result.empty is Empty.NONE:
            session.set_crop(result.crop, result.level)
            session.set_outline(Outline(from_wkb_hex(result.wkb), result, sent))
        elif raised and session.outline is not None:
            self._level = session.outline.result.level
        else:
            session.set_crop(result.crop, result.level)
            session.set_outline(None, result.message or self.tr("Nothing found here. Click elsewhere or zoom in."))
        if self._outdated:
            self.request_outline()
        elif not self._raise_level(result):
            self._thumbnail.refresh()
            self._accept_if_waiting()

    def _raise_level(self, result: SegmentResult) -> bool:
        raster = self._session.raster
        if raster is None or self._level is None or self._session.fixed_level is not None:
            return False
        if not result.touches_edge or result.empty is not Empty.NONE:
            return False
        if self._raises >= MAX_RAISES or result.level >= raster.max_level:
            return False
        self._raises += 1
        self._level = result.level + 1
        self.request_outline()
        return True

    def _on_segment_failed(self, error: SamTuneError) -> None:
        self._drop_unanswered()
        self._report(error)

    def _drop_unanswered(self) -> None:
        session = self._session
        self._outdated = self._accept_when_done = False
        self._held.clear()
        if session.outline is not None:
            self._level = session.outline.result.level
        kept = 0
        for step, answered in zip(session.steps, self._answered):
            if step != answered:
                break
            kept += 1
        session.set_steps(session.steps[:kept])
        if not session.steps:
            session.reset_object()

    def _accept_if_waiting(self) -> None:
        if not self._accept_when_done:
            return
        self._accept_when_done = False
        held, self._held = self._held, []
        if self._session.outline is None:
            if held:
                self.clear()  # nothing was found: what was done meanwhile is about the next object all the same
        elif not self.accept():
            return  # the user was told why, or has changed their mind; the outline stays and so must be alone
        for act in held:
            act()

    def _forget_object(self) -> None:
        self._segment.cancel()
        self._thumbnail.cancel()
        self._slider_timer.stop()
        self._held.clear()
        self._level, self._raises, self._answered = None, 0, ()
        self._outdated = self._accept_when_done = False

    # --- the rest ---------------------------------------------------------------------------------------------------

    def _on_model_changed(self) -> None:
        self._segment.cancel()
        self.hover.stop()
        self.request_outline()

    def _on_level_changed(self) -> None:
        session = self._session
        self.hover.stop()
        if session.fixed_level is not None and session.raster is not None and session.steps:
            self._segment.cancel()
            self._level = max(session.raster.min_level, min(session.fixed_level, session.raster.max_level))
            self.request_outline()

    def _to_raster(self, point: QgsPointXY) -> QgsPointXY | None:
        layer = self._session.layer
        problem = self._session.layer_problem
        if layer is None or problem:
            text = problem or self.tr("Choose a raster layer in the SamTune panel first.")
            self._session.notify(NoticeLevel.INFO, text)
            return None
        try:
            return self._frame.to_raster(point, layer.crs())
        except PromptError as error:
            self._report(error)
            return None

    def _report(self, error: SamTuneError) -> None:
        level = NoticeLevel.INFO if isinstance(error, PromptError) else NoticeLevel.ERROR
        self._session.notify(level, error.user_text, f"{error.kind}: {error.details}")
