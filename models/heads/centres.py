"""What an instance head is taught: where objects have their centres, and how far their boxes reach from there.

Heat maps and their penalty-reduced focal loss after CornerNet (Law and Deng, ECCV 2018, equation 1), with Gaussians as
long and wide as the object (TTFNet, Liu et al., AAAI 2020, section 3.2). The centre is not the box's but the place
deepest within the object, because a click is to be made there and must not miss a crescent or an L.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from .contract import IGNORE

SPREAD = 0.09
"""Standard deviation of the Gaussian as a share of the box's side: TTFNet's 0.54 / 6."""

LEAST_SPREAD = 0.65
"""Least standard deviation, in cells: the four cells beside a centre learn its box too and are forgiven heat."""

BOX_HEAT = 0.3
"""A box is asked for wherever an object's Gaussian is at least this."""

_DEEP = 32
"""Cells along the longer side in which the deepest place of an object is looked for."""


@dataclass(frozen=True)
class InstanceTargets:
    """What the maps of B images should be, h and w being H / stride and W / stride.

    Attributes:
        heat: (B, K, h, w) float32 in [0, 1], exactly 1 at the centres' cells.
        boxes: (B, 4, h, w) float32 x0, y0, x1, y1 in input pixels of the object that the cell belongs to.
        weight: (B, h, w) float32, how much a cell's box counts: the object's Gaussian, 0 outside.
        known: (B, h, w) bool, False where anything within the cell is unlabelled: such a cell has no loss.
        stride: input pixels per cell.
    """

    heat: torch.Tensor
    boxes: torch.Tensor
    weight: torch.Tensor
    known: torch.Tensor
    stride: int

    def to(self, device: torch.device | str) -> InstanceTargets:
        """Return the same on another device."""
        known = self.known.to(device)
        return InstanceTargets(self.heat.to(device), self.boxes.to(device), self.weight.to(device), known, self.stride)


def instance_targets(
    masks: Sequence[torch.Tensor],
    classes: Sequence[torch.Tensor],
    known: torch.Tensor,
    *,
    kinds: int = 1,
    stride: int = 8,
) -> InstanceTargets:
    """Draw the targets of a batch.

    Args:
        masks: for each of B images (M, H, W) bool, its objects; M may be 0. Empty masks are left out.
        classes: for each image (M,) int64, 0 to ``kinds`` - 1, or ``IGNORE`` for objects whose class nobody knows: the
            ground below them becomes unknown.
        known: (B, H, W) bool, True where the ground is labelled, the objects included: without an object there is none.
        kinds: K, how many classes there are.
        stride: input pixels per cell; H and W are multiples of it.

    Returns:
        The targets, on the device of ``known``; best the processor, since objects are looked at one by one.
    """
    batch, height, width = known.shape
    rows, columns = height // stride, width // stride
    heat = torch.zeros(batch, kinds, rows, columns, device=known.device)
    boxes = torch.zeros(batch, 4, rows, columns, device=known.device)
    weight = torch.zeros(batch, rows, columns, device=known.device)
    clear = torch.empty(batch, rows, columns, dtype=torch.bool, device=known.device)
    for index in range(batch):
        objects, kind = masks[index].to(known.device).bool(), classes[index].to(known.device)
        sure = known[index].clone()
        for mask in objects[kind == IGNORE]:
            sure &= ~mask
        clear[index] = functional.max_pool2d((~sure)[None].float(), stride)[0] == 0
        for mask, one in zip(objects, kind.tolist(), strict=True):
            sides = None if one == IGNORE else extent(mask)
            if sides is not None:
                row, column = deepest(mask)
                _draw(heat[index, one], boxes[index], weight[index], (row, column), sides, stride)
                clear[index, row // stride, column // stride] |= sure[row, column]
    return InstanceTargets(heat, boxes, weight, clear, stride)


def together(targets: Sequence[InstanceTargets]) -> InstanceTargets:
    """Join the targets of several batches of one stride into one."""
    return InstanceTargets(
        torch.cat([one.heat for one in targets]),
        torch.cat([one.boxes for one in targets]),
        torch.cat([one.weight for one in targets]),
        torch.cat([one.known for one in targets]),
        targets[0].stride,
    )


def _draw(
    heat: torch.Tensor,
    boxes: torch.Tensor,
    weight: torch.Tensor,
    pixel: tuple[int, int],
    sides: tuple[int, int, int, int],
    stride: int,
) -> None:
    """Draw one object into its class's (h, w) heat and its image's (4, h, w) boxes and (h, w) weight, in place."""
    box = torch.tensor(sides, dtype=torch.float32, device=heat.device)
    bump = _gaussian((heat.shape[0], heat.shape[1]), pixel, box, stride)
    torch.maximum(heat, bump, out=heat)
    mine = (bump >= BOX_HEAT) & (bump > weight)
    boxes.copy_(torch.where(mine, box[:, None, None], boxes))
    weight.copy_(torch.where(mine, bump, weight))


def extent(mask: torch.Tensor) -> tuple[int, int, int, int] | None:
    """Return the box x0, y0, x1, y1 in pixels of an (H, W) bool mask, or None where it is empty."""
    # amax over bytes takes a hundredth of the time of any over booleans.
    plane = mask.view(torch.uint8)
    along, across = plane.amax(dim=1).nonzero()[:, 0], plane.amax(dim=0).nonzero()[:, 0]
    if not len(along):
        return None
    return int(across[0]), int(along[0]), int(across[-1]) + 1, int(along[-1]) + 1


def deepest(mask: torch.Tensor) -> tuple[int, int]:
    """Return the row and column of a pixel deep within an object; of several the one nearest to the centroid.

    Depth is what erosion leaves last, on a grid of 32 cells along the object's longer side.

    Args:
        mask: (H, W) bool.

    Raises:
        ValueError: it is empty.
    """
    sides = extent(mask)
    if sides is None:
        raise ValueError("an empty mask has no deepest place")
    left, top, right, bottom = sides
    part = mask[top:bottom, left:right].float()
    factor = -(-max(part.shape) // _DEEP)
    shares = functional.avg_pool2d(part[None, None], factor, ceil_mode=True) if factor > 1 else part[None, None]
    left_over = (shares >= min(0.5, float(shares.max()))).float()
    while True:
        eroded = 1 - functional.max_pool2d(1 - functional.pad(left_over, (1, 1, 1, 1)), 3, 1, 0)
        if not eroded.any():
            break
        left_over = eroded
    cells = left_over[0, 0].nonzero().float()
    middle = (part.nonzero().float() + 0.5).mean(dim=0) / factor
    row, column = cells[((cells + 0.5 - middle) ** 2).sum(dim=1).argmin()].long().tolist()
    inside = part[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor].nonzero()
    centre = inside[((inside - (factor - 1) / 2) ** 2).sum(dim=1).argmin()].tolist()
    return top + row * factor + centre[0], left + column * factor + centre[1]


def _gaussian(size: tuple[int, int], pixel: tuple[int, int], box: torch.Tensor, stride: int) -> torch.Tensor:
    """Return an (h, w) Gaussian about the cell of a pixel, exactly 1 there, as wide and high as the box."""
    spread = ((box[2:] - box[:2]) * SPREAD / stride).clamp_min(LEAST_SPREAD)
    rows = torch.arange(size[0], device=box.device) - pixel[0] // stride
    columns = torch.arange(size[1], device=box.device) - pixel[1] // stride
    exponent = (rows**2)[:, None] / (2 * spread[1] ** 2) + (columns**2)[None] / (2 * spread[0] ** 2)
    return torch.exp(-exponent)
