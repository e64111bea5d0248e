"""Measuring outlines by simulated clicks and boxes, as ``samtune evaluate`` does, on the objects held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...models.promptable import PromptableModel
from ..crops import Crop, RasterFrame
from ..evaluate.clicks import Mask
from ..evaluate.protocol import Answerer, Outcome, Plan, measure, to_raster_pixels
from ..pretrain.sampling import quarter_share
from ..prompting import PromptList, PromptMemory
from .dataset import Dataset
from .encoding import Encoding, Laid
from .exam import Arrays, Exam, Examiner, Rows, Seen, spread
from .keep import Keep
from .objects import burn, burn_window
from .samples import CropSample, Samples

MAIN = "iou"
"""Mean of the IoU after one click, after three clicks and for the box."""

CLICKS = 8
"""As many clicks are made to see how many it takes to reach a level."""

LEVELS = (0.8, 0.7, 0.6, 0.5)
"""IoU that clicks are counted to: the highest that half of the objects reach, with the base or the adapter."""

ALIKE = 0.7
"""Mean IoU of the labels with each other from which they are too much alike for dealing them to mean anything."""

_FEW = 3
_SEEN_BYTES = 64 * 1024**2

_NAMES = ("iou_1_click", "iou_3_clicks", "iou_box")


@dataclass(frozen=True)
class _Record:
    """What the prompts of one object gave.

    Attributes:
        number: of the object.
        ious: after each click, the last one repeated where nothing was left to correct.
        box: IoU for its box.
        crop: raster and crop of the clicks.
        click: column and row of the first click, cells of the crop.
        answer: (S / 4, S / 4) bool, after the first click.
        truth: likewise.
    """

    number: int
    ious: tuple[float, ...]
    box: float
    crop: tuple[int, Crop]
    click: tuple[int, int]
    answer: Mask
    truth: Mask


class PromptExam(Exam):
    """IoU of each object, and what was answered to the first click."""

    def __init__(
        self,
        ious: NDArray[np.float64],
        box: NDArray[np.float64],
        labels: Sequence[str] = (),
        seen: Seen | None = None,
        shapes: tuple[NDArray[np.int64], NDArray[np.bool_]] | None = None,
    ) -> None:
        """Take what was measured.

        Args:
            ious: (N, C) IoU after each of C clicks.
            box: (N,) IoU for the box.
            labels: class of each object; empty where there are none.
            seen: where they were looked at.
            shapes: (N, 2) column and row of the first clicks, and (N, S / 4, S / 4) the objects, in the crops' cells.
        """
        self._ious, self._box = ious, box
        self._labels = tuple(labels) or ("",) * len(box)
        self._seen, self._shapes = seen, shapes

    @property
    def units(self) -> int:
        """Number of objects."""
        return len(self._box)

    @property
    def main(self) -> str:
        """Mean of the three."""
        return MAIN

    @property
    def seen(self) -> Seen | None:
        """Where the objects were looked at."""
        return self._seen

    @property
    def groups(self) -> Mapping[str, Rows]:
        """The objects of each class, where there are several."""
        names = sorted(set(self._labels))
        if len(names) < 2:
            return {}
        return {name: np.flatnonzero(np.array(self._labels) == name) for name in names}

    def _three(self) -> NDArray[np.float64]:
        return np.stack([self._ious[:, 0], self._ious[:, min(_FEW, self._ious.shape[1]) - 1], self._box], axis=1)

    def figures(self, rows: Rows) -> Mapping[str, float]:
        """Return the means over objects."""
        means = self._three()[rows].mean(axis=0)
        return {MAIN: float(means.mean()), **{name: float(v) for name, v in zip(_NAMES, means, strict=True)}}

    def each(self) -> NDArray[np.float64]:
        """Return the mean of the three of each object."""
        return self._three().mean(axis=1)

    def reached(self, level: float) -> NDArray[np.float64]:
        """Return (N,) how many clicks it took to reach an IoU; one more than were made where it was not reached."""
        over = self._ious >= level
        return np.where(over.any(axis=1), over.argmax(axis=1) + 1.0, self._ious.shape[1] + 1.0)

    @property
    def clicks(self) -> int:
        """How many clicks were made."""
        return int(self._ious.shape[1])

    def fits(self) -> NDArray[np.float64] | None:
        """Return the IoU of each answer with each object's shape, both as they lie around the first click."""
        if self._seen is None or self._shapes is None:
            return None
        points, truths = self._shapes
        there = _around(truths, points)
        if self.units > 1 and _cross_iou(there, there, truths, truths)[~np.eye(self.units, dtype=bool)].mean() >= ALIKE:
            return None
        answers = self._seen.answers > 0
        return _cross_iou(_around(answers, points), there, answers, truths)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See :class:`.exam.Exam`."""
        found: dict[str, NDArray[np.generic]] = {"ious": self._ious, "box": self._box, "labels": np.array(self._labels)}
        if self._seen is not None and self._shapes is not None:
            found |= self._seen.arrays() | {"points": self._shapes[0], "truths": self._shapes[1]}
        return found

    @classmethod
    def of(cls, arrays: Arrays) -> PromptExam:
        """Rebuild from :meth:`arrays`."""
        labels = [str(name) for name in arrays["labels"]]
        ious, box = arrays["ious"].astype(np.float64), arrays["box"].astype(np.float64)
        if "points" not in arrays:
            return cls(ious, box, labels)
        shapes = arrays["points"].astype(np.int64), arrays["truths"].astype(np.bool_)
        return cls(ious, box, labels, Seen.of(arrays), shapes)


def level_of(before: PromptExam, after: PromptExam) -> float:
    """Return the IoU that clicks are counted to, see :data:`LEVELS`."""
    clicks = max(before.clicks, after.clicks)
    for level in LEVELS:
        if max(float((exam.reached(level) <= clicks).mean()) for exam in (before, after)) >= 0.5:
            return level
    return LEVELS[-1]


def _around(masks: Mask, points: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (N, n * n) masks moved so that each one's point is in the middle; what leaves the window is cut off."""
    side = masks.shape[-1]
    moved = np.zeros(masks.shape, np.float32)
    for to, mask, (column, row) in zip(moved, masks, points.tolist(), strict=True):
        down, right = side // 2 - row, side // 2 - column
        part = mask[max(-down, 0) : side - max(down, 0), max(-right, 0) : side - max(right, 0)]
        top, left = max(down, 0), max(right, 0)
        to[top : top + part.shape[0], left : left + part.shape[1]] = part
    return moved.reshape(len(masks), -1)


def _cross_iou(
    moved: NDArray[np.float32], others: NDArray[np.float32], masks: Mask, other_masks: Mask
) -> NDArray[np.float64]:
    """Return (N, N) IoU of all pairs: what they share around the click, of what they cover in their crops."""
    both = (moved @ others.T).astype(np.float64)
    areas, other_areas = masks.sum(axis=(1, 2)), other_masks.sum(axis=(1, 2))
    either = areas[:, None] + other_areas[None, :] - both
    return np.where(either > 0, both / np.maximum(either, 1), 0.0)


class PromptExaminer(Examiner):
    """Prompts the objects held out."""

    def __init__(self, samples: Samples, members: tuple[int, ...], seed: int) -> None:
        """Take the objects.

        Args:
            samples: of the side held out.
            members: indices of the objects.
            seed: of the evaluation.
        """
        self._samples, self._members = samples, members
        self._plan = Plan(clicks=_FEW, count_clicks=False, level=samples.dataset.level, seed=seed, jitter=False)

    def examine(self, encoding: Encoding, check: Callable[[], None], most: int | None = None) -> PromptExam:
        """Measure: see :class:`.exam.Examiner`."""
        plan = self._plan if most is not None else replace(self._plan, clicks=CLICKS)
        members = [self._members[place] for place in spread(len(self._members), most)]

        def answerer(raster: int) -> Answerer:
            return _Answerer(self._samples, encoding, raster, check)

        return prompted(self._samples.dataset, members, plan, answerer, check)


def prompted(
    dataset: Dataset,
    members: Sequence[int],
    plan: Plan,
    answerer: Callable[[int], Answerer],
    check: Callable[[], None],
) -> PromptExam:
    """Prompt objects.

    Args:
        dataset: the ground.
        members: indices of the objects; those of which no pixel's middle lies inside are left out.
        plan: how.
        answerer: makes what answers on a raster, given by its index.
        check: called between prompts; may raise to stop.
    """
    answerers: dict[int, _First] = {}
    found = []
    for number in members:
        raster = dataset.objects[number].raster
        if raster not in answerers:
            answerers[raster] = _First(answerer(raster))
        record = _one(dataset, answerers[raster], number, plan, check)
        if record is not None:
            found.append(record)
    return _assembled(found, [dataset.objects[record.number].label for record in found], plan.clicks)


def _one(dataset: Dataset, answerer: _First, number: int, plan: Plan, check: Callable[[], None]) -> _Record | None:
    item = dataset.objects[number]
    truth, row, column = burn_window(item.geometry, answerer.frame)
    if not truth.any():
        return None
    outcome = measure(answerer, truth, plan, number=number, origin=(row, column), check=check)
    crop, click, answer = answerer.first
    shape = quarter_share(burn([item.geometry], crop)[None])[0] > 0.5
    return _Record(number, _padded(outcome, plan.clicks), outcome.box or 0.0, (item.raster, crop), click, answer, shape)


def _padded(outcome: Outcome, clicks: int) -> tuple[float, ...]:
    return tuple(outcome.after(number) for number in range(1, clicks + 1))


def _assembled(found: Sequence[_Record], labels: Sequence[str], clicks: int) -> PromptExam:
    ious = np.array([record.ious for record in found], np.float64).reshape(-1, clicks)
    box = np.array([record.box for record in found], np.float64)
    if not found:
        return PromptExam(ious, box)
    crops = [(raster, crop.level, crop.size, crop.col, crop.row) for raster, crop in (one.crop for one in found)]
    seen = Seen(
        np.array([record.number for record in found], np.int64),
        np.array(crops, np.int64),
        np.stack([record.answer for record in found]).astype(np.uint8),
    )
    shapes = np.array([one.click for one in found], np.int64), np.stack([one.truth for one in found])
    return PromptExam(ious, box, labels, seen, shapes)


class _First:
    """Remembers what was answered to the latest first click.

    Attributes:
        first: crop, click (column and row in cells) and (S / 4, S / 4) answer.
    """

    first: tuple[Crop, tuple[int, int], Mask]

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    @property
    def size(self) -> int:
        """Side of the model's input."""
        return self._answerer.size

    @property
    def frame(self) -> RasterFrame:
        """The raster's size and georeference."""
        return self._answerer.frame

    def answer(self, crop: Crop, prompts: PromptList) -> tuple[Mask, float]:
        """Pass on."""
        mask, score = self._answerer.answer(crop, prompts)
        if prompts.box is None and len(prompts.points) == 1:
            side = crop.size // 4
            x, y, _ = prompts.points[0]
            places = ((np.arange(side) + 0.5) * len(mask) / side).astype(int)
            click = min(int(x / 4), side - 1), min(int(y / 4), side - 1)
            self.first = crop, click, np.asarray(mask[np.ix_(places, places)])
        return mask, score


class _Answerer:
    """The model on one raster, see :class:`..evaluate.protocol.Answerer`; embeddings are the run's."""

    def __init__(self, samples: Samples, encoding: Encoding, raster: int, check: Callable[[], None]) -> None:
        self._samples, self._encoding, self._raster, self._check = samples, encoding, raster, check
        self._model: PromptableModel = encoding.model
        self._memory = PromptMemory()
        self._seen: Keep[NDArray[np.float16]] = Keep(lambda embedding: embedding.nbytes, _SEEN_BYTES)

    @property
    def size(self) -> int:
        """Side of the model's input."""
        return self._model.card.input_size

    @property
    def frame(self) -> RasterFrame:
        """The raster's size and georeference."""
        return self._samples.dataset.frames[self._raster]

    def answer(self, crop: Crop, prompts: PromptList) -> tuple[Mask, float]:
        """Return the model's mask in raster pixels and its predicted IoU."""
        item = CropSample(self._raster, crop, (), ())
        valid = self._samples.inputs(item, self._check).valid
        embedding = self._seen.get(crop, lambda: self._encoding.kept(self._samples, Laid(item), self._check))
        height, width = (4 * length for length in embedding.shape[1:])
        factor = valid.shape[0] // height, valid.shape[1] // width
        covered = valid.reshape(height, factor[0], width, factor[1]).any(axis=(1, 3))
        answer = self._memory.answer(self._model, repr(crop), embedding, np.asarray(covered), prompts, self._check)
        return to_raster_pixels(answer.logits, crop.side) > 0, answer.score
