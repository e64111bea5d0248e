"""Two modalities of one place in one batch: the images first, the second modality after them (MFNet's dual stream).

Both go through the same frozen weights. Blocks with windows make (B * windows, ...) of a batch, one image's windows
after the other's, so that the halves of whatever a hook sees are still the modalities.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from .contract import TuningError

STREAMS = 2
"""The image and the second modality."""


def split(x: torch.Tensor, streams: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Take a batch apart.

    Args:
        x: (B * streams, ...).
        streams: 1 or 2.

    Returns:
        The images' part (B, ...) and the second modality's, or None where there is none.

    Raises:
        TuningError: the batch has no two halves.
    """
    if streams == 1:
        return x, None
    if streams != STREAMS or x.shape[0] % STREAMS:
        raise TuningError(
            "The second modality does not fit the images: give as many of one as of the other, in one batch.",
            f"batch {x.shape[0]}, streams {streams}",
        )
    first, second = x.chunk(STREAMS)
    return first, second


def add_to_images(x: torch.Tensor, addition: torch.Tensor, streams: int) -> torch.Tensor:
    """Add to the images' part of a batch only.

    Args:
        x: (B * streams, ...).
        addition: (B, ...).
        streams: 1 or 2.
    """
    split(x, streams)
    # Not by joining halves: that changes the order in memory, and with it how later layers round.
    everywhere = torch.zeros_like(x)
    everywhere[: addition.shape[0]] = addition
    return x + everywhere


@dataclass(frozen=True)
class Branch:
    """What a modality has to add, before the map that makes it as wide as the layer.

    Attributes:
        code: (B, ..., m), narrow.
        weight: (D, m) of the map.
        bias: (D,) of the map, or None.
    """

    code: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None = None


class Mixing(nn.Module):
    """The two learnable weights of an exchange between modalities (MFNet's lambda), kept within (0, 1).

    Of what the modalities have to add, each takes ``l`` of its own and ``1 - l`` of the other's. The source's scalars
    are free to leave (0, 1); here they are sigmoids, which start at the source's 0.5.
    """

    def __init__(self, device: torch.device) -> None:
        """Begin with equal parts."""
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(STREAMS, device=device))

    @property
    def shares(self) -> torch.Tensor:
        """Return l1 and l2, (2,)."""
        return torch.sigmoid(self.logits)

    def forward(self, first: Branch, second: Branch | None) -> torch.Tensor:
        """Exchange.

        Args:
            first: what the image has to add.
            second: the same of the second modality; None where it is absent, which then contributes nothing.

        Returns:
            (B, ..., D) or (2 B, ..., D) what is added to each.
        """
        one, two = self.shares.unbind()
        if second is None:
            return _sum((first,), (one,))
        branches = (first, second)
        return torch.cat([_sum(branches, (one, 1 - one)), _sum(branches, (1 - two, two))])


def _sum(branches: tuple[Branch, ...], shares: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the branches' outputs, weighed and added.

    The weights go to the narrow codes, and one map does the rest: so no wide tensor is kept for the backward pass.
    """
    pairs = list(zip(branches, shares, strict=True))
    codes = torch.cat([share.to(branch.code.dtype) * branch.code for branch, share in pairs], dim=-1)
    weight = torch.cat([branch.weight for branch in branches], dim=1)
    biases = [share * branch.bias for branch, share in pairs if branch.bias is not None]
    return functional.linear(codes, weight, torch.stack(biases).sum(dim=0) if biases else None)
