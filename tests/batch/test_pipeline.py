"""The pipeline: order, bounds, failures of each stage, cancelling."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from samtune.engine.batch.items import Unit, UnitResult
from samtune.engine.batch.pipeline import AHEAD, Pipeline, Work
from samtune.models.errors import CancelledByUser, RasterError, SamTuneError


class Steps:
    """Doubles numbers; can fail at a stage, and take its time."""

    def __init__(self, batch: int = 1, fail: str = "", slow: float = 0.0) -> None:
        self.batch, self._fail, self._slow = batch, fail, slow
        self.read_by: set[str] = set()
        self.batches: list[int] = []

    def _may_fail(self, stage: str) -> None:
        if self._fail == stage:
            raise SamTuneError(f"broken at {stage}")

    def read(self, part: int) -> int | None:
        self.read_by.add(threading.current_thread().name)
        self._may_fail("read")
        if self._fail == "raster" and part == 3:
            raise RasterError("The file is gone.")
        return None if part % 5 == 4 else part

    def compute(self, parts: list[int]) -> list[int]:
        self._may_fail("compute")
        time.sleep(self._slow)
        self.batches.append(len(parts))
        return [2 * part for part in parts]

    def shape(self, part: int, computed: int) -> int:
        self._may_fail("shape")
        assert computed == 2 * part
        return computed

    def finish(self, unit: Unit, shaped: list[int], skipped: int) -> UnitResult:
        self._may_fail("finish")
        return UnitResult(0, notes=tuple(map(str, shaped)))


def units(steps: Steps, count: int = 6, parts: int = 7) -> Iterator[Work]:
    for number in range(count):
        yield Work(Unit(number + 1, 1, parts), steps, list(range(parts)))


def never() -> None:
    """Nobody cancels."""


@pytest.mark.parametrize("batch", [1, 2, 3, 16])
def test_units_come_out_whole_and_in_order(batch: int) -> None:
    steps, results, ticks = Steps(batch), [], []
    Pipeline(never, lambda work, tiles: ticks.append(tiles)).run(units(steps), results.append)
    assert [result.unit for result in results] == [1, 2, 3, 4, 5, 6]
    assert all(result.notes == ("0", "2", "4", "6", "10", "12") for result in results)
    assert all(result.skipped == 1 for result in results)
    assert sum(ticks) == 42
    assert max(steps.batches) == min(batch, 36)
    assert threading.current_thread().name not in steps.read_by


@pytest.mark.parametrize("stage", ["read", "compute", "shape", "finish", "write"])
def test_what_a_stage_raises_is_raised(stage: str) -> None:
    def write(_result: UnitResult) -> None:
        if stage == "write":
            raise SamTuneError("broken at write")

    before = threading.active_count()
    with pytest.raises(SamTuneError, match=f"broken at {stage}"):
        Pipeline(never, lambda *_: None).run(units(Steps(fail=stage), 50), write)
    assert threading.active_count() == before


def test_a_raster_that_cannot_be_read_is_the_units_problem() -> None:
    results: list[UnitResult] = []
    Pipeline(never, lambda *_: None).run(units(Steps(fail="raster"), 2), results.append)
    assert [result.problem for result in results] == ["The file is gone."] * 2


def test_reading_keeps_its_distance() -> None:
    steps, taken = Steps(slow=0.02), []

    def counted() -> Iterator[Work]:
        for work in units(steps, 40, 1):
            taken.append(work)
            assert len(taken) - len(steps.batches) <= 2 * AHEAD + 4
            yield work

    Pipeline(never, lambda *_: None).run(counted(), lambda _result: None)
    assert len(taken) == 40


def test_cancelling_ends_all_threads() -> None:
    looks = []

    def check() -> None:
        looks.append(1)
        if len(looks) > 10:
            raise CancelledByUser

    before, results = threading.active_count(), []
    with pytest.raises(CancelledByUser):
        Pipeline(check, lambda *_: None).run(units(Steps(), 50), results.append)
    assert threading.active_count() == before
    assert len(results) < 50
