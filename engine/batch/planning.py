"""Which units a raster is taken apart into: blocks of tiles, or prompts that lie near each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ...models.errors import PromptError, RasterError
from ...models.peft.adapter_card import read_card
from ..adapters import level_of
from ..areas.tiles import Tile, TilePlan
from ..batch_messages import BatchSpec, BatchTask
from ..crops import MIN_LEVEL, RasterFrame, clamp_level, crop_at
from ..messages import RasterInfo
from .features import anchor_of, moved
from .items import Feature, Ground, JobHeader, JobRaster, Unit

PROMPTS_PER_UNIT = 64
"""Prompts that are done, or not, together."""

OVERLAP = 4
"""Neighbouring tiles overlap by the side over this: what is smaller is seen whole by one of them."""

ALIGN = {BatchTask.MAP: 4}
"""Input pixels on multiples of which tiles begin, where the task needs that."""


def plan_of(header: JobHeader, area: Ground, raster: JobRaster, size: int, coarser: int = 0) -> TilePlan:
    """Lay the tiles of a raster.

    Args:
        header: of the job.
        area: to which it is limited.
        raster: opened.
        size: of the model's input, pixels.
        coarser: levels above the raster's own.

    Raises:
        PromptError: the area lies beyond the raster.
        RasterError: the raster was not opened yet.
    """
    if raster.info is None:
        raise RasterError("The raster was not looked at yet. Resume the job.", raster.uri)
    info, task = raster.info, header.spec.task
    return TilePlan(
        RasterFrame(info.width, info.height, info.transform),
        size,
        (raster.level or 0) + coarser,
        overlap=None if task is BatchTask.EMBEDDINGS else size // OVERLAP,  # of embeddings: the crops of clicks
        area=area_in(area, info),
        align=ALIGN.get(task, 1),
    )


def level_for(spec: BatchSpec, info: RasterInfo, size: int) -> int:
    """Return the level at which a raster is done.

    Args:
        spec: of the job.
        info: of the raster.
        size: of the model's input, pixels.

    Raises:
        TuningError: the adapter cannot be read.
    """
    if spec.options.level is not None:
        return spec.options.level
    if spec.adapter:
        return level_of(read_card(Path(spec.adapter).expanduser()), info) or 0
    if spec.task is BatchTask.AUTOMATIC:
        # Of a crop that reaches beyond the raster the model sees less than it can.
        filled = math.floor(math.log2(min(info.width, info.height) / size))
        return max(MIN_LEVEL, min(0, filled))
    return 0


def area_in(area: Ground, info: RasterInfo) -> BaseGeometry | None:
    """Return the job's area in a raster's CRS; None where there is no limit.

    Args:
        area: of the job.
        info: of the raster.
    """
    return moved(shapely.from_wkb(area.wkb), area.crs_wkt, info.crs_wkt) if area.wkb else None


def tiles_of(plan: TilePlan, unit: Unit) -> Iterator[Tile]:
    """Yield the tiles of a unit, row by row.

    Args:
        plan: of its raster and level.
        unit: a block of it.
    """
    first, end, left, right = unit.block
    for row in range(first, end):
        for tile in plan.row(row, plan.columns.border(left), plan.columns.border(right)):
            if left <= tile.number - row * len(plan.columns) < right:
                yield tile


def tile_units(plan: TilePlan, side: int, coarser: int = 0) -> Iterator[Unit]:
    """Yield the units of a raster that have any tile.

    Args:
        plan: of the raster.
        side: tiles per side of a unit.
        coarser: levels of the plan above the raster's own.
    """
    for first in range(0, len(plan.rows), side):
        rows = range(first, min(first + side, len(plan.rows)))
        counts = np.zeros(-(-len(plan.columns) // side), np.int64)
        for row in rows:
            columns = np.fromiter((tile.number - row * len(plan.columns) for tile in plan.row(row)), np.int64)
            counts += np.bincount(columns // side, minlength=len(counts))
        for block in np.flatnonzero(counts).tolist():
            left, right = block * side, min((block + 1) * side, len(plan.columns))
            yield Unit(0, 0, int(counts[block]), (first, rows.stop, left, right), coarser=coarser)


def prompt_units(
    features: Iterable[Feature], crs_wkt: str, info: RasterInfo, size: int, area: BaseGeometry | None
) -> list[Unit]:
    """Gather the prompts that lie on a raster into units, neighbours together: they share crops.

    Args:
        features: that lie on no raster before this one.
        crs_wkt: of their coordinates.
        info: of the raster.
        size: of the model's input, pixels.
        area: in the raster's CRS; prompts whose middle lies beyond it are left out. None for no limit.
    """
    frame = RasterFrame(info.width, info.height, info.transform)
    level = clamp_level(frame, size, 0)
    placed = []
    for feature in features:
        try:
            anchor = anchor_of(moved(shapely.from_wkb(feature.wkb), crs_wkt, info.crs_wkt))
        except PromptError:
            continue
        pixel = frame.to_pixel(np.array([anchor]))
        if not (np.isfinite(pixel).all() and frame.contains(pixel)[0]):
            continue
        if area is not None and not shapely.intersects_xy(area, *anchor):
            continue
        crop = crop_at(frame, size, level, (float(pixel[0, 0]), float(pixel[0, 1])))
        placed.append((crop.row, crop.col, feature.number))
    numbers = [number for _, _, number in sorted(placed)]
    return [Unit(0, 0, len(some), features=tuple(some)) for some in _some(numbers, PROMPTS_PER_UNIT)]


def _some(numbers: list[int], most: int) -> Iterator[list[int]]:
    for start in range(0, len(numbers), most):
        yield numbers[start : start + most]
