"""Between the session and the engine: opens the raster, turns prompts into an outline, has it accepted."""

from __future__ import annotations

from collections.abc import Callable

from qgis.core import QgsPointXY
from qgis.PyQt.QtCore import QObject

from ..engine.messages import Prompt
from ..models.errors import PromptError, SamTuneError
from .hover import HoverPreview
from .latest_request import Service
from .map_frame import MapFrame
from .outline_asker import OutlineAsker
from .raster_opener import RasterOpener
from .session import Box, NoticeLevel, Session, Step
from .thumbnail import Thumbnail

Accept = Callable[[], bool]


class ClickController(QObject):
    """Takes clicks, boxes, undo and accept, and sees to it that the engine hears of them when it can.

    Nothing is lost to waiting: prompts given while the raster is being opened are sent once it is open, and what is
    done while an outline waits to be kept is done after that.
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
        self._frame = frame
        self._opener = RasterOpener(session, service, self)
        self._asker = OutlineAsker(session, service, self)
        self._thumbnail = Thumbnail(session, service, self)
        self.hover = HoverPreview(session, service, frame, self.level_at, self)
        self._accept_when_done = False
        self._held: list[Callable[[], object]] = []
        self._accept: Accept | None = None
        self._opener.opened.connect(self._on_opened)
        self._opener.failed.connect(self._asker.drop_unanswered)
        self._asker.settled.connect(self._on_settled)
        self._asker.dropped.connect(self._hold_no_more)
        self.hover.preparing.connect(self._opener.stop_warming)
        session.layer_changed.connect(self._on_layer_changed)
        session.source_changed.connect(self.open_raster)
        session.style_changed.connect(self._on_style_changed)
        session.model_changed.connect(self._on_model_changed)
        session.adapters.changed.connect(self._on_model_changed)
        session.level_changed.connect(self._on_level_changed)

    def set_accept(self, accept: Accept) -> None:
        """Set what writes the current outline; it returns whether it did."""
        self._accept = accept

    # --- the raster -------------------------------------------------------------------------------------------------

    def open_raster(self) -> None:
        """Open the session's layer in the engine, with its bands and stretch."""
        self._asker.cancel()
        self._thumbnail.cancel()
        self.hover.stop()
        self._opener.open()

    def _on_opened(self) -> None:
        self._session.set_thumbnail(b"")
        self._asker.request()

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
        if len(session.steps) == 1:
            self.clear()
        elif session.steps:
            session.set_steps(session.steps[:-1])
            self._asker.step_taken_back()

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
        if self.answer_due:
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
        was_due = self.answer_due
        self._opener.cancel()
        self._asker.cancel()
        self._thumbnail.cancel()
        self.hover.pause()
        if was_due:
            self._asker.drop_unanswered()

    def stop(self) -> None:
        """Drop all requests; for unloading."""
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
        return self._asker.level_for(self._frame.screen_pixel(point, session.layer.crs()))

    @property
    def answer_due(self) -> bool:
        """Return whether the session's prompts still wait for their outline."""
        unanswered = bool(self._session.steps) and not self._asker.all_answered
        return self._asker.busy or (unanswered and self._opener.busy)

    # --- the outline ------------------------------------------------------------------------------------------------

    def _add_step(self, step: Step, at: QgsPointXY) -> None:
        session = self._session
        if session.layer is None:
            return
        if not session.steps:
            try:
                self._asker.begin(self._frame.screen_pixel(at, session.layer.crs()))
            except PromptError as error:
                self._report(error)
                return
        self._opener.stop_warming()
        self._thumbnail.cancel()
        self.hover.resume()
        self.hover.make_way(step)
        session.add_step(step)
        if session.raster is None and not self._opener.busy:
            self.open_raster()
        self._asker.request()

    def _hold(self, act: Callable[[], object]) -> bool:
        """Put something off until the accepted outline has been kept: it belongs to the next object."""
        if not self.answer_due:
            self._hold_no_more()  # the answer was lost with an engine that was ended on purpose
        if self._accept_when_done:
            self._held.append(act)
        return self._accept_when_done

    def _hold_no_more(self) -> None:
        self._accept_when_done = False
        self._held.clear()

    def _on_settled(self) -> None:
        self._thumbnail.refresh()
        self._accept_if_waiting()

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
        self._asker.forget()
        self._thumbnail.cancel()
        self._hold_no_more()

    # --- the rest ---------------------------------------------------------------------------------------------------

    def _on_model_changed(self) -> None:
        self._asker.cancel()
        self.hover.stop()
        self._asker.request()

    def _on_level_changed(self) -> None:
        session = self._session
        self.hover.stop()
        if session.fixed_level is not None and session.raster is not None and session.steps:
            self._asker.request_at(self._asker.level_for(0.0))

    def _to_raster(self, point: QgsPointXY) -> QgsPointXY | None:
        layer = self._session.layer
        problem = self._session.layer_problem or self._session.adapters.problem
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
