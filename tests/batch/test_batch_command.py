"""``samtune batch`` with the fake model; messages on the wire; manifests."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from samtune.engine.batch import worker
from samtune.engine.batch.job_file import JobFile
from samtune.engine.batch.spec import read_manifest
from samtune.engine.batch.status import Meter, in_words, rate_of, run_left, seconds_left, status_of
from samtune.engine.batch_messages import BatchRasters, BatchResult, BatchRunParams, BatchSpec, BatchStatus, BatchTask
from samtune.engine.cli import main
from samtune.engine.progress import NullProgress
from samtune.engine.wire import from_wire, to_wire
from samtune.models.errors import OutputError
from shapely.geometry import Point

from ..engine.fakes import FakeModel, FakeModels
from .jobs import SIZE, discs, on_map, prompt_spec, prompts, row_dicts, service

PLACES = [(120, 130), (300, 300), (560, 200)]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(worker, "ModelService", lambda *_: FakeModels(FakeModel(SIZE, "tiny")))
    (tmp_path / "rasters").mkdir()
    discs(tmp_path / "rasters" / "a.tif", PLACES)
    prompts(tmp_path / "points.gpkg", [Point(on_map(*place)) for place in PLACES])
    return tmp_path


def run(folder: Path, *arguments: str) -> int:
    return main(["batch", *arguments, "--store-dir", str(folder / "store"), "--device", "cpu"])


def test_run_status_and_resume(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = scene / "out.gpkg"
    given = ("--task", "prompts", "--prompts", str(scene / "points.gpkg"), "--class", "pond", "-o", str(out))
    assert run(scene, "run", str(scene / "rasters"), *given) == 0
    assert "prompts, finished: 3 of 3 tiles, 3 objects" in capsys.readouterr().out
    assert {row["class"] for row in row_dicts(out)} == {"pond"}
    assert main(["batch", "status", str(scene / "out.samjob"), "--json"]) == 0
    status = from_wire(BatchStatus, json.loads(capsys.readouterr().out))
    assert (status.units, status.units_done, status.outputs) == (1, 1, (str(out),))
    out.unlink()
    assert run(scene, "resume", str(scene / "out.samjob"), "--json") == 0
    result = from_wire(BatchResult, json.loads(capsys.readouterr().out))
    assert result.command.endswith("out.samjob")
    assert out.exists()
    assert run(scene, "run", str(scene / "out.samjob"), "-o", str(scene / "other.fgb")) == 0
    assert len(row_dicts(scene / "other.fgb")) == 3


def test_some_failed_rasters_have_an_exit_status(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scene / "rasters" / "bad.tif").write_bytes(b"nothing")
    given = ("--task", "prompts", "--prompts", str(scene / "points.gpkg"), "-o", str(scene / "out.gpkg"))
    assert run(scene, "run", str(scene / "rasters"), *given) == 3
    told = capsys.readouterr()
    assert "bad.tif" in told.out
    assert "1 rasters could not be used" in told.err
    assert len(row_dicts(scene / "out.gpkg")) == 3


def test_a_manifest_says_it_all(scene: Path) -> None:
    (scene / "job.toml").write_text(
        'task = "prompts"\nclass_name = "pond"\n[rasters]\npaths = ["rasters"]\npattern = "a*.tif"\n'
        '[prompts]\npath = "points.gpkg"\n[outputs]\nvector = "out.gpkg"\n[options]\nsimplify = 0.5\n',
        encoding="utf-8",
    )
    assert run(scene, "run", str(scene / "job.toml")) == 0
    assert {row["class"] for row in row_dicts(scene / "out.gpkg")} == {"pond"}
    (scene / "bad.toml").write_text('task = "prompts"\ncolour = 3\n[rasters]\npaths = ["rasters"]\n', encoding="utf-8")
    with pytest.raises(OutputError, match="says something that no job has"):
        read_manifest(scene / "bad.toml")
    (scene / "worse.toml").write_text("task = ", encoding="utf-8")
    with pytest.raises(OutputError, match="no TOML"):
        read_manifest(scene / "worse.toml")


def test_specs_travel(scene: Path) -> None:
    spec = prompt_spec(scene, [scene / "rasters"], scene / "points.gpkg")
    assert from_wire(BatchSpec, json.loads(json.dumps(to_wire(spec)))) == spec
    assert spec.task is BatchTask.PROMPTS


def test_no_job_is_told(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "status", str(scene / "no.samjob")]) == 1
    assert "There is no job file" in capsys.readouterr().err
    (scene / "text.samjob").write_text("a text, long enough to be looked at as a database by those who care" * 20)
    assert main(["batch", "status", str(scene / "text.samjob")]) == 1
    assert "no job file of SamTune" in capsys.readouterr().err


def test_time_left_follows_the_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("samtune.engine.batch.status.time.monotonic", lambda: now[0])
    meter = Meter(total=101, before=0)
    now[0] += 30.0  # loading the model does not count
    meter.add(1)
    for _ in range(20):
        now[0] += 3.0
        meter.add(1)
    assert meter.rate == pytest.approx(1 / 3)
    assert "21 of 101 tiles" in meter.sentence
    assert "4 min left" in meter.sentence
    record = json.loads(meter.record())
    assert record == {"tiles": 20, "seconds": 60.0, "done": 21, "at": pytest.approx(time.time(), abs=60)}
    assert (rate_of(0, 5.0), seconds_left(5, 0.0), seconds_left(0, 0.0)) == (0.0, -1.0, 0.0)
    assert [in_words(seconds) for seconds in (40, 720, 12000)] == ["40 s", "12 min", "3 h 20 min"]
    assert [in_words(seconds) for seconds in (119, 148, 594, 596)] == ["2 min", "2 min 30 s", "9 min 50 s", "10 min"]


def test_the_file_says_the_time_left_within_units_too() -> None:
    run = {"tiles": 20, "seconds": 60.0, "done": 21, "at": time.time()}
    # units of 16 tiles: one is done, five tiles of the next ones are
    assert run_left(101 - 16, 16, run) == pytest.approx(240, abs=1)
    assert run_left(101 - 16, 16, {**run, "at": time.time() - 6}) == pytest.approx(234, abs=1)
    assert run_left(101 - 16, 16, {**run, "at": time.time() - 3600}) == pytest.approx(230, abs=1)  # another clock
    assert run_left(5, 16, {**run, "at": time.time() - 3600}) == 0
    assert run_left(85, 16, {}) == -1


def test_a_running_job_is_asked_within_its_first_unit(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file tells the rate and the time left before any unit is done."""
    monkeypatch.setattr("samtune.engine.batch.claim.BEAT_SECONDS", 0.0)
    said: list[BatchStatus] = []
    job = scene / "long.samjob"

    class Asking(NullProgress):
        def report(self, _fraction: float, message: str) -> None:
            if " tiles" in message:
                with JobFile(job) as opened:
                    said.append(status_of(opened))

    spec = BatchSpec(BatchTask.EMBEDDINGS, BatchRasters((str(scene / "rasters" / "a.tif"),)))
    service(scene).run(BatchRunParams(str(job), spec), Asking())
    early = [status for status in said if not status.done]
    assert any(status.rate > 0 and status.seconds_left > 0 for status in early)
