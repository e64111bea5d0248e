"""The objects of a job as they are written: those of the units, and those that lie across units, joined."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from ...models import registry
from ..areas.pieces import Piece
from ..areas.tiles import TilePlan
from .fragments import join_rows, unpacked
from .items import BatchObject, Fragment, JobRaster
from .job_file import JobFile
from .output import Finished
from .tile_stages import PROMPT_KINDS, ObjectContext

_OBJECTS = (
    "SELECT object.wkb, object.label, score, prompt, object.feature, adapter, finished, vals FROM object"
    " JOIN unit ON unit.number = object.unit LEFT JOIN feature ON feature.number = object.feature"
    " WHERE unit.raster = ? ORDER BY unit.number, place"
)
_UNITS = "SELECT number, content, finished FROM unit WHERE raster = ? AND finished IS NOT NULL ORDER BY number"
_FRAGMENTS = "SELECT tile, wkb, label, score, extra FROM fragment WHERE unit = ? ORDER BY number"


def finished_objects(job: JobFile, check: Callable[[], None]) -> Iterator[Finished]:
    """Yield the objects of a job, raster by raster; the same ones in the same order whenever it is asked.

    Args:
        job: with its units done, as far as they are.
        check: called now and then; may raise to cancel.
    """
    for raster in job.rasters():
        if raster.info is None:
            continue
        for row in job.stream(_OBJECTS, raster.number):
            wkb, label, score, prompt, feature, adapter, time, values = row
            item = BatchObject(
                _bytes(wkb), str(label), _number(score), str(prompt), int(_number(feature)), str(adapter)
            )
            yield Finished(raster, item, str(time), tuple(json.loads(str(values))) if values is not None else ())
        if job.header.spec.task in PROMPT_KINDS:
            yield from _across(job, raster, check)


def _across(job: JobFile, raster: JobRaster, check: Callable[[], None]) -> Iterator[Finished]:
    """Yield the objects that lie across the units of a raster, level by level."""
    header = job.header
    context = ObjectContext(header, job.area, raster, registry.card(header.spec.model).input_size)
    units = [(int(_number(row[0])), json.loads(str(row[1])), str(row[2])) for row in job.stream(_UNITS, raster.number)]
    time = max((unit[2] for unit in units), default="")
    for coarser in range(header.spec.options.levels):
        blocks: dict[int, tuple[int, list[int]]] = {}
        for number, content, _ in units:
            if content["coarser"] == coarser:
                first, end, _, _ = content["block"]
                blocks.setdefault(first, (end, []))[1].append(number)
        if not blocks:
            continue
        plan, names = context.plan(coarser), dict[int, str]()
        for joined in join_rows(_rows(job, plan, blocks, names), context.rules, check):
            named = [(piece, names[piece.label]) for piece in joined]
            for item in context.objects(named, plan, coarser):
                yield Finished(raster, item, time)


def _rows(
    job: JobFile, plan: TilePlan, blocks: dict[int, tuple[int, list[int]]], names: dict[int, str]
) -> Iterator[tuple[list[Piece], float]]:
    """Yield what each row of units kept, and where the next row begins; note the names of classes."""
    for _, (end, units) in sorted(blocks.items()):
        pieces = []
        for unit in units:
            for tile, wkb, label, score, extra in job.stream(_FRAGMENTS, unit):
                fragment = Fragment(int(_number(tile)), _bytes(wkb), str(label), _number(score), str(extra))
                piece = unpacked(fragment)
                names[piece.label] = fragment.label
                pieces.append(piece)
        yield pieces, plan.rows.origin(end) / 2.0**plan.level if end < len(plan.rows) else float("inf")


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _number(value: object) -> float:
    return float(str(value))
