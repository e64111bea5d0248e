"""From a QGIS layer to a raster spec: URIs, bands, stretch, and layers that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import (
    QgsContrastEnhancement,
    QgsMultiBandColorRenderer,
    QgsProject,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
    QgsSingleBandGrayRenderer,
    QgsSingleBandPseudoColorRenderer,
)
from samtune.engine.messages import RasterSpec
from samtune.models.errors import RasterError
from samtune.plugin.layers import drawn_bands, drawn_stretch, raster_spec, source_uri, unusable_reason
from samtune.plugin.session import StretchMode
from samtune_test_support import write_raster


def enhancement(layer: QgsRasterLayer, band: int, low: float, high: float) -> QgsContrastEnhancement:
    made = QgsContrastEnhancement(layer.dataProvider().dataType(band))
    made.setContrastEnhancementAlgorithm(QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum)
    made.setMinimumValue(low)
    made.setMaximumValue(high)
    return made


def test_eight_bit_layer_as_drawn(raster_layer: QgsRasterLayer) -> None:
    bands = drawn_bands(raster_layer)
    assert bands == (1, 2, 3)
    assert raster_spec(raster_layer, bands, StretchMode.AS_DRAWN) == RasterSpec(
        raster_layer.source(), (1, 2, 3), ((0.0, 255.0),) * 3
    )


def test_robust_stretch_is_left_to_the_engine(raster_layer: QgsRasterLayer) -> None:
    assert raster_spec(raster_layer, (1, 2, 3), StretchMode.ROBUST).stretch == ()


def test_bands_and_stretch_follow_the_style(tmp_path: Path, project: QgsProject) -> None:
    layer = QgsRasterLayer(str(write_raster(tmp_path / "four.tif", bands=4, data_type="UInt16")), "four")
    renderer = QgsMultiBandColorRenderer(layer.dataProvider(), 4, 3, 2)
    renderer.setRedContrastEnhancement(enhancement(layer, 4, 10.0, 1000.0))
    renderer.setGreenContrastEnhancement(enhancement(layer, 3, 20.0, 2000.0))
    renderer.setBlueContrastEnhancement(enhancement(layer, 2, 30.0, 3000.0))
    layer.setRenderer(renderer)
    assert drawn_bands(layer) == (4, 3, 2)
    assert drawn_stretch(layer, (4, 3, 2)) == ((10.0, 1000.0), (20.0, 2000.0), (30.0, 3000.0))


def test_a_band_that_the_style_does_not_show_gets_the_robust_stretch(tmp_path: Path, project: QgsProject) -> None:
    layer = QgsRasterLayer(str(write_raster(tmp_path / "four.tif", bands=4, data_type="UInt16")), "four")
    renderer = QgsMultiBandColorRenderer(layer.dataProvider(), 1, 2, 3)
    for setter, band in (
        (renderer.setRedContrastEnhancement, 1),
        (renderer.setGreenContrastEnhancement, 2),
        (renderer.setBlueContrastEnhancement, 3),
    ):
        setter(enhancement(layer, band, 0.0, 1000.0))
    layer.setRenderer(renderer)
    assert drawn_stretch(layer, (1, 2, 3)) == ((0.0, 1000.0),) * 3
    assert drawn_stretch(layer, (1, 2, 4)) == ()


def test_a_style_that_follows_the_canvas_is_no_stretch(raster_layer: QgsRasterLayer) -> None:
    origin = QgsRasterMinMaxOrigin()
    origin.setExtent(QgsRasterMinMaxOrigin.Extent.UpdatedCanvas)
    raster_layer.renderer().setMinMaxOrigin(origin)
    assert drawn_stretch(raster_layer, (1, 2, 3)) == ()


def test_gray_and_pseudo_colour_layers_have_one_band(tmp_path: Path, project: QgsProject) -> None:
    layer = QgsRasterLayer(str(write_raster(tmp_path / "two.tif", bands=2)), "two")
    layer.setRenderer(QgsSingleBandGrayRenderer(layer.dataProvider(), 2))
    assert drawn_bands(layer) == (2,)
    assert drawn_stretch(layer, (2,)) == ((0.0, 255.0),)
    layer.setRenderer(QgsSingleBandPseudoColorRenderer(layer.dataProvider(), 1))
    assert drawn_bands(layer) == (1,)


def test_a_broken_layer_says_so(project: QgsProject) -> None:
    layer = QgsRasterLayer("/nowhere/missing.tif", "lost")
    assert "broken" in unusable_reason(layer)
    assert "lost" in unusable_reason(layer)


def test_a_service_layer_says_what_to_do(project: QgsProject) -> None:
    uri = "type=xyz&url=http://127.0.0.1:9/%7Bz%7D/%7Bx%7D/%7By%7D.png&zmax=2&zmin=0"
    layer = QgsRasterLayer(uri, "tiles", "wms")
    assert layer.isValid()
    assert "GeoTIFF" in unusable_reason(layer)
    with pytest.raises(RasterError, match="Export"):
        raster_spec(layer, (1, 2, 3), StretchMode.AS_DRAWN)


def test_a_layer_in_memory_says_what_to_do(project: QgsProject, tmp_path: Path) -> None:
    from osgeo import gdal

    gdal.FileFromMemBuffer("/vsimem/scene.tif", write_raster(tmp_path / "a.tif").read_bytes())
    layer = QgsRasterLayer("/vsimem/scene.tif", "memory")
    try:
        assert layer.isValid()
        assert "memory" in unusable_reason(layer)
    finally:
        gdal.Unlink("/vsimem/scene.tif")


def test_path_with_spaces_and_letters_of_other_alphabets(project: QgsProject, tmp_path: Path) -> None:
    folder = tmp_path / "mes données 日本"
    folder.mkdir()
    path = write_raster(folder / "an image.tif")
    assert source_uri(QgsRasterLayer(str(path), "x")) == str(path)


def test_reading_a_layer_changes_nothing_of_it(raster_layer: QgsRasterLayer, project: QgsProject) -> None:
    project.setDirty(False)
    before = raster_layer.renderer().minMaxOrigin()
    raster_spec(raster_layer, drawn_bands(raster_layer), StretchMode.AS_DRAWN)
    assert not project.isDirty()
    assert raster_layer.renderer().minMaxOrigin() == before
