"""Crops that cover an area: cores partition the ground, and show what they own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from samtune.engine.areas.tiles import Tile, TilePlan
from samtune.engine.crops import RasterFrame, crop_at
from samtune.models.errors import PromptError

FRAMES = st.builds(
    lambda width, height, angle, flip: RasterFrame(width, height, _transform(angle, flip)),
    st.integers(1, 700),
    st.integers(1, 700),
    st.sampled_from([0.0, 0.4, 2.0]),
    st.booleans(),
)
PLANS = st.builds(
    lambda frame, size, level, share, align: TilePlan(frame, size, level, int(size * share), align=align),
    FRAMES,
    st.sampled_from([64, 128, 256]),
    st.integers(-2, 2),
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.66]),
    st.sampled_from([1, 4]),
)


def _transform(angle: float, flip: bool) -> tuple[float, float, float, float, float, float]:
    c, s = np.cos(angle) * 0.5, np.sin(angle) * 0.5
    return (1000.0, c, s, 2000.0, s, c) if flip and angle == 0 else (1000.0, c, s, 2000.0, s, -c)


def _painted(frame: RasterFrame, tiles: list[Tile]) -> np.ndarray:
    seen = np.zeros((frame.height, frame.width), int)
    for tile in tiles:
        left, top, right, bottom = tile.core
        seen[top:bottom, left:right] += 1
    return seen


@given(PLANS)
@settings(max_examples=150, deadline=None)
def test_cores_partition_the_raster_and_lie_in_their_crops(plan: TilePlan) -> None:
    tiles = list(plan)
    assert plan.count == len(tiles) == len(plan.columns) * len(plan.rows)
    assert (_painted(plan.frame, tiles) == 1).all()
    assert [tile.number for tile in tiles] == list(range(len(tiles))), "in order, and counted"
    for tile in tiles:
        crop, (left, top, right, bottom) = tile.crop, tile.core
        assert 0 <= crop.col <= left < right <= min(crop.col + crop.side, plan.frame.width)
        assert 0 <= crop.row <= top < bottom <= min(crop.row + crop.side, plan.frame.height)
        assert crop.col % plan.columns.unit == crop.row % plan.rows.unit == 0


@given(PLANS, st.data())
@settings(max_examples=100, deadline=None)
def test_an_area_takes_the_crops_whose_cores_it_meets(plan: TilePlan, data: st.DataObject) -> None:
    frame = plan.frame
    corners = data.draw(st.lists(st.tuples(st.floats(-50, 750), st.floats(-50, 750)), min_size=3, max_size=5))
    pixels = shapely.MultiPoint(corners).convex_hull
    on_it = pixels.intersection(shapely.box(0, 0, frame.width, frame.height))
    area = shapely.transform(pixels, frame.to_map)
    if pixels.geom_type != "Polygon" or on_it.area < 1.0:
        return
    chosen = TilePlan(frame, plan.size, plan.level, plan.size // 2, area)
    tiles = list(chosen)
    assert chosen.count == len(tiles)
    every = list(TilePlan(frame, plan.size, plan.level, plan.size // 2))
    taken = {tile.number for tile in tiles}
    assert tiles == [tile for tile in every if tile.number in taken], "the same crops as without an area"
    for tile in every:
        share = shapely.box(*tile.core).intersection(on_it).area
        assert tile.number in taken or share < 0.1
        assert tile.number not in taken or shapely.box(*tile.core).intersects(on_it)


@given(PLANS, st.floats(-20, 720), st.floats(1, 300))
@settings(max_examples=100, deadline=None)
def test_a_part_of_a_row_has_all_crops_that_reach_it(plan: TilePlan, low: float, wide: float) -> None:
    for row in {0, len(plan.rows) - 1}:
        reaching = [
            tile for tile in plan.row(row) if tile.crop.col < low + wide and tile.crop.col + tile.crop.side > low
        ]
        assert [tile for tile in plan.row(row, low, low + wide) if tile in reaching] == reaching


@given(FRAMES, st.sampled_from([64, 128, 256]), st.integers(-2, 3))
@settings(max_examples=60, deadline=None)
def test_half_a_crop_of_overlap_makes_the_crops_of_clicks(frame: RasterFrame, size: int, level: int) -> None:
    for tile in itertools.islice(TilePlan(frame, size, level), 0, None, 3):
        left, top, right, bottom = tile.core
        assert tile.crop == crop_at(frame, size, level, ((left + right) / 2, (top + bottom) / 2))


@given(FRAMES, st.sampled_from([64, 128]), st.data())
@settings(max_examples=100, deadline=None)
def test_what_fits_into_half_a_crop_is_whole_in_the_crop_that_owns_it(
    frame: RasterFrame, size: int, data: st.DataObject
) -> None:
    plan = TilePlan(frame, size, 0)
    width = data.draw(st.integers(1, min(size // 2, frame.width)))
    height = data.draw(st.integers(1, min(size // 2, frame.height)))
    left = data.draw(st.integers(0, frame.width - width))
    top = data.draw(st.integers(0, frame.height - height))
    x, y = left + width / 2, top + height / 2
    (owner,) = [
        tile
        for tile in plan
        if tile.core[0] <= x < tile.core[2] + (tile.core[2] == frame.width)
        and tile.core[1] <= y < tile.core[3] + (tile.core[3] == frame.height)
    ]
    crop = owner.crop
    slack = 1  # half-way between two crops may lie on half a pixel
    assert crop.col - slack <= left and left + width <= crop.col + crop.side + slack
    assert crop.row - slack <= top and top + height <= crop.row + crop.side + slack


def test_a_plan_of_a_country_costs_nothing() -> None:
    plan = TilePlan(RasterFrame(2_000_000, 1_000_000, (0.0, 0.5, 0.0, 0.0, 0.0, -0.5)), 512, 0)
    assert plan.count == 7812 * 3906
    assert next(iter(plan)).core == (0, 0, 384, 384)
    assert len(list(plan.row(3905, 1_999_000.0))) < 10


@pytest.mark.parametrize(
    "area", [shapely.box(5000, 5000, 6000, 6000), shapely.Polygon(), shapely.LineString([(0, 0), (50, -50)])]
)
def test_an_area_beyond_the_raster_is_refused(area: shapely.Geometry) -> None:
    with pytest.raises(PromptError, match="outside the raster"):
        TilePlan(RasterFrame(100, 100, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)), 64, 0, area=area)
