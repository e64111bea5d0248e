"""Everything in a crop: what is kept of the answers, and what the shipped model finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from samtune.engine.device import DeviceChoice
from samtune.engine.model_service import ModelService
from samtune.models import everything as module
from samtune.models import registry
from samtune.models.card import Automatic
from samtune.models.everything import Candidates, everything, grid
from samtune.models.promptable import PromptableModel

SIDE = 32


def mask(left: int, top: int, right: int, bottom: int, height: float = 5.0) -> torch.Tensor:
    logits = torch.full((SIDE, SIDE), -5.0)
    logits[top:bottom, left:right] = height
    return logits


def candidates(masks: list[torch.Tensor], **more: list[float]) -> Candidates:
    ones = torch.ones(len(masks))
    given = {name: torch.tensor(values) for name, values in more.items()}
    given = {**dict.fromkeys(("expected", "stability", "agreement", "scores"), ones), **given}
    return Candidates(torch.stack(masks), torch.zeros(len(masks), 2), **given)


def test_of_near_doubles_the_best_stays_and_parts_stay_in_wholes() -> None:
    masks = [mask(2, 2, 20, 20), mask(2, 2, 21, 20), mask(4, 4, 9, 9), mask(22, 22, 30, 30)]
    found = candidates(masks, scores=[0.6, 0.8, 0.7, 0.5]).chosen(Automatic(0.5, 0.5, 0.5))
    assert [round(float(score), 1) for score in found.scores] == [0.8, 0.7, 0.5]
    assert torch.equal(found.logits[0], masks[1])


@pytest.mark.parametrize("short", ["expected", "stability", "agreement"])
def test_each_measure_can_speak_against_a_mask(short: str) -> None:
    masks = [mask(2, 2, 12, 12), mask(20, 20, 30, 30)]
    rule = Automatic(iou=0.5, stability=0.5, overlap=0.5, agreement=0.5)
    found = candidates(masks, **{short: [0.4, 0.6]}).chosen(rule)
    assert torch.equal(found.logits, masks[1][None])


def test_boxes_bound_their_masks() -> None:
    rng = np.random.default_rng(0)
    masks, expected = [], []
    for _ in range(50):
        left, top = rng.integers(0, SIDE - 1, 2).tolist()
        right, bottom = int(rng.integers(left + 1, SIDE + 1)), int(rng.integers(top + 1, SIDE + 1))
        masks.append(mask(left, top, right, bottom) > 0)
        expected.append([4.0 * left, 4.0 * top, 4.0 * right, 4.0 * bottom])
    assert module._boxes(torch.stack(masks)).tolist() == expected


def test_published_weights_are_judged_as_published() -> None:
    for card in registry.cards().values():
        published = (card.automatic.iou, card.automatic.stability, card.automatic.agreement) == (0.88, 0.95, 0.0)
        assert published is not card.shipped, card.name


@pytest.fixture(scope="module")
def tiny() -> PromptableModel:
    return ModelService(Path("none"), DeviceChoice("cpu", "", 1)).get("tiny")


PLACES = [(130, 140, 50), (380, 150, 60), (250, 390, 55)]


@pytest.fixture(scope="module")
def ponds(tiny: PromptableModel) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Three dark discs on bright ground; returns the embedding and (3, 128, 128) masks."""
    rows, columns = np.mgrid[0:512, 0:512]
    discs = np.stack([(columns - x) ** 2 + (rows - y) ** 2 < radius**2 for x, y, radius in PLACES])
    picture = np.full((512, 512, 3), (120, 150, 90), np.float64)
    picture[discs.any(axis=0)] = (30, 50, 80)
    picture += np.random.default_rng(0).normal(0, 6, picture.shape)
    return tiny.encode(np.clip(picture, 0, 255).astype(np.uint8)), discs[:, 2::4, 2::4]


def overlaps(found: NDArray[np.bool_], others: NDArray[np.bool_]) -> NDArray[np.float64]:
    one, other = found.reshape(len(found), -1).astype(float), others.reshape(len(others), -1).astype(float)
    both = one @ other.T
    return np.asarray(both / (one.sum(1)[:, None] + other.sum(1) - both))


def test_the_shipped_model_finds_each_thing_once(
    tiny: PromptableModel, ponds: tuple[NDArray[np.float16], NDArray[np.bool_]]
) -> None:
    embedding, discs = ponds
    found = everything(tiny, embedding, grid(512, 6))
    masks = found.logits > 0
    assert (overlaps(discs, masks) > 0.7).sum(axis=1).tolist() == [1, 1, 1]
    assert masks.mean(axis=(1, 2)).max() < module.WHOLE
    assert (np.triu(overlaps(masks, masks), 1) <= tiny.card.automatic.overlap).all()
    assert (np.diff(found.scores) <= 0).all()


def test_nothing_is_outlined_where_there_is_no_data(
    tiny: PromptableModel, ponds: tuple[NDArray[np.float16], NDArray[np.bool_]]
) -> None:
    embedding, discs = ponds
    valid = np.ones((512, 512), bool)
    valid[256:] = False
    points = np.array([[x, y] for x, y, _ in PLACES[:2]], np.float32)
    found = everything(tiny, embedding, points, valid=valid)
    assert (overlaps(discs[:2], found.logits > 0) > 0.7).any(axis=1).all()
    assert not (found.logits[:, 64:] > 0).any()
    assert len(everything(tiny, embedding, points[:0]).scores) == 0


def test_weights_judged_as_published_give_three_masks_a_point(
    tiny: PromptableModel, ponds: tuple[NDArray[np.float16], NDArray[np.bool_]]
) -> None:
    points = np.array([[x, y] for x, y, _ in PLACES], np.float32)
    rule = Automatic(iou=0.0, stability=0.0, overlap=1.0)
    assert len(module.candidates(tiny, ponds[0], points, rule).scores) == 3 * len(points)
    assert not len(module.candidates(tiny, ponds[0], points, replace(rule, stability=1.0, iou=0.99)).scores)
