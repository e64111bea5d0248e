"""Whole runs: from rasters and polygons to an adapter that can be used, with its records."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import torch
from samtune.engine.progress import NullProgress
from samtune.engine.tune_messages import Parting, TuneReport
from samtune.engine.tuning import general, samples
from samtune.engine.tuning.dataset import Dataset
from samtune.engine.tuning.estimate import peak_memory
from samtune.engine.tuning.prepare import used
from samtune.engine.tuning.report import report_of
from samtune.engine.tuning.result import Verdict
from samtune.engine.tuning.run import estimate, tune
from samtune.engine.tuning.settings import Bands, Schedule, Task, TuneSettings
from samtune.engine.tuning.split import Split
from samtune.engine.wire import from_wire, to_wire
from samtune.models.errors import CancelledByUser, OutputError
from samtune.models.peft.adapter_file import load_adapter, read_card
from samtune.models.peft.band_stem import BandStemConfig
from samtune.models.peft.contract import TuningError
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.selective import DecoderConfig

from .ground import Ground, make_ground, service

QUICK = Schedule(steps=2, batch=1, objects=2, prompts=1, checks=1)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("ground"), size=384, each=3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_other_imagery(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the check on other imagery out, which takes as long as all else, except where it is asked for."""
    if "other_imagery" not in request.fixturenames:
        monkeypatch.setattr(general, "_SCENES", ())


@pytest.fixture
def other_imagery() -> None:
    """Ask for the check on other imagery."""


def test_a_run_leaves_an_adapter_and_its_records(ground: Ground, tmp_path: Path) -> None:
    settings = ground.settings(
        tmp_path / "discs.safetensors",
        methods=(DecoderConfig(), LoraConfig(rank=2)),
        schedule=QUICK,
        command="tune x",
        hold_out=0.5,
    )
    models = service()
    result = tune(settings, models, NullProgress())
    model = models.get("tiny")
    adapter, card = load_adapter(result.path, model.network, model.card.sha256)
    assert {config.method for config in adapter.configs} == {"decoder", "lora"}
    assert [item.name for item in card.classes] == ["disc", "ring"]
    assert card.ground.gsd == (pytest.approx(0.5, rel=2e-3), pytest.approx(0.5, rel=2e-3))
    assert card.ground.extent is not None
    assert card.ground.extent[0] >= 500_000
    assert card.training.steps == result.steps == 2
    assert "held out" in card.training.split
    assert card.inputs.rgb == (1, 2, 3)
    assert result.before is not None
    assert result.after is not None
    metrics = {item.name: (item.frozen, item.tuned) for item in card.metrics}
    assert metrics["iou_box"] == (
        pytest.approx(result.before.mean["iou_box"]),
        pytest.approx(result.after.mean["iou_box"]),
    )
    assert result.verdict in {Verdict.BETTER, Verdict.NOT_BETTER}
    assert (result.verdict is Verdict.NOT_BETTER) == any("not better" in note for note in card.notes)
    folder = result.folder
    assert TuneSettings.from_json(json.loads((folder / "settings.json").read_text(encoding="utf-8"))) == settings
    assert (folder / "command.txt").read_text(encoding="utf-8") == "tune x\n"
    assert json.loads((folder / "scores.json").read_text(encoding="utf-8"))["verdict"] == result.verdict.value
    assert pyogrio.read_info(folder / "split.gpkg", layer="blocks")["features"] > 1
    assert "<polyline" in (folder / "curves.svg").read_text(encoding="utf-8")
    assert not (folder / "checkpoint.pt").exists()
    # The base that clicks are answered with was not touched.
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_a_cancelled_run_is_gone_on_with(ground: Ground, tmp_path: Path) -> None:
    settings = ground.settings(tmp_path / "a.safetensors", schedule=replace(QUICK, steps=3), hold_out=0.0)
    once = tune(replace(settings, output=tmp_path / "b.safetensors"), service(), NullProgress())

    class Stop(NullProgress):
        def report(self, fraction: float, message: str) -> None:
            if "step 3" in message:
                raise CancelledByUser

    with pytest.raises(CancelledByUser):
        tune(settings, service(), Stop())
    assert (settings.work_folder / "checkpoint.pt").is_file()
    assert not settings.output.exists()
    again = tune(settings, service(), NullProgress())
    sam = service().get("tiny")
    one, other = (load_adapter(item.path, sam.network, sam.card.sha256)[0].state_dict() for item in (once, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert again.verdict is Verdict.NOT_MEASURED
    assert again.before is None
    assert any("Nothing is held out" in note for note in read_card(again.path).notes)


def test_a_kept_run_of_other_settings_is_not_lost_by_resuming(ground: Ground, tmp_path: Path) -> None:
    settings = ground.settings(tmp_path / "a.safetensors", schedule=replace(QUICK, steps=3), hold_out=0.0)

    class Stop(NullProgress):
        def report(self, fraction: float, message: str) -> None:
            if "step 2" in message:
                raise CancelledByUser

    with pytest.raises(CancelledByUser):
        tune(settings, service(), Stop())
    kept = (settings.work_folder / "checkpoint.pt").read_bytes()
    longer = replace(settings, schedule=replace(QUICK, steps=4))
    with pytest.raises(TuningError, match="begun with other settings"):
        tune(longer, service(), NullProgress(), resume=True)
    assert (settings.work_folder / "checkpoint.pt").read_bytes() == kept
    assert tune(settings, service(), NullProgress(), resume=True).steps == 3


def test_inputs_that_no_method_takes_are_not_asked_for_in_use(ground: Ground, tmp_path: Path) -> None:
    settings = ground.settings(
        tmp_path / "a.safetensors", schedule=QUICK, bands=Bands.ALL, second=ground.raster, hold_out=0.0
    )
    result = tune(settings, service(), NullProgress())
    card = read_card(result.path)
    assert (card.inputs.bands, card.inputs.second) == ((), None)
    assert sum("left out" in note for note in result.notes) == 2
    lora, notes = used(replace(settings, methods=(LoraConfig(rank=2),)))
    assert (lora.second, lora.wants_bands, len(notes)) == (ground.raster, False, 1)
    stem, notes = used(replace(settings, methods=(BandStemConfig(),)))
    assert (stem.second, stem.wants_bands, notes) == (ground.raster, True, [])


@pytest.mark.timeout(300)
def test_tiny_learns_a_tile_by_heart(ground: Ground, tmp_path: Path) -> None:
    """Acceptance: in at most 100 steps the IoU rises above the frozen model's on what was trained on."""
    schedule = Schedule(steps=20, batch=2, objects=1, prompts=1, checks=1, patience=0, rate=1e-3)
    settings = ground.settings(tmp_path / "a.safetensors", schedule=schedule)

    def same_on_both_sides(found: Dataset) -> Split:
        everyone = tuple(range(len(found.objects)))
        return Split(everyone, everyone[:4], ())

    result = tune(settings, service(), NullProgress(), parted=same_on_both_sides)
    assert result.before is not None
    assert result.after is not None
    assert result.after.mean["iou"] > result.before.mean["iou"] + 0.02
    rows = np.genfromtxt(settings.work_folder / "training.csv", delimiter=",", names=True)
    assert rows["loss"][-6:].mean() < rows["loss"][:6].mean()


@pytest.mark.parametrize(("task", "main"), [(Task.SEMANTIC, "miou"), (Task.INSTANCES, "f1")])
def test_maps_are_learnt_measured_and_saved(ground: Ground, tmp_path: Path, task: Task, main: str) -> None:
    schedule = Schedule(steps=12, batch=2, checks=1)
    settings = ground.settings(
        tmp_path / "a.safetensors", methods=(LoraConfig(rank=2),), task=task, schedule=schedule, hold_out=0.5
    )
    result = tune(settings, service(), NullProgress())
    assert result.after is not None
    assert main in result.after.mean
    card = read_card(result.path)
    assert card.head.value == task.value
    assert [item.value for item in card.classes] == ([0, 1, 2] if task is Task.SEMANTIC else [0, 1])
    assert any("Without an extent" in note for note in result.notes)
    rows = np.genfromtxt(settings.work_folder / "training.csv", delimiter=",", names=True)
    assert rows["loss"][-3:].mean() < rows["loss"][:3].mean()


class Messages(NullProgress):
    """Keeps what is said, and stops where it is told to."""

    def __init__(self, stop_at: str = "") -> None:
        self.told: list[str] = []
        self._stop_at = stop_at

    def report(self, fraction: float, message: str) -> None:
        assert fraction <= 1
        self.told.append(message)
        if self._stop_at and self._stop_at in message:
            raise CancelledByUser


def test_few_objects_are_each_measured_by_an_adapter_that_never_saw_them(tmp_path: Path) -> None:
    settings = make_ground(tmp_path, size=256, each=2).settings(tmp_path / "a.safetensors", schedule=QUICK)
    first, models = Messages("step 2 of 2 (part 2 of"), service()
    with pytest.raises(CancelledByUser):
        tune(settings, models, first)
    again = Messages()
    result = tune(settings, models, again)
    assert not any("(part 1 of" in text for text in again.told)
    assert [text for text in again.told if "(part 2 of" in text] == [first.told[-1]]
    assert result.parting is Parting.EACH_BLOCK
    assert result.before is not None
    assert result.after is not None
    assert result.before.objects == result.after.objects == 4
    card = read_card(result.path)
    assert (card.training.samples, card.training.held_out) == (4, 4)
    assert result.steps in {1, 2}
    assert {row.group for row in result.figures} == {"", "disc", "ring"}
    once = tune(replace(settings, output=tmp_path / "b.safetensors"), models, NullProgress())
    assert once.after == result.after
    assert once.gain == result.gain
    one, other = (
        load_adapter(r.path, models.get("tiny").network, card.base.sha256)[0].state_dict() for r in (once, result)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("other_imagery")
def test_the_report_says_all_of_it_without_any_other_file(ground: Ground, tmp_path: Path) -> None:
    spoiling = replace(QUICK, rate=3e-2)  # so that there is something to show
    settings = ground.settings(tmp_path / "a.safetensors", schedule=spoiling, command="tune <x>", hold_out=0.5)
    result = tune(settings, service(), NullProgress())
    report = report_of(settings, result)
    assert from_wire(TuneReport, to_wire(report)) == report
    assert (report.verdict, report.parting, report.held_out) == (
        result.verdict.value,
        Parting.BLOCKS,
        result.after.objects,
    )
    assert report.sentence.startswith("Better" if result.verdict is Verdict.BETTER else "Not better")
    assert "unrelated imagery" in report.general
    page = Path(report.report).read_text(encoding="utf-8")
    for text in (report.sentence, report.general, "tune <x>", "IoU after 3 clicks", "blocks of ground"):
        assert html.escape(text) in page
    assert page.count("<img") == len(report.pictures) > 0
    assert "<polyline" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert not list(settings.work_folder.glob("*.part"))


def test_too_few_objects_are_not_measured_and_it_is_said(ground: Ground, tmp_path: Path) -> None:
    labels = replace(ground.settings(tmp_path / "x").labels, where="fid <= 2")
    settings = ground.settings(tmp_path / "a.safetensors", schedule=QUICK, labels=labels)
    result = tune(settings, service(), NullProgress())
    report = report_of(settings, result)
    assert (report.verdict, report.parting, report.held_out) == ("not measured", Parting.NONE, 0)
    assert report.sentence.startswith("Not measured")
    assert any("only 2 objects" in note for note in report.notes)


def test_an_output_in_no_folder_is_refused_before_any_work(ground: Ground, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder"):
        tune(ground.settings(tmp_path / "none" / "a.safetensors"), service(), NullProgress())


def test_objects_too_small_for_the_level_are_refused(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "FEWEST_PIXELS", 10**9)
    with pytest.raises(TuningError, match="finer level"):
        tune(ground.settings(tmp_path / "a.safetensors"), service(), NullProgress())


def test_the_estimate_tells_time_memory_and_size(ground: Ground, tmp_path: Path) -> None:
    settings = ground.settings(tmp_path / "a.safetensors", schedule=replace(QUICK, steps=10))
    found = estimate(settings, service(), NullProgress())
    assert found.trainable == sum(p.numel() for p in service().get("tiny").network.mask_decoder.parameters())
    assert found.seconds >= 10 * found.per_step > 0
    assert 100e6 < found.memory < 8e9
    assert found.available > 0
    assert not settings.work_folder.exists() or not any(settings.work_folder.iterdir())
    longer = estimate(replace(settings, schedule=replace(QUICK, steps=1000)), service(), NullProgress())
    assert longer.seconds > 5 * found.seconds


def test_the_peak_of_memory_is_seen() -> None:
    with peak_memory(torch.device("cpu")) as before:
        torch.ones(1).sum()
    with peak_memory(torch.device("cpu")) as peak:
        held = torch.ones(60_000_000)
        for _ in range(20):
            held.add_(1)
    assert peak.bytes - before.bytes > 150e6
