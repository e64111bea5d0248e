"""MMAdapter: bottlenecks for two modalities that exchange what they add (MFNet, TGRS 2025, arXiv 2410.11160).

With u = norm2(x), v = norm2(y) and the frozen F(x) = MLP(u), every block becomes

    h_x = attn(norm1 x);  h_x += act(h_x Wd') Wu'                           and likewise for y
    x  <- x + F(x) + l1 a_x + (1 - l1) a_y,    a_x = act(u Wd_x) Wu_x
    y  <- y + F(y) + l2 a_y + (1 - l2) a_x,    a_y = act(v Wd_y) Wu_y

so there are four bottlenecks per block, two after attention and two beside the MLP, and two mixing weights. Differences
from the source, unless :attr:`MmAdapterConfig.source` asks for its own: the up-projections start at zero, so that a new
adapter changes nothing (the source's start random); ReLU as in the paper (its code has GELU). The mixing weights are
sigmoids in either case.
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
from .contract import MethodConfig, Part, Plan, Scope, TuningError, Undo
from .hooks import hook_output
from .sites import Blocks, block_name, device_of
from .streams import STREAMS, Branch, Mixing, split

_ALONE = 0.5
"""Weight of a bottleneck beside the MLP where nothing is exchanged: what the mixing weights start from, so that the two
differ by the exchange alone."""


@dataclass(frozen=True)
class MmAdapterConfig(MethodConfig):
    """Bottlenecks after attention and beside the MLP, for an image and a second modality.

    With one stream the second modality's bottlenecks are not asked and contribute nothing: the image gets ``l1 a_x``.

    Attributes:
        ratio: width of the encoder over the width of a bottleneck; the source has 4.
        exchange: mix what the modalities add; without, each has plain bottlenecks of its own.
        source: start and activation as in the source's code, for comparison: torch's default start and GELU. Such an
            adapter changes the outputs from the start.
        start: share of the blocks left out at the shallow end.
        stop: share of the blocks at which to end.
    """

    method: ClassVar[str] = "mm_adapter"
    scope: ClassVar[Scope] = Scope.ENCODER

    ratio: int = 16
    exchange: bool = True
    source: bool = False
    start: float = 0.0
    stop: float = 1.0

    def plan(self, sam: Sam) -> Plan:
        """Say which blocks get bottlenecks: see :meth:`.contract.MethodConfig.plan`."""
        blocks = Blocks(self.start, self.stop).of(sam)
        trainable = 0
        for index in blocks:
            dim, hidden = self.widths(sam, index)
            trainable += 2 * STREAMS * (2 * dim * hidden + hidden + dim) + (STREAMS if self.exchange else 0)
        sites = tuple(f"{block_name(index)}.{name}" for index in blocks for name in ("attn", "mlp"))
        return Plan(sites, (), trainable)

    def build(self, sam: Sam) -> Part:
        """Make the bottlenecks: see :meth:`.contract.MethodConfig.build`; with ``source`` it changes the outputs."""
        return MmAdapter(self, sam)

    def widths(self, sam: Sam, index: int) -> tuple[int, int]:
        """Return a block's width and that of its bottlenecks.

        Raises:
            TuningError: the ratio leaves no bottleneck.
        """
        dim = int(sam.image_encoder.blocks[index].norm2.weight.shape[0])
        if not 1 <= self.ratio <= dim:
            raise TuningError(f"A bottleneck of 1/{self.ratio} of {dim} cannot be. Choose a ratio from 1 to {dim}.")
        return dim, dim // self.ratio


class Bottleneck(nn.Module):
    """act(x Wd) Wu, both with biases."""

    def __init__(self, dim: int, hidden: int, device: torch.device, *, source: bool) -> None:
        """Make the projections: with ``source`` both as torch starts them, otherwise the second zero."""
        super().__init__()
        self.down = nn.Linear(dim, hidden, device=device)
        self.up = nn.Linear(hidden, dim, device=device)
        self._act = functional.gelu if source else functional.relu
        if not source:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def branch(self, x: torch.Tensor) -> Branch:
        """Return what is added to (..., dim), before the map up."""
        return Branch(self._act(self.down(x)), self.up.weight, self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (..., dim) for (..., dim)."""
        return self.up(self._act(self.down(x)))


class _BlockAdapter(nn.Module):
    """The four bottlenecks of one block, in pairs of image and second modality, and the mixing weights."""

    def __init__(self, config: MmAdapterConfig, widths: tuple[int, int], device: torch.device) -> None:
        super().__init__()
        self.attn = _Pair(config, widths, device)
        self.mlp = _Pair(config, widths, device)
        self.mixing = Mixing(device) if config.exchange else None

    def after_attention(self, streams: int, out: torch.Tensor) -> torch.Tensor:
        first, second = self.attn(*split(out, streams))
        return out + (first if second is None else torch.cat([first, second]))

    def beside_mlp(self, streams: int, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        if self.mixing is None:
            first, second = self.mlp(*split(x, streams))
            return out + _ALONE * (first if second is None else torch.cat([first, second]))
        image, other = split(x, streams)
        return out + self.mixing(self.mlp.image.branch(image), None if other is None else self.mlp.second.branch(other))


class _Pair(nn.Module):
    def __init__(self, config: MmAdapterConfig, widths: tuple[int, int], device: torch.device) -> None:
        super().__init__()
        self.image = Bottleneck(*widths, device, source=config.source)
        self.second = Bottleneck(*widths, device, source=config.source)

    def forward(self, image: torch.Tensor, second: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.image(image), None if second is None else self.second(second)


class MmAdapter(Part):
    """The bottlenecks of all blocks that a plan names."""

    config: MmAdapterConfig

    def __init__(self, config: MmAdapterConfig, sam: Sam) -> None:
        """Make the bottlenecks on the base's device, in float32."""
        super().__init__(config)
        config.plan(sam)
        self._blocks = Blocks(config.start, config.stop).of(sam)
        self.blocks = nn.ModuleDict()
        for index in self._blocks:
            self.blocks[str(index)] = _BlockAdapter(config, config.widths(sam, index), device_of(sam))

    def mixing_shares(self) -> dict[int, tuple[float, float]]:
        """Return by block what each modality takes of its own, (l1, l2); empty without exchange."""
        found: dict[int, tuple[float, float]] = {}
        for index in self._blocks:
            mixing = self._of(index).mixing
            if mixing is not None:
                first, second = mixing.shares.detach().tolist()
                found[index] = (first, second)
        return found

    def _attach(self, sam: Sam) -> Iterator[Undo]:
        for index in self._blocks:
            block = sam.image_encoder.blocks[index]
            yield from hook_output(block.attn, partial(self._after_attention, self._of(index)))
            yield from hook_output(block.mlp, partial(self._beside_mlp, self._of(index)))

    def _after_attention(self, own: _BlockAdapter, _x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return own.after_attention(self.side.streams, out)

    def _beside_mlp(self, own: _BlockAdapter, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return own.beside_mlp(self.side.streams, x, out)

    def _of(self, index: int) -> _BlockAdapter:
        return cast("_BlockAdapter", self.blocks[str(index)])
