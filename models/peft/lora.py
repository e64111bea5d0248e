"""LoRA (Hu et al., ICLR 2022) in the linear layers of SAM's image encoder, on q, k and v separately where wanted."""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from ..sam_modules import Sam
from .contract import MethodConfig, Part, Plan, Scope, TuningError, Undo
from .hooks import hook_output
from .sites import Blocks, Layer, linear, linear_names, module_key


class Projection(enum.Enum):
    """The three thirds of SAM's fused qkv layer; the value is their order in it."""

    Q = 0
    K = 1
    V = 2


@dataclass(frozen=True)
class LoraConfig(MethodConfig):
    """W x + (alpha / rank) B A x, A Kaiming-uniform, B zero.

    Attributes:
        rank: of the update, at least 1.
        alpha: its scale is ``alpha / rank``.
        layers: the linear layers that get one.
        projections: of the fused qkv layer, each with an A and B of its own as in SAMed (Zhang and Liu, 2023); empty:
            one A and B for the whole layer, as the ``peft`` library has it.
        start: share of the blocks left out at the shallow end; 0.5 is "late" LoRA, which saves most of the memory.
        stop: share of the blocks at which to end.
    """

    method: ClassVar[str] = "lora"
    scope: ClassVar[Scope] = Scope.ENCODER
    merges: ClassVar[bool] = True

    rank: int = 4
    alpha: float = 4.0
    layers: tuple[Layer, ...] = (Layer.QKV,)
    projections: tuple[Projection, ...] = field(default=(Projection.Q, Projection.V))
    start: float = 0.0
    stop: float = 1.0

    def plan(self, sam: Sam) -> Plan:
        """Say which layers get an update: see :meth:`.contract.MethodConfig.plan`."""
        if not self.layers or len(set(self.projections)) != len(self.projections):
            raise TuningError("LoRA needs at least one kind of layer, and every projection at most once.")
        names = linear_names(Blocks(self.start, self.stop).of(sam), self.layers)
        trainable = 0
        for name in names:
            layer = linear(sam, name)
            check_rank(self.rank, self.alpha, layer)
            ranges = output_ranges(name, layer, self.projections)
            trainable += sum(self.rank * (layer.in_features + stop - start) for start, stop in ranges)
        return Plan(names, (), trainable)

    def build(self, sam: Sam) -> Part:
        """Make A and B: see :meth:`.contract.MethodConfig.build`."""
        return Lora(self, sam)


def check_rank(rank: int, alpha: float, layer: nn.Linear) -> None:
    """Check the settings of a low-rank update.

    Args:
        rank: of the update.
        alpha: its scale times the rank.
        layer: that it is for.

    Raises:
        TuningError: no update of this rank fits the layer, or it would be scaled to nothing.
    """
    if not 1 <= rank <= min(layer.in_features, layer.out_features):
        raise TuningError(f"The rank {rank} does not fit a layer of width {layer.in_features}. Choose a smaller one.")
    if not 0 < alpha < math.inf:
        raise TuningError(f"The update's alpha must be above 0, not {alpha}.")


def output_ranges(name: str, layer: nn.Linear, projections: Collection[Projection]) -> tuple[tuple[int, int], ...]:
    """Return the ranges of a layer's outputs that have an update of their own.

    Args:
        name: dotted, of the layer.
        layer: itself.
        projections: of the fused qkv layer, those that have one; empty: the layer as a whole has.
    """
    if not name.endswith(Layer.QKV.value) or not projections:
        return ((0, layer.out_features),)
    width = layer.out_features // len(Projection)
    ordered = sorted(projections, key=lambda projection: projection.value)
    return tuple((projection.value * width, (projection.value + 1) * width) for projection in ordered)


class LowRank(nn.Module):
    """B A of one range of a linear layer's outputs.

    Attributes:
        start: first output of the range.
        stop: its end.
    """

    def __init__(self, layer: nn.Linear, outputs: tuple[int, int], rank: int) -> None:
        """Make A (rank, inputs) Kaiming-uniform and B (outputs, rank) zero, on the layer's device, in float32."""
        super().__init__()
        self.start, self.stop = outputs
        device = layer.weight.device
        self.lora_A = nn.Parameter(torch.empty(rank, layer.in_features, device=device))
        self.lora_B = nn.Parameter(torch.zeros(self.stop - self.start, rank, device=device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (..., stop - start) for inputs (..., inputs)."""
        return functional.linear(functional.linear(x, self.lora_A), self.lora_B)


class Update(LowRank):
    """(alpha / rank) B A of one range, as the configuration says."""

    def __init__(self, layer: nn.Linear, outputs: tuple[int, int], config: LoraConfig) -> None:
        """Make A and B."""
        super().__init__(layer, outputs, config.rank)
        self.scale = config.alpha / config.rank

    def growth(self, layer: nn.Linear, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 - DoRA's
        """Return what is added to the range's outputs.

        Args:
            layer: where.
            x: (..., inputs) its inputs.
            out: (..., outputs) all its outputs.

        Returns:
            (..., stop - start).
        """
        return self.scale * self(x)

    def merged(self, rows: torch.Tensor) -> torch.Tensor:
        """Return W + (alpha / rank) B A for the range's rows (stop - start, inputs) of W, in float32."""
        return rows.float() + self.scale * (self.lora_B.detach() @ self.lora_A.detach())


class Lora(Part):
    """The updates of all layers that a plan names."""

    config: LoraConfig

    def __init__(self, config: LoraConfig, sam: Sam, update: type[Update] = Update) -> None:
        """Make the updates of every range.

        Args:
            config: the settings.
            sam: the base.
            update: of which kind.
        """
        super().__init__(config)
        self.sites = config.plan(sam).sites
        self.updates = nn.ModuleDict()
        for name in self.sites:
            layer = linear(sam, name)
            ranges = output_ranges(name, layer, config.projections)
            made = (update(layer, outputs, config) for outputs in ranges)
            self.updates[module_key(name)] = nn.ModuleList(made)

    def of(self, name: str) -> tuple[Update, ...]:
        """Return the updates of a layer by its dotted name."""
        return tuple(update for update in self.updates[module_key(name)].children() if isinstance(update, Update))

    def _attach(self, sam: Sam) -> Iterator[Undo]:
        for name in self.sites:
            layer = linear(sam, name)
            yield from hook_output(layer, partial(_grown, layer, self.of(name)))

    def merged(self, sam: Sam) -> dict[str, torch.Tensor]:
        """Return W + (alpha / rank) B A of every layer: see :meth:`.contract.Part.merged`."""
        found: dict[str, torch.Tensor] = {}
        for name in self.sites:
            weight = linear(sam, name).weight.detach().clone()
            for update in self.of(name):
                weight[update.start : update.stop] = update.merged(weight[update.start : update.stop]).to(weight.dtype)
            found[f"{name}.weight"] = weight
        return found


def _grown(layer: nn.Linear, updates: tuple[Update, ...], x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    pieces = [(update, update.growth(layer, x, out)) for update in updates]
    if len(pieces) == 1 and pieces[0][1].shape == out.shape:
        return out + pieces[0][1].to(out.dtype)
    grown = torch.zeros_like(out)
    for update, piece in pieces:
        grown[..., update.start : update.stop] = piece.to(out.dtype)
    return out + grown
