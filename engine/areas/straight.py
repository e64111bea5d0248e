"""Outlines joined from parts that still end straight where a crop ended: its crops do not agree, or nearly do.

Pure. Coordinates are pixels of the level, as in :mod:`.joining`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from shapely.geometry import LineString
from shapely.geometry.base import BaseGeometry

from .pieces import Piece

LONGEST = 3.0
"""A straight end that is longer shows, all the more at coarser levels; outlines touch a side for less, by chance."""

_ON, _NEAR = 0.05, 2.0


def ends_straight(parts: Sequence[Piece], joined: BaseGeometry) -> bool:
    """Tell whether an outline ends at a side of a crop, beyond which another crop does not see it go on.

    Args:
        parts: that it is joined from.
        joined: the outline.
    """
    edge = joined.boundary
    return any(
        _ends_at(axis, place, line, parts, edge) for part in parts if part.cut for axis, place, line in _sides(part)
    )


def without_ledges(parts: Sequence[Piece], joined: BaseGeometry) -> BaseGeometry:
    """Let an outline end where another crop sees it end, next to the side of a crop at which it ends straight.

    Args:
        parts: that it is joined from; they agree about its ends (:func:`ends_straight`).
        joined: the outline.
    """
    for part in parts:
        for axis, place, line in _sides(part) if part.cut else ():
            beyond = [other.outline for other in parts if _goes_on(other, axis, place)]
            stretch = shapely.intersection(joined.boundary, line.buffer(_ON, cap_style="flat"))
            if beyond and stretch.length > LONGEST:
                joined = shapely.difference(
                    joined, shapely.difference(_about(stretch, axis), shapely.union_all(beyond))
                )
    return joined


def _about(stretch: BaseGeometry, axis: int) -> BaseGeometry:
    """Return what lies close to both sides of straight stretches."""
    more = np.array([-_NEAR, 0, _NEAR, 0]) if axis == 0 else np.array([0, -_NEAR, 0, _NEAR])
    bounds = shapely.bounds(shapely.get_parts(shapely.line_merge(stretch))) + more
    return shapely.union_all(shapely.box(*bounds.T))


def _goes_on(other: Piece, axis: int, place: float) -> bool:
    """Tell whether a crop shows ground on both sides of a line."""
    return other.window[axis] + _NEAR < place < other.window[axis + 2] - _NEAR


def _sides(part: Piece) -> list[tuple[int, float, LineString]]:
    """Return the sides of a part's crop beyond which there is more: axis, place on it, line."""
    left, top, right, bottom = part.window
    lines = [
        (0, left, LineString([(left, top), (left, bottom)])),
        (1, top, LineString([(left, top), (right, top)])),
        (0, right, LineString([(right, top), (right, bottom)])),
        (1, bottom, LineString([(left, bottom), (right, bottom)])),
    ]
    return [side for side, is_open in zip(lines, part.opens, strict=True) if is_open]


def _ends_at(axis: int, place: float, line: LineString, parts: Sequence[Piece], edge: BaseGeometry) -> bool:
    stretch = shapely.intersection(edge, line.buffer(_ON, cap_style="flat"))
    if stretch.length <= LONGEST:
        return False
    # What a crop that goes on there sees end at the same place ends there indeed.
    for other in parts:
        if _goes_on(other, axis, place):
            stretch = shapely.difference(stretch, other.outline.boundary.buffer(_NEAR))
    return bool(stretch.length > LONGEST)
