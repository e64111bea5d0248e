"""Interrupted runs are found by records that anybody may have written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from samtune.engine.tune_messages import LabelSource, RunState, TuneInputs, TuneParams, TuneTask
from samtune.engine.wire import to_wire
from samtune.models.errors import OutputError
from samtune.plugin.tune_runs import LARGEST_RECORD, discard, kept_runs, new_run_folder, read_run


def leave(runs: Path, name: str, state: str = "running", step: int = 20, **changes: object) -> Path:
    """Leave a run's folder behind."""
    folder = runs / name
    folder.mkdir(parents=True)
    labels = folder / "labels-1.gpkg"
    labels.write_bytes(b"")
    inputs = TuneInputs(("scene.tif",), LabelSource(str(labels), "labels", "class"), level=-1)
    params = TuneParams(inputs, TuneTask.PROMPTABLE, str(folder / "adapter.safetensors"), str(folder))
    record = {"params": to_wire(params), "state": state, "step": step, "steps": 80, "updated": "now", **changes}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    ("state", "step", "offered"),
    [
        ("running", 20, True),
        ("running", 0, True),
        ("paused", 20, True),
        ("measuring", 80, True),
        ("preparing", 0, True),
        ("cancelled", 20, True),
        ("cancelled", 0, False),
        ("failed", 20, True),
        ("failed", 0, False),
        ("finished", 80, False),
    ],
)
def test_which_are_offered(tmp_path: Path, state: str, step: int, offered: bool) -> None:
    folder = leave(tmp_path, "20260101-120000-flat-roofs", state, step)
    found = kept_runs(tmp_path)
    assert bool(found) is offered
    if offered:
        (run,) = found
        assert (run.folder, run.name, run.step, run.steps) == (folder, "flat roofs", step, 80)
        assert run.state is RunState(state)
        assert run.params.inputs.level == -1


def test_the_newest_comes_first(tmp_path: Path) -> None:
    for name in ("20260101-120000-a", "20260301-120000-c", "20260201-120000-b"):
        leave(tmp_path, name)
    assert [run.name for run in kept_runs(tmp_path)] == ["c", "b", "a"]
    assert kept_runs(tmp_path / "nowhere") == ()


@pytest.mark.parametrize(
    ("state", "seconds", "live"),
    [
        ("running", 5, True),
        ("preparing", 5, True),
        ("running", 90, False),
        ("running", -3600, False),
        ("cancelled", 5, False),
    ],
)
def test_a_fresh_record_may_be_of_a_run_under_way(tmp_path: Path, state: str, seconds: int, live: bool) -> None:
    written = datetime.now(UTC) - timedelta(seconds=seconds)
    run = read_run(leave(tmp_path, "run", state, updated=written.isoformat(timespec="seconds")))
    assert run is not None
    assert run.live is live


@pytest.mark.parametrize("updated", ["now", None, 3, "2026-01-01T00:00:00"])
def test_a_record_without_a_time_is_not_taken_for_live(tmp_path: Path, updated: object) -> None:
    run = read_run(leave(tmp_path, "run", updated=updated))
    assert run is not None
    assert not run.live


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "3",
        '{"params": 3, "state": "running", "step": 1, "steps": 2}',
        '{"state": "running"}',
        "[" * 100_000,
        "\xff",
    ],
)
def test_other_texts_are_no_runs(tmp_path: Path, text: str) -> None:
    folder = leave(tmp_path, "run")
    (folder / "run.json").write_bytes(text.encode("latin-1"))
    assert read_run(folder) is None


@pytest.mark.parametrize(
    "change",
    [{"state": "flying"}, {"step": "many"}, {"step": None}, {"step": -1}, {"params": {"folder": 1}}, {"steps": []}],
)
def test_records_with_wrong_values_are_no_runs(tmp_path: Path, change: dict[str, object]) -> None:
    assert read_run(leave(tmp_path, "run", **change)) is None


def test_a_record_that_names_another_folder_is_no_run(tmp_path: Path) -> None:
    folder = leave(tmp_path, "run")
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert read_run(moved) is None


def test_a_run_whose_polygons_are_gone_is_not_offered(tmp_path: Path) -> None:
    folder = leave(tmp_path, "run")
    (folder / "labels-1.gpkg").unlink()
    assert read_run(folder) is None


def test_a_huge_record_is_not_read(tmp_path: Path) -> None:
    folder = leave(tmp_path, "run", note="x" * LARGEST_RECORD)
    assert read_run(folder) is None


def test_folders_have_names_for_people_and_are_never_shared(tmp_path: Path) -> None:
    first = new_run_folder(tmp_path, "Dächer / ../flat: roofs")
    assert first.parent == tmp_path
    assert first.name.endswith("-Dächer-flat-roofs")
    assert not first.exists()
    first.mkdir()
    assert new_run_folder(tmp_path, "Dächer / ../flat: roofs") != first
    assert new_run_folder(tmp_path, "").parent == tmp_path


def test_only_folders_of_runs_are_deleted(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    folder = leave(runs, "run")
    other = leave(tmp_path, "mine")
    for wrong in (other, runs, tmp_path, folder / "inner"):
        with pytest.raises(OutputError):
            discard(wrong, runs)
    discard(folder, runs)
    assert not folder.exists()
    assert other.exists()
    discard(folder, runs)
