"""Raster layers that GDAL can open, read window by window with rasterio. Memory does not grow with the raster.

Nothing here writes to the raster or beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from . import raster_facts as facts
from . import stretch as stretching
from .crops import MIN_LEVEL, Crop, RasterFrame, max_level
from .messages import RasterInfo, RasterSpec
from .raster_bands import band_names, check_stretch, choose_bands

WATCHED_FILES = 64
"""A raster of more files than this (a large mosaic) is checked for changes by its first ones only, on every request."""

SAMPLE_SIDE = 1024
SAMPLE_PIXELS = 4_000_000
"""The stretch is computed from a decimated read of up to 1024 x 1024 pixels where overviews make that cheap or the
raster has at most this many pixels; from small windows all over the raster otherwise."""

STRIP_PIXELS = 4_000_000
"""Raster pixels read between two looks at the cancel flag."""


@dataclass(frozen=True)
class CropPixels:
    """What a raster holds in a crop.

    Attributes:
        values: (C, S, S) raster values (of a palette: its colours, uint8), C is 1 or 3; 0 beyond the raster.
        valid: (S, S) bool; False for nodata, NaN, transparent pixels and beyond the raster.
    """

    values: NDArray[np.generic]
    valid: NDArray[np.bool_]


class RasterSource:
    """An open raster with chosen bands and stretch. Safe to use from several threads, one at a time reads.

    Attributes:
        frame: size and georeference.
        info: the answer to ``raster/open``.
    """

    frame: RasterFrame
    info: RasterInfo

    def __init__(self, spec: RasterSpec) -> None:
        """Open a raster and complete its spec.

        Args:
            spec: path or GDAL URI, with or without bands and stretch.

        Raises:
            RasterError: the raster cannot be opened or used, or the spec does not fit it.
        """
        self._lock = threading.Lock()
        with facts.gdal(spec.uri):
            self._dataset: DatasetReader = rasterio.open(spec.uri)
            try:
                self._set_up(spec)
            except BaseException:
                self._dataset.close()
                raise

    def _set_up(self, spec: RasterSpec) -> None:
        dataset = self._dataset
        self._files = facts.local_files(dataset)
        self._stamps = facts.stamps(self._files[:WATCHED_FILES])
        facts.refuse_unusable(dataset)
        self.frame = RasterFrame(dataset.width, dataset.height, facts.layer_transform(dataset))
        interpretation = tuple(item.name for item in dataset.colorinterp)
        self._choice = choose_bands(spec.bands, interpretation)
        self._palette = self._read_palette() if self._choice.palette else None
        self.info = self._describe(spec, interpretation)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the raster consists of."""
        return self._files

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._dataset.close()

    def is_current(self) -> bool:
        """Tell whether the files on disk are still those that were opened.

        Returns:
            False when one was written anew, moved or deleted.
        """
        return facts.stamps(self._files[:WATCHED_FILES]) == self._stamps

    def read(self, crop: Crop, check: Callable[[], None]) -> CropPixels:
        """Read a crop at its level.

        Coarse levels average the raster's pixels (from overviews where there are any), fine ones interpolate; input
        pixel (i, j) covers exactly its share of the ground in both cases. Colour tables are sampled, never averaged.

        Args:
            crop: of this raster.
            check: called between parts of a long read; may raise to cancel.

        Returns:
            Values and validity.

        Raises:
            RasterError: the file is gone, changed or damaged.
        """
        if not self.is_current():
            raise facts.changed(self.info.spec.uri, self._files)
        bands = 3 if self._palette is not None else len(self._choice.bands)
        values = np.zeros((bands, crop.size, crop.size), self._dtype)
        valid = np.zeros((crop.size, crop.size), bool)
        columns = _pieces(crop.col, min(crop.side, self.frame.width - crop.col), crop.scale)
        rows = _pieces(crop.row, min(crop.side, self.frame.height - crop.row), crop.scale, self._strip(crop))
        for row in rows:
            check()
            for col in columns:
                window = Window(col.start, row.start, col.length, row.length)
                part = (slice(row.out, row.out + row.size), slice(col.out, col.out + col.size))
                piece, ok = self._read_window(window, (row.size, col.size), crop.scale)
                values[:, part[0], part[1]] = piece
                valid[part] = ok
        return CropPixels(values, valid)

    def picture(self, pixels: CropPixels) -> NDArray[np.uint8]:
        """Stretch a crop to the picture that the model sees.

        Args:
            pixels: as :meth:`read` gave them.

        Returns:
            (S, S, 3) uint8 RGB, 0 where not valid.
        """
        return stretching.apply(pixels.values, pixels.valid, self.info.spec.stretch)

    @property
    def _dtype(self) -> np.dtype[np.generic]:
        """A type that holds what :meth:`read` gives: every chosen band's values."""
        if self._palette is not None:
            return np.dtype(np.uint8)
        return np.result_type(*(np.dtype(self._dataset.dtypes[band - 1]) for band in self._choice.bands))

    def _strip(self, crop: Crop) -> int:
        """Output rows per read: all where overviews make reads cheap, or where interpolation needs its neighbours."""
        if crop.level <= 0 or self._dataset.overviews(self._choice.bands[0]):
            return crop.size
        return max(1, int(STRIP_PIXELS / (crop.side * crop.scale)))

    def _read_window(
        self, window: Window, shape: tuple[int, int], scale: float
    ) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """Read a window that lies wholly on the raster; (C, h, w) values and (h, w) validity."""
        bands = list(self._choice.bands)
        method = Resampling.average if scale > 1 else Resampling.cubic if scale < 1 else Resampling.nearest
        if self._palette is not None:
            method = Resampling.nearest
        with self._lock, facts.gdal(self._dataset.name, reading=True):
            if len({self._dataset.dtypes[band - 1] for band in bands}) == 1:
                values = self._dataset.read(bands, window=window, out_shape=(len(bands), *shape), resampling=method)
            else:  # rasterio reads bands of different types only one by one
                each = [self._dataset.read(band, window=window, out_shape=shape, resampling=method) for band in bands]
                values = np.stack(each)
            valid = np.ones(shape, bool)
            if MaskFlags.per_dataset in self._dataset.mask_flag_enums[bands[0] - 1]:
                valid = self._dataset.read_masks(bands[0], window=window, out_shape=shape) > 0
        valid &= ~_missing(values, [self._dataset.nodatavals[band - 1] for band in bands])
        if self._palette is None:
            return values, valid
        index = np.clip(values[0].astype(np.int64), 0, len(self._palette) - 1)
        colours = self._palette[index]
        return np.moveaxis(colours[..., :3], -1, 0), valid & (colours[..., 3] > 0)

    def _read_palette(self) -> NDArray[np.uint8]:
        table = self._dataset.colormap(self._choice.bands[0])
        palette = np.zeros((max(table) + 1, 4), np.uint8)
        for index, colour in table.items():
            palette[index] = colour
        return palette

    def _describe(self, spec: RasterSpec, interpretation: tuple[str, ...]) -> RasterInfo:
        dataset, choice = self._dataset, self._choice
        notes = list(facts.notes(dataset, choice))
        if spec.stretch:
            check_stretch(spec.stretch, len(choice.bands))
            stretch = spec.stretch
        elif self._palette is not None:
            stretch = (stretching.EIGHT_BIT,)
        else:
            sample = self._sample()
            if sample.shape[1] == 0:
                notes.append(
                    "No valid pixel was found in a sample of the raster; set the stretch by hand if it looks wrong."
                )
            stretch = stretching.robust(sample)
        return RasterInfo(
            spec=replace(spec, bands=choice.bands, stretch=stretch),
            fingerprint=facts.fingerprint(dataset, self._files, self.frame),
            width=dataset.width,
            height=dataset.height,
            band_names=band_names(dataset.descriptions, interpretation),
            dtype=str(self._dtype),
            crs_wkt=dataset.crs.to_wkt() if dataset.crs else "",
            transform=self.frame.transform,
            pixel_size=self.frame.pixel_size,
            min_level=MIN_LEVEL,
            max_level=max_level(self.frame),
            notes=tuple(notes),
        )

    def _sample(self) -> NDArray[np.generic]:
        """(C, n) valid values from all over the raster."""
        width, height = self.frame.width, self.frame.height
        has_overviews = bool(self._dataset.overviews(self._choice.bands[0]))
        if has_overviews or width * height <= SAMPLE_PIXELS:
            factor = max(1.0, max(width, height) / SAMPLE_SIDE)
            shape = (max(1, int(height / factor)), max(1, int(width / factor)))
            windows = [(Window(0, 0, width, height), shape)]
        else:
            windows = list(_scattered(width, height))
        parts = []
        for window, shape in windows:
            values, valid = self._read_window(window, shape, 1.0)
            parts.append(values[:, valid])
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class _Piece:
    """Part of one axis: ``length`` raster pixels from ``start`` become ``size`` input pixels from ``out``."""

    start: int
    length: int
    out: int
    size: int


def _pieces(start: int, length: int, scale: float, strip: int = 1 << 30) -> list[_Piece]:
    """Split an axis into whole input pixels (at most ``strip`` at once) and the last, partly covered one."""
    whole = int(length / scale)
    pieces = []
    for out in range(0, whole, strip):
        size = min(strip, whole - out)
        pieces.append(_Piece(start + round(out * scale), round(size * scale), out, size))
    rest = length - round(whole * scale)
    if rest:
        pieces.append(_Piece(start + round(whole * scale), rest, whole, 1))
    return pieces


def _scattered(width: int, height: int, count: int = 6, side: int = 128) -> Iterator[tuple[Window, tuple[int, int]]]:
    """Yield small windows at full resolution, evenly spread."""
    for i in range(count):
        for j in range(count):
            wide, high = min(side, width), min(side, height)
            col = int((i + 0.5) / count * (width - wide))
            row = int((j + 0.5) / count * (height - high))
            yield Window(col, row, wide, high), (high, wide)


def _missing(values: NDArray[np.generic], nodata: list[float | None]) -> NDArray[np.bool_]:
    """(h, w): True where a band is not finite, or every band that has a nodata value holds it."""
    bad = np.zeros(values.shape[1:], bool)
    if np.issubdtype(values.dtype, np.floating):
        bad |= ~np.isfinite(values).all(axis=0)
    if all(value is not None for value in nodata):
        empty = np.ones_like(bad)
        for band, value in zip(values, nodata, strict=True):
            # GDAL keeps nodata in double precision; a float32 band holds it rounded
            empty &= band == (np.float32(value) if band.dtype == np.float32 else np.float64(value))
        bad |= empty
    return bad
