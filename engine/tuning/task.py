"""What the loop asks of each task: the losses of some crops, and the gradients of those."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from .encoding import Encoding, Laid
from .samples import CropSample


@dataclass(frozen=True)
class Work:
    """One crop of a step.

    Attributes:
        laid: the crop, and how it is laid.
        objects: which of its targets take part (promptable); empty for all.
    """

    laid: Laid
    objects: tuple[int, ...] = ()

    @property
    def item(self) -> CropSample:
        """The crop."""
        return self.laid.item


@dataclass(frozen=True)
class Moment:
    """Where in the run a piece of work is done.

    Attributes:
        encoding: runs the encoder.
        check: called between pieces of work that take long; may raise to stop.
        seed: numbers that, with the place of the work in the step, decide everything drawn.
        scale: what its loss is multiplied by: 1 / (number of what losses are means over).
        penalty: returns what the methods add to the loss of the forward pass just made, times its scale; or None.
    """

    encoding: Encoding
    check: Callable[[], None]
    seed: tuple[int, ...]
    scale: float
    penalty: Callable[[], torch.Tensor | None] = field(default=lambda: None)

    def rng(self, *more: int) -> np.random.Generator:
        """Return a generator for something at this moment."""
        return np.random.default_rng([*self.seed, *more])


@dataclass
class Figures:
    """Sums of figures, and how many values are in each."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, values: torch.Tensor) -> None:
        """Add values."""
        self.sums[name] = self.sums.get(name, 0.0) + float(values.detach().sum())
        self.counts[name] = self.counts.get(name, 0) + values.numel()

    def merge(self, other: Figures) -> None:
        """Add another's."""
        for name, value in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + other.counts[name]

    def means(self) -> dict[str, float]:
        """Return the mean of each; of no values, not a number."""
        return {name: value / self.counts[name] if self.counts[name] else math.nan for name, value in self.sums.items()}


class Objective(Protocol):
    """A task: which crops to draw, and what to learn from them."""

    @property
    def population(self) -> int:
        """How many things there are to draw from: objects, or crops."""

    def draw(self, number: int, way: int, rng: np.random.Generator) -> Work:
        """Return the work that belongs to one of the population.

        Args:
            number: which.
            way: how to lay the crop.
            rng: decides what else is drawn.
        """

    def weight(self, work: Work) -> int:
        """Return how many the loss of some work is a sum over."""

    def learn(self, works: Sequence[Work], moment: Moment) -> Figures:
        """Compute the losses of some crops and add their gradients to the adapter's.

        Args:
            works: at least one; all at once, so their number decides the memory.
            moment: where in the run.

        Returns:
            Figures for the log, ``loss`` among them, as sums over :meth:`weight`.
        """

    def probe(self, work: Work, moment: Moment) -> torch.Tensor:
        """Return the mean loss of one crop (scalar) with its graph, without going backward.

        Args:
            work: the crop.
            moment: where in the run.
        """
