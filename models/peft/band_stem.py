"""Band stem: all bands of a raster turn the embedding of three of them. DEFLECT-style.

After the idea of DEFLECT (Thoreau, Marsocci and Derksen, ICCV 2025, arXiv 2503.09493): three bands go through the
frozen patch embedding and give structure; all bands go through a small encoder that is blind to structure (statistics
over the set of a cell's pixels) and gives radiometry, which may displace the embedding by no more than a share of its
norm. The original mixes the radiometry into the attention of a network that is trained so; here it is added to the
tokens before the first third of the blocks, which leaves SAM's windows and relative positions as they are. It is a
design of its own, not a reproduction.

    s   = PixelSet(bands)                                          (B, h, w, 32)
    d   = s W                                                      W zero at the start
    x0  = x_P + min(1, rho |x_P| / |d|) d                          after the patch embedding
    x_i = x_i + min(1, rho |x_i| / |d_i|) d_i,  d_i = s W_i        before each block of the first third

A cell without data has s = 0, and the maps have no bias: it is displaced by nothing. Without bands the stem does
nothing.
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
from .contract import MethodConfig, Part, Plan, Scope, TuningError, Undo
from .hooks import hook_input, hook_output
from .sites import block_name, device_of, width
from .streams import add_to_images

CODE = "spectral_code"
"""Name under which the mean code of every image is published: ``SideInputs.published[CODE]``, (B, 32) float32."""

CODE_WIDTH = 32
_CELLS = "spectral_code_of_cells"
_HIDDEN = 16
_FEATURES = 32
_STATISTICS = 4
MAX_CHANNELS = 300

_TINY = 1e-6
_FAR = 1e4
"""Beyond what features of a pixel reach; stands where there is no data while the least and the greatest are sought."""


@dataclass(frozen=True)
class BandStemConfig(MethodConfig):
    """Displacements of the tokens by what all bands say.

    Attributes:
        channels: how many channels :attr:`.contract.SideInputs.bands` has: bands and indices, see
            :func:`.band_inputs.to_channels`. 1 to 300.
        rho: greatest displacement as a share of the norm of what is displaced, above 0 to 1.
    """

    method: ClassVar[str] = "band_stem"
    scope: ClassVar[Scope] = Scope.ENCODER

    channels: int = 4
    rho: float = 0.25

    def plan(self, sam: Sam) -> Plan:
        """Say where the tokens are displaced: see :meth:`.contract.MethodConfig.plan`."""
        check_channels(self.channels)
        if not 0 < self.rho <= 1:
            raise TuningError(f"The greatest displacement must be above 0 and at most 1, not {self.rho}.")
        blocks = self.blocks(sam)
        pixels = (self.channels + 1) * _HIDDEN + (_HIDDEN + 1) * _FEATURES
        cells = (_STATISTICS * _FEATURES + 1) * CODE_WIDTH
        maps = (len(blocks) + 1) * CODE_WIDTH * width(sam)
        sites = ("image_encoder.patch_embed", *(block_name(index) for index in blocks))
        return Plan(sites, (), pixels + cells + maps)

    def build(self, sam: Sam) -> Part:
        """Make the stem: see :meth:`.contract.MethodConfig.build`."""
        return BandStem(self, sam)

    def blocks(self, sam: Sam) -> range:
        """Return the blocks before which the code is added again: the first third (12: 4, 24: 8, 32: 10, 6: 2)."""
        return range(max(len(sam.image_encoder.blocks) // 3, 1))


def check_channels(channels: int) -> None:
    """Check a number of channels.

    Raises:
        TuningError: it is out of range.
    """
    if not 1 <= channels <= MAX_CHANNELS:
        raise TuningError(f"Between 1 and {MAX_CHANNELS} bands and indices can be used, not {channels}.")


def check_bands(bands: torch.Tensor, channels: int, images: int) -> None:
    """Check that bands are what a method was made for.

    Args:
        bands: (B, C, H, W).
        channels: that the method takes.
        images: of the batch.

    Raises:
        TuningError: they are not.
    """
    if bands.ndim != 4 or bands.shape[1] != channels:
        raise TuningError(
            f"The adapter was trained with {channels} bands and indices. Give it a raster with the same ones.",
            f"bands {tuple(bands.shape)}",
        )
    if bands.shape[0] != images:
        raise TuningError("The bands do not fit the images.", f"bands of {bands.shape[0]}, images: {images}")


class PixelSetEncoder(nn.Module):
    """What the pixels of a cell reflect, whatever their order.

    Per pixel C -> 16 -> 32 with GELU; over the pixels of a cell that have data mean, standard deviation, least and
    greatest; 128 -> 32.
    """

    def __init__(self, channels: int, device: torch.device) -> None:
        """Make the layers as torch starts them."""
        super().__init__()
        self.inner = nn.Conv2d(channels, _HIDDEN, 1, device=device)
        self.outer = nn.Conv2d(_HIDDEN, _FEATURES, 1, device=device)
        self.code = nn.Linear(_STATISTICS * _FEATURES, CODE_WIDTH, device=device)

    def forward(self, bands: torch.Tensor, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode.

        Args:
            bands: (B, C, H, W) standardised; a pixel with NaN in any channel has no data.
            grid: (h, w) cells; H / h and W / w are whole and the same (16 for bands on the image's own grid, fewer for
                bands that are coarser).

        Returns:
            The code (B, h, w, 32), 0 in cells without data, and (B, h, w) the cells with data.

        Raises:
            TuningError: the bands do not divide into cells.
        """
        side = bands.shape[-1] // grid[1]
        if side < 1 or (grid[0] * side, grid[1] * side) != tuple(bands.shape[-2:]):
            raise TuningError(
                "The bands do not lie on the image's grid.", f"{tuple(bands.shape[-2:])} pixels for {grid} cells"
            )
        known = torch.isfinite(bands).all(dim=1, keepdim=True)
        pixels = functional.gelu(self.inner(bands.masked_fill(~known, 0.0)))
        pixels = _cells(functional.gelu(self.outer(pixels)), grid, side).float()
        inside = _cells(known, grid, side)
        has_data = inside.any(dim=-1)
        code = self.code(statistics(pixels, inside)) * has_data
        return code, has_data[..., 0]


def _cells(x: torch.Tensor, grid: tuple[int, int], side: int) -> torch.Tensor:
    """Return (B, h, w, F, side * side) for (B, F, h * side, w * side)."""
    batch, features = x.shape[:2]
    parts = x.reshape(batch, features, grid[0], side, grid[1], side)
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(-2)


def statistics(pixels: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Summarise sets of pixels.

    Args:
        pixels: (..., F, N) float32, finite.
        inside: (..., 1, N) which of them count.

    Returns:
        (..., 4 F): mean, standard deviation, least and greatest of those that count; zeros where none does.
    """
    if bool(inside.all()):
        # The usual case, in which less is kept for the backward pass.
        variance, mean = torch.var_mean(pixels, dim=-1, correction=0)
        return torch.cat([mean, _deviation(variance), pixels.amin(dim=-1), pixels.amax(dim=-1)], dim=-1)
    number = inside.sum(dim=-1).clamp_min(1)
    counted = pixels * inside
    mean = counted.sum(dim=-1) / number
    variance = ((pixels - mean[..., None]) * inside).square().sum(dim=-1) / number
    some = inside.any(dim=-1)
    least = pixels.masked_fill(~inside, _FAR).amin(dim=-1) * some
    greatest = pixels.masked_fill(~inside, -_FAR).amax(dim=-1) * some
    return torch.cat([mean, _deviation(variance), least, greatest], dim=-1)


def _deviation(variance: torch.Tensor) -> torch.Tensor:
    # The root has no slope at 0, where a cell of one colour is.
    return (variance + _TINY).sqrt() - _TINY**0.5


def bounded(displacement: torch.Tensor, of: torch.Tensor, rho: float) -> torch.Tensor:
    """Shorten displacements that are longer than a share of what they displace.

    Args:
        displacement: (..., D).
        of: (..., D) what is displaced.
        rho: the share.

    Returns:
        (..., D) float32, no longer than ``rho`` times ``of``.
    """
    displacement = displacement.float()
    length = torch.linalg.vector_norm(displacement, dim=-1, keepdim=True).clamp_min(_TINY)
    limit = rho * torch.linalg.vector_norm(of.float(), dim=-1, keepdim=True)
    return displacement * (limit / length).clamp_max(1.0)


class BandStem(Part):
    """The encoder of the bands and its maps to the tokens."""

    config: BandStemConfig

    def __init__(self, config: BandStemConfig, sam: Sam) -> None:
        """Make the encoder, and the maps of zeros, on the base's device, in float32."""
        super().__init__(config)
        config.plan(sam)
        self._blocks = config.blocks(sam)
        dim, device = width(sam), device_of(sam)
        self.pixels = PixelSetEncoder(config.channels, device)
        number = len(self._blocks) + 1
        self.maps = nn.ParameterList(torch.zeros(dim, CODE_WIDTH, device=device) for _ in range(number))

    @property
    def _cells(self) -> str:
        """Under which name the codes are kept: its own, for several stems may be given the same batch."""
        return f"{_CELLS}_{id(self)}"

    def _attach(self, sam: Sam) -> Iterator[Undo]:
        yield from hook_output(sam.image_encoder.patch_embed, self._after_embedding)
        for index in self._blocks:
            yield from hook_input(sam.image_encoder.blocks[index], partial(self._before_block, index))

    def _after_embedding(self, _images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        bands, published = self.side.bands, self.side.published
        if bands is None:
            return tokens
        check_bands(bands, self.config.channels, tokens.shape[0] // self.side.streams)
        code, has_data = self.pixels(bands, (tokens.shape[1], tokens.shape[2]))
        # Kept with the batch, not with the stem: blocks that are computed again for the backward pass find the code
        # of their own batch, whatever else was encoded in the meantime.
        published[self._cells] = code
        published[CODE] = mean_code(code, has_data)
        return self._displace(0, code, tokens)

    def _before_block(self, index: int, tokens: torch.Tensor) -> torch.Tensor:
        code = self.side.published.get(self._cells)
        return tokens if code is None else self._displace(index + 1, code, tokens)

    def _displace(self, number: int, code: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        displacement = functional.linear(code, self.maps[number])
        limited = bounded(displacement, tokens[: code.shape[0]], self.config.rho)
        return add_to_images(tokens, limited, self.side.streams)


def mean_code(code: torch.Tensor, has_data: torch.Tensor) -> torch.Tensor:
    """Return the mean of an image's codes (B, h, w, 32) over its cells with data (B, h, w): (B, 32) float32."""
    number = has_data.sum(dim=(1, 2)).clamp_min(1)
    return code.float().sum(dim=(1, 2)) / number[:, None]
