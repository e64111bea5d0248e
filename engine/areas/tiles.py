"""The crops that cover an area, each with the part of the ground that it owns. Pure, and the same wherever it runs.

Crops overlap. Each has a *core*; cores tile the raster without gaps and without overlaps, and the border between two
of them lies half-way between the crops' middles. So an object belongs to the crop whose core holds the middle of its
bounding box: if any crop shows the object whole, that one does. Everything is computed when it is asked for; a plan of
millions of crops takes no more memory than one of ten.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ...models.errors import PromptError
from ..crops import Crop, RasterFrame, clamp_level

_HAIR = 1e-3
"""Raster pixels that a core must reach into an area: touching it is not enough."""


@dataclass(frozen=True)
class Tile:
    """A crop, and what it owns.

    Attributes:
        number: counts the crops of the whole raster row by row, whatever the area.
        crop: what the model sees.
        core: first column, first row, end column, end row, raster pixels; the ends belong to the next core.
    """

    number: int
    crop: Crop
    core: tuple[int, int, int, int]


@dataclass(frozen=True)
class Axis:
    """One direction of a plan, in raster pixels.

    Attributes:
        extent: of the raster.
        side: of a crop.
        step: from one crop to the next.
        unit: crops and cores begin at multiples of it.
    """

    extent: int
    side: int
    step: int
    unit: int

    @property
    def last(self) -> int:
        """Where the last crop begins: it ends with the raster, to less than one unit."""
        return max(0, -(-(self.extent - self.side) // self.unit) * self.unit)

    def __len__(self) -> int:
        """Return the number of crops."""
        return -(-self.last // self.step) + 1

    def origin(self, index: int) -> int:
        """Return where a crop begins."""
        return min(index * self.step, self.last)

    def border(self, index: int) -> int:
        """Return where the core of a crop begins, and that of the one before ends."""
        if index <= 0:
            return 0
        if index >= len(self):
            return self.extent
        middle = (self.origin(index - 1) + self.side + self.origin(index)) // 2
        return middle // self.unit * self.unit

    def reaching(self, low: float, high: float) -> range:
        """Return the crops that show any part of ``low`` to ``high``."""
        first = max(0, math.floor((low - self.side) / self.step) + 1)
        if self.last + self.side > low:  # the last one is moved back, and may begin before its turn
            first = min(first, len(self) - 1)
        end = min(len(self), max(0, math.ceil(high / self.step)))
        if self.last < high:
            end = len(self)
        return range(first, max(first, end))


class TilePlan:
    """The crops of one level that cover a raster, or an area of it, row by row.

    Attributes:
        frame: of the raster.
        size: side of the model's input, pixels.
        level: of all crops.
        columns: the plan from left to right, and
        rows: from top to bottom.
    """

    def __init__(
        self,
        frame: RasterFrame,
        size: int,
        level: int,
        overlap: int | None = None,
        area: BaseGeometry | None = None,
        align: int = 1,
    ) -> None:
        """Lay a grid over the raster.

        Args:
            frame: size and georeference.
            size: side of the model's input, pixels; a multiple of 8.
            level: clamped to the raster's range.
            overlap: of neighbouring crops, input pixels, below ``size``; None for half a crop. Then the crops are those
                that clicks are answered on (:func:`..crops.crop_at`).
            area: polygon in the raster's CRS; crops whose core lies beyond it are left out. None for all.
            align: crops begin at multiples of so many input pixels.

        Raises:
            PromptError: the area is empty, or beyond the raster.
        """
        self.frame, self.size, self.level = frame, size, clamp_level(frame, size, level)
        scale = 2.0**self.level
        unit = max(1, round(align * scale))
        side = round(size * scale)
        wanted = (size // 2 if overlap is None else size - overlap) * scale
        step = max(unit, math.floor(wanted / unit) * unit)
        self.columns = Axis(frame.width, side, step, unit)
        self.rows = Axis(frame.height, side, step, unit)
        self._area = None if area is None else _on_raster(frame, area)
        if self._area is not None:
            shapely.prepare(self._area)

    @cached_property
    def count(self) -> int:
        """How many crops there are."""
        if self._area is None:
            return len(self.columns) * len(self.rows)
        return sum(int(self._wanted(row).sum()) for row in self._row_range())

    def __iter__(self) -> Iterator[Tile]:
        """Yield the crops, row by row."""
        for row in self._row_range():
            yield from self.row(row)

    def row(self, row: int, low: float = 0.0, high: float = math.inf) -> Iterator[Tile]:
        """Yield the crops of one row.

        Args:
            row: its number.
            low: first raster column that they must reach, and
            high: the end of those.
        """
        reached = self.columns.reaching(low, min(high, self.frame.width))
        wanted = self._wanted(row, reached)
        for column in np.flatnonzero(wanted).tolist():
            yield self.tile(row, reached.start + column)

    def tile(self, row: int, column: int) -> Tile:
        """Return one crop by its place in the grid."""
        crop = Crop(self.level, self.size, self.columns.origin(column), self.rows.origin(row))
        core = (
            self.columns.border(column),
            self.rows.border(row),
            self.columns.border(column + 1),
            self.rows.border(row + 1),
        )
        return Tile(row * len(self.columns) + column, crop, core)

    def _row_range(self) -> range:
        if self._area is None:
            return range(len(self.rows))
        _, top, _, bottom = self._area.bounds
        return self.rows.reaching(top, bottom)

    def _wanted(self, row: int, columns: range | None = None) -> NDArray[np.bool_]:
        """Tell which crops of a row have a core in the area."""
        reached = range(len(self.columns)) if columns is None else columns
        if self._area is None:
            return np.ones(len(reached), bool)
        borders = np.array([self.columns.border(index) for index in range(reached.start, reached.stop + 1)], float)
        top, bottom = self.rows.border(row) + _HAIR, self.rows.border(row + 1) - _HAIR
        cores = shapely.box(borders[:-1] + _HAIR, top, borders[1:] - _HAIR, bottom)
        return np.asarray(shapely.intersects(self._area, cores), np.bool_)


def _on_raster(frame: RasterFrame, area: BaseGeometry) -> BaseGeometry:
    """Bring an area to raster pixels and cut it to the raster."""
    sound = area if shapely.is_valid(area) else shapely.make_valid(area)
    pixels = shapely.transform(sound, frame.to_pixel)
    if not np.isfinite(shapely.get_coordinates(pixels)).all():
        pixels = shapely.Polygon()
    inside = shapely.intersection(pixels, shapely.box(0.0, 0.0, frame.width, frame.height))
    if inside.area <= 0.0:
        raise PromptError("The area lies outside the raster, or is empty. Choose one on the layer.")
    return inside
