"""The time that a job says is left, against what it then really took."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from samtune.engine.batch.items import Machine
from samtune.engine.batch.job_file import JobFile
from samtune.engine.batch.service import BatchService
from samtune.engine.batch.status import status_of
from samtune.engine.batch_messages import BatchRunParams, BatchTask

from .base import MANY, Options, spec_of
from .scenes import mosaic

SHARES = (0.35, 0.5, 0.65, 0.8)
_WORDS = re.compile(r"(?:(\d+) h )?(?:(\d+) min)?(?: ?(\d+) s)? left")


class Watching:
    """Notes once a second what the progress says, and what the job file says, is left."""

    def __init__(self, job: Path) -> None:
        """Begin.

        Args:
            job: its file.
        """
        self._job, self.begun = job, time.monotonic()
        self.said: list[tuple[float, float, float]] = []

    def report(self, _fraction: float, message: str) -> None:
        """Note the time, the seconds in the message and those of the status."""
        found, now = _WORDS.search(message), time.monotonic()
        if found is None or (self.said and now < self.said[-1][0] + 1.0):
            return
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        with JobFile(self._job) as job:
            status = status_of(job)
        self.said.append((now, 3600 * hours + 60 * minutes + seconds, status.seconds_left))

    def check(self) -> None:
        """Go on."""


def measure(options: Options) -> list[Any]:
    """Do a job and judge what was said on the way."""
    tiles = 5 if options.quick else 15
    side = 512 + 384 * (tiles - 1)
    raster = mosaic(options.folder / "left.vrt", side, side)
    job = options.folder / "left.samjob"
    spec = spec_of(raster, BatchTask.AUTOMATIC, options.folder / "left.gpkg", **MANY, points=2)
    watching = Watching(job)
    BatchService(Machine(store_dir=str(options.folder / "store-left"), device="cpu", threads=1)).run(
        BatchRunParams(str(job), spec), watching
    )
    ended = time.monotonic()
    lasted = ended - watching.begun
    rows = []
    for place, name in ((1, "as the progress says it"), (2, "as the status says it")):
        errors = []
        for share in SHARES:
            moment = watching.begun + share * lasted
            said = min(watching.said, key=lambda entry: abs(entry[0] - moment))
            errors.append(100 * (said[place] / (ended - said[0]) - 1))
        note = ", ".join(f"{error:+.0f} % at {share:.0%}" for share, error in zip(SHARES, errors, strict=True))
        note += f" of {lasted:.0f} s, {tiles * tiles} tiles"
        worst = max(abs(error) for error in errors)
        rows.append(options.report.Row(f"time left: largest error, {name}", worst, "%", "<= 20", note))
    return rows
