"""DoRA (Liu et al., ICML 2024): a low-rank update of the directions of a layer's weights, and their lengths apart."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn

from ..sam_modules import Sam
from .contract import Part, Plan
from .lora import Lora, LoraConfig, Update, output_ranges
from .places import own_parameter
from .sites import linear

_LEAST = 1e-12
"""A row of zeros has no direction; it stays zero."""


@dataclass(frozen=True)
class DoraConfig(LoraConfig):
    """W' = m (W + (alpha / rank) B A) / ||W + (alpha / rank) B A||, the norm and m per output (section 4, eq. 5).

    m starts as ||W||, so a new part changes nothing. The norm counts as a constant in the backward pass (section 4.3).
    Settings are those of LoRA.
    """

    method: ClassVar[str] = "dora"
    scales: ClassVar[bool] = True

    def plan(self, sam: Sam) -> Plan:
        """Say which layers get an update: see :meth:`.contract.MethodConfig.plan`."""
        plain = super().plan(sam)
        ranges = (output_ranges(name, linear(sam, name), self.projections) for name in plain.sites)
        lengths = sum(stop - start for of_layer in ranges for start, stop in of_layer)
        return replace(plain, trainable=plain.trainable + lengths)

    def build(self, sam: Sam) -> Part:
        """Make A, B and m: see :meth:`.contract.MethodConfig.build`."""
        return Lora(self, sam, Decomposed)


class Decomposed(Update):
    """Direction and length of one range of a linear layer's outputs."""

    def __init__(self, layer: nn.Linear, outputs: tuple[int, int], config: LoraConfig) -> None:
        """Make A and B as LoRA has them, and m (outputs,) from the layer's weight."""
        super().__init__(layer, outputs, config)
        self.magnitude = nn.Parameter(self._lengths(own_parameter(layer, "weight")))

    def growth(self, layer: nn.Linear, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return what is added to the range's outputs: see :meth:`.lora.Update.growth`."""
        share = self.magnitude / self._lengths(layer.weight).clamp_min(_LEAST)
        own = out[..., self.start : self.stop]
        plain = own if layer.bias is None else own - layer.bias[self.start : self.stop]
        return (share - 1) * plain + share * self.scale * self(x)

    def merged(self, rows: torch.Tensor) -> torch.Tensor:
        """Return W' for the range's rows (stop - start, inputs) of W, in float32."""
        moved = super().merged(rows)
        lengths = torch.linalg.vector_norm(moved, dim=1).clamp_min(_LEAST)
        return (self.magnitude.detach() / lengths)[:, None] * moved

    @torch.no_grad()
    def _lengths(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the length of each row of W + (alpha / rank) B A, in float32 whatever the rest computes in."""
        device = weight.device.type
        # Counting on the meta device knows no autocast.
        with contextlib.nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
            moved = super().merged(weight[self.start : self.stop])
            return torch.linalg.vector_norm(moved, dim=1)
