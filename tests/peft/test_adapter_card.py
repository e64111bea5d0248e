"""The card of an adapter: strict JSON both ways, its header read without tensors, and what it warns of."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samtune.models.card import Architecture
from samtune.models.errors import TuningError
from samtune.models.peft.adapter_card import (
    FORMAT,
    SCHEMA,
    AdapterCard,
    BandRecord,
    BaseRecord,
    ClassRecord,
    GroundRecord,
    HeadKind,
    InputRecord,
    MetricRecord,
    SecondRecord,
    TrainingRecord,
    fit_warnings,
    read_card,
    read_header,
)

ROOT = Path(__file__).resolve().parent.parent.parent
BASE = BaseRecord("vit_b", Architecture.VIT_B, "0123456789abcdef" * 4, "Apache-2.0")
CARD = AdapterCard(
    name="roofs",
    base=BASE,
    head=HeadKind.SEMANTIC,
    plugin_version="0.3.0",
    created="2026-03-01T10:00:00Z",
    parts=({"method": "lora", "rank": 4, "layers": ["attn.qkv"]},),
    inputs=InputRecord(
        rgb=(4, 3, 2),
        stretch=((0.0, 2500.0), (0.0, 2400.0), (10.5, 2300.0)),
        bands=(BandRecord(8, "nir", mean=2100.0, std=300.0), BandRecord(0, "ndvi", "(b8 - b4) / (b8 + b4)")),
        nodata=-9999.0,
        second=SecondRecord("height", (1,), ((0.0, 30.0),)),
    ),
    ground=GroundRecord((0.2, 0.4), 512, "area", "EPSG:25832", (5e5, 5.3e6, 5.01e5, 5.31e6)),
    classes=(ClassRecord(1, "roof", (200, 30, 30), 41), ClassRecord(2, "straße", objects=7)),
    training=TrainingRecord(400, (0, 1), "blocks of 100 m", "focal 20, dice 1", 48, 9, 312.5, "cpu"),
    metrics=(MetricRecord("iou", 0.41, 0.78), MetricRecord("iou of roof", None, 0.8)),
    notes=("Trained in spring.",),
)


def test_every_record_comes_back() -> None:
    assert AdapterCard.from_json(CARD.to_json()) == CARD


def test_what_is_not_given_gets_its_default() -> None:
    small = AdapterCard("a", BASE, HeadKind.PROMPTABLE, "0.3.0", "2026-03-01T10:00:00Z")
    values = json.loads(small.to_json())
    required = ("name", "base", "head", "plugin_version", "created", "schema")
    assert AdapterCard.from_json(json.dumps({name: values[name] for name in required})) == small


@pytest.mark.parametrize("nodata", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_not(nodata: float) -> None:
    card = dataclasses.replace(CARD, inputs=InputRecord(nodata=nodata))
    text = card.to_json()
    json.loads(text, parse_constant=pytest.fail)
    found = AdapterCard.from_json(text).inputs.nodata
    assert found is not None
    assert str(found) == str(nodata)


def damaged(**changes: object) -> str:
    return json.dumps({**json.loads(CARD.to_json()), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        damaged(colour="red"),
        damaged(head="oracle"),
        damaged(name=3),
        damaged(parts={"method": "lora"}),
        damaged(classes=[{"value": 1}]),
        damaged(classes=[{"value": 1, "name": "roof", "colour": [1, 2]}]),
        damaged(metrics=[{"name": "iou", "frozen": "good", "tuned": 0.5}]),
        damaged(inputs={"rgb": [1, 2, 3], "nodata": "none"}),
        damaged(base={"name": "vit_b", "architecture": "vit_b", "sha256": "12", "licence": ""}),
        damaged(base={"name": "vit_b", "architecture": "vit_z", "sha256": "ab" * 32, "licence": ""}),
        damaged(base=None),
        damaged(schema=0),
        damaged(schema=True),
        damaged(schema="1"),
        "[" * 100_000,
    ],
)
def test_what_is_no_card_is_refused(text: str) -> None:
    with pytest.raises(TuningError, match="damaged"):
        AdapterCard.from_json(text)


def test_a_later_schema_asks_for_an_update() -> None:
    with pytest.raises(TuningError, match="later version of SamTune"):
        AdapterCard.from_json(damaged(schema=SCHEMA + 1, something_new=1))


def test_a_card_cannot_hold_other_things() -> None:
    with pytest.raises(TypeError, match="cannot be written"):
        dataclasses.replace(CARD, parts=({"method": object()},)).to_json()  # type: ignore[dict-item]


finite = st.floats(allow_nan=False)
texts = st.text(max_size=20)
bands = st.builds(BandRecord, st.integers(0, 300), texts, texts, finite, finite, finite, finite)
inputs = st.builds(
    InputRecord,
    rgb=st.lists(st.integers(1, 300), max_size=3).map(tuple),
    stretch=st.lists(st.tuples(finite, finite), max_size=3).map(tuple),
    bands=st.lists(bands, max_size=3).map(tuple),
    nodata=st.none() | finite,
    second=st.none() | st.builds(SecondRecord, texts),
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(inputs, st.lists(st.dictionaries(texts, plain, max_size=3), max_size=2), st.sampled_from(HeadKind), texts)
def test_whatever_is_in_it_comes_back(
    seen: InputRecord, parts: list[dict[str, object]], head: HeadKind, name: str
) -> None:
    card = dataclasses.replace(CARD, inputs=seen, parts=tuple(parts), head=head, name=name)  # type: ignore[arg-type]
    again = AdapterCard.from_json(card.to_json())
    assert again == card
    assert again.to_json() == card.to_json()


def test_bands_that_are_needed() -> None:
    assert CARD.inputs.numbers() == (4, 3, 2, 8)
    assert InputRecord(rgb=(1,), bands=(BandRecord(1), BandRecord(2))).numbers() == (1, 2)


@pytest.mark.parametrize(
    ("gsd", "warned"),
    [
        *((0.2, ""), (0.4, ""), (0.1, ""), (0.8, ""), (None, "")),
        *((0.81, "coarser"), (10.0, "coarser"), (0.099, "finer")),
    ],
)
def test_a_resolution_far_off_is_warned_of(gsd: float | None, warned: str) -> None:
    found = fit_warnings(CARD, (4, 3, 2, 8), gsd)
    assert len(found) == bool(warned)
    assert all(warned in text and "0.2 to 0.4 m" in text for text in found)


def test_a_card_without_resolution_warns_of_none() -> None:
    assert fit_warnings(dataclasses.replace(CARD, ground=GroundRecord()), (4, 3, 2, 8), 30.0) == ()


@pytest.mark.parametrize("given_bands", [(4, 3, 2), (1, 2, 3, 8), (2, 3, 4, 8), ()])
def test_other_bands_are_warned_of(given_bands: tuple[int, ...]) -> None:
    (text,) = fit_warnings(CARD, given_bands, 0.3)
    assert "4, 3, 2, 8" in text


def header(path: Path, content: object) -> Path:
    text = json.dumps(content).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


def test_the_header_is_read_alone(tmp_path: Path) -> None:
    facts = {"format": FORMAT, "card": CARD.to_json(), "sha256": "x"}
    path = header(tmp_path / "a.safetensors", {"__metadata__": facts})
    assert read_header(path) == facts
    assert read_card(path) == CARD


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="not there"):
        read_card(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 10) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"\xff\xff",
        b"\x80\x04\x95 a pickle " + b"." * 40,
    ],
)
def test_a_file_that_is_no_adapter(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(TuningError, match="damaged, or no adapter"):
        read_header(path)


def test_a_folder_is_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="damaged, or no adapter"):
        read_header(tmp_path)


def test_other_safetensors_are_no_adapter(tmp_path: Path) -> None:
    path = header(tmp_path / "a.safetensors", {"__metadata__": {"format": "pt"}, "w": {}})
    with pytest.raises(TuningError, match="no adapter"):
        read_card(path)


def test_cards_are_read_without_torch() -> None:
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('b', {str(ROOT / 'engine' / 'bootstrap.py')!r})\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        f"import pathlib; module.make_importable(pathlib.Path({str(ROOT)!r}))\n"
        "import samtune.models.peft.adapter_card\n"
        "print('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
