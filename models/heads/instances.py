"""Objects without prompts: a head that says where the centres of objects are, and how far each reaches.

:mod:`.find` turns its answer into clicks and boxes for SAM's own decoder, so touching neighbours stay
two objects, where connected parts of a class map would merge them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from ..encoder import Features
from ..peft.contract import Part, Plan, TuningError, count
from ..sam_modules import Sam
from .centres import InstanceTargets, instance_targets
from .contract import Head, HeadConfig
from .neck import WIDTH, MultiLayerNeck, conv_block, doubling, every_second

__all__ = ["InstanceMaps", "InstanceTargets", "Instances", "InstancesConfig", "instance_loss", "instance_targets"]

STRIDES = (16, 8, 4)
PRIOR = 0.05
"""What a new head takes every cell's chance of being a centre for (Lin et al., focal loss, section 4.1)."""

ALPHA, BETA = 2.0, 4.0
"""Exponents of the penalty-reduced focal loss."""

_FARTHEST = 6.0
"""Bound of the logarithm of a distance in cells: nothing is farther than e^6 of them."""


@dataclass(frozen=True)
class InstancesConfig(HeadConfig):
    """Centres and boxes of objects.

    Attributes:
        classes: how many kinds of objects there are.
        stride: input pixels per cell of the maps, 16, 8 or 4. Neighbours stay two objects where their centres are two
            cells apart: 8 serves objects from about 16 px on; 4 those from 8 px on, at four times the memory.
    """

    method: ClassVar[str] = "instances"

    classes: int = 1
    stride: int = 8

    def collect(self, sam: Sam) -> tuple[int, ...]:
        """Return every second block: see :meth:`.contract.HeadConfig.collect`."""
        return every_second(sam)

    def plan(self, sam: Sam) -> Plan:
        """Count: see :meth:`..peft.contract.MethodConfig.plan`."""
        if self.classes < 1 or self.stride not in STRIDES:
            raise TuningError(f"Finding objects needs at least one class, and a stride that is one of {STRIDES}.")
        with torch.device("meta"):
            return Plan((), (), count(Instances(self, sam).parameters()))

    def build(self, sam: Sam) -> Part:
        """Make the head: see :meth:`..peft.contract.MethodConfig.build`."""
        self.plan(sam)
        return Instances(self, sam).to(next(sam.mask_decoder.parameters()).device)


@dataclass(frozen=True)
class InstanceMaps:
    """What the head answers for B images of (H, W) pixels, h and w being H / stride and W / stride.

    Attributes:
        heat: (B, K, h, w) float32 logits: here is the centre of an object of class k.
        boxes: (B, 4, h, w) float32 x0, y0, x1, y1 in input pixels of the object whose centre is here.
        stride: input pixels per cell.
    """

    heat: torch.Tensor
    boxes: torch.Tensor
    stride: int


class Instances(Head):
    """Neck, doublings down to the stride, and a branch each for centres and boxes."""

    config: InstancesConfig

    def __init__(self, config: InstancesConfig, sam: Sam) -> None:
        """Make the layers with random weights."""
        super().__init__(config)
        self.neck = MultiLayerNeck(sam, config.collect(sam))
        doublings = STRIDES.index(config.stride)
        self.trunk = nn.Sequential(conv_block(WIDTH, WIDTH), *(doubling(WIDTH) for _ in range(doublings)))
        self.centres = nn.Sequential(conv_block(WIDTH, WIDTH), nn.Conv2d(WIDTH, config.classes, 1))
        self.reaches = nn.Sequential(conv_block(WIDTH, WIDTH), nn.Conv2d(WIDTH, 4, 1))
        last = self.centres[-1]
        if isinstance(last, nn.Conv2d) and last.bias is not None:
            nn.init.constant_(last.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, features: Features) -> InstanceMaps:
        """Say where centres are.

        Args:
            features: of (B, 3, H, W) images; of twice as many where :attr:`side` says that there are two streams.

        Returns:
            The maps of B images.
        """
        found = self.trunk(self.neck(features, self.side.streams))
        reach = self.reaches(found).float().clamp(-_FARTHEST, _FARTHEST).exp()
        stride = self.config.stride
        return InstanceMaps(self.centres(found).float(), _boxes(reach * stride, stride), stride)


def _boxes(reach: torch.Tensor, stride: int) -> torch.Tensor:
    """Turn (B, 4, h, w) distances from the cells' centres to the left, upper, right and lower side into boxes."""
    height, width = reach.shape[-2:]
    y = (torch.arange(height, device=reach.device) + 0.5)[:, None].expand(height, width) * stride
    x = (torch.arange(width, device=reach.device) + 0.5)[None, :].expand(height, width) * stride
    left, upper, right, lower = reach.unbind(dim=1)
    return torch.stack([x - left, y - upper, x + right, y + lower], dim=1)


def instance_loss(maps: InstanceMaps, targets: InstanceTargets, box_share: float = 2.0) -> torch.Tensor:
    """Focal loss of the centres plus GIoU loss of the boxes, on known cells only.

    Args:
        maps: what the head answers.
        targets: from :func:`.centres.instance_targets`, of the same stride and number of classes.
        box_share: weight of the boxes; CenterNet's kin use 1 to 5.

    Returns:
        Scalar float32; 0 where nothing is known.

    Raises:
        ValueError: maps and targets have different shapes.
    """
    if maps.heat.shape != targets.heat.shape:
        raise ValueError(f"maps {tuple(maps.heat.shape)} and targets {tuple(targets.heat.shape)} differ")
    known = targets.known
    heat = _heat_loss(maps.heat.transpose(0, 1)[:, known], targets.heat.transpose(0, 1)[:, known])
    sure = known & (targets.weight > 0)
    weight = targets.weight[sure]
    answer, truth = (boxes.permute(0, 2, 3, 1)[sure] for boxes in (maps.boxes, targets.boxes))
    return heat + box_share * (weight * giou_loss(answer, truth)).sum() / weight.sum().clamp_min(1e-6)


def _heat_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Penalty-reduced focal loss per centre; logits and target of the same shape."""
    centre = target == 1
    chance = torch.sigmoid(logits)
    missed = (1 - chance) ** ALPHA * functional.logsigmoid(logits)
    wrong = (1 - target) ** BETA * chance**ALPHA * functional.logsigmoid(-logits)
    return -torch.where(centre, missed, wrong).sum() / centre.sum().clamp_min(1)


def giou_loss(answer: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """1 - generalised IoU (Rezatofighi et al., CVPR 2019, algorithm 1).

    Args:
        answer: (N, 4) x0, y0, x1, y1, not inverted.
        truth: (N, 4).

    Returns:
        (N,) from 0 (equal) to below 2.
    """
    low, high = torch.maximum(answer[:, :2], truth[:, :2]), torch.minimum(answer[:, 2:], truth[:, 2:])
    both = (high - low).clamp_min(0).prod(dim=1)
    sizes = (answer[:, 2:] - answer[:, :2]).prod(dim=1) + (truth[:, 2:] - truth[:, :2]).prod(dim=1)
    either = (sizes - both).clamp_min(1e-6)
    outer = torch.maximum(answer[:, 2:], truth[:, 2:]) - torch.minimum(answer[:, :2], truth[:, :2])
    hull = outer.prod(dim=1).clamp_min(1e-6)
    return 1 - both / either + (hull - either) / hull
