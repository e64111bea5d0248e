"""Jobs from beginning to end: prompts, outputs, bad rasters, stopping, resuming, moving."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from samtune.engine import vector_output
from samtune.engine.batch import claim as claiming
from samtune.engine.batch import planning
from samtune.engine.batch.job_file import JobFile
from samtune.engine.batch.outputs import OutputWriter
from samtune.engine.batch_messages import (
    BatchOptions,
    BatchOutputs,
    BatchRasters,
    BatchRunParams,
    BatchSpec,
    BatchState,
    BatchStatusParams,
    BatchTask,
    EstimateParams,
    VectorSource,
)
from samtune.engine.progress import NullProgress
from samtune.models.errors import CancelledByUser, OutputError, PromptError, RasterError, SamTuneError
from shapely.geometry import Point, box

from ..engine.fakes import FakeModel
from ..engine.rasters import UTM, disc_area, write
from .jobs import Impatient, discs, do, features, on_map, prompt_spec, prompts, row_dicts, service

PLACES = [(120, 130), (300, 300), (560, 200), (200, 560), (580, 590)]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    discs(tmp_path / "a.tif", PLACES)
    prompts(tmp_path / "points.gpkg", [Point(on_map(*place)) for place in PLACES], height=[1.5, 2.5, 3.5, 4.5, 5.5])
    return tmp_path


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "PROMPTS_PER_UNIT", 1)


def test_each_prompt_becomes_an_object_with_its_attributes(scene: Path) -> None:
    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg")
    result = do(service(scene), scene / "j.samjob", spec)
    assert result.status.state is BatchState.FINISHED
    assert (result.status.done, result.status.objects) == (5, 5)
    rows = row_dicts(scene / "out.gpkg")
    assert {row["name"]: row["height"] for row in rows} == {f"n{i}": i + 1.5 for i in range(5)}
    for row in rows:
        place = PLACES[int(str(row["name"])[1:])]
        assert shapely.contains_xy(row["geometry"], *on_map(*place))
        assert row["geometry"].area == pytest.approx(disc_area(30.0) * 0.25, rel=0.05)
        assert (row["raster"], row["model"], row["prompt"], row["bands"]) == ("a.tif", "tiny", "point", "1")
        assert row["score"] == pytest.approx(0.9)
        assert row["area"] == pytest.approx(row["geometry"].area, rel=0.01)
    assert pyogrio.read_info(scene / "out.gpkg")["crs"] == UTM


def test_boxes_polygons_and_other_crs_are_prompts_too(scene: Path) -> None:
    shapes = [box(*on_map(c - 35, r + 35), *on_map(c + 35, r - 35)) for c, r in PLACES[:2]]
    shapes.append(Point(on_map(*PLACES[2])).buffer(16))
    from pyproj import Transformer

    way = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    degrees = [shapely.transform(shape, lambda xy: np.column_stack(way.transform(*xy.T))) for shape in shapes]
    prompts(scene / "boxes.gpkg", degrees, "EPSG:4326", kind=["pond", "pond", "tank"])
    spec = replace(prompt_spec(scene, [scene / "a.tif"], scene / "boxes.gpkg"), class_field="kind")
    do(service(scene), scene / "j.samjob", spec)
    rows = row_dicts(scene / "out.gpkg")
    assert [row["class"] for row in rows] == ["pond", "pond", "tank"]
    assert {row["prompt"] for row in rows} == {"box"}
    for row in rows:
        assert row["geometry"].area == pytest.approx(disc_area(30.0) * 0.25, rel=0.08)


def test_an_object_larger_than_its_crop_is_looked_at_again(tmp_path: Path) -> None:
    discs(tmp_path / "a.tif", [(700, 700)], 1400, 200.0)
    prompts(tmp_path / "points.gpkg", [Point(on_map(700, 700))])
    do(service(tmp_path), tmp_path / "j.samjob", prompt_spec(tmp_path, [tmp_path / "a.tif"], tmp_path / "points.gpkg"))
    (row,) = row_dicts(tmp_path / "out.gpkg")
    assert row["geometry"].area == pytest.approx(disc_area(200.0) * 0.25, rel=0.02)


def test_bad_rasters_are_told_and_skipped(scene: Path) -> None:
    folder = scene / "rasters"
    folder.mkdir()
    shutil.copy(scene / "a.tif", folder / "b.tif")
    (folder / "corrupt.tif").write_bytes(b"II*\0 nothing")
    write(folder / "z-nowhere.tif", np.full((1, 64, 64), 9, np.uint8), crs=None)
    spec = prompt_spec(scene, [folder], scene / "points.gpkg")
    result = do(service(scene), scene / "j.samjob", spec)
    found = {item.name: item for item in result.status.rasters}
    assert found["b.tif"].state is BatchState.FINISHED
    assert found["corrupt.tif"].state is found["z-nowhere.tif"].state is BatchState.FAILED
    assert "cannot be opened" in found["corrupt.tif"].problem
    assert "no CRS" in found["z-nowhere.tif"].problem
    assert len(row_dicts(scene / "out.gpkg")) == 5
    shutil.copy(scene / "a.tif", folder / "corrupt.tif")  # mended: resuming tries it again
    again = do(service(scene), scene / "j.samjob")
    assert {item.name: item.state for item in again.status.rasters}["corrupt.tif"] is BatchState.FINISHED


def test_a_job_without_any_usable_raster_says_why(scene: Path) -> None:
    (scene / "bad.tif").write_bytes(b"nothing")
    spec = prompt_spec(scene, [scene / "bad.tif"], scene / "points.gpkg")
    with pytest.raises(SamTuneError, match="None of the job's rasters"):
        do(service(scene), scene / "j.samjob", spec)
    assert not (scene / "out.gpkg").exists()


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("looks", [3, 9, 14])
def test_what_is_stopped_and_resumed_equals_what_is_not(scene: Path, looks: int) -> None:
    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg")
    do(service(scene), scene / "whole.samjob", spec)
    stopped = replace(spec, outputs=BatchOutputs(str(scene / "stopped.gpkg")))
    with pytest.raises(CancelledByUser):
        service(scene).run(BatchRunParams(str(scene / "j.samjob"), stopped), Impatient(looks))
    status = service(scene).status(BatchStatusParams(str(scene / "j.samjob")), NullProgress())
    assert status.state is BatchState.WAITING
    model = FakeModel(512, "tiny")
    result = do(service(scene, model), scene / "j.samjob")
    assert result.status.units_done == 5
    assert len(model.decoded) == 5 - status.units_done
    assert features(scene / "stopped.gpkg") == features(scene / "out.gpkg")


@pytest.mark.usefixtures("small_units")
def test_a_moved_job_finds_its_rasters(scene: Path) -> None:
    home = scene / "home"
    (home / "rasters").mkdir(parents=True)
    shutil.move(scene / "a.tif", home / "rasters" / "a.tif")
    spec = prompt_spec(scene, [home / "rasters"], scene / "points.gpkg")
    with pytest.raises(CancelledByUser):
        service(scene).run(BatchRunParams(str(home / "j.samjob"), spec), Impatient(9))
    moved = scene / "moved"
    shutil.move(home, moved)
    beside = do(service(scene), moved / "j.samjob", outputs=BatchOutputs(str(scene / "one.gpkg")))
    assert beside.status.units_done == 5
    shutil.move(moved / "j.samjob", scene / "alone.samjob")
    with JobFile(scene / "alone.samjob") as job, job.writing() as db:
        db.execute("UPDATE unit SET finished = NULL WHERE number = 1")
        db.execute("DELETE FROM object WHERE unit = 1")
    lost = do(service(scene), scene / "alone.samjob", outputs=BatchOutputs(str(scene / "two.gpkg")))
    assert lost.status.rasters[0].state is BatchState.FAILED
    assert "--root" in lost.status.rasters[0].problem
    outputs = BatchOutputs(str(scene / "three.gpkg"))
    found = do(service(scene), scene / "alone.samjob", outputs=outputs, root=str(moved / "rasters"))
    assert found.status.rasters[0].state is BatchState.FINISHED
    assert features(scene / "three.gpkg") == features(scene / "one.gpkg")


@pytest.mark.usefixtures("small_units")
def test_a_changed_raster_is_refused(scene: Path) -> None:
    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg")
    with pytest.raises(CancelledByUser):
        service(scene).run(BatchRunParams(str(scene / "j.samjob"), spec), Impatient(9))
    later = time.time() + 50
    os.utime(scene / "a.tif", (later, later))  # copied or touched: the same raster
    with JobFile(scene / "j.samjob") as job:
        before = job.units()
    discs(scene / "a.tif", PLACES[:4])
    with pytest.raises(RasterError, match="changed since this job was begun"):
        do(service(scene), scene / "j.samjob")
    discs(scene / "a.tif", PLACES)
    assert do(service(scene), scene / "j.samjob").status.units_done == before[0] == 5


def test_other_weights_are_refused(scene: Path) -> None:
    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg")
    do(service(scene), scene / "j.samjob", spec)
    with JobFile(scene / "j.samjob") as job, job.claim() as mine:
        job.set_header(mine, replace(job.header, model_hash="0" * 64))
    with pytest.raises(SamTuneError, match="not the one that this job was begun with"):
        do(service(scene), scene / "j.samjob")


def test_two_at_once_are_refused_and_the_dead_taken_over(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg")
    do(service(scene), scene / "j.samjob", spec)
    with JobFile(scene / "j.samjob") as job, job.claim() as first:
        assert claiming.is_claimed(str(job.get("claim")))
        with pytest.raises(OutputError, match="Another process works on"):
            do(service(scene), scene / "j.samjob")
        owner = str(job.get("claim")).rpartition(" on ")[0]
        with job.writing() as db:
            db.execute("UPDATE job SET value = 'x on elsewhere at 5' WHERE key = 'claim'")
        with pytest.raises(OutputError, match="has taken over"):
            job.put(first, note="too late")
        assert owner
    with sqlite3.connect(scene / "j.samjob") as db:
        db.execute("INSERT OR REPLACE INTO job VALUES ('claim', ?)", (f"x on elsewhere at {time.time():.0f}",))
    with pytest.raises(OutputError, match="The machine elsewhere works on"):
        do(service(scene), scene / "j.samjob")
    monkeypatch.setattr(claiming, "STALE_SECONDS", 0.0)
    assert do(service(scene), scene / "j.samjob").status.state is BatchState.FINISHED


@pytest.mark.parametrize("suffix", [".fgb", ".gpkg"])
def test_outputs_are_made_again_but_others_files_are_not_replaced(scene: Path, suffix: str) -> None:
    output = scene / f"out{suffix}"
    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg", output.name)
    do(service(scene), scene / "j.samjob", spec)
    first = features(output)
    assert len(first) == 5
    output.unlink()
    do(service(scene), scene / "j.samjob")
    assert features(output) == first
    do(service(scene), scene / "j.samjob")  # it is as this job wrote it, and may be replaced
    output.write_bytes(b"somebody's")
    with pytest.raises(OutputError, match="exists"):
        do(service(scene), scene / "j.samjob")
    assert output.read_bytes() == b"somebody's"
    do(service(scene), scene / "j.samjob", outputs=BatchOutputs(str(output), overwrite=True))
    assert features(output) == first


def test_a_job_killed_just_after_its_output_appeared_knows_it_as_its_own(
    scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg")
    with monkeypatch.context() as patch:
        patch.setattr(OutputWriter, "_note", die)
        with pytest.raises(KeyboardInterrupt):
            do(service(scene), scene / "j.samjob", spec)
    first = features(scene / "out.gpkg")
    assert len(first) == 5
    assert do(service(scene), scene / "j.samjob").status.state is BatchState.FINISHED
    assert features(scene / "out.gpkg") == first


def test_an_existing_output_stops_a_job_before_it_begins(scene: Path) -> None:
    (scene / "out.gpkg").touch()
    with pytest.raises(OutputError, match="exists"):
        do(service(scene), scene / "j.samjob", prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg"))
    assert not (scene / "j.samjob").exists()


def test_geoparquet_is_written_or_refused_in_words(scene: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow") if "Parquet" in pyogrio.list_drivers() else None
    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg", "out.parquet")
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        if pyarrow is None:
            with pytest.raises(OutputError, match="pyarrow"):
                do(service(scene), scene / "j.samjob", spec)
            return
        raise
    do(service(scene), scene / "j.samjob", spec)
    table = parquet.read_table(scene / "out.parquet")
    about = json.loads(table.schema.metadata[b"geo"])
    assert table.num_rows == 5
    assert about["columns"][about["primary_column"]]["crs"]["id"]["code"] == 32633


def test_a_full_disk_leaves_the_job_as_it_was(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg")

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("samtune.engine.batch.output.write_layer", full)
        with pytest.raises(OutputError, match="free space"):
            do(service(scene), scene / "j.samjob", spec)
    assert not (scene / "out.gpkg").exists()
    assert not list(scene.glob(".samtune-*"))
    (scene / "out.gpkg-wal").touch()
    with pytest.raises(OutputError, match="open in another program"):
        do(service(scene), scene / "j.samjob")
    (scene / "out.gpkg-wal").unlink()
    model = FakeModel(512, "tiny")
    assert do(service(scene, model), scene / "j.samjob").status.objects == 5
    assert not model.decoded
    assert vector_output.FIELDS


@pytest.mark.usefixtures("small_units")
def test_a_full_disk_under_the_job_file_loses_no_unit(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg")
    commit, commits = JobFile.commit, []

    def filling(job: JobFile, *arguments: object) -> bool:
        commits.append(1)
        if len(commits) == 3:
            job._db.execute("PRAGMA max_page_count = 1")
        return commit(job, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(JobFile, "commit", filling)
        # A page more than there are must be needed: outlines of all vertices are larger than that.
        with pytest.raises(OutputError, match="The disk is full"):
            do(service(scene), scene / "j.samjob", spec)
    with JobFile(scene / "j.samjob") as job:
        assert 2 <= job.units()[1] < 5
    assert do(service(scene), scene / "j.samjob").status.objects == 5


@pytest.mark.usefixtures("small_units")
def test_a_raster_that_goes_away_half_way(scene: Path) -> None:
    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg")

    class Losing(FakeModel):
        def encode(self, *arguments: object, **more: object) -> object:
            if (scene / "a.tif").exists():
                shutil.move(scene / "a.tif", scene / "gone.tif")
            return super().encode(*arguments, **more)  # type: ignore[arg-type]

    result = do(service(scene, Losing(512, "tiny")), scene / "j.samjob", spec)
    (raster,) = result.status.rasters
    assert raster.state is BatchState.FAILED
    assert "a.tif" in raster.problem
    assert raster.done < 5
    shutil.move(scene / "gone.tif", scene / "a.tif")
    again = do(service(scene), scene / "j.samjob")
    assert again.status.rasters[0].state is BatchState.FINISHED
    assert again.status.objects == 5


def test_embeddings_are_those_of_clicks(scene: Path) -> None:
    engine = service(scene)
    picture = np.full((1, 700, 1400), 90, np.uint8)
    picture[:, :, 800:] = 0
    write(scene / "half.tif", picture, nodata=0)
    spec = BatchSpec(BatchTask.EMBEDDINGS, BatchRasters((str(scene / "half.tif"),)))
    status = do(engine, scene / "j.samjob", spec).status
    assert status.rasters[0].skipped > 0
    stored = list((scene / "store").rglob("*.safetensors"))
    assert len(stored) == status.done - status.rasters[0].skipped
    model = FakeModel(512, "tiny")
    prompts(scene / "one.gpkg", [Point(on_map(300, 300))])
    do(service(scene, model), scene / "k.samjob", prompt_spec(scene, [scene / "half.tif"], scene / "one.gpkg"))
    assert not model.encoded


def test_an_area_limits_the_work(scene: Path) -> None:
    area = box(*on_map(0, 400), *on_map(400, 0))
    prompts(scene / "area.gpkg", [area])
    spec = prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg")
    do(service(scene), scene / "j.samjob", replace(spec, area=VectorSource(str(scene / "area.gpkg"))))
    assert {row["name"] for row in row_dicts(scene / "out.gpkg")} == {"n0", "n1"}


def test_an_estimate_counts_and_measures(scene: Path) -> None:
    (scene / "bad.tif").write_bytes(b"nothing")
    spec = prompt_spec(scene, [scene / "a.tif", scene / "bad.tif"], scene / "points.gpkg")
    engine = service(scene)
    engine._models.device = type("Device", (), {"name": "cpu"})()  # type: ignore[union-attr]
    found = engine.estimate(EstimateParams(spec), NullProgress())
    assert (found.rasters, found.tiles, found.units, len(found.failed)) == (1, 5, 1, 1)
    assert found.seconds > 0
    assert found.disk > 0
    assert not found.problem
    nothing = engine.estimate(
        EstimateParams(replace(spec, rasters=BatchRasters((str(scene / "bad.tif"),)))), NullProgress()
    )
    assert "nothing to do" in nothing.problem


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"prompts": VectorSource()}, "needs prompts"),
        ({"task": BatchTask.FIND, "prompts": VectorSource()}, "needs an adapter"),
        ({"task": BatchTask.EMBEDDINGS, "prompts": VectorSource()}, "writes no file"),
        ({"outputs": BatchOutputs()}, "no output"),
        ({"outputs": BatchOutputs("x.shp")}, "no known suffix"),
        ({"options": BatchOptions(simplify=-1.0)}, "0 or more"),
        ({"rasters": BatchRasters(())}, "no raster"),
    ],
)
def test_contradictions_are_told_before_anything_is_made(scene: Path, change: dict[str, object], match: str) -> None:
    spec = replace(prompt_spec(scene, [scene / "a.tif"], scene / "points.gpkg"), **change)
    with pytest.raises(SamTuneError, match=match):
        do(service(scene), scene / "j.samjob", spec)
    assert not (scene / "j.samjob").exists()


def test_prompts_without_geometry_are_refused(scene: Path) -> None:
    (scene / "no.gpkg").write_bytes(b"nothing")
    with pytest.raises(PromptError, match="cannot be read"):
        do(service(scene), scene / "j.samjob", prompt_spec(scene, [scene / "a.tif"], scene / "no.gpkg"))
