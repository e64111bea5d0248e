"""Where there is nothing to find: does the model say so? Crops without any object, and the share that is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...models.promptable import PromptableModel
from ..prompting import Doubt, PromptList, PromptMemory

Image = NDArray[np.uint8]


def flat(rng: np.random.Generator, size: int) -> Image:
    """Return an (S, S, 3) image of one colour."""
    return np.broadcast_to(rng.uniform(5, 250, 3).astype(np.uint8), (size, size, 3)).copy()


def ramp(rng: np.random.Generator, size: int) -> Image:
    """Return an (S, S, 3) image that goes evenly from one colour to another, in any direction."""
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, size)
    along = (axis[:, None] * np.sin(angle) + axis[None, :] * np.cos(angle))[..., None]
    return np.clip(rng.uniform(60, 190, 3) + along * rng.normal(0, 40, 3), 0, 255).astype(np.uint8)


def grain(rng: np.random.Generator, size: int) -> Image:
    """Return an (S, S, 3) image of pixel noise around one colour, as a sensor's over calm water."""
    noise = rng.normal(0, rng.uniform(2, 14), (size, size, 3))
    return np.clip(rng.uniform(40, 210, 3) + noise, 0, 255).astype(np.uint8)


def enlarged_grain(rng: np.random.Generator, size: int) -> Image:
    """Return an (S, S, 3) image of such noise at a quarter of the resolution, as at the finest level."""
    coarse = rng.normal(0, rng.uniform(2, 14), (size // 4, size // 4, 3))
    return np.clip(rng.uniform(40, 210, 3) + ndimage.zoom(coarse, (4, 4, 1), order=1), 0, 255).astype(np.uint8)


KINDS: dict[str, Callable[[np.random.Generator, int], Image]] = {
    "flat": flat,
    "ramp": ramp,
    "grain": grain,
    "enlarged grain": enlarged_grain,
}


@dataclass(frozen=True)
class Refusals:
    """What became of clicks on one kind of empty crop.

    Attributes:
        crops: how many.
        refused: share of them whose click was answered with nothing.
        expected: mean predicted IoU of what was answered, 0 for what was refused as empty.
    """

    crops: int
    refused: float
    expected: float


def measure_refusals(model: PromptableModel, crops: int = 25, seed: int = 0) -> dict[str, Refusals]:
    """Click once, anywhere, in crops without an object.

    Args:
        model: a loaded model.
        crops: of each kind.
        seed: of images and clicks.

    Returns:
        Results by kind.
    """
    size = model.card.input_size
    covered = np.ones((size // 4, size // 4), np.bool_)
    results: dict[str, Refusals] = {}
    for order, (name, make) in enumerate(KINDS.items()):
        rng = np.random.default_rng([seed, order])
        answers = []
        for _ in range(crops):
            embedding = model.encode(make(rng, size))
            x, y = rng.uniform(0.1, 0.9, 2) * size
            prompts = PromptList(((float(x), float(y), True),))
            answers.append(PromptMemory().answer(model, "", embedding, covered, prompts, lambda: None))
        refused = [answer.doubt is not Doubt.NONE for answer in answers]
        scores = [0.0 if answer.doubt is Doubt.EMPTY else answer.score for answer in answers]
        results[name] = Refusals(crops, float(np.mean(refused)), float(np.mean(scores)))
    return results
