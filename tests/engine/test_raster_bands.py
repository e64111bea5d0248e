"""The choice of bands, from plain metadata."""

from __future__ import annotations

import pytest
from samtune.engine.raster_bands import band_names, check_stretch, choose_bands
from samtune.models.errors import RasterError


@pytest.mark.parametrize(
    ("interpretation", "bands", "palette", "note"),
    [
        (("red", "green", "blue"), (1, 2, 3), False, ""),
        (("red", "green", "blue", "alpha"), (1, 2, 3), False, ""),
        (("blue", "green", "red", "undefined"), (3, 2, 1), False, ""),
        (("alpha", "red", "green", "blue"), (2, 3, 4), False, ""),
        (("gray", "undefined", "undefined", "undefined"), (1, 2, 3), False, "4 bands"),
        (("gray",), (1,), False, "grey"),
        (("gray", "alpha"), (1,), False, "grey"),
        (("gray", "undefined"), (1,), False, "grey"),
        (("alpha", "gray"), (2,), False, "Band 2"),
        (("palette",), (1,), True, "colour table"),
        (("undefined",) * 224, (1, 2, 3), False, "224 bands"),
    ],
)
def test_defaults(interpretation: tuple[str, ...], bands: tuple[int, ...], palette: bool, note: str) -> None:
    choice = choose_bands((), interpretation)
    assert (choice.bands, choice.palette) == (bands, palette)
    assert bool(choice.notes) == bool(note)
    assert note in " ".join(choice.notes)


def test_a_wish_is_followed() -> None:
    assert choose_bands((4, 3, 2), ("undefined",) * 4).bands == (4, 3, 2)
    assert choose_bands((2,), ("red", "green", "blue")).bands == (2,)
    assert choose_bands((1, 1, 1), ("gray",)).bands == (1, 1, 1)
    assert choose_bands((1,), ("palette",)).palette
    assert not choose_bands((1, 1, 1), ("palette",)).palette


@pytest.mark.parametrize(
    ("asked", "words"), [((1, 2), "not 2"), ((1, 2, 3, 4), "not 4"), ((0,), "no band 0"), ((1, 2, 9), "1 to 3")]
)
def test_a_wish_that_does_not_fit_is_refused(asked: tuple[int, ...], words: str) -> None:
    with pytest.raises(RasterError, match=words):
        choose_bands(asked, ("red", "green", "blue"))


def test_only_transparency_is_no_picture() -> None:
    with pytest.raises(RasterError, match="transparency"):
        choose_bands((), ("alpha",))


def test_names_tell_descriptions_before_colours() -> None:
    names = band_names(("NIR", None, "  ", ""), ("red", "green", "gray", "undefined"))
    assert names == ("Band 1 (NIR)", "Band 2 (green)", "Band 3", "Band 4")


def test_a_stretch_that_fits_passes() -> None:
    check_stretch(((0.0, 1.0),), 3)
    check_stretch(((0.0, 1.0), (-5.0, 5.0), (1.0, 2.0)), 3)


@pytest.mark.parametrize(
    "stretch",
    [
        (),
        ((0.0, 1.0), (0.0, 1.0)),
        ((1.0, 0.0),),
        ((1.0, 1.0),),
        ((float("nan"), 1.0),),
        ((0.0, float("inf")),),
        ((float("-inf"), 0.0),),
    ],
)
def test_a_stretch_that_does_not_fit_is_refused(stretch: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(RasterError):
        check_stretch(stretch, 3)
