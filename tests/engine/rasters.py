"""Small synthetic rasters for the engine's tests."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

UTM = "EPSG:32633"
NORTH_UP = Affine(0.5, 0.0, 500_000.0, 0.0, -0.5, 5_300_000.0)
SOUTH_UP = Affine(0.5, 0.0, 500_000.0, 0.0, 0.5, 5_300_000.0)
ROTATED = Affine.translation(500_000.0, 5_300_000.0) @ Affine.rotation(30.0) @ Affine.scale(0.5, -0.5)


def write(
    path: Path,
    values: NDArray[np.generic],
    *,
    crs: str | None = UTM,
    transform: Affine | None = NORTH_UP,
    colours: tuple[ColorInterp, ...] = (),
    **options: object,
) -> Path:
    """Write (C, H, W) values as GeoTIFF and return its path."""
    bands, height, width = values.shape
    place = {} if transform is None else {"transform": transform}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=bands,
            dtype=values.dtype,
            crs=crs,
            **place,
            **options,
        ) as dataset:
            dataset.write(values)
            if colours:
                dataset.colorinterp = colours
    return path


def disc(
    shape: tuple[int, int],
    centre: tuple[float, float],
    radius: float,
    inside: float = 200.0,
    outside: float = 50.0,
    soft: int = 4,
) -> NDArray[np.float64]:
    """Return an (H, W) picture of a disc, each pixel weighted by the share of it that the disc covers.

    ``centre`` is column, row in continuous pixels.
    """
    steps = (np.arange(soft) + 0.5) / soft
    cols = (np.arange(shape[1])[:, None] + steps).ravel()
    rows = (np.arange(shape[0])[:, None] + steps).ravel()
    hit = (cols[None, :] - centre[0]) ** 2 + (rows[:, None] - centre[1]) ** 2 <= radius**2
    share = hit.reshape(shape[0], soft, shape[1], soft).mean(axis=(1, 3))
    return outside + (inside - outside) * share


def disc_raster(
    path: Path, size: int = 600, centre: tuple[float, float] = (300.0, 280.0), radius: float = 60.0, **options: object
) -> Path:
    """Write a grey uint8 raster with one disc."""
    picture = np.rint(disc((size, size), centre, radius)).astype(np.uint8)
    return write(path, picture[None], **options)


def disc_area(radius: float) -> float:
    """Return a disc's area."""
    return math.pi * radius**2
