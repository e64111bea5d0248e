"""Class maps: what is asked, and the layer with its colours and names."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsPalettedRasterRenderer, QgsProject, QgsRasterLayer
from samtune.engine.area_messages import MapClass, MapParams, MapResult
from samtune.engine.messages import Method
from samtune.models.errors import EngineDiedError, OutputError
from samtune.plugin.class_map_controller import ClassMapController, MapOrder
from samtune.plugin.session import NoticeLevel, Session
from samtune_test_area_support import summary
from samtune_test_support import ScriptedService, write_raster

CLASSES = (MapClass(1, "water", "#0072b2", 10.0), MapClass(2, "built", "#d55e00", 5.0))


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def told(ready_session: Session) -> list[tuple[NoticeLevel, str]]:
    heard: list[tuple[NoticeLevel, str]] = []
    ready_session.noticed.connect(lambda notice: heard.append((notice.level, notice.text)))
    return heard


@pytest.fixture
def maps(ready_session: Session, service: ScriptedService, project: QgsProject, told: object) -> ClassMapController:
    ready_session.adapters.choose(summary("semantic"))
    return ClassMapController(ready_session, service, project)


def test_the_map_comes_with_colours_and_names(
    maps: ClassMapController, service: ScriptedService, project: QgsProject, tmp_path: Path, told: list
) -> None:
    maps.run(MapOrder("0106", tmp_path / "classes", confidence=True))
    params = service.last(Method.MAP).params
    assert isinstance(params, MapParams)
    assert params.output == str(tmp_path / "classes.tif")
    assert params.confidence == str(tmp_path / "classes_confidence.tif")
    assert (params.area, params.adapter) == ("0106", "/adapters/crowns.safetensors")
    write_raster(Path(params.output), bands=1)
    write_raster(Path(params.confidence), bands=1)
    service.last(Method.MAP).on_result(MapResult(params.output, params.confidence, CLASSES, 0, 4, 0, 1.0, ("Note.",)))
    (layer,) = project.mapLayersByName("classes")
    assert isinstance(layer, QgsRasterLayer)
    renderer = layer.renderer()
    assert isinstance(renderer, QgsPalettedRasterRenderer)
    assert [(c.value, c.label, c.color.name()) for c in renderer.classes()] == [
        (1, "water", "#0072b2"),
        (2, "built", "#d55e00"),
    ]
    (sureness,) = project.mapLayersByName("classes_confidence")
    assert not project.layerTreeRoot().findLayer(sureness.id()).isVisible()
    assert [level for level, _text in told] == [NoticeLevel.INFO, NoticeLevel.SUCCESS]


def test_nothing_is_overwritten(maps: ClassMapController, service: ScriptedService, tmp_path: Path) -> None:
    (tmp_path / "mine.tif").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        maps.run(MapOrder("", tmp_path / "mine.tif"))
    (tmp_path / "new_confidence.tif").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        maps.run(MapOrder("", tmp_path / "new.tif", confidence=True))
    with pytest.raises(OutputError, match="does not exist"):
        maps.run(MapOrder("", tmp_path / "nowhere" / "new.tif"))
    assert service.calls == []


def test_failure_cancel_and_a_file_that_cannot_be_opened(
    maps: ClassMapController, service: ScriptedService, project: QgsProject, tmp_path: Path, told: list
) -> None:
    maps.run(MapOrder("", tmp_path / "a.tif"))
    service.last(Method.MAP).on_error(EngineDiedError("The engine stopped."))
    maps.run(MapOrder("", tmp_path / "a.tif"))
    maps.cancel()
    assert service.last(Method.MAP).cancelled
    maps.run(MapOrder("", tmp_path / "a.tif"))
    service.last(Method.MAP).on_result(MapResult(str(tmp_path / "a.tif"), "", CLASSES, 0, 4, 0, 1.0))
    assert [level for level, _text in told] == [NoticeLevel.ERROR, NoticeLevel.ERROR]
    assert project.mapLayersByName("a") == []
