"""The prompts of a job: features of a vector file with their attributes, and areas to which work is limited."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FieldError
from pyogrio.raw import read as read_vector
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry.base import BaseGeometry

from ...models.errors import PromptError
from ..batch_messages import VectorSource
from ..class_names import name_of_class
from ..messages import Prompt
from .items import Feature, Ground, Prompts


def read_prompts(source: VectorSource, class_field: str, class_name: str) -> Prompts:
    """Read the prompts of a job.

    Args:
        source: points, boxes or polygons; each feature is one object.
        class_field: attribute with the class; empty for none.
        class_name: class of all where there is no field.

    Returns:
        The features that have a geometry, and their attributes.

    Raises:
        PromptError: the file cannot be read, has no such field, or no geometry that is a prompt.
    """
    facts, geometries, values = _read(source, class_field)
    names = [str(name) for name in facts["fields"]]
    columns = [_plain(column) for column in values]
    labels = columns[names.index(class_field)] if class_field else [class_name] * len(geometries)
    features = []
    for index, wkb in enumerate(geometries):
        if wkb is None or shapely.from_wkb(wkb).is_empty:
            continue
        row = tuple(column[index] for column in columns)
        features.append(Feature(index + 1, bytes(wkb), row, name_of_class(labels[index])))
    if not features:
        raise PromptError(
            f"{source.path} holds no geometries to segment by. Choose a layer of points, boxes or polygons."
        )
    kinds = [str(column.dtype) for column in values]
    return Prompts(tuple(zip(names, kinds, strict=True)), str(facts["crs"] or ""), tuple(features))


def _read(source: VectorSource, class_field: str) -> tuple[dict[str, Any], NDArray[np.object_], list[NDArray[Any]]]:
    try:
        facts, _, geometries, values = read_vector(source.path, layer=source.layer or None, datetime_as_string=True)
    except (DataSourceError, DataLayerError, FieldError, ValueError, OSError) as error:
        raise PromptError(
            f"{source.path} cannot be read as a vector layer. Check file and layer.", str(error)
        ) from error
    if geometries is None:
        raise PromptError(f"{source.path} holds no geometries. Choose a layer of points, boxes or polygons.")
    if class_field and class_field not in facts["fields"]:
        known = ", ".join(facts["fields"]) or "none"
        raise PromptError(f"{source.path} has no field {class_field!r}; its fields are: {known}.")
    return facts, geometries, list(values)


def _plain(column: NDArray[np.generic]) -> list[object]:
    """Return values that JSON takes; None for NULL."""
    return [None if value != value else value for value in column.tolist()]  # noqa: PLR0124 - NaN is no number


def read_area(source: VectorSource) -> Ground:
    """Read the polygons to which work is limited, as one.

    Args:
        source: polygons; without a path there is no limit.

    Raises:
        PromptError: the file cannot be read, or holds no polygon.
    """
    if not source.path:
        return Ground()
    try:
        facts = pyogrio.read_info(source.path, layer=source.layer or None)
        _, _, geometries, _ = read_vector(source.path, layer=source.layer or None, columns=[])
    except (DataSourceError, DataLayerError, ValueError, OSError) as error:
        raise PromptError(f"The area {source.path} cannot be read. Check file and layer.", str(error)) from error
    shapes = [shapely.make_valid(shapely.from_wkb(wkb)) for wkb in geometries if wkb is not None]
    area = shapely.union_all([shape for shape in shapes if shape.area > 0])
    if area.is_empty:
        raise PromptError(f"{source.path} holds no polygon. Draw the area, or choose another layer.")
    return Ground(area.wkb, str(facts["crs"] or ""))


@functools.lru_cache(maxsize=32)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(CRS.from_user_input(source), CRS.from_user_input(target), always_xy=True)


def moved(shape: BaseGeometry, source: str, target: str) -> BaseGeometry:
    """Bring a geometry into another CRS.

    Args:
        shape: in ``source``.
        source: CRS; empty where unknown, then nothing is changed.
        target: likewise.

    Raises:
        PromptError: there is no way from one to the other.
    """
    flat = shapely.force_2d(shape)
    if not source or not target or source == target:
        return flat
    try:
        way = _transformer(source, target)
        return shapely.transform(flat, lambda xy: np.column_stack(way.transform(xy[:, 0], xy[:, 1])))
    except (CRSError, ProjError) as error:
        raise PromptError(
            "The prompts (or the area) cannot be brought into the raster's CRS. Reproject them first.", str(error)
        ) from error


def prompts_of(shape: BaseGeometry) -> tuple[tuple[Prompt, ...], tuple[tuple[float, float], ...]]:
    """Turn a geometry into the prompts of one object: points are clicks, lines and polygons are taken by their bounds.

    Args:
        shape: in the raster's CRS.

    Returns:
        Points and the corners of a box; one of them is empty.
    """
    if shape.geom_type in {"Point", "MultiPoint"}:
        return tuple(Prompt(float(x), float(y)) for x, y in shapely.get_coordinates(shape)), ()
    x0, y0, x1, y1 = shape.bounds
    return (), ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def anchor_of(shape: BaseGeometry) -> tuple[float, float]:
    """Return the place that decides on which raster, and in which crop, an object is looked for; NaN for nowhere.

    Args:
        shape: a prompt.
    """
    points, box = prompts_of(shape)
    if points:
        return points[0].x, points[0].y
    x, y = (math.fsum(values) / len(box) for values in zip(*box, strict=True))
    return x, y
