"""Features of layers written to a file for the engine: as they are now, whatever the layer is."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import (
    NULL,
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFeedback,
    QgsGeometry,
    QgsProject,
    QgsRectangle,
    QgsVectorLayer,
    QgsWkbTypes,
)
from samtune.engine.batch_messages import VectorSource
from samtune.engine.tune_messages import LabelSource
from samtune.models.errors import CancelledByUser, OutputError
from samtune.plugin.batch_features import WriteFeaturesTask
from samtune.plugin.feature_file import FeatureSnapshot, features_of, label_file, outline_of
from samtune.plugin.label_file import LabelFileTask
from samtune.plugin.tasks import BaseTask, TaskController
from samtune_test_engine_helpers import wait_until


def layer_of(kind: str, *wkts: str, fields: str = "field=name:string") -> QgsVectorLayer:
    layer = QgsVectorLayer(f"{kind}&{fields}", "trees", "memory")
    for number, wkt in enumerate(wkts):
        layer.dataProvider().addFeature(feature(layer, wkt, f"n{number}"))
    layer.updateExtents()
    return layer


def feature(layer: QgsVectorLayer, wkt: str, *values: object) -> QgsFeature:
    made = QgsFeature(layer.fields())
    made.setAttributes(list(values))
    if wkt:
        made.setGeometry(QgsGeometry.fromWkt(wkt))
    return made


def write(snapshot: FeatureSnapshot, path: Path) -> object:
    return done(WriteFeaturesTask("write", [(snapshot, path)]))


def done(task: BaseTask) -> object:
    """Run a task as the plugin does; return its result, or its error."""
    ends: list[object] = []
    tasks = TaskController(QgsApplication.taskManager())
    task.succeeded.connect(ends.append)
    task.failed.connect(ends.append)
    tasks.submit(task)
    wait_until(lambda: ends)
    return ends[0]


def read(path: Path) -> QgsVectorLayer:
    layer = QgsVectorLayer(str(path), "back", "ogr")
    assert layer.isValid()
    return layer


def test_unsaved_edits_are_written_and_the_layer_stays_in_edit_mode(project: QgsProject, tmp_path: Path) -> None:
    layer = layer_of("Point?crs=EPSG:32617", "Point (500010 3299990)", "Point (500020 3299980)")
    project.addMapLayer(layer)
    layer.startEditing()
    layer.addFeature(feature(layer, "Point (500030 3299970)", "new"))
    first = next(found for found in layer.getFeatures() if found["name"] == "n0")
    layer.changeAttributeValue(first.id(), 0, "changed")
    path = tmp_path / "job.prompts.gpkg"
    assert write(features_of(layer, selected=False), path) == (VectorSource(str(path), "job.prompts"),)
    assert sorted(found["name"] for found in read(path).getFeatures()) == ["changed", "n1", "new"]
    assert read(path).crs().authid() == "EPSG:32617"
    assert layer.isEditable()
    assert layer.isModified()


def test_only_selected_features(project: QgsProject, tmp_path: Path) -> None:
    layer = layer_of("Point?crs=EPSG:4326", "Point (1 1)", "Point (2 2)", "Point (3 3)")
    project.addMapLayer(layer)
    layer.selectByExpression("name <> 'n1'")
    snapshot = features_of(layer, selected=True)
    assert snapshot.count == 2
    write(snapshot, tmp_path / "a.gpkg")
    assert sorted(found["name"] for found in read(tmp_path / "a.gpkg").getFeatures()) == ["n0", "n2"]


def test_curves_and_heights_become_plain_polygons(project: QgsProject, tmp_path: Path) -> None:
    circle = "CurvePolygonZ (CircularStringZ (0 0 5, 10 0 5, 0 0 5))"
    layer = layer_of("CurvePolygonZ?crs=EPSG:32617", circle)
    assert layer.featureCount() == 1
    project.addMapLayer(layer)
    write(features_of(layer, selected=False), tmp_path / "a.gpkg")
    (found,) = read(tmp_path / "a.gpkg").getFeatures()
    assert not QgsWkbTypes.isCurvedType(found.geometry().wkbType())
    assert not QgsWkbTypes.hasZ(found.geometry().wkbType())
    assert found.geometry().area() == pytest.approx(78.54, rel=0.01)


def test_a_field_named_fid_is_an_ordinary_field(project: QgsProject, tmp_path: Path) -> None:
    layer = layer_of("Point?crs=EPSG:4326", fields="field=fid:int&field=name:string")
    layer.dataProvider().addFeatures([feature(layer, "Point (1 1)", 7, "a"), feature(layer, "Point (2 2)", 7, "b")])
    project.addMapLayer(layer)
    write(features_of(layer, selected=False), tmp_path / "a.gpkg")
    assert [(found["fid"], found["name"]) for found in read(tmp_path / "a.gpkg").getFeatures()] == [(7, "a"), (7, "b")]


def test_a_layer_without_crs_stays_without(project: QgsProject, tmp_path: Path) -> None:
    layer = layer_of("Point?crs=", "Point (3 4)")
    layer.setCrs(QgsCoordinateReferenceSystem())
    project.addMapLayer(layer)
    write(features_of(layer, selected=False), tmp_path / "a.gpkg")
    assert not read(tmp_path / "a.gpkg").crs().authid().startswith("EPSG")


def test_what_the_map_shows_is_a_polygon_with_points_along_its_edges(qgis_app: object, tmp_path: Path) -> None:
    rectangle = QgsGeometry.fromRect(QgsRectangle(0, 0, 100, 50))
    write(outline_of(rectangle, QgsCoordinateReferenceSystem("EPSG:3857"), "map"), tmp_path / "a.gpkg")
    (found,) = read(tmp_path / "a.gpkg").getFeatures()
    assert found.geometry().area() == pytest.approx(5000)
    assert len(list(found.geometry().vertices())) > 60
    assert read(tmp_path / "a.gpkg").crs().authid() == "EPSG:3857"


def test_nothing_to_write_is_an_error_and_leaves_no_file(project: QgsProject, tmp_path: Path) -> None:
    layer = layer_of("Point?crs=EPSG:4326")
    layer.dataProvider().addFeature(feature(layer, "", "no geometry"))
    project.addMapLayer(layer)
    error = write(features_of(layer, selected=False), tmp_path / "a.gpkg")
    assert isinstance(error, OutputError)
    assert "trees" in error.user_text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(project: QgsProject, tmp_path: Path) -> None:
    layer = layer_of("Point?crs=EPSG:4326", "Point (1 1)")
    project.addMapLayer(layer)
    error = write(features_of(layer, selected=False), tmp_path / "gone" / "a.gpkg")
    assert isinstance(error, OutputError)
    assert str(tmp_path / "gone") in error.user_text


def test_a_filter_and_a_selection_both_count(project: QgsProject) -> None:
    layer = layer_of("Point?crs=EPSG:4326", "Point (1 1)", "Point (2 2)", "Point (3 3)")
    project.addMapLayer(layer)
    layer.selectByExpression("name <> 'n1'")
    both = features_of(layer, selected=True, expression="$x > 1")
    assert [found["name"] for found in both.features(QgsFeedback())] == ["n2"]
    unselected = features_of(layer, expression="$x > 1")
    assert [found["name"] for found in unselected.features(QgsFeedback())] == ["n1", "n2"]


def test_reading_stops_when_it_is_cancelled(project: QgsProject) -> None:
    layer = layer_of("Point?crs=EPSG:4326", "Point (1 1)", "Point (2 2)")
    project.addMapLayer(layer)
    feedback, features = QgsFeedback(), features_of(layer)
    found = features.features(feedback)
    next(found)
    feedback.cancel()
    with pytest.raises(CancelledByUser):
        next(found)


def test_what_fails_half_way_leaves_the_former_file(qgis_app: object, tmp_path: Path) -> None:
    crs, path = QgsCoordinateReferenceSystem("EPSG:3857"), tmp_path / "a.gpkg"
    square = QgsGeometry.fromRect(QgsRectangle(0, 0, 1, 1))
    with label_file(path, crs, OutputError) as file:
        file.add_one(square, ["first"])
    before = path.read_bytes()

    def fail() -> None:
        with label_file(path, crs, OutputError) as file:
            file.add_one(square, ["second"])
            raise CancelledByUser

    with pytest.raises(CancelledByUser):
        fail()
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["a.gpkg"]


def test_labels_keep_unsaved_edits_and_a_missing_class_is_none(project: QgsProject, tmp_path: Path) -> None:
    circle = "CurvePolygonZ (CircularStringZ (0 0 5, 10 0 5, 0 0 5))"
    layer = layer_of("CurvePolygonZ?crs=EPSG:32617", fields="field=kind:double")
    layer.dataProvider().addFeature(feature(layer, circle, 2.0))
    project.addMapLayer(layer)
    layer.startEditing()
    layer.changeAttributeValue(1, 0, 3.0)
    layer.addFeature(feature(layer, circle, None))
    path = tmp_path / "labels.gpkg"
    assert done(LabelFileTask("labels", layer, "kind", path)) == LabelSource(str(path), "labels", "class")
    found = list(read(path).getFeatures())
    assert sorted(str(item["class"]) for item in found) == ["3", "NULL"]
    assert [item["class"] for item in found if str(item["class"]) != "3"] == [NULL]
    assert all(item.geometry().area() == pytest.approx(78.54, rel=0.01) for item in found)
    assert done(LabelFileTask("labels", layer, "", path)) == LabelSource(str(path), "labels", "")
    layer.rollBack()
