"""What is drawn in a run: a function of the seed and the step alone, so that a resumed run draws the same."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch

from .task import Objective, Work


class Draw(IntEnum):
    """What a number is drawn for; keeps the streams of numbers apart."""

    ORDER = 0
    LAY = 1
    WORK = 2
    EXTRA = 3
    CALIBRATE = 4
    TORCH = 5


def works_of(objective: Objective, seed: int, step: int, count: int, ways: int) -> list[Work]:
    """Return the crops of a step: everybody's turn comes equally often, in a new order every round.

    Args:
        objective: whose.
        seed: of the run.
        step: from 0.
        count: how many crops each step has, those of all processes together.
        ways: in how many ways crops are laid, see :mod:`.symmetry`.
    """
    found = []
    for place in range(step * count, (step + 1) * count):
        round_, turn = divmod(place, objective.population)
        order = np.random.default_rng([seed, Draw.ORDER, round_]).permutation(objective.population)
        rng = np.random.default_rng([seed, Draw.LAY, place])
        found.append(objective.draw(int(order[turn]), int(rng.integers(ways)), rng))
    return found


def seed_torch(seed: int, step: int) -> None:
    """Let what methods draw from torch depend on the step alone.

    Args:
        seed: of the run.
        step: from 0.
    """
    mixed = np.random.SeedSequence([seed, Draw.TORCH, step]).generate_state(1)[0]
    torch.manual_seed(int(mixed))
