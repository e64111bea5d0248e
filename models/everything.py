"""Everything in a crop: SAM asked with a grid of points, and what it is unsure of, or says twice, left out.

As the automatic mask generation of Kirillov et al., "Segment Anything" (2023), appendix B describes it: a regular grid
of single points, three masks each; masks stay whose predicted IoU is high and which hardly change when their threshold
is moved; of those that overlap much the best stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from .batch_decode import decode_batch
from .heads.find import distinct
from .prompt_mask import draw_prompts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .promptable import PromptableModel

OFFSET = 0.1
"""Share of a mask's mean logit by which its threshold is moved up and down to see how stable it is. For SAM's own
weights that is about the 1.0 of the paper; it serves models with smaller logits as well."""

SURE, TABLED = 0.88, 0.2
"""Least predicted IoU where the user names none: the paper's for models that overestimate theirs, as SAM's do; the
other where a card's table says what to expect after one point."""


@dataclass(frozen=True)
class EverythingOptions:
    """Which masks stay.

    Attributes:
        iou: least IoU that the model predicts for a mask; 0 for what suits the model.
        stability: least IoU of a mask with itself when its threshold is moved.
        overlap: of masks whose IoU is above this the best stays.
        whole: a mask that covers more of the crop than this outlines nothing.
        chunk: points decoded at once, which bounds the memory.
    """

    iou: float = 0.0
    stability: float = 0.9
    overlap: float = 0.7
    whole: float = 0.92
    chunk: int = 64


@dataclass(frozen=True)
class Masks:
    """What there is in a crop, the surest first.

    Attributes:
        logits: (N, h, w) float32, h = w = input size / 4, positive inside.
        scores: (N,) float32, the predicted IoU, 0 to 1.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]


def grid(size: int, side: int) -> NDArray[np.float32]:
    """Return (side * side, 2) x, y of points spread evenly over a crop.

    Args:
        size: of the crop, input pixels.
        side: points per side.
    """
    along = (np.arange(side, dtype=np.float32) + 0.5) * (size / side)
    return np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)


@torch.inference_mode()
def everything(
    model: PromptableModel,
    embedding: NDArray[np.float16],
    points: NDArray[np.float32],
    options: EverythingOptions = EverythingOptions(),
) -> Masks:
    """Outline what lies under a grid of points.

    Args:
        model: whose adapter, if any, is in use already.
        embedding: (256, h, w) of the crop.
        points: (n, 2) x, y in input pixels; n may be 0.
        options: which masks stay.

    Returns:
        The masks that stay.
    """
    size = (4 * embedding.shape[1], 4 * embedding.shape[2])
    seen = torch.from_numpy(np.ascontiguousarray(embedding, np.float32)).to(model.device)[None]
    logits, scores = seen.new_zeros(0, *size), seen.new_zeros(0)
    for chunk in torch.split(torch.from_numpy(points).to(model.device), options.chunk):
        fresh, sure = _decoded(model, seen, chunk, options)
        logits, scores = torch.cat([logits, fresh]), torch.cat([scores, sure])
        order = torch.sort(scores, descending=True, stable=True).indices
        # Classes all different: a mask within another one is an object of its own.
        kept = order[distinct(logits[order] > 0, torch.arange(len(order)), options.overlap, 1.0)]
        logits, scores = logits[kept], scores[kept]
    return Masks(logits.cpu().numpy(), scores.cpu().numpy())


def _decoded(
    model: PromptableModel, embedding: torch.Tensor, points: torch.Tensor, options: EverythingOptions
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the masks of some points that pass the filters, (N, h, w) and (N,)."""
    size = (4 * embedding.shape[2], 4 * embedding.shape[3])
    labels = torch.ones(len(points), 1, dtype=torch.int64, device=points.device)
    clicks = points[:, None]
    planes = None
    if model.card.click_bumps:
        planes = draw_prompts(size, clicks, labels, None, None, embedding)
    answers, estimates = decode_batch(model.network, embedding, clicks, labels, None, planes)
    logits = answers[:, 1:].float().flatten(0, 1)
    expected = model.expected_iou(estimates[:, 1:].float().flatten().cpu().numpy())
    scores = torch.from_numpy(expected).to(logits.device)
    flat = logits.flatten(1)
    inside = (flat > 0).float().mean(dim=1)
    offset = OFFSET * (flat.clamp_min(0).sum(dim=1) / (flat > 0).sum(dim=1).clamp_min(1))[:, None]
    high, low = (flat > offset).sum(dim=1), (flat > -offset).sum(dim=1)
    least = options.iou or (TABLED if model.card.expected_iou else SURE)
    stays = (scores >= least) & (high >= options.stability * low) & (inside > 0) & (inside <= options.whole)
    return logits[stays], scores[stays]
