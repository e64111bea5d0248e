"""Conv-LoRA (Zhong et al., ICLR 2024, arXiv 2401.17868): LoRA with a small mixture of convolutions in its bottleneck.

With h = A x on the image's grid, r channels deep, the output grows by (alpha / r) B (h + g E(h)), where E is one of a
few experts: resize by its scale, 3 x 3 convolution and GELU, resize back. A gate chooses the expert by the mean of h
over the image. Three choices differ from the source:

- Most of SAM's blocks attend within windows, and their linear layers see those. The source convolves every window as an
  image of its own. Here h, which is only r channels deep, is put back onto the image's grid first, so that convolutions
  do not stop at the windows' seams and one expert is chosen per image.
- The source has eight experts, of scales 1 to 8, where upsampling by 8 in every block is slow; here three, 1, 2 and 4.
- g is the chosen expert's share among all (as in Switch Transformers, Fedus et al. 2022, section 2.1), not among the
  chosen one alone, which would always be 1 and leave the gate to learn from the balance only. So is the balance.

It depends on the input, so it cannot be merged.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from ..sam_modules import Sam, window_partition, window_unpartition
from .contract import MethodConfig, Part, Plan, Scope, TuningError, Undo
from .hooks import hook_input, hook_output, hook_pass
from .lora import check_rank
from .sites import ATTENTION, Blocks, Layer, linear, linear_names, module_key

_KERNEL = 3
_GATES = 2
"""Matrices of a gate: the choice and its noise."""
_WINDOWED = tuple(layer.value for layer in ATTENTION)
"""Blocks with windows have them inside the attention only."""


@dataclass(frozen=True)
class ConvLoraConfig(MethodConfig):
    """W x + (alpha / rank) B (h + g E(h)) with h = A x; A Kaiming-uniform, B zero.

    Attributes:
        rank: of the update and channels of the experts, at least 1.
        alpha: its scale is ``alpha / rank``.
        experts: their scales, whole numbers from 1, each once; two at least.
        layers: the linear layers that get an update; those of the attention are the source's.
        balance: weight of the penalty on an uneven choice of experts.
        start: share of the blocks left out at the shallow end.
        stop: share of the blocks at which to end.
    """

    method: ClassVar[str] = "conv_lora"
    scope: ClassVar[Scope] = Scope.ENCODER

    rank: int = 3
    alpha: float = 3.0
    experts: tuple[int, ...] = (1, 2, 4)
    layers: tuple[Layer, ...] = (Layer.QKV,)
    balance: float = 1e-2
    start: float = 0.0
    stop: float = 1.0

    def plan(self, sam: Sam) -> Plan:
        """Say which layers get an update: see :meth:`.contract.MethodConfig.plan`."""
        if len(set(self.experts)) != len(self.experts) or len(self.experts) < 2 or min(self.experts) < 1:
            raise TuningError("Conv-LoRA needs at least two different scales, whole numbers from 1.")
        if not self.layers or self.balance < 0:
            raise TuningError("Conv-LoRA needs at least one kind of layer, and a weight of its balance from 0.")
        names = linear_names(Blocks(self.start, self.stop).of(sam), self.layers)
        experts = len(self.experts) * self.rank * (_KERNEL**2 * self.rank + 1 + _GATES)
        trainable = 0
        for name in names:
            layer = linear(sam, name)
            check_rank(self.rank, self.alpha, layer)
            trainable += self.rank * (layer.in_features + layer.out_features) + experts
        return Plan(names, (), trainable)

    def build(self, sam: Sam) -> Part:
        """Make A, B, experts and gates: see :meth:`.contract.MethodConfig.build`."""
        return ConvLora(self, sam)


class ExpertGate(nn.Module):
    """Noisy top-1 choice of an expert (Shazeer et al., ICLR 2017, equations 3 to 5) by an image's mean."""

    def __init__(self, channels: int, experts: int, device: torch.device) -> None:
        """Begin with equal shares and a noise that tries all experts."""
        super().__init__()
        self.choice = nn.Parameter(torch.zeros(experts, channels, device=device))
        self.noise = nn.Parameter(torch.zeros(experts, channels, device=device))

    def forward(self, mean: torch.Tensor) -> torch.Tensor:
        """Return (B, experts) float32 shares that sum to 1, noisy while training, for means (B, channels)."""
        logits = functional.linear(mean, self.choice)
        if self.training:
            spread = functional.softplus(functional.linear(mean, self.noise))
            logits = logits + spread * torch.randn_like(logits)
        return logits.softmax(dim=-1)


def imbalance(shares: torch.Tensor) -> torch.Tensor:
    """Return how unevenly experts are chosen (Switch Transformers, equation 4): 1 where evenly, up to their number.

    Args:
        shares: (B, experts), each row sums to 1.
    """
    experts = shares.shape[-1]
    chosen = functional.one_hot(shares.argmax(dim=-1), experts).to(shares.dtype)
    return experts * (chosen.mean(dim=0) * shares.mean(dim=0)).sum()


class Expert(nn.Module):
    """3 x 3 convolution and GELU at another scale."""

    def __init__(self, channels: int, scale: int, device: torch.device) -> None:
        """Make the convolution as torch starts it."""
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(channels, channels, _KERNEL, padding=_KERNEL // 2, device=device)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Return (B, r, h, w) for (B, r, h, w)."""
        if self.scale == 1:
            return functional.gelu(self.conv(h))
        fine = functional.interpolate(h, scale_factor=float(self.scale), mode="bicubic", align_corners=False)
        seen = functional.gelu(self.conv(fine))
        return functional.interpolate(seen.to(h.dtype), h.shape[-2:], mode="bicubic", align_corners=False)


class ConvLowRank(nn.Module):
    """The update of one layer.

    Attributes:
        grid: (h, w) tokens of the images in the present pass, set by a hook on the block.
    """

    def __init__(self, layer: nn.Linear, config: ConvLoraConfig) -> None:
        """Make A Kaiming-uniform, B zero, and the mixture, on the layer's device, in float32."""
        super().__init__()
        device = layer.weight.device
        self.lora_A = nn.Parameter(torch.empty(config.rank, layer.in_features, device=device))
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, config.rank, device=device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.experts = nn.ModuleList(Expert(config.rank, scale, device) for scale in config.experts)
        self.gate = ExpertGate(config.rank, len(config.experts), device)
        self.grid = (0, 0)
        self._costliest = config.experts.index(max(config.experts))

    def forward(self, x: torch.Tensor, window: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the update B (h + g E(h)) and the experts' shares.

        Args:
            x: (B, h, w, inputs), or (B * windows, window, window, inputs).
            window: side of the block's windows; 0 where it has none.

        Returns:
            (..., outputs) like ``x``, and (B, experts).
        """
        h = functional.linear(x, self.lora_A)
        padded = tuple(-(-side // window) * window for side in self.grid) if window else self.grid
        whole = window_unpartition(h, window, padded, self.grid) if window else h
        seen, shares = self._mixture(whole.permute(0, 3, 1, 2).float())
        seen = seen.permute(0, 2, 3, 1)
        if window:
            seen, _ = window_partition(seen, window)
        return functional.linear(h + seen.to(h.dtype), self.lora_B), shares

    def _mixture(self, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return g E(h) (B, r, h, w), and the shares (B, experts)."""
        # The gate decides on small differences of means: in full precision, whatever autocast says. The meta device, on
        # which memory is counted, knows no autocast and no choice; there the costliest expert stands for the others.
        with contextlib.nullcontext() if h.is_meta else torch.autocast(h.device.type, enabled=False):
            shares = self.gate(h.mean(dim=(-2, -1)))
            if h.is_meta:
                return self.experts[self._costliest](h), shares
            chosen = shares.argmax(dim=-1)
            found = torch.zeros_like(h)
            for index, expert in enumerate(self.experts):
                images = (chosen == index).nonzero()[:, 0]
                if images.numel():
                    weight = shares[images, index][:, None, None, None]
                    found = found.index_copy(0, images, weight * expert(h[images]))
        return found, shares


class ConvLora(Part):
    """The updates of all layers that a plan names."""

    config: ConvLoraConfig

    def __init__(self, config: ConvLoraConfig, sam: Sam) -> None:
        """Make the updates."""
        super().__init__(config)
        self._sites = config.plan(sam).sites
        self.updates = nn.ModuleDict({module_key(name): ConvLowRank(linear(sam, name), config) for name in self._sites})
        self._shares: dict[str, torch.Tensor] = {}
        self._listening = False

    def __getstate__(self) -> dict[str, object]:
        """See :meth:`.contract.Part.__getstate__`."""
        return {**super().__getstate__(), "_shares": {}}

    def _attach(self, sam: Sam) -> Iterator[Undo]:
        yield from hook_pass(sam, self._begin, self._end)
        for name in self._sites:
            update = self.updates[module_key(name)]
            block = sam.get_submodule(name.rsplit(".", 2)[0])
            window = block.window_size if name.endswith(_WINDOWED) else 0
            yield from hook_input(block, partial(_remember_grid, update))
            yield from hook_output(linear(sam, name), partial(self._add, name, update, window))

    def _begin(self) -> None:
        self._shares.clear()
        self._listening = True

    def _end(self) -> None:
        # What is computed again for the backward pass must not be counted again.
        self._listening = False

    def _add(self, name: str, update: nn.Module, window: int, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        grown, shares = update(x, window)
        if self._listening and self.training:
            self._shares[name] = shares
        return out + (self.config.alpha / self.config.rank * grown).to(out.dtype)

    def penalty(self) -> torch.Tensor | None:
        """Return the weighted imbalance of the experts, averaged over the layers: see :meth:`.contract.Part.penalty`.

        None when not training.
        """
        if not self._shares or self.config.balance == 0:
            return None
        return self.config.balance * torch.stack([imbalance(shares) for shares in self._shares.values()]).mean()


def _remember_grid(update: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    if isinstance(update, ConvLowRank):
        update.grid = (tokens.shape[1], tokens.shape[2])
    return tokens
