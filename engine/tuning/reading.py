"""What a crop looks like to a model that is tuned: its picture, further bands, and a second raster on its grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ...models.peft.adapter_card import InputRecord
from ...models.peft.band_inputs import measure, to_channels
from ...models.peft.contract import TuningError
from ..crops import Crop, RasterFrame
from ..further_inputs import SecondRaster, open_all_bands, read_crop, read_window
from ..messages import RasterSpec
from ..raster_source import RasterSource
from .settings import Bands, TuneSettings

_SAMPLE_SIDE = 512


@dataclass(frozen=True)
class CropInputs:
    """What a model is given of a crop.

    Attributes:
        image: (S, S, 3) uint8, the picture.
        valid: (S, S) bool, False where the raster has no data.
        bands: (C, S, S) float32, standardised, NaN where there is no data; None without further bands.
        second: (S, S, 3) uint8, the second raster's picture; None without one.
        second_valid: (S, S) bool, where the second raster has data; None without one.
    """

    image: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    bands: NDArray[np.float32] | None = None
    second: NDArray[np.uint8] | None = None
    second_valid: NDArray[np.bool_] | None = None


class GroundReader:
    """The rasters of a run, open for reading by crops.

    Attributes:
        sources: the rasters as pictures.
        record: what is read, for the adapter's card.
    """

    def __init__(self, settings: TuneSettings) -> None:
        """Open everything; compute stretches and the scale of the bands.

        Raises:
            SamTuneError: a raster cannot be read, or has not the bands asked for.
        """
        self.sources: list[RasterSource] = []
        self._bands: _FurtherBands | None = None
        self._second: SecondRaster | None = None
        try:
            for path in settings.rasters:
                self.sources.append(RasterSource(RasterSpec(str(path), settings.rgb)))
            if settings.wants_bands:
                self._bands = _FurtherBands(settings)
            if settings.second is not None:
                self._second = SecondRaster(str(settings.second), settings.second.stem)
        except BaseException:
            self.close()
            raise
        first = self.sources[0].info.spec
        self.record = InputRecord(
            first.bands,
            first.stretch,
            () if self._bands is None else self._bands.records,
            None,
            None if self._second is None else self._second.record,
        )

    @property
    def channels(self) -> int:
        """How many further bands and indices there are."""
        return len(self.record.bands)

    def frame(self, raster: int) -> RasterFrame:
        """Return size and georeference of a raster."""
        return self.sources[raster].frame

    def close(self) -> None:
        """Close the files."""
        for item in (*self.sources, self._bands, self._second):
            if item is not None:
                item.close()

    def read(self, raster: int, crop: Crop, check: Callable[[], None]) -> CropInputs:
        """Read a crop.

        Args:
            raster: index of the raster.
            crop: of it.
            check: called between parts of a long read; may raise to cancel.

        Raises:
            RasterError: a file is gone or damaged.
        """
        source = self.sources[raster]
        pixels = source.read(crop, check)
        image = source.picture(pixels)
        bands = None if self._bands is None else self._bands.read(raster, crop)
        if self._second is None:
            return CropInputs(image, pixels.valid, bands)
        check()
        return CropInputs(image, pixels.valid, bands, *self._second.read(source, crop))


class _FurtherBands:
    """The bands and indices that are given besides the picture."""

    def __init__(self, settings: TuneSettings) -> None:
        """Open the rasters once more, for all of their bands, and measure those."""
        self._rasters: list[DatasetReader] = []
        try:
            for path in settings.rasters:
                self._rasters.append(open_all_bands(str(path)))
            self._numbers = _chosen(self._rasters, settings)
            pairs = [(index.first, index.second) for index in settings.indices]
            sample = np.concatenate([_sample(dataset, self._numbers) for dataset in self._rasters], axis=1)
            described = self._rasters[0].descriptions
            names = [str(described[number - 1] or "") for number in self._numbers]
            names += [index.name for index in settings.indices]
            self.records = tuple(
                replace(record, name=name)
                for record, name in zip(measure(sample, self._numbers, pairs), names, strict=True)
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        for dataset in self._rasters:
            dataset.close()

    def read(self, raster: int, crop: Crop) -> NDArray[np.float32]:
        """Return (C, S, S), standardised, NaN without data."""
        return to_channels(read_crop(self._rasters[raster], self._numbers, crop), self.records)


def _chosen(rasters: Sequence[DatasetReader], settings: TuneSettings) -> list[int]:
    """Return the numbers of the bands that are read, those that only an index needs last."""
    least = min(dataset.count for dataset in rasters)
    asked = settings.bands if isinstance(settings.bands, tuple) else ()
    if settings.bands is Bands.ALL:
        if any(dataset.count != least for dataset in rasters):
            raise TuningError("The rasters have different numbers of bands. Name the bands to be used.")
        colours = rasters[0].colorinterp
        asked = tuple(number for number in range(1, least + 1) if colours[number - 1].name != "alpha")
    asked += tuple(number for index in settings.indices for number in (index.first, index.second))
    wrong = [number for number in asked if not 1 <= number <= least]
    if wrong:
        raise TuningError(f"The raster has no band {wrong[0]}; its bands are 1 to {least}. Choose one of those.")
    return list(dict.fromkeys(asked))


def _sample(dataset: DatasetReader, numbers: Sequence[int]) -> NDArray[np.float32]:
    """Return (C, n) raw values of places spread over a raster."""
    factor = max(1.0, max(dataset.width, dataset.height) / _SAMPLE_SIDE)
    shape = (max(1, int(dataset.height / factor)), max(1, int(dataset.width / factor)))
    # Single pixels, not averages: what is measured is the spread of pixels.
    planes = read_window(dataset, numbers, Window(0, 0, dataset.width, dataset.height), shape, 1.0)
    return planes.reshape(len(numbers), -1)
