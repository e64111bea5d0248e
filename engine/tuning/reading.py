"""What a crop looks like to a model that is tuned: its picture, further bands, and a second raster on its grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.warp import reproject
from rasterio.windows import Window

from ...models.peft.adapter_card import InputRecord, SecondRecord
from ...models.peft.band_inputs import measure, to_channels
from ...models.peft.contract import TuningError
from .. import raster_facts as facts
from .. import stretch as stretching
from ..crops import Crop, RasterFrame
from ..messages import RasterSpec
from ..raster_source import RasterSource
from .settings import Bands, TuneSettings

_SAMPLE_SIDE = 512
_PLANE = "EPSG:3857"
"""Stands for the unknown CRS of rasters that have none: they lie in the same plane."""


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
        self._second: _Second | None = None
        try:
            for path in settings.rasters:
                self.sources.append(RasterSource(RasterSpec(str(path), settings.rgb)))
            if settings.wants_bands:
                self._bands = _FurtherBands(settings)
            if settings.second is not None:
                self._second = _Second(settings.second)
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
                with facts.gdal(str(path)):
                    self._rasters.append(rasterio.open(path))
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
        dataset = self._rasters[raster]
        wide, high = min(crop.side, dataset.width - crop.col), min(crop.side, dataset.height - crop.row)
        shape = (max(1, round(high / crop.scale)), max(1, round(wide / crop.scale)))
        planes = np.full((len(self._numbers), crop.size, crop.size), np.nan, np.float32)
        window = Window(crop.col, crop.row, wide, high)
        planes[:, : shape[0], : shape[1]] = _read(dataset, self._numbers, window, shape, crop.scale)
        return to_channels(planes, self.records)


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
    planes = _read(dataset, numbers, Window(0, 0, dataset.width, dataset.height), shape, 1.0)
    return planes.reshape(len(numbers), -1)


def _read(
    dataset: DatasetReader, numbers: Sequence[int], window: Window, shape: tuple[int, int], scale: float
) -> NDArray[np.float32]:
    method = Resampling.average if scale > 1 else Resampling.bilinear if scale < 1 else Resampling.nearest
    planes = np.empty((len(numbers), *shape), np.float32)
    with facts.gdal(dataset.name, reading=True):
        for plane, number in zip(planes, numbers, strict=True):
            found = dataset.read(number, window=window, out_shape=shape, resampling=method, masked=True)
            plane[...] = np.ma.filled(found.astype(np.float32), np.float32(np.nan))
    return planes


def _grid(frame: RasterFrame, crop: Crop) -> Affine:
    """Return the transform from a crop's input pixels to the raster's CRS."""
    x0, a, b, y0, d, e = frame.transform
    left, top = x0 + a * crop.col + b * crop.row, y0 + d * crop.col + e * crop.row
    return Affine(a * crop.scale, b * crop.scale, left, d * crop.scale, e * crop.scale, top)


class _Second:
    """The second raster, as a picture on the grids of the first one's crops."""

    def __init__(self, path: Path) -> None:
        """Open it and compute its stretch; one band, or three."""
        self._source = RasterSource(RasterSpec(str(path)))
        try:
            spec = self._source.info.spec
            self._stretch = spec.stretch
            self.record = SecondRecord(path.stem, spec.bands, spec.stretch)
            with facts.gdal(str(path)):
                self._dataset = rasterio.open(path)
        except BaseException:
            self._source.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._source.close()
        self._dataset.close()

    def read(self, first: RasterSource, crop: Crop) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return the picture (S, S, 3) and where it has data (S, S)."""
        known = bool(first.info.crs_wkt) and self._dataset.crs is not None
        grid = _grid(first.frame, crop)
        values = np.full((len(self.record.bands), crop.size, crop.size), np.nan, np.float32)
        with facts.gdal(self._dataset.name, reading=True):
            reproject(
                rasterio.band(self._dataset, list(self.record.bands)),
                values,
                src_transform=Affine.from_gdal(*self._source.frame.transform),
                src_crs=self._dataset.crs if known else _PLANE,
                src_nodata=self._dataset.nodata,
                dst_transform=grid,
                dst_crs=first.info.crs_wkt if known else _PLANE,
                dst_nodata=np.nan,
                resampling=Resampling.bilinear,  # GDAL widens its kernel where the grid is coarser
            )
        valid = np.asarray(np.isfinite(values).all(axis=0), np.bool_)
        return stretching.apply(np.nan_to_num(values), valid, self._stretch), valid
