"""What there is to learn from, before anything is trained."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image
from samtune.engine.progress import NullProgress
from samtune.engine.tune_messages import Inspection, InspectParams, LabelSource, Parting, TuneInputs, TuneTask
from samtune.engine.tune_service import TuneService
from samtune.models.errors import CancelledByUser

from .ground import LEFT, PIXEL, TOP, Ground, make_ground, service, write_raster, write_shapes


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("ground"), size=512, each=5)


def box(column: float, row: float, wide: float, high: float) -> object:
    return shapely.box(
        LEFT + column * PIXEL, TOP - (row + high) * PIXEL, LEFT + (column + wide) * PIXEL, TOP - row * PIXEL
    )


def inspected(raster: Path, labels: Path, **changes: object) -> Inspection:
    inputs = TuneInputs((str(raster),), LabelSource(str(labels), class_field="kind"), level=changes.pop("level", None))
    return TuneService(service()).inspect(replace(InspectParams(inputs), **changes), NullProgress())


def test_classes_sizes_and_the_crops_of_training_are_told(ground: Ground) -> None:
    found = inspected(ground.raster, ground.labels, pictures=3, level=0)
    assert not found.problem
    assert [(item.name, item.objects) for item in found.classes] == [("disc", 12), ("ring", 13)]
    assert all(item.train + item.held_out == item.objects for item in found.classes)
    assert sum(item.held_out for item in found.classes) > 0
    assert len({item.colour for item in found.classes}) == 2
    assert sum(item.objects for item in found.sizes) == 25
    assert all(one.high == other.low for one, other in zip(found.sizes, found.sizes[1:], strict=False))
    assert found.parting is Parting.BLOCKS
    assert 0 < found.held_blocks < found.blocks
    assert len(found.pictures) == 3
    with Image.open(io.BytesIO(base64.b64decode(found.pictures[0].png))) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert any((pixels == colour).all(axis=1).any() for colour in ((228, 26, 28), (55, 126, 184)))
    assert (pixels.max(axis=1) < 80).mean() > 0.1, "what is not known is dimmed"


def test_few_objects_are_held_out_in_turn_and_one_cannot_be(ground: Ground, tmp_path: Path) -> None:
    shapes = [box(20 + 160 * (n % 3), 20 + 160 * (n // 3), 40, 40) for n in range(9)]
    few = inspected(ground.raster, write_shapes(tmp_path / "few.gpkg", shapes), level=0)
    assert few.parting is Parting.EACH_BLOCK
    assert (few.classes[0].train, few.classes[0].held_out) == (9, 9)
    assert few.held_blocks == few.blocks > 1
    one = inspected(ground.raster, write_shapes(tmp_path / "one.gpkg", shapes[:1]))
    assert (one.parting, one.problem, one.held_blocks) == (Parting.NONE, "", 0)
    assert any("only 1 object" in note for note in one.notes)


def test_a_class_of_one_object_is_pointed_out(ground: Ground, tmp_path: Path) -> None:
    shapes = [box(20 + 160 * (n % 3), 20 + 160 * (n // 3), 40, 40) for n in range(9)]
    labels = write_shapes(tmp_path / "few.gpkg", shapes, ["roof"] * 8 + ["tree"])
    found = inspected(ground.raster, labels)
    assert not found.problem
    assert any("one object of the class tree" in note for note in found.notes)


def test_features_that_are_repaired_left_out_or_overlap_are_numbered(ground: Ground, tmp_path: Path) -> None:
    bow = shapely.Polygon([shapely.Point(x, y) for x, y in ((0, 0), (1, 1), (1, 0), (0, 1))])
    bow = shapely.transform(bow, lambda xy: np.column_stack([LEFT + 20 * (xy[:, 0] + 3), TOP - 20 * (xy[:, 1] + 3)]))
    shapes = [box(200, 200, 40, 40), bow, box(9000, 0, 40, 40), box(205, 205, 30, 30), box(400, 400, 2, 2)]
    found = inspected(ground.raster, write_shapes(tmp_path / "odd.gpkg", shapes))
    assert (found.repaired, found.left_out, found.overlapping) == ((2,), (3, 5), (1, 4))
    assert not found.problem


def test_objects_too_small_for_a_fixed_level_are_counted_with_the_level_that_fits(
    ground: Ground, tmp_path: Path
) -> None:
    shapes = [box(20, 20, 100, 100), box(200, 20, 6, 6), box(300, 20, 100, 100)]
    labels = write_shapes(tmp_path / "small.gpkg", shapes)
    found = inspected(ground.raster, labels, level=1)
    assert (found.too_small, found.level, found.fitting_level) == (1, 1, 0)
    assert any("too small" in note for note in found.notes)
    fits = inspected(ground.raster, labels, level=0)
    assert (fits.too_small, fits.fitting_level) == (0, 0)
    none = inspected(ground.raster, write_shapes(tmp_path / "tiny.gpkg", shapes[1:2]), level=1)
    assert "Choose level 0" in none.problem


def test_what_cannot_be_learnt_from_is_a_problem_and_no_failure(ground: Ground, tmp_path: Path) -> None:
    points = write_shapes(tmp_path / "points.gpkg", [shapely.Point(LEFT, TOP)])
    assert "no polygon" in inspected(ground.raster, points).problem
    away = write_shapes(tmp_path / "away.gpkg", [box(5000, 5000, 40, 40)])
    assert "lies on the raster" in inspected(ground.raster, away).problem
    assert "cannot be read" in inspected(ground.raster, tmp_path / "gone.gpkg").problem
    assert inspected(tmp_path / "gone.tif", ground.labels).problem
    empty = write_raster(tmp_path / "empty.tif", np.zeros((3, 512, 512), np.uint8), nodata=0)
    assert inspected(empty, ground.labels).problem.endswith(".")


def test_objects_without_data_are_a_problem(ground: Ground, tmp_path: Path) -> None:
    values = np.zeros((3, 2048, 2048), np.uint8)
    values[:, 1600:, 1600:] = np.random.default_rng(0).integers(1, 255, (3, 448, 448))
    raster = write_raster(tmp_path / "part.tif", values, nodata=0)
    labels = write_shapes(tmp_path / "here.gpkg", [box(20, 20, 40, 40), box(90, 20, 40, 40)])
    assert "no data where" in inspected(raster, labels).problem


def test_maps_show_all_known_ground(ground: Ground) -> None:
    found = inspected(ground.raster, ground.labels, task=TuneTask.SEMANTIC, level=0)
    assert not found.problem
    assert found.pictures


def test_a_large_raster_is_inspected_soon_and_can_be_cancelled(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (3, 6000, 6000), np.uint8)
    raster = write_raster(tmp_path / "large.tif", values, tiled=True)
    shapes = [box(100 + 700 * (n % 8), 100 + 700 * (n // 8), 60, 60) for n in range(48)]
    labels = write_shapes(tmp_path / "many.gpkg", shapes)
    inspected(raster, labels)
    begun = time.monotonic()
    assert len(inspected(raster, labels).pictures) == 8
    assert time.monotonic() - begun < 10

    class Stop(NullProgress):
        def check(self) -> None:
            raise CancelledByUser

    params = InspectParams(TuneInputs((str(raster),), LabelSource(str(labels))))
    with pytest.raises(CancelledByUser):
        TuneService(service()).inspect(params, Stop())
