"""A class map of an area with an adapter's semantic head: strips of crops, blended, written block by block.

Neighbouring crops' answers are mixed by weights that fall towards their borders, so the map has no seams. Memory is
that of a strip a few crops high and at most :data:`PANEL` pixels wide, however large the raster is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import geometry_mask
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from ..crops import RasterFrame
from ..progress import Progress
from ..tuning.reading import CropInputs
from .blending import Strip
from .looking import MapLook
from .map_file import BLOCK, NODATA, MapFile, MapGrid
from .reading import TileReader
from .tiles import Tile, TilePlan

PANEL = 32 * BLOCK
"""Widest strip, pixels of the map. Crops on the border of two strips are looked at for both."""

ALIGN = 4
"""Input pixels per cell of an answer: crops begin on a common grid of cells."""

MAPPED = 0.95
"""Fraction of the work that is done when all blocks are written; the rest is making them cloud-optimised."""


@dataclass(frozen=True)
class Mapped:
    """What was mapped.

    Attributes:
        pixels: (K,) how many pixels of the map each class has.
        crops: that were looked at.
        skipped: that have no data.
    """

    pixels: NDArray[np.int64]
    crops: int
    skipped: int


def map_grid(frame: RasterFrame, level: int, crs_wkt: str) -> MapGrid:
    """Return the grid of a map: the raster's pixels, or the level's where those are coarser.

    Args:
        frame: of the raster.
        level: of the crops.
        crs_wkt: of the raster.
    """
    unit = 2 ** max(level, 0)
    x0, a, b, y0, d, e = frame.transform
    transform = (x0, a * unit, b * unit, y0, d * unit, e * unit)
    return MapGrid(-(-frame.width // unit), -(-frame.height // unit), transform, crs_wkt)


class Mapper:
    """Maps the crops of a plan."""

    def __init__(self, plan: TilePlan, reader: TileReader, look: MapLook, progress: Progress) -> None:
        """Join the parts.

        Args:
            plan: which crops; aligned to :data:`ALIGN`.
            reader: of the raster.
            look: the model.
            progress: hears of the crops; may cancel between and within them.
        """
        self._plan, self._reader, self._look, self._progress = plan, reader, look, progress
        self._unit = 2 ** max(plan.level, 0)
        self._cell = ALIGN * 2 ** min(plan.level, 0)  # pixels of the map
        self._side = round(plan.size * 2 ** min(plan.level, 0))
        self._pixels = np.zeros(look.classes, np.int64)
        self.grid = map_grid(plan.frame, plan.level, reader.crs_wkt)
        self.crops = self.skipped = 0

    def map(self, area: BaseGeometry | None, output: MapFile, confidence: MapFile | None) -> Mapped:
        """Map an area.

        Args:
            area: polygon in the raster's CRS, beyond which the map has no data; None for the whole raster.
            output: classes go here, and
            confidence: how sure they are, 0 to 100 %; None for nowhere.

        Raises:
            RasterError: the raster cannot be read.
            OutputError: the map cannot be written.
            CancelledByUser: from ``progress.check``.
        """
        cell = round(self._cell)
        panels = range(0, self.grid.width, PANEL)
        for number, low in enumerate(panels):
            high = min(low + PANEL, self.grid.width)
            columns = (max(0, low // cell - 1), min(-(-self.grid.width // cell), -(-high // cell) + 1))
            rows = -(-(self._side + BLOCK) // cell) + 4
            strip = Strip(self._look.classes, columns, rows, cell)
            done = 0
            for share, ready in self._rows(strip, (low, high), (number, len(panels))):
                self._report(number, len(panels), share)
                while done < self.grid.height and (ready >= self.grid.height or done + BLOCK + cell <= ready):
                    bottom = min(done + BLOCK, self.grid.height)
                    self._write(strip, (low, high), (done, bottom), area, output, confidence)
                    done = bottom
                    strip.advance(max(0, done // cell - 1))
        return Mapped(self._pixels, self.crops, self.skipped)

    def _rows(self, strip: Strip, ground: tuple[int, int], turn: tuple[int, int]) -> Iterator[tuple[float, int]]:
        """Add row after row of crops to a strip; yield the share that is done, and the map's rows that are ready."""
        plan, scale = self._plan, 2.0**self._plan.level
        low, high = (edge * ALIGN * scale for edge in (strip.left, strip.right))
        for row in range(len(plan.rows)):
            batch: list[tuple[Tile, CropInputs]] = []
            for tile in plan.row(row, low, high):
                self._progress.check()
                # A crop on the border of two strips counts once.
                counts = ground[0] <= tile.core[0] / self._unit < ground[1]
                inputs = self._reader.read(tile.crop, self._progress.check)
                self.crops += counts and inputs is not None
                self.skipped += counts and inputs is None
                if inputs is not None:
                    batch.append((tile, inputs))
                if len(batch) >= self._look.batch:
                    self._add(strip, batch)
                    batch = []
                    within = (tile.core[0] / self._unit - ground[0]) / (ground[1] - ground[0])
                    self._report(*turn, (row + min(max(within, 0.0), 1.0)) / len(plan.rows))
            self._add(strip, batch)
            following = row + 1
            final = following == len(plan.rows)
            ready = self.grid.height if final else math.floor(plan.rows.origin(following) / self._unit)
            yield following / len(plan.rows), ready

    def _add(self, strip: Strip, batch: Sequence[tuple[Tile, CropInputs]]) -> None:
        if not batch:
            return
        answers = self._look.look([inputs for _, inputs in batch], self._progress.check)
        grain = ALIGN * 2.0**self._plan.level
        for (tile, inputs), answer in zip(batch, answers, strict=True):
            column, row = round(tile.crop.col / grain), round(tile.crop.row / grain)
            strip.add(answer, _on_grid(inputs.valid, self._side), column, row)

    def _write(
        self,
        strip: Strip,
        columns: tuple[int, int],
        rows: tuple[int, int],
        area: BaseGeometry | None,
        output: MapFile,
        confidence: MapFile | None,
    ) -> None:
        for left in range(*columns, BLOCK):
            self._progress.check()
            right = min(left + BLOCK, columns[1])
            known = strip.known((left, right), rows)
            if area is not None and known.any():
                known = known & self._inside(area, (left, right), rows)
            if not known.any():
                continue
            chances = strip.block((left, right), rows)
            classes = chances.argmax(axis=0).astype(np.uint8)
            self._pixels += np.bincount(classes[known], minlength=len(self._pixels))
            output.write(np.where(known, classes, NODATA).astype(np.uint8), left, rows[0])
            if confidence is not None:
                percent = np.rint(chances.max(axis=0).clip(0, 1) * 100)
                confidence.write(np.where(known, percent, NODATA).astype(np.uint8), left, rows[0])

    def _inside(self, area: BaseGeometry, columns: tuple[int, int], rows: tuple[int, int]) -> NDArray[np.bool_]:
        shape = (rows[1] - rows[0], columns[1] - columns[0])
        place = Affine.from_gdal(*self.grid.transform) @ Affine.translation(columns[0], rows[0])
        corners = [place @ corner for corner in ((0, 0), (shape[1], 0), (shape[1], shape[0]), (0, shape[0]))]
        here = shapely.intersection(area, shapely.Polygon(corners).buffer(abs(self._unit)))
        if here.area <= 0:
            return np.zeros(shape, bool)
        return np.asarray(geometry_mask([here], shape, place, invert=True), np.bool_)

    def _report(self, panel: int, panels: int, share: float) -> None:
        self._progress.report(MAPPED * (panel + share) / panels, "Mapping the area")


def _on_grid(valid: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Bring validity from the model's input to pixels of the map: one with any data counts."""
    if len(valid) == side:
        return valid
    share = len(valid) // side
    return np.asarray(valid.reshape(side, share, side, share).any(axis=(1, 3)))
