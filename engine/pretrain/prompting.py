"""Prompts of a training step: the first ones of all objects, and correction clicks from where an answer was wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from .sampling import Sample, first_click, noisy_box, quarter_share

_CENTRED = 0.6


@dataclass(frozen=True)
class Batch:
    """Samples as tensors, with their first prompts.

    Attributes:
        images: (B, 3, S, S) uint8.
        valid: (B, S, S) bool.
        targets: (B * M, S / 4, S / 4) share of the object per cell.
        points: (B * M, 1, 2) first clicks x, y in pixels.
        boxes: (B * M, 4) boxes in pixels.
        boxed: how many of the images, the last ones, are prompted by their box first; the others by the click.
    """

    images: torch.Tensor
    valid: torch.Tensor
    targets: torch.Tensor
    points: torch.Tensor
    boxes: torch.Tensor
    boxed: int

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on a device."""
        return Batch(
            self.images.to(device),
            self.valid.to(device),
            self.targets.to(device),
            self.points.to(device),
            self.boxes.to(device),
            self.boxed,
        )


def make_batch(samples: Sequence[Sample], boxed: int, rng: np.random.Generator) -> Batch:
    """Collate samples and draw the first prompts.

    Args:
        samples: of one size, with equally many masks.
        boxed: how many of them are prompted by boxes.
        rng: random generator.
    """
    size = samples[0].image.shape[-1]
    targets, points, boxes = [], [], []
    for sample in samples:
        shares = quarter_share(sample.masks)
        for mask, share in zip(sample.masks, shares, strict=True):
            targets.append(share)
            if mask.any():
                points.append(first_click(mask, share, rng))
                boxes.append(noisy_box(mask, rng))
            else:  # a textureless image: prompts anywhere, nothing to find
                points.append(tuple(rng.uniform(0.1, 0.9, 2) * size))
                low, high = rng.uniform(0.05, 0.4, 2) * size, rng.uniform(0.6, 0.95, 2) * size
                boxes.append((low[0], low[1], high[0], high[1]))
    return Batch(
        torch.stack([sample.image for sample in samples]),
        torch.stack([sample.valid for sample in samples]),
        torch.from_numpy(np.stack(targets)),
        torch.tensor(points, dtype=torch.float32)[:, None],
        torch.tensor(boxes, dtype=torch.float32),
        boxed,
    )


def correction_clicks(
    logits: torch.Tensor, targets: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one click per object in the larger of its two kinds of error.

    Args:
        logits: (N, h, w) answers at a quarter of the input's size.
        targets: (N, h, w) share of the object per cell.
        rng: random generator.

    Returns:
        Clicks (N, 1, 2) x, y in input pixels, and labels (N, 1): 1 object, 0 background, -1 where there is no error.
    """
    answers, truths = (logits > 0).cpu().numpy(), (targets > 0.5).cpu().numpy()
    points = np.zeros((len(answers), 1, 2), np.float32)
    labels = np.full((len(answers), 1), -1, np.int64)
    for index, (answer, truth) in enumerate(zip(answers, truths, strict=True)):
        missed, extra = truth & ~answer, answer & ~truth
        positive = missed.sum() >= extra.sum()
        wrong = missed if positive else extra
        if wrong.any():
            row, column = _within(wrong, rng)
            points[index, 0] = (column * 4 + rng.uniform(0, 4), row * 4 + rng.uniform(0, 4))
            labels[index, 0] = int(positive)
    return torch.from_numpy(points).to(logits.device), torch.from_numpy(labels).to(logits.device)


def _within(wrong: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    """Return a cell of an error region: mostly where it is thickest, else any."""
    if rng.random() < _CENTRED:
        flat = int(np.argmax(ndimage.distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1]))
    else:
        cells = np.flatnonzero(wrong)
        flat = int(cells[int(rng.integers(len(cells)))])
    return flat // wrong.shape[1], flat % wrong.shape[1]
