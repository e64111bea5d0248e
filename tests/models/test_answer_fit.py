"""Answers hang together with their clicks and fill their boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samtune.engine.prompting import PromptList, choose
from samtune.models.answer_fit import CELL, LOWEST, fit_to_box, fit_to_clicks
from samtune.models.promptable import Decoded

SIDE = 32


def plane(*parts: tuple[slice, slice], inside: float = 3.0, outside: float = -3.0) -> np.ndarray:
    logits = np.full((SIDE, SIDE), outside, np.float32)
    for part in parts:
        logits[part] = inside
    return logits


LEFT = (slice(4, 12), slice(2, 10))
RIGHT = (slice(4, 12), slice(20, 30))
IN_LEFT, IN_RIGHT, BETWEEN = (6.5 * CELL, 8.0 * CELL), (25.0 * CELL, 8.0 * CELL), (15.0 * CELL, 8.0 * CELL)


def test_islands_without_a_click_go() -> None:
    kept = fit_to_clicks(plane(LEFT, RIGHT), [IN_LEFT])
    assert np.array_equal(kept > 0, plane(LEFT) > 0)
    assert (np.abs(kept) == 3).all()


def test_each_clicked_part_stays() -> None:
    assert np.array_equal(fit_to_clicks(plane(LEFT, RIGHT), [IN_LEFT, IN_RIGHT]), plane(LEFT, RIGHT))


def test_a_click_beside_every_part_changes_nothing() -> None:
    assert np.array_equal(fit_to_clicks(plane(LEFT, RIGHT), [BETWEEN]), plane(LEFT, RIGHT))


def test_a_click_on_the_cell_next_to_a_part_counts() -> None:
    beside = (10.5 * CELL, 8.0 * CELL)
    assert np.array_equal(fit_to_clicks(plane(LEFT, RIGHT), [beside]) > 0, plane(LEFT) > 0)


def test_parts_that_touch_at_a_corner_are_one() -> None:
    corner = plane((slice(4, 8), slice(4, 8)), (slice(8, 12), slice(8, 12)))
    assert np.array_equal(fit_to_clicks(corner, [(5.0 * CELL, 5.0 * CELL)]), corner)


def test_clicks_outside_the_plane_are_taken_to_its_border() -> None:
    at_edge = plane((slice(0, 4), slice(0, 4)), RIGHT)
    assert np.array_equal(fit_to_clicks(at_edge, [(-5.0, -5.0)]) > 0, plane((slice(0, 4), slice(0, 4))) > 0)


def test_nothing_leaves_its_box() -> None:
    fitted = fit_to_box(plane(LEFT, RIGHT), (2.0 * CELL, 4.0 * CELL, 10.0 * CELL, 12.0 * CELL))
    assert np.array_equal(fitted > 0, plane(LEFT) > 0)


def test_an_answer_that_fills_its_box_stays_as_it_is() -> None:
    logits = plane(LEFT)
    assert np.array_equal(fit_to_box(logits, (2.0 * CELL, 4.0 * CELL, 10.0 * CELL, 12.0 * CELL)), logits)


def test_the_threshold_falls_until_the_box_is_filled() -> None:
    """The model is sure of the middle and not quite of the rest, and of nothing outside."""
    logits = plane((slice(4, 20), slice(4, 20)), inside=-0.9)
    logits[9:15, 9:15] = 2.0
    fitted = fit_to_box(logits, (4.0 * CELL, 4.0 * CELL, 20.0 * CELL, 20.0 * CELL))
    assert np.array_equal(fitted > 0, plane((slice(4, 20), slice(4, 20))) > 0)


def test_the_threshold_does_not_fall_for_little() -> None:
    logits = plane((slice(4, 20), slice(4, 20)))
    logits[:, 19] = -1.8
    fitted = fit_to_box(logits, (4.0 * CELL, 4.0 * CELL, 20.0 * CELL, 20.0 * CELL))
    assert np.array_equal(fitted, np.where(np.arange(SIDE) < 20, logits, -np.abs(logits)))


def test_a_box_between_cells_or_of_nothing_is_left_alone() -> None:
    logits = plane(LEFT)
    assert np.array_equal(fit_to_box(logits, (9.0, 9.0, 9.5, 9.5)), logits)
    empty = plane()
    assert not (fit_to_box(empty, (8.0, 8.0, 60.0, 60.0)) > 0).any()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    corner=st.tuples(st.floats(0, 90), st.floats(0, 90)),
    extent=st.tuples(st.floats(5, 60), st.floats(5, 60)),
)
def test_fitting_keeps_the_order_of_places_in_the_box(
    seed: int, corner: tuple[float, float], extent: tuple[float, float]
) -> None:
    logits = np.random.default_rng(seed).normal(0, 2, (SIDE, SIDE)).astype(np.float32)
    box = (corner[0], corner[1], corner[0] + extent[0], corner[1] + extent[1])
    fitted = fit_to_box(logits, box)
    assert fitted.shape == logits.shape
    assert fitted.dtype == np.float32
    rows, columns = np.nonzero(fitted > 0)
    if len(rows):
        assert (columns + 0.5).min() * CELL > box[0]
        assert (columns + 0.5).max() * CELL < box[2]
        assert (rows + 0.5).min() * CELL > box[1]
        assert (rows + 0.5).max() * CELL < box[3]
        shifts = (fitted - logits)[rows, columns]
        assert np.ptp(shifts) < 1e-5
        assert -1e-5 < shifts[0] < -LOWEST + 1e-5


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), click=st.tuples(st.floats(0, 127), st.floats(0, 127)))
def test_fitting_to_clicks_only_takes_away(seed: int, click: tuple[float, float]) -> None:
    noise = np.random.default_rng(seed).normal(-0.5, 1, (SIDE, SIDE)).astype(np.float32)
    fitted = fit_to_clicks(noise, [click])
    assert not ((fitted > 0) & (noise <= 0)).any()
    assert np.array_equal(fit_to_clicks(fitted, [click]), fitted)


@pytest.mark.parametrize("box", [None, (1.0 * CELL, 3.0 * CELL, 11.0 * CELL, 13.0 * CELL)])
def test_what_is_chosen_is_fitted(box: tuple[float, float, float, float] | None) -> None:
    points = () if box else ((*IN_LEFT, True),)
    decoded = Decoded(np.stack([plane(LEFT, RIGHT)]), np.array([0.8], np.float32))
    answer = choose(decoded, np.ones((SIDE, SIDE), bool), PromptList(points, box), first=True)
    assert np.array_equal(answer.logits > 0, plane(LEFT) > 0)


def test_a_corrected_box_may_be_left() -> None:
    decoded = Decoded(np.stack([plane(LEFT, RIGHT)]), np.array([0.8], np.float32))
    prompts = PromptList(((*IN_RIGHT, True),), (2.0 * CELL, 4.0 * CELL, 10.0 * CELL, 12.0 * CELL))
    answer = choose(decoded, np.ones((SIDE, SIDE), bool), prompts, first=False)
    assert np.array_equal(answer.logits, plane(LEFT, RIGHT))


def test_an_answer_with_nothing_in_the_box_stays_one() -> None:
    noise = np.random.default_rng(0).uniform(-1.5, -0.3, (SIDE, SIDE)).astype(np.float32)
    box = (20.0, 20.0, 90.0, 100.0)
    assert not (fit_to_box(noise, box) > 0).any()
    noise[2, 2] = 1.0  # outside the box
    assert not (fit_to_box(noise, box) > 0).any()
    noise[10, 10] = 1.0
    assert (fit_to_box(noise, box) > 0).sum() > 1
