"""Everything behind the dock, made when that is first opened: session, engine, controllers, map tool, dock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qgis.core import QgsMapLayer, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import QObject, Qt, QTimer, QUrl
from qgis.PyQt.QtGui import QDesktopServices, QGuiApplication
from qgis.PyQt.QtWidgets import QAction, QDockWidget, QWidget

from ..ui.dock import SamTuneDock
from ..ui.questions import Questions
from .acceptor import Acceptor
from .adapter_controller import AdapterController
from .area_desk import AreaDesk
from .batch_desk import BatchDesk
from .canvas_bands import CanvasBands
from .click_controller import ClickController
from .diagnostics import diagnostics_text, plugin_version
from .engine_config import adapters_folder, engine_config, engine_location
from .engine_link import EngineLink
from .engine_requests import EngineRequests
from .engine_service import EngineService
from .layers import drawn_bands, unusable_reason
from .map_frame import MapFrame
from .map_tool import PromptTool
from .model_controller import ModelController
from .session import EngineState, Notice, NoticeLevel, Session
from .settings import PluginSettings
from .status import Action
from .store_controller import StoreController
from .teaching import Teaching, TeachingTools


@dataclass(frozen=True)
class Surroundings:
    """What the workbench needs of QGIS. Only ``plugin.py`` knows where it comes from.

    Attributes:
        canvas: the main map.
        project: the current project.
        window: parent of dialogs and the dock.
        show_notice: shows a notice in the message bar.
        open_settings: opens the plugin's page of QGIS's options.
        active_layer: gives the layer selected in the layer tree, or None.
        make_active: selects a layer there, so that Ctrl+Z is about it.
        add_dock: shows a dock in an area of the window.
        remove_dock: takes it away.
    """

    canvas: QgsMapCanvas
    project: QgsProject
    window: QWidget
    show_notice: Callable[[Notice], None]
    open_settings: Callable[[], None]
    active_layer: Callable[[], QgsMapLayer | None]
    make_active: Callable[[QgsMapLayer], object]
    add_dock: Callable[[Qt.DockWidgetArea, QDockWidget], None]
    remove_dock: Callable[[QDockWidget], None]


class Workbench(QObject):
    """Owns and connects the parts.

    Attributes:
        session: the state.
        service: the engine that answers clicks.
        worker: another one for long work (tuning, whole areas), so that clicks are answered meanwhile and its end, of
            whatever cause, is not theirs. It is started by the first such request.
        work: sends requests to it.
        batch: batch jobs, with a third engine.
        adapters: the list of adapters, and the choice among them.
        controller: clicks and outlines.
        models: lists, downloads and imports models.
        store: tells the size of the store of encoded imagery, and clears it.
        teaching: the fine-tune wizard.
        tool: the map tool.
        dock: the panel.
        areas: find all, class map, where to label next, review, the adapter manager.
    """

    def __init__(self, around: Surroundings, settings: PluginSettings, prompt_action: QAction) -> None:
        """Make everything; the engine is not started yet.

        Args:
            around: what QGIS offers.
            settings: the plugin's settings.
            prompt_action: takes up the map tool.
        """
        super().__init__()
        self._around = around
        self._settings = settings
        self.session = Session(self)
        self._restore_choices()
        frame = MapFrame(around.canvas, around.project)
        self._config = engine_config(settings)
        client, background = f"qgis-plugin {plugin_version()}", engine_config(settings, background=True)
        self.service = EngineService(self._config, client, parent=self)
        self._requests = EngineRequests(self.service, self)
        self.worker = EngineService(background, client, parent=self)
        self.work = EngineRequests(self.worker, self)
        batch_service = EngineService(background, client, parent=self)
        self.batch = BatchDesk(self.session, batch_service, self.work, settings, around, self)
        self.adapters = AdapterController(  # before the clicks: what an adapter lacks is known when it is asked for
            self.session,
            self._requests,
            settings,
            lambda: adapters_folder(settings),
            lambda: self.controller.level_at(around.canvas.center()),
            around.project,
            self,
        )
        self.controller = ClickController(self.session, self._requests, frame, self)
        self.models = ModelController(self.session, self._requests, settings, self)
        self.store = StoreController(self.session, self._requests, self)
        self._link = EngineLink(self.session, self.service, self.models, self)
        self._questions = Questions(around.window, settings, self)
        self._acceptor = Acceptor(
            self.session, around.project, self._questions.may_add_fields, self._questions.geopackage_path, self
        )
        self.bands = CanvasBands(around.canvas, self.session, frame, self)
        self.tool = PromptTool(around.canvas, self.bands)
        self.tool.setAction(prompt_action)
        self.dock = SamTuneDock(self.session, around.project, prompt_action, around.window)
        self.areas = AreaDesk(
            around, settings, self.session, self.work, self.adapters, self._acceptor, self.controller, self.dock
        )
        self.teaching = self._make_teaching(prompt_action)
        self._connect_tool(prompt_action)
        self._connect_dock()
        self._connect_session()
        self.adapters.restore()
        self.batch.restore()

    def choose_first_layer(self) -> None:
        """Choose the active layer if it is a raster, else the topmost raster of the project that can be used."""
        if self.session.layer is not None:
            return
        tree = self._around.project.layerTreeRoot().layerOrder()
        for layer in [self._around.active_layer(), *tree]:
            if isinstance(layer, QgsRasterLayer) and not unusable_reason(layer):
                self.choose_layer(layer)
                return

    def choose_layer(self, layer: QgsMapLayer | None) -> None:
        """Choose a raster layer; says so in the session if it cannot be used."""
        if not isinstance(layer, QgsRasterLayer):
            self.session.set_layer(None)
            return
        problem = unusable_reason(layer)
        self.session.set_layer(layer, () if problem else drawn_bands(layer), problem)

    def apply_settings(self) -> None:
        """Take over changed settings, or a new environment; the engine is started anew if it must be."""
        self.session.hover_enabled = self._settings.hover_preview.value()
        self.adapters.refresh()
        config = engine_config(self._settings)
        background = engine_config(self._settings, background=True)
        self.worker.configure(background)
        self.batch.configure(background)
        if config.same_as(self._config):
            return
        self._config = config
        self.service.configure(config)
        self.session.set_engine(EngineState.OFF)
        if self.session.layer is not None and not self.session.layer_problem:
            self.controller.open_raster()

    def copy_diagnostics(self) -> None:
        """Put the diagnostics report on the clipboard."""
        service = self.service
        text = diagnostics_text(self.session, self._settings, plugin_version(), service.log_tail, service.memory_bytes)
        QGuiApplication.clipboard().setText(text)
        self.session.notify(NoticeLevel.INFO, self.tr("Diagnostics copied. Paste them into your report."))

    def unload(self) -> None:
        """Take everything down; the object is of no use afterwards."""
        self._around.project.layersAdded.disconnect(self._on_layers_added)
        self.areas.stop()
        self.teaching.stop()
        self.worker.shutdown()  # before its tasks are cancelled: an interrupted run can be gone on with
        self.controller.stop()
        self.models.stop()
        self.adapters.stop()
        self.store.stop()
        self._requests.stop()
        self.work.stop()
        self.batch.stop()
        canvas = self._around.canvas
        if canvas.mapTool() is self.tool:
            canvas.unsetMapTool(self.tool)
        self.bands.remove()
        self.service.shutdown()
        self.session.set_layer(None)
        self.session.set_target(None)
        self.tool.deleteLater()
        self.dock.deleteLater()
        self.deleteLater()

    # --- wiring -----------------------------------------------------------------------------------------------------

    def _make_teaching(self, prompt_action: QAction) -> Teaching:
        tools = TeachingTools(
            canvas=self._around.canvas,
            project=self._around.project,
            window=self._around.window,
            prompt_action=prompt_action,
            choose_raster=self.choose_layer,
            new_target=self._acceptor.new_target,
            adapters_folder=lambda: adapters_folder(self._settings),
        )
        return Teaching(self.session, self.work, self.adapters, tools, self)

    def _connect_tool(self, prompt_action: QAction) -> None:
        tool, controller, canvas = self.tool, self.controller, self._around.canvas
        tool.point_added.connect(controller.add_point)
        tool.box_drawn.connect(controller.add_box)
        tool.hovered.connect(controller.hover.move)
        tool.pointer_left.connect(controller.hover.leave)
        tool.accept_requested.connect(controller.accept)
        tool.undo_requested.connect(controller.undo)
        tool.clear_requested.connect(controller.clear)
        tool.activated.connect(lambda: controller.activate(canvas.center()))
        tool.deactivated.connect(controller.deactivate)
        prompt_action.toggled.connect(self._toggle_tool)

    def _connect_dock(self) -> None:
        dock, session, controller = self.dock, self.session, self.controller
        dock.raster_box.layer_chosen.connect(self.choose_layer)
        dock.raster_box.source_chosen.connect(session.set_source)
        dock.raster_box.thumbnail_wanted.connect(session.set_thumbnail_wanted)
        session.set_thumbnail_wanted(not dock.raster_box.source_group.isCollapsed())
        dock.model_box.model_chosen.connect(session.set_model)
        dock.model_box.download_wanted.connect(self._download)
        dock.model_box.import_wanted.connect(self.models.import_file)
        dock.adapter_box.adapter_chosen.connect(self.adapters.choose)
        dock.adapter_box.add_wanted.connect(self.adapters.add)
        dock.adapter_box.list_wanted.connect(self.adapters.refresh)
        dock.adapter_box.second_chosen.connect(self.adapters.choose_second)
        dock.adapter_box.folder_wanted.connect(self._show_adapters_folder)
        dock.adapter_box.teach_wanted.connect(self.teaching.open)
        dock.work_box.batch_wanted.connect(self.batch.open_dialog)
        dock.outline_box.level_chosen.connect(session.set_fixed_level)
        dock.outline_box.options_chosen.connect(session.set_outline_options)
        dock.target_box.target_chosen.connect(session.set_target)
        dock.target_box.class_chosen.connect(session.set_class_value)
        dock.target_box.new_wanted.connect(self._acceptor.new_target)
        dock.accept_wanted.connect(controller.accept)
        dock.undo_wanted.connect(controller.undo)
        dock.clear_wanted.connect(controller.clear)
        dock.diagnostics_wanted.connect(self.copy_diagnostics)
        dock.settings_wanted.connect(self._around.open_settings)
        dock.store_size_wanted.connect(self._look_at_store)
        dock.clear_store_wanted.connect(self.store.clear)
        dock.status_box.cancel_wanted.connect(controller.cancel)
        dock.status_box.cancel_wanted.connect(self.models.cancel)
        dock.status_box.cancel_wanted.connect(self.adapters.cancel)
        dock.status_box.action_wanted.connect(self._act)
        controller.set_accept(self._accept)

    def _connect_session(self) -> None:
        session, settings = self.session, self._settings
        self._around.project.layersAdded.connect(self._on_layers_added)
        session.noticed.connect(self._around.show_notice)
        session.file_changed.connect(lambda: QTimer.singleShot(0, self._on_file_changed))
        session.model_changed.connect(lambda: settings.model.setValue(session.model))
        session.level_changed.connect(lambda: settings.set_fixed_level(session.fixed_level))
        session.options_changed.connect(self._remember_options)
        session.target_changed.connect(lambda: settings.class_value.setValue(session.class_value))

    def _show_adapters_folder(self) -> None:
        folder = adapters_folder(self._settings)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = self.tr("The folder {folder} cannot be made: {reason}. Choose another one in the settings.")
            self.session.notify(NoticeLevel.ERROR, text.format(folder=folder, reason=error.strerror or error))
            return
        self.adapters.refresh()
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))

    def _look_at_store(self) -> None:
        if self.session.engine_state is EngineState.READY:  # a menu is no reason to start an engine
            self.store.refresh()

    def _on_layers_added(self) -> None:
        if not self.dock.isHidden():
            QTimer.singleShot(0, self.choose_first_layer)  # the layer tree does not have them yet

    def _on_file_changed(self) -> None:
        """The layer was repaired, or points to another file: nothing known of the old one holds."""
        layer = self.session.layer
        self.session.set_layer(None)
        self.choose_layer(layer)

    def _restore_choices(self) -> None:
        session, settings = self.session, self._settings
        session.model = settings.model.value() or "tiny"
        session.fixed_level = settings.fixed_level()
        session.simplify = settings.simplify.value()
        session.fill_holes = settings.fill_holes.value()
        session.hover_enabled = settings.hover_preview.value()
        session.class_value = settings.class_value.value()

    def _remember_options(self) -> None:
        self._settings.simplify.setValue(self.session.simplify)
        self._settings.fill_holes.setValue(self.session.fill_holes)

    def _toggle_tool(self, checked: bool) -> None:  # noqa: FBT001 - Qt's slot
        canvas = self._around.canvas
        if checked:
            canvas.setMapTool(self.tool)
            canvas.setFocus()
        elif canvas.mapTool() is self.tool:
            canvas.unsetMapTool(self.tool)

    def _accept(self) -> bool:
        target: QgsVectorLayer | None = self.session.target
        done = self._acceptor.accept()
        if done:
            self.dock.target_box.remember_class()
            if target is None:
                self._around.canvas.setFocus()
        return done

    def _download(self, name: str) -> None:
        info = next((model for model in self.session.models if model.name == name), None)
        if info is not None and self._questions.may_download(info):
            self.models.download(name)

    def _act(self, action: Action) -> None:
        if action is Action.DOWNLOAD:
            self._download(self.session.model)
        elif action is Action.SET_UP:
            self._set_up()
        elif action is Action.RETRY:
            self._retry()

    def _retry(self) -> None:
        if self.session.layer is not None and not self.session.layer_problem:
            self.controller.open_raster()
        else:
            self.service.start()

    def _set_up(self) -> None:
        from ..ui.environment_dialog import EnvironmentDialog

        dialog = EnvironmentDialog(engine_location(self._settings), self._around.window)
        done = dialog.exec()
        dialog.deleteLater()
        if done:
            self.apply_settings()
