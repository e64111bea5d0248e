"""Change without objects and classes: how differently the model sees the same ground on two dates.

Both dates are read on the grid of the first. The same crops of both are encoded, and the embeddings compared cell by
cell by the cosine of their angle; where crops overlap, their distances are blended. Weather, season and sensor make all
ground look a little different: Otsu's threshold parts that from what changed, unless hardly anything did, for which
there is a floor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.shutil import copy as copy_raster
from rasterio.vrt import WarpedVRT
from shapely.geometry.base import BaseGeometry

from ...models.errors import RasterError
from ..areas.blending import falling_weights
from ..areas.reading import CropReader
from ..areas.tiles import TilePlan
from ..crops import Crop, RasterFrame
from ..messages import RasterInfo, RasterSpec
from ..outlines import trace
from ..progress import Progress
from ..raster_facts import gdal
from ..raster_source import RasterSource
from .footprint import ground_of

if TYPE_CHECKING:
    from ...models.promptable import PromptableModel

_PATCH = 16
"""Input pixels per side of a cell of the embedding."""

_BINS = 256


@contextlib.contextmanager
def together(first: RasterSpec, second: RasterSpec) -> Iterator[tuple[RasterSource, RasterSource, BaseGeometry]]:
    """Open two rasters such that the second is on the grid of the first.

    Args:
        first: decides the grid.
        second: of any resolution and CRS.

    Yields:
        Both, and the ground that both show, in the first one's CRS.

    Raises:
        RasterError: one of them cannot be read, or has no CRS where the other has.
    """
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(contextlib.closing(RasterSource(first)))
        other = stack.enter_context(contextlib.closing(RasterSource(second)))
        common = shapely.intersection(ground_of(one.info, one.info.crs_wkt), ground_of(other.info, one.info.crs_wkt))
        if not _same_grid(one.info, other.info):
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="samtune-")))
            other = stack.enter_context(contextlib.closing(_on_grid(other.info, one.info, folder)))
        yield one, other, common


def _same_grid(one: RasterInfo, other: RasterInfo) -> bool:
    return (one.width, one.height, one.transform, one.crs_wkt) == (
        other.width,
        other.height,
        other.transform,
        other.crs_wkt,
    )


def _on_grid(info: RasterInfo, grid: RasterInfo, folder: Path) -> RasterSource:
    """Open a raster on another one's grid, with the bands and the stretch that it has on its own."""
    if not info.crs_wkt or not grid.crs_wkt:
        raise RasterError("A raster without CRS can only be compared with one of the same grid. Assign it its CRS.")
    path = folder / "second.vrt"
    try:
        with gdal(info.spec.uri), rasterio.open(info.spec.uri) as dataset:
            place = rasterio.Affine.from_gdal(*grid.transform)
            size = {"width": grid.width, "height": grid.height}
            with WarpedVRT(
                dataset, crs=grid.crs_wkt, transform=place, resampling=Resampling.bilinear, **size
            ) as warped:
                copy_raster(warped, path, driver="VRT")
    except RasterioError as error:
        raise RasterError(
            "The raster of the second date cannot be brought onto the grid of the first. Warp it yourself first.",
            str(error),
        ) from error
    return RasterSource(RasterSpec(str(path), info.spec.bands, info.spec.stretch))


@dataclass(frozen=True)
class Differences:
    """How far apart two dates are, cell by cell.

    Attributes:
        field: (rows, columns) float32, 0 to 2; NaN where a date shows nothing.
        threshold: Otsu's; 0 where there is nothing to part.
        cell: side of a cell, raster pixels.
        frame: of the raster.
        common: ground that counts, raster CRS.
    """

    field: NDArray[np.float32]
    threshold: float
    cell: float
    frame: RasterFrame
    common: BaseGeometry

    def polygons(self, threshold: float) -> list[tuple[BaseGeometry, float]]:
        """Outline what is farther apart than a threshold, each with its mean distance.

        Args:
            threshold: of the distance.

        Returns:
            Polygons in the raster's CRS.
        """
        rows, columns = self.field.shape
        unit = trace(self.field - np.float32(threshold), 1)
        cells = [shapely.transform(part, lambda xy: xy * [columns, rows]) for part in unit.geoms if not part.is_empty]
        if not cells:
            return []
        labels = rasterize(
            [(shape, number) for number, shape in enumerate(cells, start=1)], (rows, columns), all_touched=True
        ).ravel()
        values = np.nan_to_num(self.field).ravel()
        sums = np.bincount(labels, values, len(cells) + 1)
        means = sums / np.maximum(np.bincount(labels, minlength=len(cells) + 1), 1)
        found = []
        for number, shape in enumerate(cells, start=1):
            ground = shapely.transform(shape, lambda xy: self.frame.to_map(xy * self.cell))
            inside = shapely.intersection(ground, self.common)
            parts = [part for part in shapely.get_parts(inside) if part.geom_type == "Polygon"]
            found += [(part, float(means[number])) for part in parts]
        return found


def differences(
    first: RasterSource,
    second: RasterSource,
    common: BaseGeometry,
    model: PromptableModel,
    level: int,
    progress: Progress,
) -> Differences:
    """Compare two dates.

    Args:
        first: raster of the first date.
        second: of the second, on the grid of the first.
        common: ground to look at, raster CRS.
        model: whose embeddings are compared, without any adapter.
        level: of detail.
        progress: hears of the crops; may cancel.

    Raises:
        RasterError: a raster cannot be read.
        PromptError: the ground lies beyond the raster.
    """
    size = model.card.input_size
    plan = TilePlan(first.frame, size, level, area=common, align=_PATCH)
    cell = _PATCH * 2.0**plan.level
    shape = (int(np.ceil(first.frame.height / cell)), int(np.ceil(first.frame.width / cell)))
    sums, weights = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    readers = [CropReader(first), CropReader(second)]
    for number, tile in enumerate(plan):
        progress.check()
        progress.report(0.05 + 0.85 * number / plan.count, f"Comparing, part {number + 1} of {plan.count}")
        distance = _distance(readers, tile.crop, model, progress)
        if distance is not None:
            _blend(sums, weights, distance, round(tile.crop.row / cell), round(tile.crop.col / cell))
    with np.errstate(invalid="ignore"):
        field = np.where(weights > 0, sums / weights, np.float32(np.nan)).astype(np.float32)
    inside = _inside(common, first.frame, cell, shape)
    known = field[np.isfinite(field) & inside]
    return Differences(np.where(inside, field, np.float32(np.nan)), otsu(known), cell, first.frame, common)


def _distance(
    readers: list[CropReader], crop: Crop, model: PromptableModel, progress: Progress
) -> NDArray[np.float32] | None:
    """Return (n, n) distances of a crop's cells, NaN where a date has no data; None where one has none at all."""
    seen = [reader.read(crop, progress.check) for reader in readers]
    if seen[0] is None or seen[1] is None:
        return None
    both = (seen[0], seen[1])
    with model.using(None):
        vectors = [model.encode(item.image, item.valid, progress.check).astype(np.float32) for item in both]
    lengths = [np.linalg.norm(vector, axis=0) for vector in vectors]
    cosine = (vectors[0] * vectors[1]).sum(axis=0) / np.maximum(lengths[0] * lengths[1], np.finfo(np.float32).tiny)
    cells = cosine.shape[0]
    share = crop.size // cells
    valid = (seen[0].valid & seen[1].valid).reshape(cells, share, cells, share).all(axis=(1, 3))
    return np.where(valid, np.clip(1.0 - cosine, 0.0, 2.0), np.float32(np.nan)).astype(np.float32)


def _blend(
    sums: NDArray[np.float32], weights: NDArray[np.float32], distance: NDArray[np.float32], row: int, column: int
) -> None:
    """Add a crop's distances; what lies beyond the raster is left out."""
    height = min(distance.shape[0], sums.shape[0] - row)
    width = min(distance.shape[1], sums.shape[1] - column)
    part = distance[:height, :width]
    weight = np.where(np.isfinite(part), falling_weights(distance.shape[0])[:height, :width], np.float32(0))
    there = (slice(row, row + height), slice(column, column + width))
    sums[there] += weight * np.nan_to_num(part)
    weights[there] += weight


def _inside(common: BaseGeometry, frame: RasterFrame, cell: float, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell which cells have their middle on the ground that counts."""
    rows, columns = (np.arange(count) + 0.5 for count in shape)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2) * cell
    places = frame.to_map(np.minimum(grid, [frame.width, frame.height]))
    shapely.prepare(common)
    return np.asarray(shapely.intersects_xy(common, places[:, 0], places[:, 1]), np.bool_).reshape(shape)


def otsu(values: NDArray[np.float32]) -> float:
    """Return the threshold that parts values into two groups as far apart as possible (Otsu 1979).

    Args:
        values: (n,) float32; may be empty.

    Returns:
        The threshold; the values' maximum where all are alike, 0 where there are none.
    """
    if not values.size:
        return 0.0
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return high
    counts, edges = np.histogram(values, _BINS, (low, high))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    mass = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    return float(edges[1:][int(np.argmax(np.nan_to_num(spread)))])
