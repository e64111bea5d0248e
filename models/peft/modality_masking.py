"""Modality masking: hide parts of one modality in training, so that the model does not lean on one sensor.

An idea of MoBaNet (arXiv 2603.17705): in half of the batch a rectangle of 10 % to 30 % of the area is zeroed in one
modality, in turns the image and the second one. Zero is the mean of a normalised input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .contract import TuningError
from .streams import STREAMS

_LONGEST = 2.0
"""Greatest ratio of a rectangle's sides, before it is cut to the image."""


@dataclass(frozen=True)
class ModalityMasking:
    """How much is hidden.

    Attributes:
        portion: of the batch that has something hidden, 0 to 1.
        least: smallest area of a rectangle as a share of the image.
        greatest: largest.
    """

    portion: float = 0.5
    least: float = 0.1
    greatest: float = 0.3

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            TuningError: they make no sense.
        """
        if not 0 <= self.portion <= 1 or not 0 < self.least <= self.greatest < 1:
            raise TuningError("Modality masking needs a portion from 0 to 1 and areas above 0 and below 1.")


DEFAULT_MASKING = ModalityMasking()


def mask_modalities(
    batch: torch.Tensor, generator: torch.Generator, settings: ModalityMasking = DEFAULT_MASKING
) -> torch.Tensor:
    """Hide rectangles in a batch of two streams.

    Args:
        batch: (2 B, C, H, W) normalised: the images, then the second modality of the same places. Not changed.
        generator: of the processor; decides everything, so that a seed gives the same masks on every device.
        settings: how much is hidden.

    Returns:
        (2 B, C, H, W). Of each place at most one modality has a rectangle of zeros. Where B times the portion is no
        whole number, the rest decides by chance whether there is one more.

    Raises:
        TuningError: the batch has no two halves.
    """
    places, odd = divmod(batch.shape[0], STREAMS)
    if odd:
        raise TuningError("Modality masking needs a batch of two modalities, the images first.", f"{batch.shape[0]}")
    wanted = places * settings.portion
    number = int(wanted) + int(_uniform(generator) < wanted % 1)
    chosen = torch.randperm(places, generator=generator)[:number].tolist()
    turn = int(_uniform(generator) * STREAMS)
    masked = batch.clone()
    for order, place in enumerate(chosen):
        row, column, height, width = rectangle(batch.shape[-2], batch.shape[-1], generator, settings)
        modality = (turn + order) % STREAMS
        masked[modality * places + place, :, row : row + height, column : column + width] = 0.0
    return masked


def rectangle(
    height: int, width: int, generator: torch.Generator, settings: ModalityMasking = DEFAULT_MASKING
) -> tuple[int, int, int, int]:
    """Draw a rectangle within an image.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        generator: of the processor.
        settings: the area is uniform between their limits, as closely as whole pixels allow.

    Returns:
        Row and column of its first pixel, its height and its width.
    """
    least, greatest = settings.least * height * width, settings.greatest * height * width
    area = least + (greatest - least) * _uniform(generator)
    ratio = _LONGEST ** (2 * _uniform(generator) - 1)
    # Neither side may be so short that the other would have to be longer than the image.
    tall = min(max(round(math.sqrt(area * ratio)), math.ceil(area / width), 1), height)
    wide = min(max(round(area / tall), math.ceil(least / tall)), max(math.floor(greatest / tall), 1), width)
    row = int(_uniform(generator) * (height - tall + 1))
    column = int(_uniform(generator) * (width - wide + 1))
    return row, column, tall, wide


def _uniform(generator: torch.Generator) -> float:
    """Return a number from 0 to below 1."""
    return float(torch.rand((), generator=generator, dtype=torch.float64))
