"""Which objects of one date are those of another, tolerant of misregistration. Pure: shapely and numpy only.

Two outlines agree as far as each lies within the other, *widened by the tolerance*: shifting all objects of a date by
less than that changes nothing. First, objects are paired one to one, such that they agree as well as possible in all.
What is left joins the object of the other date that covers most of it, so that one object that was outlined in two
halves on the other date is neither gone nor new. Nothing here knows which date came first, but the names of the kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from shapely.geometry.base import BaseGeometry

_SAME_CLASS = 0.1
"""How much more a pair of one class counts than one of two, when either could be."""

_NEARER = 1e-4
"""How much the plain overlap counts, where two pairings agree equally well."""

_QUARTER_SEGMENTS = 8
"""Of a circle's quarter, in outlines that are widened."""


class ChangeKind(StrEnum):
    """What became of objects."""

    NEW = "new"
    GONE = "gone"
    CHANGED = "changed"
    STABLE = "stable"


@dataclass(frozen=True)
class Tolerance:
    """When objects count as the same.

    Attributes:
        shift: by which the dates may be misregistered, in units of the coordinates.
        match: least agreement of a pair, 0 to 1.
        part: least share of an object that the other date must cover for it to be a part of something there.
        stable: least agreement of what did not change, 0 to 1.
    """

    shift: float
    match: float = 0.3
    part: float = 0.5
    stable: float = 0.8


@dataclass(frozen=True)
class DatedObject:
    """An object of one date.

    Attributes:
        shape: valid polygon with an area.
        label: its class; empty where it has none.
    """

    shape: BaseGeometry
    label: str = ""


@dataclass(frozen=True)
class Change:
    """What became of one object, or of some that belong together.

    Attributes:
        kind: new, gone, changed or stable.
        before: places of the objects in the list of the first date, and
        after: of the second; one of the two may be empty.
        agreement: 0 to 1; 0 where there is nothing to agree with.
        relabelled: the class is another one.
    """

    kind: ChangeKind
    before: tuple[int, ...]
    after: tuple[int, ...]
    agreement: float
    relabelled: bool = False


class _Side:
    """The objects of one date, with their widened outlines."""

    def __init__(self, objects: Sequence[DatedObject], shift: float) -> None:
        self.labels = [item.label for item in objects]
        self.shapes = np.array([item.shape for item in objects], dtype=object)
        self.wide = shapely.buffer(self.shapes, shift, quad_segs=_QUARTER_SEGMENTS)
        self.areas = shapely.area(self.shapes)

    def union(self, places: Sequence[int]) -> BaseGeometry:
        return shapely.union_all(self.shapes[list(places)])


@dataclass(frozen=True)
class _Pairs:
    """Objects that touch within the tolerance: their places, and which share of each the other covers.

    Attributes:
        a: places in the first date, and
        b: in the second.
        a_in_b: share of the first that lies in the second, widened, and
        b_in_a: the other way round.
        plain: intersection over union, without widening.
    """

    a: NDArray[np.intp]
    b: NDArray[np.intp]
    a_in_b: NDArray[np.float64]
    b_in_a: NDArray[np.float64]
    plain: NDArray[np.float64]

    @property
    def agreement(self) -> NDArray[np.float64]:
        return np.minimum(self.a_in_b, self.b_in_a)


def match(before: Sequence[DatedObject], after: Sequence[DatedObject], tolerance: Tolerance) -> list[Change]:
    """Say what became of each object.

    Args:
        before: objects of the first date.
        after: objects of the second date, in the same coordinates.
        tolerance: when they count as the same.

    Returns:
        Every object in exactly one change; in the order of the first date, new ones last.
    """
    first, second = _Side(before, tolerance.shift), _Side(after, tolerance.shift)
    pairs = _touching(first, second)
    paired = _paired(pairs, first, second, tolerance.match)
    joined = _joined(pairs, paired, (len(before), len(after)), tolerance.part)
    groups = _groups(np.concatenate([paired, joined]), len(before), len(after))
    return [_change(group, first, second, tolerance) for group in groups]


def _touching(first: _Side, second: _Side) -> _Pairs:
    if not len(first.shapes) or not len(second.shapes):
        nothing, none = np.zeros(0, np.intp), np.zeros(0)
        return _Pairs(nothing, nothing, none, none, none)
    a, b = shapely.STRtree(second.wide).query(first.wide, predicate="intersects")
    shared = shapely.area(shapely.intersection(first.shapes[a], second.shapes[b]))
    return _Pairs(
        a,
        b,
        shapely.area(shapely.intersection(first.shapes[a], second.wide[b])) / first.areas[a],
        shapely.area(shapely.intersection(first.wide[a], second.shapes[b])) / second.areas[b],
        shared / (first.areas[a] + second.areas[b] - shared),
    )


def _paired(pairs: _Pairs, first: _Side, second: _Side, least: float) -> NDArray[np.intp]:
    """Return (N, 2) places of objects paired one to one, such that they agree as well as possible in all."""
    likely = np.flatnonzero(pairs.agreement >= least)
    if not len(likely):
        return np.zeros((0, 2), np.intp)
    a, b = pairs.a[likely], pairs.b[likely]
    same = np.array([first.labels[i] == second.labels[j] for i, j in zip(a, b, strict=True)])
    gains = pairs.agreement[likely] + _SAME_CLASS * same + _NEARER * pairs.plain[likely]
    count = len(first.shapes)
    links = coo_matrix((np.ones(len(a)), (a, b + count)), (count + len(second.shapes),) * 2)
    _, names = connected_components(links, directed=False)
    order = np.argsort(names[a], kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(names[a][order])) + 1)
    return np.concatenate([_best(a[part], b[part], gains[part]) for part in parts])


def _best(a: NDArray[np.intp], b: NDArray[np.intp], gains: NDArray[np.float64]) -> NDArray[np.intp]:
    """Pair the objects of one cluster."""
    rows, row = np.unique(a, return_inverse=True)
    columns, column = np.unique(b, return_inverse=True)
    table = np.zeros((len(rows), len(columns)))
    table[row, column] = gains
    chosen = linear_sum_assignment(table, maximize=True)
    real = table[chosen] > 0
    return np.column_stack([rows[chosen[0][real]], columns[chosen[1][real]]])


def _joined(pairs: _Pairs, paired: NDArray[np.intp], counts: tuple[int, int], least: float) -> NDArray[np.intp]:
    """Return (N, 2) places: each object without a partner, and the one of the other date that covers most of it."""
    found = []
    for side, (own, shares) in enumerate(((pairs.a, pairs.a_in_b), (pairs.b, pairs.b_in_a))):
        alone = np.ones(counts[side], bool)
        alone[paired[:, side]] = False
        usable = np.flatnonzero(alone[own] & (shares >= least))
        best = usable[np.lexsort((-pairs.plain[usable], -shares[usable], own[usable]))]
        _, firsts = np.unique(own[best], return_index=True)
        chosen = best[firsts]
        found.append(np.column_stack([pairs.a[chosen], pairs.b[chosen]]))
    return np.concatenate(found).astype(np.intp)


def _groups(links: NDArray[np.intp], before: int, after: int) -> list[tuple[list[int], list[int]]]:
    """Return the places that hang together by links, each object in one group."""
    total = before + after
    graph = coo_matrix((np.ones(len(links)), (links[:, 0], links[:, 1] + before)), (total, total))
    _, names = connected_components(graph, directed=False)
    groups: dict[int, tuple[list[int], list[int]]] = {}
    for place, name in enumerate(names.tolist()):
        members = groups.setdefault(name, ([], []))
        if place < before:
            members[0].append(place)
        else:
            members[1].append(place - before)
    return list(groups.values())


def _change(group: tuple[list[int], list[int]], first: _Side, second: _Side, tolerance: Tolerance) -> Change:
    before, after = (tuple(places) for places in group)
    if not after:
        return Change(ChangeKind.GONE, before, after, 0.0)
    if not before:
        return Change(ChangeKind.NEW, before, after, 0.0)
    old, new = first.union(before), second.union(after)
    agreement = min(_share(old, new, tolerance.shift), _share(new, old, tolerance.shift))
    relabelled = {first.labels[place] for place in before} != {second.labels[place] for place in after}
    stable = agreement >= tolerance.stable and not relabelled
    return Change(ChangeKind.STABLE if stable else ChangeKind.CHANGED, before, after, agreement, relabelled)


def _share(shape: BaseGeometry, other: BaseGeometry, shift: float) -> float:
    """Return which share of a shape lies in another one, widened."""
    wide = shapely.buffer(other, shift, quad_segs=_QUARTER_SEGMENTS)
    return float(min(1.0, shapely.intersection(shape, wide).area / shape.area))
