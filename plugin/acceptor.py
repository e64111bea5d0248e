"""Accept: the session's outline goes into the session's target layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qgis.core import QgsProject
from qgis.PyQt.QtCore import QObject

from ..engine.provenance import prompt_kind, raster_name
from ..models.errors import OutputError
from .new_geopackage import create_geopackage, load_geopackage
from .session import NoticeLevel, Outline, Session
from .target_fields import CLASS
from .target_layer import Accepted, AskConsent, TargetWriter

AskPath = Callable[[], str]
"""Asks where a new GeoPackage goes; empty for a change of mind."""


class Acceptor(QObject):
    """Writes accepted outlines, and makes new target layers."""

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
        self._writer = TargetWriter(project, ask_consent)

    def accept(self) -> bool:
        """Write the outline; asks for a new GeoPackage where there is no target.

        Returns:
            Whether it was written. If not, the user has been told why.
        """
        session = self._session
        outline = session.outline
        if outline is None or session.layer is None:
            return False
        if session.target is None and not self.new_target():
            return False
        if session.target is None:
            return False
        try:
            written = self._writer.write(session.target, self._accepted(outline), session.class_field)
        except OutputError as error:
            session.notify(NoticeLevel.ERROR, error.user_text, error.details)
            return False
        self._show_class_field()
        if written.dropped_parts:
            session.notify(
                NoticeLevel.WARNING,
                self.tr(
                    "“{layer}” takes single polygons: the largest part was kept, %n other part(s) dropped.",
                    "",
                    written.dropped_parts,
                ).format(layer=session.target.name()),
            )
        else:
            session.notify(NoticeLevel.SUCCESS, self.tr("Added to “{layer}”.").format(layer=session.target.name()))
        return True

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

    def _accepted(self, outline: Outline) -> Accepted:
        session = self._session
        if session.layer is None:
            raise OutputError(self.tr("The raster layer is gone. Choose one and click again."))
        return Accepted(
            geometry=outline.geometry,
            crs=session.layer.crs(),
            score=outline.result.score,
            model=outline.sent.model,
            prompt=prompt_kind(points=bool(outline.sent.points), box=bool(outline.sent.box)),
            raster=raster_name(outline.sent.raster.uri),
            bands=outline.sent.raster.bands,
            class_value=session.class_value,
            adapter=outline.result.adapter,
        )
