"""Objects on the borders of units: kept in pieces, and joined in the end as if there had been one unit.

What becomes of a piece depends only on pieces that it meets. So the pieces of a unit fall into groups; those of which
none can meet a piece of another unit are joined at once, the others are kept as they are. Joining what all units kept
gives what joining all pieces at once would: no object twice, none lost, none cut.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import shapely

from ..areas.joining import Rules, connected, join
from ..areas.pieces import Piece
from ..areas.tiles import Axis, TilePlan
from .items import Fragment

_HAIR = 1e-6
Window = tuple[float, float, float, float]


def own_ground(plan: TilePlan, block: tuple[int, int, int, int]) -> Window:
    """Return the part of a block of tiles that no tile of another block shows.

    Args:
        plan: of the tiles.
        block: first and end row, first and end column.

    Returns:
        Left, top, right, bottom, pixels of the level; infinite where the raster ends.
    """
    first, end, left, right = block
    scale = 2.0**plan.level
    low_x, high_x = _own(plan.columns, left, right)
    low_y, high_y = _own(plan.rows, first, end)
    return low_x / scale, low_y / scale, high_x / scale, high_y / scale


def _own(axis: Axis, first: int, end: int) -> tuple[float, float]:
    low = axis.origin(first - 1) + axis.side if first > 0 else -math.inf
    high = axis.origin(end) if end < len(axis) else math.inf
    return low, high


def part(
    pieces: Sequence[Piece], own: Window, rules: Rules, check: Callable[[], None]
) -> tuple[list[Piece], list[Piece]]:
    """Part a unit's pieces into those that are nobody else's business and those that are.

    Args:
        pieces: of all tiles of the unit.
        own: ground that no other unit shows.
        rules: when two outlines are of one object.
        check: called now and then; may raise to cancel.

    Returns:
        The objects joined from the former, and the latter as they are.
    """
    inner: list[Piece] = []
    kept: list[Piece] = []
    for group in connected(pieces, check, rules):
        members = [pieces[index] for index in group]
        (kept if any(_leaves(piece, own) for piece in members) else inner).extend(members)
    return join(inner, check, rules), kept


def _leaves(piece: Piece, own: Window) -> bool:
    left, top, right, bottom = piece.outline.bounds
    return left < own[0] - _HAIR or top < own[1] - _HAIR or right > own[2] + _HAIR or bottom > own[3] + _HAIR


def join_rows(
    rows: Iterable[tuple[Sequence[Piece], float]], rules: Rules, check: Callable[[], None]
) -> Iterator[list[Piece]]:
    """Join what the units kept, row of units by row of units, so that only the rows that still meet are held.

    Args:
        rows: from top to bottom: the pieces of a row of units, and the highest place that a later row may show.
        rules: when two outlines are of one object.
        check: called now and then; may raise to cancel.

    Yields:
        Objects that no later row can change.
    """
    open_pieces: list[Piece] = []
    for pieces, following in rows:
        check()
        open_pieces.extend(pieces)
        ready: list[Piece] = []
        waiting: list[Piece] = []
        for group in connected(open_pieces, check, rules):
            members = [open_pieces[index] for index in group]
            closed = all(piece.outline.bounds[3] <= following + _HAIR for piece in members)
            (ready if closed else waiting).extend(members)
        open_pieces = waiting
        yield join(ready, check, rules)
    yield join(open_pieces, check, rules)


def packed(piece: Piece, label: str) -> Fragment:
    """Make of a piece what the job file holds of it.

    Args:
        piece: of an object.
        label: name of its class.
    """
    extra = {
        "window": piece.window,
        "class": piece.label,
        "flags": [piece.cut, piece.owned, piece.border, *piece.opens],
    }
    return Fragment(piece.tile, piece.outline.wkb, label, piece.score, json.dumps(extra))


def unpacked(fragment: Fragment) -> Piece:
    """Make a piece of what the job file holds."""
    extra = json.loads(fragment.extra)
    cut, owned, border, *opens = extra["flags"]
    outline, window = shapely.from_wkb(fragment.wkb), tuple(extra["window"])
    sides = tuple(opens or (True,) * 4)  # jobs begun before this was noted say nothing
    return Piece(fragment.tile, window, outline, extra["class"], fragment.score, cut, owned, border, sides)
