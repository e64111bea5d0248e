"""What an image comes with besides its three channels, as arrays: for adapters that see more than a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SidePixels:
    """Further inputs on the ground of an image.

    Attributes:
        bands: (C, S, S) float32, standardised as the adapter's card says, NaN where there is no data; None without.
        second: (S, S, 3) uint8, the picture of a second raster; None without.
        second_valid: (S, S) bool, where that has data; None: everywhere.
    """

    bands: NDArray[np.float32] | None = None
    second: NDArray[np.uint8] | None = None
    second_valid: NDArray[np.bool_] | None = None
