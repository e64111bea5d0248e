"""Tasks by tiles: everything and all objects from made-up answers, class maps, and the model's own everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from samtune.engine.area_messages import MapClass
from samtune.engine.areas.class_map import Mapper
from samtune.engine.areas.find import Finder
from samtune.engine.areas.looking import Candidate, Check
from samtune.engine.areas.map_file import MapFile, MapLegend
from samtune.engine.areas.tiles import TilePlan
from samtune.engine.batch import everything as looking
from samtune.engine.batch import map_polygons
from samtune.engine.batch import spec as specs
from samtune.engine.batch import tile_stages as tile_stages_module
from samtune.engine.batch.planning import ALIGN, OVERLAP, level_for
from samtune.engine.batch.tile_stages import MapStages
from samtune.engine.batch_messages import (
    BatchOptions,
    BatchOutputs,
    BatchRasters,
    BatchRunParams,
    BatchSpec,
    BatchTask,
)
from samtune.engine.messages import OutlineOptions, RasterSpec
from samtune.engine.progress import NullProgress
from samtune.engine.raster_source import RasterSource
from samtune.engine.tuning.reading import CropInputs
from samtune.models.errors import CancelledByUser

from ..areas.scenes import AS_IS, TruthLook, opened, scene, written
from .jobs import SIZE, Impatient, do, features, row_dicts, service

BOXES = [
    (x + 13 * (y % 7), y, 30 + (x * 7 + y) % 90, 30 + (x + y * 5) % 90)
    for x in range(10, 1300, 130)
    for y in range(10, 1000, 130)
]
BOXES = [(400, 330, 420, 260), *BOXES]


def everything_spec(folder: Path, output: str, tiles: int) -> BatchSpec:
    return BatchSpec(
        BatchTask.AUTOMATIC,
        BatchRasters((str(folder / "scene.tif"),), bands=(1, 2, 3), stretch=AS_IS),
        outputs=BatchOutputs(str(folder / output)),
        options=BatchOptions(tiles=tiles),
    )


@pytest.fixture(autouse=True)
def low_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_polygons, "STRIP", 128)


@pytest.fixture
def truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything read off the picture."""
    monkeypatch.setattr(looking, "EverythingLook", lambda *_arguments: TruthLook())


@pytest.mark.usefixtures("truth")
def test_objects_are_the_same_for_any_units_and_interruptions(tmp_path: Path) -> None:
    reader = written(tmp_path / "scene.tif", scene((1000, 1300), BOXES))
    plan = TilePlan(reader.source.frame, SIZE, 0, SIZE // OVERLAP)
    found = {}
    for tiles in (1, 2, 8):
        do(service(tmp_path), tmp_path / f"{tiles}.samjob", everything_spec(tmp_path, f"{tiles}.gpkg", tiles))
        found[tiles] = features(tmp_path / f"{tiles}.gpkg")
    assert len(found[8]) > 40
    assert found[1] == found[2] == found[8]
    whole = Finder(plan, reader, TruthLook(), NullProgress()).find(None, OutlineOptions(), 20000)
    assert len(whole.objects) == len(found[1])
    stopped = everything_spec(tmp_path, "stopped.gpkg", 1)
    with pytest.raises(CancelledByUser):
        service(tmp_path).run(BatchRunParams(str(tmp_path / "s.samjob"), stopped), Impatient(14))
    result = do(service(tmp_path), tmp_path / "s.samjob")
    assert features(tmp_path / "stopped.gpkg") == found[1]
    assert result.status.objects == len(found[1])


@pytest.mark.usefixtures("truth")
def test_small_objects_are_dropped(tmp_path: Path) -> None:
    written(tmp_path / "scene.tif", scene((1000, 1300), BOXES))
    spec = everything_spec(tmp_path, "all.gpkg", 2)
    do(service(tmp_path), tmp_path / "a.samjob", spec)
    areas = [row["geometry"].area for row in row_dicts(tmp_path / "all.gpkg")]
    large = replace(spec, outputs=BatchOutputs(str(tmp_path / "large.gpkg")), options=BatchOptions(min_part=500.0))
    do(service(tmp_path), tmp_path / "b.samjob", large)
    kept = [row["geometry"].area for row in row_dicts(tmp_path / "large.gpkg")]
    assert sorted(kept) == sorted(area for area in areas if area >= 500.0)


class BlobLook(TruthLook):
    """Takes what is bright for objects, at any level."""

    def _one(self, crop: CropInputs) -> list[Candidate]:
        bright = replace(crop, image=np.where(crop.image > 100, 1, 0).astype(np.uint8))
        return super()._one(bright)


def test_each_object_is_found_at_one_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.zeros((3, 1200, 1600), np.uint8)
    boxes = [(200, 150, 700, 480), (1000, 60, 300, 290), *((x, 700, 40 + x // 10, 60) for x in range(20, 1500, 190))]
    for x, y, width, height in boxes:
        picture[:, y : y + height, x : x + width] = 200
    written(tmp_path / "scene.tif", picture)
    looks = [BlobLook(), BlobLook()]
    monkeypatch.setattr(looking, "EverythingLook", lambda *_arguments: looks.pop())
    spec = everything_spec(tmp_path, "levels.gpkg", 2)
    do(service(tmp_path), tmp_path / "c.samjob", replace(spec, options=BatchOptions(levels=2, tiles=2)))
    found = sorted(row["geometry"].area for row in row_dicts(tmp_path / "levels.gpkg"))
    truth = sorted(width * height * 0.25 for _, _, width, height in boxes)
    assert len(found) == len(truth)
    assert found == pytest.approx(truth, rel=0.1)


class TruthMap:
    """Takes the green band for the class."""

    batch = 2
    classes = 3

    def look(self, crops: Sequence[CropInputs], check: Check) -> list[NDArray[np.float32]]:
        check()
        return [np.eye(3, dtype=np.float32)[crop.image[2::4, 2::4, 1]].transpose(2, 0, 1) for crop in crops]


def test_a_map_from_the_job_file_is_the_map_made_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = scene((1000, 1300), BOXES, kinds=3)
    reader = written(tmp_path / "scene.tif", picture)
    classes = tuple(MapClass(value, f"kind {value}", "#10203" + str(value), 0.0) for value in range(3))
    monkeypatch.setattr(specs, "_check_head", lambda *_: None)
    header_of = specs.header_of
    monkeypatch.setattr(
        "samtune.engine.batch.service.header_of",
        lambda *given: replace(header_of(*given), classes=classes, adapter_name="made up"),
    )
    monkeypatch.setattr(
        tile_stages_module, "tile_stages", lambda worker, raster: MapStages(opened(tmp_path / "scene.tif"), TruthMap())
    )
    spec = BatchSpec(
        BatchTask.MAP,
        BatchRasters((str(tmp_path / "scene.tif"),), bands=(1, 2, 3), stretch=AS_IS),
        outputs=BatchOutputs(maps=str(tmp_path / "maps"), confidence=True, vector=str(tmp_path / "areas.gpkg")),
        options=BatchOptions(tiles=2),
    )
    with pytest.raises(CancelledByUser):
        service(tmp_path).run(BatchRunParams(str(tmp_path / "m.samjob"), spec), Impatient(12))
    result = do(service(tmp_path), tmp_path / "m.samjob")
    made = Path(result.status.rasters[0].output)
    assert made == tmp_path / "maps" / "scene_classes.tif"
    plan = TilePlan(reader.source.frame, SIZE, 0, SIZE // OVERLAP, align=ALIGN[BatchTask.MAP])
    mapper = Mapper(plan, reader, TruthMap(), NullProgress())
    with MapFile(tmp_path / "direct.tif", mapper.grid, MapLegend(classes)) as file:
        mapper.map(None, file, None)
        file.optimise()
        file.publish()
    with rasterio.open(made) as one, rasterio.open(tmp_path / "direct.tif") as other:
        values = one.read(1)
        assert (values == other.read(1)).mean() > 0.9999
        assert one.colormap(1)[2][:3] == (0x10, 0x20, 0x32)
        assert one.overviews(1) or max(values.shape) < 1024
    assert (values == picture[1]).mean() > 0.98
    with rasterio.open(tmp_path / "maps" / "scene_confidence.tif") as sure:
        assert sure.read(1).mean() > 90
    rows = row_dicts(tmp_path / "areas.gpkg")
    assert {row["class"] for row in rows} == {"kind 0", "kind 1", "kind 2"}
    for value in range(3):
        covered = sum(row["geometry"].area for row in rows if row["class"] == f"kind {value}")
        assert covered == pytest.approx((values == value).sum() * 0.25)
    before = {path.name for path in tmp_path.iterdir()}
    alone = BatchOutputs(vector=str(tmp_path / "alone.gpkg"))
    again = service(tmp_path).run(BatchRunParams(str(tmp_path / "m.samjob"), outputs=alone), NullProgress())
    assert again.status.objects == len(rows)
    assert [(row["class"], row["geometry"].wkb) for row in row_dicts(tmp_path / "alone.gpkg")] == [
        (row["class"], row["geometry"].wkb) for row in rows
    ]
    assert {path.name for path in tmp_path.iterdir()} - before == {"alone.gpkg"}, "the maps on the way are gone"
    assert Path(again.status.rasters[0].output) == made


@pytest.mark.parametrize(
    ("side", "task", "level"),
    [
        (200, BatchTask.AUTOMATIC, -2),
        (256, BatchTask.AUTOMATIC, -1),
        (511, BatchTask.AUTOMATIC, -1),
        (512, BatchTask.AUTOMATIC, 0),
        (5000, BatchTask.AUTOMATIC, 0),
        (256, BatchTask.EMBEDDINGS, 0),
    ],
)
def test_small_rasters_are_looked_at_more_closely(tmp_path: Path, side: int, task: BatchTask, level: int) -> None:
    path = tmp_path / "scene.tif"
    written(path, np.zeros((3, side, side + 90), np.uint8))
    info = RasterSource(RasterSpec(str(path), (1, 2, 3), AS_IS)).info
    spec = BatchSpec(task, BatchRasters((str(path),)))
    assert level_for(spec, info, SIZE) == level
    assert level_for(replace(spec, options=BatchOptions(level=1)), info, SIZE) == 1
