"""Hybrid adapters by depth: calibration of what shallow blocks see, transfer of what deep ones mean.

A design of this project. Shallow blocks (the first third) get a bottleneck beside the MLP that looks at neighbouring
tokens and weighs its channels:

    t = GELU(norm2(x) Wd)                          D -> 64
    t = depthwise 3 x 3 (t)                        on the image's grid: windows exist inside the attention only
    t = t * sigmoid(W2 ReLU(W1 GAP(t) + Ws s))     squeeze and excitation (Hu et al., CVPR 2018), 64 -> 16 -> 64
    x = x + MLP(norm2(x)) + t Wu                   64 -> D, zero at the start

with s the mean spectral code of the image where a band stem gives one. Deep blocks get LoRA in the attention, and the
last quarter AdaptFormer as well where wanted. That depth matters is known (SPT, He et al., ICCV 2023: which blocks are
sensitive depends on the task); that this split is a good one is an assumption.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from ..sam_modules import Sam
from .adaptformer import AdaptFormerConfig, zeroed
from .band_stem import CODE, CODE_WIDTH
from .contract import MethodConfig, Part, Plan, Scope, TuningError, Undo
from .hooks import hook_output
from .lora import LoraConfig
from .sites import ATTENTION, Blocks, block_name, device_of, width

_KERNEL = 3
_DILATION = 2
_REDUCTION = 4
_QUARTER = 0.75


@dataclass(frozen=True)
class HybridConfig(MethodConfig):
    """Spectral-spatial calibration in shallow blocks, LoRA in deep ones.

    Attributes:
        shallow: share of the blocks that are shallow; 0.32 gives 4 of 12, 8 of 24 and 10 of 32. 0 or 1 leaves one
            kind out.
        bottleneck: width of the calibration, a multiple of 4.
        dilated: add a second depthwise convolution that looks twice as far.
        spectral: let the band stem's code take part in weighing the channels; 0 stands for it where there is none.
        rank: of the deep blocks' LoRA on qkv and proj, with alpha = rank.
        adaptformer: add AdaptFormer to the last quarter of the blocks.
    """

    method: ClassVar[str] = "hybrid"
    scope: ClassVar[Scope] = Scope.ENCODER

    shallow: float = 0.32
    bottleneck: int = 64
    dilated: bool = False
    spectral: bool = False
    rank: int = 8
    adaptformer: bool = False

    def plan(self, sam: Sam) -> Plan:
        """Say what each block gets: see :meth:`.contract.MethodConfig.plan`."""
        names = self.calibrated(sam)
        deep = [config.plan(sam) for config in self.deep()]
        sites = (*names, *(site for plan in deep for site in plan.sites))
        trainable = len(names) * self._numbers(width(sam)) + sum(plan.trainable for plan in deep)
        return Plan(tuple(dict.fromkeys(sites)), (), trainable)

    def build(self, sam: Sam) -> Part:
        """Make the adapters of all depths: see :meth:`.contract.MethodConfig.build`."""
        return Hybrid(self, sam)

    def calibrated(self, sam: Sam) -> tuple[str, ...]:
        """Return the names of the MLPs that get a calibration.

        Raises:
            TuningError: the settings do not fit.
        """
        if not 0 <= self.shallow <= 1 or self.bottleneck < _REDUCTION or self.bottleneck % _REDUCTION:
            raise TuningError(
                "The share of shallow blocks lies between 0 and 1, and their bottleneck is a multiple of 4.",
                f"shallow {self.shallow}, bottleneck {self.bottleneck}",
            )
        if self.shallow == 0:
            return ()
        return tuple(f"{block_name(index)}.mlp" for index in Blocks(0.0, self.shallow).of(sam))

    def deep(self) -> tuple[MethodConfig, ...]:
        """Return the methods of the deep blocks."""
        found: list[MethodConfig] = []
        if self.shallow < 1:
            lora = LoraConfig(
                rank=self.rank, alpha=float(self.rank), layers=ATTENTION, projections=(), start=self.shallow
            )
            found.append(lora)
        if self.adaptformer:
            found.append(AdaptFormerConfig(start=_QUARTER))
        return tuple(found)

    def _numbers(self, dim: int) -> int:
        middle, reduced = self.bottleneck, self.bottleneck // _REDUCTION
        convolutions = (2 if self.dilated else 1) * (middle * _KERNEL**2 + middle)
        weighing = 2 * middle * reduced + reduced + middle + (reduced * CODE_WIDTH if self.spectral else 0)
        return 2 * dim * middle + middle + dim + convolutions + weighing


class ChannelWeights(nn.Module):
    """Squeeze and excitation, conditioned on a code."""

    def __init__(self, channels: int, code: int, device: torch.device) -> None:
        """Make the layers as torch starts them; a code has no say at the start."""
        super().__init__()
        reduced = channels // _REDUCTION
        self.squeeze = nn.Linear(channels, reduced, device=device)
        self.excite = nn.Linear(reduced, channels, device=device)
        self.condition = nn.Parameter(torch.zeros(reduced, code, device=device)) if code else None

    def forward(self, t: torch.Tensor, code: torch.Tensor | None) -> torch.Tensor:
        """Return (B, C) in (0, 1) for (B, C, h, w), and codes (at most B, S) of the first images."""
        squeezed = self.squeeze(t.mean(dim=(-2, -1)))
        if self.condition is not None and code is not None:
            told = functional.linear(code.to(self.condition.dtype), self.condition)
            # The second modality has no bands of its own.
            squeezed = squeezed + functional.pad(told, (0, 0, 0, squeezed.shape[0] - told.shape[0]))
        weights: torch.Tensor = torch.sigmoid(self.excite(functional.relu(squeezed)))
        return weights


class Calibration(nn.Module):
    """The adapter of one shallow block."""

    def __init__(self, dim: int, config: HybridConfig, device: torch.device) -> None:
        """Make the layers as torch starts them, the last one zero, in float32."""
        super().__init__()
        middle = config.bottleneck
        self.down = nn.Linear(dim, middle, device=device)
        self.near = _depthwise(middle, 1, device)
        self.far = _depthwise(middle, _DILATION, device) if config.dilated else None
        self.weights = ChannelWeights(middle, CODE_WIDTH if config.spectral else 0, device)
        self.up = zeroed(nn.Linear(middle, dim, device=device))

    def forward(self, u: torch.Tensor, code: torch.Tensor | None) -> torch.Tensor:
        """Return what is added, (B, h, w, D), for normalised tokens (B, h, w, D) and a code (B, 32) or None."""
        t = functional.gelu(self.down(u)).permute(0, 3, 1, 2)
        seen = self.near(t)
        if self.far is not None:
            seen = seen + self.far(t)
        seen = seen * self.weights(seen, code)[:, :, None, None]
        added: torch.Tensor = self.up(seen.permute(0, 2, 3, 1))
        return added


def _depthwise(channels: int, dilation: int, device: torch.device) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, _KERNEL, padding=dilation, dilation=dilation, groups=channels, device=device)


class Hybrid(Part):
    """The adapters of all depths."""

    config: HybridConfig

    def __init__(self, config: HybridConfig, sam: Sam) -> None:
        """Make the adapters, on the base's device."""
        super().__init__(config)
        config.plan(sam)
        self._calibrated = config.calibrated(sam)
        self.shallow = nn.ModuleList(Calibration(width(sam), config, device_of(sam)) for _ in self._calibrated)
        self.deep = nn.ModuleDict({deep.method: deep.build(sam) for deep in config.deep()})

    def _attach(self, sam: Sam) -> Iterator[Undo]:
        for name, calibration in zip(self._calibrated, self.shallow, strict=True):
            yield from hook_output(sam.get_submodule(name), partial(self._calibrate, calibration))
        for part in self.deep.children():
            if isinstance(part, Part):
                part.attach(sam)
                yield part.detach

    def _calibrate(self, calibration: nn.Module, u: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return out + calibration(u, self.side.published.get(CODE)).to(out.dtype)
