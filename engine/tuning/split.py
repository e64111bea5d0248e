"""Parting the labelled objects by blocks of ground into those to learn from and those to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..progress import Check, never_stops
from ..tune_messages import Parting
from .dataset import Dataset

FEWEST = 3
"""With fewer objects nothing can be measured: what is left would teach, and one that is held out prove, nothing."""

LEAST_HELD = 4
"""When a hold-out would have fewer objects, every block of ground is held out once instead."""

ENOUGH, MOST_SHARE = 10, 1 / 3
"""So many objects are held out at least, where that leaves two thirds to learn from: fewer hardly prove anything."""

MOST_FOLDS = 4

_BLOCKS = 5
_HALVINGS = 4
_DRAWS = 200


@dataclass(frozen=True)
class Block:
    """A square of ground.

    Attributes:
        geometry: in the first raster's CRS.
        objects: indices of the objects whose middle lies in it.
        held_out: they are measured on, and nothing in it is learnt from.
    """

    geometry: BaseGeometry
    objects: tuple[int, ...]
    held_out: bool = False


@dataclass(frozen=True)
class Split:
    """Who learns and who measures.

    Attributes:
        train: indices of objects.
        held_out: likewise; empty where nothing could be held out.
        blocks: the ground of all of them.
        notes: what the user should know, as sentences.
        parting: how it was made. With EACH_BLOCK everyone is to learn from in the end, and :func:`folds` are measured.
    """

    train: tuple[int, ...]
    held_out: tuple[int, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()
    parting: Parting = Parting.BLOCKS

    @property
    def forbidden(self) -> BaseGeometry:
        """Ground that is not learnt from, in the first raster's CRS."""
        return shapely.union_all([block.geometry for block in self.blocks if block.held_out])

    def in_words(self) -> str:
        """Describe it for the adapter's card."""
        if self.parting is Parting.EACH_BLOCK:
            count = min(MOST_FOLDS, len(self.blocks))
            return f"{len(self.blocks)} blocks of ground in {count} parts, each held out once; then all objects learnt"
        held = sum(block.held_out for block in self.blocks)
        if not held:
            return "no hold-out"
        return (
            f"{len(self.blocks)} blocks of ground, {held} of them held out: "
            f"{len(self.train)} objects to learn from, {len(self.held_out)} to measure on"
        )


def parting_of(dataset: Dataset, share: float) -> Parting:
    """Say how the objects are to be parted.

    Args:
        dataset: the ground.
        share: of the objects to hold out; 0 for none.
    """
    return _parting(_features(dataset), len(_blocks(dataset, never_stops)[0]), share)


def _parting(features: int, blocks: int, share: float) -> Parting:
    if share <= 0 or features < FEWEST or blocks < 2:
        return Parting.NONE
    return Parting.EACH_BLOCK if round(share * features) < LEAST_HELD else Parting.BLOCKS


def split(dataset: Dataset, share: float, seed: int, check: Check = never_stops) -> Split:
    """Hold out blocks of ground with about a share of the objects; with few objects more, or none, see :func:`folds`.

    Blocks are as large as a crop if that leaves five with objects in them, else smaller. One polygon on several rasters
    is always on one side; the parts of a multipolygon are objects of their own.

    Args:
        dataset: the ground.
        share: of the objects to hold out; 0 for none. Where it is less than ten of them, ten or a third are held out.
        seed: of the draw.
        check: called for every object; may raise to stop.
    """
    everyone = tuple(range(len(dataset.objects)))
    blocks, small = _blocks(dataset, check)
    close = ("The objects lie close together: those held out may show in pictures of the others.",) if small else ()
    parting = _parting(_features(dataset), len(blocks), share)
    if parting is Parting.NONE:
        return Split(everyone, (), blocks, (_unmeasured(dataset, share),), parting)
    if parting is Parting.EACH_BLOCK:
        text = (
            "There are too few objects to keep some of them away from the adapter. Others are measured instead, each "
            "of which learns without a part of the ground; the adapter itself learns from all objects."
        )
        return Split(everyone, (), blocks, (text, *close), parting)
    share = max(share, min(ENOUGH / len(everyone), MOST_SHARE))
    chosen = _draw(blocks, len(everyone), share, _labels(dataset), np.random.default_rng(seed))
    return replace(_parted(dataset, blocks, chosen), notes=close)


def folds(dataset: Dataset, seed: int) -> tuple[Split, ...]:
    """Hold out every block of ground once, in at most four groups of blocks with about as many objects each.

    Args:
        dataset: the ground.
        seed: of the order among blocks with as many objects.
    """
    blocks, _ = _blocks(dataset, never_stops)
    mixed = np.random.default_rng(seed).permutation(len(blocks)).tolist()
    groups: list[set[int]] = [set() for _ in range(min(MOST_FOLDS, len(blocks)))]
    sizes = [0] * len(groups)
    for number in sorted(mixed, key=lambda place: -len(blocks[place].objects)):
        least = sizes.index(min(sizes))
        groups[least].add(number)
        sizes[least] += len(blocks[number].objects)
    parted = [_parted(dataset, blocks, group) for group in groups]
    return tuple(one for one in parted if one.train and one.held_out)


def _features(dataset: Dataset) -> int:
    return len({(item.row, item.part) for item in dataset.objects})


def _unmeasured(dataset: Dataset, share: float) -> str:
    if share <= 0:
        return "Nothing is held out, so it is not known whether the adapter is better."
    features = _features(dataset)
    why = _only(features) if features < FEWEST else "All objects lie in one place"
    return f"{why}: too few to hold some out, so it is not known whether the adapter is better. Draw more."


def _parted(dataset: Dataset, blocks: Sequence[Block], chosen: set[int]) -> Split:
    marked = tuple(replace(block, held_out=number in chosen) for number, block in enumerate(blocks))
    held = {index for block in marked if block.held_out for index in block.objects}
    polygons = {(dataset.objects[index].row, dataset.objects[index].part) for index in held}
    held |= {index for index, item in enumerate(dataset.objects) if (item.row, item.part) in polygons}
    everyone = range(len(dataset.objects))
    train = tuple(index for index in everyone if index not in held)
    return Split(train, tuple(sorted(held)), marked)


def _blocks(dataset: Dataset, check: Check) -> tuple[tuple[Block, ...], bool]:
    """Return the occupied blocks, and whether they are smaller than crops."""
    anchors = dataset.anchors()
    sides = []
    for number in range(len(dataset.objects)):
        check()
        raster, crop = dataset.place(number)
        sides.append(crop.side * dataset.frames[raster].pixel_size)
    whole = float(np.median(sides))
    best: tuple[Block, ...] = ()
    for halvings in range(_HALVINGS):
        found = _tiled(anchors, whole / 2**halvings)
        if len(found) > len(best):
            best, small = found, halvings > 0
        if len(best) >= _BLOCKS:
            break
    return best, small


def _tiled(anchors: NDArray[np.float64], side: float) -> tuple[Block, ...]:
    low = anchors.min(axis=0)
    cells = np.floor((anchors - low) / side).astype(int)
    found: dict[tuple[int, int], list[int]] = {}
    for index, (column, row) in enumerate(cells.tolist()):
        found.setdefault((column, row), []).append(index)
    blocks = []
    for (column, row), members in sorted(found.items()):
        x, y = low + np.array([column, row]) * side
        blocks.append(Block(shapely.box(x, y, x + side, y + side), tuple(members)))
    return tuple(blocks)


def _only(objects: int) -> str:
    return "There is only 1 object" if objects == 1 else f"There are only {objects} objects"


def _labels(dataset: Dataset) -> list[str]:
    return [item.label for item in dataset.objects]


def _draw(
    blocks: Sequence[Block], total: int, share: float, labels: Sequence[str], rng: np.random.Generator
) -> set[int]:
    """Choose blocks at random, of many draws the one that comes closest to the share, in all and in each class."""
    classes = sorted(set(labels))
    counts = np.array([[sum(labels[i] == name for i in block.objects) for name in classes] for block in blocks])
    wanted = share * counts.sum(axis=0)
    best: tuple[float, set[int]] | None = None
    for _ in range(_DRAWS):
        chosen: list[int] = []
        for number in rng.permutation(len(blocks)).tolist():
            if counts[chosen].sum() >= share * total:
                break
            if len(chosen) < len(blocks) - 1:
                chosen.append(number)
        held = counts[chosen].sum(axis=0)
        distance = float(np.abs(held - wanted).sum() + abs(held.sum() - share * total))
        if held.sum() and held.sum() < total and (best is None or distance < best[0]):
            best = (distance, set(chosen))
    return best[1] if best is not None else {0}
