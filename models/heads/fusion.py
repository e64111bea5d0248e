"""MFNet's deep fusion: a pyramid of every modality's embedding, joined scale by scale (TGRS 2025, arXiv 2410.11160)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from ..sam_modules import LayerNorm2d

WIDTH = 256
"""Channels of SAM's embedding, and of every scale here."""

SCALES = 4
_REDUCTION = 16

Pyramid = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""(B, 256, ...) at 4, 2, 1 and 1/2 times the embedding's resolution."""


class FeaturePyramid(nn.Module):
    """One embedding at four scales.

    Two transposed convolutions with norm and GELU between make four times the resolution, one makes twice, the
    embedding is itself, and a maximum over 2 x 2 makes half. The source normalises one modality by layer norm and the
    other by batch norm without a reason; here it is layer norm for each.
    """

    def __init__(self, device: torch.device) -> None:
        """Make the layers as torch starts them."""
        super().__init__()
        self.four = nn.Sequential(_twice(device), LayerNorm2d(WIDTH).to(device), nn.GELU(), _twice(device))
        self.two = _twice(device)

    def forward(self, z: torch.Tensor) -> Pyramid:
        """Return the scales of an embedding (B, 256, h, w)."""
        return self.four(z), self.two(z), z, half(z)


def _twice(device: torch.device) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(WIDTH, WIDTH, 2, 2, device=device)


def half(z: torch.Tensor) -> torch.Tensor:
    """Return (B, C, ceil(h / 2), ceil(w / 2)) maxima; odd sizes keep their last row and column."""
    return functional.max_pool2d(z, 2, ceil_mode=True)


def bare_pyramid(z: torch.Tensor) -> Pyramid:
    """Return an embedding (B, 256, h, w) at the same four scales without anything learned: enlarged bilinearly."""
    four, two = (
        functional.interpolate(z, scale_factor=scale, mode="bilinear", align_corners=False) for scale in (4.0, 2.0)
    )
    return four, two, z, half(z)


class ChannelGate(nn.Module):
    """t * sigmoid(W2 ReLU(W1 mean(t))), the mean over all places: squeeze and excitation."""

    def __init__(self, device: torch.device) -> None:
        """Make W1 (256 -> 16) and W2 (16 -> 256), with biases."""
        super().__init__()
        self.squeeze = nn.Linear(WIDTH, WIDTH // _REDUCTION, device=device)
        self.excite = nn.Linear(WIDTH // _REDUCTION, WIDTH, device=device)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """Return (B, 256, h, w) for (B, 256, h, w)."""
        weights = torch.sigmoid(self.excite(functional.relu(self.squeeze(t.mean(dim=(2, 3))))))
        return t * weights[:, :, None, None]


class DeepFusion(nn.Module):
    """Pyramids of all modalities; at every scale the sum of the modalities, each behind a channel gate of its own."""

    def __init__(self, streams: int, device: torch.device) -> None:
        """Make the layers for ``streams`` modalities."""
        super().__init__()
        self.pyramids = nn.ModuleList(FeaturePyramid(device) for _ in range(streams))
        self.gates = nn.ModuleList(nn.ModuleList(ChannelGate(device) for _ in range(streams)) for _ in range(SCALES))

    def forward(self, embeddings: Sequence[torch.Tensor]) -> Pyramid:
        """Join modalities.

        Args:
            embeddings: one (B, 256, h, w) per modality, the image's first. Modalities at the end may be absent; they
                then contribute nothing.

        Returns:
            The four scales.
        """
        present = range(len(embeddings))
        pyramids = [self.pyramids[index](embeddings[index]) for index in present]
        joined = (
            torch.stack([gates[index](pyramids[index][scale]) for index in present]).sum(dim=0)
            for scale, gates in enumerate(_rows(self.gates))
        )
        one, two, three, four = joined
        return one, two, three, four


def _rows(gates: nn.ModuleList) -> list[nn.ModuleList]:
    return [row for row in gates if isinstance(row, nn.ModuleList)]
