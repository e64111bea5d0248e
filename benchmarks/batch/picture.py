"""A picture of outlines over imagery, with the borders of tiles. Few colours, for a small file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.windows import Window

SIDE, SCALE = 420, 2
"""Raster pixels that are shown, and picture pixels for each of them."""

GREYS = 24
OUTLINE, BORDER = (255, 221, 51), (0, 220, 255)


def draw(path: Path, raster: Path, shapes: NDArray[Any], borders: Sequence[int]) -> None:
    """Draw what lies around the corner of four tiles.

    Args:
        path: of the PNG.
        raster: 8 bits, three bands.
        shapes: polygons in pixels of the raster.
        borders: of the tiles, in both directions, pixels.
    """
    start = borders[0] - SIDE // 2
    wide = SIDE * SCALE
    with rasterio.open(raster) as dataset:
        seen = dataset.read(
            window=Window(start, start, SIDE, SIDE), out_shape=(3, wide, wide), resampling=Resampling.cubic
        )
    grey = seen.astype(np.float32).mean(axis=0) / 255
    picture = (grey * (GREYS - 1)).round().astype(np.uint8)
    inside = shapely.intersects(shapely.box(start, start, start + SIDE, start + SIDE), shapes)
    lines = [(shapely.boundary(shape), GREYS) for shape in shapes[inside]]
    across = [border for border in borders if start < border < start + SIDE]
    for border in across:
        ends = (start, start + SIDE)
        lines += [(shapely.LineString([(border, end) for end in ends]), GREYS + 1)]
        lines += [(shapely.LineString([(end, border) for end in ends]), GREYS + 1)]
    place = rasterio.Affine(1 / SCALE, 0, start, 0, 1 / SCALE, start)
    drawn = rasterize(lines, picture.shape, transform=place, dtype="uint8")
    picture = np.where(drawn > 0, drawn, picture)
    colours = {number: (number * 255 // (GREYS - 1),) * 3 for number in range(GREYS)}
    colours |= {GREYS: OUTLINE, GREYS + 1: BORDER}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="PNG", width=wide, height=wide, count=1, dtype="uint8", zlevel=9) as out:
        out.write(picture, 1)
        out.write_colormap(1, {number: (*colour, 255) for number, colour in colours.items()})
