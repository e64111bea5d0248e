"""A Dask cluster on this machine: scheduler and workers as processes of their own, started by the dask commands."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

PRELOAD = Path(__file__).resolve().parent / "preload"
"""Folder of a module: of a file Dask would take a copy, which would look for this checkout in vain."""

_SECONDS = 120.0


class Cluster:
    """A scheduler and workers with one thread each. Ends with its ``with`` block."""

    def __init__(self, folder: Path, workers: int) -> None:
        """Start everything, and wait until the workers are there.

        Args:
            folder: for logs and the workers' files.
            workers: how many.
        """
        self._folder = folder
        self._workers: list[subprocess.Popen[bytes]] = []
        self._scheduler, log = self._start("scheduler", "--port", "0")
        try:
            self.address = _seen(log, rb"Scheduler at:\s+(tcp://\S+)")
            for started in [self._worker() for _ in range(workers)]:
                _seen(started, rb"(Registered to)")
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Cluster:
        """Return the cluster."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        for process in (*self._workers, self._scheduler):
            process.kill()
            process.wait()

    def kill_one(self, rng: random.Random) -> None:
        """Kill a worker and start another one in its place."""
        process = self._workers.pop(rng.randrange(len(self._workers)))
        process.kill()
        process.wait()
        self._worker()

    def _worker(self) -> Path:
        options = ("--nthreads", "1", "--nworkers", "1", "--no-nanny")
        process, log = self._start("worker", self.address, *options)
        self._workers.append(process)
        return log

    def _start(self, *words: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = self._folder / f"dask-{words[0]}-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "dask", *words, "--no-dashboard", "--preload", "samtune_preload"]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(PRELOAD),
            "XDG_CACHE_HOME": str(self._folder / "cache"),
        }
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, cwd=self._folder, env=environment
            )
        return process, log


def _seen(log: Path, pattern: bytes) -> str:
    """Wait for a line in a log."""
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        found = re.search(pattern, log.read_bytes())
        if found:
            return found.group(1).decode()
        time.sleep(0.1)
    raise SystemExit(f"{log.name}: {log.read_text()}\nThis was looked for in vain: {pattern!r}")
