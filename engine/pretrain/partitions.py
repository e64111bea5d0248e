"""Ways to divide the ground: fields, land-cover mosaics, pivots. All return (S, S) cell numbers from 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from .textures import smooth_noise

Cells = NDArray[np.int32]


def _coordinates(rng: np.random.Generator, size: int, wobble: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return turned, shifted and smoothly distorted coordinates of every pixel, about -S/2 to S/2."""
    axis = np.arange(size) - size / 2
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    if wobble > 0:
        cells = float(rng.uniform(2, 8))
        rows = rows + wobble * smooth_noise(rng, size, cells)
        columns = columns + wobble * smooth_noise(rng, size, cells)
    angle = rng.uniform(0, np.pi)
    return rows * np.cos(angle) - columns * np.sin(angle), rows * np.sin(angle) + columns * np.cos(angle)


def _wobble(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, 0.0, 1.5, 4.0, 10.0]))


def voronoi(rng: np.random.Generator, size: int) -> Cells:
    """Irregular polygons, from a handful to a few hundred."""
    count = int(np.exp(rng.uniform(np.log(6), np.log(220))))
    rows, columns = _coordinates(rng, size, _wobble(rng))
    stretch = float(np.exp(rng.normal(0, 0.5)))
    places = rng.uniform(-0.8 * size, 0.8 * size, (int(count * 2.56), 2)) * (1, stretch)
    norm = 1 if rng.random() < 0.25 else 2
    _, nearest = cKDTree(places).query(np.stack([rows, columns * stretch], -1).reshape(-1, 2), p=norm)
    return np.asarray(nearest, np.int32).reshape(size, size)


def rectangles(rng: np.random.Generator, size: int) -> Cells:
    """Fields from repeated halving of one large block, long ones across."""
    rows, columns = _coordinates(rng, size, _wobble(rng))
    smallest = float(np.exp(rng.uniform(np.log(14), np.log(160))))
    slim = float(rng.choice([1.0, 1.5, 3.0, 6.0]))  # how long a field may be compared with its width
    cells = np.zeros((size, size), np.int32)
    pending = [(-0.75 * size, 0.75 * size, -0.75 * size, 0.75 * size)]
    number = 0
    while pending:
        top, bottom, left, right = pending.pop()
        high, wide = bottom - top, right - left
        upright = high * (slim if rng.random() < 0.7 else 1.0) > wide
        longest = high if upright else wide
        if longest < 2 * smallest or (longest < 4 * smallest and rng.random() < 0.25):
            inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
            cells[inside] = number
            number += 1
            continue
        cut = float(rng.uniform(0.3, 0.7))
        if upright:
            middle = top + cut * high
            pending += [(top, middle, left, right), (middle, bottom, left, right)]
        else:
            middle = left + cut * wide
            pending += [(top, bottom, left, middle), (top, bottom, middle, right)]
    return cells


def strips(rng: np.random.Generator, size: int) -> Cells:
    """Long narrow fields in blocks of differing direction."""
    blocks = rectangles(rng, size) if rng.random() < 0.5 else np.zeros((size, size), np.int32)
    result = np.zeros((size, size), np.int32)
    for block in np.unique(blocks):
        rows, columns = _coordinates(rng, size, _wobble(rng) / 2)
        widths = np.exp(rng.normal(np.log(rng.uniform(8, 50)), 0.35, 300))
        strip = np.searchsorted(np.cumsum(widths) - widths.sum() / 2, rows)
        part = np.floor(columns / rng.uniform(0.2, 1.5) / size + rng.uniform(0, 1, 302)[strip]).astype(np.int32)
        inside = blocks == block
        result[inside] = (strip * 64 + part % 64 + int(block) * 30000)[inside]
    return _renumbered(result)


def land_cover(rng: np.random.Generator, size: int) -> Cells:
    """Classes of a natural mosaic: which of several smooth noises is highest. Numbers are classes."""
    classes = int(rng.integers(2, 8))
    cells = float(np.exp(rng.uniform(np.log(2), np.log(22))))
    roughness = float(rng.choice([0.0, 0.2, 0.5]))
    planes = [
        smooth_noise(rng, size, cells)
        + roughness * smooth_noise(rng, size, cells * 3.5)
        + roughness**2 * smooth_noise(rng, size, cells * 10)
        + rng.normal(0, 0.4)
        for _ in range(classes)
    ]
    chosen = np.argmax(planes, axis=0)
    return ndimage.median_filter(chosen, size=int(rng.choice([3, 5]))).astype(np.int32)


def pixel_fields(rng: np.random.Generator, size: int) -> Cells:
    """Small coarse-pixelled fields, as ten-metre imagery has when it is enlarged."""
    factor = int(rng.choice([2, 4, 8]))
    small = -(-size // factor)
    maker = voronoi if rng.random() < 0.5 else rectangles
    cells = maker(rng, small)
    return np.repeat(np.repeat(cells, factor, axis=0), factor, axis=1)[:size, :size]


def with_pivots(rng: np.random.Generator, size: int, cells: Cells) -> Cells:
    """Put irrigation circles over a partition."""
    result = cells.copy()
    rows, columns = np.ogrid[:size, :size]
    number = int(cells.max()) + 1
    radius = float(rng.uniform(0.06, 0.25)) * size
    for _ in range(int(rng.integers(1, 9))):
        centre = rng.uniform(0, size, 2)
        circle = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= (radius * rng.uniform(0.8, 1.1)) ** 2
        if rng.random() < 0.3:  # a sector missing or grown otherwise
            start, share = rng.uniform(-np.pi, np.pi), rng.uniform(0.3, 1.6)
            angle = (np.arctan2(rows - centre[0], columns - centre[1]) - start) % (2 * np.pi)
            result[circle & (angle < share)] = number
            circle, number = circle & (angle >= share), number + 1
        result[circle] = number
        number += 1
    return result


def partition(rng: np.random.Generator, size: int) -> Cells:
    """Return one of the partitions above, drawn by chance."""
    way = rng.random()
    if way < 0.24:
        cells = voronoi(rng, size)
    elif way < 0.48:
        cells = rectangles(rng, size)
    elif way < 0.6:
        cells = strips(rng, size)
    elif way < 0.72:
        cells = pixel_fields(rng, size)
    else:
        return _renumbered(land_cover(rng, size))
    return _renumbered(with_pivots(rng, size, cells) if rng.random() < 0.15 else cells)


def _renumbered(cells: Cells) -> Cells:
    _, numbers = np.unique(cells, return_inverse=True)
    return numbers.reshape(cells.shape).astype(np.int32)
