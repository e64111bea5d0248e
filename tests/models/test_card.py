"""Cards: read strictly, complete, and right where the published files are known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from samtune.models import registry
from samtune.models.card import Architecture, ModelCard, read_card
from samtune.models.errors import ModelMissingError, WeightsError

PUBLISHED = ("vit_b", "vit_l", "vit_h")


def _values() -> dict[str, object]:
    return json.loads((registry.CARDS_DIR / "vit_b.json").read_text(encoding="utf-8"))


def _write(folder: Path, **changes: object) -> Path:
    path = folder / "card.json"
    path.write_text(json.dumps(_values() | changes), encoding="utf-8")
    return path


def test_a_card_is_read_with_its_types(tmp_path: Path) -> None:
    card = read_card(_write(tmp_path))
    assert card.architecture is Architecture.VIT_B
    assert card.mean == (123.675, 116.28, 103.53)
    assert isinstance(card.notes, tuple)
    assert hash(card) == hash(read_card(_write(tmp_path)))


def test_a_card_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        registry.card("vit_b").sha256 = ""  # type: ignore[misc]


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "EC2D"},
        {"sha256": "z" * 64},
        {"input_size": 1000},
        {"input_size": 0},
        {"std": [1.0, 0.0, 1.0]},
        {"mean": [1.0, 2.0]},
        {"architecture": "resnet"},
        {"file_name": "../vit_b.pth"},
        {"colour": "blue"},
        {"automatic": {"iou": 1.5}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_wrong_value_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match=r"card\.json cannot be read") as caught:
        read_card(_write(tmp_path, **changes))
    assert next(iter(changes)) in caught.value.details or "resnet" in caught.value.details


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", "{}"])
def test_a_file_that_is_no_card_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(WeightsError, match=r"broken\.json"):
        read_card(path)


def test_the_registry_has_every_architecture_once_smallest_first() -> None:
    cards = list(registry.cards().values())
    assert [card.name for card in cards] == ["tiny", "vit_b", "vit_l", "vit_h"]
    assert {card.architecture for card in cards} == set(Architecture)
    assert registry.DEFAULT_MODEL in registry.cards()


def test_the_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        registry.cards()["tiny"] = registry.card("vit_b")  # type: ignore[index]


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(ModelMissingError, match=r"'vit_x'.*tiny, vit_b, vit_l, vit_h"):
        registry.card("vit_x")


def test_published_cards_are_complete() -> None:
    names = {"vit_b": "sam_vit_b_01ec64.pth", "vit_l": "sam_vit_l_0b3195.pth", "vit_h": "sam_vit_h_4b8939.pth"}
    for name in PUBLISHED:
        card = registry.card(name)
        assert card.file_name == names[name]
        assert card.url.startswith("https://")
        assert card.url.endswith(f"/{card.file_name}")
        assert len(card.sha256) == 64
        assert card.licence == "Apache-2.0"
        assert card.input_size == 1024
        assert not card.shipped
        assert not card.click_bumps


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_fit_the_number_of_parameters(name: str) -> None:
    card = registry.card(name)
    # Four bytes per number, and little else in the file: 0.1 % for the names and the archive.
    assert 0 <= card.size_bytes - 4 * card.parameters < 0.001 * card.size_bytes


def test_tiny_ships_and_keeps_its_limits() -> None:
    card: ModelCard = registry.card("tiny")
    assert card.shipped
    assert card.click_bumps
    assert not card.url
    assert card.input_size == 512
    assert card.parameters <= 12_000_000
    assert card.size_bytes <= 20_000_000
