"""Units on a Dask cluster: workers as separate processes, started by the ``dask`` commands, one of them killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from samtune.engine.batch import planning
from samtune.engine.batch.dask_executor import DaskExecutor
from samtune.engine.batch.items import JobHeader
from samtune.engine.batch.job_file import JobFile
from samtune.engine.batch.worker import Setup
from samtune.engine.batch_messages import BatchOutputs, BatchRasters, BatchRunParams, BatchSpec, BatchTask
from samtune.engine.progress import NullProgress
from samtune.models.errors import EnvironmentMissingError, SamTuneError
from shapely.geometry import Point

from .jobs import discs, do, features, on_map, prompt_spec, prompts, service

PLACES = [(80 + 60 * (i % 9), 80 + 60 * (i // 9)) for i in range(36)]
ROOT = Path(__file__).resolve().parent.parent.parent
PRELOAD = "tests.batch.cluster"


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
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(ROOT),
                "XDG_CACHE_HOME": str(folder / "cache"),
            },
        )
        process.log = log  # type: ignore[attr-defined]
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def seen(process: subprocess.Popen[bytes], pattern: bytes) -> str:
    """Wait for a line in a process's log."""
    log: Path = process.log  # type: ignore[attr-defined]
    for _ in range(900):
        found = re.search(pattern, log.read_bytes())
        if found:
            return found.group(1).decode()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


class Killing(NullProgress):
    """Kills a process once two units are done."""

    def __init__(self, process: subprocess.Popen[bytes], job: Path) -> None:
        self._process, self._job, self.killed = process, job, False

    def check(self) -> None:
        if not self.killed:
            with JobFile(self._job) as job:
                if job.units()[1] >= 2:
                    self._process.send_signal(signal.SIGKILL)
                    self.killed = True


@pytest.mark.timeout(240)
def test_a_cluster_gives_what_one_process_gives_though_a_worker_dies(scene: Path) -> None:
    pytest.importorskip("distributed", reason="distributed, which only clusters need, is not installed")
    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg")
    do(service(scene), scene / "one.samjob", spec)
    options = ("--nthreads", "1", "--nworkers", "1", "--no-nanny", "--no-dashboard", "--preload", PRELOAD)
    with started(scene, "scheduler", "--port", "0", "--no-dashboard", "--preload", PRELOAD) as scheduler:
        address = seen(scheduler, rb"Scheduler at:\s+(tcp://\S+)")
        with (
            started(scene, "worker", address, *options) as first,
            started(scene, "worker", address, *options) as second,
        ):
            for worker in (first, second):
                seen(worker, rb"(Registered to)")
            many = replace(spec, outputs=BatchOutputs(str(scene / "many.gpkg")))
            killing = Killing(first, scene / "many.samjob")
            params = BatchRunParams(str(scene / "many.samjob"), many, scheduler=address)
            result = service(scene).run(params, killing)
    assert killing.killed
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
