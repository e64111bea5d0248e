"""Find all objects: the instance head's centres and boxes become prompts of SAM's own decoder.

Peaks of the centre maps (3 x 3 maximum, CenterNet, Zhou et al. 2019) are boxed, or boxed and clicked, decoded in
chunks, cut off outside their boxes, and de-duplicated by how their masks overlap. Nothing here is random.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import torch
from torch.nn import functional

from ..batch_decode import decode_batch
from ..encoder import Features
from ..prompt_mask import draw_prompts
from ..sam_modules import Sam
from .instances import InstanceMaps, Instances


class Prompt(enum.Enum):
    """What the decoder is given of an object.

    ``tiny`` has learnt boxes without clicks and clicks without boxes; a first answer to both is worse: with the true
    boxes of storage tanks of 20 px its masks have a mean IoU of 0.79 by box and of 0.58 by box and click.
    """

    BOX = "box"
    BOX_AND_CLICK = "box and click"


@dataclass(frozen=True)
class FindOptions:
    """What counts as an object.

    Attributes:
        threshold: least chance that a cell is a centre, 0 to 1.
        most: peaks taken at most per image, the surest first.
        overlap: two masks whose IoU is above this are one object, whatever their classes.
        contained: the same for objects of one class where this share of the smaller lies within the larger.
        slack: how far a mask may go beyond its box, as a share of the box's side.
        chunk: objects decoded at once, which bounds the memory.
        prompt: what the decoder is given.
        bumps: prompts are drawn into the mask prompt too, as ``tiny`` wants it (the card's ``click_bumps``).
        exclusive: no pixel belongs to two objects: it goes to the one with the higher logit there.
    """

    threshold: float = 0.3
    most: int = 200
    overlap: float = 0.5
    contained: float = 0.8
    slack: float = 0.1
    chunk: int = 32
    prompt: Prompt = Prompt.BOX
    bumps: bool = False
    exclusive: bool = True


@dataclass(frozen=True)
class Peaks:
    """Places that are to be prompted, the surest first.

    Attributes:
        clicks: (N, 2) float32 x, y in input pixels.
        boxes: (N, 4) float32 x0, y0, x1, y1 in input pixels.
        classes: (N,) int64.
        chances: (N,) float32, 0 to 1.
    """

    clicks: torch.Tensor
    boxes: torch.Tensor
    classes: torch.Tensor
    chances: torch.Tensor


@dataclass(frozen=True)
class Found:
    """The objects of one image, the surest first.

    Attributes:
        logits: (N, H / 4, W / 4) float32, positive inside.
        classes: (N,) int64.
        scores: (N,) float32, 0 to 1: the chance of the centre times the IoU that SAM predicts for its mask.
        clicks: (N, 2) float32 x, y in input pixels, where they have their centres.
        boxes: (N, 4) float32, the boxes they were prompted with, in input pixels.
    """

    logits: torch.Tensor
    classes: torch.Tensor
    scores: torch.Tensor
    clicks: torch.Tensor
    boxes: torch.Tensor


@torch.no_grad()
def find(
    sam: Sam,
    head: Instances,
    features: Features,
    options: FindOptions = FindOptions(),
    window: tuple[int, int] = (0, 0),
) -> list[Found]:
    """Find the objects of B images.

    Args:
        sam: the model whose decoder draws the outlines.
        head: tuned for it.
        features: from the encoder, with the blocks that the head's configuration collects.
        options: what counts as an object.
        window: token row and column of the images within the grid of ``tiny``, for inputs smaller than its own.

    Returns:
        What was found in each image.
    """
    maps = head(features)
    images = range(len(maps.heat))
    return [_outline(sam, features.embedding[i : i + 1], peaks(maps, i, options), options, window) for i in images]


def peaks(maps: InstanceMaps, image: int, options: FindOptions) -> Peaks:
    """Return the peaks of one image's centre maps.

    Args:
        maps: what the head answers.
        image: which of the batch.
        options: threshold and number.
    """
    chance = torch.sigmoid(maps.heat[image])
    highest = functional.max_pool2d(chance, 3, 1, 1)
    at = ((chance == highest) & (chance >= options.threshold)).nonzero()
    order = torch.sort(chance[at.unbind(1)], descending=True, stable=True).indices[: options.most]
    classes, rows, columns = at[order].unbind(1)
    height, width = chance.shape[1] * maps.stride, chance.shape[2] * maps.stride
    limit = torch.tensor([width, height] * 2, dtype=torch.float32, device=chance.device)
    boxes = torch.minimum(maps.boxes[image][:, rows, columns].T.clamp_min(0), limit)
    cells = (torch.stack([columns, rows], dim=1).float() + 0.5) * maps.stride
    # The cell's centre may lie beside an object that is smaller than the cell; the middle half of its box does not.
    quarter = (boxes[:, 2:] - boxes[:, :2]) / 4
    clicks = torch.minimum(torch.maximum(cells, boxes[:, :2] + quarter), boxes[:, 2:] - quarter)
    return Peaks(clicks, boxes, classes, chance[classes, rows, columns])


def _outline(sam: Sam, embedding: torch.Tensor, found: Peaks, options: FindOptions, window: tuple[int, int]) -> Found:
    """Decode the peaks of one image from its (1, 256, h, w) embedding, and de-duplicate."""
    size = (4 * embedding.shape[2], 4 * embedding.shape[3])
    logits, scores = embedding.new_zeros(0, *size), embedding.new_zeros(0)
    if len(found.classes):
        parts = [
            _decode(sam, embedding, clicks[:, None], boxes, options, window)
            for clicks, boxes in zip(
                torch.split(found.clicks, options.chunk), torch.split(found.boxes, options.chunk), strict=True
            )
        ]
        logits = torch.cat([part for part, _ in parts])
        scores = found.chances * torch.cat([iou for _, iou in parts]).clamp(0, 1)
    order = torch.sort(scores, descending=True, stable=True).indices
    kept = order[distinct(logits[order] > 0, found.classes[order], options.overlap, options.contained)]
    logits = logits[kept]
    if options.exclusive and len(kept) > 1:
        logits = _exclusive(logits)
    return Found(logits, found.classes[kept], scores[kept], found.clicks[kept], found.boxes[kept])


def _decode(
    sam: Sam,
    embedding: torch.Tensor,
    points: torch.Tensor,
    boxes: torch.Tensor,
    options: FindOptions,
    window: tuple[int, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (N, 4 h, 4 w) logits and (N,) predicted IoU by the boxes (N, 4) and, if wanted, the clicks (N, 1, 2)."""
    size = (4 * embedding.shape[2], 4 * embedding.shape[3])
    if options.prompt is Prompt.BOX:
        points = points[:, :0]
    labels = torch.ones(points.shape[:2], dtype=torch.int64, device=points.device)
    planes = draw_prompts(size, points, labels, boxes, None, embedding) if options.bumps else None
    logits, iou = decode_batch(sam, embedding, points, labels, boxes, planes, window)
    side = boxes[:, 2:] - boxes[:, :2]
    low, high = ((boxes[:, :2] - options.slack * side) / 4, (boxes[:, 2:] + options.slack * side) / 4)
    rows = torch.arange(size[0], device=boxes.device)[None, :, None] + 0.5
    columns = torch.arange(size[1], device=boxes.device)[None, None, :] + 0.5
    near = (columns >= low[:, 0, None, None]) & (columns <= high[:, 0, None, None])
    near = near & (rows >= low[:, 1, None, None]) & (rows <= high[:, 1, None, None])
    single = logits[:, 0].float()
    return torch.where(near, single, -single.abs()), iou[:, 0].float()


def distinct(masks: torch.Tensor, classes: torch.Tensor, overlap: float, contained: float) -> torch.Tensor:
    """Say which masks are objects of their own: not empty, and not one that came before under another name.

    Args:
        masks: (N, h, w) bool, the best first.
        classes: (N,).
        overlap: two masks whose IoU is above this are one.
        contained: two of one class are one where this share of the smaller lies in the larger.

    Returns:
        (M,) int64, the indices to keep, in order.
    """
    flat = masks.flatten(1).float()
    area = flat.sum(dim=1)
    both = flat @ flat.T
    same = both > overlap * (area[:, None] + area[None] - both)
    within = both > contained * torch.minimum(area[:, None], area[None])
    clash = (same | (within & (classes[:, None] == classes[None]))).cpu()
    kept: list[int] = []
    for index in (area > 0).nonzero()[:, 0].tolist():
        if not clash[index, kept].any():
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64, device=masks.device)


def _exclusive(logits: torch.Tensor) -> torch.Tensor:
    """Give every place that several of (N, h, w) masks claim to the one with the highest logit there."""
    owner = logits.argmax(dim=0, keepdim=True)
    mine = torch.arange(len(logits), device=logits.device)[:, None, None] == owner
    return torch.where(mine, logits, -logits.abs())
