"""The plugin in QGIS: loads, opens its panel, clicks through with a scripted engine, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsApplication, QgsProject, QgsRasterLayer, QgsSettingsTree, QgsVectorLayer
from qgis.gui import QgsRubberBand
from qgis.PyQt.QtCore import QObject, QPoint, Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QAction, QApplication, QDialog, QWidget
from samtune import classFactory
from samtune.engine.messages import Method, ModelList
from samtune.plugin import workbench as workbench_module
from samtune.plugin.plugin import (
    BATCH_ACTION,
    DOCK_ACTION,
    JOBS_ACTION,
    PROMPT_ACTION,
    TEACH_ACTION,
    SamTunePlugin,
)
from samtune.plugin.session import EngineState
from samtune.plugin.status import Action
from samtune_test_support import (
    ScriptedService,
    Window,
    click,
    found,
    model_info,
    on_screen,
    raster_info,
    show_layer,
    spin,
    write_raster,
)


class FakeService(QObject, ScriptedService):
    """A scripted engine in the shape of the engine service."""

    def __init__(self, *_arguments: object, parent: QObject | None = None) -> None:
        QObject.__init__(self, parent)
        ScriptedService.__init__(self)
        self.state_changed, self.starting, self.info = mock.MagicMock(), mock.MagicMock(), mock.MagicMock()
        self.log_tail, self.state, self.memory_bytes = "last words", None, 3 << 29
        self.ended = False

    def configure(self, config: object) -> None: ...

    def start(self) -> None: ...

    def shutdown(self) -> None:
        self.ended = True


@pytest.fixture
def plugin(window: Window, without_plugin: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[SamTunePlugin]:
    monkeypatch.setattr(workbench_module, "EngineService", FakeService)
    made = classFactory(window)
    made.initGui()
    yield made
    if made._settings is not None:
        made.unload()
    spin(5)


def leftovers(window: Window) -> dict[str, int]:
    """Count what a plugin can leave behind."""
    own = [
        child
        for child in window.window.findChildren(QObject)
        if child.objectName().startswith("SamTune") or type(child).__module__.startswith("samtune.")
    ]
    tree = QgsSettingsTree.node("plugins").childrenNodes()
    return {
        "objects": len(own),
        "menu": len(window.menu.actions()),
        "toolbar": len(window.toolbar.actions()),
        "factories": len(window.factories),
        "bands": sum(isinstance(item, QgsRubberBand) for item in window.canvas.scene().items()),
        "settings": sum(node.key() == "samtune" for node in tree),
        "widgets": sum(type(widget).__module__.startswith("samtune") for widget in QApplication.allWidgets()),
    }


def test_load_and_unload_twice_leaves_nothing(
    window: Window, without_plugin: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbench_module, "EngineService", FakeService)
    before = leftovers(window)
    for opened in (False, True, True):
        made = classFactory(window)
        made.initGui()
        assert leftovers(window)["menu"] == before["menu"] + 4
        if opened:
            bench = made.open_dock()
            window.canvas.setMapTool(bench.tool)
            service = bench.service
            bench.teaching.open()
            bench.batch.open_dialog()
            bench.batch.open_panel()
        made.unload()
        spin(10)
        assert leftovers(window) == before
        assert window.canvas.mapTool() is None or "samtune" not in type(window.canvas.mapTool()).__module__
        if opened:
            assert service.ended


def test_until_the_panel_is_opened_there_are_only_actions(plugin: SamTunePlugin, window: Window) -> None:
    assert plugin.workbench is None
    names = [action.objectName() for action in window.menu.actions()]
    assert names == [DOCK_ACTION, TEACH_ACTION, BATCH_ACTION, JOBS_ACTION]
    assert [action.objectName() for action in window.toolbar.actions()] == [DOCK_ACTION]
    assert not window.menu.actions()[0].icon().isNull()


def test_action_opens_and_closes_the_panel(plugin: SamTunePlugin, window: Window) -> None:
    action = window.menu.actions()[0]
    action.trigger()
    spin(10)
    assert plugin.workbench is not None
    dock = plugin.workbench.dock
    assert dock.isVisible()
    action.trigger()
    spin(10)
    assert not dock.isVisible()
    action.trigger()
    spin(10)
    assert dock.isVisible(), "the same panel again"
    dock.close()
    spin(10)
    assert not action.isChecked(), "its own cross unchecks the action"


def test_batch_dialog_and_jobs_from_the_menu(plugin: SamTunePlugin, window: Window) -> None:
    _dock, _teach, batch, jobs = window.menu.actions()
    batch.trigger()
    spin(10)
    desk = plugin.workbench.batch
    assert desk.dialog.isVisible()
    assert desk.panel is None
    jobs.trigger()
    spin(10)
    assert desk.panel.isVisible()
    button = plugin.workbench.dock.work_box.batch_button
    desk.dialog.hide()
    button.click()
    assert desk.dialog.isVisible()


def test_panel_chooses_the_projects_raster(plugin: SamTunePlugin, raster_layer: QgsRasterLayer, window: Window) -> None:
    bench = plugin.open_dock()
    assert bench.session.layer is raster_layer
    assert bench.session.bands == (1, 2, 3)
    assert bench.service.last(Method.OPEN).params.uri == raster_layer.source()


@pytest.fixture
def at_work(
    plugin: SamTunePlugin, raster_layer: QgsRasterLayer, polygon_layer: QgsVectorLayer, window: Window
) -> SamTunePlugin:
    """The panel with an open raster, a ready engine, a target, and the map tool in hand."""
    bench = plugin.open_dock()
    show_layer(window.canvas, raster_layer)
    bench.session.set_engine(EngineState.READY)
    bench.models.refresh()
    bench.service.last(Method.MODELS).on_result(ModelList((model_info(),)))
    bench.service.last(Method.OPEN).on_result(raster_info(raster_layer.source()))
    bench.session.set_target(polygon_layer, "class")
    bench.session.set_class_value("pond")
    bench.dock.prompt_button.click()
    spin(10)
    return plugin


def test_main_job_by_real_events(at_work: SamTunePlugin, window: Window, polygon_layer: QgsVectorLayer) -> None:
    bench, canvas = at_work.workbench, window.canvas
    assert canvas.mapTool() is bench.tool
    centre = QPoint(canvas.width() // 2, canvas.height() // 2)
    click(canvas, centre)
    call = bench.service.segments()[-1]
    call.on_result(found(call.params))
    assert bench.bands.outline.isVisible()
    assert bench.dock.accept_button.isEnabled()
    click(canvas, centre + QPoint(20, 0), Qt.MouseButton.RightButton)
    call = bench.service.segments()[-1]
    assert [point.positive for point in call.params.points] == [True, False]
    call.on_result(found(call.params))
    QTest.keyClick(canvas, Qt.Key.Key_Backspace)
    call = bench.service.segments()[-1]
    call.on_result(found(call.params))
    QTest.keyClick(canvas, Qt.Key.Key_Return)
    (feature,) = polygon_layer.getFeatures()
    assert feature["class"] == "pond"
    assert "objects" in bench.dock.status_box.label.text(), "it says where the polygon went"
    assert polygon_layer.undoStack().count() == 1
    assert not bench.bands.outline.isVisible()
    assert bench.session.steps == ()


def test_escape_clears(at_work: SamTunePlugin, window: Window) -> None:
    bench = at_work.workbench
    click(window.canvas, QPoint(200, 200))
    QTest.keyClick(window.canvas, Qt.Key.Key_Escape)
    assert bench.session.steps == ()
    assert bench.service.segments()[-1].cancelled


def test_another_tool_hides_everything_and_unchecks_the_button(at_work: SamTunePlugin, window: Window) -> None:
    bench = at_work.workbench
    click(window.canvas, QPoint(200, 200))
    bench.dock.prompt_button.click()
    spin(10)
    assert window.canvas.mapTool() is not bench.tool
    assert not bench.dock.prompt_button.isChecked()
    assert not any(band.isVisible() for band in bench.bands.all())


def test_errors_go_to_the_message_bar_and_hints_do_not(at_work: SamTunePlugin, window: Window) -> None:
    from samtune.plugin.session import NoticeLevel

    session = at_work.workbench.session
    session.notify(NoticeLevel.INFO, "A hint.")
    assert window.bar.currentItem() is None
    session.notify(NoticeLevel.ERROR, "The engine stopped. Click again.", "exit code -9")
    assert window.bar.currentItem().text() == "The engine stopped. Click again."


def test_removing_the_layers_while_prompts_are_set(at_work: SamTunePlugin, window: Window, project: QgsProject) -> None:
    bench = at_work.workbench
    click(window.canvas, QPoint(200, 200))
    project.clear()
    spin(10)
    assert bench.session.layer is None
    assert bench.session.target is None
    assert bench.session.steps == ()
    click(window.canvas, QPoint(210, 200))  # says what to do, and no more


def test_diagnostics_go_to_the_clipboard(at_work: SamTunePlugin) -> None:
    bench = at_work.workbench
    bench.dock.diagnostics_action.trigger()
    text = QApplication.clipboard().text()
    for part in ("SamTune", "QGIS", "100 x 80", "last words", "memory: 1.5 GiB", "model tiny: present"):
        assert part in text


def test_setting_up_leaves_no_dialog_behind(at_work: SamTunePlugin, window: Window) -> None:
    from samtune.ui import environment_dialog
    from samtune.ui.options_page import OptionsPage

    class Dialog(QDialog):
        def __init__(self, where: object, parent: QWidget) -> None:
            super().__init__(parent)
            self.setObjectName("SamTuneDialog")

        def exec(self) -> int:
            return 1

    applied: list[bool] = []
    with mock.patch.object(environment_dialog, "EnvironmentDialog", Dialog):
        at_work.workbench.dock.status_box.action_wanted.emit(Action.SET_UP)
        page = OptionsPage(at_work._settings, lambda: applied.append(True), window.window)
        page.set_up_button.click()
    spin(10)
    assert applied == [True]
    assert window.window.findChildren(Dialog) == []
    page.deleteLater()


def test_the_menu_clears_the_cache(at_work: SamTunePlugin) -> None:
    bench = at_work.workbench
    bench.dock.menu_button.menu().aboutToShow.emit()
    assert len(bench.service.of(Method.INFO)) == 1
    bench.dock.clear_store_action.trigger()
    assert len(bench.service.of(Method.CLEAR_STORE)) == 1
    bench.session.set_engine(EngineState.FAILED)
    bench.dock.menu_button.menu().aboutToShow.emit()
    assert len(bench.service.of(Method.INFO)) == 1, "a menu is no reason to start an engine"


def test_a_download_stands_in_qgiss_task_list(at_work: SamTunePlugin) -> None:
    bench = at_work.workbench
    bench.models.download("tiny")
    tasks = [task.description() for task in QgsApplication.taskManager().activeTasks()]
    assert "SamTune: download a model" in tasks
    bench.models.cancel()
    spin(100)
    tasks = [task.description() for task in QgsApplication.taskManager().activeTasks()]
    assert "SamTune: download a model" not in tasks


def test_choices_are_remembered(plugin: SamTunePlugin, window: Window) -> None:
    session = plugin.open_dock().session
    session.set_outline_options(1.25, 12.0)
    session.set_fixed_level(2)
    session.set_class_value("roof")
    plugin.unload()
    spin(10)
    plugin.initGui()
    again = plugin.open_dock().session
    try:
        assert (again.simplify, again.fill_holes, again.fixed_level, again.class_value) == (1.25, 12.0, 2, "roof")
    finally:
        for entry in plugin._settings.node.childrenSettings():
            entry.remove()


def test_prompt_action_is_gone_after_unload(plugin: SamTunePlugin, window: Window) -> None:
    plugin.open_dock()
    assert window.window.findChild(QAction, PROMPT_ACTION) is not None
    plugin.unload()
    spin(10)
    assert window.window.findChild(QAction, PROMPT_ACTION) is None
    assert window.window.findChild(QWidget, "SamTuneDock") is None


def test_start_is_quick(window: Window, without_plugin: None) -> None:
    import time

    start = time.perf_counter()
    made = classFactory(window)
    made.initGui()
    seconds = time.perf_counter() - start
    made.unload()
    assert seconds < 0.1, "imports and registration share QGIS's start"


def test_click_places_what_the_canvas_shows(at_work: SamTunePlugin, window: Window) -> None:
    bench, canvas = at_work.workbench, window.canvas
    raster = bench.session.layer
    centre = canvas.mapSettings().layerToMapCoordinates(raster, raster.extent().center())
    click(canvas, on_screen(canvas, centre.x(), centre.y()))
    (point,) = bench.service.segments()[-1].params.points
    tolerance = 2 * canvas.mapUnitsPerPixel()
    assert abs(point.x - raster.extent().center().x()) < tolerance
    assert abs(point.y - raster.extent().center().y()) < tolerance


def test_a_raster_added_later_is_chosen(plugin: SamTunePlugin, project: QgsProject, tmp_path: Path) -> None:
    bench = plugin.open_dock()
    assert bench.session.layer is None
    layer = QgsRasterLayer(str(write_raster(tmp_path / "late.tif")), "late")
    project.addMapLayer(layer)
    spin(20)
    assert bench.session.layer is layer


def test_a_repaired_layer_is_opened(plugin: SamTunePlugin, project: QgsProject, tmp_path: Path) -> None:
    layer = QgsRasterLayer(str(tmp_path / "moved.tif"), "moved")
    project.addMapLayer(layer)
    bench = plugin.open_dock()
    bench.choose_layer(layer)
    assert bench.session.layer_problem
    assert bench.service.of(Method.OPEN) == []
    layer.setDataSource(str(write_raster(tmp_path / "here.tif")), "moved", "gdal")
    spin(20)
    assert bench.session.layer is layer
    assert bench.session.layer_problem == ""
    assert bench.session.bands == (1, 2, 3)
    assert bench.service.last(Method.OPEN).params.uri == str(tmp_path / "here.tif")
    layer.setDataSource(str(write_raster(tmp_path / "other.tif")), "moved", "gdal")
    spin(20)
    assert bench.service.last(Method.OPEN).params.uri == str(tmp_path / "other.tif")


def test_changed_settings_start_another_engine_and_open_the_raster_anew(at_work: SamTunePlugin) -> None:
    bench = at_work.workbench
    opened = len(bench.service.of(Method.OPEN))
    bench.apply_settings()
    assert len(bench.service.of(Method.OPEN)) == opened, "nothing that concerns the engine was changed"
    at_work._settings.device.setValue("cpu")
    try:
        bench.apply_settings()
        assert len(bench.service.of(Method.OPEN)) == opened + 1
    finally:
        at_work._settings.device.remove()


@pytest.mark.parametrize("was_open", [True, False])
def test_panel_comes_back_as_it_was_left(plugin: SamTunePlugin, window: Window, was_open: bool) -> None:
    action = window.menu.actions()[0]
    action.trigger()
    spin(10)
    if not was_open:
        action.trigger()
    plugin.unload()
    spin(10)
    plugin.initGui()
    spin(10)
    try:
        assert (plugin.workbench is not None) is was_open
    finally:
        plugin._settings.dock_open.remove()
