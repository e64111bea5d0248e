"""The weight file in the repository: the one its card names, within its limits, usable by the product's own code."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from samtune.engine.device import DeviceChoice
from samtune.engine.model_service import ModelService
from samtune.models import registry
from samtune.models.hashing import sha256_of
from samtune.models.promptable import PromptableModel

CARD = registry.card("tiny")
WEIGHTS = registry.WEIGHTS_DIR / CARD.file_name
MOST_BYTES = 20_000_000

pytestmark = pytest.mark.skipif(not CARD.sha256, reason="tiny's weight file is not published: its card has no hash yet")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> PromptableModel:
    service = ModelService(tmp_path_factory.mktemp("models"), DeviceChoice("cpu", "The processor.", 1))
    return service.get("tiny")


def _scene() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a bright roof-like rectangle on noisy ground, (512, 512, 3), and its mask on the grid of the logits."""
    rng = np.random.default_rng(0)
    image = rng.normal((90, 105, 70), 12, (512, 512, 3))
    image[200:320, 160:340] = rng.normal((190, 180, 175), 6, (120, 180, 3))
    mask = np.zeros((128, 128), np.bool_)
    mask[50:80, 40:85] = True
    return image.clip(0, 255).astype(np.uint8), mask


def _iou(found: NDArray[np.bool_], expected: NDArray[np.bool_]) -> float:
    return float((found & expected).sum() / (found | expected).sum())


def test_the_file_is_the_one_its_card_names() -> None:
    assert sha256_of(WEIGHTS) == CARD.sha256
    assert WEIGHTS.stat().st_size == CARD.size_bytes
    assert CARD.size_bytes <= MOST_BYTES
    assert sorted(path.name for path in Path(registry.WEIGHTS_DIR).iterdir()) == [CARD.file_name]


def test_a_click_finds_a_plain_object(tiny: PromptableModel) -> None:
    image, mask = _scene()
    embedding = tiny.encode(image)
    decoded = tiny.decode(embedding, np.array([[250.0, 260.0]], np.float32), np.array([1]))
    best = int(decoded.iou.argmax())
    assert _iou(decoded.logits[best] > 0, mask) > 0.7
    assert decoded.iou[best] > 0.5


def test_a_box_finds_a_plain_object(tiny: PromptableModel) -> None:
    image, mask = _scene()
    box = np.array([158.0, 198.0, 342.0, 322.0], np.float32)
    nothing = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    decoded = tiny.decode(tiny.encode(image), *nothing, box, multimask=False)
    assert _iou(decoded.logits[0] > 0, mask) > 0.8


def test_a_background_click_takes_away(tiny: PromptableModel) -> None:
    image, _mask = _scene()
    embedding = tiny.encode(image)
    first = tiny.decode(embedding, np.array([[250.0, 260.0]], np.float32), np.array([1]))
    logits = first.logits[int(first.iou.argmax())]
    points = np.array([[250.0, 260.0], [320.0, 260.0]], np.float32)
    second = tiny.decode(embedding, points, np.array([1, 0]), None, logits, multimask=False)
    assert second.logits[0, 65, 80] < 0 < logits[65, 80]


def test_loading_and_a_click_are_quick(tmp_path: Path) -> None:
    image, _mask = _scene()
    start = time.perf_counter()
    model = ModelService(tmp_path, DeviceChoice("cpu", "The processor.", 1)).get("tiny")
    model.decode(model.encode(image), np.array([[250.0, 260.0]], np.float32), np.array([1]))
    assert time.perf_counter() - start < 3.0  # about a third of a second on an idle machine
