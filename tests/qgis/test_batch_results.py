"""Results of a batch job in the project: grouped, coloured by class, never twice."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsLayerTreeGroup,
    QgsPalettedRasterRenderer,
    QgsProject,
    QgsSingleSymbolRenderer,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from samtune.engine.batch_messages import BatchOutputs, BatchState, BatchStatus, BatchTask
from samtune.models.errors import OutputError
from samtune.plugin.batch_book import JobRecord
from samtune.plugin.batch_results import JOB_PROPERTY, show_results
from samtune_test_support import square, write_raster


def write_polygons(path: Path, *classes: str | None, layer: str = "") -> Path:
    """Write squares, one of each class, as a job does."""
    memory = QgsVectorLayer("MultiPolygon?crs=EPSG:32617&field=class:string&field=score:double", "made", "memory")
    for name in classes:
        made = QgsFeature(memory.fields())
        made.setAttributes([name, 0.5])
        made.setGeometry(square())
        memory.dataProvider().addFeature(made)
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = {".gpkg": "GPKG", ".fgb": "FlatGeobuf"}[path.suffix]
    options.layerName = layer or path.stem
    context = QgsProject.instance().transformContext()
    error = QgsVectorFileWriter.writeAsVectorFormatV3(memory, str(path), context, options)
    assert error[0] == QgsVectorFileWriter.WriterError.NoError, error
    return path


def write_map(path: Path) -> Path:
    """Write a class map with a palette and names."""
    from osgeo import gdal

    gdal.UseExceptions()
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), 4, 4, 1, gdal.GDT_Byte)
    table = gdal.ColorTable()
    table.SetColorEntry(1, (10, 20, 30, 255))
    table.SetColorEntry(2, (40, 50, 60, 255))
    band = dataset.GetRasterBand(1)
    band.SetColorTable(table)
    band.SetCategoryNames(["", "pond", "road"])
    band.WriteRaster(0, 0, 4, 4, bytes([1, 2] * 8))
    dataset.SetProjection(QgsCoordinateReferenceSystem("EPSG:32617").toWkt())
    dataset.SetGeoTransform((500000.0, 1.0, 0.0, 3300000.0, 0.0, -1.0))
    del band, dataset
    return path


def write_adapter(path: Path) -> Path:
    classes = [{"name": "road", "colour": [1, 2, 3]}, {"name": "pond", "colour": [255, 0, 16]}, {"name": "x"}]
    card = {"schema": 1, "name": "a", "base": {"name": "tiny"}, "head": "instances", "classes": classes}
    text = json.dumps({"__metadata__": {"format": "samtune-adapter", "card": json.dumps(card)}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


def job(tmp_path: Path, *outputs: Path, adapter: str = "", layer: str = "segments") -> tuple[JobRecord, BatchStatus]:
    path = str(tmp_path / "east.samjob")
    record = JobRecord(path, BatchTask.FIND, BatchState.FINISHED, adapter=adapter, outputs=BatchOutputs(layer=layer))
    return record, BatchStatus(path, BatchTask.FIND, BatchState.FINISHED, outputs=tuple(map(str, outputs)))


def only_layer(group: QgsLayerTreeGroup) -> QgsVectorLayer:
    (node,) = group.findLayers()
    return node.layer()


def colours(layer: QgsVectorLayer) -> dict[object, str]:
    return {
        category.value(): category.symbol().symbolLayer(0).strokeColor().name()
        for category in layer.renderer().categories()
    }


def test_polygons_by_class_in_the_adapters_colours(project: QgsProject, tmp_path: Path) -> None:
    output = write_polygons(tmp_path / "east.gpkg", "pond", "road", None, "unheard of")
    record, status = job(tmp_path, output, adapter=str(write_adapter(tmp_path / "a.safetensors")), layer="east")
    layer = only_layer(show_results(record, status, project))
    renderer = layer.renderer()
    assert isinstance(renderer, QgsCategorizedSymbolRenderer)
    assert renderer.classAttribute() == "class"
    shown = colours(layer)
    assert list(shown)[:3] == ["road", "pond", "unheard of"], "the adapter's order first"
    assert shown["pond"] == "#ff0010"
    assert shown["road"] == "#010203"
    categories = renderer.categories()  # kept: its items are gone with it
    fill = categories[0].symbol().symbolLayer(0).fillColor()
    assert 0 < fill.alpha() < 128, "the imagery shows through"
    assert layer.featureCount() == 4


def test_without_an_adapter_classes_get_colours_told_apart(project: QgsProject, tmp_path: Path) -> None:
    record, status = job(tmp_path, write_polygons(tmp_path / "a.fgb", "a", "b", "c"), adapter="/gone.safetensors")
    layer = only_layer(show_results(record, status, project))
    shown = colours(layer)
    assert list(shown) == ["a", "b", "c"]
    assert len(set(shown.values())) == 3


def test_without_classes_one_colour(project: QgsProject, tmp_path: Path) -> None:
    record, status = job(tmp_path, write_polygons(tmp_path / "a.gpkg", None, None))
    layer = only_layer(show_results(record, status, project))
    assert isinstance(layer.renderer(), QgsSingleSymbolRenderer)


def test_maps_keep_their_palette_and_lie_below_polygons(project: QgsProject, tmp_path: Path) -> None:
    record, status = job(tmp_path, write_map(tmp_path / "east.tif"), write_polygons(tmp_path / "a.gpkg", "pond"))
    group = show_results(record, status, project)
    first, second = (node.layer() for node in group.findLayers())
    assert first.name() == "a"
    assert isinstance(second.renderer(), QgsPalettedRasterRenderer)
    assert [(entry.value, entry.label, entry.color.name()) for entry in second.renderer().classes()] == [
        (1, "pond", "#0a141e"),
        (2, "road", "#28323c"),
    ]
    assert all(node.isVisible() for node in group.findLayers())


def test_how_sure_a_map_is_does_not_lie_over_others(project: QgsProject, tmp_path: Path) -> None:
    record, status = job(tmp_path, write_raster(tmp_path / "east_confidence.tif", bands=1))
    (node,) = show_results(record, status, project).findLayers()
    assert not node.itemVisibilityChecked()


def test_one_group_per_job_on_top_and_nothing_twice(project: QgsProject, tmp_path: Path) -> None:
    project.layerTreeRoot().addGroup("other")
    record, status = job(tmp_path, write_polygons(tmp_path / "a.gpkg", "pond"))
    group = show_results(record, status, project)
    show_results(record, status, project)
    assert project.layerTreeRoot().children()[0].name() == "east"
    assert group.customProperty(JOB_PROPERTY) == record.path
    assert len(project.mapLayers()) == 1
    record, status = job(tmp_path, tmp_path / "a.gpkg", write_polygons(tmp_path / "b.gpkg", "pond"))
    show_results(record, status, project)
    assert len(group.findLayers()) == 2


def test_what_qgis_cannot_open_is_said_and_the_rest_is_there(project: QgsProject, tmp_path: Path) -> None:
    damaged = tmp_path / "a.parquet"
    damaged.write_text("no parquet")
    record, status = job(tmp_path, damaged, write_polygons(tmp_path / "b.gpkg", "pond"))
    with pytest.raises(OutputError, match=r"a\.parquet was written to .* cannot read GeoParquet"):
        show_results(record, status, project)
    assert [layer.name() for layer in project.mapLayers().values()] == ["b"]
