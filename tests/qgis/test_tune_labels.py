"""The polygons of the fine-tune wizard: which are written, in which CRS, with which class, edits included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import (
    Qgis,
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsGeometry,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from samtune.models.errors import OutputError, SamTuneError, TuningError
from samtune.plugin.tasks import TaskController
from samtune.plugin.tune_draft import ExtentChoice, ExtentKind, LabelChoice, TuneDraft
from samtune.plugin.tune_labels import WriteLabelsTask, WrittenLabels, plan_labels
from samtune_test_engine_helpers import wait_until
from samtune_test_support import LEFT, TOP
from samtune_test_tune_support import box, label_layer


@pytest.fixture
def draft(project: QgsProject, raster_layer: QgsRasterLayer) -> Iterator[TuneDraft]:
    made = TuneDraft(project)
    made.set_rasters((raster_layer.id(),))
    yield made
    made.stop()


def write(draft: TuneDraft, project: QgsProject, folder: Path) -> WrittenLabels:
    """Write as the wizard does, in a task.

    Raises:
        SamTuneError: as the task.
    """
    plan = plan_labels(draft, project, folder / "labels.gpkg", folder / "extent.gpkg")
    task, done = WriteLabelsTask(plan), []
    task.succeeded.connect(done.append)
    task.failed.connect(done.append)
    TaskController(QgsApplication.taskManager()).submit(task)
    wait_until(lambda: done)
    if isinstance(done[0], SamTuneError):
        raise done[0]
    return done[0]


def read(written: WrittenLabels) -> tuple[QgsVectorLayer, list[tuple[str, QgsGeometry]]]:
    layer = QgsVectorLayer(f"{written.source.path}|layername={written.source.layer}", "read", "ogr")
    assert layer.isValid()
    return layer, [(f["class"], QgsGeometry(f.geometry())) for f in layer.getFeatures()]


def classes(written: WrittenLabels) -> list[str]:
    return [name for name, _geometry in read(written)[1]]


def test_all_of_one_layer_with_a_class_field(draft: TuneDraft, project: QgsProject, tmp_path: Path) -> None:
    layer = label_layer(project, 4)
    draft.set_labels((LabelChoice(layer.id(), class_field="kind"),))
    written = write(draft, project, tmp_path)
    shown, found = read(written)
    assert [name for name, _ in found] == ["red", "grey", "red", "grey"]
    assert shown.crs() == layer.crs()
    assert all(geometry.isGeosEqual(box(index)) for index, (_, geometry) in enumerate(found))
    assert written.origins == tuple((layer.id(), feature.id()) for feature in layer.getFeatures())
    assert written.extent == ""


def test_one_class(draft: TuneDraft, project: QgsProject, tmp_path: Path) -> None:
    draft.set_labels((LabelChoice(label_layer(project, 2).id(), class_name=" roof "),))
    assert classes(write(draft, project, tmp_path)) == ["roof", "roof"]


def test_numbers_as_classes(draft: TuneDraft, project: QgsProject, tmp_path: Path) -> None:
    draft.set_labels((LabelChoice(label_layer(project, 3).id(), class_field="size"),))
    assert classes(write(draft, project, tmp_path)) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("selected", "expression", "expected"),
    [
        ([1, 2, 3], "", ["0", "1", "2"]),
        ([], '"size" >= 3', ["3", "4"]),
        ([1, 5], "\"kind\" = 'red' and $area > 1", ["0", "4"]),
        ([2, 5], "\"kind\" = 'red'", ["4"]),
    ],
)
def test_selection_and_filter(
    draft: TuneDraft, project: QgsProject, tmp_path: Path, selected: list[int], expression: str, expected: list[str]
) -> None:
    layer = label_layer(project, 5)
    layer.selectByIds(selected)
    choice = LabelChoice(layer.id(), selected_only=bool(selected), expression=expression, class_field="size")
    draft.set_labels((choice,))
    assert sorted(classes(write(draft, project, tmp_path))) == expected


def test_nothing_selected_is_said(draft: TuneDraft, project: QgsProject, tmp_path: Path) -> None:
    draft.set_labels((LabelChoice(label_layer(project, 5).id(), selected_only=True),))
    with pytest.raises(TuningError, match="None of the chosen polygons remain"):
        write(draft, project, tmp_path)


@pytest.mark.parametrize("expression", ["nofield > 3", "kind =", "nofunction(1)"])
def test_a_wrong_expression_is_said_before_anything_is_read(
    draft: TuneDraft, project: QgsProject, tmp_path: Path, expression: str
) -> None:
    draft.set_labels((LabelChoice(label_layer(project, 5).id(), expression=expression),))
    with pytest.raises(TuningError, match=r"filter of “roofs”.*Correct it"):
        write(draft, project, tmp_path)


def test_edits_not_yet_saved(draft: TuneDraft, project: QgsProject, tmp_path: Path) -> None:
    layer = label_layer(project, 3)
    draft.set_labels((LabelChoice(layer.id(), class_field="kind"),))
    layer.startEditing()
    added = QgsFeature(layer.fields())
    added.setGeometry(box(7))
    added.setAttributes(["new", 9])
    layer.addFeature(added)
    layer.deleteFeature(1)
    layer.changeAttributeValue(2, 0, "changed")
    layer.changeGeometry(3, box(5))
    _shown, found = read(write(draft, project, tmp_path))
    by_class = dict(found)
    assert set(by_class) == {"changed", "red", "new"}
    assert by_class["new"].isGeosEqual(box(7))
    assert by_class["red"].isGeosEqual(box(5))
    layer.rollBack()


def test_layers_in_several_crs_are_brought_together(draft: TuneDraft, project: QgsProject, tmp_path: Path) -> None:
    utm = label_layer(project, 2)
    geographic = label_layer(project, 0, "more", crs="EPSG:4326")
    moved = box(4)
    moved.transform(QgsCoordinateTransform(utm.crs(), geographic.crs(), project.transformContext()))
    feature = QgsFeature(geographic.fields())
    feature.setGeometry(moved)
    geographic.dataProvider().addFeatures([feature])
    draft.set_labels((LabelChoice(utm.id()), LabelChoice(geographic.id(), class_name="more")))
    written = write(draft, project, tmp_path)
    shown, found = read(written)
    assert shown.crs() == utm.crs()
    assert [name for name, _ in found] == ["roofs", "roofs", "more"]
    assert found[2][1].hausdorffDistance(box(4)) < 0.01
    assert written.origins[2] == (geographic.id(), 1)


def test_a_layer_without_crs_shares_the_raster_s(draft: TuneDraft, project: QgsProject, tmp_path: Path) -> None:
    layer = label_layer(project, 2)
    layer.setCrs(QgsCoordinateReferenceSystem())
    draft.set_labels((LabelChoice(layer.id()),))
    shown, found = read(write(draft, project, tmp_path))
    assert shown.crs().authid() == "EPSG:32617"
    assert found[0][1].isGeosEqual(box(0))


def test_a_layer_on_disk_with_a_feature_without_class_and_one_without_geometry(
    draft: TuneDraft, project: QgsProject, tmp_path: Path
) -> None:
    memory = label_layer(project, 3)
    empty = QgsFeature(memory.fields())
    empty.setAttributes(["red", 8])
    nameless = QgsFeature(memory.fields())
    nameless.setGeometry(box(8))
    memory.dataProvider().addFeatures([empty, nameless])
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GPKG"
    path = str(tmp_path / "disk.gpkg")
    QgsVectorFileWriter.writeAsVectorFormatV3(memory, path, project.transformContext(), options)
    layer = QgsVectorLayer(path, "disk", "ogr")
    project.addMapLayer(layer)
    draft.set_labels((LabelChoice(layer.id(), class_field="kind"),))
    written = write(draft, project, tmp_path)
    _shown, found = read(written)
    assert [geometry.isEmpty() for _, geometry in found] == [False, False, False, True]
    assert written.notes == ("Left out for want of a class: 1 polygons.",)


def test_curves_and_heights_become_plain_polygons(draft: TuneDraft, project: QgsProject, tmp_path: Path) -> None:
    layer = QgsVectorLayer("CurvePolygonZ?crs=EPSG:32617", "round", "memory")
    project.addMapLayer(layer)
    x, y = LEFT + 50, TOP - 50
    circle = QgsGeometry.fromWkt(
        f"CurvePolygonZ(CircularStringZ({x} {y} 1,{x + 10} {y - 10} 1,{x + 20} {y} 1,{x + 10} {y + 10} 1,{x} {y} 1))"
    )
    feature = QgsFeature()
    feature.setGeometry(circle)
    layer.dataProvider().addFeatures([feature])
    draft.set_labels((LabelChoice(layer.id()),))
    shown, found = read(write(draft, project, tmp_path))
    assert shown.wkbType() == Qgis.WkbType.MultiPolygon
    assert found[0][1].area() == pytest.approx(314.2, rel=0.01)


def test_the_extent_of_a_layer_and_drawn_rectangles(draft: TuneDraft, project: QgsProject, tmp_path: Path) -> None:
    layer, area = label_layer(project, 2), label_layer(project, 1, "area", crs="EPSG:3857")
    draft.set_labels((LabelChoice(layer.id()),))
    draft.set_extent(ExtentChoice(ExtentKind.LAYER, area.id()))
    written = write(draft, project, tmp_path)
    assert QgsVectorLayer(written.extent, "extent", "ogr").crs().authid() == "EPSG:3857"
    rectangle = QgsRectangle(LEFT, TOP - 100, LEFT + 100, TOP)
    crs = layer.crs().toWkt(Qgis.CrsWktVariant.Preferred)
    draft.set_extent(ExtentChoice(ExtentKind.DRAWN, drawn=(rectangle,), crs=crs))
    again = QgsVectorLayer(write(draft, project, tmp_path / "again").extent, "extent", "ogr")
    (feature,) = again.getFeatures()
    assert feature.geometry().boundingBox() == rectangle
    assert again.crs().authid() == "EPSG:32617"


@pytest.mark.parametrize("extent", [ExtentChoice(ExtentKind.LAYER), ExtentChoice(ExtentKind.DRAWN)])
def test_an_extent_that_is_not_there_yet_is_asked_for(
    draft: TuneDraft, project: QgsProject, tmp_path: Path, extent: ExtentChoice
) -> None:
    draft.set_labels((LabelChoice(label_layer(project, 2).id()),))
    draft.set_extent(extent)
    with pytest.raises(TuningError, match="within which you drew everything"):
        write(draft, project, tmp_path)


def test_a_folder_that_cannot_be_written(draft: TuneDraft, project: QgsProject, tmp_path: Path) -> None:
    draft.set_labels((LabelChoice(label_layer(project, 2).id()),))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write(draft, project, tmp_path / "file")


def test_the_draft_tells_of_edits_selection_and_removal(draft: TuneDraft, project: QgsProject) -> None:
    layer = label_layer(project, 3)
    draft.set_labels((LabelChoice(layer.id()),))
    told: list[int] = []
    draft.inputs_changed.connect(lambda: told.append(1))
    layer.selectByIds([1])
    assert len(told) == 1
    layer.startEditing()
    layer.deleteFeature(1)
    assert len(told) > 1
    layer.rollBack()
    told.clear()
    draft.set_labels(())
    told.clear()
    layer.selectByIds([2])
    assert not told, "a layer that is not chosen is not listened to"
    draft.set_labels((LabelChoice(layer.id()),))
    project.removeMapLayer(layer.id())
    assert draft.labels == ()


def test_the_draft_starts_with_what_is_likely_meant(
    draft: TuneDraft, project: QgsProject, raster_layer: QgsRasterLayer
) -> None:
    label_layer(project, 0, "empty")
    roofs = label_layer(project, 2)
    draft.set_rasters(())
    draft.start_with(raster_layer, (3, 2, 1), None)
    assert draft.rasters == (raster_layer.id(),)
    assert draft.rgb == (3, 2, 1)
    assert draft.labels == (LabelChoice(roofs.id(), class_field="kind", class_name="roofs"),)


def test_bands_that_a_raster_has_not_got_are_given_up(draft: TuneDraft, raster_layer: QgsRasterLayer) -> None:
    draft.set_bands((1, 2, 9), (3, 9))
    draft.set_rasters(())
    draft.set_rasters((raster_layer.id(),))
    assert draft.rgb == ()
    assert draft.further == ()
    assert replace(draft.method, steps=3).steps == 3
