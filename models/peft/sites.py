"""Where in an image encoder a method attaches: blocks by depth, and the linear layers within them."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..sam_modules import Sam
from .contract import TuningError


class Layer(enum.Enum):
    """The linear layers of a block; the value is the module's name within it."""

    QKV = "attn.qkv"
    PROJ = "attn.proj"
    LIN1 = "mlp.lin1"
    LIN2 = "mlp.lin2"


ATTENTION = (Layer.QKV, Layer.PROJ)
EVERY_LAYER = tuple(Layer)


@dataclass(frozen=True)
class Blocks:
    """A range of blocks as shares of the depth, so that one setting serves every size of encoder.

    Attributes:
        start: share of the blocks to leave out at the shallow end, 0 to below 1.
        stop: share at which to end, above ``start`` to 1.
    """

    start: float = 0.0
    stop: float = 1.0

    def of(self, sam: Sam) -> range:
        """Return the blocks' indices. Limits are rounded to whole blocks (thirds of 12: 4).

        Raises:
            TuningError: no block lies in the range.
        """
        depth = len(sam.image_encoder.blocks)
        found = range(round(self.start * depth), round(self.stop * depth))
        if not 0 <= self.start < self.stop <= 1 or not found:
            raise TuningError(
                f"Blocks from {self.start:.0%} to {self.stop:.0%} of the depth leave none to tune. Widen the range."
            )
        return found


def block_name(index: int) -> str:
    """Return the dotted name of a block of the image encoder."""
    return f"image_encoder.blocks.{index}"


def width(sam: Sam) -> int:
    """Return the width of the encoder's tokens."""
    return int(sam.image_encoder.blocks[0].norm1.weight.shape[0])


def device_of(sam: Sam) -> torch.device:
    """Return the device that the encoder's blocks are on."""
    device: torch.device = sam.image_encoder.blocks[0].norm1.weight.device
    return device


def linear_names(blocks: range, layers: Sequence[Layer]) -> tuple[str, ...]:
    """Return the dotted names of the layers of the blocks, in the network's order."""
    return tuple(f"{block_name(index)}.{layer.value}" for index in blocks for layer in Layer if layer in layers)


def module_key(name: str) -> str:
    """Return under which name a part keeps what belongs to a module: torch allows no dots in names."""
    return name.removeprefix("image_encoder.").replace(".", "/")


def linear(sam: Sam, name: str) -> nn.Linear:
    """Return a linear layer by its dotted name.

    Raises:
        TuningError: there is none of that name.
    """
    try:
        found = sam.get_submodule(name)
    except AttributeError as error:
        raise TuningError("This adapter is for another base model.", f"no module {name}") from error
    if not isinstance(found, nn.Linear):
        raise TuningError("This adapter is for another base model.", f"{name} is a {type(found).__name__}")
    return found
