"""Pictures of crops for the user: objects as outlines in their class's colour, and what does not count dimmed."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..png import encode_png, thumbnail
from ..progress import Check, never_stops
from .objects import Mask

SIDE = 224
"""Longest side of a picture, pixels."""

_COLOURS = ((228, 26, 28), (55, 126, 184), (77, 175, 74), (152, 78, 163), (255, 127, 0), (166, 86, 40), (247, 129, 191))
_DIMMED = 0.4
_HALO = 0.35

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Outlined:
    """Something to be outlined in a picture.

    Attributes:
        mask: (S, S) bool.
        colour: red, green, blue, 0 to 255.
        filled: tint the inside too: for what a model answered, so that it is told from what was drawn.
    """

    mask: Mask
    colour: Colour
    filled: bool = False


def colour_of(place: int) -> Colour:
    """Return the colour of a class.

    Args:
        place: of its name among those of all classes, in alphabetic order.
    """
    return _COLOURS[place % len(_COLOURS)]


def hexadecimal(colour: Colour) -> str:
    """Return a colour as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def picture_of(
    image: NDArray[np.uint8],
    outlines: Sequence[Outlined] = (),
    dim: Mask | None = None,
    side: int = SIDE,
    check: Check = never_stops,
) -> str:
    """Draw a picture.

    Args:
        image: (S, S, 3) uint8 RGB.
        outlines: drawn in this order, later ones on top.
        dim: (S, S) bool, places that are shown darker; None for none.
        side: of the picture, pixels, where the image is larger.
        check: called for every outline; may raise to stop.

    Returns:
        Base64 PNG.
    """
    small = thumbnail(image, np.ones(image.shape[:2], np.bool_), side)
    colours = small[..., :3].astype(np.float32)
    if dim is not None:
        colours[_shrunk(dim, len(small))] *= _DIMMED
    for item in outlines:
        check()
        mask = _shrunk(item.mask, len(small))
        if item.filled:
            colours[mask] = (1 - _HALO) * colours[mask] + _HALO * np.array(item.colour, np.float32)
        colours[_edge(mask)] = item.colour
    small[..., :3] = np.rint(colours)
    return base64.b64encode(encode_png(small)).decode("ascii")


def _shrunk(mask: Mask, side: int) -> Mask:
    """Return a mask in the pixels of a picture: those half in it; of a speck, those that are in it at all."""
    starts = np.arange(side) * len(mask) // side
    counts = np.add.reduceat(np.add.reduceat(mask.astype(np.int32), starts, axis=0), starts, axis=1)
    sizes = np.diff(np.append(starts, len(mask)))
    found: Mask = 2 * counts >= np.maximum(sizes[:, None] * sizes[None, :], 1)
    return found if found.any() else counts > 0


def _edge(mask: Mask) -> Mask:
    """Return the pixels of a mask that have a neighbour outside; the border of the picture is no edge."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~inner)
