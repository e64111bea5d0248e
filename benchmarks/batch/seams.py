"""Whether one sees in the result where the tiles met: fewer or more objects there, or straight cuts.

Everything is outlined in real pictures, laid side by side and mirrored in turn. Objects are counted by the centres of
their bounding boxes within 20 pixels of the borders between tiles, and elsewhere. What lies within 20 pixels of the
raster's edge or of the pictures' edges is left out: those borders are real. Objects lie within each other, and so vary
more than Poisson's law says; the same borders moved across the raster, where nothing met, show how much.

They are moved by the spacing of the points that are asked about, or by a multiple of it. An object is found where a
point lies on it, and so its middle lies near a point rather than between two: a strip that holds a row of points has
several times as many as one that holds none, wherever tiles meet. Each strip compared lies alike among the points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
from numpy.typing import NDArray
from samtune.engine.areas.tiles import TilePlan
from samtune.engine.batch.planning import OVERLAP
from samtune.engine.batch_messages import BatchTask
from samtune.engine.crops import RasterFrame
from scipy.stats import beta

from .base import SAMPLE, Counting, Options, run_job, spec_of
from .picture import draw
from .scenes import magnified, patchwork

SIZE = 512
POINTS = 16
"""As many a side as is usual."""

KEPT = {"iou": 0.35, "stability": 0.3}
"""What stays of what the model answers, whatever is usual: it yields objects with ``tiny``."""

NEAR = 20
"""Pixels."""

STRAIGHT, ON = 6.0, 0.05
"""A cut is a straight part of an outline that is so long and lies so near to a border, pixels."""

BETWEEN = 384
"""From one border to the next."""


@dataclass(frozen=True)
class Found:
    """What a job outlined.

    Attributes:
        shapes: polygons in pixels of the raster.
        side: of the raster, pixels.
        step: from one edge of pictures to the next, pixels.
        borders: of the tiles' cores, the same in both directions, pixels.
        edges: of the tiles themselves, which overlap, likewise.
        spacing: of the points asked about, pixels.
    """

    shapes: NDArray[Any]
    side: int
    step: int
    borders: tuple[int, ...]
    edges: tuple[int, ...]
    spacing: int

    @property
    def moves(self) -> range:
        """By which the borders are moved for comparison, pixels: so far that no strip meets theirs."""
        first = -(-2 * NEAR // self.spacing) * self.spacing
        return range(first, BETWEEN - first + 1, self.spacing)

    def density(self, move: int = 0) -> tuple[int, int, float]:
        """Return the numbers of objects near borders and elsewhere, and how much more ground is elsewhere.

        Args:
            move: of the borders, pixels.
        """
        along = np.arange(self.side)
        near = _within(along, [border + move for border in self.borders])
        beyond = _within(along, [0, self.side, *range(self.step, self.side, self.step)])
        counted = ~(beyond[:, None] | beyond)
        close = (near[:, None] | near) & counted
        bounds = shapely.bounds(self.shapes)
        places = ((bounds[:, :2] + bounds[:, 2:]) / 2).astype(int).clip(0, self.side - 1)
        columns, rows = places.T
        first = int(close[rows, columns].sum())
        return first, int(counted[rows, columns].sum()) - first, (counted.sum() - close.sum()) / close.sum()

    def cuts(self, lines: Sequence[int], move: int = 0) -> int:
        """Count straight parts of outlines that lie on lines, moved by some pixels."""
        count = 0
        wanted = np.array(lines, float) + move
        for shape in shapely.simplify(self.shapes, ON / 2):
            for ring in shapely.get_rings(shape):
                ends = shapely.get_coordinates(ring)
                count += sum(_on(ends[:, axis], ends[:, 1 - axis], wanted) for axis in (0, 1))
        return count


def _within(along: NDArray[np.int_], lines: Sequence[int]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(along[:, None] + 0.5 - np.array(lines)).min(axis=1) < NEAR)


def _on(across: NDArray[np.float64], along: NDArray[np.float64], lines: NDArray[np.float64]) -> int:
    """Count segments whose both ends lie on one of the lines, and that are long."""
    distance = np.abs(across[:, None] - lines).min(axis=1)
    both = (distance[:-1] < ON) & (distance[1:] < ON) & (np.abs(np.diff(across)) < 2 * ON)
    return int((both & (np.abs(np.diff(along)) > STRAIGHT)).sum())


def outlined(options: Options, name: str, side: int, sources: Sequence[Path], points: int) -> tuple[Found, Path]:
    """Do a job on pictures side by side; return what it found, and the raster."""
    raster, output = options.folder / f"{name}.tif", options.folder / f"{name}.gpkg"
    step = patchwork(raster, side, sources)
    run_job(options.folder, spec_of(raster, BatchTask.AUTOMATIC, output, points=points, tiles=2, **KEPT), Counting())
    with rasterio.open(raster) as dataset:
        frame = RasterFrame(side, side, dataset.transform.to_gdal())
    _, _, geometries, _ = pyogrio.raw.read(output)
    shapes = shapely.transform(shapely.from_wkb(geometries), frame.to_pixel)
    axis = TilePlan(frame, SIZE, 0, overlap=SIZE // OVERLAP).columns
    edges = {place for index in range(len(axis)) for place in (axis.origin(index), axis.origin(index) + axis.side)}
    borders = tuple(axis.border(index) for index in range(1, len(axis)))
    return Found(shapes, side, step, borders, tuple(sorted(edges - {0, side})), SIZE // points), raster


def interval(near: int, elsewhere: int, ground: float) -> tuple[float, float]:
    """Return the 95 % interval of a ratio of densities, if all objects were independent of each other.

    Args:
        near: objects near borders.
        elsewhere: other ones.
        ground: how much more ground there is elsewhere.
    """
    low, high = beta.ppf(0.025, near, elsewhere + 1), beta.ppf(0.975, near + 1, elsewhere)
    return low / (1 - low) * ground, high / (1 - high) * ground


def measure(options: Options) -> list[Any]:
    """Outline everything, and look at the borders."""
    side = SIZE + BETWEEN * (2 if options.quick else 6)
    sources = [SAMPLE] if options.data is None else sorted(options.data.glob("*.tif"))
    found, _ = outlined(options, "seams", side, sources, 8 if options.quick else POINTS)
    if options.picture is not None:
        shown, raster = outlined(options, "picture", SIZE + BETWEEN, [magnified(options.folder / "magnified.tif")], 12)
        draw(options.picture, raster, shown.shapes, shown.borders)
    return rows_of(options, found)


def rows_of(options: Options, found: Found) -> list[Any]:
    """Return the figures of what was outlined."""
    row = options.report.Row
    near, elsewhere, ground = found.density()
    ratio = near / elsewhere * ground
    low, high = interval(near, elsewhere, ground)
    moved = [first / second * more for first, second, more in (found.density(move) for move in found.moves)]
    usual = float(np.mean(moved))
    beyond = abs(ratio - usual) / float(np.std(moved, ddof=1))
    note = f"{near} against {elsewhere} objects on {ground:.2f} times the ground; 95 % if independent {low:.2f} to "
    note += f"{high:.2f}; borders moved {len(moved)} times: mean {usual:.2f}, {min(moved):.2f} to {max(moved):.2f}"
    cuts = [found.cuts(found.borders), found.cuts(found.edges)]
    by_chance = [found.cuts((*found.borders, *found.edges), move) for move in found.moves]
    return [
        row(f"seams: objects within {NEAR} px of borders / elsewhere, per area", ratio, "x", "", note),
        row("seams: that, beside the mean of moved borders", ratio / usual, "x", "", ""),
        row("seams: difference, in deviations of moved borders", beyond, "", "<= 2", ""),
        row(
            f"seams: straight cuts, > {STRAIGHT:g} px",
            sum(cuts),
            "",
            f"<= {max(by_chance)}",
            f"{cuts[0]} on borders, {cuts[1]} on the tiles' edges; lines moved: {min(by_chance)} to {max(by_chance)}; "
            f"{len(found.shapes)} objects",
        ),
    ]
