"""Adapter headers as QGIS reads them: the same as the engine's cards, and nothing believed that a file says."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
from samtune.models.errors import TuningError
from samtune.plugin import adapter_files
from samtune.plugin.adapter_files import AdapterFolder, clean, missing_bands, read_summary

CARD: dict[str, object] = {
    "schema": 1,
    "name": "ponds",
    "base": {"name": "tiny", "sha256": "0" * 64},
    "head": "promptable",
    "created": "2026-11-23T00:00:00+00:00",
    "classes": [{"value": 1, "name": "pond", "objects": 12}, {"value": 2, "name": "lake", "objects": 3}],
    "training": {"held_out": 4},
    "metrics": [{"name": "iou", "frozen": 0.5, "tuned": 0.75}, {"name": "ap", "frozen": None, "tuned": "nan"}],
    "inputs": {
        "rgb": [4, 3, 2],
        "bands": [{"number": 5}, {"number": 0, "formula": "ndvi"}, {"number": 7}, {"number": 5}],
        "second": {"name": "height"},
    },
    "ground": {"gsd": [0.25, 0.5]},
    "notes": ["A note."],
}


def write(path: Path, card: object = CARD, **facts: object) -> Path:
    """Write a safetensors file without tensors."""
    text = card if isinstance(card, str) else json.dumps(card)
    header = json.dumps({"__metadata__": {"format": "samtune-adapter", "card": text, **facts}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def changed(**changes: object) -> dict[str, object]:
    return {**CARD, **changes}


def test_all_that_is_needed_is_read(tmp_path: Path) -> None:
    found = read_summary(write(tmp_path / "a.safetensors"))
    assert (found.name, found.base, found.head) == ("ponds", "tiny", "promptable")
    assert found.classes == (("pond", 12), ("lake", 3))
    assert (found.objects, found.held_out) == (15, 4)
    assert found.metrics == (("iou", 0.5, 0.75), ("ap", None, None))
    assert (found.rgb, found.further, found.second) == ((4, 3, 2), (5, 7), "height")
    assert found.gsd == (0.25, 0.5)
    assert found.notes == ("A note.",)
    assert found.answers_clicks
    assert missing_bands(found, 6) == (7,)
    assert missing_bands(found, 7) == ()


def test_notes_of_users_are_known_by_the_same_word_on_both_sides() -> None:
    from samtune.models.peft import adapter_card

    assert adapter_files.USER_NOTE == adapter_card.USER_NOTE


def test_it_reads_what_tuning_writes(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the engine's Python")
    import torch
    from samtune.models import registry
    from samtune.models.peft.adapter import Adapter
    from samtune.models.peft.adapter_card import AdapterCard
    from samtune.models.peft.adapter_file import save_adapter
    from samtune.models.peft.card_records import (
        BandRecord,
        BaseRecord,
        ClassRecord,
        GroundRecord,
        HeadKind,
        InputRecord,
        MetricRecord,
        TrainingRecord,
    )
    from samtune.models.peft.lora import LoraConfig
    from samtune.models.tiny import build_tiny

    torch.manual_seed(0)
    base = registry.card("tiny")
    card = AdapterCard(
        "roofs, été",
        BaseRecord(base.name, base.architecture, base.sha256, base.licence),
        HeadKind.SEMANTIC,
        "0.1.0",
        "2026-11-23T00:00:00+00:00",
        inputs=InputRecord(
            (1, 2, 3), bands=(BandRecord(4), BandRecord(0, "ndvi", "(b4 - b1) / (b4 + b1)")), nodata=0.0
        ),
        ground=GroundRecord((0.5, 0.5)),
        classes=(ClassRecord(1, "roof", objects=9),),
        training=TrainingRecord(steps=5, held_out=2),
        metrics=(MetricRecord("iou", None, 0.5),),
    )
    save_adapter(tmp_path / "a.safetensors", Adapter(build_tiny(), [LoraConfig()]), card)
    found = read_summary(tmp_path / "a.safetensors")
    assert (found.name, found.base, found.classes) == (card.name, "tiny", (("roof", 9),))
    assert (found.rgb, found.further, found.second, found.gsd) == ((1, 2, 3), (4,), "", (0.5, 0.5))
    assert found.metrics == (("iou", None, 0.5),)
    assert not found.answers_clicks
    assert card.schema == adapter_files.SCHEMA, "cards have changed: look whether this reader still understands them"


def test_the_least_card_will_do(tmp_path: Path) -> None:
    card = {"schema": 1, "name": "", "base": {"name": "tiny"}, "head": "promptable", "ground": {"gsd": None}}
    found = read_summary(write(tmp_path / "plain.safetensors", card))
    assert found.name == "plain"
    assert (found.classes, found.metrics, found.gsd, found.second) == ((), (), None, "")


@pytest.mark.parametrize(
    "card",
    [
        "no JSON",
        "[]",
        "[" * 100_000,
        changed(name=3),
        changed(base={}),
        changed(base=None),
        changed(classes=[{"name": "x", "objects": "many"}]),
        changed(classes="none"),
        changed(metrics=[7]),
        changed(inputs={"rgb": [1.5]}),
        changed(inputs={"bands": [{}]}),
        changed(schema=None),
        changed(schema=True),
        json.dumps(changed(metrics=[])).replace(
            '"metrics": []', '"metrics": [{"name": "x", "frozen": 1' + "0" * 400 + "}]"
        ),
    ],
    ids=lambda card: str(card)[:40],
)
def test_a_wrong_card_is_refused(tmp_path: Path, card: object) -> None:
    with pytest.raises(TuningError, match="damaged"):
        read_summary(write(tmp_path / "a.safetensors", card))


def test_a_later_schema_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="later version"):
        read_summary(write(tmp_path / "a.safetensors", {"schema": 2}))


@pytest.mark.parametrize(
    "content", [b"", b"1234", struct.pack("<Q", 1 << 60), struct.pack("<Q", 9) + b"{}", b"\xff" * 64]
)
def test_what_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(TuningError, match="damaged"):
        read_summary(path)


def test_a_header_that_is_too_long_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.safetensors")
    monkeypatch.setattr(adapter_files, "MOST_HEADER_BYTES", path.stat().st_size - 9)
    with pytest.raises(TuningError):
        read_summary(path)


def test_another_format_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="no adapter"):
        read_summary(write(tmp_path / "a.safetensors", format="pt"))
    with pytest.raises(TuningError):
        read_summary(tmp_path / "none.safetensors")


def test_texts_are_made_fit_to_show() -> None:
    assert clean("a\nb\t c\x00\u202e d\ud800") == "a b c d"
    assert len(clean("x" * 10_000)) == adapter_files.LONGEST_TEXT


def test_not_finite_and_lists_without_end(tmp_path: Path) -> None:
    card = json.dumps(changed(notes=["x"] * 10_000)).replace("0.75", "Infinity")
    found = read_summary(write(tmp_path / "a.safetensors", card))
    assert found.metrics[0] == ("iou", 0.5, None)
    assert len(found.notes) == adapter_files.MOST_ITEMS


def test_a_folder_lists_adapters_by_name(tmp_path: Path) -> None:
    write(tmp_path / "1.safetensors", changed(name="roofs"))
    write(tmp_path / "2.safetensors", changed(name="Ponds"))
    write(tmp_path / ".part.safetensors")
    write(tmp_path / "4.safetensors", "broken")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.safetensors").mkdir()
    assert [found.name for found in AdapterFolder().read(tmp_path)] == ["Ponds", "roofs"]
    assert AdapterFolder().read(tmp_path / "none") == ()


def test_headers_are_read_again_only_when_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(path: Path) -> adapter_files.AdapterSummary:
        read.append(path.name)
        return read_summary(path)

    monkeypatch.setattr(adapter_files, "read_summary", counted)
    for name in ("a", "b"):
        write(tmp_path / f"{name}.safetensors", changed(name=name))
    folder = AdapterFolder()
    first = folder.read(tmp_path)
    assert folder.read(tmp_path) == first
    assert len(read) == 2
    write(tmp_path / "a.safetensors", changed(name="c"))
    os.utime(tmp_path / "a.safetensors", ns=(1, 1))
    (tmp_path / "b.safetensors").unlink()
    assert [found.name for found in folder.read(tmp_path)] == ["c"]
    assert read[2:] == ["a.safetensors"]


def test_the_whole_card_and_the_user_s_note(tmp_path: Path) -> None:
    notes = ["SamTune's own.", "Note: seen in spring,\nfrom a kite"]
    card = adapter_files.read_card(write(tmp_path / "a.safetensors", json.dumps({**CARD, "notes": notes})))
    assert card["ground"] == {"gsd": [0.25, 0.5]}
    assert adapter_files.user_note(card) == "seen in spring,\nfrom a kite", "whole, to be edited"
    assert adapter_files.user_note(CARD) == ""
    assert adapter_files.user_note({"notes": "no list"}) == ""
    with pytest.raises(TuningError):
        adapter_files.read_card(tmp_path / "none.safetensors")
