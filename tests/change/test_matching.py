"""Matching of objects of two dates: what it says of plain cases, and what must hold of all."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from samtune.engine.change.matching import Change, ChangeKind, DatedObject, Tolerance, match

TOLERANCE = Tolerance(2.0)
NEW, GONE, CHANGED, STABLE = ChangeKind.NEW, ChangeKind.GONE, ChangeKind.CHANGED, ChangeKind.STABLE


def box(x: float, y: float, width: float = 10.0, height: float = 10.0, label: str = "") -> DatedObject:
    return DatedObject(shapely.box(x, y, x + width, y + height), label)


def shifted(objects: list[DatedObject], dx: float, dy: float) -> list[DatedObject]:
    by = np.array([dx, dy])
    return [DatedObject(shapely.transform(item.shape, lambda xy: xy + by), item.label) for item in objects]


def facts(changes: list[Change]) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    return [(change.kind.value, change.before, change.after) for change in changes]


def test_nothing() -> None:
    assert match([], [], TOLERANCE) == []
    assert facts(match([box(0, 0)], [], TOLERANCE)) == [("gone", (0,), ())]
    assert facts(match([], [box(0, 0)], TOLERANCE)) == [("new", (), (0,))]


def test_stable_gone_and_new() -> None:
    before, after = [box(0, 0), box(50, 0)], [box(100, 0), box(1, 1)]
    assert facts(match(before, after, TOLERANCE)) == [("stable", (0,), (1,)), ("gone", (1,), ()), ("new", (), (0,))]


def test_an_extended_building_changed() -> None:
    (change,) = match([box(0, 0)], [box(0, 0, 25, 10)], TOLERANCE)
    assert (change.kind, change.relabelled) == (CHANGED, False)
    assert change.agreement == pytest.approx(12 * 10 / 250, abs=0.01)


def test_another_class_is_a_change() -> None:
    (change,) = match([box(0, 0, label="field")], [box(0, 0, label="pond")], TOLERANCE)
    assert (change.kind, change.relabelled, change.agreement) == (CHANGED, True, 1.0)


def test_of_two_that_fit_the_one_of_the_same_class_is_taken() -> None:
    before = [box(0, 0, label="a")]
    after = [box(0, 0, label="b"), box(1, 0, label="a")]
    changes = match(before, after, TOLERANCE)
    assert changes[0].before == (0,)
    assert 1 in changes[0].after


def test_one_object_outlined_in_two_halves_is_stable() -> None:
    halves = [box(0, 0, 12, 10), box(12, 0, 8, 10)]
    assert facts(match([box(0, 0, 20, 10)], halves, TOLERANCE)) == [("stable", (0,), (0, 1))]
    assert facts(match(halves, [box(0, 0, 20, 10)], TOLERANCE)) == [("stable", (0, 1), (0,))]


def test_neighbours_within_the_tolerance_keep_their_partners() -> None:
    """Ten small objects side by side, shifted by less than the tolerance but by more than half of themselves."""
    before = [box(3.0 * i, 0, 3, 3) for i in range(10)]
    changes = match(before, shifted(before, 1.9, 0), TOLERANCE)
    assert [change.kind for change in changes] == [STABLE] * 10
    assert {len(change.after) for change in changes} == {1}


def test_a_shift_beyond_the_tolerance_is_no_match() -> None:
    assert Counter(c.kind for c in match([box(0, 0)], [box(13, 0)], TOLERANCE)) == {GONE: 1, NEW: 1}


def test_without_tolerance_it_is_plain_overlap() -> None:
    (change,) = match([box(0, 0)], [box(0, 0, 10, 9)], Tolerance(0.0))
    assert change.kind is STABLE
    assert change.agreement == pytest.approx(0.9)


places = st.integers(0, 30)
sides = st.integers(1, 12)
labels = st.sampled_from(["", "a", "b"])
boxes = st.builds(lambda x, y, w, h, label: box(x * 2, y * 2, w, h, label), places, places, sides, sides, labels)
scenes = st.lists(boxes, max_size=12)
MIRROR = {NEW: GONE, GONE: NEW, CHANGED: CHANGED, STABLE: STABLE}


@settings(deadline=None, max_examples=150)
@given(scenes, st.floats(0.0, 0.95), st.floats(0.0, 2 * math.pi))
def test_a_shift_below_the_tolerance_changes_nothing(scene: list[DatedObject], share: float, angle: float) -> None:
    """Whatever the scene, overlapping and touching objects included."""
    length = share * TOLERANCE.shift
    changes = match(scene, shifted(scene, length * math.cos(angle), length * math.sin(angle)), TOLERANCE)
    assert {change.kind for change in changes} <= {STABLE}
    assert {len(change.before) for change in changes} <= {1}


@settings(deadline=None, max_examples=150)
@given(scenes, scenes)
def test_every_object_is_in_one_change(before: list[DatedObject], after: list[DatedObject]) -> None:
    changes = match(before, after, TOLERANCE)
    assert sorted(place for change in changes for place in change.before) == list(range(len(before)))
    assert sorted(place for change in changes for place in change.after) == list(range(len(after)))
    for change in changes:
        assert (change.kind is NEW) == (not change.before)
        assert (change.kind is GONE) == (not change.after)
        assert 0.0 <= change.agreement <= 1.0


@settings(deadline=None, max_examples=150)
@given(scenes, scenes)
def test_new_and_gone_mirror_each_other(before: list[DatedObject], after: list[DatedObject]) -> None:
    """Run backwards in time, what was new is gone. Objects that tie are paired either way, so kinds are counted."""
    forth, back = match(before, after, TOLERANCE), match(after, before, TOLERANCE)
    assert Counter(MIRROR[change.kind] for change in forth)[GONE] == Counter(change.kind for change in back)[GONE]
    assert Counter(MIRROR[change.kind] for change in forth)[NEW] == Counter(change.kind for change in back)[NEW]


@settings(deadline=None, max_examples=80)
@given(scenes, scenes)
def test_objects_far_from_all_others_are_new_or_gone(before: list[DatedObject], after: list[DatedObject]) -> None:
    far_before, far_after = [*before, box(500, 500)], [*after, box(900, 900)]
    changes = match(far_before, far_after, TOLERANCE)
    assert ("gone", (len(before),), ()) in facts(changes)
    assert ("new", (), (len(after),)) in facts(changes)
