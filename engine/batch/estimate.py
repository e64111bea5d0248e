"""What a job would take: its tiles counted, a few of them done for the time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...models.errors import CancelledByUser, PromptError, RasterError, SamTuneError, TuningError
from ..batch_messages import BatchEstimate, BatchTask
from ..messages import RasterInfo
from ..paths import chosen, default_folders
from ..progress import Progress
from .items import Feature, JobRaster, RasterMark, Unit, UnitResult
from .pipeline import Pipeline
from .planning import area_in, level_for, plan_of, prompt_units, tile_units
from .rasters import look_at, usable_together
from .status import in_words
from .worker import Order, Worker

MEASURED = 12
"""Tiles that are timed at most; the first one brings the loading of the model with it and does not count."""

TILE_BYTES = {
    BatchTask.MAP: 40_000,
    BatchTask.FIND: 20_000,
    BatchTask.AUTOMATIC: 60_000,
    BatchTask.PROMPTS: 3_000,
}
"""Bytes that a tile (an object, of prompts) takes on disk, roughly: job file and outputs."""

GIB = 1024**3


def disk_bytes(task: BatchTask, tiles: int, size: int) -> int:
    """Return what a job takes on disk, roughly: job file and outputs; of embeddings the store.

    Args:
        task: what is done.
        tiles: in it; of prompts: objects.
        size: of the model's input, pixels.
    """
    # 256 channels of two bytes for every 16 x 16 pixels, and what the file says besides.
    each = 2 * 256 * (size // 16) ** 2 + 6_000 if task is BatchTask.EMBEDDINGS else TILE_BYTES[task]
    return tiles * each


def beyond_store(task: BatchTask, needed: int, cap: int) -> str:
    """Say why embeddings cannot all be kept: the store drops the oldest ones to stay within its cap.

    Args:
        task: what is done; others than embeddings keep nothing there for good.
        needed: bytes, see :func:`disk_bytes`.
        cap: of the store, bytes.

    Returns:
        A sentence for the user; empty where they can.
    """
    if task is not BatchTask.EMBEDDINGS or needed <= cap:
        return ""
    return (
        f"The embeddings take about {needed / GIB:.2g} GiB, and the store may hold {cap / GIB:.2g} GiB: the first "
        f"would be dropped before the last are made. Allow it more (samtune batch --store-gib {-(-needed // GIB)}, or "
        "in QGIS the options of SamTune), or take a smaller area or a coarser level."
    )


class Estimator:
    """Counts the units of a job's rasters, and keeps some to be timed."""

    def __init__(self, worker: Worker, features: Sequence[Feature], progress: Progress) -> None:
        """Join the parts.

        Args:
            worker: of the job.
            features: its prompts.
            progress: hears of the rasters; may cancel.
        """
        self._worker, self._progress = worker, progress
        self._free = {feature.number: feature for feature in features}
        self._left = set(self._free)
        self.failed: list[str] = []
        self.orders: list[Order] = []
        self.units = self.tiles = self.usable = 0

    def count(self, rasters: Sequence[JobRaster]) -> None:
        """Look at rasters and count."""
        crs_wkt, first = "", True
        for number, raster in enumerate(rasters):
            self._progress.check()
            self._progress.report(0.5 * number / len(rasters), f"Looking at raster {number + 1} of {len(rasters)}")
            try:
                spec = self._worker.setup.header.spec
                info, _ = look_at(raster.uri, spec.rasters.bands, spec.rasters.stretch)
                usable_together(info, crs_wkt, first=first)
                crs_wkt, first = info.crs_wkt if first else crs_wkt, False
                level = level_for(spec, info, self._worker.input_size)
                planned = replace(raster, info=info, mark=RasterMark.PLANNED, level=level)
                self._add(planned, info)
            except (RasterError, TuningError) as error:
                self.failed.append(f"{Path(raster.uri).name}: {error.user_text}")

    def _add(self, raster: JobRaster, info: RasterInfo) -> None:
        self.usable += 1
        for unit in self._units(raster, info):
            self.units += 1
            self.tiles += unit.tiles
            if sum(order.unit.tiles for order in self.orders) < MEASURED:
                self.orders.append(Order(unit, raster, tuple(self._free[number] for number in unit.features)))

    def _units(self, raster: JobRaster, info: RasterInfo) -> list[Unit]:
        setup, size = self._worker.setup, self._worker.input_size
        header, options = setup.header, setup.header.spec.options
        if header.spec.task is BatchTask.PROMPTS:
            area = area_in(setup.area, info)
            left = [self._free[number] for number in sorted(self._left)]
            units = prompt_units(left, header.prompts_crs, info, size, area)
            taken = {number for unit in units for number in unit.features}
            self._left -= taken
            return units
        try:
            levels = range(options.levels if header.spec.task is BatchTask.AUTOMATIC else 1)
            plans = [(coarser, plan_of(header, setup.area, raster, size, coarser)) for coarser in levels]
            return [unit for coarser, plan in plans for unit in tile_units(plan, options.tiles, coarser)]
        except PromptError:  # the area lies elsewhere
            return []

    def measure(self) -> float:
        """Do a few tiles; return seconds per tile, negative where none could be done."""
        counted: list[float] = []

        def tick(_work: object, _tiles: int) -> None:
            counted.append(time.monotonic())
            self._progress.report(0.5 + 0.5 * min(len(counted) / MEASURED, 1.0), "Timing a few tiles")
            if len(counted) > MEASURED:
                raise _Enough

        def forget(_result: UnitResult) -> None:
            """Nothing is kept."""

        try:
            Pipeline(self._progress.check, tick).run((self._worker.work(order) for order in self.orders), forget)
        except _Enough:
            self._progress.check()
        return (counted[-1] - counted[0]) / (len(counted) - 1) if len(counted) > 1 else -1.0


class _Enough(CancelledByUser):
    """Enough tiles are timed."""


def estimate(
    worker: Worker, rasters: Sequence[JobRaster], features: Sequence[Feature], progress: Progress, *, measure: bool
) -> BatchEstimate:
    """Say what a job would take.

    Args:
        worker: of the job.
        rasters: its rasters, not looked at yet.
        features: its prompts.
        progress: hears of the work; may cancel.
        measure: time a few real tiles.
    """
    found = Estimator(worker, features, progress)
    found.count(rasters)
    spec = worker.setup.header.spec
    disk = disk_bytes(spec.task, found.tiles, worker.input_size)
    problem = beyond_store(spec.task, disk, worker.setup.machine.store_bytes)
    if not found.tiles:
        problem = f"There is nothing to do. {' '.join(found.failed[:3])}".strip()
    each = -1.0
    if measure and not problem:
        try:
            each = found.measure()
        except SamTuneError as error:
            problem = error.user_text
    seconds = each * found.tiles if each > 0 else -1.0
    where = _where(worker)
    free = shutil.disk_usage(where).free
    notes = []
    if disk > free:
        notes.append(f"The disk of {where} may not suffice: {disk / 1e9:.1f} GB are needed, {free / 1e9:.1f} are free.")
    if seconds > 0:
        notes.append(f"About {in_words(seconds)}, measured on a few tiles.")
    return BatchEstimate(
        rasters=found.usable,
        failed=tuple(found.failed),
        units=found.units,
        tiles=found.tiles,
        seconds=seconds,
        disk=disk,
        disk_free=free,
        device=worker.models.device.name,
        problem=problem,
        notes=tuple(notes),
    )


def _where(worker: Worker) -> Path:
    """Return the folder whose disk fills up: the nearest one that exists."""
    spec = worker.setup.header.spec
    place = Path(spec.outputs.vector).parent if spec.outputs.vector else Path(spec.outputs.maps or ".")
    if spec.task is BatchTask.EMBEDDINGS:
        place = chosen(worker.setup.machine.store_dir, default_folders().store)
    place = place.absolute()
    return next((folder for folder in (place, *place.parents) if folder.is_dir()), Path.cwd())
