"""Labelled objects on rasters, in pixels: which there are, at which level each is seen, and what ground is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from ..crops import CLICK_SHARE, Crop, RasterFrame, clamp_level, level_for_object

ZONE_SHARE = 0.5
"""Without an extent, what lies in an object's bounding box, grown on each side by this share of it, is known."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class GroundObject:
    """A labelled object.

    Attributes:
        raster: index of the raster that it lies on.
        label: its class.
        geometry: a Polygon in that raster's pixels: column, row, from the first pixel's outer corner.
        row: number of its feature in the label file, from 1.
        part: number of the polygon in its feature, from 0.
    """

    raster: int
    label: str
    geometry: BaseGeometry
    row: int
    part: int = 0

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """First column, first row, last column, last row."""
        return tuple(float(value) for value in self.geometry.bounds)  # type: ignore[return-value]

    @cached_property
    def anchor(self) -> tuple[float, float]:
        """Column, row of a point well inside: where its crop is laid around."""
        point = shapely.centroid(self.geometry)
        if not self.geometry.contains(point):
            point = shapely.point_on_surface(self.geometry)
        return float(point.x), float(point.y)

    @property
    def extent(self) -> float:
        """Longer side of the bounding box, raster pixels."""
        left, top, right, bottom = self.bounds
        return max(right - left, bottom - top)

    @cached_property
    def zone(self) -> BaseGeometry:
        """The surroundings that are known when there is no extent."""
        left, top, right, bottom = self.bounds
        wide, high = ZONE_SHARE * (right - left), ZONE_SHARE * (bottom - top)
        return shapely.box(left - wide, top - high, right + wide, bottom + high)

    def level(self, frame: RasterFrame, size: int, fixed: int | None, share: float = CLICK_SHARE) -> int:
        """Return the finest level at which it takes no more than a share of the crop's side.

        Args:
            frame: of its raster.
            size: side of the model's input.
            fixed: a level that was asked for, or None.
            share: by default that at which the plugin shows an object that is clicked.
        """
        if fixed is not None:
            return clamp_level(frame, size, fixed)
        return level_for_object(frame, size, self.extent * frame.pixel_size, share)

    def share_in(self, crop: Crop) -> float:
        """Return which share of it lies in a crop."""
        window = shapely.box(crop.col, crop.row, crop.col + crop.side, crop.row + crop.side)
        if not self.geometry.intersects(window):
            return 0.0
        return float(self.geometry.intersection(window).area / self.geometry.area)


def to_pixels(geometry: BaseGeometry, frame: RasterFrame) -> BaseGeometry:
    """Bring a geometry from the raster's CRS to its pixels."""
    moved: BaseGeometry = shapely.transform(geometry, frame.to_pixel)
    return moved


def on_raster(geometry: BaseGeometry, frame: RasterFrame) -> BaseGeometry:
    """Cut a geometry, in pixels, to the raster."""
    window = shapely.box(0, 0, frame.width, frame.height)
    if shapely.contains_properly(window, geometry):
        return geometry
    cut: BaseGeometry = shapely.intersection(geometry, window)
    return cut


def burn(geometries: Sequence[BaseGeometry], crop: Crop) -> Mask:
    """Draw geometries, in raster pixels, into a crop.

    Args:
        geometries: any number.
        crop: of their raster.

    Returns:
        (S, S) bool in input pixels: those whose centre lies in a geometry.
    """
    shapes = [item for item in geometries if not item.is_empty]
    if not shapes:
        return np.zeros((crop.size, crop.size), np.bool_)
    # From input pixels to raster pixels, which is what rasterize calls the ground here.
    grid = Affine(crop.scale, 0.0, crop.col, 0.0, crop.scale, crop.row)
    drawn = rasterize([(item, 1) for item in shapes], (crop.size, crop.size), transform=grid, dtype="uint8")
    return np.asarray(drawn, np.bool_)


def burn_window(geometry: BaseGeometry, frame: RasterFrame) -> tuple[Mask, int, int]:
    """Draw a geometry in raster pixels, within its own bounds.

    Returns:
        (h, w) bool, and the row and column of its first pixel.
    """
    left, top, right, bottom = geometry.bounds
    column, row = max(int(np.floor(left)), 0), max(int(np.floor(top)), 0)
    wide = max(min(int(np.ceil(right)), frame.width) - column, 1)
    high = max(min(int(np.ceil(bottom)), frame.height) - row, 1)
    grid = Affine(1.0, 0.0, column, 0.0, 1.0, row)
    drawn = rasterize([(geometry, 1)], (high, wide), transform=grid, dtype="uint8")
    return np.asarray(drawn, np.bool_), row, column
