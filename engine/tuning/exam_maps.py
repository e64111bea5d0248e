"""Measuring class maps, and objects found without prompts, on the crops held out: on known ground only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ...models.heads.contract import SemanticHead
from ...models.heads.find import FindOptions, find
from ...models.heads.instances import Instances
from ...models.heads.semantic import class_map
from ...models.peft.contract import TuningError
from ..evaluate.clicks import Mask, iou
from .encoding import Encoding, Laid
from .exam import Exam, Examiner, Rows, spread
from .mapping import head_of
from .samples import CropLabels, Samples

MATCH = 0.5
"""IoU from which a found object is the labelled one."""

_OTHER = "other"


class ClassExam(Exam):
    """Pixels by true and answered class, crop by crop."""

    def __init__(self, counts: NDArray[np.int64], names: Sequence[str]) -> None:
        """Take (N, K, K) counts, true class first, and the K names."""
        self._counts, self._names = counts, names

    @property
    def units(self) -> int:
        """Number of crops."""
        return len(self._counts)

    @property
    def main(self) -> str:
        """Mean IoU over classes."""
        return "miou"

    def figures(self, rows: Rows) -> Mapping[str, float]:
        """Return mean IoU, the share of pixels that are right, and IoU of each class that occurs."""
        table = self._counts[rows].sum(axis=0)
        right, true, said = np.diag(table), table.sum(axis=1), table.sum(axis=0)
        either = true + said - right
        each = {f"iou {name}": right[i] / either[i] for i, name in enumerate(self._names) if true[i]}
        figures = {"miou": float(np.mean(list(each.values()))) if each else 0.0}
        figures["accuracy"] = float(right.sum() / max(table.sum(), 1))
        return figures | {name: float(value) for name, value in each.items()}


class ClassExaminer(Examiner):
    """Answers the crops held out, pixel by pixel."""

    def __init__(self, samples: Samples, classes: Sequence[str]) -> None:
        """Take the crops and the names of the classes without "anything else"."""
        self._samples, self._names = samples, (_OTHER, *classes)

    def examine(self, encoding: Encoding, check: Callable[[], None], most: int | None = None) -> ClassExam:
        """Measure: see :class:`.exam.Examiner`. Without an adapter the answer is the commonest class everywhere."""
        kinds = len(self._names)
        tables = []
        for place in spread(len(self._samples.items), most):
            check()
            item = self._samples.items[place]
            labels = self._samples.labels(item, check)
            known = labels.known
            said = self._answer(encoding, place, check) if encoding.adapter is not None else None
            true = labels.classes[known].astype(np.int64)
            given = np.zeros_like(true) if said is None else said[known]
            tables.append(np.bincount(true * kinds + given, minlength=kinds**2).reshape(kinds, kinds))
        counts = np.array(tables, np.int64).reshape(-1, kinds, kinds)
        if encoding.adapter is None:
            counts = _constant(counts)
        return ClassExam(counts, self._names)

    def _answer(self, encoding: Encoding, place: int, check: Callable[[], None]) -> NDArray[np.int64]:
        item = self._samples.items[place]
        given = encoding.see(self._samples, [Laid(item)], check)
        if encoding.adapter is None:
            raise TuningError("There is no adapter to measure.")
        with torch.no_grad(), encoding.encoded(given) as features:
            head = head_of(encoding.adapter)
            if not isinstance(head, SemanticHead):
                raise TuningError("The adapter has no head for class maps.")
            answer = class_map(head(features), (item.crop.size, item.crop.size))
        classes: NDArray[np.int64] = answer.classes[0].cpu().numpy()
        return classes


def _constant(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Say the commonest class everywhere: what a map is worth that knows nothing."""
    true = counts.sum(axis=2)
    constant = np.zeros_like(counts)
    constant[:, :, int(true.sum(axis=0).argmax())] = true
    return constant


class FoundExam(Exam):
    """Objects found, invented and missed, crop by crop."""

    def __init__(self, counts: NDArray[np.int64]) -> None:
        """Take (N, 3): found, invented, missed."""
        self._counts = counts

    @property
    def units(self) -> int:
        """Number of crops."""
        return len(self._counts)

    @property
    def main(self) -> str:
        """Harmonic mean of precision and recall."""
        return "f1"

    def figures(self, rows: Rows) -> Mapping[str, float]:
        """Return F1, precision and recall at an IoU of 0.5."""
        found, invented, missed = self._counts[rows].sum(axis=0).tolist()
        return {
            "f1": 2 * found / max(2 * found + invented + missed, 1),
            "precision": found / max(found + invented, 1),
            "recall": found / max(found + missed, 1),
        }


class FoundExaminer(Examiner):
    """Looks for all objects in the crops held out."""

    def __init__(self, samples: Samples, *, bumps: bool) -> None:
        """Take the crops.

        Args:
            samples: of the side held out.
            bumps: the model wants prompts drawn into the mask prompt.
        """
        self._samples, self._options = samples, FindOptions(bumps=bumps)

    def examine(self, encoding: Encoding, check: Callable[[], None], most: int | None = None) -> FoundExam:
        """Measure: see :class:`.exam.Examiner`. Without an adapter nothing is found."""
        rows = []
        for place in spread(len(self._samples.items), most):
            check()
            item = self._samples.items[place]
            labels = self._samples.labels(item, check)
            masks = [] if encoding.adapter is None else self._find(encoding, place, check)
            rows.append(_matched(masks, labels))
        return FoundExam(np.array(rows, np.int64).reshape(-1, 3))

    def _find(self, encoding: Encoding, place: int, check: Callable[[], None]) -> list[Mask]:
        given = encoding.see(self._samples, [Laid(self._samples.items[place])], check)
        if encoding.adapter is None:
            return []
        with torch.no_grad(), encoding.encoded(given) as features:
            head = head_of(encoding.adapter)
            if not isinstance(head, Instances):
                raise TuningError("The adapter has no head that finds objects.")
            found = find(encoding.model.network, head, features, self._options)[0]
        return [np.asarray(mask, np.bool_) for mask in (found.logits > 0).cpu().numpy()]


def _matched(masks: Sequence[Mask], labels: CropLabels) -> tuple[int, int, int]:
    """Count objects found, invented and missed among (S / 4, S / 4) masks, the surest first.

    What lies mostly on unknown ground, or on an object that the crop's border cuts, counts for nothing.
    """
    side = labels.known.shape[0] // 4
    known = labels.known.reshape(side, 4, side, 4).mean(axis=(1, 3)) > 0.5
    cut = labels.partial.reshape(side, 4, side, 4).mean(axis=(1, 3)) > 0.5
    truths = [truth.reshape(side, 4, side, 4).mean(axis=(1, 3)) > 0.5 for truth in labels.masks]
    open_truths = [truth for truth in truths if truth.any()]
    total, found, invented = len(open_truths), 0, 0
    for mask in masks:
        if not mask.any():
            continue
        fits = [iou(mask, truth) for truth in open_truths]
        best = int(np.argmax(fits)) if fits else -1
        if fits and fits[best] >= MATCH:
            found += 1
            open_truths.pop(best)
        elif (mask & known & ~cut).sum() >= 0.5 * mask.sum():
            invented += 1
    return found, invented, total - found
