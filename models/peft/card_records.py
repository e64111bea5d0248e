"""The records that an adapter's card is made of. Standard library only."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ..card import Architecture

_HASH_LENGTH = 64


class HeadKind(enum.Enum):
    """What an adapter answers with."""

    PROMPTABLE = "promptable"
    SEMANTIC = "semantic"
    INSTANCES = "instances"


@dataclass(frozen=True)
class BaseRecord:
    """The base model that an adapter was tuned on, and works with only.

    Attributes:
        name: short key of its card.
        architecture: of the network.
        sha256: of its weight file, hexadecimal.
        licence: of its weights, SPDX.
    """

    name: str
    architecture: Architecture
    sha256: str
    licence: str

    def __post_init__(self) -> None:
        """Refuse what is no hash.

        Raises:
            ValueError: as said.
        """
        if len(self.sha256) != _HASH_LENGTH or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(f"the base's SHA-256 {self.sha256!r} is none")


@dataclass(frozen=True)
class BandRecord:
    """A band, or an index made of bands, and how its values are brought to the scale of training.

    Attributes:
        number: of the raster's band, from 1; 0 for an index.
        name: as the raster has it, or as the index is called; may be empty.
        formula: of an index, in band numbers, such as ``(b4 - b3) / (b4 + b3)``; empty for a band.
        mean: of the training area, in raster units; subtracted.
        std: likewise; divides.
        low: 2nd percentile of the training area.
        high: 98th percentile.
    """

    number: int
    name: str = ""
    formula: str = ""
    mean: float = 0.0
    std: float = 1.0
    low: float = 0.0
    high: float = 255.0


@dataclass(frozen=True)
class SecondRecord:
    """The second raster (height, radar, ...) of an adapter with two streams.

    Attributes:
        name: what it is, in words.
        bands: of that raster, from 1: one, or three.
        stretch: (low, high) per band, robust percentiles of the training area; low becomes 0, high becomes 255.
    """

    name: str
    bands: tuple[int, ...] = (1,)
    stretch: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class InputRecord:
    """What an adapter was trained to see.

    Attributes:
        rgb: the raster's bands, from 1, that make the picture for the frozen patch embedding: three, or one.
        stretch: (low, high) per band of ``rgb``; low becomes 0, high becomes 255.
        bands: bands and indices that go to the band stem, in order; empty without one.
        nodata: value of pixels without data; None where the raster named none.
        second: the second stream's raster; None without one.
    """

    rgb: tuple[int, ...] = (1, 2, 3)
    stretch: tuple[tuple[float, float], ...] = ()
    bands: tuple[BandRecord, ...] = ()
    nodata: float | None = None
    second: SecondRecord | None = None

    def numbers(self) -> tuple[int, ...]:
        """Return the raster's bands that are needed: those of the picture, then further ones, each once."""
        return tuple(dict.fromkeys((*self.rgb, *(band.number for band in self.bands if band.number))))


@dataclass(frozen=True)
class GroundRecord:
    """Where and at which scale an adapter was trained.

    Attributes:
        gsd: finest and coarsest size of a pixel of the model's input on the ground, metres; None where unknown.
        tile: side of the training tiles, pixels of the model's input; 0 where unknown.
        resize: how raster pixels became those, in words.
        crs: of the training raster, WKT or an authority's code; empty without.
        extent: (left, bottom, right, top) of the labelled ground in that CRS; None where unknown.
    """

    gsd: tuple[float, float] | None = None
    tile: int = 0
    resize: str = ""
    crs: str = ""
    extent: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class ClassRecord:
    """A class that an adapter tells apart.

    Attributes:
        value: in class maps and in the labels.
        name: for lists and legends.
        colour: red, green, blue, 0 to 255.
        objects: labelled objects of it that were trained on.
    """

    value: int
    name: str
    colour: tuple[int, int, int] = (128, 128, 128)
    objects: int = 0


@dataclass(frozen=True)
class TrainingRecord:
    """How an adapter was trained.

    Attributes:
        steps: of the optimiser.
        seeds: of the random numbers.
        split: how training and hold-out were parted, in words.
        loss: which, with weights, in words.
        samples: tiles or prompts trained on.
        held_out: objects (or tiles) that were kept for measuring.
        seconds: that it took.
        device: that it ran on, in words.
    """

    steps: int = 0
    seeds: tuple[int, ...] = ()
    split: str = ""
    loss: str = ""
    samples: int = 0
    held_out: int = 0
    seconds: float = 0.0
    device: str = ""


@dataclass(frozen=True)
class MetricRecord:
    """A figure measured on the hold-out, before and after.

    Attributes:
        name: of the metric, with its class where it is one class's.
        frozen: of the base as it was; None where it cannot be had.
        tuned: with the adapter.
    """

    name: str
    frozen: float | None
    tuned: float | None
