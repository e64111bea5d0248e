"""Logits with known shapes to polygons with known areas and places."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from rasterio.transform import Affine
from samtune.engine.crops import Crop, CropFrame, RasterFrame
from samtune.engine.messages import OutlineOptions
from samtune.engine.outlines import (
    NO_CLICKS,
    Clicks,
    InputPrompts,
    clip_to_valid,
    select_parts,
    to_map,
    touches_edge,
    trace,
)
from shapely.geometry import MultiPolygon, Point, box

SIZE, CELLS = 512, 128
CELL = SIZE / CELLS
NONE = np.zeros((0, 2))
TRANSFORMS = {
    "north up": Affine(0.5, 0.0, 500_000.0, 0.0, -0.5, 5_300_000.0),
    "south up": Affine(0.5, 0.0, 500_000.0, 0.0, 0.5, 5_300_000.0),
    "rotated": Affine.translation(500_000.0, 5_300_000.0) @ Affine.rotation(30.0) @ Affine.scale(0.5, -0.5),
    "sheared": Affine(0.5, 0.2, 500_000.0, 0.1, -0.7, 5_300_000.0),
}


def centres() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres of the logits' cells, in input pixels."""
    axis = (np.arange(CELLS) + 0.5) * CELL
    return np.meshgrid(axis, axis)


def disc_logits(x: float, y: float, radius: float) -> NDArray[np.float32]:
    xs, ys = centres()
    return ((radius - np.hypot(xs - x, ys - y)) / 10.0).astype(np.float32)


def square_logits(x: float, y: float, half: float, degrees: float) -> NDArray[np.float32]:
    xs, ys = centres()
    turn = math.radians(degrees)
    u = (xs - x) * math.cos(turn) + (ys - y) * math.sin(turn)
    v = -(xs - x) * math.sin(turn) + (ys - y) * math.cos(turn)
    return ((half - np.maximum(np.abs(u), np.abs(v))) / 10.0).astype(np.float32)


def crop_frame(transform: Affine = TRANSFORMS["north up"], level: int = 1, side: int = 4096) -> CropFrame:
    return CropFrame(RasterFrame(side, side, transform.to_gdal()), Crop(level, SIZE, 512, 1024))


@pytest.mark.parametrize(("x", "y"), [(256.0, 256.0), (201.3, 333.7), (258.0, 254.0)])
@pytest.mark.parametrize("radius", [40.0, 90.0, 150.0])
def test_a_disc_has_its_area_and_place(x: float, y: float, radius: float) -> None:
    found = trace(disc_logits(x, y, radius), SIZE)
    assert found.area == pytest.approx(math.pi * radius**2, rel=0.005)
    assert found.centroid.distance(Point(x, y)) < 0.02, "no shift, not even by a hundredth of a cell"
    assert len(found.geoms) == 1


@pytest.mark.parametrize("degrees", [0.0, 12.0, 45.0, 77.0])
def test_a_rotated_square_has_its_area_and_place(degrees: float) -> None:
    found = trace(square_logits(250.0, 262.0, 100.0, degrees), SIZE)
    assert found.area == pytest.approx(200.0**2, rel=0.005)
    assert found.centroid.distance(Point(250.0, 262.0)) < 0.05


def test_a_ring_has_its_hole() -> None:
    ring = np.minimum(disc_logits(256.0, 256.0, 150.0), -disc_logits(256.0, 256.0, 60.0))
    found = trace(ring, SIZE)
    assert found.area == pytest.approx(math.pi * (150.0**2 - 60.0**2), rel=0.005)
    (part,) = found.geoms
    (hole,) = part.interiors
    assert shapely.Polygon(hole).area == pytest.approx(math.pi * 60.0**2, rel=0.005)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("level", [-1, 0, 2])
def test_georeference_is_exact(name: str, level: int) -> None:
    transform = TRANSFORMS[name]
    frame = crop_frame(transform, level)
    found = to_map(trace(disc_logits(200.0, 300.0, 80.0), SIZE), frame, OutlineOptions())
    pixels = (200.0 * 2.0**level + 512, 300.0 * 2.0**level + 1024)
    assert found.centroid.distance(Point(*(transform @ pixels))) < 0.02 * 2.0**level
    expected = math.pi * (80.0 * 2.0**level) ** 2 * abs(transform.determinant)
    assert found.area == pytest.approx(expected, rel=0.005)
    assert found.is_valid
    assert all(part.exterior.is_ccw for part in found.geoms), "whatever way the grid is mirrored"


def test_a_full_mask_is_the_whole_square_with_its_corners() -> None:
    assert trace(np.full((CELLS, CELLS), 5.0, np.float32), SIZE).equals(box(0, 0, SIZE, SIZE))


def test_masks_at_the_border_are_closed_exactly_there() -> None:
    left = trace(disc_logits(0.0, 256.0, 100.0), SIZE)
    assert left.bounds[0] == 0.0
    assert left.area == pytest.approx(math.pi * 100.0**2 / 2, rel=0.005)
    corner = trace(disc_logits(512.0, 512.0, 100.0), SIZE)
    assert corner.bounds[2:] == (512.0, 512.0)
    assert corner.area == pytest.approx(math.pi * 100.0**2 / 4, rel=0.005)


def test_a_straight_edge_between_two_cells_lies_where_the_logits_cross_zero() -> None:
    logits = np.full((CELLS, CELLS), -1.0, np.float32)
    logits[:, :10] = 3.0
    assert trace(logits, SIZE).bounds[2] == pytest.approx((9.5 + 0.75) * CELL)


@pytest.mark.parametrize("value", [-1.0, 0.0, np.nan, -np.inf])
def test_nothing_is_empty(value: float) -> None:
    assert trace(np.full((CELLS, CELLS), value, np.float32), SIZE).is_empty


def test_not_a_number_counts_as_outside() -> None:
    logits = disc_logits(256.0, 256.0, 100.0)
    logits[:64] = np.nan
    found = trace(logits, SIZE)
    assert found.is_valid
    assert found.area == pytest.approx(math.pi * 100.0**2 / 2, rel=0.1)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, (16, 16), elements=st.floats(-2, 2, width=32)),
    st.floats(0, 30),
    st.floats(0, 3000),
    st.floats(0, 3000),
    st.sampled_from(sorted(TRANSFORMS)),
)
def test_any_logits_give_valid_polygons_with_any_cleaning(
    logits: NDArray[np.float32], simplify: float, min_hole: float, min_part: float, name: str
) -> None:
    traced = trace(logits, SIZE)
    assert traced.is_valid
    valid = np.add.outer(np.arange(SIZE), np.arange(SIZE)) % 97 > 5
    clipped = clip_to_valid(traced, crop_frame(), valid)
    assert clipped.is_valid
    assert clipped.area <= traced.area + 1e-6
    found = to_map(traced, crop_frame(TRANSFORMS[name]), OutlineOptions(simplify, min_hole, min_part))
    assert found.is_valid
    assert found.is_empty == traced.is_empty
    assert isinstance(found, MultiPolygon)


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, (12, 12), elements=st.floats(-2, 2, width=32)))
def test_the_outline_separates_positive_from_negative_cells(logits: NDArray[np.float32]) -> None:
    found = trace(logits, 48)
    rows, cols = np.mgrid[0:12, 0:12]
    points = shapely.points((cols + 0.5) * 4, (rows + 0.5) * 4)
    inside = shapely.intersects(shapely.buffer(found, 1e-6), points)
    clear = np.abs(logits) > 1e-3
    assert (inside == (logits > 0))[clear].all()


def test_small_holes_are_filled_and_small_parts_dropped() -> None:
    frame = crop_frame(level=0)
    shapes = MultiPolygon(
        [box(0, 0, 100, 100).difference(box(10, 10, 20, 20)).difference(box(40, 40, 80, 80)), box(200, 200, 206, 206)]
    )
    everything = to_map(shapes, frame, OutlineOptions())
    assert everything.area == pytest.approx(shapes.area * 0.25)
    cleaned = to_map(shapes, frame, OutlineOptions(min_hole=26.0, min_part=10.0))
    assert len(cleaned.geoms) == 1
    assert len(cleaned.geoms[0].interiors) == 1
    assert cleaned.area == pytest.approx((100**2 - 40**2) * 0.25)


def test_the_object_itself_is_never_dropped() -> None:
    tiny = MultiPolygon([box(0, 0, 4, 4), box(50, 50, 56, 56)])
    found = to_map(tiny, crop_frame(level=0), OutlineOptions(min_part=1e6))
    assert found.area == pytest.approx(36 * 0.25)


def test_an_island_in_a_filled_hole_is_part_of_the_whole() -> None:
    nested = MultiPolygon([box(0, 0, 100, 100).difference(box(20, 20, 80, 80)), box(40, 40, 60, 60)])
    found = to_map(nested, crop_frame(level=0), OutlineOptions(min_hole=1e6))
    assert found.is_valid
    assert found.area == pytest.approx(2500.0)


def test_simplification_stays_within_its_tolerance_and_saves_vertices() -> None:
    traced = trace(disc_logits(256.0, 256.0, 150.0), SIZE)
    frame = crop_frame()
    exact = to_map(traced, frame, OutlineOptions())
    for tolerance in (0.5, 2.0, 8.0):
        simple = to_map(traced, frame, OutlineOptions(simplify=tolerance))
        assert shapely.hausdorff_distance(exact.boundary, simple.boundary) <= tolerance + 1e-6
        assert shapely.get_num_coordinates(simple) < shapely.get_num_coordinates(exact) / 2
        assert simple.is_valid


def test_simplification_never_loses_the_object() -> None:
    small = MultiPolygon([box(10, 10, 14, 14)])
    found = to_map(small, crop_frame(), OutlineOptions(simplify=1000.0))
    assert found.is_valid and not found.is_empty


def test_clipping_to_the_raster_is_exact() -> None:
    frame = CropFrame(RasterFrame(301, 700, TRANSFORMS["north up"].to_gdal()), Crop(1, SIZE, 0, 0))
    found = clip_to_valid(MultiPolygon([box(0, 0, SIZE, SIZE)]), frame, None)
    assert found.bounds == (0.0, 0.0, 150.5, 350.0)


def test_clipping_to_data_follows_pixels() -> None:
    valid = np.ones((SIZE, SIZE), bool)
    valid[100:110, 100:130] = False
    valid[:, 300:] = False
    frame = crop_frame()
    found = clip_to_valid(MultiPolygon([box(50, 50, 400, 200)]), frame, valid)
    assert found.area == 250 * 150 - 30 * 10
    untouched = MultiPolygon([box(0, 0, 50, 50)])
    assert clip_to_valid(untouched, frame, valid) is untouched
    assert clip_to_valid(MultiPolygon([box(310, 0, 320, 20)]), frame, valid).is_empty
    assert clip_to_valid(MultiPolygon(), frame, valid).is_empty


MAIN = box(100, 100, 200, 200)
SPECK = box(214, 100, 218, 104)
NEAR = box(230, 100, 280, 160)
FAR = box(400, 400, 480, 480)
PARTS = MultiPolygon([MAIN, SPECK, NEAR, FAR])


def clicks(*points: tuple[float, float]) -> NDArray[np.float64]:
    return np.array(points, np.float64).reshape(-1, 2)


@pytest.mark.parametrize(
    ("prompts", "kept"),
    [
        (InputPrompts(clicks((150, 150)), NONE), [MAIN, NEAR]),
        (InputPrompts(clicks((150, 150)), clicks((250, 130))), [MAIN]),
        (InputPrompts(clicks((150, 150), (450, 450)), NONE), [MAIN, NEAR, FAR]),
        (InputPrompts(clicks((216, 102)), NONE), [SPECK]),
        (InputPrompts(clicks((205, 150)), NONE), [MAIN, NEAR]),
        (InputPrompts(clicks((350, 300)), NONE), []),
        (InputPrompts(NONE, NONE, (90, 90, 290, 210)), [MAIN, NEAR]),
        (InputPrompts(NONE, NONE, (90, 90, 208, 210)), [MAIN]),
        (InputPrompts(NONE, NONE, (390, 390, 500, 500)), [FAR]),
        (InputPrompts(NONE, NONE, (300, 300, 350, 350)), []),
        (InputPrompts(clicks((150, 150)), clicks((150, 160))), []),
    ],
)
def test_parts_that_belong_to_the_object_stay(prompts: InputPrompts, kept: list[shapely.Polygon]) -> None:
    assert select_parts(PARTS, prompts, CELL).normalize() == MultiPolygon(kept).normalize()


def test_no_parts_no_object() -> None:
    assert select_parts(MultiPolygon(), InputPrompts(clicks((1, 1)), NONE), CELL).is_empty


@pytest.mark.parametrize(
    ("outline", "touching"),
    [
        (box(1, 100, 50, 150), True),
        (box(3, 100, 50, 150), False),
        (box(100, 100, 511, 150), True),
        (box(100, 100, 509, 150), False),
        (box(100, 0, 150, 50), True),
        (box(100, 300, 150, 512), True),
    ],
)
def test_touching_the_crops_border(outline: shapely.Polygon, touching: bool) -> None:
    assert touches_edge(MultiPolygon([outline]), crop_frame(), CELL) is touching
    whole = CropFrame(RasterFrame(512, 512, TRANSFORMS["north up"].to_gdal()), Crop(0, SIZE, 0, 0))
    assert not touches_edge(MultiPolygon([outline]), whole, CELL), "the raster ends there as well"


def test_nothing_touches_nothing() -> None:
    assert not touches_edge(MultiPolygon(), crop_frame(), CELL)


def clicked(
    *,
    positive: list[tuple[float, float]] | None = None,
    negative: list[tuple[float, float]] | None = None,
    reach: float = 0.0,
) -> Clicks:
    points = (np.array(each or [], np.float64).reshape(-1, 2) for each in (positive, negative))
    return Clicks(InputPrompts(*points), reach)


def test_what_was_clicked_survives_cleaning() -> None:
    frame = crop_frame(level=0)
    pond, shed = box(40, 40, 50, 50), box(200, 200, 206, 206)
    shapes = MultiPolygon([box(0, 0, 100, 100).difference(pond).difference(box(70, 70, 80, 80)), shed])
    strict = OutlineOptions(min_hole=1e6, min_part=1e6)
    plain = to_map(shapes, frame, strict)
    assert plain.area == pytest.approx(100**2 * 0.25)
    kept = to_map(shapes, frame, strict, clicked(positive=[(203, 203)], negative=[(45, 45)]))
    assert kept.area == pytest.approx((100**2 - 10**2 + 6**2) * 0.25), "only the hole and the part that were clicked"
    near = clicked(positive=[(209, 203)], negative=[(52, 45)], reach=4.0)
    assert to_map(shapes, frame, strict, near).area == pytest.approx(kept.area), "a click may miss by a little"
    wrong = clicked(positive=[(45, 45)], negative=[(203, 203)])
    assert to_map(shapes, frame, strict, wrong).area == pytest.approx(plain.area), "the sign of a click counts"


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, (16, 16), elements=st.floats(-2, 2, width=32)),
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=1, max_size=4, unique=True),
    st.floats(0, 1e5),
    st.floats(0, 1e5),
)
def test_cleaning_never_turns_a_click_around(
    logits: NDArray[np.float32], cells: list[tuple[int, int]], min_hole: float, min_part: float
) -> None:
    share = SIZE / 16
    points = [((col + 0.5) * share, (row + 0.5) * share) for row, col in cells]
    traced = trace(logits, SIZE)
    inside = shapely.contains_properly(traced, shapely.points(points))
    outside = shapely.disjoint(traced, shapely.points(points))
    clicks = clicked(
        positive=[point for point, yes in zip(points, inside, strict=True) if yes],
        negative=[point for point, yes in zip(points, outside, strict=True) if yes],
    )
    frame = crop_frame(level=0)
    found = to_map(traced, frame, OutlineOptions(min_hole=min_hole, min_part=min_part), clicks)
    ground = shapely.points(frame.to_map(np.array(points)))
    assert shapely.intersects(found, ground)[inside].all()
    assert shapely.disjoint(found, ground)[outside].all()


@pytest.mark.parametrize("aspect", [1.0, 0.5, 0.05])
def test_simplification_is_measured_on_the_ground(aspect: float) -> None:
    traced = trace(disc_logits(256.0, 256.0, 150.0), SIZE)
    frame = crop_frame()
    exact = to_map(traced, frame, OutlineOptions(), NO_CLICKS, aspect)
    simple = to_map(traced, frame, OutlineOptions(simplify=4.0), NO_CLICKS, aspect)
    plane = [aspect**0.5, aspect**-0.5]
    one, two = (shapely.transform(item.boundary, lambda xy: xy * plane) for item in (exact, simple))
    assert 1.0 < shapely.hausdorff_distance(one, two, densify=0.01) <= 4.0 * 1.001
    assert exact.area == pytest.approx(math.pi * 150.0**2, rel=0.005), "cleaning by area does not depend on it"
