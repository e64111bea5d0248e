"""``--adapter`` of ``samtune segment`` and ``samtune evaluate``, with the shipped model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyogrio
import pytest
from samtune.engine.cli import main
from samtune.engine.crops import crop_at
from samtune.engine.device import DeviceChoice
from samtune.engine.evaluate.answerers import ModelAnswerer
from samtune.engine.messages import RasterSpec
from samtune.engine.model_service import ModelService
from samtune.engine.prompting import PromptList
from samtune.engine.raster_source import RasterSource
from samtune.models import registry
from samtune.models.peft.card_records import GroundRecord, HeadKind, InputRecord
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.selective import DecoderConfig
from samtune.models.promptable import PromptableModel

from .adapter_files import moved_adapter, write_adapter
from .rasters import NORTH_UP, disc, write

Run = Callable[..., int]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PromptableModel:
    return ModelService(tmp_path_factory.mktemp("models"), DeviceChoice("cpu", "", 1)).get("tiny")


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    grey = disc((512, 512), (250.0, 240.0), 60.0, 60.0, 170.0)
    noisy = grey + np.random.default_rng(0).normal(0, 6, grey.shape)
    bands = [noisy, noisy * 0.9, noisy * 0.8, 255 - noisy]
    return write(tmp_path / "ponds.tif", np.stack(bands).clip(0, 255).astype(np.uint8))


@pytest.fixture
def segment(raster: Path) -> Run:
    x, y = NORTH_UP @ (250, 240)
    common = ["--store-dir", str(raster.parent / "store"), "--device", "cpu", "--point", str(x), str(y)]
    return lambda *arguments: main(["segment", str(raster), *common, *map(str, arguments)])


def feature(path: Path) -> dict[str, object]:
    facts, _, geometry, values = pyogrio.raw.read(path)
    return {**dict(zip(facts["fields"], (column[0] for column in values), strict=True)), "wkb": geometry[0]}


def test_a_decoder_adapter_changes_the_outline_and_signs_it(
    segment: Run, raster: Path, model: PromptableModel, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_adapter(
        raster.parent / "ponds.safetensors", model.card, model.network, DecoderConfig(), by=0.01, inputs=InputRecord()
    )
    assert segment("-o", raster.parent / "base.gpkg", "--json") == 0
    assert segment("--adapter", file, "-o", raster.parent / "tuned.gpkg", "--json") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert '"source": "disk"' in said.out, "the embedding is the base's"
    base, tuned = feature(raster.parent / "base.gpkg"), feature(raster.parent / "tuned.gpkg")
    assert (base["adapter"], tuned["adapter"]) == (None, "ponds")
    assert base["wkb"] != tuned["wkb"]
    assert tuned["model"] == "tiny"


def test_bands_and_level_are_the_adapters_unless_given(
    segment: Run, raster: Path, model: PromptableModel, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, ground = InputRecord((4, 2, 1)), GroundRecord(gsd=(1.0, 1.0))
    file = write_adapter(
        raster.parent / "a.safetensors", model.card, model.network, LoraConfig(), by=1e-3, inputs=inputs, ground=ground
    )
    arguments = ["--adapter", file, "--json"]
    assert segment(*arguments, "-o", raster.parent / "own.gpkg") in {0, 3}
    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out)["result"]["level"] == 0, "the raster is no larger than a crop"
    assert segment(*arguments, "--bands", "1,2,3", "--level", "-2", "-o", raster.parent / "other.gpkg") in {0, 3}
    said = capsys.readouterr()
    assert "trained on the bands 4, 2, 1" in said.err and "much finer" in said.err
    assert json.loads(said.out)["result"]["notes"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "is not there"),
        ("text", "no adapter"),
        ("other base", "another base model"),
        ("maps", "class maps"),
    ],
)
def test_adapters_that_cannot_be_used_stop_with_one_line(
    segment: Run, raster: Path, model: PromptableModel, kind: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = raster.parent / "a.safetensors"
    inputs = InputRecord()
    if kind == "text":
        file.write_text("nothing of the kind, but long enough to have a header")
    elif kind == "other base":
        write_adapter(file, registry.card("vit_b"), model.network, inputs=inputs)
    elif kind == "maps":
        write_adapter(file, model.card, model.network, inputs=inputs, head=HeadKind.SEMANTIC)
    out = raster.parent / "out.gpkg"
    assert segment("--adapter", file, "--model", "tiny", "-o", out) == 1
    said = capsys.readouterr()
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert not out.exists()


def test_the_adapters_base_is_asked_for_when_no_model_is_named(
    segment: Run, raster: Path, model: PromptableModel, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_adapter(raster.parent / "a.safetensors", registry.card("vit_b"), model.network, inputs=InputRecord())
    empty = raster.parent / "no models"
    assert segment("--adapter", file, "--models-dir", empty, "-o", raster.parent / "out.gpkg") == 1
    assert "ViT-B is not on this machine" in capsys.readouterr().err


@pytest.fixture
def labels(raster: Path) -> Path:
    path = raster.parent / "labels.tif"
    return write(path, (disc((512, 512), (250.0, 240.0), 60.0, 1.0, 0.0) > 0.5).astype(np.uint8)[None])


def test_evaluate_measures_the_adapter(
    raster: Path, labels: Path, model: PromptableModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_adapter(
        tmp_path / "bad.safetensors", model.card, model.network, DecoderConfig(), by=0.3, inputs=InputRecord()
    )
    common = ["evaluate", str(raster), str(labels), "--no-count", "--clicks", "1", "--device", "cpu"]
    reports = []
    for name, more in (("base", []), ("tuned", ["--adapter", str(file)])):
        out = tmp_path / f"{name}.json"
        assert main([*common, *more, "--json", str(out)]) == 0
        reports.append(json.loads(out.read_text()))
    assert [report["measured"] for report in reports] == ["tiny", "tiny with bad"]
    assert reports[0]["mean"]["iou_box"] > reports[1]["mean"]["iou_box"], "random weights ruin the decoder"
    capsys.readouterr()
    assert main([*common, "--adapter", str(file), "--baseline", "felzenszwalb"]) == 1
    assert "--baseline" in capsys.readouterr().err


def test_answerers_of_one_model_do_not_disturb_each_other(raster: Path, model: PromptableModel) -> None:
    adapter = moved_adapter(model.network, LoraConfig(), DecoderConfig(), by=0.02)
    source = RasterSource(RasterSpec(str(raster), (1, 2, 3)))
    crop = crop_at(source.frame, 512, 0, (250.0, 240.0))
    clicks = [PromptList(((250.0, 240.0, True),)), PromptList(((250.0, 240.0, True), (400.0, 400.0, False)))]
    alone = [ModelAnswerer(model, source).answer(crop, prompts) for prompts in clicks]
    base, tuned = ModelAnswerer(model, source), ModelAnswerer(model, source, adapter)
    mixed = [(base.answer(crop, prompts), tuned.answer(crop, prompts)) for prompts in clicks]
    for (mask, score), ((base_mask, base_score), (_, tuned_score)) in zip(alone, mixed, strict=True):
        assert np.array_equal(mask, base_mask)
        assert score == base_score != tuned_score
    source.close()
