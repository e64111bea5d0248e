"""Losses of promptable segmentation: focal and dice, as SAM was trained, and the true IoU its estimate is taught by.

SAM's focal loss weighs object pixels by 0.25 and others by 0.75. A small model that is unsure of most pixels then
answers with nothing at all rather than with its best guess, so both have the same weight here.
"""

from __future__ import annotations

import torch
from torch.nn import functional

ALPHA = 0.5
GAMMA = 2.0


def focal(logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
    """Focal loss (alpha 0.5, gamma 2), averaged over the plane.

    Args:
        logits: (..., h, w).
        target: the same shape, share of the object in each cell, 0 to 1.
        known: the same shape, bool: other cells have no part in it. None: all.

    Returns:
        (...,) losses.
    """
    probability = torch.sigmoid(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missing = (probability - target).abs() ** GAMMA
    weight = ALPHA * target + (1 - ALPHA) * (1 - target)
    each = weight * missing * entropy
    if known is None:
        return each.mean(dim=(-2, -1))
    # where, not a product: what is unknown may be anything, and nothing times infinity is no number.
    counted = torch.where(known, each, torch.zeros_like(each)).sum(dim=(-2, -1))
    return counted / known.sum(dim=(-2, -1)).clamp_min(1)


def dice(logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
    """Dice loss 1 - 2 |A B| / (|A|^2 + |B|^2), which is least at ``target`` itself also where shares are fractions.

    Args:
        logits: (..., h, w).
        target: the same shape, 0 to 1.
        known: the same shape, bool: other cells have no part in it. None: all.

    Returns:
        (...,) losses.
    """
    probability = torch.sigmoid(logits)
    if known is not None:
        probability = torch.where(known, probability, torch.zeros_like(probability))
        target = torch.where(known, target, torch.zeros_like(target))
    both = (probability * target).sum(dim=(-2, -1))
    sizes = (probability**2).sum(dim=(-2, -1)) + (target**2).sum(dim=(-2, -1))
    return 1 - (2 * both + 1) / (sizes + 1)


def true_iou(logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
    """Intersection over union of the thresholded answer; 0 where there is nothing to find.

    Args:
        logits: (..., h, w).
        target: the same shape, 0 to 1; the object is where it is over 0.5.
        known: the same shape, bool: other cells have no part in it. None: all.

    Returns:
        (...,) float32 in [0, 1].
    """
    answer, truth = logits > 0, target > 0.5
    if known is not None:
        answer, truth = answer & known, truth & known
    both = (answer & truth).sum(dim=(-2, -1)).float()
    either = (answer | truth).sum(dim=(-2, -1)).float()
    return both / either.clamp_min(1.0)
