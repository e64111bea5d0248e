"""What the model is given of a crop of an area: the picture, and what the adapter wants besides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..crops import Crop
from ..further_inputs import FurtherInputs
from ..raster_source import RasterSource
from ..tuning.reading import CropInputs


class TileReader(Protocol):
    """Gives what there is of a crop."""

    @property
    def crs_wkt(self) -> str:
        """CRS of the raster; empty for none."""

    def read(self, crop: Crop, check: Callable[[], None]) -> CropInputs | None:
        """Return what a model is given of a crop; None where there is no data."""


class CropReader:
    """Reads crops of one raster, for one adapter."""

    def __init__(self, source: RasterSource, further: FurtherInputs | None = None) -> None:
        """Take an open raster.

        Args:
            source: the raster.
            further: what the adapter wants besides the picture; None for nothing.
        """
        self.source = source
        self._further = further

    @property
    def crs_wkt(self) -> str:
        """CRS of the raster; empty for none."""
        return self.source.info.crs_wkt

    def read(self, crop: Crop, check: Callable[[], None]) -> CropInputs | None:
        """Read a crop; None where the raster has no data in it.

        Where a second raster has no data, the model is shown that: it has learnt to do without either.

        Args:
            crop: of the raster.
            check: called between parts of a long read; may raise to cancel.

        Raises:
            RasterError: a file is gone or damaged.
        """
        pixels = self.source.read(crop, check)
        if not pixels.valid.any():
            return None
        image = self.source.picture(pixels)
        side = None if self._further is None else self._further.read(self.source, crop, partly=True)
        if side is None:
            return CropInputs(image, pixels.valid)
        return CropInputs(image, pixels.valid, side.bands, side.second, side.second_valid)
