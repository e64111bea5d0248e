"""Levels, the ground grid and the transforms, mostly as properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine
from samtune.engine.crops import (
    MIN_LEVEL,
    Crop,
    CropFrame,
    RasterFrame,
    clamp_level,
    crop_at,
    crop_holding,
    level_for_object,
    max_level,
)
from samtune.models.errors import RasterError

IDENTITY = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
UTM_NORTH_UP = (500_000.0, 0.5, 0.0, 5_300_000.0, 0.0, -0.5)


def frame(width: int, height: int, transform: tuple[float, ...] = IDENTITY) -> RasterFrame:
    return RasterFrame(width, height, transform)


sizes = st.sampled_from([256, 512, 1024])
levels = st.integers(MIN_LEVEL, 7)
sides = st.integers(1, 30_000)
shares = st.floats(0.0, 1.0, exclude_max=True)


@st.composite
def transforms(draw: st.DrawFn) -> tuple[float, ...]:
    """Rotated, sheared, mirrored, far from the origin, of any pixel size from a millimetre to a degree."""
    pixel = draw(st.floats(1e-3, 1000.0))
    made = Affine.translation(draw(st.floats(-1e7, 1e7)), draw(st.floats(-1e7, 1e7)))
    made = made @ Affine.rotation(draw(st.floats(-180.0, 180.0))) @ Affine.shear(draw(st.floats(-30.0, 30.0)))
    return (
        made @ Affine.scale(pixel, draw(st.sampled_from([-1.0, 1.0])) * pixel * draw(st.floats(0.3, 3.0)))
    ).to_gdal()


@given(transforms(), st.floats(-1e5, 1e5), st.floats(-1e5, 1e5))
def test_map_and_pixel_are_inverse(transform: tuple[float, ...], col: float, row: float) -> None:
    raster = frame(10, 10, transform)
    pixels = np.array([[col, row], [0.0, 0.0]])
    back = raster.to_pixel(raster.to_map(pixels))
    # far from the origin a double resolves about 1e-9 of a metre, which a small pixel magnifies
    assert np.abs(back - pixels).max() < 1e-6 + 1e-8 / raster.pixel_size


@given(transforms(), levels, st.integers(0, 5000), st.integers(0, 5000), st.floats(0, 512), st.floats(0, 512))
def test_map_and_input_are_inverse(
    transform: tuple[float, ...], level: int, col: int, row: int, x: float, y: float
) -> None:
    crop = CropFrame(frame(9000, 9000, transform), Crop(level, 512, col, row))
    points = np.array([[x, y]])
    assert np.abs(crop.to_input(crop.to_map(points)) - points).max() < 1e-5 + 1e-7 / crop.raster.pixel_size


def test_corners_of_pixels_not_centres_are_mapped() -> None:
    raster = frame(100, 80, UTM_NORTH_UP)
    corners = raster.to_map(np.array([[0.0, 0.0], [100.0, 80.0]]))
    np.testing.assert_array_equal(corners, [[500_000.0, 5_300_000.0], [500_050.0, 5_299_960.0]])
    crop = CropFrame(frame(4096, 4096, UTM_NORTH_UP), Crop(1, 512, 512, 1024))
    assert crop.corners == (
        (500_256.0, 5_299_488.0),
        (500_768.0, 5_299_488.0),
        (500_768.0, 5_298_976.0),
        (500_256.0, 5_298_976.0),
    )
    np.testing.assert_array_equal(crop.to_input(np.array([[500_257.0, 5_299_487.0]])), [[1.0, 1.0]])


def test_a_transform_agrees_with_rasterio() -> None:
    affine = Affine.translation(10.0, 20.0) @ Affine.rotation(33.0) @ Affine.scale(2.0, -3.0)
    raster = frame(10, 10, affine.to_gdal())
    assert tuple(raster.to_map(np.array([[3.5, 7.25]]))[0]) == pytest.approx(affine @ (3.5, 7.25))
    assert raster.pixel_size == pytest.approx(math.sqrt(6.0))


@pytest.mark.parametrize(
    ("width", "height", "transform"),
    [
        (0, 5, IDENTITY),
        (5, 0, IDENTITY),
        (5, 5, (0.0, 1.0, 2.0, 0.0, 2.0, 4.0)),
        (5, 5, (0.0, math.nan, 0.0, 0.0, 0.0, 1.0)),
        (5, 5, (0.0,) * 6),
    ],
)
def test_a_broken_georeference_is_refused(width: int, height: int, transform: tuple[float, ...]) -> None:
    with pytest.raises(RasterError):
        frame(width, height, transform)


@given(sides, sides, sizes, levels, shares, shares)
def test_a_place_lies_in_the_central_half_of_its_crop_except_at_edges(
    width: int, height: int, size: int, level: int, across: float, down: float
) -> None:
    raster = frame(width, height)
    col, row = across * width, down * height
    crop = crop_at(raster, size, level, (col, row))
    for position, origin, extent in ((col, crop.col, width), (row, crop.row, height)):
        assert origin <= position < origin + crop.side
        quarter = crop.side / 4
        first, last = origin == 0, origin + crop.side >= extent
        assert first or position >= origin + quarter
        assert last or position < origin + 3 * quarter


@given(sides, sides, sizes, levels, shares, shares)
def test_crops_start_on_whole_input_pixels_and_hardly_leave_the_raster(
    width: int, height: int, size: int, level: int, across: float, down: float
) -> None:
    crop = crop_at(frame(width, height), size, level, (across * width, down * height))
    assert crop.side == size * crop.scale
    for origin, extent in ((crop.col, width), (crop.row, height)):
        assert origin % max(1, round(crop.scale)) == 0
        assert origin >= 0
        if extent > crop.side:
            assert origin + crop.side < extent + max(crop.scale, 1)
        else:
            assert origin == 0


@given(sides, sides, sizes, levels, shares, shares, st.floats(0, 1), st.floats(0, 1))
def test_places_in_one_cell_share_their_crop(
    width: int, height: int, size: int, level: int, across: float, down: float, dx: float, dy: float
) -> None:
    raster = frame(width, height)
    crop = crop_at(raster, size, level, (across * width, down * height))
    cell = (crop.col + crop.side * (0.25 + 0.4999 * dx), crop.row + crop.side * (0.25 + 0.4999 * dy))
    if crop.col % (crop.side // 2) or crop.row % (crop.side // 2) or not raster.contains(np.array([cell]))[0]:
        return  # the last crop of a row is not on the grid
    assert crop_at(raster, size, level, cell) == crop


def test_neighbouring_clicks_share_an_embedding() -> None:
    raster = frame(5000, 5000)
    crops = {crop_at(raster, 512, 0, (1000.0 + 3 * i, 2000.0)) for i in range(40)}
    assert len(crops) <= 2
    assert len({crop_at(raster, 512, 0, (col, 2000.0)) for col in range(900, 1160)}) == 2


@given(sides, sides, sizes)
def test_one_crop_covers_the_raster_at_the_coarsest_level_only(width: int, height: int, size: int) -> None:
    raster = frame(width, height)
    top = max_level(raster, size)
    corners = [(col, row) for col in (0.0, float(width)) for row in (0.0, float(height))]
    (crop,) = {crop_at(raster, size, top, corner) for corner in corners}
    assert (crop.col, crop.row) == (0, 0)
    assert crop.side >= max(width, height)
    if top > MIN_LEVEL:
        assert size * 2.0 ** (top - 1) < max(width, height)


@given(
    st.integers(200, 20_000),
    st.integers(200, 20_000),
    sizes,
    levels,
    st.lists(st.tuples(shares, shares), min_size=1, max_size=5),
)
def test_the_crop_for_all_prompts_holds_them_at_the_finest_level_that_can(
    width: int, height: int, size: int, level: int, places: list[tuple[float, float]]
) -> None:
    raster = frame(width, height)
    pixels = np.array(places) * [width, height]
    crop = crop_holding(raster, size, level, tuple(pixels[0]), pixels)
    assert CropFrame(raster, crop).holds(pixels)
    asked = clamp_level(raster, size, level)
    assert asked <= crop.level <= max_level(raster, size)
    if crop.level > asked:
        half = size * 2.0 ** (crop.level - 1)
        assert np.ptp(pixels, axis=0).max() > half * (0.5 - 1 / 16), "a finer level had room"


def test_prompts_keep_a_margin_except_at_the_rasters_border() -> None:
    raster = frame(4000, 4000)
    inner = CropFrame(raster, Crop(0, 512, 512, 512))
    assert inner.holds(np.array([[528.0, 528.0], [1008.0, 1008.0]]))
    assert not inner.holds(np.array([[527.0, 600.0]]))
    assert not inner.holds(np.array([[600.0, 1009.0]]))
    corner = CropFrame(raster, Crop(0, 512, 0, 0))
    assert corner.holds(np.array([[0.0, 0.0]]))
    assert corner.open_sides == (False, False, True, True)
    assert CropFrame(frame(300, 4000), Crop(0, 512, 0, 512)).open_sides == (False, True, False, True)


def test_the_first_prompt_decides_while_it_can() -> None:
    raster = frame(4000, 4000)
    first = crop_at(raster, 512, 0, (1000.0, 1000.0))
    near = np.array([[1000.0, 1000.0], [first.col + 20.0, first.row + 20.0]])
    assert crop_holding(raster, 512, 0, (1000.0, 1000.0), near) == first
    beyond = np.array([[1000.0, 1000.0], [first.col - 40.0, 1000.0]])
    moved = crop_holding(raster, 512, 0, (1000.0, 1000.0), beyond)
    assert moved.level == 0
    assert moved.col < first.col


def test_the_covered_part_of_a_crop() -> None:
    assert CropFrame(frame(300, 700), Crop(1, 512, 0, 0)).covered == (150.0, 350.0)
    assert CropFrame(frame(3000, 3000), Crop(1, 512, 512, 512)).covered == (512.0, 512.0)
    assert CropFrame(frame(100, 100), Crop(-2, 512, 0, 0)).covered == (400.0, 400.0)


@pytest.mark.parametrize(("extent", "level"), [(100.0, 0), (103.0, 1), (1.0, -2), (400.0, 2), (1e9, 5), (0.0, -2)])
def test_the_level_follows_the_size_of_the_object(extent: float, level: int) -> None:
    assert level_for_object(frame(10_000, 10_000, UTM_NORTH_UP), 512, extent) == level


def test_an_input_size_must_fit_the_grid() -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        crop_at(frame(100, 100), 500, 0, (1.0, 1.0))
