"""Measuring objects found without prompts, on known ground of the crops held out. Units: see :mod:`.exam_maps`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...models.heads.find import FindOptions, find
from ...models.heads.instances import Instances
from ...models.peft.contract import TuningError
from ..evaluate.clicks import Mask, iou
from .encoding import Encoding, Laid
from .exam import Arrays, Exam, Examiner, Rows, Seen, spread
from .exam_maps import away, homes_of, owners_of, seen_in
from .mapping import head_of
from .samples import CropLabels, CropSample, Samples

MATCH = 0.5
"""IoU from which a found object is the labelled one."""

_Check = Callable[[], None]


class FoundExam(Exam):
    """Objects found and missed, and what was invented near them."""

    def __init__(
        self,
        counts: NDArray[np.int64],
        names: Sequence[str] = (),
        own: NDArray[np.int64] | None = None,
        said: NDArray[np.bool_] | None = None,
        seen: Seen | None = None,
    ) -> None:
        """Take what was measured.

        Args:
            counts: (N, K, 3) found, invented, missed: for N objects, by class.
            names: of the K classes.
            own: (N,) class of each object; None where that was not kept.
            said: (N, K) whether something of a class was found there.
            seen: where they were looked at.
        """
        self._counts, self._names, self._own, self._said, self._seen = counts, tuple(names), own, said, seen

    @property
    def units(self) -> int:
        """Number of objects."""
        return len(self._counts)

    @property
    def main(self) -> str:
        """Harmonic mean of precision and recall."""
        return "f1"

    @property
    def seen(self) -> Seen | None:
        """Where the objects were looked at."""
        return self._seen

    def figures(self, rows: Rows) -> Mapping[str, float]:
        """Return F1, precision and recall at an IoU of 0.5, and F1 of each class where there are several."""
        table = self._counts[rows].sum(axis=0)
        found, invented, missed = table.sum(axis=0).tolist()
        figures = {
            "f1": 2 * found / max(2 * found + invented + missed, 1),
            "precision": found / max(found + invented, 1),
            "recall": found / max(found + missed, 1),
        }
        if len(self._names) > 1:
            for name, (right, wrong, lost) in zip(self._names, table.tolist(), strict=True):
                figures[f"f1 {name}"] = 2 * right / max(2 * right + wrong + lost, 1)
        return figures

    def counts(self, rows: Rows) -> Mapping[str, float]:
        """Return how many objects were found, missed and invented, in all and of each class where there are several."""
        table = self._counts[rows].sum(axis=0)
        groups = [("", table.sum(axis=0).tolist())]
        if len(self._names) > 1:
            groups += [(f" {name}", row) for name, row in zip(self._names, table.tolist(), strict=True)]
        figures: dict[str, float] = {}
        for suffix, (found, invented, missed) in groups:
            figures |= {f"found{suffix}": found, f"missed{suffix}": missed, f"false{suffix}": invented}
        return figures

    def fits(self) -> NDArray[np.float64] | None:
        """Return whether each object was said to be of the class of each; None for objects of one class."""
        if self._own is None or self._said is None or len(set(self._own.tolist())) < 2:
            return None
        return self._said[:, self._own].astype(np.float64)

    def each(self) -> NDArray[np.float64]:
        """Return 1 for an object that was found, 0 for one that was missed."""
        return self._counts[:, :, 0].sum(axis=1).astype(np.float64)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See :class:`.exam.Exam`."""
        found: dict[str, NDArray[np.generic]] = {"counts": self._counts, "_names": np.array(self._names)}
        if self._own is not None and self._said is not None and self._seen is not None:
            found |= {"own": self._own, "said": self._said, **self._seen.arrays()}
        return found

    @classmethod
    def of(cls, arrays: Arrays) -> FoundExam:
        """Rebuild from :meth:`arrays`."""
        names = [str(name) for name in arrays["_names"]]
        counts = arrays["counts"].astype(np.int64)
        if "own" not in arrays:
            return cls(counts, names)
        return cls(counts, names, arrays["own"].astype(np.int64), arrays["said"].astype(np.bool_), Seen.of(arrays))


class FoundExaminer(Examiner):
    """Looks for all objects in the crops held out."""

    def __init__(self, samples: Samples, *, bumps: bool) -> None:
        """Take the crops.

        Args:
            samples: of the side held out.
            bumps: the model wants prompts drawn into the mask prompt.
        """
        self._samples, self._options = samples, FindOptions(bumps=bumps)

    def examine(self, encoding: Encoding, check: _Check, most: int | None = None) -> FoundExam:
        """Measure: see :class:`.exam.Examiner`. Without an adapter nothing is found."""
        names = self._samples.dataset.classes
        places = spread(len(self._samples.items), most)
        homes = homes_of(self._samples, places)
        tally = _Tally(self._samples, len(names))
        for place in places:
            check()
            item = self._samples.items[place]
            labels = self._samples.labels(item, check)
            masks = [] if encoding.adapter is None else self._find(encoding, place, check)
            here = [target for target, number in enumerate(item.targets) if homes[number] == place]
            tally.objects(item, labels, masks, here)
            elsewhere = [other for other in (self._samples.items[p] for p in places) if other is not item]
            tally.inventions(item, labels, masks, elsewhere)
        return tally.exam(names, homes)

    def _find(self, encoding: Encoding, place: int, check: _Check) -> list[tuple[Mask, int]]:
        if encoding.adapter is None:
            return []
        with torch.no_grad(), encoding.features(self._samples, [Laid(self._samples.items[place])], check) as features:
            head = head_of(encoding.adapter)
            if not isinstance(head, Instances):
                raise TuningError("The adapter has no head that finds objects.")
            found = find(encoding.model.network, head, features, self._options)[0]
        masks = (found.logits > 0).cpu().numpy()
        return [
            (np.asarray(mask, np.bool_), int(kind)) for mask, kind in zip(masks, found.classes.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class Matched:
    """How answers and labels of a crop fit.

    Attributes:
        found: for each label, whether an answer of its class fits it.
        invented: answers that fit no label of their class, by their places; those mostly on unknown ground, or on an
            object that the crop's border cuts, are not among them.
        said: (labels, classes) whether an answer of a class fits the label.
    """

    found: tuple[bool, ...]
    invented: tuple[int, ...]
    said: NDArray[np.bool_]


def matched(answers: Sequence[tuple[Mask, int]], labels: CropLabels, kinds: int) -> Matched:
    """Fit (S / 4, S / 4) answers, the surest first, with their classes to the labels of a crop, each at most once."""
    side = labels.known.shape[0] // 4
    known = labels.known.reshape(side, 4, side, 4).mean(axis=(1, 3)) > 0.5
    cut = labels.partial.reshape(side, 4, side, 4).mean(axis=(1, 3)) > 0.5
    truths = [truth.reshape(side, 4, side, 4).mean(axis=(1, 3)) > 0.5 for truth in labels.masks]
    found, invented = [False] * len(truths), []
    said = np.zeros((len(truths), kinds), np.bool_)
    for place, (mask, kind) in enumerate(answers):
        if not mask.any():
            continue
        fits = np.array([iou(mask, truth) if truth.any() else 0.0 for truth in truths])
        said[fits >= MATCH, min(kind, kinds - 1)] = True
        free = [i for i in np.argsort(-fits).tolist() if fits[i] >= MATCH and labels.labels[i] == kind and not found[i]]
        if free:
            found[free[0]] = True
        elif (mask & known & ~cut).sum() >= 0.5 * mask.sum():
            invented.append(place)
    return Matched(tuple(found), tuple(invented), said)


class _Tally:
    """Sums over crops, each object and each invention in one crop only."""

    def __init__(self, samples: Samples, kinds: int) -> None:
        self._samples, self._kinds = samples, kinds
        self._counts: dict[int, NDArray[np.int64]] = {}
        self._said: dict[int, NDArray[np.bool_]] = {}
        self._answers: dict[int, NDArray[np.uint8]] = {}

    def _row(self, number: int) -> NDArray[np.int64]:
        return self._counts.setdefault(number, np.zeros((self._kinds, 3), np.int64))

    def objects(
        self, item: CropSample, labels: CropLabels, answers: Sequence[tuple[Mask, int]], here: Sequence[int]
    ) -> None:
        """Count the targets that have their home in a crop."""
        fit = matched(answers, labels, self._kinds)
        picture = np.zeros((item.crop.size // 4,) * 2, np.uint8)
        for mask, kind in reversed(answers):
            picture[mask] = kind + 1
        for target in here:
            if not labels.masks[target].any():
                continue
            number = item.targets[target]
            self._row(number)[int(labels.labels[target]), 0 if fit.found[target] else 2] += 1
            self._said[number], self._answers[number] = fit.said[target], picture

    def inventions(
        self,
        item: CropSample,
        labels: CropLabels,
        answers: Sequence[tuple[Mask, int]],
        elsewhere: Sequence[CropSample],
    ) -> None:
        """Count what was invented in a crop, unless it lies more in the middle of another one."""
        for place in matched(answers, labels, self._kinds).invented:
            mask, kind = answers[place]
            row, column = (float(value) for value in np.argwhere(mask).mean(axis=0))
            scale = 4 * item.crop.scale
            point = item.crop.col + (column + 0.5) * scale, item.crop.row + (row + 0.5) * scale
            own = away(item, point)
            if any(other.raster == item.raster and away(other, point) < own for other in elsewhere):
                continue
            owner = item.shown[int(owners_of(self._samples, item)[int(row), int(column)])]
            self._row(owner)[min(kind, self._kinds - 1), 1] += 1

    def exam(self, names: Sequence[str], homes: Mapping[int, int]) -> FoundExam:
        """Return all of it; what was invented near an object that is no target anywhere counts for the first one."""
        numbers = list(self._answers)
        counts = [self._counts[number] for number in numbers]
        if not numbers:
            return FoundExam(np.zeros((0, self._kinds, 3), np.int64), names)
        for number, row in self._counts.items():
            if number not in self._answers:
                counts[0] = counts[0] + row
        own = [self._samples.dataset.classes.index(self._samples.dataset.objects[number].label) for number in numbers]
        said = np.stack([self._said[number] for number in numbers])
        seen = seen_in(self._samples, homes, numbers, [self._answers[number] for number in numbers])
        return FoundExam(np.stack(counts), names, np.array(own, np.int64), said, seen)
