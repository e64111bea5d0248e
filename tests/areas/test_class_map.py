"""Class maps of areas: without seams, on the raster's ground, and there as a whole or not at all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from samtune.engine.area_messages import MapClass
from samtune.engine.areas import class_map
from samtune.engine.areas.blending import falling_weights
from samtune.engine.areas.class_map import ALIGN, Mapped, Mapper, map_grid
from samtune.engine.areas.looking import Check
from samtune.engine.areas.map_file import NODATA, MapFile, MapLegend
from samtune.engine.areas.reading import CropReader
from samtune.engine.areas.tiles import TilePlan
from samtune.engine.progress import NullProgress
from samtune.engine.tuning.reading import CropInputs
from samtune.models.errors import CancelledByUser, OutputError, SamTuneError

from ..engine.rasters import NORTH_UP, ROTATED, SOUTH_UP
from .scenes import CELL, scene, written
from .test_find import StopAt

CLASSES = (
    MapClass(0, "other", "#c8c8c8", 0.0),
    MapClass(1, "field & <meadow>", "#00ff00", 0.0),
    MapClass(2, "water", "#0000ff", 0.0),
)


class ClassLook:
    """Reads the class off the picture's green."""

    classes = 3

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch

    def look(self, crops: Sequence[CropInputs], check: Check) -> list[NDArray[np.float32]]:
        check()
        found = []
        for crop in crops:
            green = crop.image[CELL // 2 :: CELL, CELL // 2 :: CELL, 1]
            found.append(np.stack([green == value for value in range(3)]).astype(np.float32) * 0.9 + 0.1 / 3)
        return found


def mapped(
    reader: CropReader, path: Path, size: int = 128, look: object = None, **more: object
) -> tuple[Mapped, NDArray[np.uint8], NDArray[np.uint8]]:
    """Map with and without confidence; return the counts, the map and the confidence."""
    area, level, overlap = more.get("area"), int(more.get("level", 0)), more.get("overlap")
    plan = TilePlan(reader.source.frame, size, level, overlap, area, ALIGN)
    mapper = Mapper(plan, reader, look or ClassLook(), more.get("progress") or NullProgress())
    sure = path.with_name("sure.tif")
    with (
        MapFile(path, mapper.grid, MapLegend(CLASSES, {"SAMTUNE_ADAPTER": "fields"})) as output,
        MapFile(sure, mapper.grid, MapLegend(averaged=True)) as confidence,
    ):
        result = mapper.map(area, output, confidence)
        output.optimise()
        confidence.optimise()
        output.publish()
        confidence.publish()
    with rasterio.open(path) as dataset, rasterio.open(sure) as other:
        return result, dataset.read(1), other.read(1)


BOXES = st.lists(
    st.tuples(st.integers(-10, 420), st.integers(-10, 340), st.integers(16, 200), st.integers(16, 200)), max_size=12
)


@given(
    BOXES,
    st.sampled_from([64, 96, 128]),
    st.sampled_from([0.5, 0.25, 0.1]),
    st.tuples(st.integers(230, 360), st.integers(230, 440)),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_crop_by_crop_as_in_one_look(
    tmp_path_factory: pytest.TempPathFactory,
    boxes: list[tuple[int, int, int, int]],
    size: int,
    share: float,
    shape: tuple[int, int],
) -> None:
    folder = tmp_path_factory.mktemp("map")
    reader = written(folder / "scene.tif", scene(shape, boxes, kinds=3))
    _, tiled, sure = mapped(reader, folder / "tiled.tif", size, overlap=int(size * share), look=ClassLook(2))
    (folder / "sure.tif").unlink()
    _, whole, _ = mapped(reader, folder / "whole.tif", 448)
    assert tiled.shape == whole.shape == shape
    # Where corners of two classes meet, chances are equal, and rounding decides.
    assert (tiled != whole).mean() < 1e-3
    assert sure.min() >= 33 and sure.max() <= 100


def test_a_map_is_what_the_ground_is(tmp_path: Path) -> None:
    picture = scene((700, 900), [(30, 40, 200, 180), (300, 300, 340, 220), (700, 50, 120, 600)], kinds=3)
    result, found, _ = mapped(written(tmp_path / "scene.tif", picture), tmp_path / "map.tif")
    assert (found == picture[1]).mean() > 0.98
    assert result.pixels.tolist() == [(found == value).sum() for value in range(3)]
    assert result.skipped == 0


def test_narrow_strips_make_the_same_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = scene((300, 1400), [(30, 40, 200, 180), (450, 30, 340, 220), (1000, 50, 120, 200)], kinds=3)
    reader = written(tmp_path / "scene.tif", picture)
    wide, one, sure = mapped(reader, tmp_path / "one.tif", look=Moody())
    (tmp_path / "sure.tif").unlink()
    monkeypatch.setattr(class_map, "PANEL", 512)
    narrow, several, again = mapped(reader, tmp_path / "several.tif", look=Moody())
    assert np.array_equal(one, several) and np.array_equal(sure, again)
    assert (wide.crops, wide.pixels.tolist()) == (narrow.crops, narrow.pixels.tolist())


class Moody(ClassLook):
    """Is of another mind in every crop: sure of the first class by a number that only the crop's place decides."""

    def look(self, crops: Sequence[CropInputs], check: Check) -> list[NDArray[np.float32]]:
        found = []
        for crop in crops:
            side = len(crop.image) // CELL
            mood = random.Random(crop.image.tobytes()).uniform(0.6, 1.0)
            found.append(np.stack([np.full((side, side), value, np.float32) for value in (mood, 1 - mood, 0)]))
        return found


def test_opinions_that_differ_fade_into_each_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    reader = written(tmp_path / "noise.tif", rng.integers(0, 255, (3, 640, 700), dtype=np.uint8))
    _, _, sure = mapped(reader, tmp_path / "map.tif", look=Moody())
    steps = [np.abs(np.diff(sure.astype(int), axis=axis)).max() for axis in (0, 1)]
    assert sure.max() - sure.min() > 15, "crops are of different minds"
    assert max(steps) <= 2, "percent from one pixel to the next"


def test_weights_of_neighbours_add_up() -> None:
    weights = falling_weights(32)[15]
    both = weights[:16] + weights[16:]
    assert weights.min() > 0
    assert both == pytest.approx(both[0])


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, ROTATED])
@pytest.mark.parametrize("level", [-2, -1, 0, 1, 2])
def test_a_map_lies_on_the_raster_at_every_level(tmp_path: Path, transform: Affine, level: int) -> None:
    picture = scene((203, 310), [(30, 40, 100, 80), (160, 100, 120, 90)], kinds=3)
    reader = written(tmp_path / "scene.tif", picture, transform)
    _, found, _ = mapped(reader, tmp_path / "map.tif", 64, level=level)
    unit = 2 ** max(level, 0)
    assert found.shape == (-(-203 // unit), -(-310 // unit))
    truth = picture[1][unit // 2 :: unit, unit // 2 :: unit]
    assert (found[: truth.shape[0], : truth.shape[1]] == truth).mean() > 0.93
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert dataset.crs == reader.source.info.crs_wkt
        assert tuple(dataset.transform @ (10, 20)) == pytest.approx(transform @ (10 * unit, 20 * unit))
    assert map_grid(reader.source.frame, level, "").width == found.shape[1]


def test_what_has_no_data_has_none_in_the_map(tmp_path: Path) -> None:
    picture = scene((300, 600), [(20, 20, 60, 60)], kinds=3)
    picture[2] = 7
    picture[:, :, 260:] = 255
    picture[:, 100:103, 50:53] = 255
    reader = written(tmp_path / "scene.tif", picture, nodata=255)
    area = shapely.transform(shapely.box(-50, 20, 200, 250), reader.source.frame.to_map)
    result, found, sure = mapped(reader, tmp_path / "map.tif", 64, area=area)
    wanted = np.zeros((300, 600), bool)
    wanted[20:250, :200] = True
    wanted &= ~(picture == 255).all(axis=0)
    assert np.array_equal(found != NODATA, wanted)
    assert np.array_equal(sure != NODATA, wanted)
    assert result.pixels.sum() == wanted.sum()
    (tmp_path / "sure.tif").unlink()
    every, _, _ = mapped(reader, tmp_path / "all.tif", 64)
    assert every.skipped > 0
    assert every.crops + every.skipped == TilePlan(reader.source.frame, 64, 0).count


def test_nothing_but_nodata_makes_an_empty_map(tmp_path: Path) -> None:
    reader = written(tmp_path / "scene.tif", np.full((3, 100, 120), 255, np.uint8), nodata=255)
    result, found, _ = mapped(reader, tmp_path / "map.tif", 64)
    assert (found == NODATA).all() and result.crops == 0 and result.pixels.sum() == 0


def test_the_file_is_a_cloud_optimised_map_with_a_legend(tmp_path: Path) -> None:
    picture = scene((1300, 1500), [(30, 40, 1000, 900)], kinds=3)
    mapped(written(tmp_path / "scene.tif", picture), tmp_path / "map.tif", 512)
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == [2, 4]
        assert dataset.nodata == NODATA
        assert [dataset.colormap(1)[value] for value in range(3)] == [
            (200, 200, 200, 255),
            (0, 255, 0, 255),
            (0, 0, 255, 255),
        ]
        assert dataset.tags()["SAMTUNE_ADAPTER"] == "fields"
        assert set(np.unique(dataset.read(1, out_shape=(325, 375)))) <= {0, 1, 2}, "overviews are no averages"
    beside = (tmp_path / "map.tif.aux.xml").read_text(encoding="utf-8")
    assert "<Category>field &amp; &lt;meadow&gt;</Category>" in beside
    assert "GDALRasterAttributeTable" in beside


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"scene.tif"}


def test_a_cancel_at_any_moment_leaves_nothing(tmp_path: Path) -> None:
    reader = written(tmp_path / "scene.tif", scene((300, 300), [(20, 20, 200, 40)], kinds=3))
    for at in (0, 1, 5, 20, 50):
        with pytest.raises(CancelledByUser):
            mapped(reader, tmp_path / "map.tif", 96, progress=StopAt(at))
        assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("when", ["write", "copy"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    reader = written(tmp_path / "scene.tif", scene((300, 300), [(20, 20, 200, 40)], kinds=3))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if when == "write":
        monkeypatch.setattr(rasterio.io.DatasetWriter, "write", full)
    else:
        monkeypatch.setattr(rasterio.shutil, "copy", full)
    with pytest.raises(OutputError, match="free space"):
        mapped(reader, tmp_path / "map.tif", 96)
    assert leftovers(tmp_path) == set()


def test_what_is_there_is_never_replaced(tmp_path: Path) -> None:
    reader = written(tmp_path / "scene.tif", scene((300, 300), [(20, 20, 200, 40)], kinds=3))
    path = tmp_path / "map.tif"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        mapped(reader, path)
    path.unlink()

    class Rival(NullProgress):
        def report(self, fraction: float, message: str) -> None:
            path.write_bytes(b"theirs")

    with pytest.raises(OutputError, match="exists"):
        mapped(reader, path, progress=Rival())
    assert path.read_bytes() == b"theirs"


@pytest.mark.parametrize(("name", "words"), [("map.png", "ends in .tif"), ("nowhere/map.tif", "no folder")])
def test_bad_places_are_refused(tmp_path: Path, name: str, words: str) -> None:
    reader = written(tmp_path / "scene.tif", scene((100, 100), [], kinds=3))
    with pytest.raises(SamTuneError, match=words):
        mapped(reader, tmp_path / name)
