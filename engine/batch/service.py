"""The service behind ``batch/estimate``, ``batch/run`` and ``batch/status``, and behind ``samtune batch``."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...models import registry
from ...models.errors import OutputError, SamTuneError, StoreError
from ..batch_messages import (
    BatchEstimate,
    BatchResult,
    BatchRunParams,
    BatchSpec,
    BatchState,
    BatchStatus,
    BatchStatusParams,
    BatchTask,
    EstimateParams,
)
from ..progress import Progress
from .coordinate import Coordinator, adapter_place
from .estimate import beyond_store, disk_bytes, estimate
from .executors import Executor, LocalExecutor
from .features import read_area, read_prompts
from .items import JobHeader, Machine, Prompts
from .job_file import SUFFIX, JobFile
from .outputs import OutputWriter, absolute
from .rasters import expand
from .spec import complete, header_of
from .status import status_of
from .worker import Setup, Worker

if TYPE_CHECKING:
    from ..model_service import ModelService
    from ..segmenter import Segmenter


class BatchService:
    """Makes, does, resumes and describes jobs. ``status`` may be asked while another thread does a job."""

    def __init__(
        self, machine: Machine, models: ModelService | None = None, segmenter: Segmenter | None = None
    ) -> None:
        """Prepare.

        Args:
            machine: folders and device.
            models: a service that is there already; None makes one with the first job.
            segmenter: likewise.
        """
        self._machine, self._models, self._segmenter = machine, models, segmenter

    def estimate(self, params: EstimateParams, progress: Progress) -> BatchEstimate:
        """Say what a job would take.

        Args:
            params: the job.
            progress: hears of the rasters; may cancel.
        """
        try:
            spec, card = complete(replace(params.spec, outputs=absolute(params.spec.outputs)))
            prompts = _prompts(spec)
            setup = Setup(header_of(spec, card, prompts), read_area(spec.area), self._machine)
            rasters = expand(spec.rasters, Path.cwd())
        except SamTuneError as error:
            return BatchEstimate(0, (), 0, 0, problem=error.user_text)
        worker = Worker(setup, self._models, self._segmenter)
        return estimate(worker, rasters, prompts.features, progress, measure=params.measure)

    def run(self, params: BatchRunParams, progress: Progress) -> BatchResult:
        """Do a job, or go on with one.

        Args:
            params: which, and how.
            progress: hears of the work; may cancel, which leaves a job that can be resumed.

        Raises:
            SamTuneError: the job cannot be made or gone on with; what is done is kept.
        """
        begun = time.monotonic()
        path = Path(params.job).expanduser().absolute()
        if params.spec is not None:
            make_job(path, params.spec)
        with JobFile(path) as job, job.claim() as claim:
            outputs = absolute(params.outputs or job.header.spec.outputs)
            writer = OutputWriter(job, claim, outputs, progress)
            writer.check()
            setup = Setup(_here(job.header, path, params.root), job.area, self._machine)
            coordinator = Coordinator(job, claim, setup, progress, params.root)
            rasters = coordinator.look()
            _refuse_overflow(job, self._machine.store_bytes)
            coordinator.run(rasters, lambda known: self._executor(known, params.scheduler))
            _refuse_nothing(status_of(job))
            writer.write()
            status = status_of(job)
        return BatchResult(status, time.monotonic() - begun, f"samtune batch resume {path}")

    def status(self, params: BatchStatusParams, progress: Progress) -> BatchStatus:
        """Say how a job is doing.

        Args:
            params: which.
            progress: not used: it is quick.

        Raises:
            OutputError: there is no such job.
        """
        progress.check()
        with JobFile(Path(params.job).expanduser().absolute()) as job:
            return status_of(job)

    def _executor(self, setup: Setup, scheduler: str) -> Executor:
        if scheduler:
            from .dask_executor import DaskExecutor

            return DaskExecutor(scheduler, setup)
        return LocalExecutor(Worker(setup, self._models, self._segmenter))


def make_job(path: Path, spec: BatchSpec) -> None:
    """Make a job file; its rasters are not looked at yet.

    Args:
        path: of the file.
        spec: what is to be done.

    Raises:
        SamTuneError: the job contradicts itself, or its files cannot be read or written.
    """
    if path.suffix.lower() != SUFFIX:
        raise OutputError(f"{path} is no name of a job. Give one that ends in {SUFFIX}.")
    if not path.parent.is_dir():
        raise OutputError(f"There is no folder {path.parent}. Make it first.")
    adapter = str(Path(spec.adapter).expanduser().absolute()) if spec.adapter else ""
    completed, card = complete(replace(spec, outputs=absolute(spec.outputs), adapter=adapter))
    prompts = _prompts(completed)
    header = header_of(completed, card, prompts)
    rasters = expand(completed.rasters, path.parent)
    JobFile.create(path, header, read_area(completed.area), rasters, prompts.features).close()


def _prompts(spec: BatchSpec) -> Prompts:
    if spec.task is not BatchTask.PROMPTS:
        return Prompts()
    return read_prompts(spec.prompts, spec.class_field, spec.class_name)


def _here(header: JobHeader, job: Path, root: str) -> JobHeader:
    """Return a job's header with its adapter's path as it is here."""
    return replace(header, spec=replace(header.spec, adapter=adapter_place(header.spec.adapter, job, root)))


def _refuse_overflow(job: JobFile, cap: int) -> None:
    """Stop before encoding what the store cannot keep; with a larger cap the job can be resumed."""
    spec = job.header.spec
    needed = disk_bytes(spec.task, job.tiles()[0], registry.card(spec.model).input_size)
    problem = beyond_store(spec.task, needed, cap)
    if problem:
        raise StoreError(problem)


def _refuse_nothing(status: BatchStatus) -> None:
    """Stop before writing outputs where no raster could be used."""
    failed = [item for item in status.rasters if item.state is BatchState.FAILED]
    if len(failed) == len(status.rasters) and not status.done:
        reasons = "; ".join(f"{item.name}: {item.problem}" for item in failed[:3])
        raise SamTuneError(
            f"None of the job's rasters could be used. {reasons}", "\n".join(item.problem for item in failed)
        )
