"""The PNG writer, read back by another library, and the thumbnail."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from samtune.engine.png import encode_png, thumbnail


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_picture_survives(height: int, width: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)
    read = Image.open(BytesIO(encode_png(picture)))
    read.verify()
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(encode_png(picture)))), picture)


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.float32)]
)
def test_other_arrays_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode_png(picture)


def test_a_thumbnail_averages_and_hides_what_is_not_valid() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4, :4] = [[10, 20, 30]]
    picture[:4, 4:6] = 100
    picture[:4, 6:] = 200
    valid = np.ones((8, 8), bool)
    valid[4:] = False
    valid[:2, 4:6] = False
    small = thumbnail(picture, valid, 2)
    assert small[0, 0].tolist() == [10, 20, 30, 255]
    assert small[0, 1].tolist() == [167, 167, 167, 191], "only valid pixels count, and a quarter is not"
    assert small[1, :, 3].tolist() == [0, 0]


@pytest.mark.parametrize("side", [512, 256, 100, 7, 1])
def test_any_side_will_do(side: int) -> None:
    picture = np.full((256, 256, 3), 90, np.uint8)
    small = thumbnail(picture, np.ones((256, 256), bool), side)
    assert small.shape == (min(side, 256),) * 2 + (4,)
    assert (small == [90, 90, 90, 255]).all()


def test_at_full_size_nothing_changes() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(thumbnail(picture, np.ones((64, 64), bool), 64)[..., :3], picture)
