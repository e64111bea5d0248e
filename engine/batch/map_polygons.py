"""Polygons of a class map, strip by strip: what reaches over a strip's border is joined with what goes on there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio
import shapely
from rasterio.errors import RasterioError
from rasterio.features import shapes
from rasterio.windows import Window
from shapely.geometry import MultiPolygon, shape
from shapely.geometry.base import BaseGeometry

from ...models.errors import OutputError
from ..areas.joining import groups_of
from ..areas.map_file import NODATA
from ..crops import RasterFrame
from ..raster_facts import GDAL_OPTIONS, layer_transform
from .items import BatchObject, JobHeader

STRIP = 1024
"""Rows of the map that are traced together."""

_Part = tuple[int, BaseGeometry]
"""Value of a class, and a polygon in pixels of the map."""


def map_objects(path: Path, header: JobHeader, least: float, check: Callable[[], None]) -> Iterator[BatchObject]:
    """Yield the connected areas of each class.

    Args:
        path: of the class map.
        header: of the job.
        least: area from which a polygon is kept, square units of the map's CRS.
        check: called between strips; may raise to cancel.

    Raises:
        OutputError: the map cannot be read.
    """
    names = {item.value: item.name for item in header.classes}
    try:
        with rasterio.Env(**GDAL_OPTIONS), rasterio.open(path) as dataset:
            frame = RasterFrame(dataset.width, dataset.height, layer_transform(dataset))
            for value, polygon in _traced(dataset, check):
                ground = shapely.orient_polygons(shapely.transform(MultiPolygon([polygon]), frame.to_map))
                if ground.area >= least:
                    label = names.get(value, str(value))
                    yield BatchObject(ground.wkb, label, math.nan, "map", adapter=header.adapter_name)
    except RasterioError as error:
        raise OutputError(f"The class map {path} cannot be read any more. Resume the job.", str(error)) from error


def _traced(dataset: rasterio.io.DatasetReader, check: Callable[[], None]) -> Iterator[_Part]:
    waiting: list[_Part] = []
    for top in range(0, dataset.height, STRIP):
        check()
        bottom = min(top + STRIP, dataset.height)
        values = dataset.read(1, window=Window(0, top, dataset.width, bottom - top))
        down = np.array([0.0, float(top)])
        fresh = [
            (int(value), shapely.transform(shape(found), lambda xy, down=down: xy + down))
            for found, value in shapes(values, mask=values != NODATA)
        ]
        at_top = [part for part in fresh if part[1].bounds[1] <= top]
        joined = [*_joined([*waiting, *at_top], len(waiting)), *(part for part in fresh if part[1].bounds[1] > top)]
        waiting = [part for part in joined if part[1].bounds[3] >= bottom < dataset.height]
        yield from (part for part in joined if not part[1].bounds[3] >= bottom < dataset.height)


def _joined(parts: list[_Part], above: int) -> Iterator[_Part]:
    """Join polygons of one class that share an edge; the first ``above`` lie over the border, the others under it."""
    if not parts:
        return
    polygons = np.array([polygon for _, polygon in parts], object)
    pairs: list[tuple[int, int]] = []
    if 0 < above < len(parts):
        upper, lower = shapely.STRtree(polygons[above:]).query(polygons[:above], predicate="intersects")
        lower = lower + above
        same = np.array([parts[one][0] == parts[other][0] for one, other in zip(upper, lower, strict=True)], bool)
        upper, lower = upper[same], lower[same]
        edges = shapely.length(shapely.intersection(polygons[upper], polygons[lower])) > 0
        pairs = list(zip(upper[edges].tolist(), lower[edges].tolist(), strict=True))
    for group in groups_of(len(parts), pairs):
        value = parts[group[0]][0]
        whole = polygons[group[0]] if len(group) == 1 else shapely.union_all(polygons[group])
        yield from ((value, polygon) for polygon in shapely.get_parts(whole))
