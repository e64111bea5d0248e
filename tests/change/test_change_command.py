"""``samtune change``: polygons, rasters with and without objects, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from affine import Affine
from pyogrio.raw import read
from samtune.engine.batch_messages import BatchRunParams, BatchSpec, BatchTask
from samtune.engine.cli import main
from samtune.engine.commands import change as command

from ..engine.fakes import FakeModel, FakeModels
from ..engine.rasters import NORTH_UP, write
from .test_service import objects, texture

PLACE = NORTH_UP @ Affine.translation(0, -256)


def run(folder: Path, *arguments: str) -> int:
    store = ("--store-dir", str(folder / "store"), "--device", "cpu")
    return main(["change", *arguments, "-o", str(folder / "out.gpkg"), *store])


def kinds(folder: Path) -> list[str]:
    meta, _, _, columns = read(folder / "out.gpkg", layer="changes")
    return sorted(columns[list(meta["fields"]).index("change")].tolist())


def test_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = objects(tmp_path / "a.gpkg", (0, 0, 10), (50, 0, 10), labels=("a", "b"))
    after = objects(tmp_path / "b.gpkg", (1, 0, 10), (100, 0, 10), labels=("a", "b"))
    assert run(tmp_path, before, after, "--shift", "2", "--class-field", "class", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {item["kind"]: item["count"] for item in told["counts"]} == {"new": 1, "gone": 1, "changed": 0, "stable": 1}
    assert kinds(tmp_path) == ["gone", "new", "stable"]
    assert run(tmp_path, before, after) == 1
    assert "exists" in capsys.readouterr().err


def test_two_rasters_without_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "ModelService", lambda *_: FakeModels(FakeModel(name="tiny")))
    first = texture()
    second = first.copy()
    second[:, 120:184, 200:296] = texture(9)[:, 120:184, 200:296]
    paths = [str(write(tmp_path / name, picture)) for name, picture in (("a.tif", first), ("b.tif", second))]
    assert run(tmp_path, *paths, "--bands", "1,2,3") == 0
    assert set(kinds(tmp_path)) == {"changed"}
    assert "changed" in capsys.readouterr().out


def test_two_rasters_with_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are outlined into files beside the output, as jobs that leave nothing else behind."""
    specs: list[BatchSpec] = []

    class Outliner:
        def __init__(self, *_: object) -> None:
            self.boxes = ((0, 0, 10), (50, 0, 10))

        def run(self, params: BatchRunParams, _progress: object) -> None:
            specs.append(params.spec)
            Path(params.job).write_bytes(b"")
            objects(Path(params.spec.outputs.vector), *self.boxes[: len(specs)])

    monkeypatch.setattr(command, "BatchService", Outliner)
    paths = [str(write(tmp_path / name, texture(), transform=PLACE)) for name in ("a.tif", "b.tif")]
    assert run(tmp_path, *paths, "--everything", "--shift", "1", "--bands", "3,2,1") == 0
    assert [spec.task for spec in specs] == [BatchTask.AUTOMATIC] * 2
    assert [spec.rasters.paths for spec in specs] == [(paths[0],), (paths[1],)]
    assert {spec.rasters.bands for spec in specs} == {(3, 2, 1)}
    assert kinds(tmp_path) == ["new", "stable"]
    assert (tmp_path / "out.before.gpkg").is_file()
    assert (tmp_path / "out.after.gpkg").is_file()
    assert not list(tmp_path.glob(".samtune-*"))


def test_an_adapter_and_everything_exclude_each_other(tmp_path: Path) -> None:
    assert run(tmp_path, "a.tif", "b.tif", "--everything", "--adapter", "x.safetensors") == 2
