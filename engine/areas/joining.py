"""From what neighbouring crops saw to objects: none twice, none in parts. Pure; reads only what is near borders.

Coordinates are pixels of the level, counted from the raster's first corner. An object that a crop shows whole belongs
to the crop whose core holds its middle; the same object, seen a little differently by the neighbour, is found by
overlap. What a crop's border cuts is part of an object that another crop shows whole, and goes; or of one larger than a
crop, whose parts agree on the ground that two crops share, and are joined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

OVERLAP = 0.5
"""Outlines whose IoU is above this are of one object, whatever their classes; as in ``models/heads/find.py``."""

CONTAINED = 0.8
"""So are those of one class where this share of the smaller lies in the larger; likewise."""

CONTINUES = 0.5
"""Parts of one class are of one object where, of the ground that both crops show, they share this much of the less."""


@dataclass(frozen=True)
class Piece:
    """An object, or a part of one, as one crop shows it.

    Attributes:
        tile: number of the crop.
        window: left, top, right, bottom of the crop.
        outline: valid.
        label: its class.
        score: 0 to 1.
        cut: it reaches a side of the crop beyond which the raster goes on.
        owned: its middle lies in the crop's core.
        border: it reaches beyond the core, so that a neighbour may have it too.
    """

    tile: int
    window: tuple[float, float, float, float]
    outline: MultiPolygon
    label: int
    score: float
    cut: bool
    owned: bool
    border: bool


def middle(outline: MultiPolygon) -> tuple[float, float]:
    """Return the middle of an outline's bounding box: little moves it, and the crop around it shows the most."""
    left, top, right, bottom = outline.bounds
    return (left + right) / 2.0, (top + bottom) / 2.0


def join(pieces: Sequence[Piece], check: Callable[[], None]) -> list[Piece]:
    """Make objects of what was seen.

    Args:
        pieces: of all crops, in their order.
        check: called now and then; may raise to cancel.

    Returns:
        Objects, the surest first. Those that were joined have the number of their first crop.
    """
    wholes = [piece for piece in pieces if not piece.cut]
    parts = _not_in(wholes, [piece for piece in pieces if piece.cut], check)
    joined = _united(parts, check)
    # An object joined from parts goes before what a single crop took for a whole within it.
    order = sorted([(True, piece) for piece in joined] + [(False, piece) for piece in wholes], key=_rank)
    kept = _distinct([piece for _, piece in order], [is_joined for is_joined, _ in order], check)
    return sorted(kept, key=lambda piece: (-piece.score, piece.tile, piece.outline.bounds))


def _rank(item: tuple[bool, Piece]) -> tuple[object, ...]:
    is_joined, piece = item
    return (not is_joined, -piece.score, piece.tile, piece.outline.bounds)


def _pairs(left: Sequence[Piece], right: Sequence[Piece], check: Callable[[], None]) -> list[tuple[int, int]]:
    """Return the indices of pieces whose bounds meet, in order."""
    if not left or not right:
        return []
    check()
    tree = shapely.STRtree([shapely.box(*piece.outline.bounds) for piece in right])
    first, second = tree.query([shapely.box(*piece.outline.bounds) for piece in left])
    return sorted(zip(first.tolist(), second.tolist(), strict=True))


def _not_in(wholes: Sequence[Piece], parts: Sequence[Piece], check: Callable[[], None]) -> list[Piece]:
    """Drop parts of objects that another crop shows whole."""
    known: set[int] = set()
    for part, whole in _pairs(parts, wholes, check):
        if part in known or parts[part].tile == wholes[whole].tile:
            continue
        check()
        both = shapely.intersection(parts[part].outline, wholes[whole].outline).area
        either = parts[part].outline.area + wholes[whole].outline.area - both
        inside = parts[part].label == wholes[whole].label and both > CONTAINED * parts[part].outline.area
        if inside or both > OVERLAP * either:
            known.add(part)
    return [part for index, part in enumerate(parts) if index not in known]


def _united(parts: Sequence[Piece], check: Callable[[], None]) -> list[Piece]:
    """Join parts that continue each other; a part alone stays where no crop could show more of it."""
    leader = list(range(len(parts)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for one, other in _pairs(parts, parts, check):
        if one < other and find(one) != find(other) and _continue(parts[one], parts[other]):
            low, high = sorted((find(one), find(other)))
            leader[high] = low
        check()
    groups: dict[int, list[Piece]] = {}
    for index, part in enumerate(parts):
        groups.setdefault(find(index), []).append(part)
    return [_union(group) for group in groups.values() if len(group) > 1 or group[0].owned]


def _continue(one: Piece, other: Piece) -> bool:
    if one.tile == other.tile or one.label != other.label:
        return False
    left, top = np.maximum(one.window[:2], other.window[:2])
    right, bottom = np.minimum(one.window[2:], other.window[2:])
    if left >= right or top >= bottom:
        return False
    shared = shapely.box(left, top, right, bottom)
    first, second = shapely.intersection(one.outline, shared), shapely.intersection(other.outline, shared)
    less = min(first.area, second.area)
    return less > 0 and bool(shapely.intersection(first, second).area > CONTINUES * less)


def _union(group: Sequence[Piece]) -> Piece:
    if len(group) == 1:
        return group[0]
    areas = np.array([piece.outline.area for piece in group])
    score = float((areas * [piece.score for piece in group]).sum() / areas.sum())
    found = shapely.union_all([piece.outline for piece in group])
    whole = MultiPolygon([part for part in shapely.get_parts(found) if isinstance(part, Polygon) and part.area > 0])
    first = group[0]
    return Piece(first.tile, whole.bounds, whole, first.label, score, cut=False, owned=True, border=True)


def _distinct(pieces: Sequence[Piece], joined: Sequence[bool], check: Callable[[], None]) -> list[Piece]:
    """Drop what comes after another outline of the same object; what lies within its core meets no neighbour."""
    near = [index for index, piece in enumerate(pieces) if piece.border]
    rivals: dict[int, set[int]] = {}
    for place, other in _pairs([pieces[index] for index in near], pieces, check):
        one = near[place]
        same_view = pieces[one].tile == pieces[other].tile and not (joined[one] or joined[other])
        if one != other and not same_view:
            rivals.setdefault(max(one, other), set()).add(min(one, other))
    gone: set[int] = set()
    for index in range(len(pieces)):
        check()
        before = sorted(rivals.get(index, set()) - gone)
        if any(_same(pieces[index], pieces[earlier]) for earlier in before):
            gone.add(index)
    return [piece for index, piece in enumerate(pieces) if index not in gone]


def _same(one: Piece, other: Piece) -> bool:
    both = shapely.intersection(one.outline, other.outline).area
    if both > OVERLAP * (one.outline.area + other.outline.area - both):
        return True
    return one.label == other.label and bool(both > CONTAINED * min(one.outline.area, other.outline.area))
