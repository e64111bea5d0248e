"""Small jobs with the fake model, which segments by grey value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from samtune.engine.batch.items import Machine
from samtune.engine.batch.service import BatchService
from samtune.engine.batch_messages import (
    BatchOptions,
    BatchOutputs,
    BatchRasters,
    BatchResult,
    BatchRunParams,
    BatchSpec,
    BatchTask,
    VectorSource,
)
from samtune.engine.progress import NullProgress
from samtune.models.errors import CancelledByUser
from shapely.geometry.base import BaseGeometry

from ..engine.fakes import FakeModel, FakeModels
from ..engine.rasters import NORTH_UP, UTM, disc, write

SIZE = 512


def service(folder: Path, model: FakeModel | None = None) -> BatchService:
    machine = Machine(store_dir=str(folder / "store"), device="cpu", threads=1)
    return BatchService(machine, FakeModels(model or FakeModel(SIZE, "tiny")))  # type: ignore[arg-type]


def discs(path: Path, places: Sequence[tuple[int, int]], size: int = 700, radius: float = 30.0, **more: object) -> Path:
    """Write a raster with bright discs on dark ground."""
    picture = np.full((size, size), 50.0)
    for place in places:
        picture = np.maximum(picture, disc((size, size), place, radius))
    return write(path, np.rint(picture).astype(np.uint8)[None], **more)


def on_map(col: float, row: float) -> tuple[float, float]:
    x, y = NORTH_UP @ (col, row)
    return x, y


def prompts(path: Path, shapes: Sequence[BaseGeometry], crs: str = UTM, **columns: Sequence[object]) -> Path:
    fields = {"name": [f"n{i}" for i in range(len(shapes))], **columns}
    values = [np.array(column, object if isinstance(column[0], str) else None) for column in fields.values()]
    wkb = np.array([shape.wkb for shape in shapes], object)
    kind = shapes[0].geom_type if len({shape.geom_type for shape in shapes}) == 1 else "Unknown"
    pyogrio.raw.write(path, wkb, values, list(fields), geometry_type=kind, crs=crs, driver="GPKG")
    return path


def prompt_spec(folder: Path, rasters: Sequence[Path], points: Path, output: str = "out.gpkg") -> BatchSpec:
    return BatchSpec(
        BatchTask.PROMPTS,
        BatchRasters(tuple(str(path) for path in rasters)),
        prompts=VectorSource(str(points)),
        outputs=BatchOutputs(str(folder / output)),
    )


class Impatient(NullProgress):
    """Cancels after so many looks."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise CancelledByUser


def do(engine: BatchService, job: Path, spec: BatchSpec | None = None, **more: object) -> BatchResult:
    return engine.run(BatchRunParams(str(job), spec, **more), NullProgress())


def features(path: Path) -> list[tuple[object, ...]]:
    """Return what a file holds but for the time, in an order of its own."""
    facts, _, geometries, values = pyogrio.raw.read(path)
    kept = [
        [None if value != value else value for value in column.tolist()]
        for name, column in zip(facts["fields"], values, strict=True)
        if name != "time"
    ]
    rows = zip(*kept, strict=True)
    found = [
        (shapely.normalize(shapely.from_wkb(wkb)).wkb_hex, *row) for wkb, row in zip(geometries, rows, strict=True)
    ]
    return sorted(found, key=repr)


def row_dicts(path: Path) -> list[dict[str, object]]:
    facts, _, geometries, values = pyogrio.raw.read(path)
    rows = [dict(zip(facts["fields"], row, strict=True)) for row in zip(*values, strict=True)]
    return [{**row, "geometry": shapely.from_wkb(wkb)} for row, wkb in zip(rows, geometries, strict=True)]


def with_options(spec: BatchSpec, **options: object) -> BatchSpec:
    return replace(spec, options=BatchOptions(**options))
