"""Whole areas from the panel: buttons, dialogs, bars, the manager; with a scripted engine and real events."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QObject, Qt
from qgis.PyQt.QtTest import QTest
from samtune import classFactory
from samtune.engine.area_messages import FindParams, MapParams, SuggestParams, SuggestResult
from samtune.engine.messages import AdapterReport, Method
from samtune.plugin import workbench as workbench_module
from samtune.plugin.area_choice import AreaKind
from samtune.plugin.area_texts import AreaWork
from samtune.plugin.plugin import SamTunePlugin
from samtune.plugin.session import EngineState
from samtune.plugin.workbench import Workbench
from samtune.ui.area_dialog import FindDialog, MapDialog
from samtune_test_area_support import find_result, layer_of, places
from samtune_test_engine_helpers import wait_until
from samtune_test_support import ScriptedService, Window, model_info, raster_info, show_layer, spin


class FakeService(QObject, ScriptedService):
    def __init__(self, *_arguments: object, parent: QObject | None = None) -> None:
        QObject.__init__(self, parent)
        ScriptedService.__init__(self)
        self.state_changed, self.starting, self.info = mock.MagicMock(), mock.MagicMock(), mock.MagicMock()
        self.log_tail, self.state, self.memory_bytes = "", None, 0

    def configure(self, config: object) -> None: ...

    def start(self) -> None: ...

    def shutdown(self) -> None: ...


def write(folder: Path, name: str, head: str) -> Path:
    card = {"schema": 1, "name": name, "base": {"name": "tiny"}, "head": head, "inputs": {"rgb": [1, 2, 3]}}
    text = json.dumps({"__metadata__": {"format": "samtune-adapter", "card": json.dumps(card)}}).encode()
    path = folder / f"{name}.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


@pytest.fixture
def plugin(
    window: Window, without_plugin: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[SamTunePlugin]:
    monkeypatch.setattr(workbench_module, "EngineService", FakeService)
    made = classFactory(window)
    made.initGui()
    settings = made._settings
    before = settings.adapters_folder.value()
    settings.adapters_folder.setValue(str(tmp_path))
    yield made
    settings.adapters_folder.setValue(before)
    made.unload()
    spin(5)


@pytest.fixture
def bench(plugin: SamTunePlugin, window: Window, raster_layer: QgsRasterLayer, tmp_path: Path) -> Workbench:
    write(tmp_path, "crowns", "instances")
    write(tmp_path, "cover", "semantic")
    made = plugin.open_dock()
    made.session.set_engine(EngineState.READY)
    made.session.set_models((model_info(),))
    made.session.set_raster(raster_info(raster_layer.source()))
    show_layer(window.canvas, raster_layer)
    return made


def button(bench: Workbench, work: AreaWork) -> object:
    return bench.dock.work_box.buttons[work]


def click(widget: object) -> None:
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton)
    spin()


def use(bench: Workbench, name: str) -> None:
    (path,) = [str(summary.path) for summary in bench.session.adapters.known if summary.name == name]
    bench.adapters.choose(path)
    if bench.service.of(Method.CHECK_ADAPTER):
        bench.service.last(Method.CHECK_ADAPTER).on_result(AdapterReport(name, path))


def test_buttons_say_what_they_need(bench: Workbench) -> None:
    bench.adapters.choose("")
    find, maps = button(bench, AreaWork.FIND), button(bench, AreaWork.MAP)
    assert not find.isEnabled()
    assert not maps.isEnabled()
    assert "tuned to find all objects" in find.toolTip()
    assert button(bench, AreaWork.SUGGEST).isEnabled()
    use(bench, "crowns")
    assert find.isEnabled()
    assert not maps.isEnabled()
    use(bench, "cover")
    assert not find.isEnabled()
    assert maps.isEnabled()


def test_find_all_from_the_panel(bench: Workbench, window: Window, polygon_layer: QgsVectorLayer) -> None:
    use(bench, "crowns")
    bench.session.set_target(polygon_layer, "class")
    click(button(bench, AreaWork.FIND))
    dialog = bench.areas.dialogs["find"]
    assert isinstance(dialog, FindDialog)
    assert dialog.isVisible()
    assert not dialog.isModal(), "the map can be moved meanwhile"
    assert dialog.target_combo.currentLayer() is polygon_layer
    assert not dialog.polygon_combo.isVisible()
    dialog.area_combo.setCurrentIndex(2)
    assert dialog.polygon_combo.isVisible()
    click(dialog.start_button)
    assert "has no polygons" in dialog.message_label.text()
    assert dialog.isVisible()
    dialog.area_combo.setCurrentIndex(0)
    dialog.threshold_spin.setValue(0.5)
    click(dialog.start_button)
    assert "find" not in bench.areas.dialogs
    wait_until(lambda: bench.worker.of(Method.FIND))
    call = bench.worker.last(Method.FIND)
    assert isinstance(call.params, FindParams)
    assert call.params.threshold == 0.5
    assert call.params.area
    assert bench.dock.status_box.progress.isVisible() or bench.session.busy is not None
    call.on_result(find_result(9))
    wait_until(lambda: polygon_layer.featureCount() == 9)
    wait_until(lambda: not bench.areas.find.busy)
    click(button(bench, AreaWork.REVIEW))
    queue = bench.areas.review.queue
    wait_until(lambda: not queue.reading)
    assert window.active is polygon_layer, "Ctrl+Z is about it"
    bar = bench.dock.work_box.review_bar
    assert bar.isVisible()
    assert bar.label.text().startswith("1 of 9 · crown · score 0.5")
    click(bar.buttons["accept"])
    assert bar.label.text().startswith("1 of 8")
    click(bar.buttons["reject"])
    assert polygon_layer.featureCount() == 8
    click(bar.buttons["fix"])
    assert window.canvas.mapTool() is bench.tool
    click(bar.close_button)
    assert not bar.isVisible()
    polygon_layer.rollBack()


def test_cancel_in_the_panel(bench: Workbench, polygon_layer: QgsVectorLayer) -> None:
    use(bench, "crowns")
    bench.session.set_target(polygon_layer, "class")
    click(button(bench, AreaWork.FIND))
    click(bench.areas.dialogs["find"].start_button)
    wait_until(lambda: bench.worker.of(Method.FIND))
    click(button(bench, AreaWork.FIND))
    again = bench.areas.dialogs["find"]
    click(again.start_button)
    assert "under way" in again.message_label.text(), "what is being found is not thrown away"
    again.close()
    bench.dock.status_box.cancel_wanted.emit()
    assert not bench.areas.find.busy
    wait_until(lambda: bench.session.busy is None)


def test_class_map_from_the_panel(bench: Workbench, tmp_path: Path) -> None:
    use(bench, "cover")
    click(button(bench, AreaWork.MAP))
    dialog = bench.areas.dialogs["map"]
    assert isinstance(dialog, MapDialog)
    click(dialog.start_button)
    assert "Name the file" in dialog.message_label.text()
    dialog.output_widget.setFilePath(str(tmp_path / "classes.tif"))
    dialog.area_combo.setCurrentIndex(1)
    click(dialog.start_button)
    wait_until(lambda: bench.worker.of(Method.MAP))
    params = bench.worker.last(Method.MAP).params
    assert isinstance(params, MapParams)
    assert (params.output, params.area) == (str(tmp_path / "classes.tif"), "")


def test_label_next_from_the_panel(bench: Workbench, window: Window) -> None:
    bench.adapters.choose("")
    bench.dock.work_box.suggest_actions[AreaKind.LAYER].trigger()
    wait_until(lambda: bench.worker.of(Method.SUGGEST))
    params = bench.worker.last(Method.SUGGEST).params
    assert isinstance(params, SuggestParams)
    assert (params.area, params.labels.path) == ("", "")
    bench.worker.last(Method.SUGGEST).on_result(SuggestResult(places(3), 0, 4, 0.1))
    wait_until(lambda: bench.areas.suggestions.places)
    assert window.canvas.mapTool() is bench.tool
    bar = bench.dock.work_box.suggestion_bar
    assert bar.isVisible()
    click(bar.buttons["fix"])
    assert len(bench.session.points) == 1, "the click tool has it"
    click(bar.buttons["next"])
    assert bench.session.points == ()
    click(bar.buttons["dismiss"])
    assert bar.label.text().startswith("No. 3, 2 left")
    click(bar.close_button)
    assert not bar.isVisible()


def test_the_manager_from_the_panel(bench: Workbench) -> None:
    bench.dock.adapter_box.manage_action.trigger()
    manager = bench.areas.dialogs["manager"]
    bench.dock.adapter_box.manage_action.trigger()
    assert bench.areas.dialogs["manager"] is manager, "raised, not made twice"
    assert manager.table.rowCount() == 2
    manager._select_row(0)
    click(manager.delete_button)
    assert manager.table.rowCount() == 1
    assert manager.undo_button.isEnabled()
    click(manager.undo_button)
    assert manager.table.rowCount() == 2
    manager.close()
    spin(5)
    assert "manager" not in bench.areas.dialogs


def test_the_message_about_a_delete_can_undo_it(bench: Workbench, window: Window) -> None:
    from qgis.PyQt.QtWidgets import QPushButton

    (first, *_rest) = bench.session.adapters.known
    bench.areas.shelf.delete(first)
    assert first not in bench.session.adapters.known
    item = window.bar.currentItem()
    assert "deleted" in item.text()
    (undo,) = [child for child in item.findChildren(QPushButton) if child.text() == "Undo"]
    click(undo)
    assert first.path in [summary.path for summary in bench.session.adapters.known]


def test_review_survives_the_removal_of_its_layer(bench: Workbench, project: QgsProject) -> None:
    layer = layer_of([0.4, 0.6])
    project.addMapLayer(layer)
    bench.session.set_target(layer, "class")
    click(button(bench, AreaWork.REVIEW))
    assert bench.dock.work_box.review_bar.isVisible()
    project.removeMapLayer(layer.id())
    spin(5)
    assert not bench.dock.work_box.review_bar.isVisible()
    assert not button(bench, AreaWork.REVIEW).isEnabled()
    assert "Into" in button(bench, AreaWork.REVIEW).toolTip()
