"""Crops with nothing in them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from samtune.engine.evaluate.refusals import KINDS, measure_refusals
from samtune.models import registry
from samtune.models.promptable import PromptableModel
from samtune.models.tiny import build_tiny


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("seed", range(3))
def test_crops_have_no_object(kind: str, seed: int) -> None:
    image = KINDS[kind](np.random.default_rng(seed), 128)
    assert image.shape == (128, 128, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, KINDS[kind](np.random.default_rng(seed), 128))
    if kind != "ramp":  # any two quarters of it are alike
        quarters = image.reshape(2, 64, 2, 64, 3).mean(axis=(1, 3)).reshape(4, 3)
        assert np.ptp(quarters, axis=0).max() < 4
    steps = np.abs(np.diff(ndimage_mean(image), axis=0))
    assert steps.max() < 30


def ndimage_mean(image: np.ndarray) -> np.ndarray:
    return image.reshape(16, 8, 16, 8, 3).mean(axis=(1, 3))


def model(estimate: float, everywhere: float) -> PromptableModel:
    """A network that expects a fixed IoU and answers with the same logit everywhere."""
    network = build_tiny()
    card = dataclasses.replace(registry.card("tiny"), input_size=64, expected_iou=())

    class Fixed(torch.nn.Module):
        def forward(self, **arguments: object) -> tuple[torch.Tensor, torch.Tensor]:
            plane = torch.full((1, 3, 16, 16), -everywhere)
            plane[:, :, 2:14, 2:14] = everywhere
            return plane, torch.full((1, 3), estimate)

    network.mask_decoder = Fixed()
    return PromptableModel(card, network, torch.device("cpu"))


def test_unsure_and_empty_answers_are_refusals() -> None:
    unsure = measure_refusals(model(0.02, 3.0), crops=3)
    assert {found.refused for found in unsure.values()} == {1.0}
    assert {round(found.expected, 3) for found in unsure.values()} == {0.02}
    assert set(unsure) == set(KINDS)


def test_an_outline_is_no_refusal() -> None:
    sure = measure_refusals(model(0.9, 3.0), crops=6)
    assert min(found.refused for found in sure.values()) < 1.0
    assert all(found.crops == 6 for found in sure.values())


def test_an_answer_away_from_the_click_is_one() -> None:
    assert measure_refusals(model(0.9, -3.0), crops=4)["flat"].refused > 0.0
