"""The protocol: one object after another, prompted as a user would, answered as the plugin would.

*Level rule.* The crop of an object is the one the plugin takes when the user has zoomed so that the object's longer
side spans at most 0.4 of the crop (:func:`..crops.level_for_object`: the finest power-of-two level at which it does,
within the raster's levels), or, with a fixed level, the one of that level. It then depends on the first click (or
the box) alone. What of the object lies outside the crop counts as missed. IoU is measured in raster pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..crops import Crop, RasterFrame, clamp_level, crop_at, level_for_object
from ..prompting import PromptList
from .clicks import Mask, boundary_f, box_of, correction, iou, jittered, pole

MOST_CLICKS = 20
TARGETS = (0.80, 0.85)


class Answerer(Protocol):
    """What answers prompts within crops of one raster: the model, or a classical baseline."""

    @property
    def size(self) -> int:
        """Side of its crops, in input pixels."""

    @property
    def frame(self) -> RasterFrame:
        """The raster's size and georeference."""

    def answer(self, crop: Crop, prompts: PromptList) -> tuple[Mask, float]:
        """Return the answer as a (side, side) mask in raster pixels of the crop, and the predicted IoU (NaN: none)."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        points: measure clicks.
        boxes: measure boxes.
        clicks: clicks after which IoU is kept at least; more only until the NoC targets are met.
        count_clicks: go on to 20 clicks to count those needed for IoU 0.80 and 0.85.
        level: fixed level, or None for the level rule.
        seed: of the box jitter.
        jitter: measure boxes with 10 % jitter as well.
    """

    points: bool = True
    boxes: bool = True
    clicks: int = 5
    count_clicks: bool = True
    level: int | None = None
    seed: int = 0
    jitter: bool = True


@dataclass(frozen=True)
class Outcome:
    """What one object's prompts gave.

    Attributes:
        image: name of the image.
        label: the object's class, empty if it has none.
        area: its pixels.
        share: its longer side as a share of its crop's side.
        ious: IoU after each click.
        predicted: the model's own estimate after each click.
        boundary: boundary F after the first click.
        box: IoU for its tight box; None if not measured.
        jittered: IoU for its box with 10 % jitter; None if not measured.
        box_predicted: the model's own estimate for the tight box.
    """

    image: str
    label: str
    area: int
    share: float
    ious: tuple[float, ...] = ()
    predicted: tuple[float, ...] = ()
    boundary: float | None = None
    box: float | None = None
    jittered: float | None = None
    box_predicted: float | None = None

    def after(self, clicks: int) -> float:
        """Return the IoU after a number of clicks; an answer with nothing left to correct stays as it is."""
        return self.ious[min(clicks, len(self.ious)) - 1]

    def clicks_to(self, target: float) -> int:
        """Return how many clicks it took to reach an IoU, 20 if it was not reached."""
        return next((number for number, value in enumerate(self.ious, start=1) if value >= target), MOST_CLICKS)


def measure(
    answerer: Answerer,
    truth: Mask,
    plan: Plan,
    *,
    image: str = "",
    label: str = "",
    number: int = 0,
    origin: tuple[int, int] = (0, 0),
    check: Callable[[], None] = lambda: None,
) -> Outcome:
    """Prompt one object.

    Args:
        answerer: what is measured.
        truth: (H, W) bool, the object in the raster's pixels, or in a window of them that holds it wholly.
        plan: what to measure.
        image: name, for the outcome.
        label: class, for the outcome.
        number: of the object within the evaluation; with the plan's seed it decides the jitter.
        origin: row and column of the window's first pixel.
        check: called between prompts; may raise to cancel.
    """
    seen = _Truth(truth, *origin)
    box = seen.box
    longer = max(box[2] - box[0], box[3] - box[1])
    frame = answerer.frame
    level = plan.level
    if level is None:
        level = level_for_object(frame, answerer.size, longer * frame.pixel_size)
    level = clamp_level(frame, answerer.size, level)
    share = longer / (answerer.size * 2.0**level)
    clicked = _clicks(answerer, seen, plan, level, check) if plan.points else _Clicked((), (), None)
    boxed: list[tuple[float, float]] = []
    if plan.boxes:
        rng = np.random.default_rng([plan.seed, number])
        moved = (jittered(box, (frame.height, frame.width), rng),) if plan.jitter else ()
        for given in (box, *moved):
            check()
            boxed.append(_box(answerer, seen, given, level))
    return Outcome(
        image,
        label,
        int(truth.sum()),
        share,
        clicked.ious,
        clicked.predicted,
        clicked.boundary,
        boxed[0][0] if boxed else None,
        boxed[1][0] if len(boxed) > 1 else None,
        boxed[0][1] if boxed else None,
    )


@dataclass(frozen=True)
class _Truth:
    """An object in a window of the raster whose first pixel has this row and column."""

    mask: Mask
    row: int
    column: int

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The tight box in the raster's pixels."""
        x0, y0, x1, y1 = box_of(self.mask)
        return x0 + self.column, y0 + self.row, x1 + self.column, y1 + self.row

    @property
    def pole(self) -> tuple[float, float]:
        """The first click in the raster's pixels."""
        x, y = pole(self.mask)
        return x + self.column, y + self.row


@dataclass(frozen=True)
class _Clicked:
    ious: tuple[float, ...]
    predicted: tuple[float, ...]
    boundary: float | None


def _clicks(answerer: Answerer, truth: _Truth, plan: Plan, level: int, check: Callable[[], None]) -> _Clicked:
    x, y = truth.pole
    crop = crop_at(answerer.frame, answerer.size, level, (x, y))
    seen, outside = _seen(crop, truth, answerer.frame)
    points = [_to_input(crop, x, y, positive=True)]
    ious: list[float] = []
    predicted: list[float] = []
    boundary = None
    while True:
        check()
        answer, estimate = answerer.answer(crop, PromptList(tuple(points)))
        answer = answer[: seen.shape[0], : seen.shape[1]]
        ious.append(_iou(answer, seen, outside))
        predicted.append(estimate)
        if boundary is None:
            boundary = boundary_f(answer, seen)
        enough = len(ious) >= plan.clicks and (not plan.count_clicks or max(ious) >= max(TARGETS))
        if enough or len(ious) >= MOST_CLICKS:
            break
        click = correction(answer, seen)
        if click is None:
            break
        points.append(_to_input(crop, click[0] + crop.col, click[1] + crop.row, positive=click[2]))
    return _Clicked(tuple(ious), tuple(predicted), boundary)


def _box(answerer: Answerer, truth: _Truth, box: tuple[float, float, float, float], level: int) -> tuple[float, float]:
    crop = crop_at(answerer.frame, answerer.size, level, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
    seen, outside = _seen(crop, truth, answerer.frame)
    x0, y0, _ = _to_input(crop, box[0], box[1], positive=True)
    x1, y1, _ = _to_input(crop, box[2], box[3], positive=True)
    limit = float(answerer.size)
    inside = (max(x0, 0.0), max(y0, 0.0), min(x1, limit), min(y1, limit))
    answer, estimate = answerer.answer(crop, PromptList((), inside))
    return _iou(answer[: seen.shape[0], : seen.shape[1]], seen, outside), estimate


def _seen(crop: Crop, truth: _Truth, frame: RasterFrame) -> tuple[Mask, int]:
    """Return the part of an object that lies in a crop, (h, w) up to the raster's end, and how many pixels do not."""
    part = np.zeros((min(crop.side, frame.height - crop.row), min(crop.side, frame.width - crop.col)), np.bool_)
    top, left = max(truth.row, crop.row), max(truth.column, crop.col)
    bottom = min(truth.row + truth.mask.shape[0], crop.row + part.shape[0])
    right = min(truth.column + truth.mask.shape[1], crop.col + part.shape[1])
    if top < bottom and left < right:
        inside = truth.mask[top - truth.row : bottom - truth.row, left - truth.column : right - truth.column]
        part[top - crop.row : bottom - crop.row, left - crop.col : right - crop.col] = inside
    return part, int(truth.mask.sum()) - int(part.sum())


def _iou(answer: Mask, seen: Mask, outside: int) -> float:
    if not outside:
        return iou(answer, seen)
    both, either = int((answer & seen).sum()), int((answer | seen).sum())
    return both / (either + outside)


def _to_input(crop: Crop, x: float, y: float, *, positive: bool) -> tuple[float, float, bool]:
    return (x - crop.col) / crop.scale, (y - crop.row) / crop.scale, positive


def to_raster_pixels(logits: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Resize (h, w) logits of a crop to its raster pixels, (side, side), bilinearly with aligned outer edges."""
    height = logits.shape[0]
    position = np.clip((np.arange(side) + 0.5) * height / side - 0.5, 0, height - 1)
    low = np.minimum(position.astype(int), height - 2)
    weight = (position - low).astype(np.float32)
    rows = logits[low] * (1 - weight)[:, None] + logits[low + 1] * weight[:, None]
    result: NDArray[np.float32] = rows[:, low] * (1 - weight) + rows[:, low + 1] * weight
    return result
