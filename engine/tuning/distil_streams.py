"""The same SAM seen with one adapter or another, answering the same prompts: student, base and previous version."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ...models.batch_decode import decode_batch
from ...models.encoder import Features, encode
from ...models.peft.adapter import Adapter
from ...models.peft.contract import SideInputs
from ...models.prompt_mask import draw_prompts
from ...models.sam_modules import Sam
from ...models.tiny import PATCH

GRID_SIDE = 4
MOST_BOXES = 8
_OVERLAP = 0.7  # masks that share more than this are the same object
_LARGEST = 0.7  # share of the tile; a larger mask is its background


@dataclass(frozen=True)
class Unlabelled:
    """A crop of ground about which nobody said anything.

    Attributes:
        image: (3, S, S) float32, normalised as the model wants it; S a multiple of 16.
        bands: (C, S, S) float32, standardised, for adapters that see bands; or None.
        second: (3, S, S) float32, normalised, the same ground in the second modality; or None.
        teacher_bands: (C', S, S) float32, as ``bands``, for a teacher that sees more of them; or None.
    """

    image: torch.Tensor
    bands: torch.Tensor | None = None
    second: torch.Tensor | None = None
    teacher_bands: torch.Tensor | None = None


@dataclass(frozen=True)
class Prompts:
    """First prompts of several objects in one crop, those by click before those by box.

    Attributes:
        clicks: (K, 2) x, y in input pixels.
        boxes: (J, 4) x0, y0, x1, y1 in input pixels.
    """

    clicks: torch.Tensor
    boxes: torch.Tensor

    def some(self, clicks: int, boxes: int, rng: np.random.Generator) -> tuple[Prompts, torch.Tensor]:
        """Draw some of them.

        Args:
            clicks: how many at most.
            boxes: how many at most.
            rng: random generator.

        Returns:
            The prompts drawn, and the rows that they have in the answers to all (see :func:`answer`).
        """
        first = np.sort(rng.permutation(len(self.clicks))[:clicks])
        second = np.sort(rng.permutation(len(self.boxes))[:boxes])
        rows = [*(3 * index + mask for index in first for mask in range(3)), *(3 * len(self.clicks) + second)]
        return Prompts(self.clicks[first], self.boxes[second]), torch.tensor(np.array(rows, np.int64))


@contextlib.contextmanager
def instead(sam: Sam, current: Adapter, other: Adapter | None) -> Iterator[None]:
    """Let another adapter, or none, be attached while the context lasts.

    Args:
        sam: the base.
        current: the adapter that is attached before and after.
        other: what takes its place; None for the base alone.
    """
    attached = current.attached
    current.detach()
    try:
        if other is not None:
            other.attach(sam)
        yield
    finally:
        if other is not None:
            other.detach()
        if attached:
            current.attach(sam)


def see(
    sam: Sam, adapter: Adapter | None, images: torch.Tensor, side: SideInputs, collect: tuple[int, ...] = ()
) -> Features:
    """Encode a batch with the adapter that is attached.

    Args:
        sam: the base.
        adapter: the one attached; None for the base alone.
        images: (B, 3, S, S), both streams one after the other where there are two.
        side: what comes with them.
        collect: blocks whose tokens are wanted.
    """
    with contextlib.nullcontext() if adapter is None else adapter.given(side):
        return encode(sam.image_encoder, images, collect=collect)


def answer(
    sam: Sam, embedding: torch.Tensor, prompts: Prompts, *, bumps: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode the objects of one crop.

    Args:
        sam: with whatever is attached to it.
        embedding: (1, 256, h, w).
        prompts: of K clicks and J boxes.
        bumps: the model wants prompts drawn into the mask prompt (the card's ``click_bumps``).

    Returns:
        Logits (3 K + J, 4 h, 4 w), the three masks of each click and the single one of each box, and the IoU predicted
        for them, (3 K + J,); both float32.
    """
    size = (4 * embedding.shape[-2], 4 * embedding.shape[-1])
    device = embedding.device
    logits = [torch.zeros(0, *size, device=device)]
    predicted = [torch.zeros(0, device=device)]
    if len(prompts.clicks):
        points = prompts.clicks.to(device)[:, None]
        labels = torch.ones(len(points), 1, dtype=torch.int64, device=device)
        planes = _planes(size, points, labels, None, embedding) if bumps else None
        masks, iou = decode_batch(sam, embedding, points, labels, None, planes)
        logits.append(masks[:, 1:].flatten(0, 1).float())
        predicted.append(iou[:, 1:].flatten().float())
    if len(prompts.boxes):
        boxes = prompts.boxes.to(device)
        points = torch.zeros(len(boxes), 0, 2, device=device)
        labels = torch.zeros(len(boxes), 0, dtype=torch.int64, device=device)
        planes = _planes(size, points, labels, boxes, embedding) if bumps else None
        masks, iou = decode_batch(sam, embedding, points, labels, boxes, planes)
        logits.append(masks[:, 0].float())
        predicted.append(iou[:, 0].float())
    return torch.cat(logits), torch.cat(predicted)


def _planes(
    size: tuple[int, int],
    points: torch.Tensor,
    labels: torch.Tensor,
    boxes: torch.Tensor | None,
    embedding: torch.Tensor,
) -> torch.Tensor:
    return draw_prompts(size, points, labels, boxes, embeddings=embedding.expand(len(points), -1, -1, -1))


def grid_prompts(sam: Sam, embedding: torch.Tensor, least_iou: float, *, bumps: bool = True) -> Prompts:
    """Make prompts for a crop: a grid of clicks, and the boxes of what the model finds at them and is sure of.

    Args:
        sam: without adapters.
        embedding: (1, 256, h, w) from its encoder.
        least_iou: least predicted IoU of a mask whose box is taken.
        bumps: as for :func:`answer`.
    """
    height, width = (PATCH * length for length in embedding.shape[-2:])
    xs = (torch.arange(GRID_SIDE) + 0.5) * width / GRID_SIDE
    ys = (torch.arange(GRID_SIDE) + 0.5) * height / GRID_SIDE
    clicks = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1).reshape(-1, 2)
    none = torch.zeros(0, 4)
    logits, predicted = answer(sam, embedding, Prompts(clicks, none), bumps=bumps)
    boxes = confident_boxes(logits.cpu(), predicted.cpu(), least_iou)
    return Prompts(clicks, boxes)


def confident_boxes(logits: torch.Tensor, predicted: torch.Tensor, least_iou: float) -> torch.Tensor:
    """Return the boxes of the masks that the model is sure of, the surest first, each object once.

    Args:
        logits: (N, h, w), on the CPU.
        predicted: (N,) IoU.
        least_iou: least predicted IoU.

    Returns:
        (J, 4) float32 x0, y0, x1, y1 in input pixels, at most ``MOST_BOXES``.
    """
    masks = logits > 0
    kept: list[torch.Tensor] = []
    boxes: list[list[float]] = []
    for index in predicted.argsort(descending=True).tolist():
        mask = masks[index]
        share = float(mask.float().mean())
        if float(predicted[index]) < least_iou or len(boxes) == MOST_BOXES:
            break
        if not 0 < share <= _LARGEST or any(_iou(mask, other) > _OVERLAP for other in kept):
            continue
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        ends = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        boxes.append([4.0 * float(end) for end in ends])
        kept.append(mask)
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def _iou(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first & second).sum()) / max(float((first | second).sum()), 1.0)


def as_batch(values: torch.Tensor | None, device: torch.device) -> torch.Tensor | None:
    """Return one crop's (C, S, S) as a batch of one on a device."""
    return None if values is None else values.to(device)[None]


def device_of(sam: Sam) -> torch.device:
    """Return where the base is."""
    return next(sam.parameters()).device
