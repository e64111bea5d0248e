"""From the raw bands of a raster to what the band stem takes: indices, and every channel on a common scale.

What a channel is and how it is scaled is a :class:`.card_records.BandRecord`, as adapters' cards hold it.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .card_records import BandRecord
from .contract import TuningError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PERCENTILES = (2.0, 98.0)
_SPAN = 2 * 2.053749
"""How many standard deviations of a normal distribution lie between those percentiles."""

_FORMULA = re.compile(r"\(b(\d+) - b(\d+)\) / \(b(\d+) \+ b(\d+)\)")

CLIP = 6.0
"""Scaled values end here, so that a glint or a wrong pixel does not drive a whole cell's statistics."""


class Spread(enum.Enum):
    """How a channel's centre and spread (a record's mean and std) are measured."""

    PERCENTILES = "percentiles"
    MOMENTS = "moments"


def index_formula(one: int, other: int) -> str:
    """Return the formula of a normalised difference of two bands, numbered from 1, as a card has it."""
    return f"(b{one} - b{other}) / (b{one} + b{other})"


def index_bands(record: BandRecord) -> tuple[int, int]:
    """Return the raster's bands (from 1) of an index.

    Raises:
        TuningError: its formula is no normalised difference.
    """
    found = _FORMULA.fullmatch(record.formula)
    if found is None or found.group(1, 2) != found.group(3, 4) or found.group(1) == found.group(2):
        raise TuningError(
            f"The adapter uses the index {record.name or record.formula!r}, which this version does not know. Update "
            "SamTune.",
            record.formula,
        )
    return int(found.group(1)), int(found.group(2))


def raster_bands(records: Sequence[BandRecord]) -> tuple[int, ...]:
    """Return the raster's bands (from 1) that channels are made of, in their order: what :func:`to_channels` takes.

    Raises:
        TuningError: an index takes a band that is no channel itself, or is unknown.
    """
    numbers = tuple(record.number for record in records if record.number)
    for record in records:
        missing = [] if record.number else [band for band in index_bands(record) if band not in numbers]
        if missing:
            raise TuningError(
                f"The index {record.formula} takes band {missing[0]}. Give the adapter that band as well."
            )
    return numbers


def normalised_difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute (a - b) / (a + b), such as NDVI from near infrared and red.

    Args:
        one: (...) raw values, such as reflectances; not standardised ones. NaN where there is no data.
        other: (...) likewise.

    Returns:
        (...) in [-1, 1]; 0 where a + b is 0 (both dark); NaN where either is. Values beyond, which negative raw values
        lead to, are cut.
    """
    total = one + other
    # A NaN is never small: it stays what it is.
    small = np.abs(total) <= np.finfo(np.float32).eps * np.maximum(np.abs(one), np.abs(other))
    ratio = (one - other) / np.where(small, 1.0, total)
    return np.clip(np.where(small, 0.0, ratio), -1.0, 1.0)


def measure(
    samples: NDArray[np.floating],
    numbers: Sequence[int],
    pairs: Sequence[tuple[int, int]] = (),
    *,
    names: Sequence[str] = (),
    spread: Spread = Spread.PERCENTILES,
) -> tuple[BandRecord, ...]:
    """Describe channels by pixels from the whole of a raster.

    Args:
        samples: (C, N) raw values of N places spread over the raster, NaN where there is no data.
        numbers: the C bands, from 1.
        pairs: bands (a, b), from 1, of the indices (a - b) / (a + b) to add.
        names: of the bands, or none.
        spread: PERCENTILES: the middle between 2 % and 98 %, and the standard deviation that a normal distribution with
            those has, so that clouds and shadows do not matter; MOMENTS: mean and standard deviation.

    Returns:
        A record per band, then one per index. A channel that is the same everywhere gets the spread 1.

    Raises:
        TuningError: a band has no data at all, or an index takes a band that is not there.
    """
    if len(samples) != len(numbers):
        raise ValueError(f"{len(samples)} bands of samples for {len(numbers)} numbers")
    named = [*names, *[""] * (len(numbers) - len(names))]
    records = [BandRecord(number, name) for number, name in zip(numbers, named, strict=True)]
    records += [BandRecord(0, formula=index_formula(one, other)) for one, other in pairs]
    channels = _channels(samples.reshape(len(samples), -1).astype(np.float64), records)
    return tuple(_measured(record, values, spread) for record, values in zip(records, channels, strict=True))


def _measured(record: BandRecord, values: NDArray[np.float64], spread: Spread) -> BandRecord:
    known = values[np.isfinite(values)]
    if not known.size:
        raise TuningError(f"{_called(record)} of the raster has no data. Leave it out.")
    low, high = (float(value) for value in np.percentile(known, _PERCENTILES))
    centre, width = (low + high) / 2, (high - low) / _SPAN
    if spread is Spread.MOMENTS or not width > 0:
        # The percentiles of a channel that is nearly everywhere the same, such as a mask, are one number.
        centre, width = float(known.mean()), float(known.std())
    width = width if width > 0 else 1.0
    return BandRecord(record.number, record.name, record.formula, mean=centre, std=width, low=low, high=high)


def _called(record: BandRecord) -> str:
    return f"Band {record.number}" if record.number else f"The index {record.formula}"


def to_channels(
    raw: NDArray[np.floating] | NDArray[np.integer],
    records: Sequence[BandRecord],
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Make the channels of an image.

    Args:
        raw: (C, H, W) raw values of the bands that :func:`raster_bands` names, in its order.
        records: of the channels, from :func:`measure` or an adapter's card.
        valid: (H, W) or (C, H, W), False where there is no data; None: everywhere where a value is finite.

    Returns:
        (channels, H, W) float32, about [-2, 2], at most 6 from 0; NaN where there is no data, also in the indices.

    Raises:
        TuningError: there is another number of bands, or a record cannot be used.
    """
    expected = raster_bands(records)
    if len(raw) != len(expected):
        raise TuningError(
            f"The adapter was trained with {len(expected)} bands, the raster has {len(raw)}. Choose a raster with the "
            "same bands, or train a new adapter."
        )
    for record in records:
        if not (math.isfinite(record.mean) and math.isfinite(record.std) and record.std > 0):
            raise TuningError(f"{_called(record)} has no usable scale in the adapter's card. Train the adapter again.")
    values = raw.astype(np.float64)
    if valid is not None:
        values[~np.broadcast_to(valid, values.shape)] = np.nan
    channels = _channels(values, records)
    for channel, record in zip(channels, records, strict=True):
        np.clip((channel - record.mean) / record.std, -CLIP, CLIP, out=channel)
    return channels.astype(np.float32)


def _channels(bands: NDArray[np.float64], records: Sequence[BandRecord]) -> NDArray[np.float64]:
    """Return (channels, ...) raw values, NaN where there is no data, of bands (C, ...) as the records order them."""
    finite = np.where(np.isfinite(bands), bands, np.nan)
    by_number = dict(zip(raster_bands(records), finite, strict=True))
    channels = np.empty((len(records), *bands.shape[1:]))
    for channel, record in zip(channels, records, strict=True):
        if record.number:
            channel[...] = by_number[record.number]
        else:
            one, other = index_bands(record)
            channel[...] = normalised_difference(by_number[one], by_number[other])
    return channels
