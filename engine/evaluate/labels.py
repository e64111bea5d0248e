"""Labelled data to evaluate on: rasters with COCO polygons, label images or vector polygons."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine

from ...models.errors import SamTuneError
from .clicks import Mask

RASTERS = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".vrt", ".jp2", ".img")
_VECTORS = (".gpkg", ".shp", ".geojson")
_COCO = ".json"


@dataclass(frozen=True)
class Target:
    """One labelled object.

    Attributes:
        label: class, or empty.
        mask: (H, W) bool in the raster's pixels.
    """

    label: str
    mask: Mask


@dataclass(frozen=True)
class Labelled:
    """A raster and where its labels are.

    Attributes:
        raster: path.
        labels: path of a label image, a vector file, or a COCO file.
        field: attribute (vector) that holds the class; empty for none.
        least: objects of fewer raster pixels are left out.
    """

    raster: Path
    labels: Path
    field: str = ""
    least: int = 16

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the raster."""
        with rasterio.open(self.raster) as dataset:
            return int(dataset.height), int(dataset.width)

    def targets(self) -> Iterator[Target]:
        """Yield the objects that are large enough, in the order of the file.

        Raises:
            SamTuneError: the labels cannot be read or do not fit the raster.
        """
        suffix = self.labels.suffix.lower()
        if suffix == _COCO:
            found = self._coco()
        elif suffix in _VECTORS:
            found = self._vector()
        else:
            found = self._image()
        yield from (target for target in found if int(target.mask.sum()) >= self.least)

    def _coco(self) -> Iterator[Target]:
        from ..pretrain.pool import polygon_mask  # needs the packages for training, which clicking and tuning lack

        document = json.loads(self.labels.read_text(encoding="utf-8"))
        names = {record["id"]: record.get("name", str(record["id"])) for record in document.get("categories", [])}
        image = next((r for r in document["images"] if Path(r["file_name"]).name == self.raster.name), None)
        if image is None:
            raise SamTuneError(f"{self.labels.name} does not list the image {self.raster.name}.")
        for annotation in document["annotations"]:
            if annotation["image_id"] == image["id"] and isinstance(annotation["segmentation"], list):
                label = names.get(annotation.get("category_id"), str(annotation.get("category_id", "")))
                yield Target(label, polygon_mask(annotation["segmentation"], self.shape))

    def _image(self) -> Iterator[Target]:
        """Each connected region of one value of a label image is an object; 0 and the image's nodata are not."""
        from skimage import measure  # likewise

        with rasterio.open(self.labels) as dataset:
            values = dataset.read(1)
            nodata = dataset.nodata
        if values.shape != self.shape:
            raise SamTuneError(
                f"{self.labels.name} has {values.shape[1]} x {values.shape[0]} pixels, {self.raster.name} "
                f"{self.shape[1]} x {self.shape[0]}. Resample the labels to the raster first."
            )
        shifted = values.astype(np.int64) - int(values.min()) + 1
        shifted[values == 0] = 0
        if nodata is not None:
            shifted[values == nodata] = 0
        parts = measure.label(shifted, background=0, connectivity=1)  # type: ignore[no-untyped-call]
        for region in measure.regionprops(parts):  # type: ignore[no-untyped-call]
            mask = np.zeros(values.shape, np.bool_)
            mask[region.slice] = region.image
            yield Target(str(values[tuple(region.coords[0])]), mask)

    def _vector(self) -> Iterator[Target]:
        import pyogrio  # only needed here, and slow to import
        from pyogrio.raw import read as read_vector
        from shapely import from_wkb, transform

        with rasterio.open(self.raster) as dataset:
            grid, crs = dataset.transform, dataset.crs
        meta, _, geometries, columns = read_vector(self.labels)
        if self.field and self.field not in meta["fields"]:
            raise SamTuneError(f"{self.labels.name} has no field {self.field}; it has {', '.join(meta['fields'])}.")
        convert = _converter(str(pyogrio.read_info(self.labels)["crs"] or ""), crs)
        names = columns[list(meta["fields"]).index(self.field)] if self.field else [""] * len(geometries)
        for name, raw in zip(names, geometries, strict=True):
            shape = from_wkb(raw)
            if shape is not None and not shape.is_empty:
                yield Target(str(name), _burnt(transform(shape, convert, interleaved=False), self.shape, grid))


def _converter(source: str, target: object) -> _Convert:
    return _Convert(source, target)


class _Convert:
    """Coordinates of one CRS into another, array-wise; as they are where one of the two is unknown."""

    def __init__(self, source: str, target: object) -> None:
        self._source, self._target = source, target

    def __call__(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[object, object]:
        from rasterio.warp import transform

        if not self._source or not self._target:
            return x, y
        if rasterio.crs.CRS.from_user_input(self._source) == self._target:
            return x, y
        moved = transform(self._source, self._target, np.atleast_1d(x), np.atleast_1d(y))
        return np.array(moved[0]), np.array(moved[1])


def _burnt(shape: object, size: tuple[int, int], grid: Affine) -> Mask:
    return np.asarray(rasterize([(shape, 1)], out_shape=size, transform=grid, fill=0), np.bool_)


def find_pairs(rasters: Path, labels: Path, field: str = "", least: int = 16) -> list[Labelled]:
    """Pair rasters with their labels.

    Args:
        rasters: a raster, or a folder of them.
        labels: one label file (a COCO file may serve a whole folder), or a folder of files named like the rasters.
        field: class attribute of vector labels.
        least: smallest object, raster pixels.

    Returns:
        Pairs in the order of their names.

    Raises:
        SamTuneError: nothing to evaluate was found.
    """
    images = [rasters] if rasters.is_file() else sorted(p for p in rasters.glob("*") if p.suffix.lower() in RASTERS)
    pairs: list[Labelled] = []
    listed = _listed(labels) if labels.suffix.lower() == _COCO else None
    for image in images:
        if listed is not None:
            if image.name in listed:
                pairs.append(Labelled(image, labels, field, least))
        elif labels.is_file():
            pairs.append(Labelled(image, labels, field, least))
        else:
            match = next((p for p in sorted(labels.glob(f"{image.stem}.*")) if p.suffix.lower() != ".xml"), None)
            if match is not None:
                pairs.append(Labelled(image, match, field, least))
    if not pairs:
        raise SamTuneError(
            f"No raster with labels was found in {rasters} and {labels}. Files must have the same names."
        )
    return pairs


def _listed(labels: Path) -> set[str]:
    try:
        document = json.loads(labels.read_text(encoding="utf-8"))
        return {Path(record["file_name"]).name for record in document["images"]}
    except (OSError, ValueError, KeyError) as error:
        raise SamTuneError(f"{labels} is no COCO file: {error}.") from error
