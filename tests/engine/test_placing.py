"""Prompts from the map into a crop that holds them all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine
from samtune.engine.crops import RasterFrame, crop_at
from samtune.engine.messages import Prompt, RasterSpec, SegmentParams
from samtune.engine.placing import check_on_data, locate, on_raster
from samtune.engine.prompting import PromptList
from samtune.models.errors import PromptError

SIZE = 512
TRANSFORMS = {
    "north up": Affine(0.5, 0.0, 500_000.0, 0.0, -0.5, 5_300_000.0),
    "south up": Affine(0.5, 0.0, 500_000.0, 0.0, 0.5, 5_300_000.0),
    "rotated": Affine.translation(500_000.0, 5_300_000.0) @ Affine.rotation(40.0) @ Affine.scale(0.5, -0.5),
}
shares = st.floats(0.001, 0.999)


def frame(name: str = "north up", width: int = 3000, height: int = 2000) -> RasterFrame:
    return RasterFrame(width, height, TRANSFORMS[name].to_gdal())


def place(raster: RasterFrame, col: float, row: float) -> tuple[float, float]:
    x, y = raster.to_map(np.array([[col, row]]))[0]
    return float(x), float(y)


def prompt(raster: RasterFrame, col: float, row: float, *, positive: bool = True) -> Prompt:
    return Prompt(*place(raster, col, row), positive)


def request(*points: Prompt, level: int = 0, box: tuple[tuple[float, float], ...] = ()) -> SegmentParams:
    return SegmentParams(RasterSpec("r"), "m", level, points, box)


@given(
    st.sampled_from(sorted(TRANSFORMS)),
    st.lists(st.tuples(shares, shares, st.booleans()), min_size=1, max_size=6),
    st.integers(-3, 5),
)
def test_points_keep_their_place_order_and_sign(name: str, places: list[tuple[float, float, bool]], level: int) -> None:
    raster = frame(name)
    places[0] = (*places[0][:2], True)
    points = [prompt(raster, 3000 * x, 2000 * y, positive=sign) for x, y, sign in places]
    found = locate(raster, SIZE, request(*points, level=level))
    inside = np.array([point[:2] for point in found.prompts.points])
    assert ((inside >= 0) & (inside <= SIZE)).all()
    back = found.frame.to_map(inside)
    np.testing.assert_allclose(back, [(point.x, point.y) for point in points], atol=1e-5)
    assert [point[2] for point in found.prompts.points] == [sign for *_, sign in places]
    assert found.prompts.box is None


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_first_point_alone_chooses_the_crop(name: str) -> None:
    raster = frame(name)
    found = locate(raster, SIZE, request(prompt(raster, 1234.5, 987.0)))
    assert found.frame.crop == crop_at(raster, SIZE, 0, (1234.5, 987.0))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_box_becomes_a_box_of_the_input_whatever_the_order_of_its_corners(name: str) -> None:
    raster = frame(name)
    corners = [place(raster, *corner) for corner in ((1000, 900), (1200, 900), (1200, 1100), (1000, 1100))]
    found = {locate(raster, SIZE, request(box=tuple(order))).prompts for order in (corners, corners[::-1])}
    (only,) = {tuple(round(value, 6) for value in prompts.box or ()) for prompts in found}
    crop = locate(raster, SIZE, request(box=tuple(corners))).frame.crop
    assert only == (1000 - crop.col, 900 - crop.row, 1200 - crop.col, 1100 - crop.row)


def test_a_box_drawn_in_another_direction_is_taken_with_its_bounds() -> None:
    raster = frame("rotated")
    x, y = place(raster, 1000, 1000)
    upright = ((x - 20, y - 20), (x + 20, y - 20), (x + 20, y + 20), (x - 20, y + 20))
    x0, y0, x1, y1 = locate(raster, SIZE, request(box=upright)).prompts.box or (0, 0, 0, 0)
    half = 40 * (np.cos(np.radians(40)) + np.sin(np.radians(40)))
    assert (x1 - x0, y1 - y0) == pytest.approx((2 * half, 2 * half))


def test_a_box_is_cut_to_the_raster_and_centred_on_what_is_left() -> None:
    raster = frame()
    corners = (place(raster, -500, -500), place(raster, 200, 100))
    found = locate(raster, SIZE, request(box=corners))
    assert found.prompts.box == pytest.approx((0, 0, 200, 100))
    assert (found.frame.crop.col, found.frame.crop.row) == (0, 0)


def test_a_box_and_points_share_one_crop() -> None:
    raster = frame()
    corners = (place(raster, 1100, 900), place(raster, 1200, 1000))
    found = locate(raster, SIZE, request(prompt(raster, 2300, 950, positive=False), box=corners))
    assert found.frame.crop.level == 2
    assert len(found.prompts.points) == 1


def test_the_level_is_brought_into_the_rasters_range() -> None:
    raster = frame()
    assert locate(raster, SIZE, request(prompt(raster, 5, 5), level=99)).frame.crop.level == 3
    assert locate(raster, SIZE, request(prompt(raster, 5, 5), level=-99)).frame.crop.level == -2


@pytest.mark.parametrize(("col", "row"), [(0, 0), (3000, 2000), (3000, 0), (0, 2000)])
def test_the_rasters_border_belongs_to_it(col: float, row: float) -> None:
    raster = frame()
    found = locate(raster, SIZE, request(prompt(raster, col, row)))
    (x, y, _) = found.prompts.points[0]
    assert 0 <= x <= SIZE and 0 <= y <= SIZE


@pytest.mark.parametrize(("col", "row"), [(-1, 5), (5, -1), (3001, 5), (5, 2001), (np.nan, 5)])
def test_what_lies_beyond_is_refused_by_its_name(col: float, row: float) -> None:
    raster = frame()
    with pytest.raises(PromptError, match="This thing lies outside"):
        on_raster(raster, np.array([place(raster, col, row)]), "This thing")
    with pytest.raises(PromptError, match="A point lies outside"):
        locate(raster, SIZE, request(prompt(raster, 9, 9), prompt(raster, col, row, positive=False)))


def test_only_positive_clicks_must_lie_on_data() -> None:
    valid = np.ones((SIZE, SIZE), bool)
    valid[:, 256:] = False
    check_on_data(valid, PromptList(((255.9, 10.0, True), (256.0, 10.0, False))))
    check_on_data(valid, PromptList((), (0.0, 0.0, 512.0, 512.0)))
    check_on_data(None, PromptList(((300.0, 10.0, True),)))
    check_on_data(valid, None)
    for x in (256.0, 511.9, 512.0):
        with pytest.raises(PromptError, match="no data"):
            check_on_data(valid, PromptList(((100.0, 10.0, True), (x, 10.0, True))))
