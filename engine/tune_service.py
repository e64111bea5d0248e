"""The service behind ``tune/inspect``, ``tune/plan``, ``tune/run``, ``tune/watch`` and ``tune/control``."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from ..models.errors import CancelledByUser, OutputError, SamTuneError
from ..models.peft.contract import TuningError
from ..models.peft.selective import DecoderConfig
from .messages import Done
from .model_service import ModelService
from .progress import Progress
from .tune_ladder import Rung as LadderRung
from .tune_ladder import Situation, recommended, rungs
from .tune_live import Live
from .tune_messages import (
    ControlParams,
    Inspection,
    InspectParams,
    PlanParams,
    Rung,
    RunState,
    TuneAction,
    TuneParams,
    TunePlan,
    TuneReport,
    TuneRunParams,
    TuneWatch,
    WatchParams,
)
from .tune_options import words_of
from .tune_request import chosen_rung, settings_of, situation_of
from .tuning.inspection import inspect, usable
from .tuning.loop import CHECKPOINT
from .tuning.report import report_of
from .tuning.result import Estimate
from .tuning.run import estimate, tune
from .tuning.settings import Task, TuneSettings

_FULL = 0.95
"""Share of the memory that a run may take."""

_SPARE_DISK = 200_000_000
"""Bytes to be left on the disk."""


class TuneService:
    """Answers requests about tuning. One run at a time; watched and controlled from other threads."""

    def __init__(self, models: ModelService) -> None:
        """Join the parts.

        Args:
            models: gives the base models, on the device to train on.
        """
        self._models = models
        self._live: dict[Path, Live] = {}

    def inspect(self, params: InspectParams, progress: Progress) -> Inspection:
        """Say what there is to learn from. What the user can mend is told as a problem, not raised.

        Args:
            params: what to look at.
            progress: told what is being done; may stop the work.

        Raises:
            CancelledByUser: from ``progress.check``.
        """
        try:
            run = TuneParams(params.inputs, params.task, "", "", hold_out=params.hold_out, seed=params.seed)
            settings = _only_labels(run)
            size = self._models.card(params.inputs.model).input_size
            return inspect(settings, size, params.pictures, params.side, progress)
        except SamTuneError as error:
            return Inspection(problem=error.user_text)

    def plan(self, params: PlanParams, progress: Progress) -> TunePlan:
        """Say what a run would take, and which rung is recommended. What speaks against it is told, not raised.

        Args:
            params: the run, and whether to time some of its steps.
            progress: told what is being done; may stop the work.

        Raises:
            CancelledByUser: from ``progress.check``.
        """
        run = params.run
        situation = situation_of(run, 0, self._models.device)
        try:
            situation = self._situation(run, progress)
            rung = chosen_rung(run, situation)
            settings = settings_of(run, rung)
        except SamTuneError as error:
            return dataclasses.replace(self._recommended(situation), methods=run.methods, problem=error.user_text)
        plan = self._recommended(situation)
        methods = run.methods or (() if rung is None else rung.names)
        names = words_of(settings.methods, settings.schedule)[0].split(",")
        plan = dataclasses.replace(
            plan,
            chosen="" if rung is None else rung.name,
            methods=tuple(methods or names),
            steps=settings.schedule.steps,
            disk_free=_free(settings.work_folder),
        )
        if rung is not None and not rung.possible:
            return dataclasses.replace(plan, problem=_IMPOSSIBLE.format(rung.title))
        return self._measured(plan, settings, progress) if params.measure else plan

    def run(self, params: TuneRunParams, progress: Progress) -> TuneReport:
        """Do a run.

        Args:
            params: the run, and whether to go on with the one kept in its folder.
            progress: told about every step; may stop the work, which leaves a checkpoint.

        Raises:
            SamTuneError: the data or a method cannot be used, memory or disk do not suffice; or there is a checkpoint,
                and nobody asked to go on from it.
            CancelledByUser: from ``progress.check``.
        """
        run = params.run
        if not params.resume and _kept(Path(run.folder)):
            raise TuningError(f"An interrupted run is kept in {run.folder}. Go on with it, or choose another folder.")
        live = Live(run)
        self._live = {_key(run.folder): live}
        try:
            live.entered(RunState.PREPARING)
            report = self._run(run, live, progress, resume=params.resume)
        except CancelledByUser:
            live.ends(RunState.CANCELLED)
            raise
        except BaseException:
            live.ends(RunState.FAILED)
            raise
        live.finishes(report)
        return report

    def watch(self, params: WatchParams, _progress: Progress) -> TuneWatch:
        """Say how the run in a folder is doing: see :class:`.tune_messages.TuneWatch`."""
        live = self._live.get(_key(params.folder))
        return TuneWatch(RunState.CANCELLED) if live is None else live.watch(params)

    def control(self, params: ControlParams, _progress: Progress) -> Done:
        """Pause, resume or finish the run in a folder.

        Raises:
            TuningError: no such run is under way.
        """
        live = self._live.get(_key(params.folder))
        if live is None or live.over:
            raise TuningError("This run is not under way any more. Start it anew, or go on with it.")
        live.act(params.action)
        return Done(_DONE[params.action])

    def _run(self, run: TuneParams, live: Live, progress: Progress, *, resume: bool) -> TuneReport:
        settings = settings_of(run, chosen_rung(run, self._situation(run, progress)))
        try:
            settings.output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The folder {settings.output.parent} cannot be made. Choose another output.", str(error)
            ) from error
        result = tune(settings, self._models, progress, resume=resume, observer=live)
        return report_of(settings, result)

    def _situation(self, run: TuneParams, progress: Progress) -> Situation:
        progress.report(-1.0, "Reading the labels")
        objects = usable(_only_labels(run), self._models.card(run.inputs.model).input_size, progress)
        return situation_of(run, objects, self._models.device)

    def _recommended(self, situation: Situation) -> TunePlan:
        device, best = self._models.device, recommended(situation)
        told = tuple(_told(rung) for rung in rungs(situation))
        return TunePlan(told, best.name, best.reason, "", (), 0, device.name, device.reason)

    def _measured(self, plan: TunePlan, settings: TuneSettings, progress: Progress) -> TunePlan:
        try:
            found = estimate(settings, self._models, progress)
        except SamTuneError as error:
            return dataclasses.replace(plan, problem=error.user_text)
        return dataclasses.replace(
            plan,
            seconds=found.seconds,
            per_step=found.per_step,
            memory=found.memory,
            available=found.available,
            disk=found.disk,
            file_bytes=found.file_bytes,
            trainable=found.trainable,
            measured=True,
            problem=_too_much(found, plan.disk_free),
            notes=found.notes,
        )


_IMPOSSIBLE = "{}: this needs further bands, or a second raster. Name them first."
_DONE = {
    TuneAction.PAUSE: "The run is held after this step.",
    TuneAction.RESUME: "The run goes on.",
    TuneAction.FINISH: "The run ends after this step; the best weights so far are kept.",
}


def _only_labels(run: TuneParams) -> TuneSettings:
    """Return settings to read labels and pictures by, with nothing that takes time besides."""
    inputs = dataclasses.replace(run.inputs, further=(), second="")
    plain = TuneParams(inputs, run.task, run.output, run.folder, hold_out=run.hold_out, seed=run.seed)
    methods = (DecoderConfig.method,) if Task(run.task.value) is Task.PROMPTABLE else ("head",)
    return settings_of(dataclasses.replace(plain, methods=methods), None)


def _told(rung: LadderRung) -> Rung:
    return Rung(rung.name, rung.title, rung.names, rung.schedule.steps, rung.reason, rung.possible)


def _too_much(found: Estimate, disk_free: int) -> str:
    """Say why a run does not fit on this machine; empty where it does."""
    if found.available and found.memory > _FULL * found.available:
        return (
            f"This needs about {found.memory / 1e9:.1f} GB of memory, and there are {found.available / 1e9:.1f} GB. "
            "Close other programs, or choose a lighter rung or a smaller model."
        )
    needed = found.disk + found.file_bytes + _SPARE_DISK
    if disk_free and needed > disk_free:
        return (
            f"This needs about {needed / 1e9:.1f} GB on the disk, and {disk_free / 1e9:.1f} GB are free. Make room "
            "there, or use fewer objects."
        )
    return ""


def _kept(folder: Path) -> bool:
    """Say whether a folder has a checkpoint: of its run, or of one of several trainings."""
    return (folder / CHECKPOINT).is_file() or any(folder.glob(f"*/{CHECKPOINT}"))


def _free(folder: Path) -> int:
    """Return the bytes that are free where a folder is, or will be; 0 where that cannot be told."""
    place = next((parent for parent in (folder, *folder.parents) if parent.is_dir()), None)
    return 0 if place is None else shutil.disk_usage(place).free


def _key(folder: str) -> Path:
    return Path(folder).absolute()
