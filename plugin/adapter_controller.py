"""Keeps the list of adapters true, chooses among them, and finds out whether the chosen one suits the raster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from qgis.core import QgsMapLayer, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QFileSystemWatcher, QObject, QTimer

from ..engine.messages import AdapterReport, AddAdapterParams, CheckAdapterParams, Method
from ..models.errors import ModelMissingError, PromptError, RasterError, SamTuneError, TuningError
from .adapter_files import AdapterFolder, AdapterSummary, read_summary
from .adapter_texts import beside_clicks, needs
from .latest_request import LatestRequest, Service
from .layers import source_uri, unusable_reason
from .session import EngineState, NoticeLevel, Session
from .settings import PluginSettings

LAYER_PROPERTY = "samtune/adapter"
"""Custom property of a raster layer: name of the file of the adapter chosen for it; empty for none."""

SETTLE_MS = 200


class AdapterController(QObject):
    """The adapters of one folder. The choice is remembered with the layer, in the project, and as the last one used."""

    def __init__(
        self,
        session: Session,
        service: Service,
        settings: PluginSettings,
        folder: Callable[[], Path],
        level_now: Callable[[], int],
        project: QgsProject,
        parent: QObject | None = None,
    ) -> None:
        """Listen to the session. Nothing is read before :meth:`refresh`.

        Args:
            session: the state; its ``adapters`` are kept here.
            service: sends requests to the engine.
            settings: remember the choice.
            folder: gives the folder of adapters, as the settings are now.
            level_now: gives the crop level in the middle of the map; may raise PromptError.
            project: where a second raster is looked for.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._state = session.adapters
        self._settings = settings
        self._folder = folder
        self._level_now = level_now
        self._project = project
        self._files = AdapterFolder()
        self._check = LatestRequest(service, session, "adapter")
        self._add = LatestRequest(service, session, "adapter-file", self.tr("Checking the adapter…"))
        self._bands_before: tuple[QgsRasterLayer, tuple[int, ...], tuple[int, ...]] | None = None
        self._watcher = QFileSystemWatcher(self)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self.refresh)
        self._watcher.directoryChanged.connect(lambda _folder: self._settle.start())
        self._state.changed.connect(self._look)
        self._state.doubted.connect(self.refresh)
        session.raster_changed.connect(self._look)
        session.level_changed.connect(self._look)
        session.engine_changed.connect(self._on_engine)
        session.layer_changed.connect(self._on_layer)
        session.model_changed.connect(self._follow_bands)

    def restore(self) -> None:
        """List the adapters and choose the one that was used last."""
        self.refresh()
        self._state.choose(self._state.find(self._session.model, self._settings.adapter.value()))

    def refresh(self) -> None:
        """Look at the folder again. A chosen adapter that has gone is given up, one that has changed is taken anew."""
        folder = self._folder()
        self._watch(folder)
        self._state.set_known(self._files.read(folder))
        chosen = self._state.chosen
        if chosen is None or chosen in self._state.known:
            return
        same = self._state.find(self._session.model, chosen.path.name)
        self._state.choose(same)
        if same is None and chosen.path.parent == folder:
            text = self.tr("The adapter “{name}” is not in its folder any more. The model is used as it is.")
            self._session.notify(NoticeLevel.WARNING, text.format(name=chosen.name), str(chosen.path))
        self._follow_bands()

    def choose(self, path: str) -> None:
        """Use an adapter of the list, as the user chose.

        Args:
            path: of its file; empty for the model as it is.
        """
        self._take(next((summary for summary in self._state.known if str(summary.path) == path), None))

    def add(self, path: str) -> None:
        """Have a file checked by the engine and copied into the folder; it is used at once then.

        Args:
            path: of the file.
        """
        session = self._session
        try:
            summary = read_summary(Path(path))
        except TuningError as error:
            self._report(error)
            return
        if summary.base != session.model:
            text = self.tr(
                "The adapter “{name}” was tuned on the model {base}. Choose that model above, then add it again."
            )
            session.notify(NoticeLevel.WARNING, text.format(name=summary.name, base=summary.base), path)
            return
        params = AddAdapterParams(path, session.model, str(self._folder()))
        self._add.send(Method.ADD_ADAPTER, params, self._on_added, self._report)

    def choose_second(self, layer: QgsMapLayer | None) -> None:
        """Use a layer as the second raster; says so if it cannot be."""
        if not isinstance(layer, QgsRasterLayer):
            self._state.set_second(None)
            return
        problem = unusable_reason(layer)
        if problem:
            self._session.notify(NoticeLevel.WARNING, problem)
            self._state.set_second(None)
        else:
            self._state.set_second(layer, source_uri(layer))

    def cancel(self) -> None:
        """Stop adding a file."""
        self._add.cancel()

    def stop(self) -> None:
        """Drop all requests and stop watching; for unloading."""
        self._check.cancel()
        self._add.cancel()
        self._settle.stop()
        if self._watcher.directories():
            self._watcher.removePaths(self._watcher.directories())
        self._state.set_second(None)

    # --- the list ---------------------------------------------------------------------------------------------------

    def _watch(self, folder: Path) -> None:
        wanted = [str(folder)] if folder.is_dir() else []
        watched = self._watcher.directories()
        if watched != wanted:
            if watched:
                self._watcher.removePaths(watched)
            if wanted:
                self._watcher.addPaths(wanted)

    def _on_added(self, result: object) -> None:
        report = cast("AdapterReport", result)
        self.refresh()
        added = self._state.find(self._session.model, Path(report.path).name)
        if added is not None:
            self._take(added)
            text = self.tr("The adapter “{name}” is in use.").format(name=added.name)
            self._session.notify(NoticeLevel.SUCCESS, text, str(added.path))

    # --- the choice -------------------------------------------------------------------------------------------------

    def _take(self, summary: AdapterSummary | None) -> None:
        name = summary.path.name if summary is not None else ""
        self._settings.adapter.setValue(name)
        if self._session.layer is not None:
            self._session.layer.setCustomProperty(LAYER_PROPERTY, name)
        self._state.choose(summary)
        self._find_second()
        self._follow_bands()

    def _on_layer(self) -> None:
        """Use the adapter that was chosen for this layer before; where none was, go on with the present one."""
        layer = self._session.layer
        if layer is None:
            return
        if LAYER_PROPERTY in layer.customPropertyKeys():
            name = str(layer.customProperty(LAYER_PROPERTY))
            found = self._state.find(self._session.model, name) if name else None
            self._state.choose(found)
            if name and found is None:
                text = self.tr("The adapter {file}, chosen for this layer before, is not there for this model.")
                self._session.notify(NoticeLevel.INFO, text.format(file=name))
        self._find_second()
        self._follow_bands()
        self._look()

    def _find_second(self) -> None:
        """Take the raster layer of that name as the second raster, where none is chosen."""
        chosen, state = self._state.chosen, self._state
        if chosen is None or not chosen.second or state.second is not None:
            return
        named = self._project.mapLayersByName(chosen.second)
        layers = [layer for layer in named if isinstance(layer, QgsRasterLayer) and layer is not self._session.layer]
        if len(layers) == 1 and not unusable_reason(layers[0]):
            state.set_second(layers[0], source_uri(layers[0]))

    def _follow_bands(self) -> None:
        """Show the model the bands that the adapter was tuned on, if the layer has them; those of before without it."""
        session, chosen, before = self._session, self._state.chosen, self._bands_before
        layer = session.layer
        if layer is None or session.layer_problem:
            return
        if chosen is None or not chosen.rgb:
            self._bands_before = None
            if chosen is None and before is not None and before[0] is layer and before[2] == session.bands:
                session.set_source(before[1], session.stretch)
            return
        if chosen.rgb == session.bands or not all(1 <= band <= layer.bandCount() for band in chosen.rgb):
            return
        first = before[1] if before is not None and before[0] is layer else session.bands
        self._bands_before = (layer, first, chosen.rgb)
        session.set_source(chosen.rgb, session.stretch)
        text = self.tr("The model now sees the bands {bands}, which the adapter “{name}” was tuned on.")
        bands = ", ".join(str(band) for band in chosen.rgb)
        session.notify(NoticeLevel.INFO, text.format(bands=bands, name=chosen.name))

    # --- does it suit -----------------------------------------------------------------------------------------------

    def _on_engine(self) -> None:
        if self._session.engine_state is not EngineState.READY:
            self._check.cancel()

    def _look(self) -> None:
        """Find out whether the adapter in use suits the raster: from its card at once, from the engine when it can."""
        session, state = self._session, self._state
        self._check.cancel()
        chosen, layer, raster = state.chosen, session.layer, session.raster
        if chosen is None or layer is None or session.layer_problem:
            state.set_fit("", ())
            return
        if not chosen.answers_clicks:
            state.set_fit("", (beside_clicks(chosen),))
            return
        problem = needs(chosen, layer.bandCount(), second=bool(state.second_uri))
        state.set_fit(problem, () if problem else state.notes)
        if problem or raster is None or session.engine_state is not EngineState.READY:
            return
        params = CheckAdapterParams(state.path, session.model, raster.spec, self._level(), state.second_path)

        def fits(result: object) -> None:
            state.set_fit("", cast("AdapterReport", result).notes)

        self._check.send(Method.CHECK_ADAPTER, params, fits, self._on_unfit)

    def _level(self) -> int:
        session = self._session
        for known in (session.fixed_level, session.used_level):
            if known is not None:
                return known
        try:
            return self._level_now()
        except PromptError:  # the map shows no place of the raster
            return 0

    def _on_unfit(self, error: SamTuneError) -> None:
        if isinstance(error, TuningError):
            self._state.set_fit(error.user_text, ())
            self.refresh()
        elif not isinstance(error, (ModelMissingError, RasterError)):  # the panel shows those as states
            self._report(error)

    def _report(self, error: SamTuneError) -> None:
        self._session.notify(NoticeLevel.ERROR, error.user_text, f"{error.kind}: {error.details}")
