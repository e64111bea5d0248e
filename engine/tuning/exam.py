"""Measuring on the hold-out: the base before, the adapter after, and whether the difference is more than chance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from .encoding import Encoding
from .result import Score, Verdict

_RESAMPLES = 1000
LEAST_UNITS = 2

Rows = NDArray[np.int64]


class Exam(ABC):
    """What was measured on some units: objects, or crops. Figures can be drawn again from a part of the units."""

    @property
    @abstractmethod
    def units(self) -> int:
        """How many there are."""

    @abstractmethod
    def figures(self, rows: Rows) -> Mapping[str, float]:
        """Return all figures over some units, the main one under :attr:`main`.

        Args:
            rows: indices of units, some of them perhaps several times.
        """

    @property
    @abstractmethod
    def main(self) -> str:
        """Name of the figure that decides."""

    @property
    def value(self) -> float:
        """The figure that decides, over all units."""
        return self.figures(np.arange(self.units))[self.main]

    def score(self, seed: int) -> Score:
        """Return all figures with their 95 % bootstrap intervals."""
        mean = self.figures(np.arange(self.units))
        drawn = [self.figures(rows) for rows in _draws(self.units, seed)]
        interval = {}
        for name in mean:
            values = [figures[name] for figures in drawn if name in figures]
            low, high = np.quantile(values, (0.025, 0.975)) if values else (mean[name], mean[name])
            interval[name] = (float(low), float(high))
        return Score(mean, interval, self.units)


class Examiner(ABC):
    """Measures on the hold-out of one run."""

    @abstractmethod
    def examine(self, encoding: Encoding, check: Callable[[], None], most: int | None = None) -> Exam:
        """Measure.

        Args:
            encoding: of the model, with whatever is attached to it.
            check: called between prompts; may raise to stop.
            most: units at most, spread evenly; None for all.
        """


def spread(count: int, most: int | None) -> list[int]:
    """Return at most ``most`` indices below ``count``, evenly spread."""
    if most is None or count <= most:
        return list(range(count))
    return [int(place) for place in np.linspace(0, count - 1, most).round()]


def gain(before: Exam, after: Exam, seed: int) -> tuple[tuple[float, float, float] | None, Verdict]:
    """Compare two measurements of the same units.

    Args:
        before: of the base.
        after: of the adapter.
        seed: of the bootstrap, which draws the same units for both.

    Returns:
        Mean difference of the main figure with its 95 % interval, and whether that lies above 0. With fewer than two
        units there is no interval, and nothing can be said.
    """
    if before.units != after.units or after.units < LEAST_UNITS:
        return None, Verdict.NOT_MEASURED
    differences = [
        after.figures(rows)[after.main] - before.figures(rows)[before.main] for rows in _draws(after.units, seed)
    ]
    low, high = (float(value) for value in np.quantile(differences, (0.025, 0.975)))
    verdict = Verdict.BETTER if low > 0 else Verdict.NOT_BETTER
    return (after.value - before.value, low, high), verdict


def _draws(units: int, seed: int) -> list[Rows]:
    rng = np.random.default_rng(seed)
    return [rng.integers(units, size=units) for _ in range(_RESAMPLES)]
