"""How batch jobs are said to people: tasks, states, times. Changes nothing."""

from __future__ import annotations

from enum import Enum

from qgis.PyQt.QtCore import QCoreApplication

from ..engine.batch_messages import BatchEstimate, BatchState, BatchStatus, BatchTask
from .status import size_text

translate = QCoreApplication.translate


class Standing(Enum):
    """Where a job is, as the user sees it.

    PREPARING: features are written, or it waits for its turn, or for the engine. INTERRUPTED: it was running when QGIS
    or its engine ended. STOPPED: by an error. MISSING: its file is not where it was.
    """

    PREPARING = "preparing"
    RUNNING = "running"
    WRITING = "writing"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    FINISHED = "finished"
    MISSING = "missing"


def task_name(task: BatchTask) -> str:
    """Name a task."""
    names = {
        BatchTask.PROMPTS: translate("Batch", "Segment from a layer"),
        BatchTask.AUTOMATIC: translate("Batch", "Segment everything"),
        BatchTask.FIND: translate("Batch", "Find all objects"),
        BatchTask.MAP: translate("Batch", "Class map"),
        BatchTask.EMBEDDINGS: translate("Batch", "Warm the cache"),
    }
    return str(names[task])


def task_text(task: BatchTask) -> str:
    """Say in a sentence what a task does."""
    texts = {
        BatchTask.PROMPTS: translate(
            "Batch", "Each point, box or polygon of a layer becomes one object, and keeps its attributes."
        ),
        BatchTask.AUTOMATIC: translate("Batch", "Whatever the model takes for an object is outlined."),
        BatchTask.FIND: translate("Batch", "All objects of the classes that an adapter was tuned to find."),
        BatchTask.MAP: translate("Batch", "Every pixel gets a class, with an adapter that was tuned to map them."),
        BatchTask.EMBEDDINGS: translate(
            "Batch", "Imagery is encoded now, so that clicks on it are answered at once later. Nothing is written."
        ),
    }
    return str(texts[task])


def standing_name(standing: Standing) -> str:
    """Name where a job is."""
    names = {
        Standing.PREPARING: translate("Batch", "preparing"),
        Standing.RUNNING: translate("Batch", "running"),
        Standing.WRITING: translate("Batch", "writing the results"),
        Standing.PAUSED: translate("Batch", "paused"),
        Standing.INTERRUPTED: translate("Batch", "interrupted"),
        Standing.STOPPED: translate("Batch", "stopped"),
        Standing.FINISHED: translate("Batch", "finished"),
        Standing.MISSING: translate("Batch", "file missing"),
    }
    return str(names[standing])


def raster_state(state: BatchState) -> str:
    """Name where a raster is."""
    names = {
        BatchState.WAITING: translate("Batch", "waiting"),
        BatchState.RUNNING: translate("Batch", "running"),
        BatchState.WRITING: translate("Batch", "writing"),
        BatchState.FINISHED: translate("Batch", "done"),
        BatchState.FAILED: translate("Batch", "failed"),
    }
    return str(names[state])


def time_text(seconds: float) -> str:
    """Say a time for people."""
    if seconds < 90:
        return str(translate("Batch", "{count} s").format(count=max(1, round(seconds))))
    if seconds < 595:  # whole minutes would be a fifth off, and more
        minutes, rest = divmod(10 * round(seconds / 10), 60)
        if rest:
            return str(translate("Batch", "{count} min {rest} s").format(count=minutes, rest=rest))
        return str(translate("Batch", "{count} min").format(count=minutes))
    if seconds < 90 * 60:
        return str(translate("Batch", "{count} min").format(count=round(seconds / 60)))
    if seconds < 48 * 3600:
        return str(translate("Batch", "{count} h").format(count=f"{seconds / 3600:.1f}"))
    return str(translate("Batch", "{count} days").format(count=f"{seconds / 86400:.1f}"))


def count_text(count: int) -> str:
    """Write a whole number so that it can be read."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def rasters_text(count: int) -> str:
    """Say a number of rasters."""
    if count == 1:
        return str(translate("Batch", "1 raster"))
    return str(translate("Batch", "{count} rasters").format(count=count_text(count)))


def objects_text(count: int) -> str:
    """Say a number of objects."""
    if count == 1:
        return str(translate("Batch", "1 object"))
    return str(translate("Batch", "{count} objects").format(count=count_text(count)))


def estimate_lines(estimate: BatchEstimate, task: BatchTask) -> list[tuple[str, str]]:
    """Return what a job would take, as name and value."""
    rasters = count_text(estimate.rasters)
    if estimate.failed:
        bad = translate("Batch", "{good}, and {bad} that cannot be used")
        rasters = bad.format(good=rasters, bad=count_text(len(estimate.failed)))
    what = translate("Batch", "Objects") if task is BatchTask.PROMPTS else translate("Batch", "Tiles")
    time = translate("Batch", "being measured…") if estimate.seconds < 0 else time_text(estimate.seconds)
    if estimate.device:
        time = translate("Batch", "{time} on {device}").format(time=time, device=estimate.device)
    disk = translate("Batch", "{size} of {free} free")
    return [
        (str(translate("Batch", "Rasters")), str(rasters)),
        (str(what), count_text(estimate.tiles)),
        (str(translate("Batch", "Time")), str(time)),
        (
            str(translate("Batch", "Disk")),
            str(disk.format(size=size_text(estimate.disk), free=size_text(estimate.disk_free))),
        ),
    ]


def progress_sentence(status: BatchStatus) -> str:
    """Say how far a job is: done of all, rate, time left."""
    unit = translate("Batch", "objects") if status.task is BatchTask.PROMPTS else translate("Batch", "tiles")
    parts = [
        translate("Batch", "{done} of {all} {unit}").format(
            done=count_text(status.done), all=count_text(status.tiles), unit=unit
        )
    ]
    if status.objects and status.task is not BatchTask.PROMPTS:
        parts.append(objects_text(status.objects))
    if status.rate > 0:
        parts.append(translate("Batch", "{rate} {unit}/s").format(rate=f"{status.rate:.3g}", unit=unit))
    if status.seconds_left >= 0 and status.state is not BatchState.FINISHED:
        parts.append(translate("Batch", "{time} left").format(time=time_text(status.seconds_left)))
    return " · ".join(str(part) for part in parts)


def summary_sentence(status: BatchStatus) -> str:
    """Say what came of a finished job."""
    failed = sum(raster.state is BatchState.FAILED for raster in status.rasters)
    good = len(status.rasters) - failed
    if status.task in (BatchTask.MAP, BatchTask.EMBEDDINGS):
        text = translate("Batch", "{rasters} done").format(rasters=rasters_text(good))
    else:
        text = translate("Batch", "{objects} in {rasters}").format(
            objects=objects_text(status.objects), rasters=rasters_text(good)
        )
    if failed:
        text += translate("Batch", "; {count} could not be used, see the table").format(count=count_text(failed))
    return f"{text}."
