"""The stretch: its rule, and how it is applied."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samtune.engine.stretch import apply, robust

ALL = np.ones((2, 3), bool)


def test_wide_types_get_the_percentiles_of_each_band() -> None:
    ramp = np.linspace(0, 10_000, 1001)
    sample = np.stack([ramp, ramp * 2 + 5]).astype(np.uint16)
    (low, high), (low2, high2) = robust(sample)
    assert (low, high) == pytest.approx((200, 9800))
    assert (low2, high2) == pytest.approx((405, 19605))


def test_outliers_do_not_matter() -> None:
    values = np.full((1, 1000), 50.0, np.float32) + np.arange(1000, dtype=np.float32) / 100
    spiked = values.copy()
    spiked[0, :10] = 1e30
    assert robust(spiked)[0][1] == pytest.approx(robust(values)[0][1], abs=0.2)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 255, (0, 255)),
        (40, 180, (0, 255)),
        (40, 140, (0, 255)),
        (40, 100, (40, 100)),
        (100, 110, (89, 121)),
        (7, 7, (-9, 23)),
    ],
)
def test_eight_bit_pictures_are_stretched_only_when_flat(low: int, high: int, expected: tuple[float, float]) -> None:
    sample = np.repeat(np.array([low, high], np.uint8), 500)[None]
    assert robust(sample) == (pytest.approx(expected),)


def test_eight_bit_bands_share_their_bounds_so_that_colours_stay() -> None:
    sample = np.stack([np.full(100, 60), np.full(100, 80), np.full(100, 110)]).astype(np.uint8)
    assert robust(sample) == ((60.0, 110.0),) * 3


@pytest.mark.parametrize("value", [0.0, -3.5, 12345.0, 1e20, -1e-7])
def test_a_constant_band_is_mid_grey(value: float) -> None:
    stretch = robust(np.full((1, 50), value))
    assert stretch[0][0] < value < stretch[0][1]
    assert set(apply(np.full((1, 2, 3), value), ALL, stretch).ravel()) <= {127, 128}


def test_an_empty_sample_has_a_stretch_all_the_same() -> None:
    assert robust(np.zeros((3, 0), np.uint8)) == ((0.0, 255.0),) * 3
    assert robust(np.zeros((1, 0), np.float32)) == ((0.0, 1.0),)


def test_values_map_to_grey() -> None:
    values = np.array([[[10, 20, 30], [15, 5, 99]]], np.int16)
    picture = apply(values, ALL, ((10.0, 30.0),))
    assert picture.dtype == np.uint8
    assert picture[..., 0].tolist() == [[0, 128, 255], [64, 0, 255]]
    assert (picture == picture[..., :1]).all(), "one band is repeated"


def test_bands_keep_their_order_and_stretch() -> None:
    values = np.stack([np.full((2, 3), 1.0), np.full((2, 3), 2.0), np.full((2, 3), 3.0)])
    picture = apply(values, ALL, ((0.0, 1.0), (0.0, 4.0), (3.0, 5.0)))
    assert picture[0, 0].tolist() == [255, 128, 0]
    assert apply(values, ALL, ((0.0, 3.0),))[0, 0].tolist() == [85, 170, 255], "one pair serves all bands"


def test_what_is_not_valid_is_black_whatever_its_value() -> None:
    values = np.array([[[np.nan, np.inf, -np.inf], [1e38, 0.5, 0.5]]], np.float32)
    valid = np.array([[False, False, False], [True, True, False]])
    picture = apply(values, valid, ((0.0, 1.0),))
    assert picture[..., 0].tolist() == [[0, 0, 0], [255, 128, 0]]


def test_small_differences_of_large_integers_survive() -> None:
    base = 2_000_000_000
    values = (base + np.arange(6).reshape(1, 2, 3) * 51).astype(np.int32)
    picture = apply(values, ALL, ((base, base + 255),))
    assert picture[..., 0].ravel().tolist() == [0, 51, 102, 153, 204, 255]


@given(
    st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]),
    st.lists(st.integers(0, 250), min_size=2, max_size=40),
)
def test_the_stretch_is_monotonous_and_usable_for_any_type(dtype: type, values: list[int]) -> None:
    ordered = np.sort(np.array(values, dtype))[None]
    stretch = robust(ordered)
    assert all(low < high and np.isfinite([low, high]).all() for low, high in stretch)
    picture = apply(ordered[:, None], np.ones((1, len(values)), bool), stretch)
    assert (np.diff(picture[0, :, 0].astype(int)) >= 0).all()
