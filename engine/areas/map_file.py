"""A raster of bytes that appears in one step: written block by block beside its place, then made cloud-optimised.

Class names go where GDAL and QGIS look for them: category names and an attribute table beside the file
(``NAME.tif.aux.xml``), because GeoTIFF has no place for them.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree  # nosec B405

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from ...models.errors import OutputError
from ..area_messages import MapClass
from ..raster_facts import GDAL_OPTIONS

BLOCK = 512
NODATA = 255
_SUFFIXES = frozenset({".tif", ".tiff"})


@dataclass(frozen=True)
class MapGrid:
    """Where a map lies.

    Attributes:
        width: columns.
        height: rows.
        transform: GDAL order, pixel to the raster's CRS.
        crs_wkt: empty for none.
    """

    width: int
    height: int
    transform: tuple[float, float, float, float, float, float]
    crs_wkt: str


@dataclass(frozen=True)
class MapLegend:
    """What the values mean.

    Attributes:
        classes: value, name and colour; none for plain numbers.
        tags: for the file's metadata.
        averaged: overviews are averages; otherwise the commonest value.
    """

    classes: Sequence[MapClass] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    averaged: bool = False


def check_output(path: Path) -> None:
    """Refuse a map that cannot be written, before any work is done.

    Args:
        path: of the GeoTIFF.

    Raises:
        OutputError: it exists, has another suffix, or its folder is missing or protected.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise OutputError(f"{path} is no GeoTIFF name. Give a name that ends in .tif.")
    if not path.parent.is_dir():
        raise OutputError(f"There is no folder {path.parent}. Make it first.")
    if path.exists():
        raise OutputError(f"{path} exists, and is not replaced. Choose another name, or delete it first.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: the folder is protected. Choose another one.")


class MapFile:
    """A map that is being written; as a context: whatever is not finished leaves nothing behind."""

    def __init__(self, path: Path, grid: MapGrid, legend: MapLegend) -> None:
        """Begin.

        Args:
            path: of the GeoTIFF; must not exist.
            grid: where it lies.
            legend: what its values mean.

        Raises:
            OutputError: it cannot be written.
        """
        check_output(path)
        self.path, self._grid, self._legend = path, grid, legend
        with output_errors(path):
            self._folder = TemporaryDirectory(prefix=".samtune-", dir=path.parent)
        self._half = Path(self._folder.name) / "blocks.tif"
        self._made = Path(self._folder.name) / path.name
        try:
            with output_errors(path):
                self._dataset = rasterio.open(self._half, "w", **self._profile())
        except BaseException:
            self._folder.cleanup()
            raise

    def __enter__(self) -> MapFile:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what is not in its place."""
        # Closing writes what is left; where the disk is full, that fails once more, and nobody wants the file.
        with contextlib.suppress(RasterioError, OSError):
            self._dataset.close()
        self._folder.cleanup()

    def write(self, block: NDArray[np.uint8], column: int, row: int) -> None:
        """Write values.

        Args:
            block: (h, w), on the grid of blocks; one of nodata alone need not be written.
            column: of its first value, and
            row: of that.

        Raises:
            OutputError: the disk is full, or the like.
        """
        height, width = block.shape
        with output_errors(self.path):
            self._dataset.write(block, 1, window=Window(column, row, width, height))

    def optimise(self) -> None:
        """Make the cloud-optimised file, still beside its place.

        Raises:
            OutputError: the disk is full, or the like.
        """
        described = Path(self._folder.name) / "described.vrt"
        with output_errors(self.path), rasterio.Env(**GDAL_OPTIONS):
            self._dataset.close()
            described.write_bytes(ElementTree.tostring(self._described(), encoding="utf-8"))
            rasterio.shutil.copy(
                described,
                self._made,
                driver="COG",
                compress="DEFLATE",
                blocksize=BLOCK,
                bigtiff="IF_SAFER",
                overview_resampling="AVERAGE" if self._legend.averaged else "MODE",
            )

    @property
    def made(self) -> Path:
        """Where the file lies until it is published."""
        return self._made

    def publish(self) -> None:
        """Move the file into its place, in one step.

        Raises:
            OutputError: something else appeared there meanwhile, or the folder is gone.
        """
        check_output(self.path)
        beside = _beside(self._made)
        with output_errors(self.path):
            if beside.exists():
                beside.replace(_beside(self.path))
            self._made.replace(self.path)

    def _profile(self) -> dict[str, object]:
        grid = self._grid
        return {
            "driver": "GTiff",
            "width": grid.width,
            "height": grid.height,
            "count": 1,
            "dtype": "uint8",
            "nodata": NODATA,
            "crs": grid.crs_wkt or None,
            "transform": Affine.from_gdal(*grid.transform),
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "compress": "deflate",
            "zlevel": 1,
            "bigtiff": "IF_SAFER",
            "sparse_ok": True,
        }

    def _described(self) -> ElementTree.Element:
        """Describe the blocks as a VRT dataset with colours and names, which rasterio itself cannot write."""
        grid, legend = self._grid, self._legend
        root = ElementTree.Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
        if grid.crs_wkt:
            ElementTree.SubElement(root, "SRS").text = grid.crs_wkt
        ElementTree.SubElement(root, "GeoTransform").text = ", ".join(repr(float(value)) for value in grid.transform)
        facts = ElementTree.SubElement(root, "Metadata")
        for name, text in legend.tags.items():
            ElementTree.SubElement(facts, "MDI", key=name).text = text
        band = ElementTree.SubElement(root, "VRTRasterBand", dataType="Byte", band="1")
        ElementTree.SubElement(band, "NoDataValue").text = str(NODATA)
        if legend.classes:
            _describe_classes(band, legend.classes)
        source = ElementTree.SubElement(band, "SimpleSource")
        ElementTree.SubElement(source, "SourceFilename", relativeToVRT="1").text = self._half.name
        ElementTree.SubElement(source, "SourceBand").text = "1"
        return root


def _describe_classes(band: ElementTree.Element, classes: Sequence[MapClass]) -> None:
    by_value = {item.value: item for item in classes}
    ElementTree.SubElement(band, "ColorInterp").text = "Palette"
    names = ElementTree.SubElement(band, "CategoryNames")
    colours = ElementTree.SubElement(band, "ColorTable")
    for value in range(max(by_value) + 1):
        found = by_value.get(value)
        ElementTree.SubElement(names, "Category").text = found.name if found else ""
        red, green, blue = bytes.fromhex(found.colour[1:]) if found else (0, 0, 0)
        ElementTree.SubElement(colours, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4="255")
    table = ElementTree.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for place, (name, kind, usage) in enumerate((("Value", 0, 5), ("Class", 2, 2), *_COLOUR_FIELDS)):
        definition = ElementTree.SubElement(table, "FieldDefn", index=str(place))
        for tag, text in (("Name", name), ("Type", str(kind)), ("Usage", str(usage))):
            ElementTree.SubElement(definition, tag).text = text
    for place, item in enumerate(classes):
        line = ElementTree.SubElement(table, "Row", index=str(place))
        for text in (str(item.value), item.name, *map(str, bytes.fromhex(item.colour[1:]))):
            ElementTree.SubElement(line, "F").text = text


_COLOUR_FIELDS = (("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))
"""Name, type (integer) and usage of a column, in GDAL's numbers."""


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".aux.xml")


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing into one error with a remedy.

    Args:
        path: of the map.

    Raises:
        OutputError: nothing of the map is there.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # so is the map of a raster that is not
            yield
    except (RasterioError, OSError) as error:
        raise OutputError(
            f"{path} cannot be written. Check the free space and your rights in its folder, then try again.",
            f"{type(error).__name__}: {error}",
        ) from error
