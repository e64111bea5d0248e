"""Measuring class maps on the crops held out: on known ground only.

Crops overlap, so they are no units to resample. Units are the labelled objects, each with the ground that is nearer to
it than to any other one: what is right and wrong there, over all crops that show it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ...models.heads.contract import SemanticHead
from ...models.heads.semantic import class_map
from ...models.peft.contract import TuningError
from .encoding import Encoding, Laid
from .exam import Arrays, Exam, Examiner, Rows, Seen, spread
from .mapping import head_of
from .objects import burn
from .samples import CropLabels, CropSample, Samples

OTHER = "other"

_Check = Callable[[], None]


class ClassExam(Exam):
    """Pixels by true and answered class, around each object."""

    def __init__(
        self,
        counts: NDArray[np.int64],
        names: Sequence[str],
        own: NDArray[np.int64] | None = None,
        seen: Seen | None = None,
        *,
        constant: bool = False,
    ) -> None:
        """Take what was measured.

        Args:
            counts: (N, K, K) pixels around N objects, true class first.
            names: of the K classes, "anything else" first.
            own: (N,) class of each object; None where that was not kept.
            seen: where they were looked at.
            constant: take the commonest class for the answer everywhere: what a map is worth that knows nothing. Joined
                measurements have one such class in common, or each would flatter it by its own.
        """
        self._counts, self._names = _constant(counts) if constant else counts, tuple(names)
        self._is_constant = constant
        self._own, self._seen = own, seen

    @property
    def units(self) -> int:
        """Number of objects."""
        return len(self._counts)

    @property
    def main(self) -> str:
        """Mean IoU over classes."""
        return "miou"

    @property
    def seen(self) -> Seen | None:
        """Where the objects were looked at."""
        return self._seen

    def figures(self, rows: Rows) -> Mapping[str, float]:
        """Return mean IoU, the share of pixels that are right, and IoU of each class that occurs."""
        table = self._counts[rows].sum(axis=0)
        right, true, said = np.diag(table), table.sum(axis=1), table.sum(axis=0)
        either = true + said - right
        each = {f"iou {name}": right[i] / either[i] for i, name in enumerate(self._names) if true[i]}
        figures = {"miou": float(np.mean(list(each.values()))) if each else 0.0}
        figures["accuracy"] = float(right.sum() / max(table.sum(), 1))
        return figures | {name: float(value) for name, value in each.items()}

    def fits(self) -> NDArray[np.float64] | None:
        """Return which share of each object is said to be of the class of each; None for objects of one class."""
        if self._own is None or len(set(self._own.tolist())) < 2:
            return None
        inside = self._counts[np.arange(self.units), self._own]
        shares = inside / np.maximum(inside.sum(axis=1, keepdims=True), 1)
        return np.asarray(shares[:, self._own], np.float64)

    def each(self) -> NDArray[np.float64]:
        """Return the IoU of each object's class around it."""
        rows = np.arange(self.units)
        own = self._own if self._own is not None else np.zeros(self.units, np.int64)
        right = self._counts[rows, own, own]
        either = self._counts[rows, own].sum(axis=1) + self._counts[rows, :, own].sum(axis=1) - right
        return np.asarray(right / np.maximum(either, 1), np.float64)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """See :class:`.exam.Exam`."""
        found: dict[str, NDArray[np.generic]] = {"counts": self._counts, "_names": np.array(self._names)}
        if self._is_constant:
            found["_constant"] = np.ones(1, np.bool_)
        if self._own is not None and self._seen is not None:
            found |= {"own": self._own, **self._seen.arrays()}
        return found

    @classmethod
    def of(cls, arrays: Arrays) -> ClassExam:
        """Rebuild from :meth:`arrays`."""
        names = [str(name) for name in arrays["_names"]]
        counts = arrays["counts"].astype(np.int64)
        constant = "_constant" in arrays
        if "own" not in arrays:
            return cls(counts, names, constant=constant)
        return cls(counts, names, arrays["own"].astype(np.int64), Seen.of(arrays), constant=constant)


class ClassExaminer(Examiner):
    """Answers the crops held out, pixel by pixel."""

    def __init__(self, samples: Samples, classes: Sequence[str]) -> None:
        """Take the crops and the names of the classes without "anything else"."""
        self._samples, self._names = samples, (OTHER, *classes)

    def examine(self, encoding: Encoding, check: _Check, most: int | None = None) -> ClassExam:
        """Measure: see :class:`.exam.Examiner`. Without an adapter the answer is the commonest class everywhere."""
        kinds = len(self._names)
        tables: dict[int, NDArray[np.int64]] = {}
        places = spread(len(self._samples.items), most)
        homes = homes_of(self._samples, places)
        answers: dict[int, NDArray[np.uint8]] = {}
        for place in places:
            check()
            item = self._samples.items[place]
            labels = self._samples.labels(item, check)
            said = self._answer(encoding, place, check) if encoding.adapter is not None else np.zeros_like(labels.known)
            for number, table in _by_object(self._samples, item, labels, said.astype(np.int64), kinds).items():
                tables[number] = tables.get(number, 0) + table
            cells = said[2::4, 2::4].astype(np.uint8)
            answers |= {number: cells for number in item.shown if homes.get(number) == place}
        numbers = [number for number, table in tables.items() if number in answers and table.any()]
        counts = np.array([tables[number] for number in numbers], np.int64).reshape(-1, kinds, kinds)
        constant = encoding.adapter is None
        if not numbers:
            return ClassExam(counts, self._names, constant=constant)
        own = [self._names.index(self._samples.dataset.objects[number].label, 1) for number in numbers]
        seen = seen_in(self._samples, homes, numbers, [answers[number] for number in numbers])
        return ClassExam(counts, self._names, np.array(own, np.int64), seen, constant=constant)

    def _answer(self, encoding: Encoding, place: int, check: _Check) -> NDArray[np.int64]:
        item = self._samples.items[place]
        if encoding.adapter is None:
            raise TuningError("There is no adapter to measure.")
        with torch.no_grad(), encoding.features(self._samples, [Laid(self._samples.items[place])], check) as features:
            head = head_of(encoding.adapter)
            if not isinstance(head, SemanticHead):
                raise TuningError("The adapter has no head for class maps.")
            answer = class_map(head(features), (item.crop.size, item.crop.size))
        classes: NDArray[np.int64] = answer.classes[0].cpu().numpy()
        return classes


def homes_of(samples: Samples, places: Sequence[int]) -> dict[int, int]:
    """Return for each object the crop in whose middle it lies most.

    Args:
        samples: the crops.
        places: of those that are looked at.
    """
    found: dict[int, tuple[float, int]] = {}
    for place in places:
        item = samples.items[place]
        for number in item.shown:
            distance = away(item, samples.dataset.objects[number].anchor)
            if number not in found or distance < found[number][0]:
                found[number] = (distance, place)
    return {number: place for number, (_, place) in found.items()}


def away(item: CropSample, point: tuple[float, float]) -> float:
    """Return how far column and row of a place are from the middle of a crop, raster pixels."""
    half = item.crop.side / 2
    return max(abs(point[0] - item.crop.col - half), abs(point[1] - item.crop.row - half))


def owners_of(samples: Samples, item: CropSample) -> NDArray[np.int64]:
    """Return (S / 4, S / 4) which of the objects shown in a crop is nearest, by its place among them."""
    side = item.crop.size // 4
    drawn = np.full((side, side), -1, np.int64)
    for place, number in enumerate(item.shown):
        drawn[burn([samples.dataset.objects[number].geometry], item.crop)[2::4, 2::4]] = place
    if (drawn < 0).all():
        return np.zeros_like(drawn)
    nearest = ndimage.distance_transform_edt(drawn < 0, return_distances=False, return_indices=True)
    return np.asarray(drawn[tuple(nearest)], np.int64)


def _by_object(
    samples: Samples, item: CropSample, labels: CropLabels, said: NDArray[np.int64], kinds: int
) -> dict[int, NDArray[np.int64]]:
    """Return (K, K) counts of the known pixels around each object shown in a crop."""
    owners = owners_of(samples, item).repeat(4, axis=0).repeat(4, axis=1)
    known = labels.known
    joint = (owners[known] * kinds + labels.classes[known].astype(np.int64)) * kinds + said[known]
    tables = np.bincount(joint, minlength=len(item.shown) * kinds**2).reshape(-1, kinds, kinds)
    return dict(zip(item.shown, tables, strict=True))


def seen_in(
    samples: Samples, homes: Mapping[int, int], numbers: Sequence[int], answers: Sequence[NDArray[np.uint8]]
) -> Seen:
    """Say where objects were looked at.

    Args:
        samples: the crops.
        homes: see :func:`homes_of`.
        numbers: of the N objects.
        answers: N times (S / 4, S / 4), what was answered in their homes.
    """
    items = [samples.items[homes[number]] for number in numbers]
    crops = [(item.raster, item.crop.level, item.crop.size, item.crop.col, item.crop.row) for item in items]
    return Seen(np.array(numbers, np.int64), np.array(crops, np.int64), np.stack(answers).astype(np.uint8))


def _constant(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Say the commonest class everywhere."""
    true = counts.sum(axis=2)
    constant = np.zeros_like(counts)
    if len(counts):
        constant[:, :, int(true.sum(axis=0).argmax())] = true
    return constant
