"""Parting the labelled objects by blocks of ground into those to learn from and those to measure on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from .dataset import Dataset

FEWEST = 5
"""With fewer objects none is held out: what is left would teach, and what is held out would prove, next to nothing."""

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
    """

    train: tuple[int, ...]
    held_out: tuple[int, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()

    @property
    def forbidden(self) -> BaseGeometry:
        """Ground that is not learnt from, in the first raster's CRS."""
        return shapely.union_all([block.geometry for block in self.blocks if block.held_out])

    def in_words(self) -> str:
        """Describe it for the adapter's card."""
        held = sum(block.held_out for block in self.blocks)
        if not held:
            return "no hold-out"
        return (
            f"{len(self.blocks)} blocks of ground, {held} of them held out: "
            f"{len(self.train)} objects to learn from, {len(self.held_out)} to measure on"
        )


def split(dataset: Dataset, share: float, seed: int) -> Split:
    """Hold out blocks of ground with about a share of the objects.

    Blocks are as large as a crop if that leaves five with objects in them, else smaller. One polygon on several rasters
    is always on one side; the parts of a multipolygon are objects of their own.

    Args:
        dataset: the ground.
        share: of the objects to hold out; 0 for none.
        seed: of the draw.
    """
    everyone = tuple(range(len(dataset.objects)))
    features = len({(item.row, item.part) for item in dataset.objects})
    blocks, small = _blocks(dataset)
    if share <= 0:
        return Split(everyone, (), blocks, ("Nothing is held out, so it is not known whether the adapter is better.",))
    if features < FEWEST or len(blocks) < 2:
        why = _only(features) if features < FEWEST else "All objects lie in one place"
        text = f"{why}: too few to hold some out, so it is not known whether the adapter is better. Draw more."
        return Split(everyone, (), blocks, (text,))
    chosen = _draw(blocks, len(everyone), share, _labels(dataset), np.random.default_rng(seed))
    notes = ("The objects lie close together: those held out may show in pictures of the others.",) if small else ()
    return replace(_parted(dataset, blocks, chosen), notes=notes)


def leave_one_out(dataset: Dataset) -> Iterator[Split]:
    """Hold out each block of ground in turn: with few objects, the mean over all of these says more than one split."""
    blocks, _ = _blocks(dataset)
    if len(blocks) < 2:
        return
    for number in range(len(blocks)):
        yield _parted(dataset, blocks, {number})


def _parted(dataset: Dataset, blocks: Sequence[Block], chosen: set[int]) -> Split:
    marked = tuple(replace(block, held_out=number in chosen) for number, block in enumerate(blocks))
    held = {index for block in marked if block.held_out for index in block.objects}
    polygons = {(dataset.objects[index].row, dataset.objects[index].part) for index in held}
    held |= {index for index, item in enumerate(dataset.objects) if (item.row, item.part) in polygons}
    everyone = range(len(dataset.objects))
    train = tuple(index for index in everyone if index not in held)
    return Split(train, tuple(sorted(held)), marked)


def _blocks(dataset: Dataset) -> tuple[tuple[Block, ...], bool]:
    """Return the occupied blocks, and whether they are smaller than crops."""
    anchors = dataset.anchors()
    sides = []
    for number in range(len(dataset.objects)):
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
