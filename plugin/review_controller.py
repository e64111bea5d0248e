"""Review: shows one polygon after the other, and has each accepted, rejected or redone through the edit buffer."""

from __future__ import annotations

from collections.abc import Callable

from qgis.core import Qgis, QgsFeature, QgsProject, QgsVectorLayer
from qgis.gui import QgsMapCanvas, QgsRubberBand
from qgis.PyQt.QtCore import QObject, Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor

from ..models.errors import OutputError
from .acceptor import Acceptor, Redo
from .canvas_keys import CanvasKeys
from .map_frame import zoom_to
from .review_queue import REVIEWED, SCORE, ReviewQueue
from .session import NoticeLevel, Session
from .target_fields import add_fields, converted_value
from .target_layer import AskConsent, check_changeable, editing, one_command

HIGHLIGHT = QColor(0, 114, 178)


class ReviewController(QObject):
    """One review at a time, of the target layer. Every step is one undo command; Ctrl+Z takes it back.

    Attributes:
        queue: what is left to review; None while there is no review.
        band: shows the current polygon.

    Signals:
        changed: begun, ended, or at another polygon.
    """

    changed = pyqtSignal()

    def __init__(
        self,
        session: Session,
        canvas: QgsMapCanvas,
        project: QgsProject,
        acceptor: Acceptor,
        ask: AskConsent,
        take_up_tool: Callable[[], None],
        parent: QObject | None = None,
    ) -> None:
        """Keep what is needed.

        Args:
            session: the state.
            canvas: the map.
            project: tells when the target layer goes.
            acceptor: replaces the polygon that is redone.
            ask: asks whether the field ``reviewed`` may be added.
            take_up_tool: makes the click tool the map's.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._canvas = canvas
        self._project = project
        self._acceptor = acceptor
        self._ask = ask
        self._take_up_tool = take_up_tool
        self.queue: ReviewQueue | None = None
        self._shown: int | None = None
        self.band = QgsRubberBand(canvas, Qgis.GeometryType.Polygon)
        self.band.setStrokeColor(HIGHLIGHT)
        self.band.setSecondaryStrokeColor(QColor(255, 255, 255, 200))
        self.band.setFillColor(QColor(0, 114, 178, 40))
        self.band.setWidth(3)
        self.band.hide()
        keys = {
            Qt.Key.Key_N: self.next,
            Qt.Key.Key_P: self.previous,
            Qt.Key.Key_A: self.accept,
            Qt.Key.Key_R: self.reject,
            Qt.Key.Key_F: self.fix,
        }
        self._keys = CanvasKeys(canvas, keys, lambda _key: self.queue is not None, self)
        acceptor.accepted.connect(self._on_accepted)
        session.steps_changed.connect(self._on_steps)
        canvas.destinationCrsChanged.connect(self._draw)

    # --- begin and end ----------------------------------------------------------------------------------------------

    def start(self, layer: QgsVectorLayer) -> None:
        """Begin a review; asks first where the layer has no field ``reviewed``.

        Args:
            layer: polygon layer.
        """
        self.stop()
        try:
            check_changeable(layer)
            if not self._has_flag(layer):
                return
        except OutputError as error:
            self._report(error)
            return
        self.queue = ReviewQueue(layer, self)
        self.queue.changed.connect(self._on_queue)
        self.queue.ended.connect(self.stop)
        self._keys.set_on(True)
        self._canvas.setFocus()
        self.changed.emit()

    def stop(self) -> None:
        """End the review; what was decided stays in the edit buffer."""
        queue, self.queue = self.queue, None
        if queue is None:
            return
        queue.close()
        queue.deleteLater()
        self._keys.set_on(False)
        self._give_up_redo()
        self._shown = None
        self.band.hide()
        self.changed.emit()

    def remove(self) -> None:
        """End, and take the band out of the map; for unloading."""
        self.stop()
        self._canvas.destinationCrsChanged.disconnect(self._draw)
        self._canvas.scene().removeItem(self.band)

    def _has_flag(self, layer: QgsVectorLayer) -> bool:
        if layer.fields().lookupField(REVIEWED) >= 0:
            return True
        if not self._ask(layer, (REVIEWED,)):
            return False
        with editing(layer), one_command(layer, self.tr("Add the field for reviews")):
            add_fields(layer, (REVIEWED,))
        return True

    # --- what the user does -----------------------------------------------------------------------------------------

    def next(self) -> None:
        """Go to the next polygon; nothing is decided about this one."""
        if self.queue is not None:
            self._give_up_redo()
            self.queue.next()

    def previous(self) -> None:
        """Go to the polygon before."""
        if self.queue is not None:
            self._give_up_redo()
            self.queue.previous()

    def accept(self) -> None:
        """Keep the polygon as it is: it counts as reviewed."""
        self._decide(self.tr("Accept a polygon"), _set_reviewed)

    def reject(self) -> None:
        """Delete the polygon."""
        self._decide(self.tr("Reject a polygon"), lambda layer, feature: layer.deleteFeature(feature.id()))

    def fix(self) -> None:
        """Have the polygon clicked anew: what is accepted next takes its place."""
        feature = self.queue.feature() if self.queue is not None else None
        if feature is None or self.queue is None or self.queue.layer is None:
            return
        if self._session.layer is None or self._session.layer_problem:
            self._session.notify(NoticeLevel.INFO, self.tr("Choose the raster layer to click on first."))
            return
        self._session.reset_object()
        self._acceptor.redo = Redo(self.queue.layer, feature.id())
        self._take_up_tool()
        text = self.tr("Click the object anew; Enter puts the outline in the polygon's place. N leaves it as it is.")
        self._session.notify(NoticeLevel.INFO, text)
        self.changed.emit()

    def _decide(self, text: str, act: Callable[[QgsVectorLayer, QgsFeature], bool]) -> None:
        feature = self.queue.feature() if self.queue is not None else None
        if feature is None or self.queue is None or self.queue.layer is None:
            return
        layer = self.queue.layer
        self._give_up_redo()
        try:
            check_changeable(layer)
            with editing(layer), one_command(layer, text):
                if not act(layer, feature):
                    raise OutputError(  # noqa: TRY301 - the command is undone by it
                        self.tr("“{layer}” did not take the change. Look at its constraints.").format(
                            layer=layer.name()
                        )
                    )
        except OutputError as error:
            self._report(error)
            return
        layer.triggerRepaint()

    def _give_up_redo(self) -> None:
        if self._acceptor.redo is not None:
            self._acceptor.redo = None
            self._session.reset_object()
            self.changed.emit()

    def _on_accepted(self, _outline: object) -> None:
        if self._acceptor.redo is not None:
            self._acceptor.redo = None
            self.changed.emit()

    def _on_steps(self) -> None:
        self._draw()

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _on_queue(self) -> None:
        queue = self.queue
        if queue is None:
            return
        if queue.current != self._shown:
            if self._acceptor.redo is not None and self._acceptor.redo.feature_id != queue.current:
                self._give_up_redo()
            self._shown = queue.current
            feature = queue.feature()
            if feature is not None and feature.hasGeometry() and queue.layer is not None:
                zoom_to(self._canvas, feature.geometry(), queue.layer.crs(), self._project)
        self._draw()
        self.changed.emit()

    def _draw(self) -> None:
        feature = self.queue.feature() if self.queue is not None else None
        if feature is None or not feature.hasGeometry() or self.queue is None or self.queue.layer is None:
            self.band.hide()
            return
        self.band.setToGeometry(feature.geometry(), self.queue.layer)
        self.band.setFillColor(QColor(0, 114, 178, 0 if self._session.steps else 40))
        self.band.show()

    def text(self) -> str:
        """Say where the review is, for the panel."""
        queue = self.queue
        if queue is None:
            return ""
        if queue.reading:
            return self.tr("Reading the layer…")
        feature = queue.feature()
        if feature is None:
            return self.tr("Everything is reviewed. Save the layer to keep it.")
        parts = [self.tr("{place} of {total}").format(place=queue.position, total=queue.total)]
        for name, form in (("class", "{}"), (SCORE, self.tr("score {:.2f}"))):
            index = feature.fields().lookupField(name)
            value = feature.attribute(index) if index >= 0 else None
            if isinstance(value, (str, float)) and value != "":
                parts.append(form.format(value))
        return " · ".join(parts)

    def _report(self, error: OutputError) -> None:
        self._session.notify(NoticeLevel.ERROR, error.user_text, error.details)


def _set_reviewed(layer: QgsVectorLayer, feature: QgsFeature) -> bool:
    index = layer.fields().lookupField(REVIEWED)
    value = converted_value(layer.fields().at(index), True)
    return bool(layer.changeAttributeValue(feature.id(), index, value))
