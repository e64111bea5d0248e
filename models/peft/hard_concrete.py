"""Hard-concrete gates (Louizos, Welling and Kingma, ICLR 2018): weights that are on or off, and learn which.

For a gate with the logit a, temperature beta and stretch from gamma to zeta (equations 10 to 12):

    g = sigmoid((logit(u) + a) / beta),  u uniform in (0, 1)
    z = clamp(g (zeta - gamma) + gamma, 0, 1)
    P(z > 0) = sigmoid(a - beta log(-gamma / zeta))
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..errors import TuningError

_STEPS = 60
_CLOSE = 1e-6
"""Relative error of the expected number at which a shift is good enough."""
_FAR = 60.0
"""A logit beyond which a gate is always open, or always shut where it is negative."""


@dataclass(frozen=True)
class HardConcrete:
    """The distribution of a gate z in [0, 1] with a logit a.

    Attributes:
        beta: temperature, above 0.
        gamma: lower end of the stretch, below 0.
        zeta: upper end, above 1.
    """

    beta: float
    gamma: float
    zeta: float

    def check(self) -> None:
        """Refuse settings that make no distribution.

        Raises:
            TuningError: one is out of range.
        """
        if self.beta <= 0 or self.gamma >= 0 or self.zeta <= 1:
            raise TuningError(
                "A gate needs a temperature above 0 and a stretch from below 0 to above 1.",
                f"beta {self.beta}, gamma {self.gamma}, zeta {self.zeta}",
            )

    def sample(self, logits: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return gates in [0, 1] for logits a and noise ``logit(u)``, both (n,)."""
        return self._stretched((logits + noise) / self.beta)

    def settled(self, logits: torch.Tensor) -> torch.Tensor:
        """Return gates in [0, 1] without noise (equation 13), for use between training steps."""
        return self._stretched(logits)

    def _stretched(self, x: torch.Tensor) -> torch.Tensor:
        return (torch.sigmoid(x) * (self.zeta - self.gamma) + self.gamma).clamp(0.0, 1.0)

    def open(self, logits: torch.Tensor) -> torch.Tensor:
        """Return P(z > 0) for logits (n,)."""
        return torch.sigmoid(logits - self._threshold)

    def open_at(self, logit: float) -> float:
        """Return P(z > 0) for one logit."""
        return 1.0 / (1.0 + math.exp(self._threshold - logit))

    @property
    def _threshold(self) -> float:
        return self.beta * math.log(-self.gamma / self.zeta)

    def expected(self, logits: torch.Tensor) -> float:
        """Return how many gates are expected to be open."""
        return float(self.open(logits).sum(dtype=torch.float64))

    def shift_to(self, logits: torch.Tensor, target: float) -> float:
        """Return what to add to all logits so that an expected number of gates is open.

        Newton's method, kept within a bracket: the expected number grows with the shift. From a shift that was right
        one training step ago it takes two or three rounds over the logits.

        Args:
            logits: (n,) float32.
            target: the number, above 0 and below n.

        Returns:
            The shift; the number is met within a millionth.
        """
        low, high, shift = -_FAR - float(logits.max()), _FAR - float(logits.min()), 0.0
        for _ in range(_STEPS):
            chances = self.open(logits + shift)
            excess = float(chances.sum(dtype=torch.float64)) - target
            if abs(excess) <= _CLOSE * target:
                break
            low, high = (low, shift) if excess > 0 else (shift, high)
            slope = float((chances * (1.0 - chances)).sum(dtype=torch.float64))
            step = shift - excess / slope if slope > 0 else math.inf
            shift = step if low < step < high else (low + high) / 2
        return shift


def logistic_noise(like: torch.Tensor) -> torch.Tensor:
    """Return ``logit(u)`` for u uniform in (0, 1), in the shape of another tensor."""
    tiny = torch.finfo(torch.float32).eps
    uniform = torch.rand_like(like, dtype=torch.float32).clamp(tiny, 1.0 - tiny)
    return torch.logit(uniform)
