"""Simulated clicks and boxes on hand-made masks with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from samtune.engine.evaluate.clicks import boundary_f, box_of, correction, iou, jittered, pole


def square(top: int, left: int, side: int, size: int = 20) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_pole_of_a_square_is_its_centre() -> None:
    assert pole(square(3, 8, 5)) == (10.5, 5.5)


def test_pole_of_an_l_lies_in_its_thick_arm() -> None:
    mask = np.zeros((30, 30), bool)
    mask[2:28, 2:5] = True
    mask[19:28, 2:28] = True
    x, y = pole(mask)
    assert mask[int(y), int(x)]
    assert y > 19


def test_pole_counts_the_border_of_the_array_as_outside() -> None:
    assert pole(np.ones((9, 9), bool)) == (4.5, 4.5)


def test_pole_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        pole(np.zeros((4, 4), bool))


@given(arrays(bool, (12, 14)).filter(lambda mask: bool(mask.any())))
@settings(max_examples=60, deadline=None)
def test_pole_lies_on_the_mask(mask: np.ndarray) -> None:
    x, y = pole(mask)
    assert mask[int(y), int(x)]


def test_correction_is_positive_where_more_was_missed() -> None:
    truth = square(2, 2, 10)
    answer = square(2, 2, 10)
    answer[2:12, 7:12] = False
    answer[15, 15] = True
    assert correction(answer, truth) == (9.5, 4.5, True)


def test_correction_is_negative_where_more_is_too_much() -> None:
    truth = square(2, 2, 4)
    answer = truth | square(10, 10, 7)
    assert correction(answer, truth) == (13.5, 13.5, False)


def test_correction_takes_the_largest_connected_error_not_the_commoner_kind() -> None:
    truth = square(0, 0, 1) | square(0, 4, 1) | square(0, 8, 1) | square(0, 12, 1)
    answer = square(10, 10, 2)
    found = correction(answer, truth)
    assert found is not None
    assert found[2] is False


def test_a_perfect_answer_needs_no_correction() -> None:
    assert correction(square(3, 3, 5), square(3, 3, 5)) is None


@given(arrays(bool, (9, 9)), arrays(bool, (9, 9)))
@settings(max_examples=60, deadline=None)
def test_correction_hits_an_error_of_its_kind(answer: np.ndarray, truth: np.ndarray) -> None:
    found = correction(answer, truth)
    if found is None:
        assert (answer == truth).all()
        return
    x, y, positive = found
    assert truth[int(y), int(x)] == positive
    assert answer[int(y), int(x)] != positive


def test_box_has_outer_edges() -> None:
    assert box_of(square(3, 8, 5)) == (8.0, 3.0, 13.0, 8.0)


def test_jitter_is_seeded_stays_inside_and_moves_by_about_a_tenth() -> None:
    box = (40.0, 40.0, 60.0, 80.0)
    moved = np.array([jittered(box, (100, 100), np.random.default_rng(seed)) for seed in range(400)])
    assert jittered(box, (100, 100), np.random.default_rng(7)) == tuple(moved[7])
    assert np.allclose(moved.std(axis=0), [2, 4, 2, 4], rtol=0.15)
    corner = np.array([jittered((0.0, 0.0, 3.0, 3.0), (100, 100), np.random.default_rng(seed)) for seed in range(50)])
    assert corner.min() >= 0
    assert (corner[:, 2] > corner[:, 0]).all()


@given(st.integers(0, 8))
def test_iou_of_shifted_squares(shift: int) -> None:
    both = max(0, 5 - shift) * 5
    assert iou(square(2, 2, 5), square(2, 2 + shift, 5)) == pytest.approx(both / (50 - both))


def test_iou_of_two_empty_masks_is_one() -> None:
    empty = np.zeros((4, 4), bool)
    assert iou(empty, empty) == 1.0


def test_boundary_f_knows_its_tolerance() -> None:
    truth = square(20, 20, 40, 80)
    assert boundary_f(truth, truth) == 1.0
    assert boundary_f(square(21, 20, 40, 80), truth) == 1.0
    assert boundary_f(square(25, 25, 30, 80), truth) == 0.0
    assert boundary_f(np.zeros((80, 80), bool), truth) == 0.0
    half = square(20, 20, 40, 80)
    half[:, 50:] = False
    assert 0.5 < boundary_f(half, truth) < 0.95
