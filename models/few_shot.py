"""Segment what looks like one labelled object, without any training: PerSAM (Zhang et al., ICLR 2024, section 3.2).

The masked embedding features of the labelled objects become one target vector; where another image is most like it,
there is the click, and where it is least, a background click. Two refinements then build on the first answer. PerSAM's
target-guided attention is left out (it changes the decoder's attention), and where several prompts are given SAM's
single mask is taken instead of the best of three, because that is what SAM answers several prompts with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from .answers import CHOICES
from .batch_decode import decode_batch
from .errors import PromptError
from .prompt_mask import CELL, draw_prompts
from .promptable import PATCH
from .sam_modules import Sam

REFINEMENTS = 2


@dataclass(frozen=True)
class Likeness:
    """Where an image is most and least like a target.

    Attributes:
        points: (1, P, 2) float32 x, y in input pixels: the most alike place, and with P = 2 the least alike one.
        labels: (1, P) int64, 1 for the former, 0 for the latter.
        highest: cosine at the most alike place, -1 to 1.
    """

    points: torch.Tensor
    labels: torch.Tensor
    highest: float


@dataclass(frozen=True)
class Alike:
    """What was segmented by a target.

    Attributes:
        logits: (4 h, 4 w) float32.
        iou: predicted IoU, 0 to 1.
        prompts: the clicks it began with.
    """

    logits: torch.Tensor
    iou: float
    prompts: Likeness


def target_vector(embeddings: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Say what labelled objects look like: half the mean plus half the maximum of their features, of length 1.

    Args:
        embeddings: (B, C, h, w) of the images, or (C, h, w) of one.
        masks: (B, H, W) bool or 0 to 1, the object in each image, or (H, W); resized by area. Cells count that are the
            object's by more than half; of an object so small that it has none, the cells it has the most of.

    Returns:
        (C,) float32.

    Raises:
        PromptError: a mask is empty.
    """
    if embeddings.ndim == 3:
        embeddings, masks = embeddings[None], masks[None]
    size = (embeddings.shape[2], embeddings.shape[3])
    shares = functional.adaptive_avg_pool2d(masks.float()[:, None], size)[:, 0]
    most = shares.amax(dim=(1, 2), keepdim=True)
    if bool((most == 0).any()):
        raise PromptError("A labelled object is empty here. Label at least one object within the image.")
    inside = shares >= most.clamp_max(0.5)
    features = embeddings.float().permute(0, 2, 3, 1)[inside]
    return functional.normalize(features.mean(dim=0) / 2 + features.amax(dim=0) / 2, dim=0)


def similarity(embedding: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the (h, w) cosine, -1 to 1, of each place of a (C, h, w) embedding with a (C,) target of length 1."""
    return torch.einsum("chw,c->hw", functional.normalize(embedding.float(), dim=0), target)


def clicks_by(likeness: torch.Tensor, valid: torch.Tensor | None = None, *, negative: bool = True) -> Likeness:
    """Turn a map of likeness into clicks, in the middle of the cells.

    Args:
        likeness: (h, w), from :func:`similarity`.
        valid: (h, w) bool, where the image has data; None: everywhere.
        negative: click the least alike place too.

    Returns:
        The clicks; of several places that are equally alike the first.

    Raises:
        PromptError: no place is valid.
    """
    usable = torch.ones_like(likeness, dtype=torch.bool) if valid is None else valid
    if not bool(usable.any()):
        raise PromptError("There is no data in this image. Choose another place.")
    low, high = torch.full_like(likeness, -torch.inf), torch.full_like(likeness, torch.inf)
    best = torch.where(usable, likeness, low).argmax()
    places = [best, torch.where(usable, likeness, high).argmin()] if negative else [best]
    flat = torch.stack(places)
    width = likeness.shape[1]
    points = (torch.stack([flat % width, flat // width], dim=1).float() + 0.5) * PATCH
    labels = torch.tensor([[1, 0][: len(places)]], device=likeness.device)
    return Likeness(points[None], labels, float(likeness.flatten()[best]))


@torch.no_grad()
def segment_alike(
    sam: Sam,
    embedding: torch.Tensor,
    prompts: Likeness,
    *,
    bumps: bool,
    refinements: int = REFINEMENTS,
    window: tuple[int, int] = (0, 0),
) -> Alike:
    """Segment by clicks that a target gave, and refine.

    The first refinement gives the answer back as mask prompt, the second the box about it as well.

    Args:
        sam: the model.
        embedding: (256, h, w) of the image.
        prompts: from :func:`clicks_by`. With one click SAM's three masks are offered, of which the best by predicted
            IoU is taken; an attached mask mixing takes part there.
        bumps: prompts are drawn into the mask prompt too, as ``tiny`` wants it (the card's ``click_bumps``).
        refinements: 0 to 2.
        window: token row and column of the image within the grid of ``tiny``.
    """
    logits, iou = _ask(sam, embedding, prompts, None, None, bumps=bumps, window=window)
    for step in range(refinements):
        if not bool((logits > 0).any()):
            break
        box = _box_of(logits) if step else None
        logits, iou = _ask(sam, embedding, prompts, box, logits, bumps=bumps, window=window)
    return Alike(logits, float(iou.clamp(0, 1)), prompts)


def _box_of(logits: torch.Tensor) -> torch.Tensor:
    """Return the (1, 4) box in input pixels of (4 h, 4 w) logits that are positive somewhere."""
    rows, columns = (logits > 0).any(dim=1).nonzero()[:, 0], (logits > 0).any(dim=0).nonzero()[:, 0]
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])[None].float() * CELL


def _ask(
    sam: Sam,
    embedding: torch.Tensor,
    prompts: Likeness,
    box: torch.Tensor | None,
    previous: torch.Tensor | None,
    *,
    bumps: bool,
    window: tuple[int, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the (4 h, 4 w) logits of the mask to believe, and its predicted IoU (scalar)."""
    known = None if previous is None else previous[None]
    size = (4 * embedding.shape[1], 4 * embedding.shape[2])
    planes = None if known is None else known[:, None]
    if bumps:
        planes = draw_prompts(size, prompts.points, prompts.labels, box, known, embedding[None].float())
    logits, iou = decode_batch(sam, embedding[None].float(), prompts.points, prompts.labels, box, planes, window)
    if prompts.points.shape[1] > 1 or previous is not None:
        return logits[0, 0].float(), iou[0, 0].float()
    best = 1 + int(iou[0, 1 : 1 + CHOICES].argmax())
    return logits[0, best].float(), iou[0, best].float()
