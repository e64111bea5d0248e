"""``samtune segment``, with the fake model in place of a loaded one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import Transformer
from rasterio.transform import Affine
from samtune.engine import console, paths
from samtune.engine.cli import main
from samtune.engine.commands import segment as command
from samtune.engine.messages import OutlineOptions, SegmentParams
from samtune.engine.segmenter import Segmenter

from .fakes import FakeModel, FakeModels
from .rasters import NORTH_UP, UTM, disc_area, disc_raster, write


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    made = FakeModel(name="tiny")
    monkeypatch.setattr(command, "ModelService", lambda *_: FakeModels(made))
    return made


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    return disc_raster(tmp_path / "disc.tif")


def place(col: float, row: float) -> list[str]:
    x, y = NORTH_UP @ (col, row)
    return [str(x), str(y)]


def run(raster: Path, *arguments: str) -> int:
    store = raster.parent / "store"
    return main(["segment", str(raster), "--store-dir", str(store), "--device", "cpu", *arguments])


def features(path: Path, layer: str = "segments") -> list[dict[str, object]]:
    facts, _, geometry, fields = pyogrio.raw.read(path, layer=layer)
    rows = [dict(zip(facts["fields"], values, strict=True)) for values in zip(*fields, strict=True)]
    return [
        {**row, "geometry": shapely.from_wkb(wkb), "crs": facts["crs"]} for row, wkb in zip(rows, geometry, strict=True)
    ]


def test_a_point_becomes_a_feature_with_provenance(
    raster: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    out = raster.parent / "out.gpkg"
    assert run(raster, "--point", *place(300, 280), "--class", "pond", "-o", str(out)) == 0
    said = capsys.readouterr()
    assert "One object" in said.out and str(out) in said.out
    assert said.err == ""
    (feature,) = features(out)
    assert feature["geometry"].area == pytest.approx(disc_area(30.0), rel=0.02)
    assert feature["area"] == pytest.approx(feature["geometry"].area, rel=0.002), "UTM 33 near its central meridian"
    assert feature["area"] != feature["geometry"].area
    assert (feature["class"], feature["model"], feature["adapter"]) == ("pond", "tiny", None)
    assert (feature["prompt"], feature["raster"], feature["bands"]) == ("point", "disc.tif", "1")
    assert feature["score"] == pytest.approx(0.9)
    assert not feature["reviewed"]
    assert feature["time"] > np.datetime64("2024-01-01")
    assert feature["crs"] == UTM
    assert [path.name for path in raster.parent.iterdir() if path.name.startswith(".")] == []


def test_points_keep_their_order_and_the_box_comes_first(raster: Path, model: FakeModel, tmp_path: Path) -> None:
    arguments = ["--point", *place(300, 280), "--negative", *place(420, 280), "--point", *place(310, 280)]
    corners = [*place(230, 350), *place(370, 210)]
    assert run(raster, *arguments, "--box", *corners, "-o", str(tmp_path / "out.gpkg")) == 0
    assert model.decoded[0].box is not None and not len(model.decoded[0].points)
    assert model.decoded[-1].labels.tolist() == [1, 0, 1]
    assert features(tmp_path / "out.gpkg")[0]["prompt"] == "box+point"


def test_coordinates_in_another_crs_find_the_same_object(raster: Path, model: FakeModel, tmp_path: Path) -> None:
    to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(*(NORTH_UP @ (300, 280)))
    assert run(raster, "--point", *place(300, 280), "-o", str(tmp_path / "metres.gpkg")) == 0
    arguments = ["--point", repr(lon), repr(lat), "--crs", "EPSG:4326", "-o", str(tmp_path / "degrees.gpkg")]
    assert run(raster, *arguments) == 0
    one, two = (features(tmp_path / name)[0]["geometry"] for name in ("metres.gpkg", "degrees.gpkg"))
    assert one.symmetric_difference(two).area < 1e-3
    assert len(model.encoded) == 1, "the second run takes the embedding from the store on disk"


def test_overwrite_and_append(
    raster: Path, model: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.gpkg"
    arguments = ["--point", *place(300, 280), "-o", str(out)]
    assert run(raster, *arguments) == 0
    before = out.read_bytes()
    capsys.readouterr()
    assert run(raster, *arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert run(raster, *arguments, "--append", "--class", "second") == 0
    assert [feature["class"] for feature in features(out)] == [None, "second"]
    assert run(raster, *arguments, "--append", "--layer", "others") == 0
    assert len(features(out)) == 2
    assert len(features(out, "others")) == 1
    assert run(raster, *arguments, "--overwrite") == 0
    assert len(features(out)) == 1


def test_json_tells_everything(
    raster: Path, model: FakeModel, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out.gpkg"
    assert run(raster, "--point", *place(300, 280), "-o", str(out), "--json", "--simplify", "0.5") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["output"] == str(out)
    assert told["result"]["level"] == 0
    assert told["area_m2"] == pytest.approx(disc_area(30.0), rel=0.02)
    assert shapely.from_wkb(bytes.fromhex(told["result"]["wkb"])).equals(features(out)[0]["geometry"])


def test_nothing_found_writes_nothing(tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    flat = write(tmp_path / "flat.tif", np.full((1, 300, 300), 90, np.uint8))
    out = tmp_path / "out.gpkg"
    assert run(flat, "--point", *place(100, 100), "-o", str(out)) == command.NOTHING_FOUND
    assert "border" in capsys.readouterr().out
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--point", "0", "0"], 1, "outside the raster"),
        (["--negative", *place(300, 280)], 1, "first click"),
        ([], 1, "nothing to segment by"),
        (["--point", "x", "0"], 2, "invalid float"),
        (["--point", *place(300, 280), "--bands", "1,2"], 1, "one band or three"),
        (["--point", *place(300, 280), "--bands", "7"], 1, "no band 7"),
        (["--point", *place(300, 280), "--bands", "a"], 2, "band numbers"),
        (["--point", *place(300, 280), "--crs", "EPSG:0"], 1, "no known CRS"),
        (["--point", "500", "95", "--crs", "EPSG:4326"], 1, "EPSG:4326"),
        (["--point", *place(300, 280), "--simplify", "-1"], 2, "0 or more"),
        (["--point", *place(300, 280), "--model", "none"], 1, "none"),
    ],
)
def test_bad_input_is_one_line_and_a_status(
    raster: Path,
    model: FakeModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    words: str,
) -> None:
    out = tmp_path / "out.gpkg"
    assert run(raster, *arguments, "-o", str(out)) == status
    said = capsys.readouterr()
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert not out.exists()


@pytest.mark.parametrize(
    ("output", "words"), [("out.shp", ".gpkg"), ("missing/out.gpkg", "no folder"), ("", "GeoPackage")]
)
def test_a_bad_output_is_found_before_any_work(
    raster: Path, model: FakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, words: str
) -> None:
    assert run(raster, "--point", *place(300, 280), "-o", str(tmp_path / output)) == 1
    assert words in capsys.readouterr().err
    assert not model.encoded


def test_a_missing_raster_is_named(tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "no.tif", "--point", "1", "1", "-o", str(tmp_path / "out.gpkg")) == 1
    assert "no.tif" in capsys.readouterr().err


def test_a_raster_without_crs_works_in_columns_and_rows(
    tmp_path: Path, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    path = disc_raster(tmp_path / "plain.tif", crs=None, transform=None)
    out = tmp_path / "out.gpkg"
    assert run(path, "--point", "300", "-280", "-o", str(out)) == 0
    assert "square units" in capsys.readouterr().out
    (feature,) = features(out)
    assert feature["geometry"].centroid.distance(shapely.Point(300, -280)) < 0.1
    assert np.isnan(feature["area"])
    assert run(path, "--point", "1", "1", "--crs", "EPSG:4326", "-o", str(tmp_path / "b.gpkg")) == 1


def test_the_level_follows_the_box_unless_given(tmp_path: Path, model: FakeModel) -> None:
    path = disc_raster(tmp_path / "large.tif", size=2000, centre=(1000.0, 1000.0), radius=400.0)
    corners = [*place(590, 590), *place(1410, 1410)]
    out = tmp_path / "out.gpkg"
    assert run(path, "--box", *corners, "-o", str(out)) == 0
    assert features(out)[0]["geometry"].area == pytest.approx(disc_area(200.0), rel=0.02)
    side = np.ptp(model.decoded[0].box[[0, 2]])
    assert side == pytest.approx(820 / 8), "level 3"
    assert run(path, "--box", *corners, "-o", str(out), "--level", "4", "--overwrite") == 0
    assert np.ptp(model.decoded[-1].box[[0, 2]]) == pytest.approx(820 / 8), "the raster fits in one crop at level 3"


def test_a_default_store_of_no_use_is_told_and_the_work_done(
    raster: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (raster.parent / "file").write_text("")
    folders = replace(paths.default_folders(), store=raster.parent / "file" / "store")
    monkeypatch.setattr(console, "default_folders", lambda: folders)
    out = raster.parent / "out.gpkg"
    assert main(["segment", str(raster), "--device", "cpu", "--point", *place(300, 280), "-o", str(out)]) == 0
    assert "embedding store cannot be used" in capsys.readouterr().err
    assert len(features(out)) == 1
    folder = str(raster.parent / "file" / "mine")
    assert main(["segment", str(raster), "--store-dir", folder, "--point", "0", "0", "-o", str(out), "--append"]) == 1
    assert "cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("latitude", [0.0, 60.0])
def test_lengths_and_areas_are_metres_in_degrees_too(
    model: FakeModel, tmp_path: Path, latitude: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    degree = 111_195.0
    grid = Affine(1e-5, 0.0, 10.0, 0.0, -1e-5, latitude)
    path = disc_raster(tmp_path / "degrees.tif", crs="EPSG:4326", transform=grid)
    asked: list[SegmentParams] = []
    plain = Segmenter.segment
    monkeypatch.setattr(Segmenter, "segment", lambda self, p, progress: asked.append(p) or plain(self, p, progress))
    x, y = grid @ (300, 280)
    options = ["--simplify", "2", "--min-hole", "9", "--min-part", "16", "-o", str(tmp_path / "out.gpkg")]
    assert run(path, "--point", repr(x), repr(y), *options) == 0
    unit = degree * math.sqrt(math.cos(math.radians(latitude)))
    found = asked[0].outline
    assert found.simplify == pytest.approx(2 / unit, rel=0.01)
    assert (found.min_hole, found.min_part) == pytest.approx((9 / unit**2, 16 / unit**2), rel=0.02)


def test_without_a_crs_lengths_are_pixels(model: FakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = disc_raster(tmp_path / "plain.tif", crs=None, transform=None)
    asked: list[SegmentParams] = []
    plain = Segmenter.segment
    monkeypatch.setattr(Segmenter, "segment", lambda self, p, progress: asked.append(p) or plain(self, p, progress))
    assert run(path, "--point", "300", "-280", "--simplify", "2", "-o", str(tmp_path / "out.gpkg")) == 0
    assert asked[0].outline == OutlineOptions(simplify=2.0)
