"""The settings of the gate, and the schedule of how many of its weights are open."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from ..sam_modules import Sam
from .contract import MethodConfig, Part, Plan, Scope, TuningError, count
from .hard_concrete import HardConcrete
from .sites import EVERY_LAYER, Blocks, linear, linear_names


class Selection(enum.Enum):
    """How the weights are chosen."""

    GATED = "gated"
    SCORED = "scored"


@dataclass(frozen=True)
class GateConfig(MethodConfig):
    """A share of the encoder's weights is tuned, chosen among those of the blocks' linear layers.

    Attributes:
        share: of all parameters of the encoder, above 0; the number is rounded down.
        selection: learn the choice with gates, or take the highest scores at once.
        candidates: how many times the budget are candidates for the gates, above 1.
        initial: logit that the gates start with.
        beta: temperature of the gates.
        gamma: lower end of their stretch.
        zeta: upper end.
        gate_rate: learning rate of the logits as a multiple of the changes'.
        ramp: share of the training in which the expected number of open gates goes from the candidates to the budget.
        harden_at: share of the training after which the choice is fixed, not before the ramp's end and below 1.
        samples: at most so many samples are scored.
        largest_share: of the candidates that one layer may have before scores are divided by their layers' means.
        half: save changes in float16 rather than float32.
    """

    method: ClassVar[str] = "gate"
    scope: ClassVar[Scope] = Scope.ENCODER
    merges: ClassVar[bool] = True

    share: float = 0.003
    selection: Selection = Selection.GATED
    candidates: float = 4.0
    initial: float = 2.0
    beta: float = 2 / 3
    gamma: float = -0.1
    zeta: float = 1.1
    gate_rate: float = 100.0
    ramp: float = 0.3
    harden_at: float = 0.4
    samples: int = 64
    largest_share: float = 0.4
    half: bool = True

    @property
    def gates(self) -> HardConcrete:
        """The gates' distribution."""
        return HardConcrete(self.beta, self.gamma, self.zeta)

    def plan(self, sam: Sam) -> Plan:
        """Say which layers' weights may be tuned: see :meth:`.contract.MethodConfig.plan`."""
        self.gates.check()
        if not 0 < self.ramp <= self.harden_at < 1 or self.candidates <= 1 or self.samples < 1 or self.gate_rate <= 0:
            raise TuningError(
                "The gate's settings do not fit together: more candidates than the budget, at least one sample, and a "
                "ramp that ends before the choice is fixed.",
                f"ramp {self.ramp}, harden at {self.harden_at}, candidates {self.candidates}, samples {self.samples}",
            )
        names = _names(sam)
        budget, available = self.budget(sam), _available(sam)
        if not 0 < budget < available:
            raise TuningError(
                f"A share of {self.share:.2%} of the encoder cannot be chosen. Give one above 0 and below 1.",
                f"{budget} of {available} weights",
            )
        return Plan(names, tuple(f"{name}.weight" for name in names), budget)

    def build(self, sam: Sam) -> Part:
        """Make an empty choice: see :meth:`.contract.MethodConfig.build`."""
        from .gate import Gate

        return Gate(self, sam)

    def budget(self, sam: Sam) -> int:
        """Return how many weights are tuned in the end."""
        return int(self.share * count(sam.image_encoder.parameters()))

    def candidates_of(self, sam: Sam) -> int:
        """Return how many weights gates are put on."""
        return min(int(self.candidates * self.budget(sam)), _available(sam))

    def target(self, progress: float, entries: int, budget: int) -> float:
        """Return the expected number of open gates at a point of the training: linear down the ramp, then the budget.

        Args:
            progress: share of the training that is done.
            entries: number of gates.
            budget: number at the ramp's end.
        """
        start = entries * self.gates.open_at(self.initial)
        return start + (budget - start) * min(progress / self.ramp, 1.0)


def _names(sam: Sam) -> tuple[str, ...]:
    return linear_names(Blocks().of(sam), EVERY_LAYER)


def _available(sam: Sam) -> int:
    return sum(linear(sam, name).weight.numel() for name in _names(sam))
