"""Measuring outlines by simulated clicks and boxes, as ``samtune evaluate`` does, on the objects held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ...models.promptable import PromptableModel
from ..crops import Crop, RasterFrame
from ..evaluate.clicks import Mask
from ..evaluate.protocol import Outcome, Plan, measure, to_raster_pixels
from ..prompting import PromptList, PromptMemory
from .encoding import Encoding, Laid
from .exam import Exam, Examiner, Rows, spread
from .keep import Keep
from .objects import burn_window
from .samples import CropSample, Samples

MAIN = "iou"
"""Mean of the IoU after one click, after three clicks and for the box."""

_SEEN_BYTES = 64 * 1024**2

_NAMES = ("iou_1_click", "iou_3_clicks", "iou_box")


class PromptExam(Exam):
    """IoU of each object."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        """Take (N, 3): IoU after one click, after three, and for the box."""
        self._values = values

    @property
    def units(self) -> int:
        """Number of objects."""
        return len(self._values)

    @property
    def main(self) -> str:
        """Mean of the three."""
        return MAIN

    def figures(self, rows: Rows) -> Mapping[str, float]:
        """Return the means over objects."""
        means = self._values[rows].mean(axis=0)
        return {MAIN: float(means.mean()), **{name: float(v) for name, v in zip(_NAMES, means, strict=True)}}


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
        self._plan = Plan(clicks=3, count_clicks=False, level=samples.dataset.level, seed=seed)

    def examine(self, encoding: Encoding, check: Callable[[], None], most: int | None = None) -> PromptExam:
        """Measure: see :class:`.exam.Examiner`."""
        answerers: dict[int, _Answerer] = {}
        values = []
        for place in spread(len(self._members), most):
            found = self._samples.dataset.objects[self._members[place]]
            if found.raster not in answerers:
                answerers[found.raster] = _Answerer(self._samples, encoding, found.raster, check)
            truth, row, column = burn_window(found.geometry, self._samples.dataset.frames[found.raster])
            if not truth.any():
                continue
            answerer = answerers[found.raster]
            outcome = measure(answerer, truth, self._plan, number=place, origin=(row, column), check=check)
            values.append(_three(outcome))
        return PromptExam(np.array(values).reshape(-1, 3))


def _three(outcome: Outcome) -> tuple[float, float, float]:
    return outcome.after(1), outcome.after(3), outcome.box or 0.0


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
