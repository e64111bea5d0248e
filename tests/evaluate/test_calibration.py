"""Tables from estimates to expected IoU."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samtune.engine.evaluate.calibration import answers, expected, fit
from samtune.engine.evaluate.figures import calibration
from samtune.engine.evaluate.protocol import Outcome
from samtune.models import registry
from samtune.models.card import ModelCard, read_card
from samtune.models.errors import WeightsError
from samtune.models.promptable import PromptableModel
from samtune.models.tiny import build_tiny


def outcomes(pairs: list[tuple[float, float]]) -> list[Outcome]:
    return [Outcome("a", "", 100, 0.3, (true,), (estimate,)) for estimate, true in pairs]


def cautious(count: int = 2000) -> list[tuple[float, float]]:
    """A model that halves what it should expect."""
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 1, count)
    return [(float(np.clip(t / 2 + rng.normal(0, 0.02), 0, 1)), float(t)) for t in true]


def test_a_cautious_model_is_put_right() -> None:
    fitting, measured = cautious()[:1000], cautious()[1000:]
    table = fit(fitting)
    corrected = list(zip(expected([a for a, _ in measured], table), [b for _, b in measured], strict=True))
    assert calibration(outcomes(measured))["expected_error"] > 0.2
    assert calibration(outcomes(corrected))["expected_error"] < 0.04


def test_what_is_right_already_stays() -> None:
    rng = np.random.default_rng(1)
    estimates = rng.uniform(0, 1, 4000)
    pairs = [(float(a), float(rng.random() < a)) for a in estimates]
    read = expected([0.1, 0.5, 0.9], fit(pairs))
    assert read == pytest.approx([0.1, 0.5, 0.9], abs=0.07)


def test_estimates_that_say_nothing_give_one_value() -> None:
    rng = np.random.default_rng(2)
    pairs = [(float(a), 0.4) for a in rng.uniform(0.2, 0.8, 300)]
    assert expected([0.5, 0.6, 0.8], fit(pairs)) == pytest.approx([0.4, 0.4, 0.4], abs=0.01)


def test_refusals_stay_refusals() -> None:
    assert expected([0.0], fit(cautious())) == [0.0]


def test_few_answers_are_no_ground_for_a_table() -> None:
    with pytest.raises(ValueError, match="too few"):
        fit([(0.1, 0.2)] * 3)


def test_all_answers_count_and_only_those_with_an_estimate() -> None:
    both = Outcome("a", "", 100, 0.3, (0.1, 0.2), (0.3, 0.4), None, 0.5, 0.4, 0.6)
    baseline = Outcome("a", "", 100, 0.3, (0.1,), (float("nan"),))
    assert answers([both, baseline]) == [(0.3, 0.1), (0.4, 0.2), (0.6, 0.5)]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=8, max_size=120))
def test_every_table_is_one_a_card_accepts(pairs: list[tuple[float, float]]) -> None:
    table = fit(pairs)
    card = dataclasses.replace(registry.card("tiny"), expected_iou=table)
    assert card.expected_iou[0] == (0.0, 0.0)
    read = expected(np.linspace(0, 1, 50).tolist(), table)
    assert (np.diff(read) >= 0).all()
    assert 0 <= min(read) <= max(read) <= 1


@pytest.mark.parametrize(
    "table", [((0.0, 0.0), (0.0, 0.5)), ((0.5, 0.1), (0.2, 0.3)), ((0.0, 0.5), (1.0, 0.2)), ((0.0, 0.0), (1.0, 1.2))]
)
def test_cards_refuse_tables_that_do_not_rise(table: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="expected_iou"):
        dataclasses.replace(registry.card("tiny"), expected_iou=table)


def card_with(table: object, folder: Path) -> ModelCard:
    values = json.loads((Path(registry.__file__).parent / "cards" / "tiny.json").read_text(encoding="utf-8"))
    path = folder / "tiny.json"
    path.write_text(json.dumps({**values, "expected_iou": table}), encoding="utf-8")
    return read_card(path)


def test_tables_are_read_from_cards(tmp_path: Path) -> None:
    assert card_with([[0, 0], [0.5, 0.75]], tmp_path).expected_iou == ((0.0, 0.0), (0.5, 0.75))
    with pytest.raises(WeightsError, match="cannot be read"):
        card_with([[0, 0, 1]], tmp_path)


def test_the_model_answers_with_what_is_to_be_expected() -> None:
    torch.manual_seed(0)
    network = build_tiny()
    plain = dataclasses.replace(registry.card("tiny"), expected_iou=())
    with torch.no_grad():
        network.mask_decoder.iou_prediction_head.layers[-1].bias.copy_(torch.tensor([0.2, 0.4, 0.6, 0.8]))
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    point, label = np.array([[30.0, 30.0]], np.float32), np.ones(1, np.int64)
    found = []
    for card in (plain, dataclasses.replace(plain, expected_iou=((0.0, 0.0), (0.25, 0.5), (2.0, 0.5)))):
        model = PromptableModel(card, network, torch.device("cpu"))
        found.append(model.decode(model.encode(image), point, label).iou)
    assert found[1] == pytest.approx(np.minimum(found[0].clip(0) * 2, 0.5), abs=1e-5)
    assert found[1].dtype == np.float32


def test_the_shipped_table_is_in_use() -> None:
    assert len(registry.card("tiny").expected_iou) > 2
