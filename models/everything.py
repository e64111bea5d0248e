"""Everything in a crop: SAM asked with a grid of points, and what it is unsure of, or says twice, left out.

As the automatic mask generation of Kirillov et al., "Segment Anything" (2023), appendix B describes it: a regular grid
of single points, three masks each; masks stay whose predicted IoU is high and which hardly change when their threshold
is moved; of those that overlap much the best stays.

A small model answers every point with something, and neither measure tells its good answers from its guesses: it is
unsure of all of them. What does tell is whether it says the same when it is asked otherwise. So where the card wants it
(:class:`.card.Automatic`) the surer masks give bounding boxes, each box is the prompt of a second answer, and that
stays if it agrees with the first and is stable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from .answer_fit import CELL, fit_to_clicks
from .batch_decode import decode_batch
from .heads.find import distinct
from .prompt_mask import draw_prompts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .card import Automatic
    from .promptable import PromptableModel

OFFSET = 1.0
"""By which a mask's threshold is moved up and down to see how stable it is: the paper's."""

ALIKE = 0.7
"""Of first answers whose IoU is above this only the surest is asked about again: their boxes are nearly the same."""

WHOLE = 0.92
"""A mask that covers more of the crop's valid part than this outlines nothing."""

CHUNK = {"cpu": 16}
"""Prompts decoded at once: on a processor no more than its caches hold."""

MOST = 64
"""The same on other devices."""


@dataclass(frozen=True)
class EverythingOptions:
    """Which masks stay.

    Attributes:
        iou: least IoU that the model predicts for the mask of a point; 0 for what suits the model (its card's).
        stability: least IoU of a mask with itself when its threshold is moved; 0 likewise.
    """

    iou: float = 0.0
    stability: float = 0.0


@dataclass(frozen=True)
class Masks:
    """What there is in a crop, the surest first.

    Attributes:
        logits: (N, h, w) float32, h = w = input size / 4, positive inside.
        scores: (N,) float32, 0 to 1: the predicted IoU; of second answers, times their IoU with the first.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Candidates:
    """Answers, and what speaks for them; in no order.

    Attributes:
        logits: (N, h, w), positive inside.
        points: (N, 2) x, y in input pixels: what they are answers to.
        expected: (N,) IoU that the model predicts for its answer to the point.
        stability: (N,) IoU of the mask with itself when its threshold is moved.
        agreement: (N,) IoU of the answer to the box with the answer to the point; 1 where there is one answer.
        scores: (N,) predicted IoU of the mask, times the agreement.
    """

    logits: torch.Tensor
    points: torch.Tensor
    expected: torch.Tensor
    stability: torch.Tensor
    agreement: torch.Tensor
    scores: torch.Tensor

    def of(self, which: torch.Tensor) -> Candidates:
        """Return those of some indices, or where a mask (N,) is true."""
        return Candidates(*(getattr(self, item.name)[which] for item in fields(self)))

    def and_those(self, other: Candidates) -> Candidates:
        """Return these and others."""
        return Candidates(*(torch.cat([getattr(self, item.name), getattr(other, item.name)]) for item in fields(self)))

    def distinct(self, overlap: float) -> Candidates:
        """Return the best of those that overlap, the best first."""
        order = torch.sort(self.scores, descending=True, stable=True).indices
        # Classes all different: a mask within another one is an object of its own.
        return self.of(
            order[distinct(self.logits[order] > 0, torch.arange(len(order), device=order.device), overlap, 1.0)]
        )

    def chosen(self, rule: Automatic) -> Candidates:
        """Return those that pass, without doubles, the best first."""
        sure = (self.expected >= rule.iou) & (self.stability >= rule.stability)
        return self.of(sure & (self.agreement >= rule.agreement)).distinct(rule.overlap)


def grid(size: int, side: int) -> NDArray[np.float32]:
    """Return (side * side, 2) x, y of points spread evenly over a crop.

    Args:
        size: of the crop, input pixels.
        side: points per side.
    """
    along = (np.arange(side, dtype=np.float32) + 0.5) * (size / side)
    return np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)


def everything(
    model: PromptableModel,
    embedding: NDArray[np.float16],
    points: NDArray[np.float32],
    options: EverythingOptions = EverythingOptions(),
    valid: NDArray[np.bool_] | None = None,
) -> Masks:
    """Outline what lies under a grid of points.

    Args:
        model: whose adapter, if any, is in use already.
        embedding: (256, h, w) of the crop.
        points: (n, 2) x, y in input pixels; n may be 0.
        options: which masks stay.
        valid: (16 h, 16 w), False where there is no data; None: all valid.

    Returns:
        The masks that stay.
    """
    card = model.card.automatic
    rule = replace(card, iou=options.iou or card.iou, stability=options.stability or card.stability)
    found = candidates(model, embedding, points, rule, valid).chosen(rule)
    return Masks(found.logits.cpu().numpy(), found.scores.cpu().numpy())


@torch.inference_mode()
def candidates(
    model: PromptableModel,
    embedding: NDArray[np.float16],
    points: NDArray[np.float32],
    rule: Automatic,
    valid: NDArray[np.bool_] | None = None,
) -> Candidates:
    """Ask about a grid of points. What a rule takes of the answers, stricter ones take of them as well.

    Args:
        model: whose adapter, if any, is in use already.
        embedding: (256, h, w) of the crop.
        points: (n, 2) x, y in input pixels; n may be 0.
        rule: how often is asked, and what need not be kept.
        valid: (16 h, 16 w), False where there is no data; None: all valid.

    Returns:
        All that :meth:`Candidates.chosen` needs.
    """
    asking = _Asking(model, embedding, valid)
    found = asking.nothing()
    for chunk in asking.chunks(torch.from_numpy(points).to(model.device)):
        fresh = asking.by_points(chunk, rule)
        if rule.agreement:
            found = found.and_those(fresh).distinct(ALIKE)
        else:
            found = found.and_those(fresh.chosen(rule)).distinct(rule.overlap)
    if not rule.agreement:
        return found
    again = asking.nothing()
    for which in asking.chunks(torch.arange(len(found.scores), device=model.device)):
        again = again.and_those(asking.by_boxes(found.of(which)))
    return again


class _Asking:
    """A model asked about one crop."""

    def __init__(self, model: PromptableModel, embedding: NDArray[np.float16], valid: NDArray[np.bool_] | None) -> None:
        self._model = model
        self._seen = torch.from_numpy(np.ascontiguousarray(embedding, np.float32)).to(model.device)[None]
        self._size = (4 * embedding.shape[1], 4 * embedding.shape[2])
        covered = np.ones(self._size, bool) if valid is None else valid[CELL // 2 :: CELL, CELL // 2 :: CELL]
        self._covered = torch.from_numpy(np.ascontiguousarray(covered)).to(model.device)

    def nothing(self) -> Candidates:
        """Return no answers."""
        none = self._seen.new_zeros(0)
        return Candidates(none.new_zeros(0, *self._size), none.new_zeros(0, 2), none, none, none, none)

    def chunks(self, prompts: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield prompts, as many as are decoded at once."""
        most = CHUNK.get(self._model.device.type, MOST)
        for start in range(0, len(prompts), most):
            yield prompts[start : start + most]

    def by_points(self, points: torch.Tensor, rule: Automatic) -> Candidates:
        """Return the masks of each point of which the model is sure enough: three, or four to be asked about again."""
        logits, scores = self._decoded(points[:, None], torch.ones(len(points), 1, dtype=torch.int64), None)
        first = 0 if rule.agreement else 1  # the mask before the three is meant for several prompts
        masks, sure = logits[:, first:].flatten(0, 1), scores[:, first:].flatten()
        places = points.repeat_interleave(4 - first, dim=0)
        kept = sure >= rule.iou
        masks, sure, places = masks[kept], sure[kept], places[kept]
        if rule.agreement:
            masks = self._on_points(masks, places)
        return self._made(masks, places, sure, torch.ones_like(sure), sure)

    def by_boxes(self, firsts: Candidates) -> Candidates:
        """Return the answers to the bounding boxes of first answers."""
        none = firsts.points.new_zeros(len(firsts.points), 0, 2)
        logits, scores = self._decoded(none, none[:, :, 0].long(), _boxes(firsts.logits > 0))
        masks = self._on_points(logits[:, 0], firsts.points)
        one, other = firsts.logits > 0, masks > 0
        agreement = _share((one & other), (one | other))
        return self._made(masks, firsts.points, firsts.expected, agreement, scores[:, 0] * agreement)

    def _made(
        self,
        logits: torch.Tensor,
        points: torch.Tensor,
        expected: torch.Tensor,
        agreement: torch.Tensor,
        scores: torch.Tensor,
    ) -> Candidates:
        """Return those that outline something: not nothing, and not all there is."""
        inside = (logits > 0).flatten(1).sum(dim=1)
        something = (inside > 0) & (inside <= WHOLE * self._covered.sum())
        stability = _share(logits > OFFSET, logits > -OFFSET)
        return Candidates(logits, points, expected, stability, agreement, scores).of(something)

    def _decoded(
        self, clicks: torch.Tensor, labels: torch.Tensor, boxes: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (N, 4, h, w) logits, negative where there is no data, and (N, 4) predicted IoU."""
        labels = labels.to(clicks.device)
        planes = None
        if self._model.card.click_bumps:
            planes = draw_prompts(self._size, clicks, labels, boxes, None, self._seen)
        answers, estimates = decode_batch(self._model.network, self._seen, clicks, labels, boxes, planes)
        logits = answers.float()
        expected = self._model.expected_iou(estimates.float().cpu().numpy())
        return torch.where(self._covered, logits, -logits.abs()), torch.from_numpy(expected).to(logits.device)

    def _on_points(self, logits: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Keep of each mask what hangs together with its point."""
        fitted = [
            fit_to_clicks(mask, [(float(x), float(y))])
            for mask, (x, y) in zip(logits.cpu().numpy(), points.tolist(), strict=True)
        ]
        return torch.from_numpy(np.stack(fitted)).to(logits.device) if fitted else logits


def _share(some: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Return (N,): the area of (N, h, w) masks as a share of those that hold them."""
    return some.flatten(1).sum(dim=1) / whole.flatten(1).sum(dim=1).clamp_min(1)


def _boxes(masks: torch.Tensor) -> torch.Tensor:
    """Return the bounding boxes of (N, h, w) masks that are not empty: (N, 4) x0, y0, x1, y1 in input pixels."""
    sides = []
    for axis in (1, 2):  # columns and rows that have any of it
        reached = masks.any(dim=axis).int()
        first = reached.argmax(dim=1)
        last = reached.shape[1] - reached.flip(1).argmax(dim=1)
        sides.append((first, last))
    (x0, x1), (y0, y1) = sides
    return CELL * torch.stack([x0, y0, x1, y1], dim=1).float()
