"""Where to label next: what the model outlines on a grid of clicks, ranked by :mod:`.ranking`. Nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from .. import outlines
from ..crops import CropFrame, crop_at
from ..ground import aspect
from ..messages import OutlineOptions
from ..progress import Progress
from ..prompting import Doubt, PromptList, choose
from ..segment_work import covered
from ..store_files import StoredCrop
from ..tuning.exam import spread
from ..tuning.objects import burn, to_pixels
from .embeddings import CropEmbeddings, View
from .ranking import Ranked, masked_mean, ranked, uncertainty
from .tiles import Tile, TilePlan

CLICKS = 12
"""Clicks along a crop's side; those in its core are tried."""

LABELLED_SHARE = 0.3
"""A candidate of which more lies on labelled objects is labelled already; so is one that holds half of such a one."""

LARGEST = 0.4
"""A mask that covers more of a crop is the ground around objects, not one to label."""

MOST_LABELLED = 64
"""Labelled objects that candidates are compared with, evenly spread."""

SAME_PLACE = 0.5
"""Candidates that share more of the smaller are at the same place."""


@dataclass(frozen=True)
class Candidate:
    """What the model outlines at a click.

    Attributes:
        x: of the click, raster CRS.
        y: likewise.
        outline: valid, raster CRS.
        doubt: uncertainty, 0 to 1.
        vector: (C,) mean embedding.
    """

    x: float
    y: float
    outline: shapely.MultiPolygon
    doubt: float
    vector: NDArray[np.float32]


@dataclass(frozen=True)
class Suggested:
    """Places to label next.

    Attributes:
        candidates: the most useful first.
        ranks: of each.
        crops: that were looked at.
    """

    candidates: tuple[Candidate, ...]
    ranks: tuple[Ranked, ...]
    crops: int


class Labelled:
    """What is labelled already."""

    def __init__(self, shapes: Sequence[BaseGeometry]) -> None:
        """Take polygons in the raster's CRS."""
        self.shapes = list(shapes)
        self._tree = shapely.STRtree(self.shapes)

    def has_click(self, x: float, y: float) -> bool:
        """Tell whether a place is labelled."""
        return len(self._tree.query(shapely.Point(x, y), predicate="intersects")) > 0

    def has(self, outline: BaseGeometry) -> bool:
        """Tell whether an outline is of what is labelled."""
        near = [self.shapes[index] for index in self._tree.query(outline)]
        if not near:
            return False
        shared = shapely.area(shapely.intersection(near, outline))
        return bool(shared.sum() > LABELLED_SHARE * outline.area or (shared > 0.5 * shapely.area(near)).any())


class Suggester:
    """Looks for what to label next in one view of a raster."""

    def __init__(self, view: View, embeddings: CropEmbeddings, labelled: Labelled, progress: Progress) -> None:
        """Join the parts.

        Args:
            view: what the model is shown.
            embeddings: of the view's crops.
            labelled: what is labelled already.
            progress: hears of the crops; may cancel.
        """
        self._view, self._embeddings, self._labelled, self._progress = view, embeddings, labelled, progress

    def suggest(self, plan: TilePlan, area: BaseGeometry | None, count: int, most: int) -> Suggested:
        """Find places to label next.

        Args:
            plan: the crops of the area.
            area: polygon in the raster's CRS; None for the whole raster.
            count: suggestions at most.
            most: crops looked at at most.

        Raises:
            RasterError: the raster cannot be read.
            CancelledByUser: from ``progress.check``.
        """
        known = self._of_labelled(plan.level, most)
        candidates: list[Candidate] = []
        commons: list[NDArray[np.float32]] = []
        expected = min(most, plan.count)
        for tile, stored in self._embeddings.in_order(plan, most):
            self._progress.report(0.1 + 0.85 * len(commons) / expected, "Looking for what to label next")
            commons.append(stored.embedding.astype(np.float32).mean(axis=(1, 2)))
            candidates.extend(self._in_crop(plan, tile, stored, area))
        if not candidates:
            return Suggested((), (), len(commons))
        tree = shapely.STRtree([candidate.outline for candidate in candidates])

        def same_place(index: int) -> list[int]:
            outline = candidates[index].outline
            near = [int(other) for other in tree.query(outline) if int(other) != index]
            return [other for other in near if _shared(outline, candidates[other].outline) > SAME_PLACE]

        common = np.mean(commons, axis=0).astype(np.float32)
        labelled = np.array(known, np.float32).reshape(-1, len(common))
        doubts = np.array([candidate.doubt for candidate in candidates])
        vectors = np.stack([candidate.vector for candidate in candidates])
        chosen = ranked(doubts, vectors, labelled, common, count, same_place)
        return Suggested(tuple(candidates[item.index] for item in chosen), tuple(chosen), len(commons))

    def _of_labelled(self, level: int, most: int) -> list[NDArray[np.float32]]:
        """Return the mean embeddings of labelled objects; at most half of the encoding goes into them."""
        frame, size = self._view.source.frame, self._view.model.card.input_size
        found: list[NDArray[np.float32]] = []
        budget = self._embeddings.left - most // 2
        places = spread(len(self._labelled.shapes), MOST_LABELLED)
        for number, place in enumerate(places):
            self._progress.report(0.1 * number / len(places), "Looking at what is labelled")
            pixels = to_pixels(self._labelled.shapes[place], frame)
            left, top, right, bottom = pixels.bounds
            middle = np.array([[(left + right) / 2, (top + bottom) / 2]])
            if not frame.contains(middle)[0]:
                continue
            crop = crop_at(frame, size, level, (float(middle[0, 0]), float(middle[0, 1])))
            if self._embeddings.left <= budget and not self._embeddings.has(crop):
                continue
            stored = self._embeddings.get(crop)
            vector = None if stored is None else masked_mean(stored.embedding, burn([pixels], crop).astype(np.float32))
            if vector is not None:
                found.append(vector)
        return found

    def _in_crop(
        self, plan: TilePlan, tile: Tile, stored: StoredCrop, area: BaseGeometry | None
    ) -> Iterator[Candidate]:
        frame, view = CropFrame(plan.frame, tile.crop), self._view
        seen = np.zeros((0, 0), bool)
        masks: list[NDArray[np.bool_]] = []
        with view.model.using(view.adapter.adapter if view.adapter else None):
            for click in self._clicks(frame, tile, stored, area):
                self._progress.check()
                column, row = int(click[0] / 4), int(click[1] / 4)
                if seen.size and seen[row, column]:
                    continue
                found = self._at(frame, stored, click)
                if found is None:
                    continue
                candidate, mask = found
                if all(_overlap(mask, other) <= SAME_PLACE for other in masks):
                    masks.append(mask)
                    yield candidate
                # What is outlined already needs no second click, unless that outline is most of the view.
                if mask.mean() < 0.25:
                    seen = mask if not seen.size else seen | mask

    def _clicks(
        self, frame: CropFrame, tile: Tile, stored: StoredCrop, area: BaseGeometry | None
    ) -> Iterator[tuple[float, float]]:
        """Yield a grid of places in a crop's core, in input pixels: with data, in the area, and not labelled."""
        crop = tile.crop
        left, top = (tile.core[0] - crop.col) / crop.scale, (tile.core[1] - crop.row) / crop.scale
        right, bottom = (tile.core[2] - crop.col) / crop.scale, (tile.core[3] - crop.row) / crop.scale
        for y in _evenly(top, bottom, crop.size / CLICKS):
            for x in _evenly(left, right, crop.size / CLICKS):
                if stored.valid is not None and not stored.valid[int(y), int(x)]:
                    continue
                ((east, north),) = frame.to_map(np.array([[x, y]]))
                if area is not None and not shapely.intersects_xy(area, east, north):
                    continue
                if not self._labelled.has_click(float(east), float(north)):
                    yield float(x), float(y)

    def _at(
        self, frame: CropFrame, stored: StoredCrop, click: tuple[float, float]
    ) -> tuple[Candidate, NDArray[np.bool_]] | None:
        """Outline what is at a click; None where that is nothing to label."""
        point = np.array([click], np.float64)
        decoded = self._view.model.decode(stored.embedding, point.astype(np.float32), np.ones(1, np.int64))
        answer = choose(decoded, covered(stored), PromptList(((*click, True),)), first=True)
        known = covered(stored)
        if answer.doubt is not Doubt.NONE or ((answer.logits > 0) & known).sum() > LARGEST * known.sum():
            return None
        size = frame.crop.size
        cell = size / answer.logits.shape[1]
        prompts = outlines.InputPrompts(point, np.zeros((0, 2)))
        traced = outlines.clip_to_valid(outlines.trace(answer.logits, size), frame, stored.valid)
        kept = outlines.select_parts(traced, prompts, cell)
        if kept.is_empty or outlines.touches_edge(kept, frame, cell):
            return None
        ((east, north),) = frame.to_map(point)
        flat = aspect(self._view.source.info.crs_wkt, float(north))
        outline = outlines.to_map(kept, frame, OutlineOptions(), outlines.Clicks(prompts), flat)
        mask = np.asarray(answer.logits > 0, np.bool_)
        vector = masked_mean(stored.embedding, mask.astype(np.float32))
        if outline.is_empty or vector is None or self._labelled.has(outline):
            return None
        doubt = uncertainty(decoded.logits, answer.logits, answer.score)
        return Candidate(float(east), float(north), outline, doubt, vector), mask


def _evenly(low: float, high: float, step: float) -> list[float]:
    """Return the middles of equal parts, each at most ``step`` long."""
    count = max(1, math.ceil((high - low) / step))
    return [low + (high - low) * (place + 0.5) / count for place in range(count)]


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, min(one.sum(), other.sum())))


def _shared(one: BaseGeometry, other: BaseGeometry) -> float:
    return float(shapely.intersection(one, other).area / max(min(one.area, other.area), 1e-12))
