"""The service and its commands, with the shipped model and heads of random numbers or of a short training."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import torch
from samtune.engine import handlers
from samtune.engine.adapters import AdapterService
from samtune.engine.area_messages import FindParams, FindResult, MapParams, MapResult
from samtune.engine.areas import looking, options
from samtune.engine.areas.looking import InstanceLook, SemanticLook
from samtune.engine.areas.map_file import NODATA
from samtune.engine.areas.service import AreaService
from samtune.engine.cli import main
from samtune.engine.messages import RasterSpec
from samtune.engine.model_service import ModelService
from samtune.engine.progress import NullProgress
from samtune.engine.store import EmbeddingStore
from samtune.engine.tuning.reading import CropInputs
from samtune.engine.tuning.run import tune
from samtune.engine.tuning.settings import Schedule, Task
from samtune.engine.wire import from_wire, to_wire
from samtune.models.errors import CancelledByUser, OutputError, PromptError, RasterError, TuningError
from samtune.models.heads.instances import InstancesConfig
from samtune.models.heads.mfnet import MfnetHeadConfig
from samtune.models.heads.semantic import SemanticConfig
from samtune.models.peft.adapter_file import read_card
from samtune.models.peft.band_stem import BandStemConfig
from samtune.models.peft.card_records import BandRecord, ClassRecord, HeadKind, InputRecord, SecondRecord
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.mm_lora import MmLoraConfig

from ..engine.adapter_files import write_adapter
from ..engine.rasters import ROTATED, write
from ..tuning.ground import make_ground, service, write_shapes
from .test_find import StopAt

PROGRESS = NullProgress()
KINDS = (ClassRecord(0, "pond", (10, 20, 30)), ClassRecord(1, "roof", (200, 0, 0)))
GROUND = (ClassRecord(0, "other", (200, 200, 200)), ClassRecord(1, "field", (0, 255, 0)))
RGB = InputRecord((1, 2, 3))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def models() -> ModelService:
    return service(128)


@pytest.fixture
def areas(models: ModelService) -> AreaService:
    return AreaService(models, EmbeddingStore(None), AdapterService())


def adapter(path: Path, models: ModelService, *configs: object, **more: object) -> Path:
    model = models.get("tiny")
    return write_adapter(path, model.card, model.network, *configs, **({"inputs": RGB} | more))


@pytest.fixture(scope="module")
def finder(models: ModelService, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapters") / "finder.safetensors"
    configs = (InstancesConfig(classes=2), LoraConfig(rank=2))
    return adapter(path, models, *configs, head=HeadKind.INSTANCES, classes=KINDS)


@pytest.fixture(scope="module")
def mapper(models: ModelService, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapters") / "mapper.safetensors"
    return adapter(path, models, SemanticConfig(classes=2), by=0.3, head=HeadKind.SEMANTIC, classes=GROUND)


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    return write(tmp_path / "scene.tif", picture())


def picture(bands: int = 3, size: tuple[int, int] = (150, 210)) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (bands, size[0] // 10 + 1, size[1] // 10 + 1), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, 10, axis=1), 10, axis=2)[:, : size[0], : size[1]]


def wanted(raster: Path, finder: Path, **more: object) -> FindParams:
    return FindParams(RasterSpec(str(raster)), "tiny", str(finder), **({"threshold": 0.04} | more))


def test_objects_are_found_with_class_and_score(areas: AreaService, raster: Path, finder: Path) -> None:
    result = areas.find(wanted(raster, finder), PROGRESS)
    assert result.objects, "random heads find something when asked to be bold"
    assert (result.adapter, result.level, result.crops, result.skipped) == ("finder", 0, 6, 0)
    assert {item.label for item in result.objects} <= {"pond", "roof"}
    scores = [item.score for item in result.objects]
    assert scores == sorted(scores, reverse=True)
    for item in result.objects:
        shape = shapely.from_wkb(bytes.fromhex(item.wkb))
        assert shape.is_valid and shape.geom_type == "MultiPolygon"
        assert shape.area == pytest.approx(item.area)
    assert from_wire(FindResult, json.loads(json.dumps(to_wire(result)))) == result
    assert areas.find(wanted(raster, finder), PROGRESS).objects == result.objects
    few = areas.find(wanted(raster, finder, most=2), PROGRESS)
    assert few.objects == result.objects[:2]
    assert any("the 2 surest are kept" in note for note in few.notes)


def test_several_crops_at_once_answer_as_one_by_one(models: ModelService, finder: Path, mapper: Path) -> None:
    model, loader = models.get("tiny"), AdapterService()
    whole = np.moveaxis(picture(3, (128, 384)), 0, 2)
    crops = [CropInputs(np.ascontiguousarray(whole[:, i : i + 128]), np.ones((128, 128), bool)) for i in (0, 128, 256)]
    check = PROGRESS.check
    maps = SemanticLook(model, loader.get(str(mapper), model))
    for one, several in zip([maps.look([crop], check)[0] for crop in crops], maps.look(crops, check), strict=True):
        assert several.shape == (2, 32, 32)
        assert several.sum(axis=0) == pytest.approx(1.0, abs=1e-5)
        assert np.allclose(one, several, atol=2e-3)
    finds = InstanceLook(model, loader.get(str(finder), model), 0.04)
    together = finds.look(crops, check)
    assert finds.batch == 1, "on a processor"
    for one, several in zip([finds.look([crop], check)[0] for crop in crops], together, strict=True):
        assert [item.label for item in one] == [item.label for item in several]
        assert all(np.allclose(a.logits, b.logits, atol=0.1) for a, b in zip(one, several, strict=True))


def test_a_map_is_written_with_its_legend(areas: AreaService, raster: Path, mapper: Path, tmp_path: Path) -> None:
    output, sure = tmp_path / "map.tif", tmp_path / "sure.tif"
    params = MapParams(RasterSpec(str(raster)), "tiny", str(mapper), str(output), confidence=str(sure))
    result = areas.map(params, PROGRESS)
    assert (result.output, result.confidence, result.level) == (str(output), str(sure), 0)
    assert [(item.value, item.name, item.colour) for item in result.classes] == [
        (0, "other", "#c8c8c8"),
        (1, "field", "#00ff00"),
    ]
    assert sum(item.area for item in result.classes) == pytest.approx(150 * 210 * 0.25)
    with rasterio.open(output) as dataset, rasterio.open(sure) as other:
        values, percent = dataset.read(1), other.read(1)
        assert dataset.tags()["SAMTUNE_ADAPTER"] == "mapper"
        assert other.overviews(1) == dataset.overviews(1)
    assert [(values == item.value).sum() * 0.25 for item in result.classes] == [item.area for item in result.classes]
    assert percent.min() >= 50 and percent.max() <= 100
    assert from_wire(MapResult, json.loads(json.dumps(to_wire(result)))) == result
    with pytest.raises(OutputError, match="exists"):
        areas.map(params, PROGRESS)
    with pytest.raises(OutputError, match="different names"):
        areas.map(replace(params, output=str(tmp_path / "x.tif"), confidence=str(tmp_path / "x.tif")), PROGRESS)
    with pytest.raises(OutputError, match="no folder"):
        areas.map(replace(params, output=str(tmp_path / "no" / "x.tif"), confidence=""), PROGRESS)


def test_adapters_say_what_they_can_do_instead(
    areas: AreaService, raster: Path, finder: Path, mapper: Path, models: ModelService, tmp_path: Path
) -> None:
    clicks = adapter(tmp_path / "clicks.safetensors", models)
    with pytest.raises(TuningError, match=r"mapper cannot find all objects: it was tuned to make class maps"):
        areas.find(wanted(raster, mapper), PROGRESS)
    with pytest.raises(TuningError, match=r"clicks cannot find all objects: .* outline what you click"):
        areas.find(wanted(raster, clicks), PROGRESS)
    out = str(tmp_path / "map.tif")
    with pytest.raises(TuningError, match=r"finder cannot make class maps: it was tuned to find all objects"):
        areas.map(MapParams(RasterSpec(str(raster)), "tiny", str(finder), out), PROGRESS)
    with pytest.raises(TuningError, match="no adapter file"):
        areas.find(wanted(raster, tmp_path / "gone.safetensors"), PROGRESS)
    with pytest.raises(PromptError, match="no adapter to do this with"):
        areas.find(replace(wanted(raster, finder), adapter=""), PROGRESS)
    assert not Path(out).exists()


def test_every_kind_of_raster_is_taken(areas: AreaService, finder: Path, mapper: Path, tmp_path: Path) -> None:
    kinds = {
        "plain": {"crs": None, "transform": None},
        "turned": {"transform": ROTATED},
        "nowhere": {"crs": None},
    }
    for name, place in kinds.items():
        path = write(tmp_path / f"{name}.tif", picture(), **place)
        assert areas.find(wanted(path, finder), PROGRESS).objects
        output = tmp_path / f"{name}_map.tif"
        areas.map(MapParams(RasterSpec(str(path)), "tiny", str(mapper), str(output)), PROGRESS)
        with rasterio.open(output) as made, rasterio.open(path) as given:
            assert made.crs == given.crs
            if name != "plain":
                assert np.allclose(tuple(made.transform), tuple(given.transform))
            else:
                assert tuple(made.transform)[:6] == (1, 0, 0, 0, -1, 0), "where QGIS shows it"
    grey = write(tmp_path / "grey.tif", picture(1))
    with pytest.raises(RasterError, match="band"):
        areas.find(wanted(grey, finder), PROGRESS)
    assert areas.find(replace(wanted(grey, finder), raster=RasterSpec(str(grey), (1,))), PROGRESS).notes


def test_no_data_and_no_ground_are_told(areas: AreaService, finder: Path, mapper: Path, tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.tif", np.zeros((3, 150, 200), np.uint8), nodata=0)
    found = areas.find(wanted(empty, finder), PROGRESS)
    assert (found.objects, found.crops, found.skipped) == ((), 0, 4)
    assert "no data" in found.notes[-1]
    made = areas.map(MapParams(RasterSpec(str(empty)), "tiny", str(mapper), str(tmp_path / "m.tif")), PROGRESS)
    assert all(item.area == 0 for item in made.classes)
    with rasterio.open(tmp_path / "m.tif") as dataset:
        assert (dataset.read(1) == NODATA).all()
    with pytest.raises(PromptError, match="outside the raster"):
        areas.find(wanted(empty, finder, area=shapely.box(0, 0, 9, 9).wkb_hex), PROGRESS)


def test_what_an_adapter_needs_besides_must_be_there(
    areas: AreaService, models: ModelService, raster: Path, tmp_path: Path
) -> None:
    bands = InputRecord((1, 2, 3), bands=tuple(BandRecord(number, std=50.0, mean=100.0) for number in (1, 2, 3, 4)))
    stem = adapter(
        tmp_path / "stem.safetensors",
        models,
        BandStemConfig(channels=4),
        InstancesConfig(classes=2),
        head=HeadKind.INSTANCES,
        inputs=bands,
        classes=KINDS,
    )
    with pytest.raises(TuningError, match="needs band 4"):
        areas.find(wanted(raster, stem), PROGRESS)
    four = write(tmp_path / "four.tif", picture(4))
    assert areas.find(wanted(four, stem), PROGRESS).objects
    streams = InputRecord((1, 2, 3), second=SecondRecord("height", (1,), ((0.0, 255.0),)))
    two = adapter(
        tmp_path / "two.safetensors",
        models,
        MmLoraConfig(),
        MfnetHeadConfig(classes=2),
        head=HeadKind.SEMANTIC,
        inputs=streams,
        classes=GROUND,
    )
    params = MapParams(RasterSpec(str(raster)), "tiny", str(two), str(tmp_path / "map.tif"))
    with pytest.raises(TuningError, match="second raster"):
        areas.map(params, PROGRESS)
    # A second raster that covers only a part: the rest is mapped from the picture.
    height = write(tmp_path / "height.tif", picture(1, (150, 60)))
    made = areas.map(replace(params, second=str(height)), PROGRESS)
    assert sum(item.area for item in made.classes) == pytest.approx(150 * 210 * 0.25)


def test_a_cancel_at_any_moment_leaves_nothing(
    areas: AreaService, raster: Path, finder: Path, mapper: Path, tmp_path: Path
) -> None:
    output = tmp_path / "map.tif"
    mapping = MapParams(RasterSpec(str(raster)), "tiny", str(mapper), str(output))
    for ask, params in ((areas.find, wanted(raster, finder)), (areas.map, mapping)):
        counting = StopAt(10**9)
        ask(params, counting)
        looks = 10**9 - counting.left
        assert looks > 40, "within crops too, block by block"
        output.unlink(missing_ok=True)
        (tmp_path / "map.tif.aux.xml").unlink(missing_ok=True)
        for moment in random.Random(1).sample(range(looks), 6):
            with pytest.raises(CancelledByUser):
                ask(params, StopAt(moment))
            assert {path.name for path in tmp_path.iterdir()} == {"scene.tif"}


def test_a_graphics_card_gets_as_many_crops_as_fit(
    models: ModelService, mapper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.get("tiny")
    look = SemanticLook(model, AdapterService().get(str(mapper), model))
    monkeypatch.setattr(model, "device", torch.device("cuda"))
    for name, value in (
        ("memory_allocated", 2_000),
        ("reset_peak_memory_stats", None),
        ("max_memory_allocated", 3_000),
        ("memory_reserved", 2_500),
        ("mem_get_info", (9_500, 20_000)),
    ):
        monkeypatch.setattr(looking.torch.cuda, name, lambda *_, value=value: value)
    with look._measured(1):
        pass
    assert look.batch == 5, "half of what is free, at what the first one took"


def test_the_engine_answers_all_three(tmp_path: Path) -> None:
    source = Path(handlers.__file__).read_text(encoding="utf-8")
    for name in ("FIND: _typed(FindParams", "MAP: _typed(MapParams", "SUGGEST: _typed(SuggestParams"):
        assert name in source


@pytest.fixture
def command(models: ModelService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    monkeypatch.setattr(options, "ModelService", lambda *_: models)
    return ["--store-dir", str(tmp_path / "store"), "--device", "cpu"]


def test_the_command_find_writes_features(
    command: list[str], raster: Path, finder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.gpkg"
    arguments = ["find", str(raster), "--adapter", str(finder), "--threshold", "0.04", "-o", str(out), *command]
    assert main(arguments) == 0
    assert "objects (" in capsys.readouterr().out
    facts, _, geometry, fields = pyogrio.raw.read(out, layer="segments")
    rows = dict(zip(facts["fields"], fields, strict=True))
    assert len(geometry) > 0
    assert set(rows["class"]) <= {"pond", "roof"}
    assert set(rows["prompt"]) == {"find"} and set(rows["adapter"]) == {"finder"}
    assert set(rows["raster"]) == {"scene.tif"} and set(rows["bands"]) == {"1,2,3"}
    assert main(arguments) == 1
    assert "exists" in capsys.readouterr().err
    assert main([*arguments, "--overwrite", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["objects"], sum(told["classes"].values())) == (len(geometry),) * 2
    assert (
        main(
            [
                "find",
                str(raster),
                "--adapter",
                str(finder),
                "--threshold",
                "1",
                "-o",
                str(tmp_path / "n.gpkg"),
                *command,
            ]
        )
        == 3
    )
    assert not (tmp_path / "n.gpkg").exists()


def test_the_commands_take_an_area(
    command: list[str], raster: Path, mapper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = 500_000.0, 5_300_000.0
    box = shapely.box(x + 10, y - 40, x + 60, y - 5)
    polygons = write_shapes(tmp_path / "area.gpkg", [box], crs="EPSG:32633")
    first, second = tmp_path / "first.tif", tmp_path / "second.tif"
    common = ["map", str(raster), "--adapter", str(mapper), *command]
    assert main([*common, "--area", str(polygons), "-o", str(first), "--confidence", str(tmp_path / "c.tif")]) == 0
    assert "field" in capsys.readouterr().out
    corners = [str(value) for value in (x + 60, y - 5, x + 10, y - 40)]
    assert main([*common, "--bbox", *corners, "-o", str(second), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["result"]
    assert sum(item["area"] for item in told["classes"]) == pytest.approx(50 * 35)
    with rasterio.open(first) as one, rasterio.open(second) as other:
        values = one.read(1)
        assert np.array_equal(values, other.read(1))
        assert (values != NODATA).sum() * 0.25 == 50 * 35
        assert (values[10:80, 20:120] != NODATA).all()
    assert main([*common, "-o", str(first)]) == 1
    assert main([*common, "--bbox", "0", "0", "0", "0", "-o", str(tmp_path / "x.tif")]) == 1
    assert "rectangle is empty" in capsys.readouterr().err
    assert main([*common, "-o", str(tmp_path / "no" / "x.tif")]) == 1


def test_a_head_that_was_trained_finds_the_objects_of_the_whole_raster(tmp_path: Path) -> None:
    ground = make_ground(tmp_path, size=384, each=4)
    models = service(256)
    settings = ground.settings(
        tmp_path / "discs.safetensors",
        task=Task.INSTANCES,
        methods=(InstancesConfig(classes=2, stride=8),),
        hold_out=0.0,
        schedule=Schedule(steps=60, batch=1, checks=1, rate=2e-3),
    )
    tuned = tune(settings, models, PROGRESS)
    assert read_card(tuned.path).head is HeadKind.INSTANCES
    areas = AreaService(models, EmbeddingStore(None), AdapterService())
    result = areas.find(FindParams(RasterSpec(str(ground.raster)), "tiny", str(tuned.path), level=0), PROGRESS)
    frame = ground.frame
    shapes = [shapely.from_wkb(bytes.fromhex(item.wkb)) for item in result.objects]
    found = 0
    for x, y, radius in ground.circles:
        truth = shapely.transform(shapely.Point(x, y).buffer(radius), frame.to_map)
        fits = [shape for shape in shapes if shape.intersection(truth).area > 0.5 * shape.union(truth).area]
        assert len(fits) <= 1, "none twice"
        found += len(fits)
    assert found >= 12
    assert len(shapes) <= 20
