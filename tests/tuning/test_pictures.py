"""Pictures of crops."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from samtune.engine.tuning.pictures import Outlined, colour_of, hexadecimal, picture_of

GREY = np.full((64, 64, 3), 100, np.uint8)
DISC = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 16


def opened(text: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        return np.asarray(picture.convert("RGB"))


def test_an_outline_is_drawn_in_its_colour_and_nothing_else_changes() -> None:
    drawn = opened(picture_of(GREY, [Outlined(DISC, (255, 0, 0))]))
    red = (drawn == (255, 0, 0)).all(axis=2)
    assert red.any()
    assert not (red & ~DISC).any(), "the outline is the object's own edge"
    assert (drawn[~red] == 100).all()
    assert not red[32, 32], "not filled"


def test_an_answer_is_tinted() -> None:
    drawn = opened(picture_of(GREY, [Outlined(DISC, (255, 0, 0), filled=True)]))
    assert drawn[32, 32, 0] > 100 > drawn[32, 32, 2]


def test_what_does_not_count_is_darker() -> None:
    drawn = opened(picture_of(GREY, (), ~DISC))
    assert (drawn[32, 32] == 100).all()
    assert (drawn[0, 0] == 40).all()


def test_large_crops_are_shrunk_and_small_objects_stay_visible() -> None:
    image = np.full((512, 512, 3), 100, np.uint8)
    speck = np.zeros((512, 512), np.bool_)
    speck[300, 200] = True
    drawn = opened(picture_of(image, [Outlined(speck, (0, 255, 0))], side=128))
    assert drawn.shape == (128, 128, 3)
    assert (drawn == (0, 255, 0)).all(axis=2).sum() == 1


def test_colours_of_classes_come_round_again() -> None:
    assert hexadecimal(colour_of(0)) == "#e41a1c"
    assert colour_of(7) == colour_of(0)
    assert len({colour_of(place) for place in range(7)}) == 7
