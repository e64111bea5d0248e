"""From the prompts of one object to mask logits: which mask to believe, and how corrections build on each other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..models.answer_fit import fit_to_box, fit_to_clicks

WHOLE_CROP = 0.92
"""A mask of the first prompt that covers more of the crop's valid part than this outlines nothing: it is the
background."""

LEAST_IOU = 0.1
"""A mask whose predicted IoU is below this is a guess. Higher would be tidier and of less use: a rough outline can be
corrected by a second click, a refusal cannot."""

REMEMBERED = 256
"""Decoder answers kept, 64 KiB each at an input size of 512: a few objects' prompts and what the pointer hovered
over."""


class DecodedMasks(Protocol):
    """What :meth:`Decoder.decode` answers; see ``models/promptable.py``."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """(k, h, w), k is 3 or 1."""

    @property
    def iou(self) -> NDArray[np.float32]:
        """(k,) predicted IoU, 0 to 1."""


class Decoder(Protocol):
    """The part of ``PromptableModel`` that answers prompts."""

    def decode(
        self,
        embedding: NDArray[np.float16],
        points: NDArray[np.float32],
        labels: NDArray[np.int64],
        box: NDArray[np.float32] | None = None,
        mask_logits: NDArray[np.float32] | None = None,
        *,
        multimask: bool = True,
    ) -> DecodedMasks:
        """Run the mask decoder; arguments as in ``models/promptable.py``."""


@dataclass(frozen=True)
class PromptList:
    """All prompts of one object, in the order given, in input pixels. The box counts as given first.

    Attributes:
        points: x, y and whether positive.
        box: x0, y0, x1, y1, or None.
    """

    points: tuple[tuple[float, float, bool], ...]
    box: tuple[float, float, float, float] | None = None

    @property
    def shorter(self) -> PromptList | None:
        """The prompts before the last correction; None when there was no answer before."""
        if len(self.points) > (0 if self.box else 1):
            return PromptList(self.points[:-1], self.box)
        return None


class Doubt(Enum):
    """Why a mask should not be shown, or that it may."""

    NONE = "none"
    EMPTY = "empty"
    WHOLE = "whole"
    UNSURE = "unsure"


_TRUST = {Doubt.NONE: 2, Doubt.UNSURE: 1}
"""Rank among several masks; the others are of no use even as a start."""


_USELESS = frozenset({Doubt.EMPTY, Doubt.WHOLE})
"""Answers that a correction does not build on: it starts anew from all prompts."""


@dataclass(frozen=True)
class Answer:
    """What the decoder makes of a list of prompts.

    Attributes:
        logits: (h, w) float32 of the chosen mask, fitted to its prompts (``answer_fit``).
        score: its predicted IoU, 0 to 1.
        doubt: why it should not be shown.
    """

    logits: NDArray[np.float32]
    score: float
    doubt: Doubt


class PromptMemory:
    """Answers by embedding and prompts, so that a correction costs one run of the decoder and an undo none."""

    def __init__(self, capacity: int = REMEMBERED) -> None:
        """Start empty.

        Args:
            capacity: answers kept.
        """
        self._capacity = capacity
        self._answers: OrderedDict[tuple[str, PromptList], Answer] = OrderedDict()

    def answer(
        self,
        decoder: Decoder,
        key: str,
        embedding: NDArray[np.float16],
        covered: NDArray[np.bool_],
        prompts: PromptList,
        check: Callable[[], None],
    ) -> Answer:
        """Answer prompts, each correction with the logits of the answer before it as mask prompt.

        An answer that outlined nothing is not built on.

        Args:
            decoder: the model.
            key: of the embedding.
            embedding: (256, h, w) float16.
            covered: (4 h, 4 w) bool, True where the crop has data.
            prompts: at least one.
            check: called before every run of the decoder; may raise to cancel.

        Returns:
            The answer to all prompts.
        """
        pending: list[PromptList] = []
        step: PromptList | None = prompts
        while step is not None and (key, step) not in self._answers:
            pending.append(step)
            step = step.shorter
        answer = self._recall(key, step) if step is not None else None
        for step in reversed(pending):
            check()
            answer = _decode(decoder, embedding, covered, step, answer)
            self._remember(key, step, answer)
        if answer is None:
            raise ValueError("no prompts")
        return answer

    def clear(self) -> None:
        """Forget everything."""
        self._answers.clear()

    def _recall(self, key: str, prompts: PromptList) -> Answer:
        self._answers.move_to_end((key, prompts))
        return self._answers[key, prompts]

    def _remember(self, key: str, prompts: PromptList, answer: Answer) -> None:
        self._answers[key, prompts] = answer
        while len(self._answers) > self._capacity:
            self._answers.popitem(last=False)


def _decode(
    decoder: Decoder,
    embedding: NDArray[np.float16],
    covered: NDArray[np.bool_],
    prompts: PromptList,
    before: Answer | None,
) -> Answer:
    first = before is None
    decoded = decoder.decode(
        embedding,
        np.array([point[:2] for point in prompts.points], np.float32).reshape(-1, 2),
        np.array([int(point[2]) for point in prompts.points], np.int64),
        None if prompts.box is None else np.array(prompts.box, np.float32),
        None if before is None or before.doubt in _USELESS else before.logits,
        multimask=first and prompts.box is None,
    )
    return choose(decoded, covered, prompts, first=first)


def choose(decoded: DecodedMasks, covered: NDArray[np.bool_], prompts: PromptList, *, first: bool) -> Answer:
    """Choose among the decoder's masks and judge the chosen one.

    The best predicted IoU wins among the masks that nothing speaks against. Against a mask speaks: that it is empty or
    misses a positive click; after a first click also that it covers nearly the whole crop, or that the model itself
    is unsure of it. (With a box or a correction the user knows that something is there, and gets the best guess.)
    If something speaks against all, an unsure one before the others is remembered with that doubt, so that a
    correction can build on it.

    Args:
        decoded: one or three masks.
        covered: (h, w) bool, True where the crop has data.
        prompts: as given to the decoder.
        first: the decoder had no previous answer.

    Returns:
        The chosen mask.
    """
    clicks = [(x, y) for x, y, positive in prompts.points if positive]
    answers = []
    for raw, iou in zip(decoded.logits, decoded.iou, strict=True):
        logits = _fitted(raw, prompts, clicks)
        doubt = _doubt(logits, float(iou), covered, clicks, first=first and prompts.box is None)
        answers.append(Answer(logits, float(iou), doubt))
    return max(answers, key=lambda answer: (_TRUST.get(answer.doubt, 0), answer.score))


def _fitted(logits: NDArray[np.float32], prompts: PromptList, clicks: list[tuple[float, float]]) -> NDArray[np.float32]:
    """Fit a mask to its prompts; where a box was corrected by clicks, the clicks say what the box did not."""
    if prompts.box is None:
        return fit_to_clicks(logits, clicks)
    return logits if prompts.points else fit_to_box(logits, prompts.box)


def _doubt(
    logits: NDArray[np.float32],
    iou: float,
    covered: NDArray[np.bool_],
    clicks: list[tuple[float, float]],
    *,
    first: bool,
) -> Doubt:
    inside = (logits > 0) & covered
    if not inside.any() or (first and not all(_near(inside, click) for click in clicks)):
        return Doubt.EMPTY
    if first and inside.sum() > WHOLE_CROP * covered.sum():
        return Doubt.WHOLE
    if first and iou < LEAST_IOU:
        return Doubt.UNSURE
    return Doubt.NONE


def _near(inside: NDArray[np.bool_], click: tuple[float, float]) -> bool:
    """Tell whether a click, in input pixels, lies on a mask or on the cell next to it."""
    height, width = inside.shape
    col = min(max(int(click[0] / 4), 0), width - 1)
    row = min(max(int(click[1] / 4), 0), height - 1)
    return bool(inside[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2].any())
