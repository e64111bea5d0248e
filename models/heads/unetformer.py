"""A light decoder for class maps in the style of UNetFormer (ISPRS J. 2022, arXiv 2109.08937), as MFNet uses it.

From the coarsest of four scales to the finest: attention in windows beside convolutions (:class:`GlobalLocalBlock`),
joined with the next scale by two learned weights, and at the finest a refinement by a spatial and a channel gate. Where
the published code pads by reflection, which needs at least a window of cells, this pads with zeros, so that inputs of
any size do; cells that are padding are not attended to.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .fusion import WIDTH, Pyramid

_WINDOW = 8
_HEADS = 8
_MLP = 4
_REDUCTION = 16
_DROPOUT = 0.1
_EPSILON = 1e-8
GRAIN = _HEADS * 2
"""The decoder's width is a multiple of this, for its heads and its channel gate."""


def _conv_norm(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


def _conv_norm_relu6(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_conv_norm(inputs, outputs, 3), nn.ReLU6())


def _pad_even(x: torch.Tensor) -> torch.Tensor:
    """Pad so that an 8 x 8 filter keeps the size: the odd cell goes right and below."""
    before, after = (_WINDOW - 1) // 2, _WINDOW // 2
    return functional.pad(x, (before, after, before, after))


class WindowAttention(nn.Module):
    """Self-attention within 8 x 8 windows, smoothed along rows and columns; with a local branch of convolutions."""

    def __init__(self, width: int) -> None:
        """Make the layers as torch starts them; the bias of relative places starts small."""
        super().__init__()
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.near = _conv_norm(width, width, 3)
        self.nearest = _conv_norm(width, width, 1)
        self.depthwise = nn.Conv2d(width, width, _WINDOW, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.pointwise = nn.Conv2d(width, width, 1, bias=False)
        self.pairs: torch.Tensor
        self.places = nn.Parameter(0.02 * torch.randn((2 * _WINDOW - 1) ** 2, _HEADS))
        self.register_buffer("pairs", relative_places(_WINDOW), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, C, h, w) for (B, C, h, w)."""
        local = self.near(x) + self.nearest(x)
        attended = self._attend(x)
        # Cross-shaped context: means over 8 cells of a column and of a row.
        before, after = (_WINDOW - 1) // 2, _WINDOW // 2
        columns = functional.avg_pool2d(functional.pad(attended, (0, 0, before, after)), (_WINDOW, 1), 1)
        rows = functional.avg_pool2d(functional.pad(attended, (before, after, 0, 0)), (1, _WINDOW), 1)
        return self.pointwise(self.norm(self.depthwise(_pad_even(columns + rows + local))))

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        missing = (-width % _WINDOW, -height % _WINDOW)
        qkv = _windows(functional.pad(self.qkv(x), (0, missing[0], 0, missing[1])))
        query, key, value = qkv.reshape(*qkv.shape[:2], 3, _HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.places[self.pairs].permute(2, 0, 1)[None]
        if any(missing):
            inside = functional.pad(x.new_ones(1, 1, height, width), (0, missing[0], 0, missing[1]))
            seen = _windows(inside).squeeze(-1).repeat(x.shape[0], 1) > 0
            bias = bias.masked_fill(~seen[:, None, None, :], -torch.inf)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        rows, columns = (height + missing[1]) // _WINDOW, (width + missing[0]) // _WINDOW
        return _together(mixed.transpose(1, 2).flatten(-2), rows, columns)[..., :height, :width]


def relative_places(window: int) -> torch.Tensor:
    """Return (n, n) int64, n = window ** 2: which of the (2 window - 1) ** 2 relative places each pair of cells has."""
    cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    apart = cells[:, None] - cells[None] + window - 1
    return apart[..., 0] * (2 * window - 1) + apart[..., 1]


def _windows(x: torch.Tensor) -> torch.Tensor:
    """Return (B * windows, 64, C) for (B, C, 8 rows, 8 columns)."""
    batch, channels, height, width = x.shape
    parts = x.reshape(batch, channels, height // _WINDOW, _WINDOW, width // _WINDOW, _WINDOW)
    return parts.permute(0, 2, 4, 3, 5, 1).reshape(-1, _WINDOW**2, channels)


def _together(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Undo :func:`_windows`."""
    parts = x.reshape(-1, rows, columns, _WINDOW, _WINDOW, x.shape[-1])
    return parts.permute(0, 5, 1, 3, 2, 4).reshape(-1, x.shape[-1], rows * _WINDOW, columns * _WINDOW)


class GlobalLocalBlock(nn.Module):
    """x + attention(norm x), then x + MLP(norm x), with batch norms and ReLU6 (UNetFormer's GLTB)."""

    def __init__(self, width: int) -> None:
        """Make the layers."""
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.attention = WindowAttention(width)
        self.norm2 = nn.BatchNorm2d(width)
        self.mlp = nn.Sequential(nn.Conv2d(width, _MLP * width, 1), nn.ReLU6(), nn.Conv2d(_MLP * width, width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, C, h, w) for (B, C, h, w)."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class WeightedJoin(nn.Module):
    """A finer scale and the enlarged coarser one, by two learned weights that are kept positive and sum to 1."""

    def __init__(self, width: int) -> None:
        """Make the layers; both weights start at 1, that is, at halves."""
        super().__init__()
        self.narrow = nn.Conv2d(WIDTH, width, 1, bias=False)
        self.weights = nn.Parameter(torch.ones(2))
        self.after = _conv_norm_relu6(width, width)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """Join.

        Args:
            coarse: (B, C, h', w').
            fine: (B, 256, h, w), about twice as large.

        Returns:
            (B, C, h, w).
        """
        weights = functional.relu(self.weights)
        weights = weights / (weights.sum() + _EPSILON)
        larger = functional.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)
        return self.after(weights[0] * self.narrow(fine) + weights[1] * larger)


class Refinement(nn.Module):
    """Behind a spatial and a channel gate, with a shortcut (UNetFormer's feature refinement)."""

    def __init__(self, width: int) -> None:
        """Make the layers."""
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.channel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // _REDUCTION, 1, bias=False),
            nn.ReLU6(),
            nn.Conv2d(width // _REDUCTION, width, 1, bias=False),
        )
        self.shortcut = _conv_norm(width, width, 1)
        self.project = nn.Sequential(*_conv_norm(width, width, 3, groups=width), nn.Conv2d(width, width, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, C, h, w) for (B, C, h, w)."""
        gated = torch.sigmoid(self.spatial(x)) * x + torch.sigmoid(self.channel(x)) * x
        return functional.relu6(self.project(gated) + self.shortcut(x))


class UnetformerDecoder(nn.Module):
    """Four scales of 256 channels to class logits at the finest."""

    def __init__(self, classes: int, width: int) -> None:
        """Make the layers.

        Args:
            classes: K.
            width: channels within, a multiple of 16; the source has 64.
        """
        super().__init__()
        self.coarsest = nn.Sequential(*_conv_norm(WIDTH, width, 1))
        self.blocks = nn.ModuleList(GlobalLocalBlock(width) for _ in range(3))
        self.joins = nn.ModuleList(WeightedJoin(width) for _ in range(3))
        self.refinement = Refinement(width)
        self.logits = nn.Sequential(
            *_conv_norm_relu6(width, width), nn.Dropout2d(_DROPOUT), nn.Conv2d(width, classes, 1, bias=False)
        )

    def forward(self, pyramid: Pyramid) -> torch.Tensor:
        """Return (B, K, 4 h, 4 w) for the scales of an embedding (B, 256, h, w)."""
        one, two, three, four = pyramid
        x = self.blocks[0](self.coarsest(four))
        x = self.blocks[1](self.joins[0](x, three))
        x = self.blocks[2](self.joins[1](x, two))
        return self.logits(self.refinement(self.joins[2](x, one)))
