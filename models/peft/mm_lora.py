"""MMLoRA: low-rank updates for two modalities that exchange what they add (MFNet, TGRS 2025, arXiv 2410.11160).

In attention each modality has its own LoRA on q and v. In both layers of the MLP the branches are crossed over:

    x <- W0 x + l1 B_x A_x x + (1 - l1) B_y A_y y
    y <- W0 y + l2 B_y A_y y + (1 - l2) B_x A_x x

with one l1 and l2 per block. Every branch is scaled by alpha / rank (the source scales those in attention only).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch
from torch import nn
from torch.nn import functional

from ..sam_modules import Sam
from .contract import MethodConfig, Part, Plan, Scope, Undo
from .hooks import hook_output
from .lora import LowRank, Projection, check_rank, output_ranges
from .sites import Blocks, Layer, block_name, device_of, linear
from .streams import STREAMS, Branch, Mixing, split

_LAYERS = (Layer.QKV, Layer.LIN1, Layer.LIN2)
_TUNED = (Projection.Q, Projection.V)


@dataclass(frozen=True)
class MmLoraConfig(MethodConfig):
    """LoRA on q, v and both layers of the MLP, for an image and a second modality.

    With one stream the second modality's updates are not asked and contribute nothing.

    Attributes:
        rank: of the updates, at least 1.
        alpha: their scale is ``alpha / rank``.
        exchange: cross the branches of the MLP over; without, each modality has a plain LoRA of its own in the same
            places.
        start: share of the blocks left out at the shallow end.
        stop: share of the blocks at which to end.
    """

    method: ClassVar[str] = "mm_lora"
    scope: ClassVar[Scope] = Scope.ENCODER

    rank: int = 4
    alpha: float = 4.0
    exchange: bool = True
    start: float = 0.0
    stop: float = 1.0

    def plan(self, sam: Sam) -> Plan:
        """Say which layers get updates: see :meth:`.contract.MethodConfig.plan`."""
        blocks = Blocks(self.start, self.stop).of(sam)
        names = tuple(f"{block_name(index)}.{layer.value}" for index in blocks for layer in _LAYERS)
        trainable = len(blocks) * STREAMS if self.exchange else 0
        for name in names:
            layer = linear(sam, name)
            check_rank(self.rank, self.alpha, layer)
            widths = (stop - start for start, stop in output_ranges(name, layer, _TUNED))
            trainable += STREAMS * sum(self.rank * (layer.in_features + width) for width in widths)
        return Plan(names, (), trainable)

    def build(self, sam: Sam) -> Part:
        """Make A and B of every modality: see :meth:`.contract.MethodConfig.build`."""
        return MmLora(self, sam)


class _Update(nn.Module):
    """The updates of one layer for one modality."""

    def __init__(self, name: str, layer: nn.Linear, config: MmLoraConfig) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            LowRank(layer, outputs, config.rank) for outputs in output_ranges(name, layer, _TUNED)
        )
        self._scale = config.alpha / config.rank

    def branch(self, x: torch.Tensor) -> Branch:
        """Return what is added to all outputs of a layer that is tuned as a whole, before B."""
        whole = cast("LowRank", self.parts[0])
        return Branch(self._scale * functional.linear(x, whole.lora_A), whole.lora_B)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (..., outputs) for (..., inputs), zero where nothing is tuned."""
        pieces: list[torch.Tensor] = []
        end = 0
        for part in cast("list[LowRank]", list(self.parts)):
            piece = self._scale * part(x)
            if part.start > end:
                pieces.append(piece.new_zeros(*piece.shape[:-1], part.start - end))
            pieces.append(piece)
            end = part.stop
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)


class _Pair(nn.Module):
    def __init__(self, name: str, layer: nn.Linear, config: MmLoraConfig) -> None:
        super().__init__()
        self.image = _Update(name, layer, config)
        self.second = _Update(name, layer, config)


class _BlockLora(nn.Module):
    def __init__(self, sam: Sam, index: int, config: MmLoraConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        for layer in _LAYERS:
            name = f"{block_name(index)}.{layer.value}"
            self.layers[_key(layer)] = _Pair(name, linear(sam, name), config)
        self.mixing = Mixing(device_of(sam)) if config.exchange else None

    def add(self, layer: Layer, streams: int, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return a layer's output with the updates of its modalities added."""
        pair = cast("_Pair", self.layers[_key(layer)])
        image, second = split(x, streams)
        if self.mixing is not None and layer is not Layer.QKV:
            return out + self.mixing(pair.image.branch(image), None if second is None else pair.second.branch(second))
        grown = pair.image(image)
        return out + (grown if second is None else torch.cat([grown, pair.second(second)]))


class MmLora(Part):
    """The updates of all blocks that a plan names."""

    config: MmLoraConfig

    def __init__(self, config: MmLoraConfig, sam: Sam) -> None:
        """Make A Kaiming-uniform and B zero, on the base's device, in float32."""
        super().__init__(config)
        config.plan(sam)
        self._blocks = Blocks(config.start, config.stop).of(sam)
        self.blocks = nn.ModuleDict({str(index): _BlockLora(sam, index, config) for index in self._blocks})

    def _attach(self, sam: Sam) -> Iterator[Undo]:
        for index in self._blocks:
            for layer in _LAYERS:
                found = linear(sam, f"{block_name(index)}.{layer.value}")
                yield from hook_output(found, partial(self._add, index, layer))

    def _add(self, index: int, layer: Layer, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return cast("_BlockLora", self.blocks[str(index)]).add(layer, self.side.streams, x, out)


def _key(layer: Layer) -> str:
    return layer.value.replace(".", "/")
