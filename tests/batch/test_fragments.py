"""Units of any size give what one look at the whole raster gives: nothing lost, nothing twice, nothing cut."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samtune.engine.areas.find import contributed
from samtune.engine.areas.joining import Rules, join
from samtune.engine.areas.pieces import Piece
from samtune.engine.areas.reading import CropReader
from samtune.engine.areas.tiles import TilePlan
from samtune.engine.batch.fragments import join_rows, own_ground, packed, part, unpacked
from samtune.engine.batch.items import Unit
from samtune.engine.batch.planning import tile_units, tiles_of
from shapely.geometry import MultiPolygon, Polygon

from ..areas.scenes import TruthLook, scene, written

BOXES = st.lists(
    st.tuples(st.integers(-10, 420), st.integers(-10, 340), st.integers(28, 260), st.integers(28, 260)),
    min_size=4,
    max_size=30,
)
NESTED = Rules(overlap=0.5, contained=None)


def never() -> None:
    """Nobody cancels."""


def pieces_of(reader: CropReader, plan: TilePlan, unit: Unit | None = None) -> list[Piece]:
    look, found = TruthLook(), []
    for tile in plan if unit is None else tiles_of(plan, unit):
        inputs = reader.read(tile.crop, never)
        (candidates,) = look.look([inputs], never)
        valid = None if inputs.valid.all() else inputs.valid
        found.extend(contributed(plan, tile, candidate, valid) for candidate in candidates)
    return [piece for piece in found if piece is not None]


def by_units(reader: CropReader, plan: TilePlan, side: int, rules: Rules) -> tuple[list[Piece], int]:
    """Return the objects as a job finds them, and how many pieces had to be kept."""
    objects: list[Piece] = []
    rows: dict[int, list[Piece]] = {}
    for unit in tile_units(plan, side):
        inner, kept = part(pieces_of(reader, plan, unit), own_ground(plan, unit.block), rules, never)
        objects += inner
        rows.setdefault(unit.block[0], []).extend(unpacked(packed(piece, "")) for piece in kept)
    ends = [plan.rows.origin(row + side) if row + side < len(plan.rows) else float("inf") for row in rows]
    objects += [item for ready in join_rows(zip(rows.values(), ends, strict=True), rules, never) for item in ready]
    return objects, sum(map(len, rows.values()))


def key(piece: Piece) -> tuple[object, ...]:
    return (piece.label, round(piece.score, 9), shapely.normalize(piece.outline).wkb_hex)


@given(
    BOXES,
    st.sampled_from([96, 128, 192]),
    st.sampled_from([0.25, 0.4, 0.5]),
    st.integers(1, 4),
    st.sampled_from([Rules(), NESTED]),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_units_give_what_all_tiles_at_once_give(
    tmp_path: Path, boxes: list[tuple[int, int, int, int]], size: int, share: float, side: int, rules: Rules
) -> None:
    reader = written(tmp_path / "scene.tif", scene((360, 440), boxes))
    plan = TilePlan(reader.source.frame, size, 0, int(size * share))
    whole = join(pieces_of(reader, plan), never, rules)
    split, _ = by_units(reader, plan, side, rules)
    assert sorted(map(key, split)) == sorted(map(key, whole))


@given(BOXES, st.sampled_from([96, 128, 192]), st.sampled_from([0.25, 0.4, 0.5]), st.integers(1, 4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_units_give_what_one_look_gives(
    tmp_path: Path, boxes: list[tuple[int, int, int, int]], size: int, share: float, side: int
) -> None:
    reader = written(tmp_path / "scene.tif", scene((360, 440), boxes))
    one_look = TilePlan(reader.source.frame, 448, 0)
    truth = join(pieces_of(reader, one_look), never)
    found, _ = by_units(reader, TilePlan(reader.source.frame, size, 0, int(size * share)), side, Rules())
    assert len(found) == len(truth)
    for item in truth:
        fits = [other for other in found if overlap(item, other) > 0.7]
        assert len(fits) == 1
        assert fits[0].label == item.label


def overlap(one: Piece, other: Piece) -> float:
    both = shapely.intersection(one.outline, other.outline).area
    return both / (one.outline.area + other.outline.area - both)


@pytest.mark.parametrize(("rules", "left"), [(Rules(), 1), (NESTED, 0)])
def test_what_a_crop_cuts_and_no_other_one_knows_stays_only_where_objects_are_sought(rules: Rules, left: int) -> None:
    outline = shapely.MultiPolygon([shapely.box(60, 20, 96, 60)])
    cut = Piece(0, (0, 0, 96, 96), outline, 1, 0.9, cut=True, owned=True, border=True)
    other = shapely.MultiPolygon([shapely.box(150, 20, 170, 60)])
    whole = Piece(1, (72, 0, 168, 96), other, 1, 0.8, cut=False, owned=True, border=False)
    assert len(join([cut, whole], never, rules)) == 1 + left


def test_what_lies_a_little_beyond_a_core_stays_only_if_another_crop_shows_it() -> None:
    def seen(tile: int, left: float, *, owned: bool = False, cut: bool = False) -> Piece:
        window = ((0, 0, 96, 96), (72, 0, 168, 96))[tile]
        outline = shapely.MultiPolygon([shapely.box(left, 20, left + 12, 40)])
        return Piece(tile, window, outline, 1, 0.9 - 0.1 * tile, cut=cut, owned=owned, border=True)

    first, second = seen(0, 79), seen(1, 77)  # the border is at 84: each sees the middle on the other's side
    assert join([first], never, NESTED) == []
    assert join([first, second], never, NESTED) == [first]
    assert join([first, seen(1, 79, owned=True)], never, NESTED) == [first], "the surer of two that are the same"
    assert join([first, seen(1, 79, cut=True)], never, NESTED) == [first]
    apart = seen(1, 88, owned=True)
    assert join([first, apart], never, NESTED) == [apart]


def test_only_what_lies_on_borders_is_kept(tmp_path: Path) -> None:
    boxes = [(x, y, 22, 22) for x in range(5, 420, 40) for y in range(5, 340, 40)]
    reader = written(tmp_path / "scene.tif", scene((360, 440), boxes))
    plan = TilePlan(reader.source.frame, 96, 0, 24)
    objects, kept = by_units(reader, plan, 3, Rules())
    alone, all_kept = by_units(reader, plan, 1, Rules())
    assert sorted(map(key, objects)) == sorted(map(key, alone))
    assert 0 < kept < all_kept
    assert by_units(reader, plan, 10, Rules())[1] == 0


@pytest.mark.parametrize("side", [1, 2, 5])
def test_blocks_hold_every_tile_once(tmp_path: Path, side: int) -> None:
    reader = written(tmp_path / "scene.tif", scene((360, 440), [(20, 20, 40, 40)]))
    plan = TilePlan(reader.source.frame, 96, 0, 24)
    units = list(tile_units(plan, side))
    numbers = [tile.number for unit in units for tile in tiles_of(plan, unit)]
    assert sorted(numbers) == [tile.number for tile in plan]
    assert [unit.tiles for unit in units] == [len(list(tiles_of(plan, unit))) for unit in units]


def _part(tile: int, window: tuple[float, float, float, float], outline: Polygon) -> Piece:
    return Piece(tile, window, MultiPolygon([outline]), 1, 0.9, cut=True, owned=True, border=True)


LEFT, RIGHT = (0.0, 0.0, 96.0, 96.0), (72.0, 0.0, 168.0, 96.0)
"""Windows of two crops that share 24 pixels."""


def test_what_still_ends_straight_where_a_crop_ended_is_not_kept() -> None:
    """The crop that goes on there saw the object end elsewhere: the two do not agree."""
    first = _part(0, LEFT, shapely.box(60, 20, 96, 60))
    agrees = _part(1, RIGHT, shapely.box(72, 20, 130, 60))
    less = _part(1, RIGHT, shapely.box(72, 30, 130, 60))
    (whole,) = join([first, agrees], never, NESTED)
    assert whole.outline.equals(shapely.box(60, 20, 130, 60))
    assert join([first, less], never, NESTED) == []
    assert len(join([first, less], never)) == 1, "where objects do not lie in objects, all that was found is kept"


def test_an_outline_ends_where_the_crop_that_goes_on_sees_it_end() -> None:
    """A pixel beyond its end the first crop ends as well, and its answer reaches that side: no straight ledge stays."""
    first = _part(0, LEFT, shapely.box(60, 20, 96, 60))
    slanting = shapely.Polygon([(72, 20), (94.5, 20), (95.5, 60), (72, 60)])
    (whole,) = join([first, _part(1, RIGHT, slanting)], never, NESTED)
    edge = shapely.intersection(whole.outline.boundary, shapely.LineString([(96, 0), (96, 96)]))
    assert edge.length == 0
    assert whole.outline.symmetric_difference(shapely.union(shapely.box(60, 20, 80, 60), slanting)).area < 0.1


def test_an_object_that_really_ends_there_is_kept() -> None:
    """The neighbour, whose crop goes on, sees it end at the very place where the first crop ends; likewise a raster."""
    first = replace(_part(0, LEFT, shapely.box(0, 20, 96, 60)), opens=(False, True, True, True))
    second = _part(1, RIGHT, shapely.union(shapely.box(72, 20, 96, 60), shapely.box(92, 20, 94, 96)))
    assert len(join([first, second], never, NESTED)) == 1
    beyond = _part(1, RIGHT, shapely.box(72, 20, 130, 60))
    (whole,) = join([first, beyond], never, NESTED)
    assert whole.outline.bounds[0] == 0
    open_left = replace(first, opens=(True, True, True, True))
    assert join([open_left, beyond], never, NESTED) == []


def test_the_sides_beyond_which_a_raster_goes_on_survive_the_job_file() -> None:
    part_seen = replace(_part(0, LEFT, shapely.box(0, 20, 96, 60)), opens=(False, True, True, False))
    assert unpacked(packed(part_seen, "")) == part_seen
    old = packed(part_seen, "")
    content = json.loads(old.extra)
    content["flags"] = content["flags"][:3]
    assert unpacked(replace(old, extra=json.dumps(content))).opens == (True,) * 4
