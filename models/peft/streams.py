"""Two modalities of one place in one batch: the images first, the second modality after them (MFNet's dual stream).

Both go through the same frozen weights. Blocks with windows make (B * windows, ...) of a batch, one image's windows
after the other's, so that the halves of whatever a hook sees are still the modalities.
"""

from __future__ import annotations

import torch
from torch import nn

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


class Mixing(nn.Module):
    """The two learnable weights of an exchange between modalities (MFNet, METHODS 2.2: l1 and l2), kept within (0, 1).

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

    def forward(self, first: torch.Tensor, second: torch.Tensor | None) -> torch.Tensor:
        """Exchange.

        Args:
            first: (B, ...) what the image has to add.
            second: the same of the second modality; None where it is absent, which then contributes nothing.

        Returns:
            (B, ...) or (2 B, ...) what is added to each.
        """
        own = self.shares.to(first.dtype)
        if second is None:
            return own[0] * first
        return torch.cat([own[0] * first + (1 - own[0]) * second, own[1] * second + (1 - own[1]) * first])
