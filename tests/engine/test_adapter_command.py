"""``samtune adapter``: show, check, merge, export and import, with the shipped model."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from samtune.engine.cli import main
from samtune.engine.device import DeviceChoice
from samtune.engine.model_service import ModelService
from samtune.models import registry
from samtune.models.heads.semantic import SemanticConfig
from samtune.models.loading import load
from samtune.models.peft.adapter_file import load_adapter
from samtune.models.peft.card_records import (
    BandRecord,
    ClassRecord,
    GroundRecord,
    HeadKind,
    InputRecord,
    MetricRecord,
    SecondRecord,
    TrainingRecord,
)
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.selective import DecoderConfig
from samtune.models.promptable import PromptableModel

from .adapter_files import write_adapter
from .rasters import disc_raster


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PromptableModel:
    return ModelService(tmp_path_factory.mktemp("models"), DeviceChoice("cpu", "", 1)).get("tiny")


@pytest.fixture
def ponds(tmp_path: Path, model: PromptableModel) -> Path:
    """An adapter with a full card."""
    return write_adapter(
        tmp_path / "ponds.safetensors",
        model.card,
        model.network,
        LoraConfig(rank=2),
        DecoderConfig(),
        inputs=InputRecord(
            (1,),
            ((0.0, 255.0),),
            (BandRecord(1, "grey"), BandRecord(0, "ndvi", "(b4 - b3) / (b4 + b3)")),
            second=SecondRecord("height"),
        ),
        ground=GroundRecord((0.5, 0.5), 512, "", "EPSG:32633", (0.0, 0.0, 100.0, 50.0)),
        classes=(ClassRecord(1, "pond", objects=12),),
        training=TrainingRecord(200, (3,), "blocks of 50 m", "dice", 12, 4, 84.0, "cpu"),
        metrics=(MetricRecord("iou_1_click", 0.31, 0.525), MetricRecord("iou_box", None, 0.7)),
        notes=("Drawn by hand.",),
    )


def plain(path: Path, model: PromptableModel, *configs: object, **more: object) -> Path:
    return write_adapter(path, model.card, model.network, *configs, inputs=InputRecord((1,)), **more)


def test_show_tells_the_card(ponds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapter", "show", str(ponds)]) == 0
    said = capsys.readouterr().out
    for words in (
        "ponds",
        "for      tiny",
        "clicks and boxes",
        "lora (alpha 4.0, layers attn.qkv, ",
        "projections q+v, rank 2, ",
        "bands 1, stretched from 0 to 255",
        "1 (grey), ndvi",
        "height",
        "0.5 m per pixel",
        "1 pond, 12 objects",
        "200 steps in 84 s on cpu, seed 3",
        "blocks of 50 m",
        "Drawn by hand.",
    ):
        assert words in said
    assert "iou_1_click       0.310   0.525  +0.215" in said
    assert "iou_box               -   0.700       -" in said


def test_rename_changes_name_and_note(
    model: PromptableModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plain(tmp_path / "a.safetensors", model, DecoderConfig(), notes=("SamTune says.", "Note: old"))
    assert main(["adapter", "rename", str(path), "Ponds"]) == 0
    assert "called Ponds" in capsys.readouterr().out
    card = load_adapter(path, model.network, model.card.sha256)[1]
    assert (card.name, card.notes) == ("Ponds", ("SamTune says.", "Note: old"))
    assert main(["adapter", "rename", str(path), "Lakes", "--note", "new"]) == 0
    assert load_adapter(path, model.network, model.card.sha256)[1].notes == ("SamTune says.", "Note: new")
    assert main(["adapter", "rename", str(path), " "]) == 1
    assert "needs a name" in capsys.readouterr().err


def test_compare_shows_both_side_by_side(
    model: PromptableModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plain(tmp_path / "wild.safetensors", model, DecoderConfig())
    sample = Path(__file__).resolve().parents[2] / "docs" / "sample"
    given = [str(path), str(sample / "landsat_raleigh.tif"), str(sample / "landsat_labels.geojson")]
    assert main(["adapter", "compare", "base", *given, "--most", "2", "--bands", "4,3,2"]) == 0
    said = capsys.readouterr().out
    assert "IoU after 1 click" in said and "wild" in said and "2 objects" in said
    assert main(["adapter", "compare", "base", "base", *given[1:]]) == 1
    assert "at least one adapter" in capsys.readouterr().err


def test_show_as_json_is_the_card(ponds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapter", "show", str(ponds), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["name"] == "ponds"
    assert sorted(part["method"] for part in card["parts"]) == ["decoder", "lora"]
    assert card["inputs"]["second"]["name"] == "height"


@pytest.mark.parametrize("action", ["show", "merge"])
def test_a_missing_file_is_one_line(action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["-o", str(tmp_path / "out.safetensors")] if action == "merge" else []
    assert main(["adapter", action, str(tmp_path / "none.safetensors"), *more]) == 1
    said = capsys.readouterr().err
    assert "not there" in said and len(said.splitlines()) == 1


def check(*arguments: object) -> int:
    return main(["adapter", "check", *map(str, arguments), "--device", "cpu"])


def test_check_of_a_good_one(tmp_path: Path, model: PromptableModel, capsys: pytest.CaptureFixture[str]) -> None:
    file = plain(tmp_path / "a.safetensors", model, ground=GroundRecord((0.5, 0.5)))
    raster = disc_raster(tmp_path / "disc.tif")
    assert check(file, "--raster", raster) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[about, "ok"] for about in ("file", "base", "tensors", "raster")]


def test_check_warns(tmp_path: Path, ponds: Path, model: PromptableModel, capsys: pytest.CaptureFixture[str]) -> None:
    raster = disc_raster(tmp_path / "disc.tif")
    assert check(plain(tmp_path / "a.safetensors", model, ground=GroundRecord((60.0, 60.0))), "--raster", raster) == 3
    assert "much finer" in capsys.readouterr().out
    assert check(ponds, "--raster", raster) == 3
    assert "second raster" in capsys.readouterr().out
    other = write_adapter(tmp_path / "b.safetensors", registry.card("vit_b"), model.network)
    assert check(other, "--models-dir", tmp_path / "none") == 3, "without the base only the card can be read"
    assert "were not checked" in capsys.readouterr().out


def test_check_finds_what_is_wrong(tmp_path: Path, model: PromptableModel, capsys: pytest.CaptureFixture[str]) -> None:
    file = plain(tmp_path / "a.safetensors", model)
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    (tmp_path / "damaged.safetensors").write_bytes(content)
    assert check(tmp_path / "damaged.safetensors", "--json") == 1
    answers = json.loads(capsys.readouterr().out)
    assert [answer["finding"] for answer in answers] == ["ok", "ok", "FAILED"]
    assert check(tmp_path / "none.safetensors") == 1
    (tmp_path / "text.safetensors").write_text("no header")
    assert check(tmp_path / "text.safetensors") == 1
    other = write_adapter(tmp_path / "b.safetensors", registry.card("vit_b"), model.network)
    assert check(other, "--model", "tiny") == 1
    assert "was tuned on vit_b" in capsys.readouterr().out
    bands = write_adapter(tmp_path / "c.safetensors", model.card, model.network, inputs=InputRecord((4, 3, 2)))
    assert check(bands, "--raster", disc_raster(tmp_path / "disc.tif")) == 1
    assert check(file, "--raster", tmp_path / "none.tif") == 1


def test_merged_weights_are_a_model_that_answers_like_the_adapter(
    tmp_path: Path, model: PromptableModel, capsys: pytest.CaptureFixture[str]
) -> None:
    file = plain(tmp_path / "a.safetensors", model, LoraConfig(), DecoderConfig(), by=0.01)
    out = tmp_path / "merged.safetensors"
    assert main(["adapter", "merge", str(file), "--model", "tiny", "-o", str(out), "--device", "cpu"]) == 0
    assert "tensors changed" in capsys.readouterr().out
    content = out.read_bytes()
    card = replace(
        model.card, shipped=False, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), name="merged"
    )
    merged = load(card, out, "cpu")
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    click = np.array([[60.0, 70.0]], np.float32), np.ones(1, np.int64)
    adapter, _ = load_adapter(file, model.network, model.card.sha256)
    with model.using(adapter):
        embedding = model.encode(image)
        expected = model.decode(embedding, *click)
    assert np.array_equal(merged.encode(image), embedding)
    # The decoder's tensors lie otherwise in memory, and sums are done in another order: the last digit differs.
    np.testing.assert_allclose(merged.decode(embedding, *click).logits, expected.logits, rtol=0, atol=1e-5)
    with model.using(None):
        assert not np.array_equal(model.encode(image), embedding)
    with safe_open(out, "pt") as opened:
        facts = opened.metadata()
    assert facts["base"] == model.card.sha256
    assert json.loads(facts["adapter"])["name"] == "a"


def test_what_is_no_change_of_weights_is_not_merged(
    tmp_path: Path, model: PromptableModel, capsys: pytest.CaptureFixture[str]
) -> None:
    file = plain(tmp_path / "a.safetensors", model, LoraConfig(), SemanticConfig(), head=HeadKind.SEMANTIC)
    out = tmp_path / "merged.safetensors"
    assert main(["adapter", "merge", str(file), "-o", str(out), "--device", "cpu"]) == 1
    assert "semantic is computed beside" in capsys.readouterr().err
    assert not out.exists()


def test_merging_replaces_nothing_unasked(
    tmp_path: Path, model: PromptableModel, capsys: pytest.CaptureFixture[str]
) -> None:
    file = plain(tmp_path / "a.safetensors", model)
    out = tmp_path / "merged.safetensors"
    out.write_text("mine")
    arguments = ["adapter", "merge", str(file), "--device", "cpu", "-o"]
    assert main([*arguments, str(out)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main([*arguments, str(file), "--overwrite"]) == 1
    assert "adapter itself" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "none" / "merged.safetensors")]) == 1
    assert "no folder" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "merged.pth")]) == 1
    assert "merged.safetensors" in capsys.readouterr().err
    assert main([*arguments, str(out), "--overwrite"]) == 0
    assert out.stat().st_size > 1_000_000
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_protected_folder_is_refused(
    tmp_path: Path, model: PromptableModel, capsys: pytest.CaptureFixture[str]
) -> None:
    file = plain(tmp_path / "a.safetensors", model)
    (tmp_path / "shut").mkdir(mode=0o500)
    assert main(["adapter", "merge", str(file), "-o", str(tmp_path / "shut" / "m.safetensors")]) == 1
    assert "protected" in capsys.readouterr().err


def test_an_exported_adapter_comes_back_the_same(
    tmp_path: Path, model: PromptableModel, capsys: pytest.CaptureFixture[str]
) -> None:
    file = plain(tmp_path / "a.safetensors", model, LoraConfig(rank=2), DecoderConfig(), by=0.01)
    folder, back = tmp_path / "peft", tmp_path / "back.safetensors"
    assert main(["adapter", "export", str(file), str(folder), "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert "no place for decoder" in said.err
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert main(["adapter", "export", str(file), str(folder), "--device", "cpu"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    arguments = ["adapter", "import", str(folder), "--model", "tiny", "--device", "cpu", "-o", str(back)]
    assert main(arguments) == 0
    assert "lora" in capsys.readouterr().out
    assert main(arguments) == 1, "and is not replaced unasked"
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    embeddings = []
    for path in (file, back):
        adapter, _ = load_adapter(path, model.network, model.card.sha256)
        with model.using(adapter):
            embeddings.append(model.encode(image).astype(np.float32))
    with model.using(None):
        base = model.encode(image).astype(np.float32)
    assert np.abs(embeddings[0] - embeddings[1]).max() < 0.05 * np.abs(embeddings[0] - base).max()
    assert main(["adapter", "show", str(back)]) == 0
    said = capsys.readouterr().out
    assert "bands unknown" in said and "Imported from peft" in said
    assert check(back, "--raster", disc_raster(tmp_path / "disc.tif")) == 0, "bands that nobody knows are no fault"


def test_folders_that_are_none_of_the_layout_are_refused(
    tmp_path: Path, model: PromptableModel, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.safetensors"
    arguments = ["--model", "tiny", "--device", "cpu", "-o", str(out)]
    assert main(["adapter", "import", str(tmp_path / "none"), *arguments]) == 1
    (tmp_path / "adapter_config.json").write_text("{")
    assert main(["adapter", "import", str(tmp_path), *arguments]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert not out.exists()
    file = plain(tmp_path / "b.safetensors", model, DecoderConfig())
    assert main(["adapter", "export", str(file), str(tmp_path / "peft"), "--device", "cpu"]) == 1
    assert "Only LoRA" in capsys.readouterr().err
    assert main(["adapter", "export", str(file), str(file), "--device", "cpu"]) == 1
    assert "is a file" in capsys.readouterr().err


def test_the_help_names_the_actions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapter", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(action in said for action in ("show", "check", "merge", "export", "import"))
    assert main(["adapter"]) == 2
