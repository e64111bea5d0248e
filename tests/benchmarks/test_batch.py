"""What the benchmark of batch jobs judges results by: objects near borders, straight cuts, rows that stay."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import shapely

ROOT = Path(__file__).resolve().parents[2]


def _program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("samtune_benchmark_batch", ROOT / "benchmarks" / "batch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.prepare()
    return module


program = _program()
seams, scenes, left = (program.section(name) for name in ("seams", "scenes", "left"))


def found(shapes: list[shapely.Polygon], side: int = 1000, borders: tuple[int, ...] = (500,)) -> object:
    return seams.Found(np.array(shapes), side, side, borders, (), 32)


def squares(places: np.ndarray) -> list[shapely.Polygon]:
    return [shapely.Point(place).buffer(3) for place in places]


def test_even_objects_are_as_many_near_borders_as_elsewhere_and_missing_ones_are_noticed() -> None:
    grid = np.stack(np.meshgrid(np.arange(5, 1000, 10), np.arange(5, 1000, 10)), -1).reshape(-1, 2).astype(float)
    near, elsewhere, ground = found(squares(grid)).density()
    assert near / elsewhere * ground == pytest.approx(1.0, abs=0.02)
    apart = grid[np.abs(grid - 500).min(axis=1) > 20]
    assert found(squares(apart)).density()[0] == 0
    assert found(squares(apart)).density(move=100)[0] > 0
    low, high = seams.interval(near, elsewhere, ground)
    assert low < 1 < high


def test_edges_of_the_raster_and_of_its_pictures_do_not_count() -> None:
    edge = squares(np.array([[5.0, 300.0], [300.0, 995.0], [250.0, 300.0]]))
    counted = seams.Found(np.array(edge), 1000, 250, (500,), (), 32)
    assert counted.density()[:2] == (0, 0)
    assert found(edge).density()[:2] == (0, 1)


@pytest.mark.parametrize(("spacing", "moves"), [(32, list(range(64, 321, 32))), (64, [64, 128, 192, 256, 320])])
def test_borders_are_moved_to_places_that_lie_alike_among_the_points(spacing: int, moves: list[int]) -> None:
    assert list(seams.Found(np.array([]), 1000, 1000, (500,), (), spacing).moves) == moves


def test_straight_cuts_are_found_on_the_line_alone() -> None:
    whole = shapely.Point(500, 300).buffer(40)
    half = shapely.intersection(whole, shapely.box(0, 0, 500, 1000))
    assert found([whole]).cuts((500,)) == 0
    assert found([half]).cuts((500,)) == 1
    assert found([half]).cuts((500,), move=16) == 0
    pieces = shapely.segmentize(half, 4.0)  # in short parts, as outlines are traced
    assert found([pieces]).cuts((500,)) == 1


def test_time_left_is_read_from_the_progress() -> None:
    words = {"40 s left": 40, "12 of 60 tiles, 0.5 per second, 2 min 20 s left": 140, "3 h 20 min left": 12000}
    for text, seconds in words.items():
        hours, minutes, rest = (int(part or 0) for part in left._WORDS.search(text).groups())
        assert 3600 * hours + 60 * minutes + rest == seconds


def test_rows_of_sections_that_are_not_run_stay(tmp_path: Path) -> None:
    rows = [
        {"name": name, "value": 1, "unit": "", "aim": "", "note": "", "met": ""} for name in ("speed: a", "dask: b")
    ]
    (tmp_path / "all.json").write_text(json.dumps({"rows": rows}))
    report = program._load("samtune_report", ROOT / "benchmarks" / "report.py")
    assert [row.name for row in program.kept(tmp_path / "all.json", ["workers"], report)] == ["speed: a"]


def test_a_patchwork_goes_on_across_its_edges(tmp_path: Path) -> None:
    import rasterio

    assert scenes.patchwork(tmp_path / "p.tif", 900, [scenes.SAMPLE]) == 400
    with rasterio.open(tmp_path / "p.tif") as dataset:
        seen = dataset.read()
    assert np.array_equal(seen[:, :, 399], seen[:, :, 400])
    assert np.array_equal(seen[:, 399], seen[:, 400])
    assert not np.array_equal(seen[:, :, 398], seen[:, :, 400])
