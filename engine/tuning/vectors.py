"""Labelled polygons from any vector file: read, repaired, taken apart and brought into a raster's CRS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FieldError
from pyogrio.raw import read as read_vector
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry.base import BaseGeometry

from ...models.peft.contract import TuningError
from ..class_names import name_of_class
from ..progress import Check, never_stops
from .settings import Labels

_MOST_NAMED = 5
_UNNAMED = "unnamed"


@dataclass(frozen=True)
class Shape:
    """A labelled polygon.

    Attributes:
        label: its class.
        geometry: a valid Polygon in the raster's CRS.
        row: number of its feature in the file, from 1.
        part: number of the polygon in its feature, from 0.
    """

    label: str
    geometry: BaseGeometry
    row: int
    part: int = 0


@dataclass(frozen=True)
class Shapes:
    """What a label file holds.

    Attributes:
        items: the usable polygons, those with several parts taken apart.
        classes: names, in alphabetic order.
        notes: what was repaired or left out, as sentences.
        repaired: numbers of features that were invalid, from 1, and
        dropped: of those that are no polygons.
    """

    items: tuple[Shape, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    repaired: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()


def read_shapes(labels: Labels, crs_wkt: str, check: Check = never_stops) -> Shapes:
    """Read labelled polygons.

    Args:
        labels: where they are.
        crs_wkt: CRS to bring them into, WKT; empty where the raster has none, then they stay as they are.
        check: called for every feature; may raise to stop.

    Raises:
        TuningError: the file, the layer or the field does not exist, or there is no usable polygon.
    """
    source, names, geometries = _read(labels)
    repaired: list[int] = []
    dropped: list[int] = []
    items: list[Shape] = []
    for row, (name, raw) in enumerate(zip(names, geometries, strict=True), start=1):
        check()
        shape = shapely.from_wkb(raw) if raw is not None else None
        if shape is not None and not shape.is_valid:
            shape = shapely.make_valid(shape)
            repaired.append(row)
        parts = [] if shape is None else _polygons(_sound(shapely.force_2d(_moved(shape, source, crs_wkt))))
        if not parts:
            dropped.append(row)
        items.extend(Shape(name, polygon, row, part) for part, polygon in enumerate(parts))
    if not items:
        raise TuningError(
            f"{labels.path.name} has no polygon that can be used. Draw some objects, or choose another layer or filter."
        )
    notes = []
    if repaired:
        notes.append(f"{len(repaired)} invalid polygons were repaired ({_some(repaired)}).")
    if dropped:
        notes.append(f"{len(dropped)} features are no polygons, or empty, and were left out ({_some(dropped)}).")
    classes = tuple(sorted({item.label for item in items}))
    return Shapes(tuple(items), classes, tuple(notes), tuple(repaired), tuple(dropped))


def read_extent(path: Path, crs_wkt: str, check: Check = never_stops) -> BaseGeometry:
    """Read the polygons within which everything is labelled, as one geometry in a CRS.

    Args:
        path: vector file.
        crs_wkt: WKT; empty where the raster has none.
        check: called for every feature; may raise to stop.

    Raises:
        TuningError: the file holds no polygon.
    """
    found = read_shapes(Labels(path), crs_wkt, check)
    return shapely.union_all([item.geometry for item in found.items])


def _read(labels: Labels) -> tuple[str, list[str], NDArray[np.object_]]:
    """Return the CRS as WKT (empty for none), the class of each feature, and its geometry as WKB."""
    field = labels.class_field
    try:
        info = pyogrio.read_info(labels.path, layer=labels.layer or None)
        if field and field not in info["fields"]:
            known = ", ".join(info["fields"]) or "none"
            raise TuningError(f"{labels.path.name} has no field {field!r}; its fields are: {known}.")
        _, _, geometries, values = read_vector(
            labels.path,
            layer=labels.layer or None,
            columns=[field] if field else [],
            where=labels.where or None,
        )
    except (DataSourceError, DataLayerError, FieldError, ValueError, OSError) as error:
        raise TuningError(
            f"The labels {labels.path.name} cannot be read: {error}. Check file, layer and filter.", str(labels)
        ) from error
    if geometries is None:
        raise TuningError(f"{labels.path.name} holds no geometries. Choose a polygon layer.")
    alike = labels.class_name or str(info.get("layer_name") or labels.path.stem)
    names = [name_of_class(value) or _UNNAMED for value in values[0]] if field else [alike] * len(geometries)
    return str(info["crs"] or ""), names, geometries


def _sound(shape: BaseGeometry) -> BaseGeometry:
    """Repair what became invalid when it was moved."""
    return shape if shape.is_valid else shapely.make_valid(shape)


def _polygons(shape: BaseGeometry) -> list[BaseGeometry]:
    parts = shapely.get_parts(shapely.get_parts(shape) if shape.geom_type == "GeometryCollection" else shape)
    return [part for part in np.atleast_1d(parts) if part.geom_type == "Polygon" and part.area > 0]


def _moved(shape: BaseGeometry, source: str, target: str) -> BaseGeometry:
    if not source or not target or source == target:
        return shape
    try:
        transformer = _transformer(source, target)
        return shapely.transform(shape, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))
    except (CRSError, ProjError) as error:
        text = "The labels cannot be brought into the raster's CRS. Reproject them first."
        raise TuningError(text, str(error)) from error


_known: dict[tuple[str, str], Transformer] = {}


def _transformer(source: str, target: str) -> Transformer:
    if (source, target) not in _known:
        start, end = CRS.from_user_input(source), CRS.from_user_input(target)
        _known[source, target] = Transformer.from_crs(start, end, always_xy=True)
    return _known[source, target]


def _some(rows: list[int]) -> str:
    shown = ", ".join(str(row) for row in rows[:_MOST_NAMED])
    return f"feature {shown}" + (", ..." if len(rows) > _MOST_NAMED else "")
