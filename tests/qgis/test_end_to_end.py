"""The main job with the real engine: sample imagery, real events, polygons read back, and the engine killed at work."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransform, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QElapsedTimer, QPoint, Qt
from qgis.PyQt.QtTest import QTest
from samtune import classFactory
from samtune.engine.messages import EngineSettings
from samtune.models.errors import EnvironmentMissingError
from samtune.plugin.engine_config import PLUGIN_FOLDER, engine_location
from samtune.plugin.environment import find_interpreter
from samtune.plugin.plugin import SamTunePlugin
from samtune.plugin.session import EngineState, NoticeLevel
from samtune.plugin.settings import PluginSettings
from samtune.plugin.workbench import Workbench
from samtune_test_engine_helpers import python
from samtune_test_support import Window, click, drag, show_layer, spin

SAMPLE = PLUGIN_FOLDER / "docs" / "sample" / "neon_osbs.tif"
WEIGHTS = PLUGIN_FOLDER / "models" / "weights" / "tiny.safetensors"
PATIENCE_MS = 60_000


def wait(condition: Callable[[], object], what: str) -> None:
    timer = QElapsedTimer()
    timer.start()
    while not condition():
        if timer.elapsed() > PATIENCE_MS:
            raise AssertionError(f"waited in vain for {what}")
        QTest.qWait(10)


@pytest.fixture
def target(project: QgsProject) -> QgsVectorLayer:
    layer = QgsVectorLayer("MultiPolygon?crs=EPSG:4326&field=class:string&field=area:double", "objects", "memory")
    project.addMapLayer(layer)
    return layer


@pytest.fixture
def bench(
    window: Window,
    without_plugin: None,
    project: QgsProject,
    target: QgsVectorLayer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Workbench]:
    """The panel with the sample open in EPSG:3857, a target in EPSG:4326, and the map tool in hand."""
    settings = PluginSettings()
    try:
        find_interpreter(engine_location(settings))
    except EnvironmentMissingError:
        pytest.skip("no engine environment: set SAMTUNE_ENGINE_PYTHON or run `make setup-engine`")
    finally:
        settings.unload()
    if not WEIGHTS.is_file():
        pytest.skip("the tiny model's weights are not in this checkout")
    layer = QgsRasterLayer(str(SAMPLE), "sample")
    project.addMapLayer(layer)
    window.canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:3857"))
    show_layer(window.canvas, layer)
    own_store = EngineSettings(threads=1, store_dir=str(tmp_path / "store"))
    monkeypatch.setattr(PluginSettings, "engine_settings", lambda self: own_store)
    plugin: SamTunePlugin = classFactory(window)
    plugin.initGui()
    made = plugin.open_dock()
    made.session.set_fixed_level(None)
    made.session.set_model("tiny")
    made.session.set_target(target, "class")
    made.session.set_class_value("tree")
    monkeypatch.setattr(made._acceptor.writer, "_ask", lambda layer, names: False)
    wait(lambda: made.session.raster is not None, "the raster to open")
    made.dock.prompt_button.click()
    wait(lambda: made.session.busy is None, "the crop to be ready")
    yield made
    for entry in plugin._settings.node.childrenSettings():
        entry.remove()
    plugin.unload()
    spin(20)


def box(window: Window) -> None:
    """Draw a box around the large crown right of the middle; a box always has an outline."""
    middle = QPoint(window.canvas.width() // 2, window.canvas.height() // 2)
    drag(window.canvas, middle - QPoint(60, 60), middle + QPoint(60, 60))


def test_from_a_box_to_a_polygon(bench: Workbench, window: Window, target: QgsVectorLayer, project: QgsProject) -> None:
    crs_before = project.crs()
    box(window)
    wait(lambda: bench.session.outline is not None, "the outline")
    wait(lambda: bench.session.busy is None, "the coarser look")
    outline = bench.session.outline
    assert bench.bands.outline.isVisible()
    QTest.keyClick(window.canvas, Qt.Key.Key_Return)
    wait(lambda: target.featureCount() == 1, "the polygon")
    (feature,) = target.getFeatures()
    geometry = feature.geometry()
    geometry.transform(QgsCoordinateTransform(target.crs(), bench.session.layer.crs(), project))
    overlap = geometry.intersection(outline.geometry).area() / geometry.combine(outline.geometry).area()
    assert overlap > 0.999
    assert feature["class"] == "tree"
    assert feature["area"] == pytest.approx(outline.result.area, rel=0.01)
    assert geometry.isGeosValid()
    assert project.crs() == crs_before
    target.undoStack().undo()
    assert target.featureCount() == 0
    target.undoStack().redo()
    assert target.featureCount() == 1


def test_an_engine_killed_during_a_click_is_one_message_and_the_next_click_works(
    bench: Workbench, window: Window, target: QgsVectorLayer
) -> None:
    errors: list[str] = []
    bench.session.noticed.connect(
        lambda notice: errors.append(notice.text) if notice.level is NoticeLevel.ERROR else None
    )
    pid = bench.service.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # so that the click is under way for certain
    box(window)
    assert bench.controller.answer_due
    os.kill(pid, signal.SIGKILL)
    wait(lambda: bench.session.engine_state is EngineState.FAILED, "the news of its death")
    wait(lambda: not bench.controller.answer_due, "the click to fail")
    QTest.qWait(200)
    assert len(errors) == 1, errors
    assert bench.session.steps == ()
    assert target.featureCount() == 0
    box(window)
    wait(lambda: bench.session.outline is not None, "the outline from a new engine")
    assert bench.service.pid not in (None, pid)
    assert len(errors) == 1


def test_a_click_is_answered_and_the_thumbnail_shows_its_crop(bench: Workbench, window: Window) -> None:
    bench.dock.raster_box.source_group.setCollapsed(False)
    middle = QPoint(window.canvas.width() // 2, window.canvas.height() // 2)
    click(window.canvas, middle)
    wait(lambda: not bench.controller.answer_due, "an answer")
    assert bench.session.outline is not None or bench.session.finding, "an outline, or why there is none"
    wait(lambda: bench.session.thumbnail.startswith(b"\x89PNG"), "the thumbnail")
    assert not bench.dock.raster_box.thumbnail.pixmap().isNull()
    assert bench.bands.frame.isVisible()


def test_clicks_and_accept_before_the_engine_runs_are_answered_when_it_does(
    bench: Workbench, window: Window, target: QgsVectorLayer
) -> None:
    layer = bench.session.layer
    bench.service.stop()
    bench.choose_layer(None)
    wait(lambda: bench.service.pid is None, "the engine to end")
    bench.choose_layer(layer)
    assert bench.session.raster is None
    box(window)
    QTest.keyClick(window.canvas, Qt.Key.Key_Return)
    assert len(bench.session.steps) == 1
    assert bench.bands.box.isVisible(), "the box stays in sight while it waits"
    wait(lambda: target.featureCount() == 1, "the polygon")
    assert bench.session.steps == ()


def test_an_adapter_is_added_used_and_lost(
    bench: Workbench, window: Window, polygon_layer: QgsVectorLayer, tmp_path: Path
) -> None:
    files, folder = tmp_path / "files", tmp_path / "adapters"
    files.mkdir()
    maker = Path(__file__).with_name("make_adapters.py")
    subprocess.run([python(), str(maker), str(PLUGIN_FOLDER), str(files)], check=True, timeout=120)
    told: list[str] = []
    bench.session.noticed.connect(lambda notice: told.append(notice.text))
    bench._settings.adapters_folder.setValue(str(folder))
    bench.apply_settings()
    bench.session.set_target(polygon_layer, "class")
    state = bench.session.adapters
    box(window)
    wait(lambda: bench.session.outline is not None and not bench.controller.answer_due, "the model's own outline")
    plain = bench.session.outline
    assert plain.result.adapter == ""

    bench.adapters.add(str(files / "foreign.safetensors"))
    wait(lambda: any("another base" in text for text in told), "the refusal")
    assert state.known == ()
    bench.adapters.add(str(files / "crowns.safetensors"))
    wait(lambda: state.chosen is not None, "the adapter to be in use")
    assert state.path == str(folder / "crowns.safetensors")
    wait(lambda: bench.session.outline is not plain and not bench.controller.answer_due, "its outline")
    assert bench.session.outline.result.adapter == "crowns"
    assert bench.session.outline.geometry.asWkb() != plain.geometry.asWkb()
    wait(lambda: state.notes, "the warning of its ground resolution")
    assert "100 m per pixel" in state.notes[0]
    assert bench.dock.adapter_box.info_label.text() == "crown · 7\N{NO-BREAK SPACE}objects"
    QTest.keyClick(window.canvas, Qt.Key.Key_Return)
    wait(lambda: polygon_layer.featureCount() == 1, "the polygon")
    assert next(polygon_layer.getFeatures())["adapter"] == "crowns"

    (folder / "crowns.safetensors").unlink()
    wait(lambda: state.chosen is None, "the loss to be noticed")
    box(window)
    wait(lambda: bench.session.outline is not None and not bench.controller.answer_due, "an outline without it")
    assert bench.session.outline.result.adapter == ""
    assert bench.session.outline.result.source in ("memory", "disk"), "the base's embeddings stayed"
