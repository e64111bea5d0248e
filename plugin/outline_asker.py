"""From the session's prompts to an outline: when to ask, at which level, and what to make of the answer."""

from __future__ import annotations

from typing import cast

from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from ..engine.messages import Empty, Method, SegmentParams, SegmentResult
from ..models.errors import PromptError, SamTuneError, TuningError
from .latest_request import LatestRequest, Service
from .map_frame import auto_level, from_wkb_hex
from .session import NoticeLevel, Outline, Session, Step

MAX_RAISES = 2
"""How often an object that reaches over its crop is asked for again, one level coarser."""

SLIDER_DELAY_MS = 60


class OutlineAsker(QObject):
    """Keeps the session's outline to the session's prompts.

    At most one ``segment`` request is under way: prompts that come meanwhile go together in the next one, because the
    encoding under way is needed for them as well.

    Signals:
        settled: the outline, or that there is none, is the answer to all prompts.
        dropped: prompts that were not answered have been taken away.
    """

    settled = pyqtSignal()
    dropped = pyqtSignal()

    def __init__(self, session: Session, service: Service, parent: QObject | None = None) -> None:
        """Listen to the session's sliders.

        Args:
            session: the state.
            service: sends requests to the engine.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._segment = LatestRequest(service, session, "segment", self.tr("Looking at the image…"))
        self._level: int | None = None
        self._screen_pixel = 0.0
        self._raises = 0
        self._answered: tuple[Step, ...] = ()
        self._outdated = False
        self._slider_timer = QTimer(self)
        self._slider_timer.setSingleShot(True)
        self._slider_timer.setInterval(SLIDER_DELAY_MS)
        self._slider_timer.timeout.connect(self.request)
        session.options_changed.connect(self._slider_timer.start)

    @property
    def busy(self) -> bool:
        """Return whether an answer is on its way, or is about to be asked for."""
        return self._segment.busy or self._slider_timer.isActive()

    @property
    def all_answered(self) -> bool:
        """Return whether the outline is the answer to all of the session's prompts."""
        return self._session.steps == self._answered

    def begin(self, screen_pixel: float) -> None:
        """Begin another object.

        Args:
            screen_pixel: side of a screen pixel where it is, raster CRS units. Its level follows from that once the
                raster is open.
        """
        self._screen_pixel = screen_pixel
        self._level, self._raises, self._answered = None, 0, ()

    def request(self) -> None:
        """Ask for the outline of the session's prompts, now or once the request under way has answered."""
        session = self._session
        self._slider_timer.stop()
        if not session.steps or session.raster is None or session.adapters.problem:
            return
        if self._level is None:
            self._level = self.level_for(self._screen_pixel)
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
            adapter=session.adapters.path,
            second=session.adapters.second_path,
        )
        self._segment.send(
            Method.SEGMENT,
            params,
            lambda result: self._on_outline(cast("SegmentResult", result), steps, params),
            self._on_failed,
        )

    def request_at(self, level: int) -> None:
        """Ask anew at another level, in place of what is under way."""
        self._segment.cancel()
        self._level = level
        self.request()

    def step_taken_back(self) -> None:
        """Ask for the prompts that are left; of them, as many as before have been answered."""
        self._answered = self._answered[: len(self._session.steps)]
        self.request()

    def cancel(self) -> None:
        """Stop asking; the prompts stay."""
        self._segment.cancel()

    def forget(self) -> None:
        """Stop asking and forget the object."""
        self._segment.cancel()
        self._slider_timer.stop()
        self._outdated = False
        self.begin(0.0)

    def drop_unanswered(self) -> None:
        """Take away the prompts that will not be answered; the outline shown is that of those that stay."""
        session = self._session
        self._outdated = False
        self._slider_timer.stop()
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
        self.dropped.emit()

    def level_for(self, screen_pixel: float) -> int:
        """Return the level for an object: the fixed one, or by the map's scale.

        Args:
            screen_pixel: side of a screen pixel, raster CRS units.
        """
        raster, fixed = self._session.raster, self._session.fixed_level
        if raster is None:
            return fixed or 0
        if fixed is not None:
            return max(raster.min_level, min(fixed, raster.max_level))
        return auto_level(screen_pixel, raster)

    def _on_outline(self, result: SegmentResult, steps: tuple[Step, ...], sent: SegmentParams) -> None:
        session = self._session
        self._answered = steps
        session.adapters.set_notes(result.notes)
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
            self.request()
        elif not self._raise_level(result):
            self.settled.emit()

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
        self.request()
        return True

    def _on_failed(self, error: SamTuneError) -> None:
        self.drop_unanswered()
        if isinstance(error, TuningError):
            self._session.adapters.doubted.emit()
        level = NoticeLevel.INFO if isinstance(error, PromptError) else NoticeLevel.ERROR
        self._session.notify(level, error.user_text, f"{error.kind}: {error.details}")
