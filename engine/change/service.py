"""The service behind ``change/detect``: reads both dates, compares them, writes what changed."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ...models.errors import PromptError
from ..change_messages import ChangeCount, ChangeParams, ChangeResult, ChangeWay, DateInput
from ..ground import aspect, metres_per_unit
from ..messages import RasterSpec
from ..progress import Progress
from ..raster_source import RasterSource
from ..vector_output import Target, check_target, ground_area
from .files import ChangeRow, DatedFile, read_objects, write_changes
from .footprint import ground_of
from .matching import Change, ChangeKind, DatedObject, Tolerance, match

if TYPE_CHECKING:
    from ...models.promptable import PromptableModel
    from .embeddings import Differences

_INSIDE = 0.5
"""Share of a new or gone object that the raster of the other date must show."""


class Models(Protocol):
    """The part of ``ModelService`` that is used here."""

    def get(self, name: str, progress: Progress | None = None) -> PromptableModel:
        """Return a loaded model; raises ModelMissingError."""


class ChangeService:
    """Finds what changed between two dates. For one thread."""

    def __init__(self, models: Models) -> None:
        """Take what gives models.

        Args:
            models: by name.
        """
        self._models = models

    def detect(self, params: ChangeParams, progress: Progress) -> ChangeResult:
        """Find what changed, and write it.

        Args:
            params: what to compare, and where to write.
            progress: hears of the steps; may cancel, which leaves nothing behind.

        Raises:
            PromptError: the objects cannot be read, or the dates have no ground in common.
            RasterError: a raster cannot be read.
            OutputError: the file exists already, or cannot be written.
        """
        start = time.perf_counter()
        output = Path(params.output).expanduser()
        check_target(Target(output, params.layer))
        _check_shares(params)
        if params.way is ChangeWay.OBJECTS:
            rows, crs_wkt, notes = _matched(params, progress)
            threshold = 0.0
        else:
            rows, crs_wkt, threshold = self._seen(params, progress)
            notes = []
        progress.check()
        progress.report(0.95, "Writing the changes")
        write_changes(output, params.layer, rows, crs_wkt)
        seconds = time.perf_counter() - start
        return ChangeResult(str(output), _counts(rows, params.way), threshold, seconds, tuple(notes))

    def _seen(self, params: ChangeParams, progress: Progress) -> tuple[list[ChangeRow], str, float]:
        from .embeddings import differences, together  # torch, which matching does without

        model = self._models.get(params.model, progress)
        specs = [_required(params.before), _required(params.after)]
        with together(specs[0], specs[1]) as (first, second, common):
            area = _area(params)
            ground = common if area is None else shapely.intersection(common, area)
            if ground.area <= 0:
                raise PromptError("The two rasters have no ground in common there. Choose others, or another area.")
            found = differences(first, second, ground, model, params.level, progress)
            crs_wkt = first.info.crs_wkt
        return _rows(found, params, crs_wkt), crs_wkt, max(found.threshold, params.floor)


@dataclass(frozen=True)
class _Flat:
    """A place's coordinates, stretched such that a unit of x is as long as one of y; nothing in projected CRSs."""

    stretch: float
    unit: float

    @classmethod
    def of(cls, dates: tuple[DatedFile, DatedFile]) -> _Flat:
        crs_wkt = dates[0].crs_wkt
        shapes = [item.shape for date in dates for item in date.objects]
        if not shapes:
            return cls(1.0, 1.0)
        left, bottom, right, top = shapely.total_bounds(np.array(shapes, dtype=object))
        x, y = (left + right) / 2, (bottom + top) / 2
        stretch = aspect(crs_wkt, y)
        # Metres per unit are of the square that a degree's cell makes; along y a unit is longer than that.
        return cls(stretch, metres_per_unit(crs_wkt, x, y) / stretch**0.5)

    def objects(self, date: DatedFile) -> list[DatedObject]:
        if self.stretch == 1.0:
            return list(date.objects)
        by = np.array([self.stretch, 1.0])
        return [DatedObject(shapely.transform(item.shape, lambda xy: xy * by), item.label) for item in date.objects]


def _matched(params: ChangeParams, progress: Progress) -> tuple[list[ChangeRow], str, list[str]]:
    progress.report(0.1, "Reading the objects")
    before = read_objects(params.before)
    after = read_objects(params.after, before.crs_wkt)
    crs_wkt = before.crs_wkt
    before, after = (_large(date, params.least) for date in (before, after))
    flat = _Flat.of((before, after))
    progress.check()
    progress.report(0.3, "Matching the objects")
    tolerance = Tolerance(params.shift / flat.unit, params.match, stable=params.stable)
    changes = match(flat.objects(before), flat.objects(after), tolerance)
    progress.check()
    progress.report(0.8, "Measuring the changes")
    rows = [_row(change, before, after) for change in changes]
    kept = _within(rows, params, crs_wkt)
    notes = [
        f"{date.left_out} features are no polygons, and were left out." for date in (before, after) if date.left_out
    ]
    beyond = len(rows) - len(kept)
    if beyond:
        notes.append(
            f"{beyond} objects lie beyond the area, or beyond the raster of the other date, and were left out."
        )
    return kept, crs_wkt, notes


def _large(date: DatedFile, least: float) -> DatedFile:
    """Leave out objects with less area."""
    if least <= 0:
        return date
    kept = [place for place, item in enumerate(date.objects) if _metres(item.shape, date.crs_wkt) >= least]
    objects, ids = tuple(date.objects[place] for place in kept), tuple(date.ids[place] for place in kept)
    return DatedFile(objects, ids, date.crs_wkt, date.left_out)


def _row(change: Change, before: DatedFile, after: DatedFile) -> ChangeRow:
    shapes, labels, ids = [], [], []
    for date, places in ((before, change.before), (after, change.after)):
        members = [date.objects[place] for place in places]
        shapes.append(shapely.union_all([item.shape for item in members]))
        labels.append(", ".join(sorted({item.label for item in members} - {""})))
        ids.append(",".join(str(date.ids[place]) for place in places))
    old, new = shapes
    areas = [float("nan") if shape.is_empty else _metres(shape, before.crs_wkt) for shape in shapes]
    return ChangeRow(
        kind=change.kind.value,
        geometry=old if change.kind is ChangeKind.GONE else new,
        labels=(labels[0], labels[1]),
        ids=(ids[0], ids[1]),
        areas=(areas[0], areas[1]),
        agreement=change.agreement,
    )


def _within(rows: list[ChangeRow], params: ChangeParams, crs_wkt: str) -> list[ChangeRow]:
    """Leave out what lies beyond the area, and what is new or gone where the other date shows nothing."""
    area = _area(params)
    shown = {
        ChangeKind.GONE.value: _footprint(params.after, crs_wkt),
        ChangeKind.NEW.value: _footprint(params.before, crs_wkt),
    }
    kept = []
    for row in rows:
        other = shown.get(row.kind)
        beyond = other is not None and shapely.intersection(row.geometry, other).area < _INSIDE * row.geometry.area
        if not beyond and (area is None or shapely.intersects(area, shapely.point_on_surface(row.geometry))):
            kept.append(row)
    return kept


def _footprint(date: DateInput, crs_wkt: str) -> BaseGeometry | None:
    if date.raster is None:
        return None
    with contextlib.closing(RasterSource(date.raster)) as source:
        return ground_of(source.info, crs_wkt)


def _rows(found: Differences, params: ChangeParams, crs_wkt: str) -> list[ChangeRow]:
    rows = []
    for shape, distance in found.polygons(max(found.threshold, params.floor)):
        covered = _metres(shape, crs_wkt)
        if covered >= params.least:
            rows.append(ChangeRow(ChangeKind.CHANGED.value, shape, areas=(covered, covered), distance=distance))
    return rows


def _counts(rows: list[ChangeRow], way: ChangeWay) -> tuple[ChangeCount, ...]:
    kinds = list(ChangeKind) if way is ChangeWay.OBJECTS else [ChangeKind.CHANGED]
    numbers: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        numbers[row.kind].append(row.covered)
    return tuple(ChangeCount(kind.value, len(numbers[kind.value]), float(sum(numbers[kind.value]))) for kind in kinds)


def _metres(shape: BaseGeometry, crs_wkt: str) -> float:
    """Return an area in m², or in square units where the CRS has no place on Earth."""
    area = ground_area(shape, crs_wkt)
    return float(shape.area) if np.isnan(area) else area


def _area(params: ChangeParams) -> BaseGeometry | None:
    if not params.area:
        return None
    area = shapely.from_wkb(bytes.fromhex(params.area))
    return area if area.is_valid else shapely.make_valid(area)


def _required(date: DateInput) -> RasterSpec:
    if date.raster is None:
        raise PromptError("Change by embeddings needs the rasters of both dates. Name them.")
    return date.raster


def _check_shares(params: ChangeParams) -> None:
    shares = (params.match, params.stable, params.floor)
    if not all(0 <= value <= 1 for value in shares):
        raise PromptError("Agreements and the least distance must be from 0 to 1.")
    if not (0 <= params.shift < float("inf") and params.least >= 0):
        raise PromptError("The tolerance and the least area must be 0 or more.")
