"""Cancelling is heard in every phase, leaves nothing half-written, and the run can be done again."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import shapely
from samtune.engine.progress import NullProgress
from samtune.engine.tune_messages import (
    InspectParams,
    LabelSource,
    PlanParams,
    RunState,
    TuneInputs,
    TuneParams,
    TuneReport,
    TuneRunParams,
    TuneTask,
    WatchParams,
)
from samtune.engine.tune_service import TuneService
from samtune.models.errors import CancelledByUser

from .ground import LEFT, PIXEL, TOP, Ground, make_ground, service, write_raster, write_shapes
from .test_service import one_thread, params

__all__ = ["one_thread"]

PATIENCE = 2.0
"""Seconds of this thread's own time, which other programs take nothing from, between two chances to cancel."""

QUICK = ("schedule.objects=2", "schedule.prompts=1", "schedule.batch=1", "schedule.checks=1")
MANY = 1500


class Counted(NullProgress):
    """Counts the chances to cancel, takes the one asked for, and knows the longest time without one."""

    def __init__(self, cancel_at: int = 0) -> None:
        self.count, self.longest, self.where = 0, 0.0, ""
        self._cancel_at, self._doing, self._last = cancel_at, "", time.thread_time()

    def report(self, fraction: float, message: str) -> None:
        self._doing = message

    def check(self) -> None:
        waited = time.thread_time() - self._last
        if waited > self.longest:
            self.longest, self.where = waited, self._doing
        self.count += 1
        if self.count == self._cancel_at:
            raise CancelledByUser
        self._last = time.thread_time()


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("few"), size=256, each=2)


@pytest.fixture(scope="module")
def whole(few: Ground, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, TuneReport]:
    """A run that nobody cancels: how often it asks, and what comes of it."""
    progress = Counted()
    run = quick(few, tmp_path_factory.mktemp("whole"))
    report = TuneService(service()).run(TuneRunParams(run), progress)
    return progress.count, report


def quick(ground: Ground, folder: Path) -> TuneParams:
    return params(ground, folder, steps=1, options=QUICK)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("task", "methods", "options"),
    [
        (TuneTask.PROMPTABLE, ("decoder",), QUICK),
        (TuneTask.PROMPTABLE, ("mask-mix",), ()),
        (TuneTask.SEMANTIC, ("head",), ("schedule.checks=1",)),
        (TuneTask.INSTANCES, ("head",), ("schedule.checks=1",)),
    ],
)
def test_no_phase_works_long_without_a_chance_to_cancel(
    tmp_path: Path, task: TuneTask, methods: tuple[str, ...], options: tuple[str, ...]
) -> None:
    ground = make_ground(tmp_path, size=512, each=6)
    run = params(ground, tmp_path, task=task, methods=methods, options=options, steps=1)
    asked = TuneService(service(512))
    phases: dict[str, Counted] = {}
    for name, work in (
        ("inspect", partial(asked.inspect, InspectParams(run.inputs, run.task))),
        ("plan", partial(asked.plan, PlanParams(run))),
        ("run", partial(asked.run, TuneRunParams(run))),
    ):
        phases[name] = Counted()
        work(phases[name])
        phases[name].check()  # the end of the work is a chance too
    waited = {name: (phase.longest, phase.where) for name, phase in phases.items()}
    assert max(waited.values())[0] < PATIENCE, waited


@pytest.mark.parametrize("task", [TuneTask.PROMPTABLE, TuneTask.SEMANTIC])
def test_many_objects_are_read_with_a_chance_to_cancel_at_each(tmp_path: Path, task: TuneTask) -> None:
    side = int(np.sqrt(MANY)) + 1
    raster = write_raster(tmp_path / "many.tif", np.full((3, side * 12, side * 12), 90, np.uint8))
    places = [((column + 0.5) * 12, (row + 0.5) * 12) for row in range(side) for column in range(side)]
    shapes = [shapely.Point(LEFT + x * PIXEL, TOP - y * PIXEL).buffer(4 * PIXEL) for x, y in places]
    labels = write_shapes(tmp_path / "many.gpkg", shapes)
    inputs = TuneInputs((str(raster),), LabelSource(str(labels)), level=0)
    progress = Counted()
    found = TuneService(service(512)).inspect(InspectParams(inputs, task, pictures=1), progress)
    progress.check()
    assert sum(item.objects for item in found.classes) == len(shapes)
    assert progress.count > 3 * len(shapes), "reading, laying crops, parting"
    assert progress.longest < PATIENCE, progress.where


@pytest.mark.timeout(600)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_run_cancelled_anywhere_leaves_nothing_half_written_and_is_done_again(
    few: Ground, tmp_path: Path, whole: tuple[int, TuneReport], share: float
) -> None:
    count, uncancelled = whole
    asked, run = TuneService(service()), quick(few, tmp_path)
    with pytest.raises(CancelledByUser):
        asked.run(TuneRunParams(run), Counted(max(1, int(share * count))))
    assert asked.watch(WatchParams(run.folder), NullProgress()).state is RunState.CANCELLED
    assert not Path(run.output).exists()
    assert not list(tmp_path.rglob("*.part"))
    again = asked.run(TuneRunParams(run, resume=True), NullProgress())
    assert Path(run.output).is_file()
    changing = {"adapter": "", "folder": "", "report": "", "command": "", "seconds": 0.0}
    assert replace(again, **changing) == replace(uncancelled, **changing)
