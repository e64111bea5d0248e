"""Writing outlines with their provenance to a GeoPackage, without QGIS. A failure leaves the file as it was."""

from __future__ import annotations

import contextlib
import functools
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError
from shapely.geometry import MultiPolygon

from ..models.errors import OutputError
from .provenance import FIELDS, bands_text

_JOURNALS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a file that somebody has open, or left half-written."""


@dataclass(frozen=True)
class Outline:
    """One object, ready to be written.

    Attributes:
        geometry: in the raster's CRS.
        label: its class; may be empty.
        score: IoU that the model predicts, 0 to 1.
        model: name of the base model.
        prompt: kind of prompt, such as ``point``.
        raster: its name; see :func:`.provenance.raster_name`.
        bands: numbers shown as RGB, counted from 1.
        adapter: name of the adapter; empty for none.
        reviewed: a person has accepted it.
        time: when it was made, UTC; None for now.
    """

    geometry: MultiPolygon
    label: str
    score: float
    model: str
    prompt: str
    raster: str
    bands: tuple[int, ...]
    adapter: str = ""
    reviewed: bool = False
    time: datetime | None = None


@dataclass(frozen=True)
class Target:
    """Where to write.

    Attributes:
        path: of the GeoPackage.
        layer: in it.
        overwrite: an existing file is replaced.
        append: features are added to the layer of an existing file.
    """

    path: Path
    layer: str = "segments"
    overwrite: bool = False
    append: bool = False


def ground_area(geometry: MultiPolygon, crs_wkt: str) -> float:
    """Measure a polygon on the ellipsoid.

    Args:
        geometry: in the CRS.
        crs_wkt: WKT; empty when unknown.

    Returns:
        Square metres; NaN without a CRS, or with one that has no place on Earth.
    """
    to_degrees, geod = _geodetic(crs_wkt)
    if to_degrees is None or geod is None:
        return float("nan")
    try:
        degrees = shapely.transform(geometry, lambda xy: np.column_stack(to_degrees.transform(xy[:, 0], xy[:, 1])))
    except ProjError:
        return float("nan")
    if not np.isfinite(shapely.get_coordinates(degrees)).all():
        return float("nan")
    area, _ = geod.geometry_area_perimeter(shapely.orient_polygons(degrees))
    return abs(float(area))


@functools.lru_cache(maxsize=8)
def _geodetic(crs_wkt: str) -> tuple[Transformer | None, Geod | None]:
    """Return the way to degrees and the ellipsoid; None for a CRS without a place on Earth."""
    crs = CRS.from_wkt(crs_wkt) if crs_wkt else None
    if crs is None or crs.geodetic_crs is None:
        return None, None
    try:
        return Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True), crs.get_geod()
    except ProjError:
        return None, None


def check_target(target: Target) -> None:
    """Refuse a target that cannot be written, before any work is done.

    Args:
        target: where to write.

    Raises:
        OutputError: it exists and may not be replaced, is open elsewhere, is no GeoPackage, or its folder is missing.
    """
    if target.path.suffix.lower() != ".gpkg":
        raise OutputError(f"{target.path} is no GeoPackage name. Give a name that ends in .gpkg.")
    if not target.path.parent.is_dir():
        raise OutputError(f"There is no folder {target.path.parent}. Make it first.")
    if target.path.exists() and not (target.overwrite or target.append):
        raise OutputError(f"{target.path} exists. Use --overwrite to replace it or --append to add to it.")
    refuse_open(target.path)


def refuse_open(path: Path) -> None:
    """Refuse a file that somebody has open.

    It is replaced as a whole: what the other program has not written into it yet would be lost, and its journal, left
    beside the new file, would be read into that.
    """
    real = path.resolve()
    if any(real.with_name(real.name + ending).exists() for ending in _JOURNALS):
        raise OutputError(
            f"{path} is open in another program, or was not closed properly. Save your edits in that program and close "
            "the file (in QGIS: remove its layers), then try again."
        )


def write_outlines(target: Target, outlines: Sequence[Outline], crs_wkt: str) -> None:
    """Write outlines as features with provenance attributes.

    Args:
        target: where to write; the file appears, or changes, in one step when everything is written.
        outlines: at least one, all in one CRS.
        crs_wkt: WKT of that CRS; empty for none.

    Raises:
        OutputError: the target cannot be written; what was there before is as it was.
    """
    check_target(target)
    adding = target.append and target.path.exists()
    with output_errors(target.path), TemporaryDirectory(prefix=".samtune-", dir=target.path.parent) as folder:
        half = Path(folder) / target.path.name
        if adding:
            shutil.copyfile(target.path, half)
            _check_layer(half, target.layer, crs_wkt)
        write_layer(half, target.layer, outlines, crs_wkt, adding=adding)
        refuse_open(target.path)
        half.replace(target.path)


def write_layer(
    path: Path,
    layer: str,
    outlines: Sequence[Outline],
    crs_wkt: str,
    further: Mapping[str, NDArray[np.generic]] = MappingProxyType({}),
    *,
    adding: bool,
) -> None:
    """Write outlines to a GeoPackage's layer, in place: for :func:`write_outlines`, and for what comes in batches.

    Args:
        path: of the GeoPackage.
        layer: in it.
        outlines: all in one CRS; none makes an empty layer.
        crs_wkt: WKT of that CRS; empty for none.
        further: columns behind those that say how outlines were made.
        adding: the layer is there, and they are added to it.
    """
    now = datetime.now(UTC)
    times = [(item.time or now).astimezone(UTC).replace(tzinfo=None) for item in outlines]
    columns = {
        "class": _texts(item.label for item in outlines),
        "score": np.array([item.score for item in outlines], np.float64),
        "area": np.array([ground_area(item.geometry, crs_wkt) for item in outlines], np.float64),
        "model": _texts(item.model for item in outlines),
        "adapter": _texts(item.adapter for item in outlines),
        "prompt": _texts(item.prompt for item in outlines),
        "raster": _texts(item.raster for item in outlines),
        "bands": _texts(bands_text(item.bands) for item in outlines),
        "time": np.array(times, "datetime64[ms]"),
        "reviewed": np.array([item.reviewed for item in outlines], bool),
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")  # a raster without CRS has none to give
        pyogrio.raw.write(
            str(path),
            np.array([item.geometry.wkb for item in outlines], object),
            [*(columns[name] for name in FIELDS), *further.values()],
            [*FIELDS, *further],
            layer=layer,
            driver="GPKG",
            geometry_type="MultiPolygon",
            crs=crs_wkt or None,
            append=adding,
            gdal_tz_offsets={"time": np.full(len(outlines), 100, np.int8)},  # 100 is UTC in GDAL's count
        )


def _texts(values: Iterable[str]) -> NDArray[np.object_]:
    """Return texts as GDAL takes them; an empty one is NULL, as in QGIS."""
    return np.array([value or None for value in values], object)


def _check_layer(path: Path, layer: str, crs_wkt: str) -> None:
    """Refuse to add to a layer of another CRS or with other fields."""
    if layer not in {str(name) for name in pyogrio.list_layers(path)[:, 0]}:
        return
    facts = pyogrio.read_info(path, layer=layer)
    if set(FIELDS) - set(facts["fields"].tolist()):
        raise OutputError(f"The layer {layer} has other attributes. Write to another file, or name a new --layer.")
    known = CRS.from_user_input(facts["crs"]) if facts["crs"] else None
    if known != (CRS.from_wkt(crs_wkt) if crs_wkt else None):
        raise OutputError(f"The layer {layer} has another CRS than the raster. Write to another file or --layer.")


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is written into one error with a remedy.

    Args:
        path: of the file.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        yield
    except (DataSourceError, OSError, ValueError, RuntimeError) as error:
        raise OutputError(
            f"{path} cannot be written. Check the free space and your rights in its folder, and close it elsewhere.",
            f"{type(error).__name__}: {error}",
        ) from error
