"""Find all objects of an area with an adapter's instance head, crop by crop. Memory: a batch of crops, and outlines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from .. import outlines
from ..crops import HOLD_MARGIN, Crop, CropFrame
from ..ground import aspect
from ..messages import OutlineOptions
from ..progress import Progress
from ..tuning.reading import CropInputs
from .joining import join, middle
from .looking import Candidate, FindLook
from .pieces import Piece
from .reading import CropReader
from .tiles import Tile, TilePlan

SEARCHED = 0.95
"""Fraction of the work that is done when all crops are looked at; the rest is joining."""


@dataclass(frozen=True)
class AreaObject:
    """An object on the ground.

    Attributes:
        outline: valid MultiPolygon in the raster's CRS.
        label: index of its class.
        score: 0 to 1.
    """

    outline: shapely.MultiPolygon
    label: int
    score: float


@dataclass(frozen=True)
class AreaFinds:
    """What was found.

    Attributes:
        objects: the surest first.
        crops: that were looked at.
        skipped: that have no data.
        cut_off: objects beyond the most that were wanted.
    """

    objects: tuple[AreaObject, ...]
    crops: int
    skipped: int
    cut_off: int


class Finder:
    """Looks at the crops of a plan and turns what is seen into objects."""

    def __init__(self, plan: TilePlan, reader: CropReader, look: FindLook, progress: Progress) -> None:
        """Join the parts.

        Args:
            plan: which crops.
            reader: of the raster.
            look: the model.
            progress: hears of the crops; may cancel between and within them.
        """
        self._plan, self._reader, self._look, self._progress = plan, reader, look, progress
        self.crops = self.skipped = 0

    def find(self, area: BaseGeometry | None, options: OutlineOptions, most: int) -> AreaFinds:
        """Find all objects whose middle lies in an area.

        Args:
            area: polygon in the raster's CRS; None for the whole raster.
            options: how outlines are cleaned.
            most: objects at most; the surest stay.

        Raises:
            RasterError: the raster cannot be read.
            CancelledByUser: from ``progress.check``.
        """
        found = within(join(list(self.pieces()), self._progress.check), self._plan, area)
        kept = [made for piece in found[:most] if (made := self._on_ground(piece, options)) is not None]
        return AreaFinds(tuple(kept), self.crops, self.skipped, max(0, len(found) - most))

    def pieces(self) -> Iterator[Piece]:
        """Yield what each crop of the plan contributes, crop by crop."""
        batch: list[tuple[Tile, CropInputs]] = []
        for number, tile in enumerate(self._plan):
            self._progress.check()
            message = f"Looking for objects, part {number + 1} of {self._plan.count}"
            self._progress.report(SEARCHED * number / self._plan.count, message)
            inputs = self._reader.read(tile.crop, self._progress.check)
            if inputs is None:
                self.skipped += 1
                continue
            batch.append((tile, inputs))
            if len(batch) >= self._look.batch:
                yield from self._seen(batch)
                batch = []
        if batch:
            yield from self._seen(batch)
        self._progress.report(SEARCHED, "Joining what lies on the borders of two parts")

    def _seen(self, batch: Sequence[tuple[Tile, CropInputs]]) -> Iterator[Piece]:
        answers = self._look.look([inputs for _, inputs in batch], self._progress.check)
        for (tile, inputs), candidates in zip(batch, answers, strict=True):
            self.crops += 1
            valid = None if inputs.valid.all() else inputs.valid
            for candidate in candidates:
                self._progress.check()
                piece = contributed(self._plan, tile, candidate, valid)
                if piece is not None:
                    yield piece

    def _on_ground(self, piece: Piece, options: OutlineOptions) -> AreaObject | None:
        self._progress.check()
        return on_ground(piece, self._plan, self._reader.source.info.crs_wkt, options)


def _to_map(plan: TilePlan, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return plan.frame.to_map(points * 2.0**plan.level)


def within(pieces: list[Piece], plan: TilePlan, area: BaseGeometry | None) -> list[Piece]:
    """Return the objects whose middle lies in an area.

    Args:
        pieces: objects.
        plan: that they were found in.
        area: polygon in the raster's CRS; None for everywhere.
    """
    if area is None or not pieces:
        return pieces
    anchors = shapely.points(_to_map(plan, np.array([middle(piece.outline) for piece in pieces])))
    shapely.prepare(area)
    return [piece for piece, at in zip(pieces, anchors, strict=True) if shapely.covers(area, at)]


def on_ground(piece: Piece, plan: TilePlan, crs_wkt: str, options: OutlineOptions) -> AreaObject | None:
    """Clean an object's outline and bring it to the ground; None where nothing is left of it.

    Args:
        piece: the object.
        plan: that it was found in.
        crs_wkt: of the raster.
        options: how outlines are cleaned.
    """
    # A crop at the raster's first corner has the pixels of the level for its own, however far they reach.
    frame = CropFrame(plan.frame, Crop(plan.level, plan.size, 0, 0))
    _, y = _to_map(plan, np.array([middle(piece.outline)]))[0]
    outline = outlines.to_map(piece.outline, frame, options, aspect=aspect(crs_wkt, float(y)))
    return None if outline.is_empty else AreaObject(outline, piece.label, piece.score)


def contributed(plan: TilePlan, tile: Tile, candidate: Candidate, valid: NDArray[np.bool_] | None) -> Piece | None:
    """Return what a crop contributes of an object that it shows; None where that is a neighbour's to do.

    Args:
        plan: that the crop is of.
        tile: the crop.
        candidate: the object as the model answers it.
        valid: (S, S), where the raster has data; None: everywhere.
    """
    frame, size = CropFrame(plan.frame, tile.crop), tile.crop.size
    cell = size / candidate.logits.shape[1]
    traced = outlines.clip_to_valid(outlines.trace(candidate.logits, size), frame, valid)
    nothing = np.zeros((0, 2))
    kept = outlines.select_parts(traced, outlines.InputPrompts(nothing, nothing, candidate.box), cell)
    if kept.is_empty:
        return None
    cut = outlines.touches_edge(kept, frame, cell)
    left, top = tile.crop.col / tile.crop.scale, tile.crop.row / tile.crop.scale
    placed = shapely.transform(kept, lambda xy: xy + np.array([left, top]))
    core = np.array(tile.core) / tile.crop.scale
    # Masks of one object differ a little from crop to crop: where the middle is near a border, both may bring it.
    slack = HOLD_MARGIN * size
    x, y = middle(placed)
    beyond = max(core[0] - x, x - core[2], core[1] - y, y - core[3])
    if not (shapely.intersects(placed, shapely.box(*core)) if cut else beyond <= slack):
        return None
    owned = beyond <= (slack if cut else 0)
    bounds = np.array(placed.bounds)
    border = bool((bounds[:2] < core[:2] + cell).any() or (bounds[2:] > core[2:] - cell).any())
    window = (left, top, left + size, top + size)
    ends = (plan.frame.width / tile.crop.scale, plan.frame.height / tile.crop.scale)
    opens = (left > 0, top > 0, left + size < ends[0], top + size < ends[1])
    score = candidate.score
    return Piece(tile.number, window, placed, candidate.label, score, cut, bool(owned), border or cut, opens)
