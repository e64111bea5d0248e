"""Class map: has the engine write one, and puts it into the project with its colours and names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from qgis.core import QgsPalettedRasterRenderer, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QObject, pyqtSignal
from qgis.PyQt.QtGui import QColor

from ..engine.area_messages import MapClass, MapParams, MapResult
from ..engine.messages import Method
from ..models.errors import OutputError, SamTuneError
from .latest_request import LatestRequest, Service
from .session import NoticeLevel, Session

SUFFIX = ".tif"


@dataclass(frozen=True)
class MapOrder:
    """What to map and where to write it.

    Attributes:
        area: hexadecimal WKB in the raster's CRS; empty for the whole raster.
        output: GeoTIFF to write.
        confidence: also write how sure each pixel is, beside the map.
    """

    area: str
    output: Path
    confidence: bool = False


class ClassMapController(QObject):
    """One map at a time, made by the engine for long work.

    Signals:
        finished: the raster layer of the map.
    """

    finished = pyqtSignal(object)

    def __init__(self, session: Session, work: Service, project: QgsProject, parent: QObject | None = None) -> None:
        """Keep what is needed.

        Args:
            session: the state.
            work: sends requests to the engine for long work.
            project: gets the map as a layer.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._project = project
        self._map = LatestRequest(work, session, "class-map", self.tr("Making the class map…"))

    @property
    def busy(self) -> bool:
        """Return whether a map is being made."""
        return self._map.busy

    def run(self, order: MapOrder) -> None:
        """Make a map, in place of one under way.

        Args:
            order: what and where; the session's raster, model and adapter as they are now.

        Raises:
            OutputError: the output exists, or has no folder.
        """
        session = self._session
        if session.raster is None or not session.adapters.file:
            return
        output = with_suffix(order.output)
        confidence = output.with_name(f"{output.stem}_confidence{SUFFIX}") if order.confidence else None
        self._check(output)
        if confidence is not None:
            self._check(confidence)
        params = MapParams(
            raster=session.raster.spec,
            model=session.model,
            adapter=session.adapters.file,
            output=str(output),
            second=session.adapters.second_file,
            area=order.area,
            confidence=str(confidence) if confidence is not None else "",
        )
        self._map.send(Method.MAP, params, lambda result: self._on_map(cast("MapResult", result)), self._on_failed)

    def cancel(self) -> None:
        """Stop."""
        self._map.cancel()

    def _check(self, path: Path) -> None:
        if path.exists():
            text = self.tr("“{name}” exists already and stays as it is. Choose another name.")
            raise OutputError(text.format(name=path.name), str(path))
        if not path.parent.is_dir():
            text = self.tr("The folder of “{name}” does not exist. Choose another one.")
            raise OutputError(text.format(name=path.name), str(path))

    def _on_map(self, result: MapResult) -> None:
        session = self._session
        for note in result.notes:
            session.notify(NoticeLevel.INFO, note)
        layer = QgsRasterLayer(result.output, Path(result.output).stem)
        if not layer.isValid():
            text = self.tr("The class map was written, but QGIS cannot open {path}.")
            session.notify(NoticeLevel.ERROR, text.format(path=result.output))
            return
        show_classes(layer, result.classes)
        if result.confidence:
            sureness = QgsRasterLayer(result.confidence, Path(result.confidence).stem)
            if sureness.isValid():
                self._project.addMapLayer(sureness)
                self._project.layerTreeRoot().findLayer(sureness.id()).setItemVisibilityChecked(False)
        self._project.addMapLayer(layer)
        text = self.tr("The class map is in the project as “{layer}”.")
        session.notify(NoticeLevel.SUCCESS, text.format(layer=layer.name()), result.output)
        self.finished.emit(layer)

    def _on_failed(self, error: SamTuneError) -> None:
        self._session.notify(NoticeLevel.ERROR, error.user_text, f"{error.kind}: {error.details}")


def with_suffix(path: Path) -> Path:
    """Return a path that ends as GeoTIFFs do."""
    return path if path.suffix.lower() in {SUFFIX, ".tiff"} else path.with_name(path.name + SUFFIX)


def show_classes(layer: QgsRasterLayer, classes: tuple[MapClass, ...]) -> None:
    """Draw a class map in its classes' colours, with their names in the legend."""
    entries = [QgsPalettedRasterRenderer.Class(found.value, QColor(found.colour), found.name) for found in classes]
    layer.setRenderer(QgsPalettedRasterRenderer(layer.dataProvider(), 1, entries))
