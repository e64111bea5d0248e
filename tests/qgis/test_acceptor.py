"""Accept from the session's side: what is written, where it goes, what is told."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsProject, QgsVectorLayer
from qgis.PyQt.QtTest import QSignalSpy
from samtune.engine.messages import Prompt
from samtune.plugin.acceptor import Acceptor
from samtune.plugin.session import Box, NoticeLevel, Outline, Session
from samtune_test_support import CROP, found, raster_info, sent, square


def make(session: Session, project: QgsProject, path: str = "") -> Acceptor:
    return Acceptor(session, project, lambda layer, names: False, lambda: path)


def outline(session: Session) -> None:
    session.add_step(Box(CROP))
    session.add_step(Prompt(0.0, 0.0))
    asked = sent(points=session.points, box=session.box)
    session.set_outline(Outline(square(), found(None, score=0.75), asked))


def test_outline_goes_into_the_target(
    ready_session: Session, project: QgsProject, polygon_layer: QgsVectorLayer
) -> None:
    ready_session.set_target(polygon_layer, "class")
    ready_session.set_class_value("pond")
    outline(ready_session)
    assert make(ready_session, project).accept()
    (feature,) = polygon_layer.getFeatures()
    assert (feature["class"], feature["prompt"], feature["model"]) == ("pond", "box+point", "tiny")
    assert (feature["score"], feature["raster"], feature["bands"]) == (0.75, "scene.tif", "1,2,3")


def test_what_is_written_is_what_made_the_outline(
    ready_session: Session, project: QgsProject, polygon_layer: QgsVectorLayer
) -> None:
    ready_session.set_target(polygon_layer, "class")
    outline(ready_session)
    ready_session.set_model("vit_b")
    ready_session.set_raster(raster_info("/data/other.tif", fingerprint="g"))
    ready_session.set_steps(())
    assert make(ready_session, project).accept()
    (feature,) = polygon_layer.getFeatures()
    assert (feature["model"], feature["raster"], feature["prompt"]) == ("tiny", "scene.tif", "box+point")


def test_project_and_raster_stay_as_they_are(
    ready_session: Session, project: QgsProject, polygon_layer: QgsVectorLayer
) -> None:
    crs, raster_crs = project.crs(), ready_session.layer.crs()  # type: ignore[union-attr]
    style = ready_session.layer.renderer().type()  # type: ignore[union-attr]
    ready_session.set_target(polygon_layer, "class")
    outline(ready_session)
    make(ready_session, project).accept()
    assert project.crs() == crs
    assert ready_session.layer.crs() == raster_crs  # type: ignore[union-attr]
    assert ready_session.layer.renderer().type() == style  # type: ignore[union-attr]
    assert set(project.mapLayers()) == {ready_session.layer.id(), polygon_layer.id()}  # type: ignore[union-attr]


def test_without_a_target_a_new_geopackage_is_made(ready_session: Session, project: QgsProject, tmp_path: Path) -> None:
    path = tmp_path / "new.gpkg"
    outline(ready_session)
    assert make(ready_session, project, str(path)).accept()
    layer = ready_session.target
    assert layer is not None
    assert layer.isEditable()
    assert layer.crs() == ready_session.layer.crs()  # type: ignore[union-attr]
    assert layer.featureCount() == 1
    assert project.mapLayer(layer.id()) is not None
    assert ready_session.class_field == "class"


def test_change_of_mind_in_the_dialog_keeps_the_outline(ready_session: Session, project: QgsProject) -> None:
    outline(ready_session)
    assert not make(ready_session, project, "").accept()
    assert ready_session.outline is not None
    assert ready_session.target is None


def test_existing_file_is_an_error_and_stays(ready_session: Session, project: QgsProject, tmp_path: Path) -> None:
    path = tmp_path / "mine.gpkg"
    path.write_bytes(b"precious")
    told = QSignalSpy(ready_session.noticed)
    outline(ready_session)
    assert not make(ready_session, project, str(path)).accept()
    assert told[0][0].level is NoticeLevel.ERROR
    assert path.read_bytes() == b"precious"


def test_refusal_of_the_layer_is_told_and_the_outline_stays(
    ready_session: Session, project: QgsProject, polygon_layer: QgsVectorLayer
) -> None:
    polygon_layer.setReadOnly(True)
    ready_session.set_target(polygon_layer, "class")
    told = QSignalSpy(ready_session.noticed)
    outline(ready_session)
    assert not make(ready_session, project).accept()
    assert "read-only" in told[0][0].text
    assert ready_session.outline is not None


def test_nothing_to_accept(ready_session: Session, project: QgsProject, polygon_layer: QgsVectorLayer) -> None:
    ready_session.set_target(polygon_layer, "class")
    assert not make(ready_session, project).accept()
    assert polygon_layer.featureCount() == 0


def test_a_class_field_added_by_consent_is_chosen(ready_session: Session, project: QgsProject) -> None:
    layer = QgsVectorLayer("Polygon?crs=EPSG:32617&field=name:string", "plain", "memory")
    project.addMapLayer(layer)
    ready_session.set_target(layer)
    ready_session.set_class_value("pond")
    outline(ready_session)
    acceptor = Acceptor(ready_session, project, lambda layer, names: True, lambda: "")
    assert acceptor.accept()
    assert ready_session.class_field == "class"
