"""A made-up city: roofs, streets and yards of the same colours, told apart by their height alone.

Grey roofs look like asphalt and red ones like sports grounds; beside them there is grass with trees as high as houses.
The image has noise, the height has its own: so neither of them suffices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CLASSES = ("street or yard", "roof", "grass", "tree")
_GREY, _RED = (118, 116, 114), (150, 92, 78)
_GRASS, _TREE = (96, 120, 70), (88, 114, 66)
_RED_YARDS, _RED_ROOFS = 0.7, 0.25
"""Streets are all grey; so about as much of what is paved is red as of what is a roof."""


@dataclass(frozen=True)
class Town:
    """A crop of the city.

    Attributes:
        image: (S, S, 3) uint8.
        height: (S, S) float32, metres above the ground, with noise.
        classes: (S, S) int64, index into ``CLASSES``.
    """

    image: NDArray[np.uint8]
    height: NDArray[np.float32]
    classes: NDArray[np.int64]


def make_town(rng: np.random.Generator, side: int = 256) -> Town:
    """Build a crop of the city.

    Args:
        rng: decides everything.
        side: of the crop, pixels.
    """
    classes = np.full((side, side), 2, np.int64)
    height = np.zeros((side, side), np.float32)
    red = np.zeros((side, side), np.bool_)
    _trees(classes, height, rng)
    _paved(classes, height, red, rng)
    _houses(classes, height, red, rng)
    colours = np.array([_GREY, _GREY, _GRASS, _TREE], np.float32)[classes]
    colours[red] = _RED
    shade = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), 12) * 120
    image = colours + shade[..., None] + rng.normal(0, 14, (side, side, 3))
    noisy = height + rng.normal(0, 0.8, (side, side)) + ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), 20) * 25
    return Town(image.clip(0, 255).astype(np.uint8), noisy.astype(np.float32), classes)


def _trees(classes: NDArray[np.int64], height: NDArray[np.float32], rng: np.random.Generator) -> None:
    rows, columns = np.ogrid[: classes.shape[0], : classes.shape[1]]
    for _ in range(int(rng.integers(10, 22))):
        row, column = rng.uniform(0, classes.shape[0], 2)
        radius = rng.uniform(6, 16)
        distance = np.sqrt((rows - row) ** 2 + (columns - column) ** 2) / radius
        crown = distance <= 1
        classes[crown] = 3
        height[crown] = np.maximum(height, rng.uniform(4, 9) * np.sqrt(np.clip(1 - distance**2, 0.05, 1)))[crown]


def _paved(
    classes: NDArray[np.int64], height: NDArray[np.float32], red: NDArray[np.bool_], rng: np.random.Generator
) -> None:
    """Lay streets across, and yards and sports grounds, which look like roofs from above."""
    side = classes.shape[0]
    ground = np.zeros(classes.shape, np.bool_)
    for axis in (0, 1):
        for _ in range(int(rng.integers(1, 3))):
            start, width = int(rng.uniform(0, side - 24)), int(rng.uniform(12, 24))
            ground[(slice(None),) * axis + (slice(start, start + width),)] = True
    for _ in range(int(rng.integers(4, 8))):
        yard = _rectangle(classes.shape, rng)
        ground |= yard
        red[yard] = rng.random() < _RED_YARDS
    classes[ground], height[ground] = 0, 0.0


def _houses(
    classes: NDArray[np.int64], height: NDArray[np.float32], red: NDArray[np.bool_], rng: np.random.Generator
) -> None:
    for _ in range(int(rng.integers(6, 11))):
        house = _rectangle(classes.shape, rng)
        classes[house] = 1
        height[house] = rng.uniform(3, 9)
        red[house] = rng.random() < _RED_ROOFS


def _rectangle(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    row, column = rng.uniform(0, shape[0], 2)
    long, short = rng.uniform(14, 34), rng.uniform(9, 20)
    angle = rng.uniform(0, np.pi)
    along = (rows - row) * np.cos(angle) + (columns - column) * np.sin(angle)
    across = -(rows - row) * np.sin(angle) + (columns - column) * np.cos(angle)
    return np.asarray((np.abs(along) <= long) & (np.abs(across) <= short))
