"""Whether an outline joined from parts still ends straight where a crop ended: then its crops do not agree.

Pure. Coordinates are pixels of the level, as in :mod:`.joining`.
"""

from __future__ import annotations

from collections.abc import Sequence

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
        low, high = other.window[axis], other.window[axis + 2]
        if low + _NEAR < place < high - _NEAR:
            stretch = shapely.difference(stretch, other.outline.boundary.buffer(_NEAR))
    return bool(stretch.length > LONGEST)
