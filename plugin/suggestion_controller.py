"""Label here next: asks where labelling would teach the most, and goes through the places one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from qgis.core import QgsCoordinateReferenceSystem, QgsGeometry, QgsPointXY, QgsProject
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import QObject, Qt, pyqtSignal

from ..engine.area_messages import Suggestion, SuggestParams, SuggestResult
from ..engine.messages import Method, RasterSpec
from ..engine.provenance import raster_name
from ..engine.tune_messages import LabelSource
from ..models.errors import SamTuneError
from .acceptor import Acceptor
from .canvas_keys import CanvasKeys
from .label_file import LabelWriter
from .latest_request import LatestRequest, Service
from .map_frame import MapFrame, from_wkb_hex, zoom_to
from .session import NoticeLevel, Outline, Session
from .suggestion_bands import SuggestionBands
from .target_layer import Accepted

PROMPT = "suggestion"
"""What the attribute ``prompt`` of an outline says that was accepted as suggested."""


class SuggestionController(QObject):
    """One list of places at a time. Those accepted, fixed or dismissed leave it.

    Attributes:
        places: the places left, by their numbers from 1.
        current: number of the one that the map shows; None where none is left.

    Signals:
        changed: another list, or another place.
    """

    changed = pyqtSignal()

    def __init__(
        self,
        session: Session,
        work: Service,
        canvas: QgsMapCanvas,
        project: QgsProject,
        acceptor: Acceptor,
        take_up_tool: Callable[[], None],
        click: Callable[[QgsPointXY], None],
        parent: QObject | None = None,
    ) -> None:
        """Keep what is needed.

        Args:
            session: the state.
            work: sends requests to the engine for long work.
            canvas: the map.
            project: for datum transformations.
            acceptor: writes what is accepted.
            take_up_tool: makes the click tool the map's.
            click: clicks at a place, in the map's CRS, as the user would.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._canvas = canvas
        self._project = project
        self._acceptor = acceptor
        self._take_up_tool = take_up_tool
        self._click = click
        self._request = LatestRequest(work, session, "suggest", self.tr("Looking for places to label…"))
        self._labels = LabelWriter(session, "suggest-labels", self)
        self.places: dict[int, Suggestion] = {}
        self.current: int | None = None
        self._crs = QgsCoordinateReferenceSystem()
        self._sent: SuggestParams | None = None
        self._bands = SuggestionBands(canvas, project)
        keys = {
            Qt.Key.Key_N: self.next,
            Qt.Key.Key_Space: self.next,
            Qt.Key.Key_Return: self.accept,
            Qt.Key.Key_Enter: self.accept,
            Qt.Key.Key_F: self.fix,
            Qt.Key.Key_X: self.dismiss,
        }
        self._keys = CanvasKeys(canvas, keys, self._may_act, self)
        acceptor.accepted.connect(self._on_accepted)
        session.layer_changed.connect(self.stop)
        canvas.destinationCrsChanged.connect(self._draw)

    @property
    def busy(self) -> bool:
        """Return whether places are being looked for."""
        return self._labels.busy or self._request.busy

    # --- asking -----------------------------------------------------------------------------------------------------

    def start(self, area: str) -> None:
        """Ask for places, with the target layer's polygons as what is labelled already.

        Args:
            area: hexadecimal WKB in the raster's CRS; empty for the whole raster.
        """
        self.stop()
        session = self._session
        if session.layer is None or session.raster is None:
            return
        self._crs = session.layer.crs()
        spec = session.raster.spec
        if session.target is None or session.target.featureCount() == 0:
            self._ask(spec, area, LabelSource(""))
            return
        self._labels.write(
            session.target, session.class_field, lambda labels: self._ask(spec, area, labels), self._on_failed
        )

    def cancel(self) -> None:
        """Stop looking; places that are shown stay."""
        self._request.cancel()
        self._labels.drop()

    def stop(self) -> None:
        """Stop looking, and take the places away."""
        self.cancel()
        if self.places:
            self.places, self.current = {}, None
            self._keys.set_on(False)
            self._bands.clear()
            self.changed.emit()

    def remove(self) -> None:
        """Take everything down; for unloading."""
        self.stop()
        self._canvas.destinationCrsChanged.disconnect(self._draw)

    def _ask(self, spec: RasterSpec, area: str, labels: LabelSource) -> None:
        adapters = self._session.adapters
        params = SuggestParams(
            raster=spec,
            model=self._session.model,
            labels=labels,
            area=area,
            adapter=adapters.path,
            second=adapters.second_path,
            level=self._session.fixed_level,
        )
        self._sent = params
        self._request.send(
            Method.SUGGEST, params, lambda result: self._on_places(cast("SuggestResult", result)), self._on_failed
        )

    def _on_places(self, result: SuggestResult) -> None:
        self._labels.drop()
        session = self._session
        for note in result.notes:
            session.notify(NoticeLevel.INFO, note)
        if not result.suggestions:
            text = self.tr("There is nothing to suggest here. Move the map to other ground, and ask again.")
            session.notify(NoticeLevel.WARNING, text)
            return
        self.places = dict(enumerate(result.suggestions, 1))
        self._take_up_tool()
        self._keys.set_on(True)
        self._go_to(1)

    def _on_failed(self, error: SamTuneError) -> None:
        self._labels.drop()
        self._session.notify(NoticeLevel.ERROR, error.user_text, f"{error.kind}: {error.details}")

    # --- what the user does -----------------------------------------------------------------------------------------

    def next(self) -> None:
        """Go to the next place, from the last to the first; an object under way is given up."""
        numbers = list(self.places)
        if numbers:
            self._session.reset_object()
            after = [number for number in numbers if self.current is not None and number > self.current]
            self._go_to(after[0] if after else numbers[0])

    def accept(self) -> None:
        """Keep the current place's outline as a polygon of the target layer."""
        place, sent = self.places.get(self.current or 0), self._sent
        if place is None or sent is None:
            return
        accepted = Accepted(
            geometry=from_wkb_hex(place.wkb),
            crs=self._crs,
            score=1.0 - place.uncertainty,
            model=sent.model,
            prompt=PROMPT,
            raster=raster_name(sent.raster.uri),
            bands=sent.raster.bands,
            class_value=self._session.class_value,
            adapter=self._adapter_name(sent),
        )
        if self._acceptor.keep(accepted):
            self._leave(self.current)

    def fix(self) -> None:
        """Click at the current place with the click tool; more clicks mend the outline, Enter keeps it."""
        place = self.places.get(self.current or 0)
        if place is None:
            return
        self._take_up_tool()
        self._session.reset_object()
        point = self._to_map(QgsPointXY(place.x, place.y))
        if point is not None:
            self._click(point)

    def dismiss(self) -> None:
        """Do without the current place."""
        self._session.reset_object()
        self._leave(self.current)

    def text(self) -> str:
        """Say where the list is, for the panel."""
        place = self.places.get(self.current or 0)
        if place is None:
            return ""
        return self.tr("No. {number}, {left} left · {reason}").format(
            number=self.current, left=len(self.places), reason=place.reason
        )

    def _may_act(self, key: Qt.Key) -> bool:
        """Leave Enter to the click tool while an object is being clicked."""
        return not (key in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self._session.steps)

    def _on_accepted(self, outline: Outline) -> None:
        """Whatever was clicked and kept: places that lie in it are labelled now."""
        covered = [
            number
            for number, place in self.places.items()
            if outline.geometry.intersects(QgsGeometry.fromPointXY(QgsPointXY(place.x, place.y)))
        ]
        for number in covered:
            self._leave(number)

    def _leave(self, number: int | None) -> None:
        if number is None or number not in self.places:
            return
        numbers = list(self.places)
        del self.places[number]
        if number != self.current:
            self._show()
        elif self.places:
            after = [other for other in numbers if other > number]
            self._go_to(after[0] if after else next(iter(self.places)))
        else:
            self._end_of_list()

    def _end_of_list(self) -> None:
        """All places are done: say so, and take the keys back."""
        self.current = None
        self._keys.set_on(False)
        self._bands.clear()
        self._session.notify(NoticeLevel.SUCCESS, self.tr("All suggestions are done."))
        self.changed.emit()

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _go_to(self, number: int) -> None:
        self.current = number
        zoom_to(self._canvas, from_wkb_hex(self.places[number].wkb), self._crs, self._project)
        self._show()

    def _show(self) -> None:
        self._draw()
        self.changed.emit()

    def _draw(self) -> None:
        shown = {
            number: (from_wkb_hex(place.wkb), QgsPointXY(place.x, place.y)) for number, place in self.places.items()
        }
        self._bands.show(shown, self._crs, self.current)

    def _to_map(self, point: QgsPointXY) -> QgsPointXY | None:
        shown = MapFrame(self._canvas, self._project).to_map(QgsGeometry.fromPointXY(point), self._crs)
        return shown.asPoint() if shown is not None else None

    def _adapter_name(self, sent: SuggestParams) -> str:
        known = (summary for summary in self._session.adapters.known if str(summary.path) == sent.adapter)
        return next((summary.name for summary in known), "")
