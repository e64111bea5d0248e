"""What models are compared with: classical segmentations under the same prompts. Needs the packages for training."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import segmentation

from ..crops import Crop, RasterFrame
from ..progress import never_stops
from ..prompting import PromptList
from ..raster_source import RasterSource
from .clicks import Mask

_KEPT = 32


class _Classical:
    """Shared by the baselines: the picture of a crop, at most 512 input pixels a side."""

    size = 512

    def __init__(self, source: RasterSource) -> None:
        self._source = source
        self._pictures: OrderedDict[Crop, NDArray[np.uint8]] = OrderedDict()

    @property
    def frame(self) -> RasterFrame:
        """The raster's size and georeference."""
        return self._source.frame

    def _picture(self, crop: Crop) -> NDArray[np.uint8]:
        if crop not in self._pictures:
            self._pictures[crop] = self._source.picture(self._source.read(crop, never_stops))
            while len(self._pictures) > _KEPT:
                self._pictures.popitem(last=False)
        return self._pictures[crop]


class FelzenszwalbAnswerer(_Classical):
    """The segments under the positive clicks, less those under negative ones; for a box, those mostly within it."""

    def __init__(self, source: RasterSource, scale: float = 1000.0) -> None:
        """Take an open raster and felzenszwalb's scale (chosen on training data)."""
        super().__init__(source)
        self._scale = scale
        self._segments: dict[Crop, NDArray[np.int64]] = {}

    def answer(self, crop: Crop, prompts: PromptList) -> tuple[Mask, float]:
        """Return a union of segments."""
        if crop not in self._segments:
            self._segments = {
                crop: segmentation.felzenszwalb(self._picture(crop), scale=self._scale, sigma=0.8, min_size=100)
            }
        segments = self._segments[crop]
        mask = np.zeros(segments.shape, np.bool_)
        if prompts.box is not None:
            x0, y0, x1, y1 = (round(side) for side in prompts.box)
            inside = np.bincount(segments[y0:y1, x0:x1].ravel(), minlength=int(segments.max()) + 1)
            mask = (inside > 0.5 * np.bincount(segments.ravel()))[segments]
        for x, y, positive in prompts.points:
            row, column = (min(max(int(place), 0), self.size - 1) for place in (y, x))
            mask[segments == segments[row, column]] = positive
        return _nearest(mask, crop.side), float("nan")


class RandomWalkerAnswerer(_Classical):
    """scikit-image's random walker from the clicks; the crop's border (or what is outside the box) is background."""

    def __init__(self, source: RasterSource, beta: float = 1000.0, side: int = 128) -> None:
        """Take an open raster, the walker's beta, and the side its picture is reduced to (it is slow)."""
        super().__init__(source)
        self._beta, self._side = beta, side

    def answer(self, crop: Crop, prompts: PromptList) -> tuple[Mask, float]:
        """Return where the walker from the object's seeds arrives first."""
        factor = self.size // self._side
        picture = self._picture(crop).reshape(self._side, factor, self._side, factor, 3).mean(axis=(1, 3)) / 255.0
        seeds = np.zeros((self._side, self._side), np.int64)
        if prompts.box is not None:
            x0, y0, x1, y1 = (round(side / factor) for side in prompts.box)
            seeds[:] = 2
            seeds[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = 0
            middle = (y0 + y1) // 2, (x0 + x1) // 2
            seeds[min(middle[0], self._side - 1), min(middle[1], self._side - 1)] = 1
        else:
            seeds[[0, -1]] = seeds[:, [0, -1]] = 2
        for x, y, positive in prompts.points:
            row, column = (min(max(int(place / factor), 0), self._side - 1) for place in (y, x))
            seeds[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = 1 if positive else 2
        found = segmentation.random_walker(picture, seeds, beta=self._beta, mode="cg_j", channel_axis=2) == 1
        return _nearest(np.asarray(found), crop.side), float("nan")


def _nearest(mask: Mask, side: int) -> Mask:
    """Resize a square mask to (side, side) raster pixels; areas where that is finer, samples where it is coarser."""
    if side >= mask.shape[0]:
        index = ((np.arange(side) + 0.5) * mask.shape[0] / side).astype(int)
        return np.asarray(mask[np.ix_(index, index)])
    share = ndimage.uniform_filter(mask.astype(np.float32), mask.shape[0] // side)
    index = ((np.arange(side) + 0.5) * mask.shape[0] / side).astype(int)
    return np.asarray(share[np.ix_(index, index)] > 0.5)
