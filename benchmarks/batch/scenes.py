"""Rasters made of real imagery, prompts on them, and what is read of results."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely
from rasterio.enums import Resampling
from rasterio.windows import Window

from .base import SAMPLE, SCENE

_SOURCE = (
    '<SimpleSource><SourceFilename relativeToVRT="0">{file}</SourceFilename><SourceBand>{band}</SourceBand>'
    '<SourceProperties RasterXSize="{step}" RasterYSize="{step}" DataType="Byte"/>'
    '<SrcRect xOff="0" yOff="0" xSize="{wide}" ySize="{high}"/>'
    '<DstRect xOff="{x}" yOff="{y}" xSize="{wide}" ySize="{high}"/></SimpleSource>'
)


def mosaic(path: Path, width: int, height: int, source: Path = SAMPLE) -> Path:
    """Describe a raster of a square one, side by side, as a VRT.

    Args:
        path: of the VRT.
        width: and
        height: of it, pixels.
        source: 8 bits per band.
    """
    with rasterio.open(source) as tile:
        step, bands = tile.width, tile.count
        wkt, place = tile.crs.to_wkt(), ", ".join(repr(value) for value in tile.transform.to_gdal())
    lines = [f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{_escaped(wkt)}</SRS>']
    lines.append(f"<GeoTransform>{place}</GeoTransform>")
    for band in range(1, bands + 1):
        lines.append(f'<VRTRasterBand dataType="Byte" band="{band}">')
        for y in range(0, height, step):
            for x in range(0, width, step):
                wide, high = min(step, width - x), min(step, height - y)
                lines.append(_SOURCE.format(file=source, band=band, step=step, x=x, y=y, wide=wide, high=high))
        lines.append("</VRTRasterBand>")
    lines.append("</VRTDataset>")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def patchwork(path: Path, side: int, sources: Sequence[Path]) -> int:
    """Write a square GeoTIFF of pictures in turn; every second column and row is mirrored, so that one picture goes on.

    Args:
        path: of the GeoTIFF.
        side: of it, pixels.
        sources: square ones of one size, 8 bits; their first three bands are taken.

    Returns:
        Side of the pictures, pixels: there are their edges.
    """
    pictures = []
    for file in sources:
        with rasterio.open(file) as tile:
            pictures.append(tile.read((1, 2, 3)))
            profile = {"crs": tile.crs, "transform": tile.transform}
    step = pictures[0].shape[1]
    count = -(-side // step)
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", tiled=True, **profile
    ) as out:
        for number in range(count * count):
            row, column = divmod(number, count)
            picture = pictures[number % len(pictures)][:, :: -1 if row % 2 else 1, :: -1 if column % 2 else 1]
            high, wide = min(step, side - row * step), min(step, side - column * step)
            out.write(picture[:, :high, :wide], window=Window(column * step, row * step, wide, high))
    return step


def magnified(path: Path, times: int = 4) -> Path:
    """Write the satellite scene that ships with SamTune so much larger that it takes several tiles.

    Args:
        path: of the GeoTIFF.
        times: pixels for each of its pixels, in both directions.
    """
    with rasterio.open(SCENE) as scene:
        side = times * scene.width
        pixels = scene.read((4, 3, 2), out_shape=(3, side, side), resampling=Resampling.cubic)
        grid = scene.transform @ rasterio.Affine.scale(1 / times)
        profile = {"crs": scene.crs, "transform": grid, "width": side, "height": side, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **profile) as out:
        out.write(pixels)
    return path


def prompts_file(path: Path, raster: Path, pixels: Sequence[tuple[float, float]]) -> Path:
    """Write points at places of a raster, in pixels."""
    with rasterio.open(raster) as dataset:
        places = [dataset.transform @ pixel for pixel in pixels]
        crs = dataset.crs.to_wkt()
    wkb = np.array([shapely.Point(place).wkb for place in places], object)
    pyogrio.raw.write(path, wkb, [np.arange(len(wkb))], ["number"], geometry_type="Point", crs=crs, driver="GPKG")
    return path


def contents(path: Path) -> list[str]:
    """Return a file's features but for their times, in an order of their own."""
    facts, _, geometries, values = pyogrio.raw.read(path)
    kept = [column for name, column in zip(facts["fields"], values, strict=True) if name != "time"]
    return sorted(repr((bytes(wkb), *row)) for wkb, row in zip(geometries, zip(*kept, strict=True), strict=True))


def digest(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of files' contents."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()
