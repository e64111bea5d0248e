"""Jobs, lanes, memory and log: the parts of the server on their own."""

from __future__ import annotations

import logging
import logging.handlers
import mmap
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from samtune.engine import jobs, logs, memory
from samtune.engine.jobs import Job, Lane, LaneRunner
from samtune.engine.messages import Method
from samtune.engine.progress import NullProgress
from samtune.models.errors import CancelledByUser

Notes = list[tuple[int, float, str]]


def make_job(request: int, method: Method = Method.SEGMENT, notes: Notes | None = None) -> Job:
    def notify(job: int, fraction: float, text: str) -> None:
        if notes is not None:
            notes.append((job, fraction, text))

    return Job(request, method, None, notify)


class Bench:
    """A lane whose jobs wait for a word before they end."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.go_on = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.runner = LaneRunner(Lane.MODEL, self._execute)

    def _execute(self, job: Job) -> None:
        self.order.append(job.request)
        self.begun.release()
        assert self.go_on.acquire(timeout=10)

    def occupy(self) -> None:
        """Put a first job, and return once it runs: whatever comes now has to wait."""
        self.runner.put(make_job(0))
        assert self.begun.acquire(timeout=10)

    def finish(self, number: int) -> list[int]:
        """Let everything end, and return the order in which jobs ran, the first apart."""
        for _ in range(number):
            self.go_on.release()
            assert self.begun.acquire(timeout=10)
        self.go_on.release()
        return self.order[1:]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_waiting_jobs_run_by_priority_and_then_by_arrival(bench: Bench) -> None:
    bench.occupy()
    arrivals = [Method.WARM_UP, Method.PREPARE, Method.SEGMENT, Method.OPEN, Method.SEGMENT, Method.PREPARE]
    for request, method in enumerate(arrivals, start=1):
        bench.runner.put(make_job(request, method))
    assert bench.finish(len(arrivals)) == [3, 5, 4, 2, 6, 1]


def test_a_waiting_job_can_be_withdrawn_once(bench: Bench) -> None:
    bench.occupy()
    waiting = [make_job(request) for request in range(1, 6)]
    for job in waiting:
        bench.runner.put(job)
    assert bench.runner.withdraw(waiting[1])
    assert bench.runner.withdraw(waiting[3])
    assert not bench.runner.withdraw(waiting[3])
    assert bench.finish(3) == [1, 3, 5]


def test_a_running_job_cannot_be_withdrawn_and_is_known(bench: Bench) -> None:
    bench.occupy()
    running = bench.runner.running
    assert running is not None
    assert running.request == 0
    assert not bench.runner.withdraw(running)
    bench.finish(0)
    end = time.monotonic() + 5
    while bench.runner.running is not None:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_every_request_has_a_lane_and_only_what_needs_the_model_waits_for_it() -> None:
    lanes = {method: jobs.LANES.get(method, Lane.MODEL) for method in Method}
    assert lanes[Method.INITIALIZE] is Lane.MODEL
    assert {method for method, lane in lanes.items() if lane is Lane.TRANSFER} == {Method.DOWNLOAD, Method.IMPORT}
    assert {method for method, lane in lanes.items() if lane is Lane.QUICK} == {
        Method.INFO,
        Method.MODELS,
        Method.TUNE_WATCH,
        Method.TUNE_CONTROL,
        Method.BATCH_STATUS,
    }
    assert lanes[Method.CLEAR_STORE] is Lane.MODEL, "it makes the segmenter forget, which is for one thread"


def test_the_handshake_runs_before_anything_that_came_with_it() -> None:
    first = make_job(1, Method.INITIALIZE).priority
    assert all(make_job(2, method).priority > first for method in Method if method is not Method.INITIALIZE)


def test_progress_is_thinned_out_but_its_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    notes: Notes = []
    job = make_job(7, notes=notes)
    for step in range(100):
        now[0] += 0.01
        job.report(step / 100, str(step))
    job.report(1.0, "done")
    assert len(notes) == 11
    assert notes[0] == (7, 0.0, "0")
    assert notes[-1] == (7, 1.0, "done")


def test_a_job_stops_its_handler_only_when_cancelled() -> None:
    job = make_job(1)
    job.check()
    job.cancelled.set()
    with pytest.raises(CancelledByUser):
        job.check()


def test_nobody_listens_to_the_null_progress_and_it_never_stops() -> None:
    progress = NullProgress()
    progress.report(0.5, "half")
    progress.check()


def test_memory_in_use_grows_with_what_is_held() -> None:
    before = memory.resident_bytes()
    # Pages of our own: an ordinary object may fit into what earlier tests gave back to the allocator.
    with mmap.mmap(-1, 64 * 1024**2) as held:
        held[:] = bytes(len(held))
        after = memory.resident_bytes()
    assert before > 1e6
    if sys.platform.startswith("linux"):
        assert after - before > 32 * 1024**2


def test_memory_is_the_peak_where_the_present_is_not_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_STATM", tmp_path / "nothing")
    assert memory.resident_bytes() > 1e6
    monkeypatch.setitem(sys.modules, "resource", None)
    assert memory.resident_bytes() == 0


@pytest.fixture
def root_logger() -> Iterator[Callable[[Path | None], str]]:
    """Set up logging as the engine does, and put it back as it was."""
    root = logging.getLogger()
    kept, level = list(root.handlers), root.level
    yield logs.set_up
    for handler in set(root.handlers) - set(kept):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_the_log_rotates(root_logger: Callable[[Path | None], str], tmp_path: Path) -> None:
    path = Path(root_logger(tmp_path / "logs"))
    for number in range(2200):
        logging.getLogger("test").info("%d %s", number, "x" * 1000)
    files = sorted(file.name for file in path.parent.iterdir())
    assert files == ["engine.log", "engine.log.1", "engine.log.2"]
    assert all(file.stat().st_size < 1.1 * 1024**2 for file in path.parent.iterdir())
    assert logs.log_file_of(path.parent) == str(path)


def test_without_a_folder_there_is_no_log_file(root_logger: Callable[[Path | None], str], tmp_path: Path) -> None:
    assert root_logger(None) == ""
    assert logs.log_file_of(tmp_path) == ""
