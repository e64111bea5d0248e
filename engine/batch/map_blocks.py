"""What a tile answered for a class map, as the job file holds it: chances in steps of 1/255, compressed.

The maps are blended from these in the end, by the same code and in the same order as from the model directly, so
that they have no seams between units and are the same however often the job was interrupted.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..areas.looking import Check
from ..areas.tiles import Tile
from ..crops import Crop
from ..tuning.reading import CropInputs
from .items import JobRaster, MapBlock
from .job_file import JobFile

_STEPS = 255


@dataclass(frozen=True)
class AnsweredCrop(CropInputs):
    """A crop that was looked at before.

    Attributes:
        chances: (K, n, n) float32, 0 to 1, that the model answered.
    """

    chances: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))


def packed(tile: Tile, inputs: CropInputs, chances: NDArray[np.float32]) -> MapBlock:
    """Make of an answer what the job file holds of it.

    Args:
        tile: that was looked at.
        inputs: of it.
        chances: (K, n, n), 0 to 1.
    """
    steps = np.rint(chances.clip(0, 1) * _STEPS).astype(np.uint8)
    valid = b"" if inputs.valid.all() else np.packbits(inputs.valid).tobytes()
    shape = (steps.shape[0], steps.shape[1], len(inputs.valid))
    return MapBlock(tile.crop.row, tile.crop.col, shape, zlib.compress(steps.tobytes() + valid, 1))


def unpacked(block: MapBlock) -> AnsweredCrop:
    """Make an answer of what the job file holds."""
    classes, side, size = block.shape
    data = zlib.decompress(block.data)
    count = classes * side * side
    steps = np.frombuffer(data, np.uint8, count).reshape(classes, side, side)
    valid = np.ones((size, size), bool)
    if len(data) > count:
        bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=count), count=size * size)
        valid = bits.reshape(size, size).astype(bool)
    nothing = np.zeros((0, 0, 3), np.uint8)
    return AnsweredCrop(nothing, valid, chances=steps.astype(np.float32) / np.float32(_STEPS))


class StoredTiles:
    """Gives what the job file holds of one raster's tiles, in place of the raster."""

    def __init__(self, job: JobFile, raster: JobRaster) -> None:
        """Point at a raster's tiles.

        Args:
            job: with all units of the raster done.
            raster: of the job.
        """
        self._job, self._raster = job, raster.number
        self.crs_wkt = raster.info.crs_wkt if raster.info else ""

    def read(self, crop: Crop, check: Callable[[], None]) -> AnsweredCrop | None:
        """Return what was answered of a tile; None where it has no data, or was not looked at."""
        check()
        rows = self._job.stream(
            "SELECT block.row, block.col, classes, side, size, data FROM block JOIN unit ON unit.number = block.unit"
            " WHERE block.row = ? AND block.col = ? AND unit.raster = ?",
            crop.row,
            crop.col,
            self._raster,
        )
        for row, col, classes, side, size, data in rows:
            shape = (int(str(classes)), int(str(side)), int(str(size)))
            return unpacked(MapBlock(int(str(row)), int(str(col)), shape, data if isinstance(data, bytes) else b""))
        return None


class StoredLook:
    """Answers what was answered before."""

    batch = 1

    def __init__(self, classes: int) -> None:
        """Take the number of classes."""
        self.classes = classes

    def look(self, crops: Sequence[CropInputs], check: Check) -> list[NDArray[np.float32]]:
        """Return the chances that crops of :class:`StoredTiles` bring."""
        check()
        return [crop.chances for crop in crops if isinstance(crop, AnsweredCrop)]
