"""Accepted outlines in the edit buffer: one feature, one undo command, nothing half-written."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsDefaultValue,
    QgsFeature,
    QgsFieldConstraints,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
    QgsRectangle,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from samtune.models.errors import OutputError
from samtune.plugin.new_geopackage import create_geopackage, load_geopackage
from samtune.plugin.target_fields import FIELD_TYPES
from samtune.plugin.target_layer import Accepted, TargetWriter

UTM = QgsCoordinateReferenceSystem("EPSG:32617")
SQUARE = "Polygon ((500010 3299900, 500030 3299900, 500030 3299890, 500010 3299890, 500010 3299900))"
TWO = (
    "MultiPolygon (((500010 3299900, 500030 3299900, 500030 3299890, 500010 3299890, 500010 3299900)),"
    "((500040 3299900, 500042 3299900, 500042 3299898, 500040 3299898, 500040 3299900)))"
)


def accepted(wkt: str = SQUARE, class_value: str = "tree", **changes: object) -> Accepted:
    values: dict[str, object] = {
        "geometry": QgsGeometry.fromWkt(wkt),
        "crs": UTM,
        "score": 0.87654,
        "model": "tiny",
        "prompt": "point",
        "raster": "scene.tif",
        "bands": (3, 2, 1),
        "class_value": class_value,
    }
    return Accepted(**(values | changes))  # type: ignore[arg-type]


class Consent:
    """Answers the question about fields and counts how often it was asked."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def __call__(self, layer: QgsVectorLayer, names: tuple[str, ...]) -> bool:
        self.asked.append((layer.name(), names))
        return self.answer


def memory_layer(project: QgsProject, description: str, name: str = "target") -> QgsVectorLayer:
    layer = QgsVectorLayer(description, name, "memory")
    project.addMapLayer(layer)
    return layer


def only_feature(layer: QgsVectorLayer) -> QgsFeature:
    features = list(layer.getFeatures())
    assert len(features) == 1
    return features[0]


def test_the_extent_takes_in_what_was_written_even_if_nobody_asked_for_it_before(project: QgsProject) -> None:
    layer = QgsVectorLayer("MultiPolygon?crs=EPSG:32617", "in no project", "memory")
    TargetWriter(project, Consent(answer=False)).write(layer, accepted())
    assert layer.extent() == QgsRectangle(500010, 3299890, 500030, 3299900)


def test_writes_one_reprojected_feature_with_all_attributes(project: QgsProject, polygon_layer: QgsVectorLayer) -> None:
    consent = Consent(answer=False)
    TargetWriter(project, consent).write(polygon_layer, accepted())
    feature = only_feature(polygon_layer)
    assert consent.asked == []
    back = QgsGeometry(feature.geometry())
    back.transform(QgsCoordinateTransform(polygon_layer.crs(), UTM, project))
    assert back.symDifference(QgsGeometry.fromWkt(SQUARE)).area() < 0.01
    assert Qgis.WkbType(feature.geometry().wkbType()) == Qgis.WkbType.MultiPolygon
    assert feature["class"] == "tree"
    assert feature["score"] == pytest.approx(0.8765)
    assert feature["area"] == pytest.approx(200.16, abs=0.1)  # 200 in the plane, times the UTM scale factor
    assert (feature["model"], feature["prompt"], feature["raster"]) == ("tiny", "point", "scene.tif")
    assert feature["bands"] == "3,2,1"
    assert feature["reviewed"] is True
    assert feature["time"].isValid()
    assert not feature["adapter"]


def test_one_undo_command_and_redo(project: QgsProject, polygon_layer: QgsVectorLayer) -> None:
    writer = TargetWriter(project, Consent(answer=False))
    writer.write(polygon_layer, accepted())
    writer.write(polygon_layer, accepted(class_value="roof"))
    stack = polygon_layer.undoStack()
    assert stack.count() == 2
    stack.undo()
    assert [feature["class"] for feature in polygon_layer.getFeatures()] == ["tree"]
    stack.undo()
    assert polygon_layer.featureCount() == 0
    stack.redo()
    assert [feature["class"] for feature in polygon_layer.getFeatures()] == ["tree"]


def test_edits_stay_in_the_buffer(project: QgsProject, tmp_path: Path) -> None:
    path = create_geopackage(tmp_path / "out.gpkg", UTM, project.transformContext())
    layer = load_geopackage(path)
    project.addMapLayer(layer)
    TargetWriter(project, Consent(answer=False)).write(layer, accepted())
    assert layer.isEditable()
    assert layer.isModified()
    other = QgsVectorLayer(f"{path}|layername=out", "again", "ogr")
    assert other.featureCount() == 0, "nothing is saved behind the user's back"
    assert layer.commitChanges()
    other.reload()
    assert other.featureCount() == 1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Polygon", Qgis.WkbType.Polygon),
        ("MultiPolygon", Qgis.WkbType.MultiPolygon),
        ("PolygonZ", Qgis.WkbType.PolygonZ),
        ("MultiPolygonZM", Qgis.WkbType.MultiPolygonZM),
        ("CurvePolygon", Qgis.WkbType.Polygon),  # a plain polygon is a curve polygon as well
    ],
)
def test_geometry_type_follows_the_layer(project: QgsProject, kind: str, expected: Qgis.WkbType) -> None:
    layer = memory_layer(project, f"{kind}?crs=EPSG:32617")
    TargetWriter(project, Consent(answer=False)).write(layer, accepted())
    geometry = only_feature(layer).geometry()
    assert Qgis.WkbType(geometry.wkbType()) == expected
    assert geometry.area() == pytest.approx(200.0)


def test_single_polygon_layer_keeps_the_largest_part_and_says_so(project: QgsProject) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:32617")
    written = TargetWriter(project, Consent(answer=False)).write(layer, accepted(TWO))
    assert written.dropped_parts == 1
    assert only_feature(layer).geometry().area() == pytest.approx(200.0)


def test_multipolygon_layer_keeps_all_parts(project: QgsProject) -> None:
    layer = memory_layer(project, "MultiPolygon?crs=EPSG:32617")
    written = TargetWriter(project, Consent(answer=False)).write(layer, accepted(TWO))
    assert written.dropped_parts == 0
    assert only_feature(layer).geometry().area() == pytest.approx(204.0)


def test_existing_z_of_the_outline_is_dropped_where_the_layer_has_none(project: QgsProject) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:32617")
    flat = QgsGeometry.fromWkt(SQUARE)
    flat.get().addZValue(5.0)
    TargetWriter(project, Consent(answer=False)).write(layer, accepted(geometry=flat))
    assert not only_feature(layer).geometry().get().is3D()


def test_consent_is_asked_once_and_fields_are_added(project: QgsProject) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:32617&field=name:string")
    consent = Consent(answer=True)
    writer = TargetWriter(project, consent)
    writer.write(layer, accepted())
    writer.write(layer, accepted())
    assert consent.asked == [("target", tuple(FIELD_TYPES))]
    assert [field.name() for field in layer.fields()] == ["name", *FIELD_TYPES]
    assert [feature["class"] for feature in layer.getFeatures()] == ["tree", "tree"]
    assert layer.undoStack().count() == 2, "an accept is one command, fields included"
    layer.undoStack().undo()
    assert layer.featureCount() == 1
    assert "class" in [field.name() for field in layer.fields()]
    layer.undoStack().undo()
    assert layer.featureCount() == 0
    assert [field.name() for field in layer.fields()] == ["name"]
    layer.undoStack().redo()
    assert [feature["class"] for feature in layer.getFeatures()] == ["tree"]


def test_no_consent_is_remembered_and_nothing_is_added(project: QgsProject) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:32617&field=Score:double")
    consent = Consent(answer=False)
    writer = TargetWriter(project, consent)
    writer.write(layer, accepted())
    writer.write(layer, accepted())
    assert len(consent.asked) == 1
    assert [field.name() for field in layer.fields()] == ["Score"]
    assert [feature["Score"] for feature in layer.getFeatures()] == pytest.approx([0.8765, 0.8765])


def test_class_goes_to_the_chosen_field(project: QgsProject) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:32617&field=kind:integer&field=class:string")
    TargetWriter(project, Consent(answer=False)).write(layer, accepted(class_value="7"), "kind")
    feature = only_feature(layer)
    assert feature["kind"] == 7
    assert not feature["class"]


def test_class_that_does_not_fit_its_field_writes_nothing(project: QgsProject) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:32617&field=kind:integer")
    with pytest.raises(OutputError, match="does not fit"):
        TargetWriter(project, Consent(answer=False)).write(layer, accepted(class_value="tree"), "kind")
    assert layer.featureCount() == 0
    assert not layer.isEditable(), "no empty edit session stays behind"


def test_defaults_of_the_layer_fill_the_rest(project: QgsProject) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:32617&field=author:string&field=class:string")
    layer.setDefaultValueDefinition(0, QgsDefaultValue("'anna'"))
    layer.setDefaultValueDefinition(1, QgsDefaultValue("'unknown'"))
    TargetWriter(project, Consent(answer=False)).write(layer, accepted(class_value=""))
    feature = only_feature(layer)
    assert (feature["author"], feature["class"]) == ("anna", "unknown")


def test_hard_constraint_is_an_error_and_leaves_nothing(project: QgsProject) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:32617&field=owner:string")
    layer.setFieldConstraint(0, QgsFieldConstraints.Constraint.ConstraintNotNull)
    with pytest.raises(OutputError, match="owner"):
        TargetWriter(project, Consent(answer=False)).write(layer, accepted())
    assert layer.featureCount() == 0
    assert layer.undoStack().count() == 0


@pytest.mark.parametrize("editing", [False, True])
def test_failed_accept_leaves_fields_undo_and_editing_as_they_were(project: QgsProject, editing: bool) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:32617&field=owner:string&field=kind:integer")
    if editing:
        layer.startEditing()
        layer.addFeature(QgsFeature(layer.fields()))
    before = (layer.undoStack().count(), layer.featureCount())
    writer = TargetWriter(project, Consent(answer=True))
    with pytest.raises(OutputError, match="does not fit"):
        writer.write(layer, accepted(class_value="tree"), "kind")
    layer.setFieldConstraint(0, QgsFieldConstraints.Constraint.ConstraintNotNull)
    with pytest.raises(OutputError, match="owner"):
        writer.write(layer, accepted())
    assert [field.name() for field in layer.fields()] == ["owner", "kind"]
    assert (layer.undoStack().count(), layer.featureCount()) == before
    assert layer.isEditable() is editing
    assert layer.isModified() is editing


def test_consent_is_asked_before_editing_begins(project: QgsProject) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:32617")
    editing: list[bool] = []

    def ask(asked: QgsVectorLayer, names: tuple[str, ...]) -> bool:
        editing.append(asked.isEditable())
        return False

    TargetWriter(project, ask).write(layer, accepted())
    assert editing == [False], "a question must not stand open in the middle of an edit command"


def test_soft_constraint_is_no_obstacle(project: QgsProject) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:32617&field=owner:string")
    layer.setFieldConstraint(
        0,
        QgsFieldConstraints.Constraint.ConstraintNotNull,
        QgsFieldConstraints.ConstraintStrength.ConstraintStrengthSoft,
    )
    TargetWriter(project, Consent(answer=False)).write(layer, accepted())
    assert layer.featureCount() == 1


def test_read_only_layer_is_refused_with_a_remedy(project: QgsProject, polygon_layer: QgsVectorLayer) -> None:
    polygon_layer.setReadOnly(True)
    with pytest.raises(OutputError, match=r"read-only.*new GeoPackage"):
        TargetWriter(project, Consent(answer=False)).write(polygon_layer, accepted())
    assert not polygon_layer.isEditable()


def test_point_layer_is_refused(project: QgsProject) -> None:
    layer = memory_layer(project, "Point?crs=EPSG:32617")
    with pytest.raises(OutputError, match="polygon"):
        TargetWriter(project, Consent(answer=False)).write(layer, accepted())


def test_refused_feature_leaves_earlier_edits_alone(
    project: QgsProject, polygon_layer: QgsVectorLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = TargetWriter(project, Consent(answer=False))
    writer.write(polygon_layer, accepted(class_value="kept"))
    monkeypatch.setattr(polygon_layer, "addFeature", lambda feature: False)
    with pytest.raises(OutputError, match="did not take"):
        writer.write(polygon_layer, accepted())
    assert [feature["class"] for feature in polygon_layer.getFeatures()] == ["kept"]
    assert polygon_layer.undoStack().count() == 1
    assert not polygon_layer.isEditCommandActive()


def test_interrupt_while_writing_closes_the_command(
    project: QgsProject, polygon_layer: QgsVectorLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(feature: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(polygon_layer, "addFeature", interrupt)
    with pytest.raises(KeyboardInterrupt):
        TargetWriter(project, Consent(answer=False)).write(polygon_layer, accepted())
    assert not polygon_layer.isEditCommandActive()
    assert not polygon_layer.isEditable()


def test_outline_without_crs_is_written_as_it_is(project: QgsProject) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:32617")
    TargetWriter(project, Consent(answer=False)).write(layer, accepted(crs=QgsCoordinateReferenceSystem()))
    assert only_feature(layer).geometry().equals(QgsGeometry.fromWkt(SQUARE))


PACIFIC = QgsCoordinateReferenceSystem("EPSG:3832")  # Mercator around 150 degrees east


def pacific_square(project: QgsProject, longitude: float, side: float = 40000.0) -> QgsGeometry:
    to_pacific = QgsCoordinateTransform(QgsCoordinateReferenceSystem("EPSG:4326"), PACIFIC, project.transformContext())
    middle = to_pacific.transform(QgsPointXY(longitude, -17.0))
    half = side / 2
    return QgsGeometry.fromRect(
        QgsRectangle(middle.x() - half, middle.y() - half, middle.x() + half, middle.y() + half)
    )


def test_outline_over_the_antimeridian_is_cut_there(project: QgsProject) -> None:
    layer = memory_layer(project, "MultiPolygon?crs=EPSG:4326&field=area:double")
    square = pacific_square(project, 180.0)
    TargetWriter(project, Consent(answer=False)).write(layer, accepted(geometry=square, crs=PACIFIC))
    feature = only_feature(layer)
    boxes = sorted(
        (part.boundingBox() for part in feature.geometry().asGeometryCollection()), key=lambda box: box.xMinimum()
    )
    assert [round(box.width(), 3) for box in boxes] == [pytest.approx(0.18, abs=0.005)] * 2
    assert boxes[0].xMinimum() == pytest.approx(-180.0)
    assert boxes[1].xMaximum() == pytest.approx(180.0)
    assert feature["area"] == pytest.approx((40000.0 * math.cos(math.radians(17.0))) ** 2, rel=0.01)


def test_outline_over_the_antimeridian_in_a_layer_of_single_polygons_keeps_the_larger_side(project: QgsProject) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:4326")
    square = pacific_square(project, 179.9)
    written = TargetWriter(project, Consent(answer=False)).write(layer, accepted(geometry=square, crs=PACIFIC))
    assert written.dropped_parts == 1
    assert only_feature(layer).geometry().boundingBox().xMaximum() == pytest.approx(180.0)


def test_outline_beside_the_antimeridian_and_one_that_is_wide_in_truth_stay_whole(project: QgsProject) -> None:
    layer = memory_layer(project, "MultiPolygon?crs=EPSG:4326")
    writer = TargetWriter(project, Consent(answer=False))
    writer.write(layer, accepted(geometry=pacific_square(project, 179.0), crs=PACIFIC))
    assert only_feature(layer).geometry().boundingBox().width() == pytest.approx(0.36, abs=0.01)
    mercator = QgsCoordinateReferenceSystem("EPSG:3857")
    wide = QgsGeometry.fromRect(QgsRectangle(-12e6, 0, 12e6, 1e6))
    writer.write(layer, accepted(geometry=wide, crs=mercator))
    widths = [feature.geometry().boundingBox().width() for feature in layer.getFeatures()]
    assert max(widths) == pytest.approx(215.6, abs=0.1)


def test_area_is_ellipsoidal_whatever_the_target_crs(project: QgsProject) -> None:
    layer = memory_layer(project, "Polygon?crs=EPSG:3857&field=area:double")
    TargetWriter(project, Consent(answer=False)).write(layer, accepted())
    feature = only_feature(layer)
    assert feature.geometry().area() > 250.0, "Mercator is no measure"
    assert feature["area"] == pytest.approx(200.16, abs=0.1)


def test_new_geopackage_has_the_fields_and_the_crs(project: QgsProject, tmp_path: Path) -> None:
    path = create_geopackage(tmp_path / "été 1", UTM, project.transformContext())
    assert path.name == "été 1.gpkg"
    layer = load_geopackage(path)
    assert layer.crs() == UTM
    assert [field.name() for field in layer.fields()] == ["fid", *FIELD_TYPES]
    assert Qgis.WkbType(layer.wkbType()) == Qgis.WkbType.MultiPolygon
    assert [entry.name for entry in tmp_path.iterdir()] == ["été 1.gpkg"]


def test_new_geopackage_never_replaces_a_file(project: QgsProject, tmp_path: Path) -> None:
    path = tmp_path / "mine.gpkg"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        create_geopackage(path, UTM, project.transformContext())
    assert path.read_bytes() == b"precious"


def test_failed_geopackage_leaves_nothing(project: QgsProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(QgsVectorFileWriter, "create", refuse)
    with pytest.raises(OutputError, match="another folder"):
        create_geopackage(tmp_path / "new.gpkg", UTM, project.transformContext())
    assert list(tmp_path.iterdir()) == []


def test_geopackage_in_a_missing_folder_is_a_clear_error(project: QgsProject, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="another folder"):
        create_geopackage(tmp_path / "nowhere" / "new.gpkg", UTM, project.transformContext())


def test_shapefile_takes_the_fields_it_can(project: QgsProject, tmp_path: Path) -> None:
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "ESRI Shapefile"
    source = QgsVectorLayer("Polygon?crs=EPSG:32617&field=name:string", "s", "memory")
    path = str(tmp_path / "old.shp")
    QgsVectorFileWriter.writeAsVectorFormatV3(source, path, project.transformContext(), options)
    layer = QgsVectorLayer(path, "old", "ogr")
    project.addMapLayer(layer)
    TargetWriter(project, Consent(answer=True)).write(layer, accepted())
    assert layer.commitChanges(), layer.commitErrors()
    feature = only_feature(QgsVectorLayer(path, "again", "ogr"))
    assert feature["class"] == "tree"
    assert feature["area"] == pytest.approx(200.16, abs=0.1)
