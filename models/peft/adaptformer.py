"""AdaptFormer (Chen et al., NeurIPS 2022): a bottleneck beside the MLP of every block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from ..sam_modules import Sam
from .contract import MethodConfig, Part, Plan, Scope, TuningError, Undo
from .hooks import hook_output
from .sites import Blocks, block_name, device_of, width


@dataclass(frozen=True)
class AdaptFormerConfig(MethodConfig):
    """x + MLP(u) + scale * (ReLU(u Wd + bd) Wu + bu) with u = norm2(x); Wd Kaiming-uniform, Wu and both biases zero.

    The paper's section 3.2, in its parallel form with a fixed scale.

    Attributes:
        bottleneck: width between Wd and Wu, at least 1.
        scale: of what is added.
        start: share of the blocks left out at the shallow end.
        stop: share of the blocks at which to end.
    """

    method: ClassVar[str] = "adaptformer"
    scope: ClassVar[Scope] = Scope.ENCODER

    bottleneck: int = 64
    scale: float = 0.1
    start: float = 0.0
    stop: float = 1.0

    def plan(self, sam: Sam) -> Plan:
        """Say which MLPs get a bottleneck: see :meth:`.contract.MethodConfig.plan`."""
        if self.bottleneck < 1 or not 0 < self.scale < math.inf:
            raise TuningError("AdaptFormer's bottleneck needs a width of at least 1, and a scale above 0.")
        names = tuple(f"{block_name(index)}.mlp" for index in Blocks(self.start, self.stop).of(sam))
        dim = width(sam)
        return Plan(names, (), len(names) * (2 * dim * self.bottleneck + self.bottleneck + dim))

    def build(self, sam: Sam) -> Part:
        """Make the bottlenecks: see :meth:`.contract.MethodConfig.build`."""
        return AdaptFormer(self, sam)


class Bottleneck(nn.Module):
    """ReLU(u Wd + bd) Wu + bu."""

    def __init__(self, dim: int, middle: int, device: torch.device) -> None:
        """Make Wd Kaiming-uniform, all else zero, in float32."""
        super().__init__()
        self.down = nn.Linear(dim, middle, device=device)
        self.up = zeroed(nn.Linear(middle, dim, device=device))
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.down.bias)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Return (..., D) for tokens (..., D)."""
        added: torch.Tensor = self.up(functional.relu(self.down(u)))
        return added


def zeroed(layer: nn.Linear) -> nn.Linear:
    """Return a layer with weight and bias set to zero, which makes whatever it adds nothing at the start."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class AdaptFormer(Part):
    """The bottlenecks of all blocks that a plan names."""

    config: AdaptFormerConfig

    def __init__(self, config: AdaptFormerConfig, sam: Sam) -> None:
        """Make the bottlenecks, on the base's device."""
        super().__init__(config)
        self._sites = config.plan(sam).sites
        self.bottlenecks = nn.ModuleList(Bottleneck(width(sam), config.bottleneck, device_of(sam)) for _ in self._sites)

    def _attach(self, sam: Sam) -> Iterator[Undo]:
        for name, bottleneck in zip(self._sites, self.bottlenecks, strict=True):
            yield from hook_output(sam.get_submodule(name), partial(self._add, bottleneck))

    def _add(self, bottleneck: nn.Module, u: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return out + (self.config.scale * bottleneck(u)).to(out.dtype)
