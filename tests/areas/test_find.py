"""Finding all objects of an area: crop by crop as in one look, whatever the crops."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samtune.engine.areas.find import AreaFinds, AreaObject, Finder
from samtune.engine.areas.reading import CropReader
from samtune.engine.areas.tiles import TilePlan
from samtune.engine.messages import OutlineOptions
from samtune.engine.progress import NullProgress
from samtune.models.errors import CancelledByUser

from ..engine.rasters import NORTH_UP, ROTATED, SOUTH_UP
from .scenes import TruthLook, opened, scene, written

PLAIN = OutlineOptions()


def found(reader: CropReader, size: int, overlap: int | None = None, **more: object) -> AreaFinds:
    area, level, batch = more.pop("area", None), int(more.pop("level", 0)), int(more.pop("batch", 1))
    plan = TilePlan(reader.source.frame, size, level, overlap, area)
    finder = Finder(plan, reader, TruthLook(batch), more.pop("progress", None) or NullProgress())
    return finder.find(area, more.pop("options", PLAIN), int(more.pop("most", 20000)))


def matched(one: AreaObject, other: AreaObject) -> float:
    both = shapely.intersection(one.outline, other.outline).area
    return both / (one.outline.area + other.outline.area - both)


def check_same(tiled: AreaFinds, whole: AreaFinds, least: float = 0.7) -> None:
    """Every object once, whole, with its class."""
    assert len(tiled.objects) == len(whole.objects)
    for truth in whole.objects:
        fits = [item for item in tiled.objects if matched(item, truth) > least]
        assert len(fits) == 1
        assert fits[0].label == truth.label
        assert fits[0].score == pytest.approx(truth.score)


LEAST = 28
"""Pixels. Crops are looked at in cells of 4 pixels, laid anew by each: too large a share of a smaller object."""

BOXES = st.lists(
    st.tuples(st.integers(-10, 420), st.integers(-10, 340), st.integers(LEAST, 260), st.integers(LEAST, 260)),
    min_size=4,
    max_size=30,
)


@given(BOXES, st.sampled_from([96, 128, 192]), st.sampled_from([0.5, 0.5, 0.4, 0.6]), st.integers(1, 3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_crop_by_crop_as_in_one_look(
    tmp_path: Path, boxes: list[tuple[int, int, int, int]], size: int, share: float, batch: int
) -> None:
    reader = written(tmp_path / "scene.tif", scene((360, 440), boxes))
    whole = found(reader, 448)
    assert whole.crops == 1
    check_same(found(reader, size, int(size * share), batch=batch), whole)


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, ROTATED])
def test_outlines_lie_where_the_objects_are(tmp_path: Path, transform: Affine) -> None:
    picture = scene((300, 400), [(20, 30, 60, 40), (150, 100, 90, 90), (300, 20, 50, 200)], kinds=3)
    reader = written(tmp_path / "scene.tif", picture, transform)
    result = found(reader, 128)
    assert len(result.objects) == 3
    for item in result.objects:
        assert item.outline.is_valid and item.outline.geom_type == "MultiPolygon"
        number = round((item.score - 0.5) * 512)
        pixels = (picture[0] == number).sum()
        assert item.outline.area == pytest.approx(pixels * 0.25, rel=0.12)
        inside = shapely.point_on_surface(item.outline)
        column, row = reader.source.frame.to_pixel(np.array([[inside.x, inside.y]]))[0]
        assert picture[0, int(row), int(column)] == number
        assert picture[1, int(row), int(column)] == item.label


def test_a_river_through_many_crops_is_one_object(tmp_path: Path) -> None:
    picture = np.zeros((3, 400, 900), np.uint8)
    columns = np.arange(900)
    middle = (200 + 120 * np.sin(columns / 90)).astype(int)
    for column, row in zip(columns, middle, strict=True):
        picture[:2, row - 12 : row + 12, column] = 1
    reader = written(tmp_path / "river.tif", picture)
    (river,) = found(reader, 128).objects
    assert river.outline.area == pytest.approx(0.25 * (picture[0] > 0).sum(), rel=0.05)
    assert len(river.outline.geoms) == 1


def test_an_object_belongs_to_the_area_by_its_middle(tmp_path: Path) -> None:
    reader = written(
        tmp_path / "scene.tif", scene((300, 300), [(20, 20, 40, 40), (125, 20, 40, 40), (200, 200, 40, 40)])
    )
    frame = reader.source.frame
    area = shapely.transform(shapely.box(0, 0, 150, 100), frame.to_map)
    result = found(reader, 64, area=area)
    assert len(result.objects) == 2, "the second one reaches out of the area, but has its middle in it"
    assert all(item.outline.area == pytest.approx(400, rel=0.3) for item in result.objects)
    narrow = shapely.transform(shapely.box(0, 0, 140, 100), frame.to_map)
    assert len(found(reader, 64, area=narrow).objects) == 1


def test_nodata_is_skipped_and_cut_away(tmp_path: Path) -> None:
    picture = scene((300, 600), [(20, 20, 60, 60), (200, 100, 100, 60)])
    picture[2] = 7
    picture[:, :, 260:] = 255
    reader = written(tmp_path / "scene.tif", picture, nodata=255)
    result = found(reader, 96)
    assert result.skipped > 0 and result.crops + result.skipped == TilePlan(reader.source.frame, 96, 0).count
    assert len(result.objects) == 2
    right = max(item.outline.bounds[2] for item in result.objects)
    assert right == pytest.approx((NORTH_UP @ (260, 0))[0], abs=1e-6)
    empty = np.full((3, 100, 100), 255, np.uint8)
    nothing = found(written(tmp_path / "empty.tif", empty, nodata=255), 64)
    assert (nothing.objects, nothing.crops) == ((), 0)


def test_a_coarser_level_sees_the_same_objects(tmp_path: Path) -> None:
    picture = scene((500, 600), [(30, 40, 100, 80), (200, 200, 140, 120), (400, 50, 60, 300)])
    big = np.repeat(np.repeat(picture, 2, axis=1), 2, axis=2)
    reader = written(tmp_path / "big.tif", big)
    coarse = found(reader, 128, level=1)
    assert coarse.crops == found(written(tmp_path / "small.tif", picture), 128).crops
    check_same(coarse, found(reader, 1024, level=1), least=0.8)
    assert sum(item.outline.area for item in coarse.objects) == pytest.approx(0.25 * (big[0] > 0).sum(), rel=0.06)


def test_the_surest_stay_when_there_are_too_many(tmp_path: Path) -> None:
    boxes = [(20 + 60 * column, 20 + 60 * row, 30, 30) for row in range(4) for column in range(4)]
    reader = written(tmp_path / "scene.tif", scene((280, 280), boxes))
    every, some = found(reader, 96), found(reader, 96, most=5)
    assert (len(every.objects), every.cut_off, some.cut_off) == (16, 0, 11)
    assert some.objects == every.objects[:5]
    scores = [item.score for item in every.objects]
    assert scores == sorted(scores, reverse=True)


def test_outlines_are_cleaned_as_asked(tmp_path: Path) -> None:
    picture = scene((200, 200), [(40, 40, 100, 100)])
    picture[:2, 60:68, 50:58] = 0
    reader = written(tmp_path / "scene.tif", picture)
    (plain,) = found(reader, 256).objects
    (clean,) = found(reader, 256, options=OutlineOptions(simplify=1.0, min_hole=100.0)).objects
    assert len(plain.outline.geoms[0].interiors) == 1
    assert len(clean.outline.geoms[0].interiors) == 0
    assert shapely.get_num_coordinates(clean.outline) < shapely.get_num_coordinates(plain.outline)


class StopAt(NullProgress):
    """Cancels at the n-th look."""

    def __init__(self, at: int) -> None:
        self.left = at

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise CancelledByUser


def test_a_cancel_is_heard_at_any_moment(tmp_path: Path) -> None:
    reader = written(tmp_path / "scene.tif", scene((300, 300), [(20, 20, 200, 40), (125, 100, 40, 40)]))
    counting = StopAt(10**9)
    found(reader, 96, progress=counting)
    looks = 10**9 - counting.left
    assert looks > 50
    for at in random.Random(0).sample(range(looks), 12):
        with pytest.raises(CancelledByUser):
            found(reader, 96, progress=StopAt(at))


def test_progress_rises_to_the_end(tmp_path: Path) -> None:
    class Heard(NullProgress):
        def __init__(self) -> None:
            self.fractions: list[float] = []

        def report(self, fraction: float, message: str) -> None:
            self.fractions.append(fraction)

    heard = Heard()
    reader = opened(written(tmp_path / "scene.tif", scene((300, 300), [(20, 20, 60, 40)])).source.info.spec.uri)
    found(reader, 96, progress=heard)
    assert heard.fractions == sorted(heard.fractions)
    assert heard.fractions[0] == 0 and heard.fractions[-1] == pytest.approx(0.95)
