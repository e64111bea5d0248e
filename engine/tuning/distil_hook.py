"""What the training loop hands to a loss that is added to the task's, and what such a loss is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from ...models.peft.adapter import Adapter
from ...models.sam_modules import Sam


@dataclass(frozen=True)
class StepContext:
    """A training step under way.

    Attributes:
        sam: the base, on its device, with ``adapter`` attached.
        adapter: what is being tuned. Whoever detaches it attaches it again before handing back.
        step: number of the step, from 0.
        steps: how many there will be.
        rng: of this step alone, so that a resumed run draws the same.
        amp: half precision where that helps, see :func:`.encoding.training_precision`.
    """

    sam: Sam
    adapter: Adapter
    step: int
    steps: int
    rng: np.random.Generator
    amp: bool = False


ExtraLoss = Callable[[StepContext], torch.Tensor | None]
"""A loss (scalar) to add to the task's before the backward pass, or None for nothing to add in this step."""


@runtime_checkable
class Remembering(Protocol):
    """An added loss that depends on the steps before: its memory is kept with the checkpoints."""

    def remembered(self) -> dict[str, torch.Tensor]:
        """Return copies of what it needs to go on; empty where that is nothing."""

    def recall(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go on from what :meth:`remembered` gave; from an empty one, as from the beginning."""
