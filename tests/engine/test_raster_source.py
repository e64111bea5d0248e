"""Rasters of many kinds, read crop by crop."""

from __future__ import annotations

import os
import shutil
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, Resampling
from rasterio.env import get_gdal_config
from samtune.engine import raster_facts as facts
from samtune.engine.crops import Crop, CropFrame
from samtune.engine.messages import RasterSpec
from samtune.engine.raster_source import CropPixels, RasterSource
from samtune.models.errors import CancelledByUser, RasterError

from .rasters import NORTH_UP, ROTATED, SOUTH_UP, disc, write

SIZE = 256
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def nothing() -> None:
    """Never cancel."""


def source(path: Path | str, **more: object) -> RasterSource:
    return RasterSource(RasterSpec(str(path), **more))


def read(path: Path, level: int = 0, col: int = 0, row: int = 0, **more: object) -> CropPixels:
    opened = source(path, **more)
    try:
        return opened.read(Crop(level, SIZE, col, row), nothing)
    finally:
        opened.close()


def ramp(height: int, width: int, dtype: str = "float32") -> np.ndarray:
    """Return values that grow by 1 per column and 1000 per row, at pixel centres: (1, H, W)."""
    return (np.arange(width)[None] + 1000.0 * np.arange(height)[:, None]).astype(dtype)[None]


def expected_ramp(level: int, col: int, row: int) -> np.ndarray:
    """Return what a ramp looks like at the centres of the input's pixels."""
    place = (np.arange(SIZE) + 0.5) * 2.0**level - 0.5
    return (place + col)[None] + 1000.0 * (place + row)[:, None]


@pytest.mark.parametrize("level", [-2, -1, 0, 1, 3])
def test_no_level_shifts_the_picture(tmp_path: Path, level: int) -> None:
    path = write(tmp_path / "ramp.tif", ramp(2200, 2300))
    pixels = read(path, level, 64, 128)
    inner = (slice(8, -8), slice(8, -8))
    assert pixels.valid.all()
    np.testing.assert_allclose(pixels.values[0][inner], expected_ramp(level, 64, 128)[inner], atol=0.05)


@pytest.mark.parametrize("side", [2048, 2047])
def test_overviews_do_not_shift_the_picture_either(tmp_path: Path, side: int) -> None:
    picture = disc((side, side), (900.0, 1100.0), 300.0).astype(np.float32)
    path = write(tmp_path / "disc.tif", picture[None])
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4, 8], Resampling.average)
    pixels = read(path, 3)
    weight = np.where(pixels.valid, pixels.values[0] - 50.0, 0.0)
    at = (np.arange(SIZE) + 0.5) * 8
    assert weight.sum(axis=0) @ at / weight.sum() == pytest.approx(900.0, abs=0.6), (
        "less than a tenth of an input pixel"
    )
    assert weight.sum(axis=1) @ at / weight.sum() == pytest.approx(1100.0, abs=0.6)


def test_coarse_levels_average(tmp_path: Path) -> None:
    checkers = np.indices((1024, 1024)).sum(axis=0) % 2 * 200
    pixels = read(write(tmp_path / "checkers.tif", checkers.astype(np.uint8)[None]), 2)
    assert (pixels.values == 100).all()


def test_coarse_levels_use_overviews(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.zeros((1, 1024, 1024), np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([4], Resampling.average)
    with rasterio.open(path, "r+", OVERVIEW_LEVEL=0) as overview:
        assert overview.shape == (256, 256)
    with rasterio.open(path, "r+") as dataset:
        dataset.write(np.full((1, 1024, 1024), 77, np.uint8))
    assert (read(path, 2).values == 0).all(), "the stale overview shows where the pixels came from"
    assert (read(path, 0).values == 77).all()


@pytest.mark.parametrize(
    ("width", "height", "level"), [(1001, 3, 3), (517, 1030, 2), (100, 70, 0), (61, 40, -2), (1, 1, 1)]
)
def test_what_lies_beyond_the_raster_is_not_valid(tmp_path: Path, width: int, height: int, level: int) -> None:
    pixels = read(write(tmp_path / "small.tif", ramp(height, width) + 5), level)
    columns, rows = (min(int(np.ceil(side / 2.0**level)), SIZE) for side in (width, height))
    assert pixels.valid[:rows, :columns].all()
    assert pixels.valid.sum() == rows * columns
    assert (pixels.values[0][~pixels.valid] == 0).all()
    if level > 0 and width % 2**level and columns < SIZE:
        rest = np.arange(width // 2**level * 2**level, width)
        tall = np.arange(min(2**level, height))
        assert pixels.values[0, 0, columns - 1] == pytest.approx(rest.mean() + 1000 * tall.mean() + 5), "partly covered"


def test_the_crops_of_a_row_fit_together(tmp_path: Path) -> None:
    path = write(tmp_path / "ramp.tif", ramp(600, 1111))
    left, right = (read(path, 1, col, 0) for col in (0, 256))
    np.testing.assert_array_equal(left.values[:, :, 128:], right.values[:, :, :128])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_all_real_types(tmp_path: Path, dtype: str) -> None:
    values = (np.arange(300)[None] % 100 + np.zeros((280, 1))).astype(dtype)[None]
    opened = source(write(tmp_path / "t.tif", values))
    assert opened.info.dtype == dtype
    pixels = opened.read(Crop(0, SIZE, 44, 0), nothing)
    np.testing.assert_array_equal(pixels.values, values[:, :256, 44:])
    picture = opened.picture(pixels)
    assert picture.shape == (SIZE, SIZE, 3)
    assert np.ptp(picture) > 100


def test_complex_numbers_are_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match="amplitude"):
        source(write(tmp_path / "c.tif", np.zeros((1, 20, 20), np.complex64)))


def test_nodata_of_integers(tmp_path: Path) -> None:
    values = np.full((3, 300, 300), 100, np.int16)
    values[:, 50:60, 70:90] = -9999
    values[0, 100, 100] = -9999
    pixels = read(write(tmp_path / "n.tif", values, nodata=-9999, colours=RGB))
    assert not pixels.valid[50:60, 70:90].any()
    assert (~pixels.valid).sum() == 200, "nodata in one band of three is a value like another"


@pytest.mark.parametrize("nodata", [-9999.0, float("nan"), -3.4028234663852886e38])
def test_nodata_of_floats_and_nan(tmp_path: Path, nodata: float) -> None:
    values = np.full((1, 300, 300), 0.3, np.float32)
    values[0, 50:60, 70:90] = nodata
    values[0, 5, 5] = np.nan
    values[0, 6, 6] = np.inf
    opened = source(write(tmp_path / "n.tif", values, nodata=nodata))
    pixels = opened.read(Crop(0, SIZE, 0, 0), nothing)
    assert (~pixels.valid).sum() == 202
    assert opened.info.spec.stretch[0][0] > 0.3 - 0.6
    assert (opened.picture(pixels)[~pixels.valid] == 0).all()


def test_nodata_does_not_bleed_into_averages(tmp_path: Path) -> None:
    values = np.full((1, 1024, 1024), 100.0, np.float32)
    values[0, :, 510:] = -9999
    pixels = read(write(tmp_path / "n.tif", values, nodata=-9999), 2)
    assert pixels.valid.sum() == SIZE * 128
    np.testing.assert_allclose(pixels.values[0][pixels.valid], 100.0)


def test_a_nodata_value_that_the_type_cannot_hold_hides_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "n.tif", np.full((1, 300, 300), 7, np.uint8))
    vrt = tmp_path / "n.vrt"
    vrt.write_text(
        f'<VRTDataset rasterXSize="300" rasterYSize="300"><VRTRasterBand dataType="Byte" band="1">'
        f"<NoDataValue>-9999</NoDataValue><SimpleSource><SourceFilename>{path}</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    assert read(vrt).valid.all()


def test_transparent_pixels_are_not_valid(tmp_path: Path) -> None:
    values = np.full((4, 300, 300), 120, np.uint8)
    values[3, :100] = 0
    values[3, 100:150] = 90
    path = write(tmp_path / "rgba.tif", values, colours=(*RGB, ColorInterp.alpha))
    opened = source(path)
    assert opened.info.spec.bands == (1, 2, 3)
    valid = opened.read(Crop(0, SIZE, 0, 0), nothing).valid
    assert not valid[:100].any()
    assert valid[100:].all(), "half transparent is data"


def test_a_mask_band_is_honoured(tmp_path: Path) -> None:
    path = write(tmp_path / "masked.tif", np.full((1, 300, 300), 120, np.uint8))
    mask = np.full((300, 300), 255, np.uint8)
    mask[20:40, 30:50] = 0
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    assert (~read(path).valid).sum() == 400
    assert (~read(path, -1).valid).sum() == 1600


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    values = np.zeros((1, 600, 600), np.uint8)
    values[:, :, 300:] = 7
    values[:, 500:] = 9
    path = write(tmp_path / "p.tif", values, photometric="palette")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (10, 20, 30, 255), 7: (200, 100, 50, 255), 9: (1, 1, 1, 255)})
    opened = source(path)
    assert opened.info.spec.bands == (1,)
    assert any("colour table" in note for note in opened.info.notes)
    for level in (-1, 0, 1):
        pixels = opened.read(Crop(level, SIZE, 200 if level < 1 else 0, 200 if level < 1 else 0), nothing)
        seen = {tuple(colour) for colour in opened.picture(pixels)[pixels.valid].tolist()}
        assert seen <= {(10, 20, 30), (200, 100, 50), (1, 1, 1)}, "never a mixture"
        assert len(seen) >= 2


def test_bands_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    values = np.stack([np.full((300, 300), 10 * band, np.uint8) for band in range(1, 9)])
    path = write(tmp_path / "many.tif", values)
    opened = source(path, bands=(8, 3, 5))
    assert opened.read(Crop(0, SIZE, 0, 0), nothing).values[:, 0, 0].tolist() == [80, 30, 50]
    default = source(path)
    assert default.info.spec.bands == (1, 2, 3)
    assert any("8 bands" in note for note in default.info.notes)
    assert len(default.info.band_names) == 8


def test_hundreds_of_bands(tmp_path: Path) -> None:
    values = np.arange(200, dtype=np.uint16)[:, None, None] + np.zeros((1, 20, 20), np.uint16)
    assert read(write(tmp_path / "hyper.tif", values), bands=(199, 100, 2)).values[:, 0, 0].tolist() == [198, 99, 1]


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, ROTATED])
def test_the_georeference_is_the_files(tmp_path: Path, transform: rasterio.Affine) -> None:
    info = source(write(tmp_path / "g.tif", ramp(30, 40), transform=transform)).info
    assert info.transform == pytest.approx(transform.to_gdal())
    assert info.pixel_size == pytest.approx(0.5)
    assert "33N" in info.crs_wkt
    assert (info.width, info.height) == (40, 30)
    assert info.notes == ("Band 1 is shown to the model in grey.",)


def test_without_georeference_coordinates_are_as_in_qgis(tmp_path: Path) -> None:
    opened = source(write(tmp_path / "plain.tif", ramp(30, 40), crs=None, transform=None))
    assert opened.info.transform == (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    assert opened.info.crs_wkt == ""
    assert any("not georeferenced" in note for note in opened.info.notes)
    corner = CropFrame(opened.frame, Crop(0, SIZE, 0, 0)).to_map(np.array([[40.0, 30.0]]))
    assert corner.tolist() == [[40.0, -30.0]]


def test_a_transform_without_crs_is_noted(tmp_path: Path) -> None:
    info = source(write(tmp_path / "local.tif", ramp(30, 40), crs=None)).info
    assert info.crs_wkt == ""
    assert any("no CRS" in note for note in info.notes)


def test_control_points_alone_are_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "gcp.tif"
    points = [GroundControlPoint(row, col, 10.0 + col, 50.0 - row) for row, col in ((0, 0), (0, 9), (9, 0), (9, 9))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"driver": "GTiff", "width": 10, "height": 10, "count": 1, "dtype": "uint8"}
        with rasterio.open(path, "w", **options, gcps=points, crs="EPSG:4326") as dataset:
            dataset.write(np.zeros((1, 10, 10), np.uint8))
    with pytest.raises(RasterError, match="Warp"):
        source(path)


def test_a_large_raster_without_overviews_is_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "long.tif", np.zeros((1, 4, 9000), np.uint8))
    assert any("overviews" in note for note in source(path).info.notes)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2], Resampling.average)
    assert not any("overviews" in note for note in source(path).info.notes)


def test_the_stretch_is_of_the_layer_not_of_the_crop(tmp_path: Path) -> None:
    values = np.zeros((1, 900, 900), np.uint16)
    values[0, :, 450:] = 4000
    path = write(tmp_path / "s.tif", values)
    assert source(path).info.spec.stretch == ((0.0, 4000.0),)
    opened = source(path)
    assert (opened.picture(opened.read(Crop(0, SIZE, 600, 0), nothing)) == 255).all()


@pytest.mark.parametrize("overviews", [True, False])
def test_the_stretch_of_a_large_raster_needs_few_reads(tmp_path: Path, overviews: bool) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(1000, 100, (1, 2500, 2500)).astype(np.uint16)
    values[:, :, :200] = 0
    path = write(tmp_path / "s.tif", values, nodata=0, tiled=True)
    if overviews:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews([2, 4], Resampling.nearest)
    ((low, high),) = source(path).info.spec.stretch
    assert low == pytest.approx(1000 - 205, abs=12)
    assert high == pytest.approx(1000 + 205, abs=12)


def test_a_given_stretch_is_kept_and_the_completed_spec_opens_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "s.tif", ramp(300, 300))
    assert source(path, stretch=((5.0, 6.0),)).info.spec.stretch == ((5.0, 6.0),)
    first = source(path).info
    assert RasterSource(first.spec).info.spec == first.spec
    with pytest.raises(RasterError, match="rising"):
        source(path, stretch=((6.0, 5.0),))


def test_a_raster_of_nodata_opens_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "void.tif", np.full((1, 300, 300), -1, np.int16), nodata=-1)
    assert any("No valid pixel" in note for note in source(path).info.notes)
    assert not read(path).valid.any()


def test_the_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "f.tif", ramp(30, 40))
    first = source(path)
    assert source(path).info.fingerprint == first.info.fingerprint
    assert source(os.path.relpath(path)).info.fingerprint == first.info.fingerprint
    assert first.is_current()
    (tmp_path / "f.tif.aux.xml").write_text("<PAMDataset/>")
    assert source(path).info.fingerprint == first.info.fingerprint, (
        "statistics that QGIS leaves beside it change nothing"
    )
    stamp = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(stamp, stamp))
    assert not first.is_current()
    assert source(path).info.fingerprint != first.info.fingerprint
    copy = tmp_path / "copy.tif"
    shutil.copy2(path, copy)
    assert source(copy).info.fingerprint != source(path).info.fingerprint


def test_the_fingerprint_of_a_mosaic_includes_its_sources(tmp_path: Path) -> None:
    path = write(tmp_path / "part.tif", np.zeros((1, 300, 300), np.uint8))
    mosaic = vrt(tmp_path / "all.vrt", "part.tif", "Byte")
    before = source(mosaic)
    os.utime(path, ns=(1, 1))
    assert source(mosaic).info.fingerprint != before.info.fingerprint
    assert not before.is_current()


def vrt(path: Path, name: str, *types: str) -> Path:
    """Write a mosaic whose bands are the first one of a raster of 300 x 300, as other types."""
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{number}"><SimpleSource><SourceFilename relativeToVRT="1">{name}'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for number, kind in enumerate(types, 1)
    )
    path.write_text(f'<VRTDataset rasterXSize="300" rasterYSize="300">{bands}</VRTDataset>')
    return path


def test_bands_of_different_types_are_read_together(tmp_path: Path) -> None:
    write(tmp_path / "part.tif", np.full((1, 300, 300), 9, np.uint8))
    opened = source(vrt(tmp_path / "mixed.vrt", "part.tif", "Byte", "Float32", "Int16"))
    assert opened.info.dtype == "float32"
    pixels = opened.read(Crop(0, SIZE, 0, 0), nothing)
    assert pixels.values.dtype == np.float32
    assert (pixels.values == 9).all()


def test_rasters_in_one_container_have_their_own_fingerprints(tmp_path: Path) -> None:
    one = write(tmp_path / "u.tif", np.full((1, 300, 300), 9, np.uint8))
    with rasterio.open(one, "r+") as dataset:
        dataset.build_overviews([2], Resampling.nearest)
    with zipfile.ZipFile(tmp_path / "u.zip", "w") as archive:
        archive.write(one, "a.tif")
        archive.write(one, "b.tif")
    first, second = (source(f"/vsizip/{tmp_path}/u.zip/{name}.tif") for name in "ab")
    assert first.info.fingerprint != second.info.fingerprint
    os.utime(tmp_path / "u.zip", ns=(1, 1))
    assert not first.is_current(), "the archive is what lies on the disk"


def test_metadata_that_is_no_text_does_not_stop_the_engine(tmp_path: Path) -> None:
    path = write(tmp_path / "names.tif", np.zeros((1, 20, 20), np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.set_band_description(1, "XXXXXXXX")
    path.write_bytes(path.read_bytes().replace(b"XXXXXXXX", b"X\x94\xffXXXXX"))
    try:
        names = source(path).info.band_names
    except RasterError as error:
        assert "names.tif" in error.user_text
    else:
        assert len(names) == 1


def test_gdal_uris_open(tmp_path: Path) -> None:
    path = write(tmp_path / "u.tif", np.full((1, 300, 300), 9, np.uint8))
    with zipfile.ZipFile(tmp_path / "u.zip", "w") as archive:
        archive.write(path, "inner.tif")
    opened = source(f"/vsizip/{tmp_path}/u.zip/inner.tif")
    assert (opened.read(Crop(0, SIZE, 0, 0), nothing).values == 9).all()
    assert opened.is_current()
    assert source(f"GTIFF_DIR:1:{path}").info.width == 300


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.tif", None, "no file"),
        ("text.tif", b"hello", "cannot be opened"),
        ("empty.tif", b"", "cannot be opened"),
    ],
)
def test_what_is_no_raster_is_refused_by_name(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RasterError, match=words) as caught:
        source(tmp_path / name)
    assert name in caught.value.user_text
    assert caught.value.details


def test_a_damaged_file_is_an_error_when_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 255, (1, 600, 600), np.uint8)
    path = write(tmp_path / "cut.tif", values, compress="deflate", tiled=True, blockxsize=128, blockysize=128)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : 2 * len(data) // 3] = bytes(len(data) // 3)
    path.write_bytes(data)
    with pytest.raises(RasterError, match="damaged"):
        source(path, stretch=((0.0, 255.0),)).read(Crop(1, SIZE, 0, 0), nothing)


def test_a_file_deleted_while_open_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "gone.tif", ramp(300, 300))
    opened = source(path)
    path.unlink()
    with pytest.raises(RasterError, match=r"gone\.tif is gone"):
        opened.read(Crop(0, SIZE, 0, 0), nothing)


def test_a_file_rewritten_while_open_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "new.tif", ramp(300, 300))
    opened = source(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(RasterError, match="changed"):
        opened.read(Crop(0, SIZE, 0, 0), nothing)


def test_a_container_of_several_rasters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "many.gpkg"
    for table in ("one", "two"):
        with rasterio.open(
            path,
            "w",
            driver="GPKG",
            width=20,
            height=20,
            count=1,
            dtype="uint8",
            crs="EPSG:3857",
            transform=NORTH_UP,
            RASTER_TABLE=table,
            APPEND_SUBDATASET="YES" if path.exists() else "NO",
        ) as dataset:
            dataset.write(np.full((1, 20, 20), 5, np.uint8))
    with pytest.raises(RasterError, match="choose one") as caught:
        source(path)
    assert "one" in caught.value.details


def test_a_long_read_can_be_cancelled(tmp_path: Path) -> None:
    path = write(tmp_path / "large.tif", np.zeros((1, 6000, 6000), np.uint8), tiled=True)
    calls = 0

    def impatient() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise CancelledByUser

    opened = source(path)
    with pytest.raises(CancelledByUser):
        opened.read(Crop(5, SIZE, 0, 0), impatient)
    assert opened.read(Crop(5, SIZE, 0, 0), nothing).valid.any()


def test_gdal_has_a_cache_of_a_sensible_size(tmp_path: Path) -> None:
    with facts.gdal("any"):
        assert 2**26 <= get_gdal_config("GDAL_CACHEMAX") <= 2**30


def test_reads_leave_nothing_beside_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", ramp(300, 300))
    read(path)
    assert [item.name for item in tmp_path.iterdir()] == ["a.tif"]


def test_the_spec_returned_keeps_the_uri(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", ramp(300, 300))
    spec = RasterSpec(str(path))
    done = RasterSource(spec).info.spec
    assert replace(done, bands=(), stretch=()) == spec
