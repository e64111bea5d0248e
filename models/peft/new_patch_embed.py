"""A new patch embedding for all bands: what the band stem is compared with.

The bands get a convolution of their own beside the frozen first one of the encoder: of the same kernel and stride, zero
at the start. Their sum is a convolution over image and bands together whose part for the image is the frozen one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from ..conv_stem import ConvStem
from ..sam_modules import Sam
from .band_stem import check_bands, check_channels
from .contract import MethodConfig, Part, Plan, Scope, TuningError, Undo
from .hooks import hook_output
from .streams import add_to_images


@dataclass(frozen=True)
class NewPatchEmbedConfig(MethodConfig):
    """A trained convolution over all bands, added to the frozen one over three.

    Attributes:
        channels: how many channels :attr:`.contract.SideInputs.bands` has, 1 to 300. Pixels without data are 0 (each
            channel's mean).
    """

    method: ClassVar[str] = "patch_embed"
    scope: ClassVar[Scope] = Scope.ENCODER

    channels: int = 4

    def plan(self, sam: Sam) -> Plan:
        """Say how large the convolution is: see :meth:`.contract.MethodConfig.plan`."""
        check_channels(self.channels)
        name, layer = first_convolution(sam)
        rows, columns = layer.kernel_size
        return Plan((name,), (), layer.out_channels * self.channels * rows * columns)

    def build(self, sam: Sam) -> Part:
        """Make the convolution: see :meth:`.contract.MethodConfig.build`."""
        return NewPatchEmbed(self, sam)


def first_convolution(sam: Sam) -> tuple[str, nn.Conv2d]:
    """Return the layer that sees the image: the patch embedding's, or the first of ``tiny``'s stem; with its name."""
    embedding = sam.image_encoder.patch_embed
    leaf = "first" if isinstance(embedding, ConvStem) else "proj"
    layer = embedding.get_submodule(leaf)
    if not isinstance(layer, nn.Conv2d):
        raise TuningError("This base model has no patch embedding of a known kind.", f"{leaf}: {type(layer).__name__}")
    return f"image_encoder.patch_embed.{leaf}", layer


class NewPatchEmbed(Part):
    """The convolution over the bands."""

    config: NewPatchEmbedConfig

    def __init__(self, config: NewPatchEmbedConfig, sam: Sam) -> None:
        """Make it, zero, on the base's device, in float32."""
        super().__init__(config)
        config.plan(sam)
        _, layer = first_convolution(sam)
        # Of the original's class, to pad as that does; both kinds are square.
        side, stride = layer.kernel_size[0], layer.stride[0]
        device = layer.weight.device
        self.bands = type(layer)(config.channels, layer.out_channels, side, stride, bias=False, device=device)
        nn.init.zeros_(self.bands.weight)

    def _attach(self, sam: Sam) -> Iterator[Undo]:
        yield from hook_output(first_convolution(sam)[1], self._add)

    def _add(self, images: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        bands = self.side.bands
        if bands is None:
            return out
        check_bands(bands, self.config.channels, images.shape[0] // self.side.streams)
        if bands.shape[-2:] != images.shape[-2:]:
            raise TuningError(
                "The bands do not lie on the image's grid.", f"{tuple(bands.shape)} for {tuple(images.shape)}"
            )
        return add_to_images(out, self.bands(torch.nan_to_num(bands, nan=0.0)), self.side.streams)
