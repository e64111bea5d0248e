"""What the sections share: options, jobs with a store of their own, and a progress that counts tiles."""

from __future__ import annotations

import importlib.util
import math
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from samtune.engine.batch.items import Machine
from samtune.engine.batch.service import BatchService
from samtune.engine.batch_messages import (
    BatchOptions,
    BatchOutputs,
    BatchRasters,
    BatchRunParams,
    BatchSpec,
    BatchTask,
    VectorSource,
)
from samtune.engine.model_service import ModelService
from samtune.models.errors import CancelledByUser

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "benchmarks" / "batch.py"
SAMPLE = ROOT / "docs" / "sample" / "neon_osbs.tif"
SCENE = SAMPLE.with_name("landsat_raleigh.tif")
SEED = 0
MANY = {"iou": 0.01, "stability": 0.01}
"""Options with which a job that outlines everything keeps nearly all that the model answers."""


@dataclass(frozen=True)
class Options:
    """How the program was called.

    Attributes:
        folder: for rasters, jobs and stores; empty at first.
        report: the module of tables.
        quick: few tiles, to see that it runs.
        kills: how often something is killed.
        data: folder with GeoTIFFs for the seams; None for the sample.
        picture: PNG that is written with the seams; None for none.
    """

    folder: Path
    report: ModuleType
    quick: bool
    kills: int
    data: Path | None
    picture: Path | None


class Counting:
    """Notes when tiles were done, and stops after so many."""

    def __init__(self, most: float = math.inf) -> None:
        """Begin.

        Args:
            most: tiles; then the job is cancelled.
        """
        self.times: list[float] = []
        self._most = most

    def report(self, _fraction: float, message: str) -> None:
        """Note the time of each report about tiles."""
        if " tiles" in message:
            self.times.append(time.perf_counter())

    def check(self) -> None:
        """Stop when there are enough."""
        if len(self.times) >= self._most:
            raise CancelledByUser

    def rate(self, beginning: int = 1) -> float:
        """Return reports per second after the first ones, which brought the loading with them."""
        return (len(self.times) - beginning) / (self.times[-1] - self.times[beginning - 1])


def spec_of(
    raster: Path, task: BatchTask, output: Path | None = None, prompts: Path | None = None, **options: float
) -> BatchSpec:
    """Return a job on one raster.

    Args:
        raster: of the job.
        task: of the job.
        output: vector file; None for none.
        prompts: points; None for none.
        options: of the job, that differ from the usual ones.
    """
    return BatchSpec(
        task,
        BatchRasters((str(raster),), bands=(1, 2, 3)),
        prompts=VectorSource(str(prompts) if prompts else ""),
        outputs=BatchOutputs(str(output) if output else ""),
        options=BatchOptions(**options),
    )


def run_job(
    folder: Path,
    spec: BatchSpec,
    counting: Counting,
    models: ModelService | None = None,
    scheduler: str = "",
) -> Path:
    """Do a job with a store of its own on one thread; return its file.

    Args:
        folder: for the job and the store.
        spec: of the job.
        counting: hears of it, and may end it early.
        models: loaded ones; None for new ones.
        scheduler: address of a Dask scheduler; empty for this process.
    """
    name = f"{time.monotonic_ns()}"
    job = folder / f"{name}.samjob"
    # Jobs are stopped long before a large raster's embeddings would fill any disk.
    machine = Machine(store_dir=str(folder / f"store-{name}"), device="cpu", threads=1, store_bytes=1 << 50)
    service = BatchService(machine, models)
    try:
        service.run(BatchRunParams(str(job), spec, scheduler=scheduler), counting)
    except CancelledByUser:
        return job
    return job


def has_distributed() -> bool:
    """Return whether Dask's ``distributed`` is there."""
    return importlib.util.find_spec("distributed") is not None
