"""What some adapters see of a crop besides its picture: further bands, indices, and a second raster on its grid.

Training and use read through here, so that both see the same numbers.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.warp import reproject
from rasterio.windows import Window

from ..models.errors import RasterError, TuningError
from ..models.peft.adapter_card import AdapterCard
from ..models.peft.band_inputs import raster_bands, to_channels
from ..models.peft.card_records import SecondRecord
from ..models.side_pixels import SidePixels
from . import raster_facts as facts
from . import stretch as stretching
from .crops import Crop, RasterFrame
from .messages import RasterSpec
from .raster_source import RasterSource

_PLANE = "EPSG:3857"
"""Stands for the unknown CRS of rasters that have none: they lie in the same plane."""


def open_all_bands(uri: str) -> DatasetReader:
    """Open a raster for :func:`read_crop`."""
    with facts.gdal(uri):
        return rasterio.open(uri)


def read_crop(dataset: DatasetReader, numbers: Sequence[int], crop: Crop) -> NDArray[np.float32]:
    """Return raw values of bands in a crop.

    Args:
        dataset: the raster.
        numbers: of the bands, from 1.
        crop: of the raster.

    Returns:
        (C, S, S) float32, NaN without data and beyond the raster.
    """
    wide, high = min(crop.side, dataset.width - crop.col), min(crop.side, dataset.height - crop.row)
    shape = (max(1, round(high / crop.scale)), max(1, round(wide / crop.scale)))
    planes = np.full((len(numbers), crop.size, crop.size), np.nan, np.float32)
    window = Window(crop.col, crop.row, wide, high)
    planes[:, : shape[0], : shape[1]] = read_window(dataset, numbers, window, shape, crop.scale)
    return planes


def read_window(
    dataset: DatasetReader, numbers: Sequence[int], window: Window, shape: tuple[int, int], scale: float
) -> NDArray[np.float32]:
    """Return raw values of bands in a window, (C, h, w) float32, NaN without data.

    Args:
        dataset: the raster.
        numbers: of the bands, from 1.
        window: wholly on the raster.
        shape: (h, w) to read it as.
        scale: raster pixels per pixel read; averages above 1, interpolates below.
    """
    method = Resampling.average if scale > 1 else Resampling.bilinear if scale < 1 else Resampling.nearest
    planes = np.empty((len(numbers), *shape), np.float32)
    with facts.gdal(dataset.name, reading=True):
        for plane, number in zip(planes, numbers, strict=True):
            found = dataset.read(number, window=window, out_shape=shape, resampling=method, masked=True)
            plane[...] = np.ma.filled(found.astype(np.float32), np.float32(np.nan))
    return planes


class SecondRaster:
    """A second raster, as a picture on the grids of the first one's crops.

    Attributes:
        record: what is read of it, for an adapter's card.
        fingerprint: changes when the file changes.
    """

    def __init__(self, uri: str, name: str, known: SecondRecord | None = None) -> None:
        """Open it.

        Args:
            uri: path or GDAL URI.
            name: what it is, for the record.
            known: bands and stretch that an adapter was trained with; None: the raster's default bands (one, or three)
                and robust percentiles of its values.

        Raises:
            RasterError: it cannot be read, or has not those bands.
        """
        spec = RasterSpec(uri) if known is None else RasterSpec(uri, known.bands, known.stretch)
        self._source = RasterSource(spec)
        try:
            found = self._source.info
            self.fingerprint = found.fingerprint
            self.record = SecondRecord(name, found.spec.bands, found.spec.stretch)
            self._dataset = open_all_bands(uri)
        except BaseException:
            self._source.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._source.close()
        self._dataset.close()

    def is_current(self) -> bool:
        """Tell whether the file is still the one that was opened."""
        return self._source.is_current()

    def read(self, first: RasterSource, crop: Crop) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return the picture of a crop of the first raster, (S, S, 3), and where it has data, (S, S)."""
        known = bool(first.info.crs_wkt) and self._dataset.crs is not None
        values = np.full((len(self.record.bands), crop.size, crop.size), np.nan, np.float32)
        with facts.gdal(self._dataset.name, reading=True):
            reproject(
                rasterio.band(self._dataset, list(self.record.bands)),
                values,
                src_transform=Affine.from_gdal(*self._source.frame.transform),
                src_crs=self._dataset.crs if known else _PLANE,
                src_nodata=self._dataset.nodata,
                dst_transform=_grid(first.frame, crop),
                dst_crs=first.info.crs_wkt if known else _PLANE,
                dst_nodata=np.nan,
                resampling=Resampling.bilinear,  # GDAL widens its kernel where the grid is coarser
            )
        valid = np.asarray(np.isfinite(values).all(axis=0), np.bool_)
        return stretching.apply(np.nan_to_num(values), valid, self.record.stretch), valid


def _grid(frame: RasterFrame, crop: Crop) -> Affine:
    """Return the transform from a crop's input pixels to the raster's CRS."""
    x0, a, b, y0, d, e = frame.transform
    left, top = x0 + a * crop.col + b * crop.row, y0 + d * crop.col + e * crop.row
    return Affine(a * crop.scale, b * crop.scale, left, d * crop.scale, e * crop.scale, top)


class FurtherInputs:
    """What an adapter wants besides the picture, read from one raster (and a second one) in use."""

    def __init__(self, card: AdapterCard, uri: str, second: str) -> None:
        """Open what is needed.

        Args:
            card: of the adapter.
            uri: path or GDAL URI of the raster in use.
            second: of the second raster; empty for none.

        Raises:
            TuningError: the adapter needs a band or a second raster that is not there.
            RasterError: a raster cannot be read.
        """
        inputs = card.inputs
        if inputs.second is not None and not second:
            raise TuningError(
                f"The adapter {card.name} was tuned with a second raster ({inputs.second.name}). Give the one of this "
                "ground as well (--second)."
            )
        self._records = inputs.bands
        self._numbers = raster_bands(inputs.bands)
        self._dataset: DatasetReader | None = None
        self._second: SecondRaster | None = None
        try:
            if self._numbers:
                self._dataset = open_all_bands(uri)
                _refuse_missing(card, self._dataset, self._numbers)
            if inputs.second is not None:
                self._second = SecondRaster(second, inputs.second.name, inputs.second)
        except BaseException:
            self.close()
            raise
        key = repr((inputs.bands, inputs.second, self._second.fingerprint if self._second else ""))
        self.digest = hashlib.sha256(key.encode()).hexdigest() if self._numbers or self._second else ""

    def close(self) -> None:
        """Close the files."""
        for item in (self._dataset, self._second):
            if item is not None:
                item.close()

    def is_current(self) -> bool:
        """Tell whether the second raster is still the one that was opened; the first one's keeper asks for that."""
        return self._second is None or self._second.is_current()

    def read(self, source: RasterSource, crop: Crop, *, partly: bool = False) -> SidePixels | None:
        """Return what the adapter wants of a crop besides its picture; None where it wants nothing.

        Args:
            source: the raster in use.
            crop: of it.
            partly: the second raster need not reach there; its picture is black then, and nowhere valid.

        Raises:
            RasterError: a file is gone or damaged, or the second raster has no data there.
        """
        bands = None
        if self._dataset is not None:
            bands = to_channels(read_crop(self._dataset, self._numbers, crop), self._records)
        if self._second is not None:
            picture, valid = self._second.read(source, crop)
            if not (partly or valid.any()):
                raise RasterError("The second raster has no data here. Give one of the same ground.")
            return SidePixels(bands, picture, valid)
        return None if bands is None else SidePixels(bands)


class FurtherInputsKeeper:
    """Keeps what was opened for an adapter on a raster until others take the place. For one thread."""

    def __init__(self, most: int = 8) -> None:
        """Start empty.

        Args:
            most: how many are kept open.
        """
        self._most = most
        self._kept: OrderedDict[tuple[str, str, str, str], FurtherInputs] = OrderedDict()

    def get(self, card: AdapterCard, source: RasterSource, second: str) -> FurtherInputs:
        """Return what an adapter wants besides the picture, opened now or before.

        Args:
            card: of the adapter.
            source: the raster in use.
            second: path or GDAL URI of the second raster; empty for none.

        Raises:
            TuningError: as for :class:`FurtherInputs`.
            RasterError: likewise.
        """
        key = (card.to_json(), source.info.spec.uri, source.info.fingerprint, second)
        found = self._kept.pop(key, None)
        if found is not None and not found.is_current():
            found.close()
            found = None
        self._kept[key] = found or FurtherInputs(card, source.info.spec.uri, second)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)[1].close()
        return self._kept[key]

    def clear(self) -> None:
        """Close everything."""
        while self._kept:
            self._kept.popitem()[1].close()


def _refuse_missing(card: AdapterCard, dataset: DatasetReader, numbers: Sequence[int]) -> None:
    missing = [number for number in numbers if number > dataset.count]
    if missing:
        raise TuningError(
            f"The adapter {card.name} needs band {missing[0]}, but the raster has {dataset.count}. Choose a raster "
            "with the bands that it was tuned on."
        )
