"""Peak memory of a job on a raster of real imagery, 40,000 pixels wide, against one of 4,000.

Each runs in a process of its own and is stopped after the same number of tiles. The large raster's units are all
planned and in the job file by then.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from samtune.engine.batch_messages import BatchTask

from .base import MANY, PROGRAM, Counting, Options, run_job, spec_of
from .scenes import mosaic

SMALL, LARGE = 4_000, 40_000
TASKS = (BatchTask.EMBEDDINGS, BatchTask.AUTOMATIC)


def measure(options: Options) -> list[Any]:
    """Compare peaks on a small and a large raster."""
    tiles = 4 if options.quick else 60
    small = mosaic(options.folder / "small.vrt", SMALL, SMALL)
    # of the small one: a description of ten thousand pictures would take more memory than anything that is measured
    large = mosaic(options.folder / "large.vrt", LARGE, LARGE, small)
    rows = []
    for task in TASKS:
        peaks = [_peak(raster, options.folder, task, tiles) for raster in (small, large)]
        note = f"{peaks[1] / 2**20:.0f} against {peaks[0] / 2**20:.0f} MiB after {tiles} tiles, each in its own process"
        name = f"memory: {LARGE} px / {SMALL} px, {task.value}"
        rows.append(options.report.Row(name, peaks[1] / peaks[0], "x", "<= 1.1", note))
    return rows


def _peak(raster: Path, folder: Path, task: BatchTask, tiles: int) -> int:
    command = [sys.executable, str(PROGRAM), "--child", "memory", str(raster), str(folder), task.value, str(tiles)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1])


def child(raster: Path, folder: Path, task: BatchTask, tiles: int) -> None:
    """Do part of a job and print the peak memory in bytes."""
    output = None if task is BatchTask.EMBEDDINGS else folder / f"{raster.stem}.gpkg"
    run_job(folder, spec_of(raster, task, output, **MANY, points=2, tiles=2), Counting(tiles))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
