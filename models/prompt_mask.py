"""Clicks and boxes drawn into SAM's mask prompt.

SAM's mask prompt is a (h, w) plane of logits at a quarter of the input's size, normally the previous answer.
``tiny`` is trained with the prompts themselves drawn into it, which taught it where the user pointed several times
faster than the point tokens alone; so it must be drawn in the same way when it is used. The convention:

* the plane begins as the previous logits, clipped to -8 ... 8;
* without those, where a box was given, as -4 outside it and 1 inside, plus there 4 times the contrast: how much a
  place's embedding is like those in the box rather than those in a frame around it (:func:`contrast`);
* without either, as 6 times the likeness of each place to what was clicked (:func:`likeness`): the cosine of the image
  embeddings there and at the click, both less the embedding's mean over the crop, averaged with the least cosine on the
  best way there from the click, so that what is alike but apart stays near 0. A first click most often means what is
  alike and connected, and so the encoder is taught what is. Where no embedding is given, the plane begins as 0;
* every click then pulls the plane towards +6 (object) or -6 (background) with the weight exp(-d^2 / (2 * 3^2)), d
  being the distance in plane cells between the click and the cell's centre; later clicks come on top of earlier ones.

Point and box tokens are given as well, as for any SAM.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

CELL = 4
SIGMA = 3.0
CLICK_LOGIT = 6.0
CLIP_LOGIT = 8.0
BOX_INSIDE = 1.0
BOX_OUTSIDE = -4.0
LIKENESS_LOGIT = 6.0
CONTRAST_LOGIT = 4.0


def draw_prompts(
    size: tuple[int, int],
    points: torch.Tensor,
    labels: torch.Tensor,
    boxes: torch.Tensor | None = None,
    previous: torch.Tensor | None = None,
    embeddings: torch.Tensor | None = None,
) -> torch.Tensor:
    """Draw the prompts of N objects.

    Args:
        size: (h, w) of the plane, a quarter of the input's size.
        points: (N, P, 2) float x, y in input pixels (the first pixel's outer corner is 0, 0).
        labels: (N, P): 1 object, 0 background, -1 no click (ignored).
        boxes: (N, 4) float x0, y0, x1, y1 in input pixels, or None. A row with a NaN has no box.
        previous: (N, h, w) logits of the previous answer, or None. A plane of NaN says there is none for that object.
        embeddings: (B, C, h / 4, w / 4) image embeddings, or None to do without likeness. N is a multiple of B, and the
            objects of one image lie together.

    Returns:
        (N, 1, h, w) float32, for ``PromptEncoder``'s ``masks``.
    """
    height, width = size
    rows = (torch.arange(height, dtype=torch.float32, device=points.device) + 0.5)[None, :, None]
    columns = (torch.arange(width, dtype=torch.float32, device=points.device) + 0.5)[None, None, :]
    plane = torch.zeros(points.shape[0], height, width, device=points.device)
    if embeddings is not None and points.shape[1] and (previous is None or torch.isnan(previous).any()):
        plane = LIKENESS_LOGIT * likeness(embeddings, points, labels, size)
    if boxes is not None:
        inside = BOX_INSIDE * torch.ones_like(plane)
        if embeddings is not None and previous is None:
            inside = inside + CONTRAST_LOGIT * contrast(embeddings, boxes, size)
        boxed = _box_plane(boxes, rows, columns, inside)
        plane = torch.where(torch.isnan(boxes).any(dim=1)[:, None, None], plane, boxed)
    if previous is not None:
        plane = torch.where(torch.isnan(previous), plane, previous.float().clamp(-CLIP_LOGIT, CLIP_LOGIT))
    for index in range(points.shape[1]):
        x, y = points[:, index, 0] / CELL, points[:, index, 1] / CELL
        vertical = torch.exp(-((rows - y[:, None, None]) ** 2) / (2 * SIGMA**2))
        horizontal = torch.exp(-((columns - x[:, None, None]) ** 2) / (2 * SIGMA**2))
        label = labels[:, index, None, None]
        weight = vertical * horizontal * (label >= 0)
        plane = plane + weight * (torch.where(label > 0, CLICK_LOGIT, -CLICK_LOGIT) - plane)
    return plane[:, None]


def likeness(
    embeddings: torch.Tensor, points: torch.Tensor, labels: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """Say how like the clicked places each place is.

    Args:
        embeddings: (B, C, h / 4, w / 4) image embeddings; N is a multiple of B, objects of one image lie together.
        points: (N, P, 2) x, y in input pixels.
        labels: (N, P): 1 object, 0 background, -1 no click.
        size: (h, w) of the result.

    Returns:
        (N, h, w) float32 in [-1, 1], or [-2, 2] where there are clicks of both kinds.
    """
    seen = embeddings.float()
    centred = functional.normalize(seen - seen.mean(dim=(2, 3), keepdim=True), dim=1)
    extent = torch.tensor([size[1] * CELL, size[0] * CELL], dtype=torch.float32, device=points.device)
    places = (points / extent * 2 - 1).reshape(len(seen), 1, -1, 2)
    clicked = functional.grid_sample(centred, places, mode="bilinear", padding_mode="border", align_corners=False)
    alike = torch.einsum("bcp,bchw->bphw", functional.normalize(clicked[:, :, 0], dim=1), centred)
    alike = alike.reshape(*labels.shape, *seen.shape[2:])
    alike = (alike + _reach(alike, points, extent)) / 2
    sign = (labels > 0).float() / (labels > 0).sum(dim=1, keepdim=True).clamp_min(1)
    sign = sign - (labels == 0).float() / (labels == 0).sum(dim=1, keepdim=True).clamp_min(1)
    coarse = torch.einsum("np,nphw->nhw", sign, alike)[:, None]
    return functional.interpolate(coarse, size, mode="bilinear", align_corners=False)[:, 0]


def _reach(alike: torch.Tensor, points: torch.Tensor, extent: torch.Tensor) -> torch.Tensor:
    """Return (N, P, h, w): how like the click the least like place is on the best way there from the click."""
    height, width = alike.shape[-2:]
    cells = points / extent * torch.tensor([width, height], device=points.device)
    column, row = cells[..., 0].long().clamp(0, width - 1), cells[..., 1].long().clamp(0, height - 1)
    start = torch.zeros_like(alike, dtype=torch.bool).flatten(2)
    start = start.scatter(2, (row * width + column)[..., None], torch.ones_like(start[..., :1])).view_as(alike)
    reach = torch.where(start, alike, -torch.ones_like(alike))
    # Enough for a way along two sides of the grid; the end of a longer, winding one is taken for out of reach.
    for _ in range(height + width):
        reach = torch.maximum(reach, torch.minimum(alike, functional.max_pool2d(reach, 3, 1, 1)))
    return reach


def contrast(embeddings: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Say how much each place is like the inside of a box rather than its surroundings.

    Args:
        embeddings: (B, C, h / 4, w / 4) image embeddings, as for :func:`likeness`.
        boxes: (N, 4) float x0, y0, x1, y1 in input pixels.
        size: (h, w) of the result.

    Returns:
        (N, h, w) float32 in [-1, 1]: cosine of the embedding, less its mean over the crop, and the difference of the
        means inside the box and in a frame of half its width around it; 0 where the box is NaN.
    """
    seen = embeddings.float()
    centred = seen - seen.mean(dim=(2, 3), keepdim=True)
    sides = torch.nan_to_num(boxes)
    half = (sides[:, 2:] - sides[:, :2]) / 2
    cell = size[0] * CELL / seen.shape[2]
    within = _coverage(sides / cell, seen.shape[2:])
    frame = _coverage(torch.cat([sides[:, :2] - half, sides[:, 2:] + half], dim=1) / cell, seen.shape[2:]) - within
    means = [
        torch.einsum("bchw,bmhw->bmc", centred, share.reshape(len(seen), -1, *share.shape[1:]))
        / share.sum(dim=(1, 2)).clamp_min(1e-3).reshape(len(seen), -1, 1)
        for share in (within, frame)
    ]
    direction = functional.normalize(means[0] - means[1], dim=2)
    coarse = torch.einsum("bmc,bchw->bmhw", direction, functional.normalize(centred, dim=1)).flatten(0, 1)[:, None]
    return functional.interpolate(coarse, size, mode="bilinear", align_corners=False)[:, 0]


def _coverage(boxes: torch.Tensor, cells: tuple[int, ...]) -> torch.Tensor:
    """Return (N, h, w): the share of each cell that lies in a box, whose sides are given in cells."""
    shares = []
    for axis, count in ((1, cells[0]), (0, cells[1])):
        start = torch.arange(count, dtype=torch.float32, device=boxes.device)
        low, high = boxes[:, axis, None], boxes[:, axis + 2, None]
        shares.append((torch.minimum(high, start + 1) - torch.maximum(low, start)).clamp(0, 1))
    return shares[0][:, :, None] * shares[1][:, None, :]


def _box_plane(boxes: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    x0, y0, x1, y1 = (side[:, None, None] / CELL for side in boxes.unbind(dim=1))
    inside = (columns >= x0) & (columns <= x1) & (rows >= y0) & (rows <= y1)
    return torch.where(inside, content, BOX_OUTSIDE)


def draw_one(
    size: tuple[int, int],
    points: NDArray[np.float32],
    labels: NDArray[np.int64],
    box: NDArray[np.float32] | None = None,
    previous: NDArray[np.float32] | None = None,
    embedding: torch.Tensor | None = None,
) -> torch.Tensor:
    """Draw the prompts of one object given as numpy arrays, for inference.

    Args:
        size: (h, w) of the plane.
        points: (n, 2) x, y in input pixels; n may be 0.
        labels: (n,) 1 object, 0 background.
        box: (4,) x0, y0, x1, y1 in input pixels, or None.
        previous: (h, w) logits of the previous answer, or None.
        embedding: (C, h / 4, w / 4) of the image, on any device, or None.

    Returns:
        (1, 1, h, w) float32 tensor on the CPU.
    """
    return draw_prompts(
        size,
        torch.from_numpy(np.asarray(points, np.float32).reshape(1, -1, 2)),
        torch.from_numpy(np.asarray(labels, np.int64).reshape(1, -1)),
        None if box is None else torch.from_numpy(np.asarray(box, np.float32).reshape(1, 4)),
        None if previous is None else torch.from_numpy(np.asarray(previous, np.float32)[None]),
        None if embedding is None else embedding[None].float().cpu(),
    )
