"""Labelled polygons for the benchmarks of tuning: read, dealt out anew, written to files; and the model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyogrio.raw
import rasterio
import shapely
from numpy.typing import NDArray
from samtune.engine.device import DeviceChoice
from samtune.engine.model_service import ModelService
from samtune.engine.tuning.settings import Labels
from samtune.engine.tuning.vectors import read_shapes
from shapely.geometry.base import BaseGeometry

SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "sample"
KIND = "kind"
LEAST = 16
"""Raster pixels of a usable polygon."""


@dataclass(frozen=True)
class Polygons:
    """A raster with labelled polygons in its CRS.

    Attributes:
        name: of the set.
        raster: its file.
        bands: shown to the model.
        shapes: the polygons.
        kinds: their classes.
        crs: of both, WKT; empty where there is none.
    """

    name: str
    raster: Path
    bands: tuple[int, ...]
    shapes: tuple[BaseGeometry, ...]
    kinds: tuple[str, ...]
    crs: str

    def digest(self) -> str:
        """Return the first 12 hexadecimal digits of the SHA-256 of the pixels and polygons."""
        found = hashlib.sha256()
        with rasterio.open(self.raster) as dataset:
            found.update(np.ascontiguousarray(dataset.read()).tobytes())
        for shape, kind in zip(self.shapes, self.kinds, strict=True):
            found.update(shapely.to_wkb(shape) + kind.encode())
        return found.hexdigest()[:12]

    def only(self, numbers: Sequence[int]) -> Polygons:
        """Return some of the polygons."""
        shapes, kinds = tuple(self.shapes[n] for n in numbers), tuple(self.kinds[n] for n in numbers)
        return Polygons(self.name, self.raster, self.bands, shapes, kinds, self.crs)

    def dealt(self, rng: np.random.Generator) -> Polygons:
        """Return each polygon at the place of another one: the middles of the largest circles within them match."""
        middles = [_middle(shape) for shape in self.shapes]
        order = _deranged(len(self.shapes), rng)
        moved = [
            shapely.transform(self.shapes[source], lambda xy, s=source, p=place: xy - middles[s] + middles[p])
            for place, source in enumerate(order)
        ]
        return Polygons(self.name, self.raster, self.bands, tuple(moved), self.kinds, self.crs)

    def renamed(self, rng: np.random.Generator) -> Polygons:
        """Return the polygons with their classes dealt out anew."""
        kinds = tuple(self.kinds[place] for place in rng.permutation(len(self.kinds)))
        return Polygons(self.name, self.raster, self.bands, self.shapes, kinds, self.crs)

    def write(self, path: Path) -> Labels:
        """Write the polygons as a vector file."""
        geometry = np.array([shapely.to_wkb(shape) for shape in self.shapes], object)
        kinds = np.array(self.kinds, object)
        path.unlink(missing_ok=True)
        pyogrio.raw.write(path, geometry, [kinds], [KIND], geometry_type="Polygon", crs=self.crs or None)
        return Labels(path, class_field=KIND)


def read(name: str, raster: Path, labels: Path, field: str, bands: tuple[int, ...]) -> Polygons:
    """Read the polygons that lie on a raster and are large enough.

    Args:
        name: of the set.
        raster: its file.
        labels: vector file.
        field: with the class.
        bands: shown to the model.
    """
    with rasterio.open(raster) as dataset:
        crs = dataset.crs.to_wkt() if dataset.crs else ""
        pixel = abs(dataset.transform.a * dataset.transform.e)
        window = shapely.box(*dataset.bounds)
    items = read_shapes(Labels(labels, class_field=field), crs).items
    usable = [item for item in items if window.contains(item.geometry) and item.geometry.area >= LEAST * pixel]
    shapes, kinds = tuple(item.geometry for item in usable), tuple(item.label for item in usable)
    return Polygons(name, raster, bands, shapes, kinds, crs)


def sample() -> Polygons:
    """Return the Landsat scene that ships with SamTune."""
    return read("landsat_raleigh", SAMPLE / "landsat_raleigh.tif", SAMPLE / "landsat_labels.geojson", "kind", (4, 3, 2))


def service(threads: int) -> ModelService:
    """Return the shipped model on the processor."""
    return ModelService(Path("none"), DeviceChoice("cpu", "", threads))


def _middle(shape: BaseGeometry) -> NDArray[np.float64]:
    return np.array(shapely.maximum_inscribed_circle(shape).coords[0])


def _deranged(count: int, rng: np.random.Generator) -> list[int]:
    """Return a random order in which nothing stays in its place."""
    while True:
        order = rng.permutation(count)
        if not (order == np.arange(count)).any():
            return [int(place) for place in order]
