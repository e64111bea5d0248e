"""Class maps: a light decoder over the features of several blocks, its loss, and what it answers with.

Cross-entropy and soft dice over labelled pixels only: the logits of pixels with :data:`.contract.IGNORE` are left out
before anything is computed from them, so unlabelled ground has no part in values or gradients.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from ..encoder import Features
from ..peft.contract import Part, Plan, TuningError, count
from ..sam_modules import Sam
from .contract import IGNORE, HeadConfig, SemanticHead
from .neck import WIDTH, MultiLayerNeck, conv_block, doubling, every_second


@dataclass(frozen=True)
class SemanticConfig(HeadConfig):
    """A class map at a quarter of the input's size.

    Attributes:
        classes: how many there are, at least 2; with one class of interest the other is "anything else".
    """

    method: ClassVar[str] = "semantic"

    classes: int = 2

    def collect(self, sam: Sam) -> tuple[int, ...]:
        """Return every second block: see :meth:`.contract.HeadConfig.collect`."""
        return every_second(sam)

    def plan(self, sam: Sam) -> Plan:
        """Count: see :meth:`..peft.contract.MethodConfig.plan`."""
        if self.classes < 2:
            raise TuningError("A class map needs at least two classes: say what the ground is where the first is not.")
        with torch.device("meta"):
            return Plan((), (), count(Semantic(self, sam).parameters()))

    def build(self, sam: Sam) -> Part:
        """Make the head: see :meth:`..peft.contract.MethodConfig.build`."""
        self.plan(sam)
        return Semantic(self, sam).to(next(sam.mask_decoder.parameters()).device)


class Semantic(SemanticHead):
    """Neck, two doublings and a classifier per place."""

    def __init__(self, config: SemanticConfig, sam: Sam) -> None:
        """Make the layers with random weights."""
        super().__init__(config)
        self.neck = MultiLayerNeck(sam, config.collect(sam))
        self.decoder = nn.Sequential(conv_block(WIDTH, WIDTH), doubling(WIDTH), doubling(WIDTH))
        self.classifier = nn.Conv2d(WIDTH, config.classes, 1)

    def forward(self, features: Features) -> torch.Tensor:
        """Say how much each place is like each class: see :meth:`.contract.SemanticHead.forward`."""
        fused = self.neck(features, self.side.streams)
        logits: torch.Tensor = self.classifier(self.decoder(fused))
        return logits.float()


def semantic_loss(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None, dice_share: float = 1.0
) -> torch.Tensor:
    """Cross-entropy plus soft dice over the labelled pixels.

    Dice is taken per class over all labelled pixels of the batch, and averaged over the classes that occur among them.

    Args:
        logits: (B, K, h, w); resized (bilinear) to the labels' size where that is another.
        labels: (B, H, W) int64, 0 to K - 1, or ``IGNORE`` where nothing is known.
        weights: (K,) weights of the classes, or None for equal ones; see :func:`class_weights`.
        dice_share: weight of dice against cross-entropy.

    Returns:
        Scalar float32; 0 where nothing at all is labelled.
    """
    planes = logits.float()
    if planes.shape[-2:] != labels.shape[-2:]:
        planes = functional.interpolate(planes, labels.shape[-2:], mode="bilinear", align_corners=False)
    known = labels != IGNORE
    rows, classes = planes.permute(0, 2, 3, 1)[known], labels[known]
    if not len(classes):
        return rows.sum()
    entropy = functional.cross_entropy(rows, classes, weights)
    return entropy + dice_share * _dice(rows.softmax(dim=1), classes, weights)


def _dice(probability: torch.Tensor, classes: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Return the mean over present classes of 1 - 2 |A B| / (|A|^2 + |B|^2) for (N, K) probabilities."""
    truth = functional.one_hot(classes, probability.shape[1]).to(probability.dtype)
    both = (probability * truth).sum(dim=0)
    sizes = (probability**2).sum(dim=0) + truth.sum(dim=0)
    present = (truth.sum(dim=0) > 0).to(probability.dtype)
    share = present if weights is None else present * weights.to(probability.dtype)
    return (share * (1 - 2 * both / sizes.clamp_min(1e-6))).sum() / share.sum().clamp_min(1e-6)


def class_weights(labels: Iterable[torch.Tensor], classes: int) -> torch.Tensor:
    """Weigh classes by the inverse square root of their share of the labelled pixels, with mean 1.

    The full inverse lets a handful of pixels of a rare class outshout everything else.

    Args:
        labels: label maps of any shape, int64, with ``IGNORE``.
        classes: K.

    Returns:
        (K,) float32; classes that never occur weigh 1.
    """
    counts = torch.zeros(classes, dtype=torch.float64)
    for found in labels:
        counts += torch.bincount(found[found != IGNORE].flatten().cpu(), minlength=classes)
    seen = counts > 0
    if not seen.any():
        return torch.ones(classes)
    inverse = torch.where(seen, (counts.sum() / counts.clamp_min(1)).sqrt(), torch.zeros_like(counts))
    inverse = inverse / inverse[seen].mean()
    return torch.where(seen, inverse, torch.ones_like(inverse)).float()


@dataclass(frozen=True)
class ClassMap:
    """What a semantic head answers.

    Attributes:
        classes: (B, H, W) int64, the most probable class of each pixel.
        confidence: (B, H, W) float32, 1 / K to 1: its probability.
    """

    classes: torch.Tensor
    confidence: torch.Tensor


def class_map(logits: torch.Tensor, size: tuple[int, int]) -> ClassMap:
    """Turn logits into a class map.

    Args:
        logits: (B, K, h, w).
        size: (H, W) wanted; logits are resized (bilinear) before classes are chosen, so outlines are smooth.

    Returns:
        The class map.
    """
    planes = functional.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
    confidence, classes = planes.softmax(dim=1).max(dim=1)
    return ClassMap(classes, confidence)
