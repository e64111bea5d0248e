"""Reading labelled data, the answerers on a raster, and the command."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from samtune.engine.cli import main
from samtune.engine.crops import crop_at
from samtune.engine.evaluate.answerers import ModelAnswerer
from samtune.engine.evaluate.baselines import FelzenszwalbAnswerer, RandomWalkerAnswerer
from samtune.engine.evaluate.clicks import iou
from samtune.engine.evaluate.labels import Labelled, find_pairs
from samtune.engine.evaluate.protocol import Plan, measure
from samtune.engine.evaluate.run import Selection, evaluate
from samtune.engine.messages import RasterSpec
from samtune.engine.progress import NullProgress
from samtune.engine.prompting import PromptList
from samtune.engine.raster_source import RasterSource
from samtune.models.errors import SamTuneError
from samtune.models.promptable import Decoded


@pytest.fixture
def field(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A 200 x 160 raster, EPSG:32633, 2 m pixels: a bright field of 60 x 50 pixels on dark ground."""
    rng = np.random.default_rng(0)
    mask = np.zeros((160, 200), bool)
    mask[40:90, 70:130] = True
    image = np.where(mask, 180, 60)[None] + rng.normal(0, 4, (3, 160, 200))
    path = tmp_path / "field.tif"
    profile = {
        "driver": "GTiff",
        "width": 200,
        "height": 160,
        "count": 3,
        "dtype": "uint8",
        "crs": "EPSG:32633",
        "transform": from_origin(400000, 5800000, 2, 2),
    }
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(image.clip(0, 255).astype(np.uint8))
    return path, mask


def geojson(
    path: Path, crs: str = "EPSG::32633", shift: tuple[float, float] = (400000, 5800000), scale: float = 2
) -> Path:
    x0, y0 = shift
    ring = [(x0 + scale * c, y0 - scale * r) for c, r in ((70, 40), (130, 40), (130, 90), (70, 90), (70, 40))]
    feature = {
        "type": "Feature",
        "properties": {"crop": "rye"},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    document = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{crs}"}},
        "features": [feature],
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_vector_polygons(field: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    labels = geojson(tmp_path / "labels.geojson")
    (target,) = Labelled(field[0], labels, "crop").targets()
    assert target.label == "rye"
    assert np.array_equal(target.mask, field[1])


def test_vector_polygons_of_another_crs_are_brought_over(field: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    from rasterio.warp import transform

    corners = [(400000 + 2 * c, 5800000 - 2 * r) for c, r in ((70, 40), (130, 40), (130, 90), (70, 90), (70, 40))]
    x, y = transform("EPSG:32633", "EPSG:4326", *zip(*corners, strict=True))
    path = geojson(tmp_path / "labels.geojson", "OGC:1.3:CRS84")
    document = json.loads(path.read_text())
    document["features"][0]["geometry"]["coordinates"] = [list(zip(x, y, strict=True))]
    path.write_text(json.dumps(document), encoding="utf-8")
    (target,) = Labelled(field[0], path).targets()
    assert iou(target.mask, field[1]) > 0.95


def test_an_unknown_field_is_named(field: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    labels = geojson(tmp_path / "labels.geojson")
    with pytest.raises(SamTuneError, match="crop"):
        list(Labelled(field[0], labels, "species").targets())


def write_labels(path: Path, values: np.ndarray, **extra: object) -> Path:
    profile = {
        "driver": "GTiff",
        "width": values.shape[1],
        "height": values.shape[0],
        "count": 1,
        "dtype": values.dtype,
    }
    with rasterio.open(path, "w", **profile, **extra) as dataset:
        dataset.write(values, 1)
    return path


def test_label_images_are_split_into_connected_regions(field: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    values = np.zeros((160, 200), np.uint8)
    values[10:20, 10:20] = values[10:20, 40:50] = 7
    values[30:60, 30:60] = 9
    values[0:3, 0:3] = 9
    values[100:, :] = 255
    labels = write_labels(tmp_path / "l.tif", values, nodata=255)
    found = list(Labelled(field[0], labels).targets())
    assert sorted((target.label, int(target.mask.sum())) for target in found) == [("7", 100), ("7", 100), ("9", 900)]


def test_labels_of_another_size_are_refused(field: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "l.tif", np.ones((10, 10), np.uint8))
    with pytest.raises(SamTuneError, match="Resample"):
        list(Labelled(field[0], labels).targets())


def coco(path: Path) -> Path:
    ring = [70, 40, 130, 40, 130, 90, 70, 90]
    document = {
        "images": [{"id": 4, "file_name": "x/field.tif", "width": 200, "height": 160}],
        "annotations": [{"id": 1, "image_id": 4, "category_id": 2, "segmentation": [ring]}],
        "categories": [{"id": 2, "name": "field"}],
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_coco(field: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    (pair,) = find_pairs(tmp_path, coco(tmp_path / "train.json"))
    (target,) = pair.targets()
    assert target.label == "field"
    assert iou(target.mask, field[1]) > 0.95


def test_folders_are_paired_by_name(field: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    geojson(labels / "field.geojson")
    write_labels(tmp_path / "lonely.tif", np.ones((10, 10), np.uint8))
    (pair,) = find_pairs(tmp_path, labels)
    assert (pair.raster.name, pair.labels.name) == ("field.tif", "field.geojson")
    with pytest.raises(SamTuneError, match="same names"):
        find_pairs(tmp_path / "lonely.tif", labels)


def test_a_file_that_is_no_coco_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(SamTuneError, match="no COCO"):
        find_pairs(tmp_path, path)


def test_felzenszwalb_finds_a_plain_field(field: tuple[Path, np.ndarray]) -> None:
    source = RasterSource(RasterSpec(str(field[0])))
    outcome = measure(FelzenszwalbAnswerer(source), field[1], Plan(count_clicks=False, clicks=2))
    assert outcome.ious[0] > 0.9
    assert outcome.box is not None
    assert outcome.box > 0.9
    assert all(math.isnan(value) for value in outcome.predicted)


def test_felzenszwalb_obeys_negative_clicks(field: tuple[Path, np.ndarray]) -> None:
    answerer = FelzenszwalbAnswerer(RasterSource(RasterSpec(str(field[0]))))
    crop = crop_at(answerer.frame, 512, -1, (100.0, 65.0))
    x, y = (100 - crop.col) / crop.scale, (65 - crop.row) / crop.scale
    positive, _ = answerer.answer(crop, PromptList(((x, y, True),)))
    both, _ = answerer.answer(crop, PromptList(((x, y, True), (x, y, False))))
    assert positive.any()
    assert not both.any()


def test_random_walker_finds_a_plain_field(field: tuple[Path, np.ndarray]) -> None:
    source = RasterSource(RasterSpec(str(field[0])))
    outcome = measure(RandomWalkerAnswerer(source), field[1], Plan(count_clicks=False, clicks=1))
    assert outcome.ious[0] > 0.6
    assert outcome.box is not None
    assert outcome.box > 0.6


class BrightModel:
    """Answers what is bright in the picture it was given; counts its encodings."""

    class card:  # noqa: N801 - the attribute of the real model
        input_size = 512

    encoded = 0

    def using(self, _adapter: object) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()

    def encode(self, image: np.ndarray, valid: np.ndarray, _check: object = None, _side: None = None) -> np.ndarray:
        self.encoded += 1
        bright = (image.mean(axis=2) - 120) * valid
        embedding = np.zeros((256, 32, 32), np.float16)
        embedding[:16] = bright.reshape(32, 4, 4, 32, 4, 4).mean(axis=(2, 5)).transpose(1, 3, 0, 2).reshape(16, 32, 32)
        return embedding

    def decode(self, embedding: np.ndarray, *_: object, multimask: bool = True) -> Decoded:
        logits = embedding[:16].reshape(4, 4, 32, 32).transpose(2, 0, 3, 1).reshape(1, 128, 128).astype(np.float32)
        return Decoded(
            np.repeat(logits, 3 if multimask else 1, axis=0), np.array([0.9, 0.1, 0.1][: 3 if multimask else 1])
        )


def test_a_model_is_asked_as_the_plugin_asks_it(field: tuple[Path, np.ndarray]) -> None:
    model = BrightModel()
    answerer = ModelAnswerer(model, RasterSource(RasterSpec(str(field[0]))))  # type: ignore[arg-type]
    outcome = measure(answerer, field[1], Plan())
    assert outcome.ious[0] > 0.93
    assert outcome.predicted[0] == pytest.approx(0.9)
    assert outcome.box is not None
    assert outcome.box > 0.93
    assert model.encoded <= 2


def test_an_evaluation_draws_its_objects_by_seed(field: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    values = np.zeros((160, 200), np.uint8)
    for row in range(4):
        for column in range(5):
            values[row * 40 : row * 40 + 12, column * 40 : column * 40 + 12] = 1
    pair = Labelled(field[0], write_labels(tmp_path / "l.tif", values))
    plan = Plan(points=False)

    def run(seed: int) -> list[int]:
        found = evaluate([pair], FelzenszwalbAnswerer, plan, Selection(4, seed=seed), NullProgress())
        return [round((outcome.box or 0) * 1e6) for outcome in found]

    assert run(1) == run(1)
    assert 1 <= len(run(1)) <= 12


def test_the_command_writes_a_report(
    field: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = geojson(tmp_path / "labels.geojson")
    out = tmp_path / "report.json"
    arguments = [str(field[0]), str(labels), "--class-field", "crop", "--baseline", "felzenszwalb", "--json", str(out)]
    assert main(["evaluate", *arguments]) == 0
    assert "1 objects" in capsys.readouterr().out
    report = json.loads(out.read_text())
    assert report["measured"] == "felzenszwalb"
    assert report["mean"]["iou_1_click"] > 0.9
    assert report["each"][0]["label"] == "rye"
    assert report["plan"]["clicks"] == 5


@pytest.mark.parametrize("extra", [["--prompts", "line"], ["--least", "100000"]])
def test_the_command_says_what_is_wrong(
    field: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str]
) -> None:
    labels = geojson(tmp_path / "labels.geojson")
    assert main(["evaluate", str(field[0]), str(labels), "--baseline", "felzenszwalb", *extra]) == 1
    assert extra[0] in capsys.readouterr().err
