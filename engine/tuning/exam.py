"""Measuring on the hold-out: the base before, the adapter after, and whether the difference is more than chance.

An adapter is called better only if two things hold, see :func:`judge`. First, the 95 % interval of the difference of
the main figure lies above 0. It is a bootstrap over units (objects); with few of them that is too sure of itself,
so the interval is at least as wide as Student's t makes it. Second, the answers follow the places that they were given
at: they fit the labels where they lie better than the same labels dealt to other places. Without that a figure can rise
on nonsense: a decoder that learns to draw a blob of the usual size is nearer to any shape than a base that outlines
what is really there, and a map that knows objects from background gains whatever the objects are called.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..crops import Crop
from .encoding import Encoding
from .result import Score, Verdict

LEAST_UNITS = 2

_RESAMPLES = 1000
_DEALS = 2000
_BY_CHANCE = 0.01
"""Share of deals of the labels that may fit the answers better than the labels as they lie."""

_SURE = 0.95
_TIE = 1e-9

Rows = NDArray[np.int64]
Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Seen:
    """Where units were looked at.

    Attributes:
        numbers: (N,) int64, the objects' indices in the dataset.
        crops: (N, 5) int64: raster, level, size, first column and first row of the crop that shows each.
        answers: (N, S / 4, S / 4) uint8: what was answered in it, 0 for nothing, else 1 + index of the class.
    """

    numbers: NDArray[np.int64]
    crops: NDArray[np.int64]
    answers: NDArray[np.uint8]

    def crop(self, unit: int) -> tuple[int, Crop]:
        """Return raster and crop of a unit."""
        raster, level, size, column, row = self.crops[unit].tolist()
        return raster, Crop(level, size, column, row)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what :meth:`of` takes."""
        return {"numbers": self.numbers, "crops": self.crops, "answers": self.answers}

    @classmethod
    def of(cls, arrays: Arrays) -> Seen:
        """Rebuild from :meth:`arrays`."""
        return cls(
            arrays["numbers"].astype(np.int64), arrays["crops"].astype(np.int64), arrays["answers"].astype(np.uint8)
        )


class Exam(ABC):
    """What was measured on some units: objects. Figures can be drawn again from a part of the units."""

    @property
    @abstractmethod
    def units(self) -> int:
        """How many there are."""

    @abstractmethod
    def figures(self, rows: Rows) -> Mapping[str, float]:
        """Return all figures over some units, the main one under :attr:`main`. A class's are named ``figure class``.

        Args:
            rows: indices of units, some of them perhaps several times.
        """

    def counts(self, rows: Rows) -> Mapping[str, float]:
        """Return what is a number of things rather than a share, named likewise."""
        del rows
        return {}

    @property
    @abstractmethod
    def main(self) -> str:
        """Name of the figure that decides."""

    @property
    def groups(self) -> Mapping[str, Rows]:
        """Return the units of each class, where figures of classes are those of their units."""
        return {}

    @abstractmethod
    def fits(self) -> NDArray[np.float64] | None:
        """Return (N, N): how well the answer to each unit fits the label of each; None where labels are alike."""

    @abstractmethod
    def each(self) -> NDArray[np.float64]:
        """Return (N,) how well each unit was answered, 0 to 1."""

    @property
    @abstractmethod
    def seen(self) -> Seen | None:
        """Where the units were looked at; None if that was not kept."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return everything as arrays, their first axis being the units, unless the name begins with an underscore."""

    @classmethod
    @abstractmethod
    def of(cls, arrays: Arrays) -> Self:
        """Rebuild from :meth:`arrays`."""

    @classmethod
    def joined(cls, parts: Sequence[Exam]) -> Self:
        """Put measurements of different units together."""
        found = [part.arrays() for part in parts]
        whole = {
            name: value if name.startswith("_") else np.concatenate([part[name] for part in found])
            for name, value in found[0].items()
        }
        return cls.of(whole)

    @property
    def value(self) -> float:
        """The figure that decides, over all units."""
        return self.figures(np.arange(self.units))[self.main]

    def score(self, seed: int) -> Score:
        """Return all figures with their 95 % bootstrap intervals."""
        mean = self.figures(np.arange(self.units))
        drawn = [self.figures(rows) for rows in draws(self.units, seed)]
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
            most: units (crops, for maps) at most, spread evenly; None for all, as thoroughly as a report wants it.
        """


@dataclass(frozen=True)
class Judgement:
    """Whether an adapter is better.

    Attributes:
        verdict: see the module.
        gain: mean difference of the main figure with its 95 % interval: (mean, low, high); None if not measured.
        follows: the answers fit the labels where they lie better than labels dealt to other places.
    """

    verdict: Verdict
    gain: tuple[float, float, float] | None = None
    follows: bool = True


def judge(before: Exam, after: Exam, seed: int) -> Judgement:
    """Compare two measurements of the same units.

    Args:
        before: of the base.
        after: of the adapter.
        seed: of everything drawn; the same units are drawn for both.

    Returns:
        The judgement. With fewer than two units nothing can be said.
    """
    if before.units != after.units or after.units < LEAST_UNITS:
        return Judgement(Verdict.NOT_MEASURED)
    differences = [
        after.figures(rows)[after.main] - before.figures(rows)[before.main] for rows in draws(after.units, seed)
    ]
    mean = after.value - before.value
    low, high = interval(mean, differences, after.units)
    follows = follows_places(after, seed)
    verdict = Verdict.BETTER if low > 0 and follows else Verdict.NOT_BETTER
    return Judgement(verdict, (mean, low, high), follows)


def interval(mean: float, drawn: Sequence[float], units: int) -> tuple[float, float]:
    """Return a 95 % interval from bootstrap draws, at least as wide as Student's t makes it for so few units.

    Args:
        mean: the figure.
        drawn: the same over units drawn with replacement.
        units: how many there are.
    """
    low, high = (float(value) for value in np.quantile(drawn, (0.5 - _SURE / 2, 0.5 + _SURE / 2)))
    if units < LEAST_UNITS:
        return low, high
    error = float(np.std(drawn)) * np.sqrt(units / (units - 1))
    reach = float(stats.t.ppf(0.5 + _SURE / 2, units - 1)) * error
    return min(low, mean - reach), max(high, mean + reach)


def follows_places(exam: Exam, seed: int) -> bool:
    """Say whether answers fit the labels where they lie better than nearly all deals of the labels to the units.

    Args:
        exam: of the adapter.
        seed: of the deals.

    Returns:
        True also where labels are alike, so that dealing them changes nothing.
    """
    fits = exam.fits()
    if fits is None:
        return True
    rng = np.random.default_rng([seed, 1])
    rows = np.arange(len(fits))
    deals = rng.permuted(np.tile(rows, (_DEALS, 1)), axis=1)
    dealt = fits[rows, deals].mean(axis=1)
    found = float(np.trace(fits)) / len(fits)
    return bool((dealt > found + _TIE).mean() <= _BY_CHANCE and found > dealt.mean() + _TIE)


def spread(count: int, most: int | None) -> list[int]:
    """Return at most ``most`` indices below ``count``, evenly spread."""
    if most is None or count <= most:
        return list(range(count))
    return [int(place) for place in np.linspace(0, count - 1, most).round()]


def draws(units: int, seed: int) -> list[Rows]:
    """Return units drawn with replacement, many times.

    Args:
        units: how many there are.
        seed: decides the draws.
    """
    rng = np.random.default_rng(seed)
    return [rng.integers(units, size=units) for _ in range(_RESAMPLES)]
