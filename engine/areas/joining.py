"""From what neighbouring crops saw to objects: none twice, none in parts. Pure; reads only what is near borders.

Coordinates are pixels of the level, counted from the raster's first corner. An object that a crop shows whole belongs
to the crop whose core holds its middle; the same object, seen a little differently by the neighbour, is found by
overlap. One whose middle each of two crops sees on the other's side would be nobody's: so a crop also brings what lies
a little beyond its core, and that stays if another crop shows it too. (If it stayed anyway, the guesses of two crops
would add up along their border.) What a crop's border cuts is part of an object that another crop shows whole, and
goes; or of one larger than a crop, whose parts agree on the ground that two crops share, and are joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from .pieces import Piece
from .straight import ends_straight, without_ledges

CONTINUES = 0.5
"""Parts of one class are of one object where, of the ground that both crops show, they share this much of the less."""

_HINT = 0.1
"""Two outlines that share less than this of the smaller one cannot be of one object, whatever they are joined with."""


@dataclass(frozen=True)
class Rules:
    """When two outlines are of one object.

    Attributes:
        overlap: outlines whose IoU is above this are, whatever their classes; as in ``models/heads/find.py``.
        contained: so are those of one class where this share of the smaller lies in the larger; likewise. None where
            objects may lie in objects: then crops are compared on the ground that they share.
    """

    overlap: float = 0.5
    contained: float | None = 0.8

    def same(self, one: Piece, other: Piece) -> bool:
        """Tell whether two whole outlines are of one object."""
        both = shapely.intersection(one.outline, other.outline).area
        if both > self.overlap * (one.outline.area + other.outline.area - both):
            return True
        if self.contained is None or one.label != other.label:
            return False
        return bool(both > self.contained * min(one.outline.area, other.outline.area))

    def shows(self, part: Piece, whole: Piece) -> bool:
        """Tell whether a part is of an object that another crop shows whole."""
        seen = whole.outline
        if self.contained is None:
            seen = shapely.intersection(seen, shapely.box(*part.window))
        both = shapely.intersection(part.outline, seen).area
        if both > self.overlap * (part.outline.area + seen.area - both):
            return True
        inside = self.contained is not None and both > self.contained * part.outline.area
        return inside and part.label == whole.label

    def go_on(self, one: Piece, other: Piece) -> bool:
        """Tell whether two parts are of one object that is larger than a crop."""
        if one.tile == other.tile or one.label != other.label:
            return False
        left, top = np.maximum(one.window[:2], other.window[:2])
        right, bottom = np.minimum(one.window[2:], other.window[2:])
        if left >= right or top >= bottom:
            return False
        shared = shapely.box(left, top, right, bottom)
        first, second = shapely.intersection(one.outline, shared), shapely.intersection(other.outline, shared)
        both, less = shapely.intersection(first, second).area, min(first.area, second.area)
        if self.contained is None:
            return both > 0 and bool(both > self.overlap * (first.area + second.area - both))
        return less > 0 and bool(both > CONTINUES * less)

    def may_meet(self, one: Piece, other: Piece) -> bool:
        """Tell whether one of two outlines can decide what becomes of the other, now or once parts are joined."""
        if not (one.cut or other.cut):
            return self.same(one, other)
        less = min(one.outline.area, other.outline.area)
        if shapely.intersection(one.outline, other.outline).area <= _HINT * less:
            return False
        if self.contained is not None:
            return True
        if one.cut and other.cut:
            return self.go_on(one, other) or self.same(one, other)
        part, whole = (one, other) if one.cut else (other, one)
        # What is joined from parts is larger than each: one that is much larger already is never the same.
        return self.shows(part, whole) or part.outline.area < whole.outline.area / self.overlap


def middle(outline: MultiPolygon) -> tuple[float, float]:
    """Return the middle of an outline's bounding box: little moves it, and the crop around it shows the most."""
    left, top, right, bottom = outline.bounds
    return (left + right) / 2.0, (top + bottom) / 2.0


def join(pieces: Sequence[Piece], check: Callable[[], None], rules: Rules = Rules()) -> list[Piece]:
    """Make objects of what was seen.

    Args:
        pieces: of all crops, in their order.
        check: called now and then; may raise to cancel.
        rules: when two outlines are of one object.

    Returns:
        Objects, the surest first. Those that were joined have the number of their first crop.
    """
    wholes = _confirmed([piece for piece in pieces if not piece.cut], pieces, check, rules)
    parts = _not_in(wholes, [piece for piece in pieces if piece.cut], check, rules)
    joined = _united(parts, check, rules)
    # An object joined from parts goes before what a single crop took for a whole within it.
    order = sorted([(True, piece) for piece in joined] + [(False, piece) for piece in wholes], key=_rank)
    kept = _distinct([piece for _, piece in order], [is_joined for is_joined, _ in order], check, rules)
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


def _confirmed(
    wholes: Sequence[Piece], pieces: Sequence[Piece], check: Callable[[], None], rules: Rules
) -> list[Piece]:
    """Drop what lies beyond its crop's core and is shown by no other crop."""
    beyond = [piece for piece in wholes if not piece.owned]
    confirmed: set[int] = set()
    for index, other in _pairs(beyond, pieces, check):
        one, witness = beyond[index], pieces[other]
        if index in confirmed or one.tile == witness.tile:
            continue
        check()
        if rules.shows(witness, one) if witness.cut else rules.same(one, witness):
            confirmed.add(index)
    return [*(piece for piece in wholes if piece.owned), *(beyond[index] for index in sorted(confirmed))]


def _not_in(wholes: Sequence[Piece], parts: Sequence[Piece], check: Callable[[], None], rules: Rules) -> list[Piece]:
    """Drop parts of objects that another crop shows whole."""
    known: set[int] = set()
    for part, whole in _pairs(parts, wholes, check):
        if part in known or parts[part].tile == wholes[whole].tile:
            continue
        check()
        if rules.shows(parts[part], wholes[whole]):
            known.add(part)
    return [part for index, part in enumerate(parts) if index not in known]


def groups_of(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Gather what is connected.

    Args:
        count: of the things, which are numbered from 0.
        pairs: of them that belong together.

    Returns:
        Groups in the order of their first members, each in order.
    """
    leader = list(range(count))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for one, other in pairs:
        low, high = sorted((find(one), find(other)))
        leader[high] = low
    groups: dict[int, list[int]] = {}
    for index in range(count):
        groups.setdefault(find(index), []).append(index)
    return list(groups.values())


def _united(parts: Sequence[Piece], check: Callable[[], None], rules: Rules) -> list[Piece]:
    """Join parts that continue each other; a part alone stays where no crop could show more of it.

    Where objects may lie in objects, a part alone goes: another crop that shows more of the ground saw nothing of the
    kind there, and its straight side is the crop's (SAM's generator drops masks at its crops' sides likewise). So goes
    what is joined and still ends straight.
    """
    pairs = _pairs(parts, parts, check)
    groups = groups_of(len(parts), (pair for pair in pairs if pair[0] < pair[1] and _joined(parts, pair, check, rules)))
    alone = rules.contained is not None
    found: list[Piece] = []
    for group in groups:
        check()
        members = [parts[index] for index in group]
        if len(members) == 1:
            found.extend(members if alone and members[0].owned else ())
            continue
        outline = shapely.union_all([piece.outline for piece in members])
        if not alone and ends_straight(members, outline):
            continue
        found.append(_joint(members, outline if alone else without_ledges(members, outline)))
    return found


def _joined(parts: Sequence[Piece], pair: tuple[int, int], check: Callable[[], None], rules: Rules) -> bool:
    check()
    return rules.go_on(parts[pair[0]], parts[pair[1]])


def _joint(group: Sequence[Piece], found: BaseGeometry) -> Piece:
    """Make an object of parts, and of their joint outline."""
    areas = np.array([piece.outline.area for piece in group])
    score = float((areas * [piece.score for piece in group]).sum() / areas.sum())
    whole = MultiPolygon([part for part in shapely.get_parts(found) if isinstance(part, Polygon) and part.area > 0])
    first = group[0]
    return Piece(first.tile, whole.bounds, whole, first.label, score, cut=False, owned=True, border=True)


def _distinct(pieces: Sequence[Piece], joined: Sequence[bool], check: Callable[[], None], rules: Rules) -> list[Piece]:
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
        if any(rules.same(pieces[index], pieces[earlier]) for earlier in before):
            gone.add(index)
    return [piece for index, piece in enumerate(pieces) if index not in gone]


def connected(pieces: Sequence[Piece], check: Callable[[], None], rules: Rules = Rules()) -> list[list[int]]:
    """Part pieces into groups that can be joined each by itself: nothing in one decides what becomes of another's.

    Args:
        pieces: of any crops.
        check: called now and then; may raise to cancel.
        rules: when two outlines are of one object.

    Returns:
        Indices, in the order of the groups' first pieces.
    """

    def meeting() -> Iterator[tuple[int, int]]:
        for one, other in _pairs(pieces, pieces, check):
            if one < other and rules.may_meet(pieces[one], pieces[other]):
                check()
                yield one, other

    return groups_of(len(pieces), meeting())
