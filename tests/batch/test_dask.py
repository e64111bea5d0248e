"""Units on a Dask cluster: workers as separate processes, started by the ``dask`` commands, one of them killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from samtune.engine.batch import planning
from samtune.engine.batch.dask_executor import DaskExecutor
from samtune.engine.batch.items import JobHeader
from samtune.engine.batch.worker import Setup
from samtune.engine.batch_messages import BatchOutputs, BatchRasters, BatchSpec, BatchTask
from samtune.models.errors import EnvironmentMissingError, SamTuneError
from shapely.geometry import Point

from .jobs import discs, do, features, on_map, prompt_spec, prompts, service

PLACES = [(80 + 60 * (i % 9), 80 + 60 * (i // 9)) for i in range(36)]
PRELOAD = Path(__file__).with_name("cluster.py")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(planning, "PROMPTS_PER_UNIT", 2)
    discs(tmp_path / "a.tif", PLACES, radius=12.0)
    prompts(tmp_path / "points.gpkg", [Point(on_map(*place)) for place in PLACES])
    return tmp_path


@contextlib.contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    log = folder / f"dask-{arguments[0]}-{time.monotonic_ns()}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]],
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")},
        )
        process.log = log  # type: ignore[attr-defined]
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def address_of(log: Path) -> str:
    for _ in range(600):
        found = re.search(rb"Scheduler at:\s+(tcp://\S+)", log.read_bytes())
        if found:
            return found.group(1).decode()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.timeout(240)
def test_a_cluster_gives_what_one_process_gives_though_a_worker_dies(scene: Path) -> None:
    pytest.importorskip("distributed", reason="distributed, which only clusters need, is not installed")
    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg")
    do(service(scene), scene / "one.samjob", spec)
    options = ("--nthreads", "1", "--nworkers", "1", "--no-nanny", "--no-dashboard", "--preload", str(PRELOAD))
    with started(scene, "scheduler", "--port", "0", "--no-dashboard", "--preload", str(PRELOAD)) as scheduler:
        address = address_of(scheduler.log)  # type: ignore[attr-defined]
        with started(scene, "worker", address, *options) as first, started(scene, "worker", address, *options):
            timer = threading.Timer(6.0, first.send_signal, (signal.SIGKILL,))
            timer.start()
            many = replace(spec, outputs=BatchOutputs(str(scene / "many.gpkg")))
            result = do(service(scene), scene / "many.samjob", many, scheduler=address)
            timer.cancel()
    assert result.status.units_done == 18
    assert features(scene / "many.gpkg") == features(scene / "out.gpkg")


def test_no_scheduler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = BatchSpec(BatchTask.EMBEDDINGS, BatchRasters(("x.tif",)))
    setup = Setup(JobHeader(spec, "0", "", ""))
    try:
        import distributed  # noqa: F401
    except ImportError:
        with pytest.raises(EnvironmentMissingError, match="pip install distributed"):
            DaskExecutor("tcp://127.0.0.1:9", setup)
        return
    with pytest.raises(SamTuneError, match="No Dask scheduler answers"):
        DaskExecutor("tcp://127.0.0.1:9", setup)
