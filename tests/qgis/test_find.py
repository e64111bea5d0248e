"""Find all: from the answer to reviewable features, in one undo command, whatever happens meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import Qgis, QgsGeometry, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QTimer
from samtune.engine.messages import Method
from samtune.models.errors import EngineDiedError, PromptError
from samtune.plugin.area_choice import AreaChoice, AreaKind, View, area_wkb
from samtune.plugin.area_texts import AreaWork, reason_against
from samtune.plugin.engine_requests import EngineRequests
from samtune.plugin.engine_service import EngineService
from samtune.plugin.find_controller import FindController, FindOrder
from samtune.plugin.map_frame import from_wkb_hex
from samtune.plugin.session import NoticeLevel, Session
from samtune.plugin.target_layer import TargetWriter
from samtune_test_area_support import find_params, find_result, layer_of, summary
from samtune_test_engine_helpers import fake_config, wait_until
from samtune_test_support import COLUMNS, LEFT, PIXEL, ROWS, TOP, ScriptedService, spin


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def told(ready_session: Session) -> list[tuple[NoticeLevel, str]]:
    heard: list[tuple[NoticeLevel, str]] = []
    ready_session.noticed.connect(lambda notice: heard.append((notice.level, notice.text)))
    return heard


@pytest.fixture
def find(
    ready_session: Session, service: ScriptedService, project: QgsProject, told: object
) -> Iterator[FindController]:
    ready_session.adapters.choose(summary())
    made = FindController(ready_session, service, project, TargetWriter(project, lambda _layer, _names: True))
    yield made
    made.cancel()


def run(find: FindController, target: QgsVectorLayer, threshold: float = 0.3) -> None:
    find.run(FindOrder("", threshold, target, "class"))


def test_objects_become_features_to_be_reviewed_in_one_undo_command(
    find: FindController, service: ScriptedService, polygon_layer: QgsVectorLayer, told: list
) -> None:
    run(find, polygon_layer, 0.4)
    params = find_params(service.last(Method.FIND))
    assert (params.adapter, params.threshold, params.model) == ("/adapters/crowns.safetensors", 0.4, "tiny")
    finished: list[QgsVectorLayer] = []
    find.finished.connect(finished.append)
    service.last(Method.FIND).on_result(find_result(30))
    wait_until(lambda: finished, 60)
    features = list(polygon_layer.getFeatures())
    assert len(features) == 30
    first = features[0]
    assert (first["class"], first["adapter"], first["prompt"], first["reviewed"]) == ("crown", "crowns", "find", False)
    assert first["raster"] == "scene.tif"
    assert first["bands"] == "1,2,3"
    assert 0.39 < min(feature["score"] for feature in features) < max(feature["score"] for feature in features) <= 0.9
    assert abs(first["area"] - 16.0) < 0.5
    extent = polygon_layer.extent()
    assert -82 < extent.xMinimum() < extent.xMaximum() < -80, "in the layer's CRS"
    assert polygon_layer.undoStack().count() == 1
    polygon_layer.undoStack().undo()
    assert polygon_layer.featureCount() == 0
    assert (NoticeLevel.SUCCESS) in [level for level, _text in told]


def test_many_objects_do_not_hold_up_the_main_thread(
    find: FindController, service: ScriptedService, polygon_layer: QgsVectorLayer
) -> None:
    run(find, polygon_layer)
    marks, pulse = [], QTimer()
    pulse.setInterval(0)
    pulse.timeout.connect(lambda: marks.append(time.thread_time()))  # a busy machine is not this thread's doing
    finished: list[QgsVectorLayer] = []
    find.finished.connect(finished.append)
    pulse.start()
    service.last(Method.FIND).on_result(find_result(1500))
    wait_until(lambda: finished, 60)
    pulse.stop()
    assert polygon_layer.featureCount() == 1500
    gaps = sorted(marks[i + 1] - marks[i] for i in range(len(marks) - 1))
    assert len(gaps) > 20
    assert gaps[-1 - len(gaps) // 50] < 0.05, "98 of 100 slices leave the hand nothing to notice"


def test_a_single_polygon_layer_in_another_crs(
    ready_session: Session, service: ScriptedService, project: QgsProject
) -> None:
    asked: list[tuple[str, ...]] = []
    ready_session.adapters.choose(summary())
    writer = TargetWriter(project, lambda _layer, names: asked.append(names) is None)
    find = FindController(ready_session, service, project, writer)
    layer = QgsVectorLayer("Polygon?crs=EPSG:3857&field=reviewed:bool", "single", "memory")
    project.addMapLayer(layer)
    run(find, layer)
    assert len(asked) == 1, "before the search, not when its answer comes"
    service.last(Method.FIND).on_result(find_result(4))
    wait_until(lambda: layer.featureCount() == 4)
    geometry = next(layer.getFeatures()).geometry()
    assert geometry.wkbType() == Qgis.WkbType.Polygon
    assert geometry.boundingBox().xMinimum() < -8_000_000
    assert {feature["class"] for feature in layer.getFeatures()} == {"crown"}, "fields were added, on consent"
    assert len(asked) == 1


def test_cancel_while_searching_and_while_writing_leaves_nothing(
    find: FindController, service: ScriptedService, polygon_layer: QgsVectorLayer, ready_session: Session
) -> None:
    run(find, polygon_layer)
    find.cancel()
    assert service.last(Method.FIND).cancelled
    run(find, polygon_layer)
    service.last(Method.FIND).on_result(find_result(800))
    wait_until(lambda: polygon_layer.featureCount() > 5, 30)
    find.cancel()
    spin(20)
    assert polygon_layer.featureCount() == 0
    assert not polygon_layer.isEditCommandActive()
    assert not polygon_layer.isEditable(), "it was not being edited before"
    assert ready_session.busy is None
    assert not find.busy


def test_the_engine_dies(
    find: FindController, service: ScriptedService, polygon_layer: QgsVectorLayer, told: list
) -> None:
    run(find, polygon_layer)
    service.last(Method.FIND).on_error(EngineDiedError("The engine stopped. Start again."))
    assert told == [(NoticeLevel.ERROR, "The engine stopped. Start again.")]
    assert not find.busy
    assert polygon_layer.featureCount() == 0


def test_nothing_found_says_what_to_do(
    find: FindController, service: ScriptedService, polygon_layer: QgsVectorLayer, told: list
) -> None:
    run(find, polygon_layer)
    service.last(Method.FIND).on_result(find_result(0, notes=("Half of it has no data.",)))
    assert [level for level, _text in told] == [NoticeLevel.INFO, NoticeLevel.WARNING]
    assert "0.30" in told[1][1]


def rescued(project: QgsProject) -> QgsVectorLayer | None:
    return next(iter(project.mapLayersByName("Found objects")), None)


def test_when_the_target_is_removed_while_searching_nothing_found_is_lost(
    find: FindController, service: ScriptedService, project: QgsProject, polygon_layer: QgsVectorLayer
) -> None:
    run(find, polygon_layer)
    project.removeMapLayer(polygon_layer.id())
    service.last(Method.FIND).on_result(find_result(12))
    wait_until(lambda: rescued(project) is not None and rescued(project).featureCount() == 12)
    assert rescued(project).crs().authid() == "EPSG:32617"


def test_when_the_target_is_removed_while_writing_nothing_found_is_lost(
    find: FindController, service: ScriptedService, project: QgsProject, polygon_layer: QgsVectorLayer
) -> None:
    run(find, polygon_layer)
    service.last(Method.FIND).on_result(find_result(600))
    wait_until(lambda: polygon_layer.featureCount() > 5, 30)
    polygon_layer.rollBack()  # as the user answers QGIS's question about unsaved edits
    project.removeMapLayer(polygon_layer.id())
    wait_until(lambda: rescued(project) is not None and rescued(project).featureCount() == 600, 60)


def test_edits_given_up_while_writing(
    find: FindController, service: ScriptedService, project: QgsProject, polygon_layer: QgsVectorLayer
) -> None:
    polygon_layer.startEditing()
    run(find, polygon_layer)
    service.last(Method.FIND).on_result(find_result(600))
    wait_until(lambda: polygon_layer.featureCount() > 5, 30)
    assert polygon_layer.commitChanges(), "saving in the middle is no harm"
    assert polygon_layer.featureCount() == 0, "no half list is saved"
    wait_until(lambda: rescued(project) is not None and rescued(project).featureCount() == 600, 60)


def test_another_raster_is_chosen_meanwhile(
    find: FindController, service: ScriptedService, polygon_layer: QgsVectorLayer, ready_session: Session
) -> None:
    run(find, polygon_layer)
    ready_session.set_layer(None)
    service.last(Method.FIND).on_result(find_result(3))
    wait_until(lambda: polygon_layer.featureCount() == 3)
    assert {feature["raster"] for feature in polygon_layer.getFeatures()} == {"scene.tif"}


# --- through a real engine process with make-believe services ---------------------------------------------------------


@pytest.fixture
def fake_work() -> Iterator[tuple[EngineService, EngineRequests]]:
    service = EngineService(fake_config(), "test")
    yield service, (requests := EngineRequests(service))
    requests.stop()
    service.shutdown()


def test_through_an_engine_process(
    fake_work: tuple[EngineService, EngineRequests],
    ready_session: Session,
    project: QgsProject,
    polygon_layer: QgsVectorLayer,
    told: list,
) -> None:
    ready_session.adapters.choose(summary(path=Path("/adapters/find:7.safetensors")))
    find = FindController(ready_session, fake_work[1], project, TargetWriter(project, lambda *_: True))
    seen = []
    ready_session.busy_changed.connect(lambda: seen.append(ready_session.busy))
    run(find, polygon_layer)
    wait_until(lambda: not find.busy, 30)
    assert polygon_layer.featureCount() == 7
    assert any(busy is not None and busy.fraction > 0 for busy in seen)
    ready_session.adapters.choose(summary(path=Path("/adapters/die.safetensors")))
    run(find, polygon_layer)
    wait_until(lambda: any(level is NoticeLevel.ERROR for level, _text in told), 30)
    assert polygon_layer.featureCount() == 7


def test_a_search_in_an_engine_process_is_cancelled(
    fake_work: tuple[EngineService, EngineRequests],
    ready_session: Session,
    project: QgsProject,
    polygon_layer: QgsVectorLayer,
) -> None:
    ready_session.adapters.choose(summary(path=Path("/adapters/find:2000.safetensors")))
    find = FindController(ready_session, fake_work[1], project, TargetWriter(project, lambda *_: True))
    run(find, polygon_layer)
    wait_until(lambda: ready_session.busy is not None and ready_session.busy.fraction > 0, 30)
    find.cancel()
    ready_session.adapters.choose(summary(path=Path("/adapters/find:2.safetensors")))
    run(find, polygon_layer)
    wait_until(lambda: polygon_layer.featureCount() == 2, 30)


# --- where ------------------------------------------------------------------------------------------------------------


def test_areas_in_the_raster_s_crs(project: QgsProject, raster_layer: QgsRasterLayer, canvas: object) -> None:
    canvas.setLayers([raster_layer])
    canvas.zoomToFeatureExtent(canvas.mapSettings().layerExtentToOutputExtent(raster_layer, raster_layer.extent()))
    view = View(canvas.extent(), canvas.mapSettings().destinationCrs())
    assert area_wkb(AreaChoice(AreaKind.LAYER), raster_layer, view, project) == ""
    whole = from_wkb_hex(area_wkb(AreaChoice(AreaKind.VIEW), raster_layer, view, project))
    assert abs(whole.area() / (COLUMNS * ROWS * PIXEL**2) - 1) < 0.01, "cut to the raster"
    polygons = layer_of([0.5, 0.6], crs="EPSG:32617")
    both = from_wkb_hex(area_wkb(AreaChoice(AreaKind.POLYGONS, polygons), raster_layer, view, project))
    assert abs(both.area() - 128) < 1e-6
    polygons.select(next(polygons.getFeatures()).id())
    one = from_wkb_hex(area_wkb(AreaChoice(AreaKind.POLYGONS, polygons), raster_layer, view, project))
    assert abs(one.area() - 64) < 1e-6
    assert one.intersects(QgsGeometry.fromWkt(f"Point({LEFT + 12} {TOP - 22})"))


def test_areas_that_are_none(project: QgsProject, raster_layer: QgsRasterLayer, canvas: object) -> None:
    far = QgsVectorLayer("Polygon?crs=EPSG:4326", "far", "memory")
    view = View(canvas.extent(), canvas.mapSettings().destinationCrs())
    for choice in (AreaChoice(AreaKind.POLYGONS, None), AreaChoice(AreaKind.POLYGONS, far)):
        with pytest.raises(PromptError):
            area_wkb(choice, raster_layer, view, project)
    canvas.setExtent(QgsGeometry.fromWkt("LineString(0 0, 10 10)").boundingBox())
    elsewhere = View(canvas.extent(), canvas.mapSettings().destinationCrs())
    with pytest.raises(PromptError, match="does not touch"):
        area_wkb(AreaChoice(AreaKind.VIEW), raster_layer, elsewhere, project)


def test_what_keeps_from_it(ready_session: Session) -> None:
    assert "find all objects" in reason_against(AreaWork.FIND, ready_session)
    ready_session.adapters.choose(summary())
    assert reason_against(AreaWork.FIND, ready_session) == ""
    assert "class maps" in reason_against(AreaWork.MAP, ready_session)
    ready_session.adapters.choose(summary("semantic", further=(9,)))
    assert "needs the bands 9" in reason_against(AreaWork.MAP, ready_session)
    ready_session.adapters.choose(summary("semantic"))
    assert reason_against(AreaWork.MAP, ready_session) == ""
    assert reason_against(AreaWork.SUGGEST, ready_session) == ""
    assert "Into" in reason_against(AreaWork.REVIEW, ready_session)
    ready_session.set_models((replace(ready_session.models[0], present=False),))
    assert "Download" in reason_against(AreaWork.MAP, ready_session)
