"""Who looks on at a run: told what happens in it, and asked between steps what the user wants of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from ..tune_messages import Picture, RunState


class Wish(Enum):
    """What the user wants of the run under way.

    FINISH: end the training under way after this step and begin no other one for measuring; the weights so far are
    measured and written as usual.
    """

    GO_ON = "go on"
    PAUSE = "pause"
    FINISH = "finish"


@dataclass(frozen=True)
class Training:
    """One training of a run: the only one, or one of several where blocks of ground are held out in turn.

    Attributes:
        steps: of this training.
        done: of them already, where it goes on from a checkpoint.
        folder: of its curves.
        number: from 1, and
        of: how many trainings the run has.
    """

    steps: int
    done: int
    folder: Path
    number: int = 1
    of: int = 1


class Observer(Protocol):
    """What a run tells, from its own thread. Calls must be quick."""

    @property
    def wish(self) -> Wish:
        """What the user wants."""

    def entered(self, state: RunState) -> None:
        """The run is at another stage."""

    def begins(self, training: Training) -> None:
        """A training begins, or goes on from its checkpoint."""

    def stepped(self, step: int, figures: Mapping[str, float]) -> None:
        """A step of the training was done, from 1."""

    def looked(self, step: int, figures: Mapping[str, float], value: float, best_step: int) -> None:
        """The hold-out was measured: all figures, the one that decides, and the step of the best weights so far."""

    def shows(self, step: int, pictures: Sequence[Picture]) -> None:
        """Take pictures of what the adapter answers after a step."""

    def noted(self, text: str) -> None:
        """Something happened that the user should know, a sentence."""

    def saved(self, step: int) -> None:
        """A checkpoint was written."""


class Nobody:
    """An :class:`Observer` that takes no notice and wants nothing."""

    wish = Wish.GO_ON

    def entered(self, state: RunState) -> None:
        """Do nothing."""

    def begins(self, training: Training) -> None:
        """Do nothing."""

    def stepped(self, step: int, figures: Mapping[str, float]) -> None:
        """Do nothing."""

    def looked(self, step: int, figures: Mapping[str, float], value: float, best_step: int) -> None:
        """Do nothing."""

    def shows(self, step: int, pictures: Sequence[Picture]) -> None:
        """Do nothing."""

    def noted(self, text: str) -> None:
        """Do nothing."""

    def saved(self, step: int) -> None:
        """Do nothing."""
