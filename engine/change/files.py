"""Objects of a date out of a vector file, and changes into one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FieldError
from pyogrio.raw import read as read_vector
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from ...models.errors import PromptError
from ..batch.features import moved
from ..change_messages import DateInput
from ..vector_output import Target, check_target, output_errors, refuse_open
from .matching import DatedObject

TEXTS = ("change", "class_old", "class_new", "ids_old", "ids_new")
NUMBERS = ("area_old", "area_new", "area_diff", "agreement", "distance")
"""The attributes of a change, in their order: areas are in m²; what does not apply is NULL."""


@dataclass(frozen=True)
class DatedFile:
    """What a vector file holds of a date.

    Attributes:
        objects: usable polygons, in the CRS asked for.
        ids: numbers of their features in the file.
        crs_wkt: CRS that they are in; empty where unknown.
        left_out: how many features are no polygons.
    """

    objects: tuple[DatedObject, ...]
    ids: tuple[int, ...]
    crs_wkt: str
    left_out: int


@dataclass(frozen=True)
class ChangeRow:
    """A change as it is written.

    Attributes:
        kind: such as ``new``.
        geometry: polygon in the file's CRS.
        labels: classes before and after; empty where there are none.
        ids: numbers of the objects before and after, with commas between.
        areas: before and after, m²; NaN where there is none.
        agreement: of the objects; NaN where it does not apply.
        distance: of the embeddings; NaN where it does not apply.
    """

    kind: str
    geometry: BaseGeometry
    labels: tuple[str, str] = ("", "")
    ids: tuple[str, str] = ("", "")
    areas: tuple[float, float] = (float("nan"), float("nan"))
    agreement: float = float("nan")
    distance: float = float("nan")

    @property
    def covered(self) -> float:
        """Ground that it covers, m²: before where it is gone, else after."""
        return self.areas[0] if np.isnan(self.areas[1]) else self.areas[1]


def read_objects(date: DateInput, crs_wkt: str | None = None) -> DatedFile:
    """Read the objects of a date.

    Args:
        date: where they are.
        crs_wkt: CRS to bring them into; None for the file's own.

    Raises:
        PromptError: the file, the layer or the field does not exist, or it cannot be brought into the CRS.
    """
    path = Path(date.objects)
    try:
        info = pyogrio.read_info(path, layer=date.layer or None)
        if date.class_field and date.class_field not in info["fields"]:
            known = ", ".join(info["fields"]) or "none"
            raise PromptError(f"{path.name} has no field {date.class_field}; its fields are: {known}.")
        columns = [date.class_field] if date.class_field else []
        _, fids, geometries, values = read_vector(
            path, layer=date.layer or None, columns=columns, return_fids=True, force_2d=True
        )
    except (DataSourceError, DataLayerError, FieldError, ValueError, OSError) as error:
        raise PromptError(f"The objects in {path.name} cannot be read. Check file and layer.", str(error)) from error
    if geometries is None:
        raise PromptError(f"{path.name} holds no geometries. Choose a polygon layer.")
    source = CRS.from_user_input(info["crs"]).to_wkt() if info["crs"] else ""
    target = source if crs_wkt is None else crs_wkt
    labels = values[0] if date.class_field else [""] * len(geometries)
    shapes = [None if raw is None else sound(moved(shapely.from_wkb(raw), source, target)) for raw in geometries]
    usable = [(shape, label, fid) for shape, label, fid in zip(shapes, labels, fids, strict=True) if shape is not None]
    objects = tuple(DatedObject(shape, "" if label is None else str(label)) for shape, label, _ in usable)
    return DatedFile(objects, tuple(int(fid) for *_, fid in usable), target, len(shapes) - len(usable))


def sound(shape: BaseGeometry) -> BaseGeometry | None:
    """Return the polygons of a geometry, repaired; None where it has none."""
    valid = shape if shape.is_valid else shapely.make_valid(shape)
    parts = [part for part in shapely.get_parts(shapely.get_parts(valid)) if part.geom_type == "Polygon"]
    whole = shapely.union_all(parts)
    return whole if whole.area > 0 else None


def write_changes(path: Path, layer: str, rows: Sequence[ChangeRow], crs_wkt: str) -> None:
    """Write changes to a new GeoPackage.

    Args:
        path: it appears in one step, when everything is written.
        layer: in it.
        rows: may be empty.
        crs_wkt: CRS of the geometries; empty for none.

    Raises:
        OutputError: it exists already, or cannot be written.
    """
    check_target(Target(path, layer))
    columns: list[NDArray[np.generic] | NDArray[np.object_]] = [
        _texts([row.kind for row in rows]),
        *(_texts([row.labels[place] for row in rows]) for place in (0, 1)),
        *(_texts([row.ids[place] for row in rows]) for place in (0, 1)),
        *(np.array([row.areas[place] for row in rows], np.float64) for place in (0, 1)),
        np.array([np.nan_to_num(row.areas[1]) - np.nan_to_num(row.areas[0]) for row in rows], np.float64),
        np.array([row.agreement for row in rows], np.float64),
        np.array([row.distance for row in rows], np.float64),
    ]
    with output_errors(path), TemporaryDirectory(prefix=".samtune-", dir=path.parent) as folder:
        half = Path(folder) / path.name
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            pyogrio.raw.write(
                str(half),
                np.array([_multi(row.geometry).wkb for row in rows], object),
                columns,
                [*TEXTS, *NUMBERS],
                layer=layer,
                driver="GPKG",
                geometry_type="MultiPolygon",
                crs=crs_wkt or None,
            )
        refuse_open(path)
        half.replace(path)


def _multi(shape: BaseGeometry) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([shape]) if shape.geom_type == "Polygon" else shape


def _texts(values: list[str]) -> NDArray[np.object_]:
    """Return texts as GDAL takes them; an empty one is NULL."""
    return np.array([value or None for value in values], object)
