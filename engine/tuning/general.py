"""Whether a tuned model still outlines other things as the base does: measured on the imagery that ships with SamTune.

Two figures: the IoU of simulated clicks and boxes with polygons that were drawn on a satellite scene, and, on that and
on an aerial photograph, how far the adapter's answers to a fixed grid of clicks agree with those answers of the base
that it is sure of.
"""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...models import registry
from ...models.peft.adapter import Adapter
from ...models.promptable import PromptableModel
from ..crops import crop_at
from ..evaluate.answerers import ModelAnswerer
from ..evaluate.clicks import Mask, iou
from ..evaluate.labels import Labelled
from ..evaluate.protocol import Plan, measure
from ..messages import RasterSpec
from ..progress import Check
from ..prompting import PromptList
from ..raster_source import RasterSource
from ..tune_messages import FigureRow
from .exam import draws, interval
from .prepare import Prepared
from .settings import Task

GROUP = "general"

_SAMPLES = Path(__file__).resolve().parents[2] / "docs" / "sample"
_LABELLED, _LABELS, _FIELD = "landsat_raleigh.tif", "landsat_labels.geojson", "kind"
_SCENES = (("neon_osbs.tif", (1, 2, 3)), (_LABELLED, (3, 2, 1)))
_OBJECTS, _FEW = 8, 2
_GRID = 5
_SURE = 0.8
"""Predicted IoU of a sure answer; a third of the answers is taken in any case: some models are never so sure."""
_LOST = 0.05
"""A loss of IoU that is worth telling."""
_ALIKE = 0.7
"""Mean IoU of two models' answers from which on they are called alike."""


@dataclass(frozen=True)
class Generality:
    """What came of the check.

    Attributes:
        sentence: for the user; empty where it was not made.
        figures: before and after, in the group :data:`GROUP`.
    """

    sentence: str = ""
    figures: tuple[FigureRow, ...] = ()


def generality(ready: Prepared, check: Check) -> Generality:
    """Measure the base and the adapter of a run on imagery that has nothing to do with it.

    Args:
        ready: the run, its adapter trained and attached to nothing.
        check: called between prompts; may raise to stop.

    Returns:
        Nothing where the adapter answers no clicks otherwise than the base, or needs inputs that the imagery has not.
    """
    adapter, settings = ready.adapter, ready.settings
    if settings.task is Task.SEMANTIC or (settings.task is Task.INSTANCES and not adapter.tunes_encoder):
        return Generality()
    if ready.reader.record.bands or ready.reader.record.second is not None:
        return Generality("Whether generality is kept was not checked: the adapter needs more than a picture.")
    quick = settings.model == registry.DEFAULT_MODEL or ready.model.device.type != "cpu"
    pairs: list[tuple[float, float]] = []
    agreed: list[float] = []
    for name, bands in _SCENES:
        path = _SAMPLES / name
        if not path.is_file() or any(_same(path, raster) for raster in settings.rasters):
            continue
        source = RasterSource(RasterSpec(str(path), bands))
        try:
            both = _Both(ready.model, adapter, source, check)
            agreed += both.agreement()
            if name == _LABELLED:
                pairs += both.labelled(path, _OBJECTS if quick else _FEW)
        finally:
            source.close()
    return _told(np.array(pairs).reshape(-1, 2), np.array(agreed), settings.seed)


class _Both:
    """The base and the adapter on one raster."""

    def __init__(self, model: PromptableModel, adapter: Adapter, source: RasterSource, check: Check) -> None:
        self._check = check
        self._base = ModelAnswerer(model, source, check=check)
        shared = None if adapter.tunes_encoder else self._base
        self._tuned = ModelAnswerer(model, source, adapter, embeddings=shared, check=check)

    def labelled(self, raster: Path, most: int) -> Iterator[tuple[float, float]]:
        """Yield the mean IoU of a click and a box of base and adapter for the largest drawn objects."""
        plan = Plan(clicks=1, count_clicks=False, jitter=False)
        targets = sorted(Labelled(raster, _SAMPLES / _LABELS, _FIELD).targets(), key=lambda target: -target.mask.sum())
        for target in targets[:most]:
            found = [measure(one, target.mask, plan, check=self._check) for one in (self._base, self._tuned)]
            first, last = ((outcome.after(1) + (outcome.box or 0.0)) / 2 for outcome in found)
            yield first, last

    def agreement(self) -> list[float]:
        """Return the IoU of the two answers to clicks on a grid, for those that the base is sure of."""
        frame = self._base.frame
        crop = crop_at(frame, self._base.size, 0, (frame.width / 2, frame.height / 2))
        wide, high = min(crop.side, frame.width - crop.col), min(crop.side, frame.height - crop.row)
        answers: list[tuple[float, PromptList, Mask]] = []
        for row in range(_GRID):
            for column in range(_GRID):
                self._check()
                place = (column + 0.5) * wide / _GRID / crop.scale, (row + 0.5) * high / _GRID / crop.scale, True
                prompts = PromptList((place,))
                mask, score = self._base.answer(crop, prompts)
                if _neither_nothing_nor_all(mask):
                    answers.append((score, prompts, mask))
        answers.sort(key=lambda answer: -answer[0])
        sure = sum(score >= _SURE for score, _, _ in answers)
        found = []
        for _, prompts, mask in answers[: max(sure, len(answers) // 3)]:
            self._check()
            found.append(iou(self._tuned.answer(crop, prompts)[0], mask))
        return found


def _neither_nothing_nor_all(mask: Mask) -> bool:
    return 0.0 < float(mask.mean()) < 0.9


def _told(pairs: NDArray[np.float64], agreed: NDArray[np.float64], seed: int) -> Generality:
    figures: list[FigureRow] = []
    parts: list[str] = []
    lost = doubtful = False
    if len(pairs) > 1:
        difference = pairs[:, 1] - pairs[:, 0]
        drawn = [float(difference[rows].mean()) for rows in draws(len(pairs), seed)]
        low, high = interval(float(difference.mean()), drawn, len(pairs))
        before, after = (float(value) for value in pairs.mean(axis=0))
        figures.append(FigureRow("iou", "IoU by click and box, unrelated imagery", before, after, low, high, GROUP))
        parts.append(f"the IoU with drawn outlines is {after:.2f} instead of {before:.2f}")
        much = before - after > _LOST
        lost, doubtful = high < 0 and much, high < 0 or much
    if len(agreed):
        mean = float(agreed.mean())
        figures.append(FigureRow("agreement", "Agreement with the base where it is sure", 1.0, mean, group=GROUP))
        parts.append(f"outlines that the model was sure of agree to {mean:.2f} (1 is the same)")
    if not parts:
        return Generality()
    alike = not len(agreed) or float(agreed.mean()) >= _ALIKE
    verdict = "Other things are outlined as well as before"
    if not alike:  # which may be better or worse; only drawn outlines could tell
        verdict = "Other things are outlined otherwise than before"
        verdict += ", but as well" if len(pairs) > 1 else ": look at some before you use the adapter for them"
    if doubtful:
        verdict = "Other things may be outlined a little worse than before"
    if lost:
        verdict = "Other things are outlined worse than before: take the adapter off for those"
    return Generality(f"{verdict}. On unrelated imagery {_and(parts)}.", tuple(figures))


def _and(parts: Sequence[str]) -> str:
    return ", and ".join(parts)


def _same(sample: Path, raster: Path) -> bool:
    return raster.is_file() and filecmp.cmp(sample, raster, shallow=False)
