"""Accept: the session's outline goes into the session's target layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qgis.core import QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..engine.provenance import prompt_kind, raster_name
from ..models.errors import OutputError
from .new_geopackage import create_geopackage, load_geopackage
from .session import NoticeLevel, Outline, Session
from .target_fields import CLASS
from .target_layer import Accepted, AskConsent, TargetWriter, Written

AskPath = Callable[[], str]
"""Asks where a new GeoPackage goes; empty for a change of mind."""


@dataclass(frozen=True)
class Redo:
    """A feature that the next accepted outline replaces."""

    layer: QgsVectorLayer
    feature_id: int


class Acceptor(QObject):
    """Writes accepted outlines, and makes new target layers.

    Attributes:
        writer: writes single objects; remembers the answers of the user.
        redo: where there is one, the next outline replaces that feature in place of becoming another.

    Signals:
        accepted: the outline that was written.
    """

    accepted = pyqtSignal(object)

    def __init__(
        self,
        session: Session,
        project: QgsProject,
        ask_consent: AskConsent,
        ask_path: AskPath,
        parent: QObject | None = None,
    ) -> None:
        """Keep what is needed.

        Args:
            session: the state.
            project: where new layers go.
            ask_consent: asks whether fields may be added to a layer.
            ask_path: asks for the path of a new GeoPackage.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._project = project
        self._ask_path = ask_path
        self.writer = TargetWriter(project, ask_consent)
        self.redo: Redo | None = None

    def accept(self) -> bool:
        """Write the outline; asks for a new GeoPackage where there is no target.

        Returns:
            Whether it was written. If not, the user has been told why.
        """
        session = self._session
        outline = session.outline
        if outline is None or session.layer is None:
            return False
        accepted = self._accepted(outline, session.layer)
        done = self._replace(self.redo, accepted) if self.redo is not None else self.keep(accepted)
        if done:
            self.accepted.emit(outline)
        return done

    def keep(self, accepted: Accepted) -> bool:
        """Write an object into the target; asks for a new GeoPackage where there is none.

        Returns:
            Whether it was written. If not, the user has been told why.
        """
        session = self._session
        if session.target is None and not self.new_target():
            return False
        if session.target is None:
            return False
        try:
            written = self.writer.write(session.target, accepted, session.class_field)
        except OutputError as error:
            session.notify(NoticeLevel.ERROR, error.user_text, error.details)
            return False
        self._show_class_field()
        self._tell(session.target, written, self.tr("Added to “{layer}”."))
        return True

    def _replace(self, redo: Redo, accepted: Accepted) -> bool:
        try:
            written = self.writer.replace(redo.layer, redo.feature_id, accepted)
        except OutputError as error:
            self._session.notify(NoticeLevel.ERROR, error.user_text, error.details)
            return False
        self._tell(redo.layer, written, self.tr("Replaced in “{layer}”."))
        return True

    def _tell(self, layer: QgsVectorLayer, written: Written, text: str) -> None:
        if written.dropped_parts:
            self._session.notify(
                NoticeLevel.WARNING,
                self.tr(
                    "“{layer}” takes single polygons: the largest part was kept, %n other part(s) dropped.",
                    "",
                    written.dropped_parts,
                ).format(layer=layer.name()),
            )
        else:
            self._session.notify(NoticeLevel.SUCCESS, text.format(layer=layer.name()))

    def _show_class_field(self) -> None:
        """Choose the field that took the class, which may have been added just now."""
        session = self._session
        if session.target is not None and not session.class_field:
            names = session.target.fields().names()
            session.set_target(session.target, next((name for name in names if name.lower() == CLASS), ""))

    def new_target(self) -> bool:
        """Make a new GeoPackage, add it to the project and choose it as the target.

        Returns:
            Whether that was done.
        """
        session = self._session
        path = self._ask_path()
        if not path:
            return False
        crs = session.layer.crs() if session.layer is not None else self._project.crs()
        try:
            layer = load_geopackage(create_geopackage(Path(path), crs, self._project.transformContext()))
        except OutputError as error:
            session.notify(NoticeLevel.ERROR, error.user_text, error.details)
            return False
        self._project.addMapLayer(layer)
        layer.startEditing()
        session.set_target(layer, CLASS)
        return True

    def _accepted(self, outline: Outline, layer: QgsRasterLayer) -> Accepted:
        return Accepted(
            geometry=outline.geometry,
            crs=layer.crs(),
            score=outline.result.score,
            model=outline.sent.model,
            prompt=prompt_kind(points=bool(outline.sent.points), box=bool(outline.sent.box)),
            raster=raster_name(outline.sent.raster.uri),
            bands=outline.sent.raster.bands,
            class_value=self._session.class_value,
            adapter=outline.result.adapter,
        )
