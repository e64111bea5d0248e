"""Which part of a raster the model sees, and where its pixels lie: levels, crops on a ground grid, transforms. Pure.

Three coordinate systems, all continuous, with the origin at a corner (never at a pixel's centre):

* *map*: x, y in the raster layer's CRS, y usually up;
* *pixel*: column, row of the raster at full resolution, row down;
* *input*: x, y of the square image that the model sees, y down.

:class:`RasterFrame` owns map <-> pixel, :class:`CropFrame` owns map <-> input; nothing else in the engine does this
arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..models.errors import RasterError

MIN_LEVEL = -2
"""Finest level: one raster pixel is then four input pixels wide. Finer ones would show the model nothing but blur."""

REFERENCE_SIZE = 512
"""Input size for which a raster's levels are announced before a model is chosen (the smallest in the registry)."""

CLICK_SHARE = 0.4
"""Of the side of a crop, at most, that an object takes that is clicked."""

HOLD_MARGIN = 1 / 32
"""Share of a crop's side that prompts keep from its border, so that the model sees a little of what lies around
them."""

Points = NDArray[np.float64]
"""(n, 2) float64: x, y or column, row."""


@dataclass(frozen=True)
class RasterFrame:
    """Size and georeference of a raster.

    Attributes:
        width: columns.
        height: rows.
        transform: GDAL order (x0, dx/dcol, dx/drow, y0, dy/dcol, dy/drow), pixel to map; may be rotated or south-up.
    """

    width: int
    height: int
    transform: tuple[float, float, float, float, float, float]

    def __post_init__(self) -> None:
        """Refuse what cannot be inverted.

        Raises:
            RasterError: the raster is empty or its transform maps it to a line.
        """
        if self.width < 1 or self.height < 1:
            raise RasterError("The raster has no pixels. Choose another layer.")
        if not all(math.isfinite(value) for value in self.transform) or self._determinant == 0.0:
            raise RasterError(
                "The raster's georeference is broken. Assign it again (Raster > Georeferencer), then reload the layer.",
                f"geotransform {self.transform}",
            )

    @property
    def _determinant(self) -> float:
        _, a, b, _, d, e = self.transform
        return a * e - b * d

    @property
    def pixel_size(self) -> float:
        """Side of the square of a pixel's area, in units of the map."""
        return math.sqrt(abs(self._determinant))

    def to_map(self, pixels: Points) -> Points:
        """Transform pixel coordinates.

        Args:
            pixels: (n, 2) column, row; (0, 0) is the raster's first corner.

        Returns:
            (n, 2) x, y in the raster's CRS.
        """
        x0, a, b, y0, d, e = self.transform
        col, row = pixels[:, 0], pixels[:, 1]
        return np.stack([x0 + a * col + b * row, y0 + d * col + e * row], axis=1)

    def to_pixel(self, points: Points) -> Points:
        """Transform map coordinates; the inverse of :meth:`to_map`.

        Args:
            points: (n, 2) x, y in the raster's CRS.

        Returns:
            (n, 2) column, row.
        """
        x0, a, b, y0, d, e = self.transform
        x, y = points[:, 0] - x0, points[:, 1] - y0
        return np.stack([(e * x - b * y), (a * y - d * x)], axis=1) / self._determinant

    def contains(self, pixels: Points) -> NDArray[np.bool_]:
        """Tell which points lie on the raster, its border included.

        Args:
            pixels: (n, 2) column, row.

        Returns:
            (n,) bool.
        """
        return np.asarray(((pixels >= 0.0) & (pixels <= [self.width, self.height])).all(axis=1))


@dataclass(frozen=True)
class Crop:
    """A square window of a raster, of which the model sees ``size`` x ``size`` pixels.

    Attributes:
        level: one input pixel is ``2 ** level`` raster pixels wide.
        size: side of the model's input, input pixels.
        col: first column, raster pixels.
        row: first row, raster pixels.
    """

    level: int
    size: int
    col: int
    row: int

    @property
    def scale(self) -> float:
        """Raster pixels per input pixel."""
        return 2.0**self.level

    @property
    def side(self) -> int:
        """Side in raster pixels."""
        return round(self.size * self.scale)


@dataclass(frozen=True)
class CropFrame:
    """A crop of a raster: owns map <-> input in both directions."""

    raster: RasterFrame
    crop: Crop

    def to_input(self, points: Points) -> Points:
        """Transform map coordinates.

        Args:
            points: (n, 2) x, y in the raster's CRS.

        Returns:
            (n, 2) x, y in input pixels; (0, 0) is the corner of the first input pixel.
        """
        return (self.raster.to_pixel(points) - [self.crop.col, self.crop.row]) / self.crop.scale

    def to_map(self, points: Points) -> Points:
        """Transform input coordinates; the inverse of :meth:`to_input`.

        Args:
            points: (n, 2) x, y in input pixels.

        Returns:
            (n, 2) x, y in the raster's CRS.
        """
        return self.raster.to_map(points * self.crop.scale + [self.crop.col, self.crop.row])

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """The crop's four corners in the raster's CRS, in the order of a ring, parts beyond the raster included."""
        size = float(self.crop.size)
        ring = self.to_map(np.array([[0.0, 0.0], [size, 0.0], [size, size], [0.0, size]]))
        return tuple((float(x), float(y)) for x, y in ring)

    @property
    def covered(self) -> tuple[float, float]:
        """Width and height of the part of the crop that lies on the raster, in input pixels from its first corner."""
        crop = self.crop
        return (
            min(float(crop.size), (self.raster.width - crop.col) / crop.scale),
            min(float(crop.size), (self.raster.height - crop.row) / crop.scale),
        )

    @property
    def open_sides(self) -> tuple[bool, bool, bool, bool]:
        """Whether the raster goes on beyond the crop: left, top, right, bottom (in input coordinates)."""
        crop = self.crop
        return (
            crop.col > 0,
            crop.row > 0,
            crop.col + crop.side < self.raster.width,
            crop.row + crop.side < self.raster.height,
        )

    def holds(self, pixels: Points) -> bool:
        """Tell whether all points lie in the crop, with a margin on the sides where the raster goes on.

        Args:
            pixels: (n, 2) column, row of the raster.

        Returns:
            True when the crop serves prompts at these points.
        """
        left, top, right, bottom = (HOLD_MARGIN * self.crop.side * side for side in self.open_sides)
        low = np.array([self.crop.col + left, self.crop.row + top])
        high = np.array([self.crop.col + self.crop.side - right, self.crop.row + self.crop.side - bottom])
        return bool(((pixels >= low) & (pixels <= high)).all())


def max_level(raster: RasterFrame, size: int = REFERENCE_SIZE) -> int:
    """Return the coarsest useful level: the first at which one crop covers the raster.

    Args:
        raster: the raster.
        size: side of the model's input, pixels.

    Returns:
        At least :data:`MIN_LEVEL`.
    """
    level = MIN_LEVEL
    while size * 2.0**level < max(raster.width, raster.height):
        level += 1
    return level


def clamp_level(raster: RasterFrame, size: int, level: int) -> int:
    """Bring a level into the raster's range.

    Args:
        raster: the raster.
        size: side of the model's input, pixels.
        level: as asked for.

    Returns:
        The nearest level from :data:`MIN_LEVEL` to :func:`max_level`.
    """
    return min(max(level, MIN_LEVEL), max_level(raster, size))


def level_for_object(raster: RasterFrame, size: int, extent: float, share: float = CLICK_SHARE) -> int:
    """Choose the finest level at which an object takes no more than a share of the crop's side.

    Args:
        raster: the raster.
        size: side of the model's input, pixels.
        extent: longer side of the object, raster CRS units.
        share: of the crop's side.

    Returns:
        A level in the raster's range.
    """
    pixels = max(extent / raster.pixel_size, 1e-9)
    return clamp_level(raster, size, math.ceil(math.log2(pixels / (share * size))))


def crop_at(raster: RasterFrame, size: int, level: int, pixel: tuple[float, float]) -> Crop:
    """Return the crop that serves a place.

    Crops start at multiples of half their side, counted from the raster's first corner, so that nearby places share
    one. The place lies in the crop's central half, except near the raster's edges, where the last crop is moved back
    until it ends (to less than one input pixel) with the raster.

    Args:
        raster: the raster.
        size: side of the model's input, pixels; a multiple of 8.
        level: clamped to the raster's range.
        pixel: column, row; on the raster.

    Returns:
        The crop; it starts at a multiple of an input pixel.

    Raises:
        ValueError: the size is no multiple of 8.
    """
    if size % 2 ** (1 - MIN_LEVEL):
        raise ValueError(f"a model's input size must be a multiple of 8, not {size}")
    level = clamp_level(raster, size, level)
    side = round(size * 2.0**level)
    grain = max(1, round(2.0**level))
    return Crop(
        level,
        size,
        _origin(pixel[0], raster.width, side, grain),
        _origin(pixel[1], raster.height, side, grain),
    )


def _origin(position: float, extent: int, side: int, grain: int) -> int:
    if extent <= side:
        return 0
    step = side // 2
    last = -(-(extent - side) // grain) * grain
    return min(max(math.floor(position / step - 0.5) * step, 0), last)


def crop_holding(raster: RasterFrame, size: int, level: int, anchor: tuple[float, float], pixels: Points) -> Crop:
    """Return the crop for all prompts of one object.

    The first prompt decides. Only where its crop does not hold all prompts, the crop around their middle is taken,
    at the finest level from the asked-for one that holds them.

    Args:
        raster: the raster.
        size: side of the model's input, pixels.
        level: clamped to the raster's range.
        anchor: column, row of the first prompt (of a box: its centre).
        pixels: (n, 2) column, row of every prompt and box corner; on the raster.

    Returns:
        A crop that holds all prompts.
    """
    first = crop_at(raster, size, level, anchor)
    if CropFrame(raster, first).holds(pixels):
        return first
    middle = (pixels.min(axis=0) + pixels.max(axis=0)) / 2.0
    for coarser in range(first.level, max_level(raster, size) + 1):
        crop = crop_at(raster, size, coarser, (float(middle[0]), float(middle[1])))
        if CropFrame(raster, crop).holds(pixels):
            return crop
    return crop_at(raster, size, max_level(raster, size), anchor)
