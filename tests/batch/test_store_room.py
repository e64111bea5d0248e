"""Filling the store: told and refused before it starts where not all of it can be kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from samtune.engine.batch import worker
from samtune.engine.batch.estimate import GIB, beyond_store, disk_bytes
from samtune.engine.batch.items import Machine
from samtune.engine.batch.service import BatchService
from samtune.engine.batch_messages import BatchRasters, BatchSpec, BatchTask, EstimateParams
from samtune.engine.cli import main
from samtune.engine.progress import NullProgress
from samtune.models.errors import StoreError

from ..engine.fakes import FakeModel, FakeModels
from .jobs import SIZE, discs, do

TILES = 4
"""Of a raster of 700 pixels a side."""


@pytest.fixture
def raster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(worker, "ModelService", lambda *_: FakeModels(FakeModel(SIZE, "tiny")))
    return discs(tmp_path / "a.tif", [(300, 300)])


def service(folder: Path, cap: int) -> BatchService:
    machine = Machine(store_dir=str(folder / "store"), device="cpu", threads=1, store_bytes=cap)
    models = FakeModels(FakeModel(SIZE, "tiny"))
    models.device = type("Device", (), {"name": "cpu"})()
    return BatchService(machine, models)  # type: ignore[arg-type]


def stored(folder: Path) -> int:
    return len(list((folder / "store").rglob("*.safetensors")))


def test_a_store_too_small_is_told_and_refused_and_a_larger_one_goes_on(raster: Path) -> None:
    folder = raster.parent
    spec = BatchSpec(BatchTask.EMBEDDINGS, BatchRasters((str(raster),)))
    small, large = service(folder, 1_000_000), service(folder, 1 << 30)
    params = EstimateParams(spec, measure=False)
    assert "--store-gib 1" in small.estimate(params, NullProgress()).problem
    found = large.estimate(params, NullProgress())
    assert (found.problem, found.tiles) == ("", TILES)
    with pytest.raises(StoreError, match="dropped before the last"):
        do(small, folder / "j.samjob", spec)
    assert stored(folder) == 0
    do(large, folder / "j.samjob")
    assert stored(folder) == TILES


def test_what_a_tile_takes_is_what_its_file_takes(raster: Path) -> None:
    folder = raster.parent
    do(service(folder, GIB), folder / "j.samjob", BatchSpec(BatchTask.EMBEDDINGS, BatchRasters((str(raster),))))
    sizes = [path.stat().st_size for path in (folder / "store").rglob("*.safetensors")]
    assert max(sizes) <= disk_bytes(BatchTask.EMBEDDINGS, 1, SIZE) <= 1.05 * min(sizes)
    assert disk_bytes(BatchTask.EMBEDDINGS, 3, 2 * SIZE) > 3.9 * disk_bytes(BatchTask.EMBEDDINGS, 3, SIZE)


def test_only_embeddings_need_room_in_the_store() -> None:
    assert not beyond_store(BatchTask.FIND, 10 * GIB, GIB)
    assert not beyond_store(BatchTask.EMBEDDINGS, GIB, GIB)
    assert "4 GiB" in beyond_store(BatchTask.EMBEDDINGS, 10 * GIB, 4 * GIB)


def test_the_command_takes_the_cap(raster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = raster.parent / "j.samjob"
    given = ("--job", str(job), "--store-dir", str(raster.parent / "store"), "--device", "cpu")
    run = ["batch", "run", str(raster), "--task", "embeddings", *given]
    assert main([*run, "--store-gib", "0.001"]) == 1
    assert "--store-gib 1" in capsys.readouterr().err
    assert main(["batch", "resume", str(job), *given[2:]]) == 0
    assert stored(raster.parent) == TILES
