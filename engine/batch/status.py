"""How a job is doing, read from its file: by whoever works on it, and by anybody else meanwhile."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

from ..batch_messages import BatchState, BatchStatus, RasterProgress
from ..provenance import raster_name
from .claim import BEAT_SECONDS, is_claimed
from .items import RasterMark
from .job_file import JobFile

_SHOWN = 3
"""Notes of a raster that are told; the others are counted."""


@dataclass
class Meter:
    """Counts tiles in one run: how fast, and how long it will take.

    Attributes:
        total: tiles of the job, and
        before: of them that were done when the run began.
        done: in this run, and
        free: of those that started the clock, and do not count for the rate.
        begun: when the clock started.
    """

    total: int
    before: int
    done: int = 0
    free: int = 0
    begun: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, job: JobFile) -> Meter:
        """Begin to count."""
        total, done = job.tiles()
        return cls(total, done)

    def add(self, tiles: int) -> None:
        """Count tiles that were done."""
        if not self.done:  # what was done first brought the loading of the model with it, and starts the clock
            self.begun, self.free = time.monotonic(), tiles
        self.done += tiles

    @property
    def fraction(self) -> float:
        """Share of the job that is done."""
        return min(1.0, (self.before + self.done) / max(self.total, 1))

    @property
    def rate(self) -> float:
        """Tiles per second; 0 where not known yet."""
        return rate_of(self.done - self.free, time.monotonic() - self.begun)

    @property
    def sentence(self) -> str:
        """How far the job is, for the user."""
        left = seconds_left(self.total - self.before - self.done, self.rate)
        ending = f", {self.rate:.2g} per second, {in_words(left)} left" if left >= 0 else ""
        return f"{self.before + self.done} of {self.total} tiles{ending}"

    def record(self) -> str:
        """Return what the job file keeps of this run: its rate, and how far it was when."""
        measured = {"tiles": self.done - self.free, "seconds": round(time.monotonic() - self.begun, 3)}
        return json.dumps({**measured, "done": self.before + self.done, "at": round(time.time(), 3)})


def rate_of(tiles: int, seconds: float) -> float:
    """Return tiles per second; 0 where not known yet."""
    return tiles / seconds if tiles > 0 and seconds > 0 else 0.0


def seconds_left(tiles: int, rate: float) -> float:
    """Return the time that tiles will take; negative where not known yet."""
    if tiles <= 0:
        return 0.0
    return tiles / rate if rate > 0 else -1.0


def in_words(seconds: float) -> str:
    """Return a time for people: ``40 s``, ``2 min 20 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 595:  # whole minutes would be a fifth off, and more
        minutes, rest = divmod(10 * round(seconds / 10), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def status_of(job: JobFile) -> BatchStatus:
    """Say how a job is doing.

    Args:
        job: open, whoever works on it.
    """
    state = BatchState(str(job.get("state", BatchState.WAITING.value)))
    working = is_claimed(str(job.get("claim")))
    if working and state is BatchState.WAITING:
        state = BatchState.RUNNING
    elif not working and state is BatchState.WRITING:
        state = BatchState.WAITING
    run = json.loads(str(job.get("run", "{}"))) if working else {}
    rate = rate_of(run.get("tiles", 0), run.get("seconds", 0.0))
    rasters = tuple(_rasters(job, state))
    tiles, done = sum(item.tiles for item in rasters), sum(item.done for item in rasters)
    left = sum(item.tiles - item.done for item in rasters if item.state is not BatchState.FAILED)
    units, units_done = job.units()
    written = json.loads(str(job.get("written", "{}")))
    return BatchStatus(
        job=str(job.path),
        task=job.header.spec.task,
        state=state,
        units=units,
        units_done=units_done,
        tiles=tiles,
        done=done,
        objects=int(str(job.get("objects", ""))) if job.get("objects", "") != "" else sum(i.objects for i in rasters),
        rate=rate if state is BatchState.RUNNING else 0.0,
        seconds_left=run_left(left, done, run) if state is BatchState.RUNNING else -1.0,
        rasters=rasters,
        outputs=tuple(path for path in written),
        notes=tuple(json.loads(str(job.get("notes", "[]")))),
    )


def run_left(tiles: int, done: int, run: dict[str, float]) -> float:
    """Return the time that a run has left, seconds; negative where not known yet.

    Args:
        tiles: of units that are not done.
        done: tiles of those that are.
        run: as :meth:`Meter.record` keeps it.
    """
    begun = max(run.get("done", done) - done, 0)  # tiles of units that are half done
    left = seconds_left(tiles - int(begun), rate_of(int(run.get("tiles", 0)), run.get("seconds", 0.0)))
    if left <= 0:
        return left
    # The record is renewed with each sign of life; clocks of other machines may differ by any time.
    age = time.time() - run.get("at", 0.0)
    return max(left - min(max(age, 0.0), BEAT_SECONDS), 1.0)


_RASTERS = (
    "SELECT raster.number, uri, mark, problem, notes, output, raster.tiles, total(unit.tiles), total(unit.skipped),"
    " (SELECT count(*) FROM object JOIN unit AS its ON its.number = object.unit WHERE its.raster = raster.number)"
    " FROM raster LEFT JOIN unit ON unit.raster = raster.number AND unit.finished IS NOT NULL"
    " GROUP BY raster.number ORDER BY raster.number"
)


def _rasters(job: JobFile, state: BatchState) -> list[RasterProgress]:
    found = []
    for row in job.stream(_RASTERS):
        _, uri, mark, problem, notes, output, tiles, done, skipped, objects = row
        total, finished = int(float(str(tiles))), int(float(str(done)))
        where = BatchState.WAITING
        if str(mark) == RasterMark.BROKEN.value:
            where = BatchState.FAILED
        elif str(mark) == RasterMark.PLANNED.value and finished >= total:
            where = BatchState.FINISHED
        elif finished and state is BatchState.RUNNING:
            where = BatchState.RUNNING
        found.append(
            RasterProgress(
                name=raster_name(str(uri)),
                state=where,
                tiles=total,
                done=finished,
                skipped=int(float(str(skipped))),
                objects=int(str(objects)),
                problem=str(problem) or _few(json.loads(str(notes))),
                output=str(output),
            )
        )
    return found


def _few(notes: list[str]) -> str:
    more = f" (and {len(notes) - _SHOWN} more)" if len(notes) > _SHOWN else ""
    return " ".join(notes[:_SHOWN]) + more
