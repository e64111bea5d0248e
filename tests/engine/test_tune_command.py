"""``samtune tune``: what it asks of the trainer, what it says, and how it ends. The trainer is a stand-in."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from samtune.engine.cli import main
from samtune.engine.commands import tune as command
from samtune.engine.progress import Progress
from samtune.engine.tuning.result import Estimate, Score, TuneResult, Verdict
from samtune.engine.tuning.settings import Bands, Index, Task, TuneSettings
from samtune.models.errors import TuningError
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.selective import DecoderConfig

from .rasters import NORTH_UP, UTM, disc_raster

ESTIMATE = Estimate(125.0, 0.4, 5.0, 400_000_000, 8_000_000_000, 0, 4_058_340, ("A note on the estimate.",))


def polygons(path: Path, count: int) -> Path:
    boxes = [shapely.box(*(NORTH_UP @ (20 * n, 10)), *(NORTH_UP @ (20 * n + 10, 0))) for n in range(count)]
    kinds = np.array([f"kind {n % 2}" for n in range(count)], object)
    pyogrio.raw.write(
        path, shapely.to_wkb(boxes), [kinds], ["kind"], geometry_type="Polygon", crs=UTM, driver="GPKG", layer="drawn"
    )
    return path


class Trainer:
    """Notes what it is asked, and answers as told."""

    def __init__(self) -> None:
        """Be better."""
        self.settings: list[TuneSettings] = []
        self.verdict = Verdict.BETTER
        self.act: Callable[[TuneSettings, Progress], None] = lambda settings, progress: None
        self.tuned = 0
        self.held_out = 7
        self.resumed = False

    def estimate(self, settings: TuneSettings, models: object, progress: Progress) -> Estimate:
        """Answer."""
        self.settings.append(settings)
        return ESTIMATE

    def tune(self, settings: TuneSettings, models: object, progress: Progress, *, resume: bool = False) -> TuneResult:
        """Answer."""
        self.settings.append(settings)
        self.resumed = resume
        self.tuned += 1
        progress.report(0.5, "Step 100 of 200")
        self.act(settings, progress)
        settings.output.write_bytes(b"x" * 20_000)
        measured = self.verdict is not Verdict.NOT_MEASURED
        before = Score({"iou_1_click": 0.3}, {"iou_1_click": (0.2, 0.4)}, 7)
        after = Score({"iou_1_click": 0.5}, {"iou_1_click": (0.4, 0.6)}, self.held_out)
        return TuneResult(
            path=settings.output,
            card={"name": "a"},
            before=before if measured else None,
            after=after if measured else None,
            verdict=self.verdict,
            gain=(0.2, 0.1, 0.3) if measured else None,
            steps=200,
            seconds=84.0,
            folder=settings.work_folder,
            notes=("Two polygons were repaired.",),
        )


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    made = Trainer()
    monkeypatch.setattr(command, "tune", made.tune)
    monkeypatch.setattr(command, "estimate", made.estimate)
    return made


@pytest.fixture
def data(tmp_path: Path) -> list[str]:
    return [str(disc_raster(tmp_path / "a.tif")), str(polygons(tmp_path / "drawn.gpkg", 12))]


def tune(data: list[str], out: Path, *more: object) -> int:
    return main(["tune", *data, "-o", str(out), "--device", "cpu", *map(str, more)])


def test_a_run_from_start_to_verdict(
    trainer: Trainer, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    assert tune(data, tmp_path / "ponds.safetensors", "--method", "lora,decoder", "--json", report) == 0
    said = capsys.readouterr()
    for words in (
        "Tuning tiny by lora (rank 4",
        "about 2 min (5 s to prepare, then 0.40 s per step) and 400 MB of memory of 8.0 GB free",
        "4,058,340 numbers are trained.",
        "A note on the estimate.",
        "iou_1_click       0.300   0.500  +0.200",
        "Better than the base on ground it never saw: +0.200 (95 % interval +0.100 to +0.300, 7 held out).",
        "Two polygons were repaired.",
        "200 steps in 84 s. The adapter (0.02 MB)",
    ):
        assert words in said.out
    assert "Step 100 of 200 (50%)" in said.err, "a line in the log, as stderr is no terminal"
    written = json.loads(report.read_text())
    assert written["result"]["verdict"] == "better"
    assert written["settings"]["methods"][0]["method"] == "lora"
    assert written["estimate"]["per_step"] == 0.4


def test_every_option_reaches_the_trainer(trainer: Trainer, data: list[str], tmp_path: Path) -> None:
    second, extent = disc_raster(tmp_path / "dsm.tif"), polygons(tmp_path / "extent.gpkg", 1)
    options = [
        *("--class-field", "kind", "--layer", "drawn", "--where", "kind = 'kind 1'", "--extent", extent),
        *("--bands", "1,1,1", "--further", "1", "--index", "ndvi=1,2", "--second", second, "--level", 1),
        *("--least", 9, "--hold-out", 0.3, "--head", "instances", "--method", "late-lora", "--set", "lora.rank=2"),
        *("--keep-general", "--previous", data[0], "--full-precision"),
        *("--set", "schedule.rate=0.001", "--steps", 20, "--seed", 5, "--note", "By hand.", "--folder", tmp_path / "r"),
    ]
    assert tune([data[0], *data], tmp_path / "a.safetensors", *options) == 0
    one, two = trainer.settings
    assert one == two, "what was estimated is what is done"
    assert one.rasters == (Path(data[0]), Path(data[0]))
    assert (one.labels.path, one.labels.class_field, one.labels.where) == (Path(data[1]), "kind", "kind = 'kind 1'")
    assert (one.extent, one.second, one.level, one.least) == (extent, second, 1, 9)
    assert (one.rgb, one.bands, one.indices) == ((1, 1, 1), (1,), (Index("ndvi", 1, 2),))
    assert (one.task, one.methods) == (Task.INSTANCES, (LoraConfig(rank=2, start=0.5),))
    assert (one.schedule.steps, one.schedule.rate, one.seed, one.hold_out) == (20, 0.001, 5, 0.3)
    assert (one.notes, one.work_folder) == ("By hand.", tmp_path / "r")
    assert (one.keep_general, one.previous, one.amp) == (True, Path(data[0]), False)
    assert one.command.split()[0] == "samtune"


def test_all_bands(trainer: Trainer, data: list[str], tmp_path: Path) -> None:
    assert tune(data, tmp_path / "a.safetensors", "--bands", "all", "--method", "band-stem") == 0
    assert (trainer.settings[0].rgb, trainer.settings[0].bands) == ((), Bands.ALL)


def test_without_a_method_the_ladder_decides_and_says_why(
    trainer: Trainer, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(data, tmp_path / "a.safetensors") == 0
    assert trainer.settings[0].methods == (DecoderConfig(),)
    assert "With 12 objects" in capsys.readouterr().err
    assert tune(data, tmp_path / "b.safetensors", "--set", "lora.rank=3") == 1
    assert "--method" in capsys.readouterr().err


def test_objects_beyond_the_raster_do_not_count(
    trainer: Trainer, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = polygons(tmp_path / "many.gpkg", 60)
    assert tune([data[0], str(labels)], tmp_path / "a.safetensors") == 0
    assert "With 30 objects" in capsys.readouterr().err


def test_the_estimate_alone_needs_no_free_output(
    trainer: Trainer, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.safetensors"
    out.write_text("mine")
    assert tune(data, out, "--estimate-only") == 0
    assert "about 2 min" in capsys.readouterr().out
    assert trainer.tuned == 0
    assert out.read_text() == "mine"


def test_the_estimate_can_be_left_out(
    trainer: Trainer, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(data, tmp_path / "a.safetensors", "--no-estimate") == 0
    assert "about" not in capsys.readouterr().out
    assert len(trainer.settings) == 1


@pytest.mark.parametrize(
    ("verdict", "status", "words"),
    [
        (Verdict.NOT_BETTER, 3, "Not better than the base"),
        (Verdict.NOT_MEASURED, 0, "Not measured"),
    ],
)
def test_the_verdict_is_the_exit_status(
    trainer: Trainer,
    data: list[str],
    tmp_path: Path,
    verdict: Verdict,
    status: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer.verdict = verdict
    assert tune(data, tmp_path / "a.safetensors") == status
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_ends_in_good_order_and_says_how_to_go_on(
    trainer: Trainer, data: list[str], tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(settings: TuneSettings, progress: Progress) -> None:
        settings.work_folder.mkdir()
        (settings.work_folder / command.CHECKPOINT).write_text("steps")
        os.kill(os.getpid(), number)
        progress.check()
        pytest.fail("must have stopped")

    trainer.act = act
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert tune(data, tmp_path / "a.safetensors") == 130
    said = capsys.readouterr().err
    assert "Interrupted." in said and "--resume" in said and "a.run" in said
    assert not (tmp_path / "a.safetensors").exists()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    trainer.act = lambda settings, progress: progress.check()
    assert tune(data, tmp_path / "a.safetensors") == 1, "it says what there is to go on with"
    assert "--resume" in capsys.readouterr().err
    assert tune(data, tmp_path / "a.safetensors", "--resume") == 0
    assert trainer.resumed


def test_beginning_anew_lets_the_interrupted_run_go(
    trainer: Trainer, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "a.run" / command.CHECKPOINT
    kept.parent.mkdir()
    kept.write_text("steps")
    assert tune(data, tmp_path / "a.safetensors", "--overwrite") == 0
    assert not kept.exists()
    capsys.readouterr()
    assert tune(data, tmp_path / "b.safetensors", "--resume") == 0
    assert "a new one begins" in capsys.readouterr().err
    assert "--overwrite" not in trainer.settings[0].command


def test_a_second_interrupt_does_not_wait(trainer: Trainer, data: list[str], tmp_path: Path) -> None:
    def act(settings: TuneSettings, progress: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("must have stopped")

    trainer.act = act
    assert tune(data, tmp_path / "a.safetensors") == 130


def wrong(data: list[str], tmp_path: Path) -> list[tuple[list[str], list[str], str]]:
    return [
        ([data[0], str(tmp_path / "none.gpkg")], [], "There is no file"),
        ([str(tmp_path / "none.tif"), data[1]], [], "There is no file"),
        (data, ["--second", str(tmp_path / "none.tif")], "There is no file"),
        (data, ["--previous", str(tmp_path / "none.safetensors")], "There is no file"),
        (data, ["--json", str(tmp_path / "none" / "r.json")], "no folder"),
        (data, ["--bands", "red"], "no list of band numbers"),
        (data, ["--further", "1;2"], "no list of band numbers"),
        (data, ["--method", "magic"], "no tuning method"),
        (data, ["--resume", "--overwrite"], "Leave one of the two out"),
        (data, ["--class-field", "none"], "no field 'none'"),
        (data, ["--hold-out", "0.9"], "held out"),
        (data, ["--steps", "0"], "at least 1"),
    ]


@pytest.mark.parametrize("case", range(12))
def test_what_is_wrong_stops_with_one_line_before_anything_is_done(
    trainer: Trainer, data: list[str], tmp_path: Path, case: int, capsys: pytest.CaptureFixture[str]
) -> None:
    given, options, words = wrong(data, tmp_path)[case]
    assert tune(given, tmp_path / "a.safetensors", *options) == 1
    said = capsys.readouterr().err
    assert words in said
    assert trainer.tuned == 0
    assert not (tmp_path / "a.safetensors").exists()


def test_a_gain_on_few_objects_is_said_with_a_doubt(
    trainer: Trainer, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(data, tmp_path / "a.safetensors") == 0
    assert "say little" not in capsys.readouterr().out
    trainer.held_out = 2
    assert tune(data, tmp_path / "b.safetensors") == 0
    assert "say little" in capsys.readouterr().out


def test_objects_that_are_too_small_do_not_count(
    trainer: Trainer, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(data, tmp_path / "a.safetensors", "--least", 101) == 0
    assert "With 0 objects" in capsys.readouterr().err


def test_outputs_are_never_replaced_unasked(
    trainer: Trainer, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.safetensors"
    out.write_text("mine")
    assert tune(data, out) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (out.read_text(), trainer.tuned) == ("mine", 0)
    assert tune(data, out, "--overwrite") == 0
    assert out.stat().st_size == 20_000
    assert tune(data, tmp_path / "a.pt") == 1
    assert "a.safetensors" in capsys.readouterr().err
    assert tune(data, tmp_path / "none" / "a.safetensors") == 1


def test_trouble_of_the_trainer_is_one_line(
    trainer: Trainer, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(settings: TuneSettings, progress: Progress) -> None:
        raise TuningError("The loss is no number any more.")

    trainer.act = act
    assert tune(data, tmp_path / "a.safetensors", "--method", "decoder") == 1
    assert "The loss is no number any more." in capsys.readouterr().err


def test_labels_alone_are_wrong_usage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["tune", "labels.gpkg", "-o", str(tmp_path / "a.safetensors")]) == 2
    assert "LABELS" in capsys.readouterr().err


def test_of_several_processes_only_the_first_speaks(
    trainer: Trainer,
    data: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert tune(data, tmp_path / "a.safetensors") == 0
    assert capsys.readouterr() == ("", "")
    assert len(trainer.settings) == 1, "without an estimate, which would load the model on the wrong card"
