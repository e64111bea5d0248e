"""Mask logits to clean polygons with exact georeference. Pure: numpy, contourpy and shapely.

The outline is the zero line of the logits, found between the cells' centres, so it is finer than the grid of logits.
Geometry is in input pixels until :func:`to_map`; see :mod:`.crops` for the coordinate systems.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import cast

import numpy as np
import shapely
from contourpy import FillType, contour_generator
from numpy.typing import NDArray
from rasterio.features import shapes
from shapely.geometry import MultiPolygon, Polygon, shape
from shapely.geometry.base import BaseGeometry

from .crops import CropFrame
from .messages import OutlineOptions

PART_SHARE = 0.1
"""A part of the mask that no prompt touches stays only with at least this share of the main part's area; see
:func:`select_parts`."""

CLICK_TOLERANCE = 1.5
"""Cells of the logits by which a click may miss the part it means."""


@dataclass(frozen=True)
class InputPrompts:
    """The prompts of one object in input pixels.

    Attributes:
        positive: (n, 2) x, y.
        negative: (m, 2) x, y.
        box: x0, y0, x1, y1, or None.
    """

    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Clicks:
    """Prompts that cleaning must not overrule.

    Attributes:
        prompts: of the object.
        reach: input pixels by which a click may miss the part or hole it means.
    """

    prompts: InputPrompts
    reach: float = 0.0


NO_CLICKS = Clicks(InputPrompts(np.zeros((0, 2)), np.zeros((0, 2))))


def trace(logits: NDArray[np.float32], size: int) -> MultiPolygon:
    """Trace the zero line of logits.

    Args:
        logits: (h, w) float32, positive inside; covers the input square; NaN counts as outside.
        size: side of the input square, input pixels.

    Returns:
        Valid polygons with holes, in input pixels, closed along the border of the square; may be empty.
    """
    height, width = logits.shape
    field = np.nan_to_num(logits.astype(np.float64), nan=-1.0, posinf=1e6, neginf=-1e6)
    if not (field > 0).any():
        return MultiPolygon()
    # One ring of copies carries the outline straight on beyond the border, a second one closes it there; clipping to
    # the square afterwards leaves exact edges and corners.
    padded = np.pad(np.pad(field, 1, mode="edge"), 1, constant_values=-1.0)
    xs = (np.arange(-2, width + 2) + 0.5) * (size / width)
    ys = (np.arange(-2, height + 2) + 0.5) * (size / height)
    generator = contour_generator(xs, ys, padded, fill_type=FillType.OuterOffset)
    points, offsets = cast("tuple[list[NDArray[np.float64]], list[NDArray[np.uint32]]]", generator.filled(0.0, np.inf))
    polygons = [_polygon(ring, offset) for ring, offset in zip(points, offsets, strict=True)]
    whole = _polygonal(shapely.MultiPolygon([item for item in polygons if item is not None]))
    border = (field[[0, -1], :] > 0).any() or (field[:, [0, -1]] > 0).any()
    return _polygonal(shapely.intersection(whole, shapely.box(0.0, 0.0, size, size))) if border else whole


def _polygon(points: NDArray[np.float64], offsets: NDArray[np.uint32]) -> Polygon | None:
    rings = [points[start:end] for start, end in itertools.pairwise(offsets) if end - start >= 4]
    return Polygon(rings[0], rings[1:]) if rings else None


def clip_to_valid(outline: MultiPolygon, frame: CropFrame, valid: NDArray[np.bool_] | None) -> MultiPolygon:
    """Cut off what lies beyond the raster or on nodata.

    Args:
        outline: in input pixels.
        frame: the crop.
        valid: (S, S), False for nodata and padding; None when all is valid.

    Returns:
        The rest of the outline, in input pixels; may be empty.
    """
    if outline.is_empty:
        return outline
    width, height = frame.covered
    if width < frame.crop.size or height < frame.crop.size:
        outline = _polygonal(shapely.intersection(outline, shapely.box(0.0, 0.0, width, height)))
    if valid is None or outline.is_empty:
        return outline
    left, top, right, bottom = outline.bounds
    window = (slice(int(top), int(np.ceil(bottom))), slice(int(left), int(np.ceil(right))))
    part = valid[window]
    if part.all():
        return outline
    holes = [shape(geometry) for geometry, _ in shapes((~part).astype(np.uint8), mask=~part)]
    gone = shapely.transform(shapely.union_all(holes), lambda xy: xy + np.array([int(left), int(top)]))
    return _polygonal(shapely.difference(outline, gone))


def select_parts(outline: MultiPolygon, prompts: InputPrompts, cell: float) -> MultiPolygon:
    """Keep the parts of a mask that belong to the object, drop specks.

    Kept are the parts that a positive click touches; without clicks the largest part in the box. Other parts stay
    when they have at least a tenth of the largest kept part's area, are no farther from a kept part than the side of
    a square of its area, and have their centre in the box if there is one. A part under a negative click never stays.

    Args:
        outline: in input pixels.
        prompts: of the object.
        cell: side of a cell of the logits, input pixels; a click may miss its part by one and a half cells.

    Returns:
        The parts kept; empty when no part is meant by the prompts.
    """
    parts = np.array(shapely.get_parts(outline))
    away = shapely.intersects(parts[:, None], shapely.points(prompts.negative)[None, :]).any(axis=1)
    parts = parts[~away]
    if not len(parts):
        return MultiPolygon()
    area = shapely.area(parts)
    inside = np.ones(len(parts), bool)
    if prompts.box is not None:
        inside = shapely.intersects(shapely.box(*prompts.box), shapely.point_on_surface(parts))
    main = np.zeros(len(parts), bool)
    if len(prompts.positive):
        for click in shapely.points(prompts.positive):
            distance = shapely.distance(parts, click)
            main[np.argmin(distance)] |= bool(distance.min() <= CLICK_TOLERANCE * cell)
    elif inside.any():
        main[np.argmax(np.where(inside, area, -1.0))] = True
    if not main.any():
        return MultiPolygon()
    largest = area[main].max()
    others = np.flatnonzero(~main & inside & (area >= PART_SHARE * largest))
    near = shapely.distance(parts[others], MultiPolygon(list(parts[main]))) <= np.sqrt(largest)
    main[others[near]] = True
    return MultiPolygon(list(parts[main]))


def to_map(
    outline: MultiPolygon,
    frame: CropFrame,
    options: OutlineOptions,
    clicks: Clicks = NO_CLICKS,
    aspect: float = 1.0,
) -> MultiPolygon:
    """Clean an outline and bring it to the ground.

    Args:
        outline: in input pixels.
        frame: the crop.
        options: lengths in raster CRS units, areas in their square.
        clicks: a part that a positive one means is not dropped, a hole that a negative one means is not filled.
        aspect: ground length of a unit of x in units of y: the cosine of the latitude where the CRS is geographic.

    Returns:
        A valid MultiPolygon in the raster's CRS with counter-clockwise shells; empty only if the outline was.
    """
    if outline.is_empty:
        return outline
    square = (frame.raster.pixel_size * frame.crop.scale) ** 2
    kept = _drop_parts(outline, options.min_part / square, clicks)
    kept = _polygonal(_fill_holes(kept, options.min_hole / square, clicks))
    ground = _polygonal(shapely.transform(kept, frame.to_map))
    if options.simplify > 0:
        # On a plane where a unit is as long in every direction and areas are as they were.
        plane = np.array([np.sqrt(aspect), 1.0 / np.sqrt(aspect)])
        simple = shapely.simplify(shapely.transform(ground, lambda xy: xy * plane), options.simplify)
        simple = _polygonal(shapely.transform(simple, lambda xy: xy / plane))
        ground = simple if not simple.is_empty else ground
    return shapely.orient_polygons(ground)


def _drop_parts(outline: MultiPolygon, least: float, clicks: Clicks) -> MultiPolygon:
    """Drop small parts; the largest stays whatever its size, and so do those that were clicked."""
    parts = np.array(shapely.get_parts(outline))
    area = shapely.area(parts)
    keep = area >= least
    keep[np.argmax(area)] = True
    return MultiPolygon(list(parts[keep | _meant(parts, clicks.prompts.positive, clicks.reach)]))


def _fill_holes(outline: MultiPolygon, least: float, clicks: Clicks) -> MultiPolygon:
    """Fill small holes; those that were clicked away stay."""
    filled = []
    for part in shapely.get_parts(outline):
        holes = np.array([Polygon(ring) for ring in part.interiors], object)
        if len(holes):
            holes = holes[(shapely.area(holes) >= least) | _meant(holes, clicks.prompts.negative, clicks.reach)]
        filled.append(Polygon(part.exterior, [hole.exterior for hole in holes]))
    return MultiPolygon(filled)


def _meant(polygons: NDArray[np.object_], points: NDArray[np.float64], reach: float) -> NDArray[np.bool_]:
    """Tell which polygons a point lies in, or misses by no more than a reach."""
    if not len(points):
        return np.zeros(len(polygons), bool)
    return np.asarray(shapely.dwithin(polygons[:, None], shapely.points(points)[None, :], reach).any(axis=1))


def _polygonal(geometry: BaseGeometry) -> MultiPolygon:
    """Return a valid MultiPolygon of whatever areas a geometry has."""
    if not shapely.is_valid(geometry):
        geometry = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    parts = [part for part in _leaves(geometry) if isinstance(part, Polygon) and not part.is_empty and part.area > 0]
    return MultiPolygon(parts)


def _leaves(geometry: BaseGeometry) -> list[BaseGeometry]:
    parts = list(shapely.get_parts(geometry))
    return [leaf for part in parts for leaf in (_leaves(part) if hasattr(part, "geoms") else [part])]


def touches_edge(outline: MultiPolygon, frame: CropFrame, cell: float) -> bool:
    """Tell whether the object probably goes on beyond the crop.

    Args:
        outline: in input pixels.
        frame: the crop.
        cell: side of a cell of the logits, input pixels; coming within half of it counts as touching.

    Returns:
        True when the outline reaches a side of the crop beyond which the raster goes on.
    """
    if outline.is_empty:
        return False
    left, top, right, bottom = outline.bounds
    margin, size = cell / 2.0, frame.crop.size
    reached = (left <= margin, top <= margin, right >= size - margin, bottom >= size - margin)
    return any(at and goes_on for at, goes_on in zip(reached, frame.open_sides, strict=True))
