"""Planning, running, watching and controlling a run, as the wizard asks for it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import shapely
import torch
from samtune.engine import tune_service
from samtune.engine.progress import NullProgress
from samtune.engine.tune_live import RECORD
from samtune.engine.tune_messages import (
    OFFER,
    ControlParams,
    LabelSource,
    Parting,
    PictureKind,
    PlanParams,
    RunState,
    TuneAction,
    TuneInputs,
    TuneParams,
    TuneReport,
    TuneRunParams,
    TuneTask,
    TuneWatch,
    WatchParams,
)
from samtune.engine.tune_service import TuneService
from samtune.engine.tuning.result import Estimate
from samtune.engine.wire import from_wire, to_wire
from samtune.models.errors import CancelledByUser, SamTuneError
from samtune.models.peft.adapter_file import load_adapter, read_card
from samtune.models.peft.contract import TuningError

from .ground import Ground, make_ground, service, write_shapes

PROGRESS = NullProgress()
QUICK = ("schedule.objects=2", "schedule.prompts=1", "schedule.batch=1", "schedule.checks=2")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("ground"), size=512, each=5)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("few"), size=384, each=3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def params(ground: Ground, folder: Path, **changes: object) -> TuneParams:
    inputs = TuneInputs((str(ground.raster),), LabelSource(str(ground.labels), class_field="kind"), level=0)
    given = TuneParams(
        inputs,
        TuneTask.PROMPTABLE,
        str(folder / "run" / "adapter.safetensors"),
        str(folder / "run"),
        methods=("decoder",),
        options=QUICK,
        steps=4,
    )
    return replace(given, **changes)


def record(folder: Path) -> dict[str, object]:
    found = json.loads((folder / "run" / RECORD).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def until_recorded(folder: Path, state: str) -> None:
    for _ in range(500):
        if record(folder)["state"] == state:
            return
        time.sleep(0.01)
    raise TimeoutError(f"{record(folder)}")


class Background:
    """A run in a thread of its own."""

    def __init__(self, asked: TuneService, run: TuneParams, *, resume: bool = False) -> None:
        self.asked, self.folder = asked, run.folder
        self.stop = threading.Event()
        self.report: TuneReport | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(TuneRunParams(run, resume),), daemon=True)
        self._thread.start()

    def _run(self, run: TuneRunParams) -> None:
        stop = self.stop

        class Stoppable(NullProgress):
            def check(self) -> None:
                if stop.is_set():
                    raise CancelledByUser

        try:
            self.report = self.asked.run(run, Stoppable())
        except (CancelledByUser, SamTuneError) as error:
            self.error = error

    def until(self, wanted: Callable[[TuneWatch], bool]) -> TuneWatch:
        for _ in range(30_000):
            seen = self.asked.watch(WatchParams(self.folder), PROGRESS)
            if wanted(seen) or not self._thread.is_alive():
                return self.asked.watch(WatchParams(self.folder), PROGRESS)
            time.sleep(0.01)
        raise TimeoutError(f"{seen}")

    def act(self, action: TuneAction) -> None:
        self.asked.control(ControlParams(self.folder, action), PROGRESS)

    def ended(self, within: float = 300.0) -> None:
        self._thread.join(within)
        assert not self._thread.is_alive()


def test_a_plan_recommends_a_rung_at_once(ground: Ground, tmp_path: Path) -> None:
    run = params(ground, tmp_path, methods=(), options=(), steps=0)
    found = TuneService(service()).plan(PlanParams(run, measure=False), PROGRESS)
    assert (found.recommended, found.chosen, found.problem) == ("late-lora", "late-lora", "")
    assert found.methods == ("late-lora", "decoder")
    assert found.reason.startswith("With 25 objects")
    assert [rung.name for rung in found.rungs] == ["instant", "decoder", "late-lora", "lora", "bands", "streams"]
    assert found.steps == found.rungs[2].steps
    assert not found.measured
    assert found.seconds < 0
    assert found.disk_free > 0
    assert from_wire(type(found), to_wire(found)) == found


def test_a_plan_times_real_steps(few: Ground, tmp_path: Path) -> None:
    found = TuneService(service()).plan(PlanParams(params(few, tmp_path)), PROGRESS)
    assert not found.problem
    assert found.measured
    assert found.chosen == "decoder"
    assert found.steps == 4
    decoder = sum(value.numel() for value in service().get("tiny").network.mask_decoder.parameters())
    assert found.trainable == decoder
    assert 4 * decoder < found.file_bytes < 5 * decoder
    assert found.seconds > found.per_step * 4 * 2, "every part of so little ground is held out once"
    assert not (tmp_path / "run").exists()
    mixed = TuneService(service()).plan(PlanParams(params(few, tmp_path, methods=("mask-mix",), options=())), PROGRESS)
    assert (mixed.chosen, mixed.trainable) == ("instant", 2)
    assert mixed.per_step < found.per_step


def test_what_speaks_against_a_run_is_told(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = TuneService(service())

    def problem(**changes: object) -> str:
        return asked.plan(PlanParams(params(ground, tmp_path, **changes)), PROGRESS).problem

    assert "no tuning method" in problem(methods=("guess",))
    assert "Name them first" in problem(methods=("band_stem", "decoder"), options=())
    assert "--set lora.rank=8" in problem(options=("lora.rank=8",))
    away = write_shapes(tmp_path / "points.gpkg", [shapely.Point(0, 0)])
    inputs = replace(params(ground, tmp_path).inputs, labels=LabelSource(str(away)))
    assert "no polygon" in problem(inputs=inputs)
    monkeypatch.setattr(tune_service, "estimate", lambda *_: Estimate(1, 1, 1, 9 * 10**9, 8 * 10**9, 0, 1))
    assert "9.0 GB of memory, and there are 8.0 GB" in problem()
    monkeypatch.setattr(tune_service, "estimate", lambda *_: Estimate(1, 1, 1, 1, 8 * 10**9, 10**18, 1))
    assert "on the disk" in problem()


def test_a_run_is_watched_and_reported(ground: Ground, tmp_path: Path) -> None:
    asked = TuneService(service())
    run = params(ground, tmp_path)
    background = Background(asked, run)
    background.ended()
    assert background.error is None
    report = background.report
    assert report is not None
    assert report.verdict in {"better", "not better"}
    assert (report.steps, report.parting) == (4, Parting.BLOCKS)
    assert report.held_out > 0
    assert Path(report.adapter).is_file()
    assert report.command.startswith("samtune tune")
    assert from_wire(TuneReport, to_wire(report)) == report
    offer = json.loads((tmp_path / "run" / OFFER).read_text(encoding="utf-8"))
    assert from_wire(TuneReport, offer) == report, "it can be kept after a restart"
    seen = asked.watch(WatchParams(run.folder), PROGRESS)
    assert (seen.state, seen.step, seen.steps) == (RunState.FINISHED, 4, 4)
    assert [point.step for point in seen.training] == [1, 2, 3, 4]
    assert all(point.figures["loss"] > 0 for point in seen.training)
    assert [point.step for point in seen.held_out] == [2, 4]
    assert all(0 <= point.figures["value"] <= 1 for point in seen.held_out)
    assert seen.best_step in {2, 4}
    assert len(seen.pictures) == 2
    assert seen.pictures[0].kind is PictureKind.PREDICTION
    assert seen.pictures_step == 4
    assert from_wire(TuneWatch, json.loads(json.dumps(to_wire(seen), allow_nan=False))) == seen
    later = asked.watch(WatchParams(run.folder, steps_after=3, pictures_after=4), PROGRESS)
    assert ([point.step for point in later.training], later.pictures) == ([4], ())
    written = record(tmp_path)
    assert from_wire(TuneParams, written["params"]) == run
    assert (written["state"], written["step"], written["steps"]) == ("finished", 4, 4)
    with pytest.raises(TuningError, match="not under way"):
        background.act(TuneAction.PAUSE)
    assert asked.watch(WatchParams(str(tmp_path / "other")), PROGRESS).state is RunState.CANCELLED


def test_a_run_with_few_objects_goes_through_its_parts(few: Ground, tmp_path: Path) -> None:
    asked = TuneService(service())
    run = params(few, tmp_path, steps=2)
    report = asked.run(TuneRunParams(run), PROGRESS)
    assert (report.parting, report.held_out) == (Parting.EACH_BLOCK, 9)
    seen = asked.watch(WatchParams(run.folder), PROGRESS)
    steps = [point.step for point in seen.training]
    assert steps == sorted(set(steps))
    assert steps[-1] == seen.steps
    assert len(seen.pictures) == 2


def test_nothing_can_be_measured_on_one_object_and_it_is_learnt_at_once(ground: Ground, tmp_path: Path) -> None:
    shape = ground.circles[12]
    disc = shapely.Point(500_000 + shape[0] * 0.5, 5_300_000 - shape[1] * 0.5).buffer(shape[2] * 0.5)
    labels = write_shapes(tmp_path / "one.gpkg", [disc])
    inputs = replace(params(ground, tmp_path).inputs, labels=LabelSource(str(labels)))
    run = params(ground, tmp_path, inputs=inputs, methods=(), options=(), steps=0)
    asked = TuneService(service())
    assert asked.plan(PlanParams(run, measure=False), PROGRESS).recommended == "instant"
    report = asked.run(TuneRunParams(run), PROGRESS)
    assert (report.verdict, report.parting) == ("not measured", Parting.NONE)
    seen = asked.watch(WatchParams(run.folder), PROGRESS)
    losses = [point.figures["loss"] for point in seen.training]
    assert len(losses) == seen.steps == 40
    assert losses[-1] < losses[0]
    assert len(seen.pictures) == 1
    model = service().get("tiny")
    adapter, _ = load_adapter(Path(report.adapter), model.network, model.card.sha256)
    assert [config.method for config in adapter.configs] == ["mask_mix"]
    assert any(bool(value.any()) for value in adapter.state_dict().values())


def test_a_run_is_held_and_goes_on(ground: Ground, tmp_path: Path) -> None:
    background = Background(TuneService(service()), params(ground, tmp_path, steps=6))
    background.until(lambda seen: seen.step >= 1)
    background.act(TuneAction.PAUSE)
    held = background.until(lambda seen: seen.state is RunState.PAUSED)
    assert held.state is RunState.PAUSED
    until_recorded(tmp_path, "paused")
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    time.sleep(0.3)
    assert background.asked.watch(WatchParams(background.folder), PROGRESS).step == held.step
    background.act(TuneAction.RESUME)
    background.ended()
    assert background.report is not None
    assert background.report.steps == 6


def test_a_run_is_ended_by_hand_and_keeps_what_it_learnt(ground: Ground, tmp_path: Path) -> None:
    background = Background(TuneService(service()), params(ground, tmp_path, steps=500))
    background.until(lambda seen: seen.step >= 2)
    background.act(TuneAction.FINISH)
    background.ended()
    assert background.report is not None
    assert 2 <= background.report.steps < 500
    assert any("ended by hand" in note for note in background.report.notes)
    assert read_card(Path(background.report.adapter)).training.steps == background.report.steps


@pytest.mark.parametrize("step", [0, 2])
def test_cancelling_is_seen_soon_and_leaves_a_checkpoint(ground: Ground, tmp_path: Path, step: int) -> None:
    asked, run = TuneService(service()), params(ground, tmp_path, steps=500)
    background = Background(asked, run)
    background.until(lambda seen: seen.step >= step)
    background.stop.set()
    begun = time.process_time()  # other programs take nothing from it
    background.ended(30)
    assert time.process_time() - begun < 2
    assert isinstance(background.error, CancelledByUser)
    assert asked.watch(WatchParams(run.folder), PROGRESS).state is RunState.CANCELLED
    assert record(tmp_path)["state"] == "cancelled"
    if step:
        with pytest.raises(TuningError, match="interrupted run is kept"):
            asked.run(TuneRunParams(run), PROGRESS)
        again = Background(asked, run, resume=True)
        seen = again.until(lambda seen: seen.step > step)
        assert [point.step for point in seen.training][:2] == [1, 2], "the curves of before are there again"
        again.stop.set()
        again.ended(10)


def test_a_paused_run_can_be_cancelled(ground: Ground, tmp_path: Path) -> None:
    background = Background(TuneService(service()), params(ground, tmp_path, steps=500))
    background.until(lambda seen: seen.step >= 1)
    background.act(TuneAction.PAUSE)
    background.until(lambda seen: seen.state is RunState.PAUSED)
    background.stop.set()
    background.ended(5)
    assert isinstance(background.error, CancelledByUser)


def test_a_failed_run_says_so_in_its_record(ground: Ground, tmp_path: Path) -> None:
    run = params(ground, tmp_path, options=(*QUICK, "schedule.rate=1e30"), steps=40)
    with pytest.raises(SamTuneError):
        TuneService(service()).run(TuneRunParams(run), PROGRESS)
    assert record(tmp_path)["state"] == "failed"


@pytest.mark.parametrize("task", [TuneTask.SEMANTIC, TuneTask.INSTANCES])
def test_maps_are_shown_while_they_are_learnt(ground: Ground, tmp_path: Path, task: TuneTask) -> None:
    asked = TuneService(service())
    run = params(ground, tmp_path, task=task, methods=("head",), options=("schedule.checks=1",), steps=2)
    report = asked.run(TuneRunParams(run), PROGRESS)
    assert report.verdict in {"better", "not better"}
    seen = asked.watch(WatchParams(run.folder), PROGRESS)
    assert len(seen.pictures) == 2
    assert "value" in seen.held_out[-1].figures
