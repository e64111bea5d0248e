"""Kill -9 at random moments: of the job's process, of an engine with a job in it, of a Dask worker.

A job is begun, something of it is killed, and it is resumed, by whatever comes next, until it ends; then its result is
compared, feature for feature, with that of a job that was left alone, and the next job is begun. So one job may meet
all kinds of death. It outlines everything, in units of one tile: there are many objects that lie across units.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samtune.engine.batch.items import Machine
from samtune.engine.batch.job_file import JobFile
from samtune.engine.batch.service import BatchService, make_job
from samtune.engine.batch_messages import BatchRunParams, BatchTask
from samtune.engine.messages import EngineSettings, Method
from samtune.engine.progress import NullProgress
from samtune.plugin.engine_process import EngineProcess

from .base import MANY, PROGRAM, ROOT, SEED, Options, has_distributed, spec_of
from .cluster import Cluster
from .scenes import contents, mosaic

Way = Callable[[Path, float], bool]
"""Goes on with a job, kills after so many seconds; says whether there was something to kill."""


@dataclass
class Record:
    """What happened.

    Attributes:
        kills: of each kind.
        within: kills at which some units were done and others not.
        jobs: that ended, and
        equal: of those with the same result as the one that was left alone.
    """

    kills: Counter[str] = field(default_factory=Counter)
    within: int = 0
    jobs: int = 0
    equal: int = 0


class Kills:
    """One raster, one job after the other."""

    def __init__(self, options: Options) -> None:
        """Make the raster.

        Args:
            options: of the program.
        """
        self._folder = options.folder
        side = 896 if options.quick else 1_280
        self._raster = mosaic(self._folder / "kills.vrt", side, side)
        self.rng = random.Random(SEED)
        self.record = Record()
        self._number = 0

    def new(self) -> Path:
        """Make the next job."""
        self._number += 1
        job = self._folder / f"kills-{self._number}.samjob"
        make_job(job, spec_of(self._raster, BatchTask.AUTOMATIC, output_of(job), **MANY, points=2, tiles=1))
        return job

    def process(self, job: Path, seconds: float) -> bool:
        """Kill the process that does the job."""
        return self._ended_late(self.command(job), seconds)

    def command(self, job: Path, scheduler: str = "") -> list[str]:
        """Return the command that goes on with a job."""
        return [sys.executable, str(PROGRAM), "--child", "job", str(job), str(self._folder), scheduler]

    def _ended_late(self, command: list[str], seconds: float) -> bool:
        process = subprocess.Popen(command)
        try:
            ended = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True
        if ended:
            raise SystemExit(f"The job ended with {ended}: {command}")
        return False

    def engine(self, job: Path, seconds: float) -> bool:
        """Kill an engine, started as QGIS starts the one for long work."""
        command = [sys.executable, "-I", "-B", "-X", "utf8", str(ROOT / "engine" / "bootstrap.py"), "serve"]
        settings = EngineSettings("cpu", 1, str(self._folder / "store"), background=True)
        engine = EngineProcess(lambda: command, settings)
        end = time.monotonic() + seconds
        request = engine.request(Method.BATCH_RUN, BatchRunParams(str(job)))
        while time.monotonic() < end and not request.done():
            time.sleep(0.02)
        if request.done():
            request.result(0)  # raises what went wrong
            engine.close()
        elif engine.pid is not None:
            os.kill(engine.pid, signal.SIGKILL)
        else:
            raise SystemExit("The engine's process did not start.")
        killed = not request.done()
        engine.wait(60)
        return killed

    def worker(self, cluster: Cluster) -> Way:
        """Return what kills a worker, and starts another one; the others go on."""

        def way(job: Path, seconds: float) -> bool:
            process = subprocess.Popen(self.command(job, cluster.address))
            try:
                process.wait(seconds)
                killed = False
            except subprocess.TimeoutExpired:
                killed = True
                cluster.kill_one(self.rng)
            if process.wait():
                raise SystemExit(f"The job ended with {process.returncode} on the cluster.")
            return killed

        return way

    def run(self, ways: dict[str, Way], wanted: int) -> None:
        """Kill so often, with the kinds in turn but in random order, and compare all results."""
        whole = self.new()
        begun = time.monotonic()
        subprocess.run(self.command(whole), check=True)
        lasts = time.monotonic() - begun
        expected = contents(output_of(whole))
        names = [list(ways)[number % len(ways)] for number in range(wanted)]
        self.rng.shuffle(names)
        job = self.new()
        while names:
            if ways[names[-1]](job, self.rng.uniform(0.0, lasts)):
                self.record.kills[names.pop()] += 1
                self._note(job)
            else:  # it ended first
                self._compare(job, expected)
                job = self.new()
        subprocess.run(self.command(job), check=True)
        self._compare(job, expected)

    def _note(self, job: Path) -> None:
        with JobFile(job) as opened:
            units, done = opened.units()
        self.record.within += 0 < done < units

    def _compare(self, job: Path, expected: list[str]) -> None:
        """Compare a job that has ended."""
        self.record.jobs += 1
        self.record.equal += contents(output_of(job)) == expected


def output_of(job: Path) -> Path:
    """Return where a job's objects go."""
    return job.with_suffix(".gpkg")


def child(job: Path, folder: Path, scheduler: str) -> None:
    """Go on with a job."""
    service = BatchService(Machine(store_dir=str(folder / "store"), device="cpu", threads=1))
    service.run(BatchRunParams(str(job), scheduler=scheduler), NullProgress())


def measure(options: Options) -> list[Any]:
    """Kill, resume, compare."""
    row = options.report.Row
    found = Kills(options)
    rows = []
    with ExitStack() as stack:
        ways: dict[str, Way] = {"the job's process": found.process, "an engine": found.engine}
        if has_distributed():
            ways["a Dask worker"] = found.worker(stack.enter_context(Cluster(options.folder, 2)))
        else:
            rows.append(row("kills of a Dask worker: not measured", 0, "", "", "distributed is not installed"))
        found.run(ways, options.kills)
    record = found.record
    note = ", ".join(f"{count} of {name}" for name, count in record.kills.items())
    note += f"; {record.within} with some units done and others not; seed {SEED}"
    objects = len(contents(output_of(options.folder / "kills-1.samjob")))
    return [
        row("kills", sum(record.kills.values()), "", f">= {options.kills}", note),
        row(
            "kills: results that differ", record.jobs - record.equal, "", "<= 0", f"of {record.jobs}, {objects} objects"
        ),
        *rows,
    ]
