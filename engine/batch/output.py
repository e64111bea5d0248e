"""From the job file to a vector file: in batches, with how each object was made, in one step and never in part."""

from __future__ import annotations

import importlib
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyogrio.raw import open_arrow, write_arrow
from pyproj import CRS

from ...models.errors import OutputError
from ..provenance import FIELDS, raster_name
from ..vector_output import Outline, output_errors, refuse_open, write_layer
from .features import moved
from .formats import FORMATS, writes_itself
from .items import BatchObject, JobHeader, JobRaster

AT_ONCE = 4000
"""Objects written together."""

Announce = Callable[[Path, Path], None]
"""Takes a finished file and the place that it is about to take."""


@dataclass(frozen=True)
class Finished:
    """An object that is to be written.

    Attributes:
        raster: that it is of.
        item: the object.
        time: when it was made, ISO 8601, UTC.
        values: attributes that its prompt brings.
    """

    raster: JobRaster
    item: BatchObject
    time: str
    values: tuple[object, ...] = ()


def write_vector(
    path: Path,
    layer: str,
    objects: Iterable[Finished],
    header: JobHeader,
    check: Callable[[], None],
    announce: Announce,
    *,
    overwrite: bool,
) -> int:
    """Write objects.

    Args:
        path: ``.gpkg``, ``.fgb`` or ``.parquet``.
        layer: name of the layer.
        objects: taken one by one.
        header: of the job.
        check: called between batches; may raise to cancel.
        announce: told of the finished file just before it takes its place.
        overwrite: an existing file is replaced.

    Returns:
        How many there are.

    Raises:
        OutputError: the file cannot be written; what was there before is as it was.
    """
    form = FORMATS[path.suffix.lower()]
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists. Choose another name, or say that it may be replaced (--overwrite).")
    refuse_open(path)
    with output_errors(path), TemporaryDirectory(prefix=".samtune-", dir=path.parent) as folder:
        half = Path(folder) / "objects.gpkg"
        count = _write_batches(half, layer, objects, header, check)
        made = half
        if form.driver != "GPKG":
            made = Path(folder) / path.name
            _convert(half, layer, made, form.driver, header.crs_wkt)
        check()
        refuse_open(path)
        announce(made, path)
        made.replace(path)
    return count


def _write_batches(
    path: Path, layer: str, objects: Iterable[Finished], header: JobHeader, check: Callable[[], None]
) -> int:
    names = _names(header)
    count, waiting = 0, iter(objects)
    while True:
        check()
        batch = list(itertools.islice(waiting, AT_ONCE))
        if not batch and count:
            return count
        outlines = [_outline(item, header) for item in batch]
        columns = {
            name: _column([item.values[place] if item.values else None for item in batch], kind)
            for place, (name, kind) in enumerate(zip(names, (kind for _, kind in header.fields), strict=True))
        }
        write_layer(path, layer, outlines, header.crs_wkt, columns, adding=count > 0)
        if not batch:
            return 0
        count += len(batch)


def _outline(finished: Finished, header: JobHeader) -> Outline:
    item, info = finished.item, finished.raster.info
    crs_wkt = info.crs_wkt if info else header.crs_wkt
    return Outline(
        geometry=moved(shapely.from_wkb(item.wkb), crs_wkt, header.crs_wkt),
        label=item.label,
        score=item.score,
        model=header.spec.model,
        prompt=item.prompt,
        raster=raster_name(finished.raster.uri),
        bands=info.spec.bands if info else (),
        adapter=item.adapter,
        time=datetime.fromisoformat(finished.time),
    )


def _names(header: JobHeader) -> list[str]:
    """Return names for the attributes that prompts bring: one that is taken gets a number."""
    taken = {name.lower() for name in (*FIELDS, "fid", "geom")}
    names = []
    for name, _ in header.fields:
        free = (f"{name}_{number}" for number in itertools.count(1))
        found = name if name.lower() not in taken else next(other for other in free if other.lower() not in taken)
        taken.add(found.lower())
        names.append(found)
    return names


def _column(values: list[object], kind: str) -> NDArray[Any]:
    """Return a column of the type that the attribute had; whole numbers with gaps become real ones."""
    dtype = np.dtype(kind)
    if dtype.kind in "iu" and all(value is not None for value in values):
        return np.array(values, dtype)
    if dtype.kind in "iuf":
        return np.array([np.nan if value is None else value for value in values], np.float64)
    if dtype.kind == "b" and all(value is not None for value in values):
        return np.array(values, bool)
    return np.array([None if value is None else _text(value) for value in values], object)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _convert(source: Path, layer: str, target: Path, driver: str, crs_wkt: str) -> None:
    """Write a GeoPackage's layer in another format, batch by batch, with its spatial index."""
    with open_arrow(source, layer=layer, use_pyarrow=False, batch_size=AT_ONCE) as (facts, stream):
        name = facts["geometry_name"] or "wkb_geometry"
        if writes_itself(driver):
            options = {"SPATIAL_INDEX": "YES"} if driver == "FlatGeobuf" else {}
            write_arrow(
                stream,
                str(target),
                driver=driver,
                layer=layer,
                geometry_name=name,
                geometry_type="MultiPolygon",
                crs=crs_wkt or None,
                **options,
            )
        else:
            _write_parquet(stream, target, name, crs_wkt)


def _write_parquet(stream: object, target: Path, geometry: str, crs_wkt: str) -> None:
    """Write GeoParquet 1.1 through pyarrow, where GDAL lacks the format."""
    try:
        pyarrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise OutputError(
            "GeoParquet cannot be written here: this GDAL lacks it, and the package pyarrow is not installed. Write a "
            ".gpkg or .fgb, or install pyarrow into the engine's environment.",
        ) from error
    reader = pyarrow.RecordBatchReader.from_stream(stream)
    column: dict[str, object] = {
        "encoding": "WKB",
        "geometry_types": ["MultiPolygon"],
        "orientation": "counterclockwise",
    }
    column["crs"] = CRS.from_wkt(crs_wkt).to_json_dict() if crs_wkt else None
    about = {"version": "1.1.0", "primary_column": geometry, "columns": {geometry: column}}
    schema = reader.schema.with_metadata({b"geo": json.dumps(about).encode()})
    place = schema.get_field_index(geometry)
    schema = schema.set(place, pyarrow.field(geometry, pyarrow.binary()))
    with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_table(pyarrow.Table.from_batches([batch]).cast(schema))
