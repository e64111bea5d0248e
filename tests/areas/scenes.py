"""Made-up ground whose pixels say what is there, and stand-ins for heads that read it off the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from samtune.engine.areas.looking import Candidate, Check
from samtune.engine.areas.reading import CropReader
from samtune.engine.messages import RasterSpec
from samtune.engine.raster_source import RasterSource
from samtune.engine.tuning.reading import CropInputs
from scipy import ndimage

from ..engine.rasters import NORTH_UP, write

CELL = 4
AS_IS = ((0.0, 255.0),) * 3


def scene(size: tuple[int, int], boxes: Sequence[tuple[int, int, int, int]], kinds: int = 2) -> NDArray[np.uint8]:
    """Return (3, H, W): red is the object's number from 1, green its class; ellipses and angles by turns.

    What would come closer than 5 pixels to an earlier object is left out.
    """
    picture = np.zeros((3, *size), np.uint8)
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    number = 0
    for x, y, width, height in boxes:
        inside = (columns > x) & (columns < x + width) & (rows > y) & (rows < y + height)
        if number % 2:
            inside &= ((columns - x - width / 2) / (width / 2)) ** 2 + ((rows - y - height / 2) / (height / 2)) ** 2 < 1
        elif min(width, height) > 60:
            inside &= (columns < x + 30) | (rows < y + 30)
        near = ndimage.binary_dilation(inside, iterations=5)
        if (picture[0][near] > 0).any() or inside.sum() < 120:
            continue
        number += 1
        picture[0][inside] = number
        picture[1][inside] = number % kinds
    return picture


def written(path: Path, picture: NDArray[np.uint8], transform: Affine = NORTH_UP, **options: object) -> CropReader:
    """Write a scene and open it as it is."""
    return opened(write(path, picture, transform=transform, **options))


def opened(path: Path) -> CropReader:
    """Open a scene as it is."""
    return CropReader(RasterSource(RasterSpec(str(path), (1, 2, 3), AS_IS)))


class TruthLook:
    """Reads objects off the picture, each connected part of a crop by itself, on the grid of a real head's masks.

    Attributes:
        sizes: of the batches that came.
    """

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        self.sizes: list[int] = []

    def look(self, crops: Sequence[CropInputs], check: Check) -> list[list[Candidate]]:
        check()
        self.sizes.append(len(crops))
        return [self._one(crop) for crop in crops]

    def _one(self, crop: CropInputs) -> list[Candidate]:
        numbers = crop.image[CELL // 2 :: CELL, CELL // 2 :: CELL]
        found = []
        for number in np.unique(numbers[..., 0])[1:]:
            parts, count = ndimage.label(numbers[..., 0] == number)
            for part in range(1, count + 1):
                mask = parts == part
                rows, columns = np.nonzero(mask)
                box = (columns.min() * 4, rows.min() * 4, (columns.max() + 1) * 4, (rows.max() + 1) * 4)
                logits = np.where(mask, 4.0, -4.0).astype(np.float32)
                label = int(numbers[mask][0, 1])
                found.append(Candidate(logits, tuple(map(float, box)), label, 0.5 + number / 512))
        return sorted(found, key=lambda item: -item.score)
