"""Raster values to the 8-bit picture that the model sees: one stretch for the whole layer, so that crops agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Stretch = tuple[tuple[float, float], ...]
"""(low, high) per band: low becomes 0, high becomes 255."""

LOW_PERCENT = 2.0
HIGH_PERCENT = 98.0
"""Robust bounds: the darkest and the brightest fiftieth of the pixels saturate."""

EIGHT_BIT_SPAN = 96.0
"""An 8-bit picture whose bounds span at least this much is shown as it is; see :func:`robust`."""

EIGHT_BIT_LEAST = 32.0
"""An 8-bit picture is never stretched from fewer grey values than this: below, noise would be all one sees."""

EIGHT_BIT: tuple[float, float] = (0.0, 255.0)


def robust(sample: NDArray[np.generic]) -> Stretch:
    """Find the stretch of a layer from a sample of it.

    Values of more than 8 bits: the 2nd and the 98th percentile of each band by itself. 8-bit values are mostly
    photographs that somebody has balanced already: if the bounds of all bands together span at least 96 grey values,
    the picture is shown as it is; if less, all bands get the same bounds (widened to at least 32 values), which
    keeps the colours. A constant band becomes mid-grey.

    Args:
        sample: (C, n) valid, finite raster values; n may be 0.

    Returns:
        C pairs. For an empty sample the full 8-bit range, or (0, 1) for other types.
    """
    bands = sample.shape[0]
    eight_bit = sample.dtype == np.uint8
    if sample.shape[1] == 0:
        return (EIGHT_BIT if eight_bit else (0.0, 1.0),) * bands
    bounds = np.percentile(sample.astype(np.float64), [LOW_PERCENT, HIGH_PERCENT], axis=1)
    if eight_bit:
        return (_eight_bit(float(bounds[0].min()), float(bounds[1].max())),) * bands
    return tuple(_distinct(float(low), float(high)) for low, high in bounds.T)


def _eight_bit(low: float, high: float) -> tuple[float, float]:
    if high - low >= EIGHT_BIT_SPAN:
        return EIGHT_BIT
    missing = max(EIGHT_BIT_LEAST - (high - low), 0.0)
    return low - missing / 2.0, high + missing / 2.0


def _distinct(low: float, high: float) -> tuple[float, float]:
    least = max(abs(low), abs(high)) * 1e-9
    if high - low > least:
        return low, high
    half = max(0.5, least)
    return low - half, high + half


def apply(values: NDArray[np.generic], valid: NDArray[np.bool_], stretch: Stretch) -> NDArray[np.uint8]:
    """Turn raster values into the picture that the model sees.

    Args:
        values: (C, H, W) raster values, C is 1 or 3.
        valid: (H, W); False for nodata and padding.
        stretch: C pairs, or one for all bands.

    Returns:
        (H, W, 3) uint8 RGB; a single band is repeated; 0 where not valid.
    """
    # float32 holds every 16-bit value exactly; wider types would lose the small differences of large numbers
    work = np.float32 if values.dtype.itemsize <= 2 else np.float64
    pairs = stretch if len(stretch) == len(values) else stretch * len(values)
    picture = np.zeros((*valid.shape, 3), np.uint8)
    for band, (low, high) in enumerate(pairs):
        with np.errstate(invalid="ignore", over="ignore"):
            grey = (values[band].astype(work) - work(low)) * work(255.0 / (high - low))
        grey = np.nan_to_num(np.clip(grey, 0.0, 255.0), nan=0.0)
        picture[..., band] = np.where(valid, np.rint(grey), 0.0).astype(np.uint8)
    if len(values) == 1:
        picture[..., 1:] = picture[..., :1]
    return picture
