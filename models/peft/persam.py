"""PerSAM-F: two learnt weights that mix SAM's three masks for one click (Zhang et al., ICLR 2024, section 3.3).

One click may mean a part, a whole or a group, and SAM's guess which is not always the user's. The mixed mask takes the
place of the one that SAM itself would choose (the highest predicted IoU) and keeps its predicted IoU, so whoever
chooses by that gets it, and the other two remain.

PerSAM-F begins with thirds, which would change SAM's answers before anything is learnt. Here the weights begin as
thirds too, but as long as both are exactly that, the answer is SAM's own; the gradient is the mixture's all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from ..answers import CHOICES, change_answers
from ..batch_decode import decode_batch
from ..losses import dice, focal, true_iou
from ..prompt_mask import draw_prompts
from ..sam_modules import Sam
from .contract import MethodConfig, Part, Plan, Scope, TuningError, Undo

CHUNK = 16
"""Objects decoded at once."""

OUT = -20.0
"""Logit that unknown places get, against a target of 0: neither loss nor gradient."""


@dataclass(frozen=True)
class MaskMixConfig(MethodConfig):
    """Mixing of the three masks; there is nothing to set."""

    method: ClassVar[str] = "mask_mix"
    scope: ClassVar[Scope] = Scope.DECODER

    def plan(self, sam: Sam) -> Plan:
        """Say that the decoder's answers are mixed: see :meth:`.contract.MethodConfig.plan`."""
        found = sam.mask_decoder.num_multimask_outputs
        if found != CHOICES:
            raise TuningError(f"Mask mixing needs a model that answers a click with three masks; this has {found}.")
        return Plan(("mask_decoder",), (), CHOICES - 1)

    def build(self, sam: Sam) -> Part:
        """Make the weights: see :meth:`.contract.MethodConfig.build`."""
        self.plan(sam)
        return MaskMix(self, sam)


class MaskMix(Part):
    """The weights of the three masks."""

    def __init__(self, config: MaskMixConfig, sam: Sam) -> None:
        """Begin with thirds."""
        super().__init__(config)
        device = next(sam.mask_decoder.parameters()).device
        self.shift = nn.Parameter(torch.zeros(CHOICES - 1, device=device))

    @property
    def weights(self) -> torch.Tensor:
        """(3,) float32 with sum 1: how much of each mask is in the mixture. They may be negative."""
        first = 1 / CHOICES + self.shift
        return torch.cat([first, 1 - first.sum(dim=0, keepdim=True)])

    def mix(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the (N, h, w) mixture of (N, 3, h, w) logits."""
        return torch.einsum("c,nchw->nhw", self.weights.to(logits.dtype), logits)

    def change(self, logits: torch.Tensor, iou: torch.Tensor) -> torch.Tensor:
        """Put the mixture in the place of SAM's own choice.

        Args:
            logits: (N, 3, h, w).
            iou: (N, 3) predicted.

        Returns:
            (N, 3, h, w).
        """
        place = iou.argmax(dim=1)[:, None, None, None].expand(-1, 1, *logits.shape[2:])
        mixed = self.mix(logits)[:, None]
        if not bool(self.shift.any()):
            mixed = logits.gather(1, place) + (mixed - mixed.detach())
        return logits.scatter(1, place, mixed)

    def _attach(self, sam: Sam) -> Iterator[Undo]:
        yield change_answers(sam.mask_decoder, self.change)


@dataclass(frozen=True)
class MixExample:
    """Labelled objects of one image, each with one click.

    Attributes:
        embedding: (256, h, w) of the image.
        points: (N, 2) float32 x, y in input pixels, one click in each object.
        targets: (N, 4 h, 4 w) float32, the object's share of each cell, 0 to 1.
        known: (4 h, 4 w) bool, False where nobody labelled anything, which counts for nothing; None: all is known.
        window: token row and column of the image within the grid of ``tiny``.
    """

    embedding: torch.Tensor
    points: torch.Tensor
    targets: torch.Tensor
    known: torch.Tensor | None = None
    window: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class MixFit:
    """How the training went.

    Attributes:
        loss_before: mean dice plus focal loss of SAM's own choice.
        loss_after: the mixture's.
        iou_before: mean IoU of SAM's own choice with the objects, 0 to 1.
        iou_after: the mixture's.
        weights: of the three masks.
    """

    loss_before: float
    loss_after: float
    iou_before: float
    iou_after: float
    weights: tuple[float, ...]


def fit_mask_mix(
    sam: Sam,
    part: MaskMix,
    examples: Sequence[MixExample],
    *,
    bumps: bool,
    steps: int = 1000,
    rate: float = 1e-3,
    each: Callable[[int, float], None] | None = None,
    check: Callable[[], None] = lambda: None,
) -> MixFit:
    """Learn the weights: AdamW, cosine schedule, dice plus focal loss. The masks are decoded once, before.

    Args:
        sam: the model the part was built for.
        part: begins where it is; not attached.
        examples: at least one object.
        bumps: clicks are drawn into the mask prompt too, as ``tiny`` wants it (the card's ``click_bumps``).
        steps: of training. With the rate they bound how far the weights get from thirds, about rate * steps / 2.
        rate: learning rate at the start.
        each: called with the number of every step done, and its loss; may raise to stop.
        check: called before every look at the model's masks; may raise to stop.

    Returns:
        What it was good for: worth keeping only where the IoU rose, on other objects best.

    Raises:
        TuningError: the part is attached, so that its own mixture would be mixed again; or there is no object.
    """
    if part.attached:
        raise TuningError("The mask mixing is in use. Detach it to train it.")
    if not sum(len(example.points) for example in examples):
        raise TuningError("Mask mixing needs at least one labelled object.")
    masks, own, targets = _answers(sam, examples, bumps=bumps, check=check)
    optimiser = torch.optim.AdamW([part.shift], lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        optimiser.zero_grad()
        loss = _loss(part.mix(masks), targets)
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if each is not None:
            each(step + 1, float(loss.detach()))
    with torch.no_grad():
        mixed = part.mix(masks)
        return MixFit(
            float(_loss(own, targets)),
            float(_loss(mixed, targets)),
            float(true_iou(own, targets).mean()),
            float(true_iou(mixed, targets).mean()),
            tuple(part.weights.tolist()),
        )


def _loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (dice(logits, targets) + focal(logits, targets)).mean()


@torch.no_grad()
def _answers(
    sam: Sam, examples: Sequence[MixExample], *, bumps: bool, check: Callable[[], None]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return SAM's three masks (N, 3, h, w) for each click, its own choice (N, h, w), and the targets.

    Unknown places become sure background in all of them.
    """
    masks, choices, targets = [], [], []
    for example in examples:
        known = torch.ones_like(example.targets[0], dtype=torch.bool) if example.known is None else example.known
        targets.append(torch.where(known, example.targets, torch.zeros_like(example.targets)))
        for points in torch.split(example.points, CHUNK):
            check()
            logits, iou = _click(sam, example, points, bumps=bumps)
            logits = torch.where(known, logits, torch.full_like(logits, OUT))
            masks.append(logits)
            choices.append(logits[torch.arange(len(iou), device=iou.device), iou.argmax(dim=1)])
    return torch.cat(masks), torch.cat(choices), torch.cat(targets)


def _click(sam: Sam, example: MixExample, points: torch.Tensor, *, bumps: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return three masks (N, 3, 4 h, 4 w) and their predicted IoU (N, 3) for one click (N, 2) each."""
    embedding = example.embedding[None].float()
    clicks, labels = points[:, None], torch.ones(len(points), 1, dtype=torch.int64, device=points.device)
    size = (4 * embedding.shape[2], 4 * embedding.shape[3])
    planes = draw_prompts(size, clicks, labels, None, None, embedding) if bumps else None
    logits, iou = decode_batch(sam, embedding, clicks, labels, None, planes, example.window)
    return logits[:, 1:].float(), iou[:, 1:].float()
