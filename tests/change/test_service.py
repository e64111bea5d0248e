"""Change requests: objects of two files matched into a third, and rasters compared by what a model sees."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyogrio
import pytest
import shapely
from numpy.typing import NDArray
from pyogrio.raw import read, write
from samtune.engine.change.embeddings import otsu
from samtune.engine.change.service import ChangeService
from samtune.engine.change_messages import ChangeParams, ChangeResult, ChangeWay, DateInput
from samtune.engine.messages import RasterSpec
from samtune.engine.progress import NullProgress
from samtune.models.errors import CancelledByUser, OutputError, PromptError, RasterError

from ..engine.fakes import FakeModel
from ..engine.rasters import NORTH_UP, UTM
from ..engine.rasters import write as write_raster

X, Y = 500_000.0, 5_300_000.0
SIDE = 512


def objects(path: Path, *boxes: tuple[float, float, float], labels: tuple[str, ...] = (), crs: str = UTM) -> str:
    """Write squares: left, bottom, side."""
    shapes = [shapely.box(X + x, Y + y, X + x + side, Y + y + side) for x, y, side in boxes]
    if crs != UTM:
        from pyproj import Transformer

        way = Transformer.from_crs(UTM, crs, always_xy=True)
        shapes = [shapely.transform(item, lambda xy: np.column_stack(way.transform(*xy.T))) for item in shapes]
    names = np.array(labels or [""] * len(boxes), object)
    wkb = np.array([item.wkb for item in shapes], object)
    write(str(path), wkb, [names], ["class"], driver="GPKG", geometry_type="Polygon", crs=crs)
    return str(path)


def detect(params: ChangeParams, progress: object = None) -> ChangeResult:
    model = FakeModel()
    return ChangeService(SimpleNamespace(get=lambda *_: model)).detect(params, progress or NullProgress())


def rows(result: ChangeResult) -> list[dict[str, object]]:
    meta, _, geometries, columns = read(result.output, layer="changes")
    names = list(meta["fields"])
    shapes = [shapely.from_wkb(raw) for raw in geometries]
    values = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return [{**value, "shape": shape} for value, shape in zip(values, shapes, strict=True)]


def params(folder: Path, before: str, after: str, **changes: object) -> ChangeParams:
    dates = (DateInput(before, class_field="class"), DateInput(after, class_field="class"))
    return ChangeParams(ChangeWay.OBJECTS, *dates, output=str(folder / "changes.gpkg"), **changes)


def test_objects_of_two_files(tmp_path: Path) -> None:
    before = objects(tmp_path / "a.gpkg", (0, 0, 10), (50, 0, 10), (100, 0, 10), labels=("a", "b", "c"))
    after = objects(tmp_path / "b.gpkg", (200, 0, 10), (101, 1, 10), (50, 0, 20), labels=("n", "c", "b"))
    result = detect(params(tmp_path, before, after, shift=2.0))
    counts = {count.kind: count.count for count in result.counts}
    assert counts == {"new": 1, "gone": 1, "changed": 1, "stable": 1}
    found = {row["change"]: row for row in rows(result)}
    assert (found["gone"]["ids_old"], found["gone"]["ids_new"], found["gone"]["class_old"]) == ("1", None, "a")
    assert (found["stable"]["ids_old"], found["stable"]["ids_new"]) == ("3", "2")
    changed = found["changed"]
    assert (changed["ids_old"], changed["ids_new"], changed["class_new"]) == ("2", "3", "b")
    assert changed["area_old"] == pytest.approx(100, rel=0.01)
    assert changed["area_new"] == pytest.approx(400, rel=0.01)
    assert changed["area_diff"] == pytest.approx(300, rel=0.01)
    assert changed["shape"].area == pytest.approx(400)
    assert np.isnan(found["new"]["area_old"])
    assert np.isnan(found["gone"]["area_new"])
    assert pyogrio.read_info(result.output)["crs"] == UTM


def test_the_dates_may_be_in_different_crs(tmp_path: Path) -> None:
    """In degrees as well, the tolerance is as long eastwards as northwards."""
    before = objects(tmp_path / "a.gpkg", (0, 0, 10), (100, 0, 10), crs="EPSG:4326")
    after = objects(tmp_path / "b.gpkg", (8, 0, 10), (100, 8, 10))
    result = detect(params(tmp_path, before, after, shift=8.5))
    assert [row["change"] for row in rows(result)] == ["stable", "stable"]
    assert rows(result)[0]["area_old"] == pytest.approx(100, rel=0.01)


def test_small_objects_and_those_beyond_the_area_are_left_out(tmp_path: Path) -> None:
    before = objects(tmp_path / "a.gpkg", (0, 0, 10), (50, 0, 2), (300, 0, 10))
    after = objects(tmp_path / "b.gpkg", (100, 0, 10))
    area = shapely.box(X - 10, Y - 10, X + 200, Y + 50).wkb_hex
    result = detect(params(tmp_path, before, after, least=20.0, area=area))
    assert [(row["change"], row["ids_old"]) for row in rows(result)] == [("gone", "1"), ("new", None)]
    assert any("1 objects lie beyond" in note for note in result.notes)


def test_what_the_other_date_does_not_show_is_neither_new_nor_gone(tmp_path: Path) -> None:
    picture = np.zeros((1, 100, 100), np.uint8)
    picture[0, 40:60, 40:60] = 9
    shown = str(write_raster(tmp_path / "shown.tif", picture))  # 50 m to the south-east of X, Y
    before = objects(tmp_path / "a.gpkg", (10, -20, 5), (70, -20, 5))
    after = objects(tmp_path / "b.gpkg", (30, -20, 5))
    dates = (DateInput(before), DateInput(after, raster=RasterSpec(shown)))
    result = detect(ChangeParams(ChangeWay.OBJECTS, *dates, output=str(tmp_path / "changes.gpkg")))
    assert [(row["change"], row["ids_old"]) for row in rows(result)] == [("gone", "1"), ("new", None)]


def test_no_objects_at_all(tmp_path: Path) -> None:
    result = detect(params(tmp_path, objects(tmp_path / "a.gpkg"), objects(tmp_path / "b.gpkg")))
    assert [count.count for count in result.counts] == [0, 0, 0, 0]
    assert rows(result) == []


def test_bad_input_is_told_in_words_and_nothing_is_written(tmp_path: Path) -> None:
    good = objects(tmp_path / "a.gpkg", (0, 0, 10))
    with pytest.raises(PromptError, match="cannot be read"):
        detect(params(tmp_path, str(tmp_path / "no.gpkg"), good))
    with pytest.raises(PromptError, match="has no field"):
        dates = (DateInput(good, class_field="kind"), DateInput(good))
        detect(ChangeParams(ChangeWay.OBJECTS, *dates, output=str(tmp_path / "changes.gpkg")))
    with pytest.raises(PromptError, match="from 0 to 1"):
        detect(params(tmp_path, good, good, match=1.5))
    with pytest.raises(PromptError, match="needs the rasters"):
        detect(ChangeParams(ChangeWay.EMBEDDINGS, DateInput(), DateInput(), output=str(tmp_path / "changes.gpkg")))
    assert not (tmp_path / "changes.gpkg").exists()
    (tmp_path / "changes.gpkg").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        detect(params(tmp_path, good, good))
    assert (tmp_path / "changes.gpkg").read_bytes() == b"mine"


# ---- by embeddings


def texture(seed: int = 0, side: int = SIDE) -> NDArray[np.uint8]:
    """A picture in which each block of 16 x 16 pixels is unlike its neighbours."""
    drawn = np.random.default_rng(seed).integers(20, 236, (1, side, side))
    return np.repeat(drawn, 3, axis=0).astype(np.uint8)


def pair(folder: Path, *, noise: int = 4, crs: str = UTM, **options: object) -> tuple[RasterSpec, RasterSpec]:
    """Two dates of one scene; in the second, 96 x 64 pixels at (200, 120) are others."""
    first = texture()
    second = first.astype(int) + np.random.default_rng(5).integers(-noise, noise + 1, first.shape)
    second[:, 120:184, 200:296] = texture(9)[:, 120:184, 200:296]
    stretch = ((0.0, 255.0),) * 3
    paths = (
        write_raster(folder / "a.tif", first),
        write_raster(folder / "b.tif", np.clip(second, 0, 255).astype(np.uint8), crs=crs, **options),
    )
    return RasterSpec(str(paths[0]), (1, 2, 3), stretch), RasterSpec(str(paths[1]), (1, 2, 3), stretch)


def seen(folder: Path, first: RasterSpec, second: RasterSpec, **changes: object) -> ChangeParams:
    dates = (DateInput(raster=first), DateInput(raster=second))
    return ChangeParams(ChangeWay.EMBEDDINGS, *dates, output=str(folder / "changes.gpkg"), **changes)


CHANGED = shapely.box(X + 100, Y - 92, X + 148, Y - 60)


def test_what_looks_otherwise_is_found(tmp_path: Path) -> None:
    result = detect(seen(tmp_path, *pair(tmp_path)))
    found = rows(result)
    whole = shapely.union_all([row["shape"] for row in found])
    assert whole.intersection(CHANGED).area > 0.8 * CHANGED.area
    assert whole.area < 1.4 * CHANGED.area
    assert {row["change"] for row in found} == {"changed"}
    assert result.counts[0].area == pytest.approx(whole.area, rel=0.01)
    assert all(row["distance"] >= result.threshold * 0.5 for row in found)


def test_where_nothing_changed_the_floor_keeps_noise_out(tmp_path: Path) -> None:
    first, _ = pair(tmp_path)
    noisy = texture().astype(int) + np.random.default_rng(5).integers(-4, 5, (3, SIDE, SIDE))
    path = write_raster(tmp_path / "c.tif", np.clip(noisy, 0, 255).astype(np.uint8))
    second = RasterSpec(str(path), (1, 2, 3), first.stretch)
    result = detect(seen(tmp_path, first, second, floor=0.05))
    assert rows(result) == []
    assert result.threshold == 0.05


def test_only_the_area_counts(tmp_path: Path) -> None:
    area = shapely.box(X + 100, Y - 92, X + 124, Y - 60)  # half of it
    result = detect(seen(tmp_path, *pair(tmp_path), area=area.wkb_hex))
    whole = shapely.union_all([row["shape"] for row in rows(result)])
    assert whole.within(area.buffer(1e-6))


def test_the_second_date_may_be_on_another_grid(tmp_path: Path) -> None:
    """Half of the second date lies beyond the first: nothing is said of that, nor of the border."""
    from affine import Affine

    first, _ = pair(tmp_path)
    wide = np.zeros((3, SIDE, SIDE), np.uint8)
    wide[:, :, : SIDE - 128] = texture()[:, :, 128:]
    wide[:, 120:184, 72:168] = texture(9)[:, 120:184, 200:296]
    path = write_raster(tmp_path / "c.tif", wide, transform=NORTH_UP @ Affine.translation(128, 0))
    second = RasterSpec(str(path), (1, 2, 3), first.stretch)
    result = detect(seen(tmp_path, first, second))
    whole = shapely.union_all([row["shape"] for row in rows(result)])
    assert whole.intersection(CHANGED).area > 0.8 * CHANGED.area
    assert whole.area < 1.4 * CHANGED.area


def test_dates_without_common_ground_are_refused(tmp_path: Path) -> None:
    from affine import Affine

    first, second = pair(tmp_path, transform=NORTH_UP @ Affine.translation(10 * SIDE, 0))
    with pytest.raises(PromptError, match="no ground in common"):
        detect(seen(tmp_path, first, second))


def test_without_crs_another_grid_is_refused(tmp_path: Path) -> None:
    from affine import Affine

    first, _ = pair(tmp_path)
    path = write_raster(tmp_path / "c.tif", texture(), crs=None, transform=NORTH_UP @ Affine.translation(16, 0))
    with pytest.raises(RasterError, match="Assign it its CRS"):
        detect(seen(tmp_path, first, RasterSpec(str(path))))


def test_a_cancel_leaves_nothing(tmp_path: Path) -> None:
    class Cancel(NullProgress):
        left = 3

        def check(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise CancelledByUser

    with pytest.raises(CancelledByUser):
        detect(seen(tmp_path, *pair(tmp_path)), Cancel())
    assert not (tmp_path / "changes.gpkg").exists()


def test_otsu() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.1, 0.02, 900), rng.normal(0.6, 0.05, 100)]).astype(np.float32)
    assert 0.15 < otsu(values) < 0.5
    assert otsu(np.zeros(0, np.float32)) == 0.0
    assert otsu(np.full(5, 0.3, np.float32)) == pytest.approx(0.3)
