"""Two Dask workers of one thread each against one, on work that is nearly all encoding.

The jobs take turns: one, two, one, two. The clock starts when each worker has done a unit, and so has loaded its model.
"""

from __future__ import annotations

import statistics
from typing import Any

from samtune.engine.batch_messages import BatchTask

from .base import Counting, Options, has_distributed, run_job, spec_of
from .cluster import Cluster
from .scenes import mosaic

NAME = "dask: two workers / one"
AIM = ">= 1.7"


def measure(options: Options) -> list[Any]:
    """Compare one worker and two."""
    row = options.report.Row
    if not has_distributed():
        return [row("dask: not measured", 0, "", "", "the package distributed is not installed")]
    rounds, side = (1, 6) if options.quick else (2, 10)
    raster = mosaic(options.folder / "dask.vrt", 256 * (side + 1), 256 * (side + 1))
    rates: dict[int, list[float]] = {1: [], 2: []}
    for workers in (1, 2) * rounds:
        with Cluster(options.folder, workers) as cluster:
            counting = Counting()
            spec = spec_of(raster, BatchTask.EMBEDDINGS, tiles=2)
            run_job(options.folder, spec, counting, scheduler=cluster.address)
            rates[workers].append(4 * counting.rate(workers))
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    note = f"{rounds} turns of {side * side} tiles; ratios " + ", ".join(f"{ratio:.2f}" for ratio in ratios)
    note += "; tiles a second: " + ", ".join(f"{n} {statistics.median(found):.3g}" for n, found in rates.items())
    return [row(NAME, statistics.median(ratios), "x", AIM, note)]
