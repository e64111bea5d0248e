"""Hard-concrete gates: their distribution, and shifts that meet an expected number of open ones."""

from __future__ import annotations

import math

import pytest
import torch
from samtune.models.peft.contract import TuningError
from samtune.models.peft.hard_concrete import HardConcrete, logistic_noise

GATES = HardConcrete(2 / 3, -0.1, 1.1)


@pytest.mark.parametrize("logit", [-3.0, -1.6, 0.0, 1.0])
def test_as_many_samples_are_open_as_the_chance_says(logit: float) -> None:
    torch.manual_seed(0)
    logits = torch.full((200_000,), logit)
    z = GATES.sample(logits, logistic_noise(logits))
    assert 0 <= z.min() <= z.max() <= 1
    assert float((z > 0).float().mean()) == pytest.approx(float(GATES.open(logits[:1])), abs=0.005)
    assert float((z == 1).float().mean()) > 0.01, "gates are really on, and not only nearly"


def test_the_chance_is_the_source_s() -> None:
    """Louizos et al., equation 12, with numbers."""
    assert float(GATES.open(torch.tensor([2.0]))) == pytest.approx(1 / (1 + math.exp(-(2 + 2 / 3 * math.log(11)))))
    assert GATES.open_at(2.0) == pytest.approx(float(GATES.open(torch.tensor([2.0]))), rel=1e-6)
    assert GATES.expected(torch.full((10,), 2.0)) == pytest.approx(10 * GATES.open_at(2.0), rel=1e-6)


def test_settled_gates_are_those_of_the_middle_of_the_noise() -> None:
    logits = torch.linspace(-6, 6, 25)
    assert torch.allclose(GATES.settled(logits), ((torch.sigmoid(logits) * 1.2) - 0.1).clamp(0, 1))
    assert GATES.settled(torch.tensor([-5.0, 5.0])).tolist() == [0.0, 1.0]


def test_noise_is_logistic_and_finite() -> None:
    torch.manual_seed(0)
    noise = logistic_noise(torch.zeros(500_000))
    assert bool(torch.isfinite(noise).all())
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(noise.std()) == pytest.approx(math.pi / math.sqrt(3), rel=0.01)


def test_logits_learn_through_the_samples() -> None:
    torch.manual_seed(0)
    logits = torch.zeros(1000, requires_grad=True)
    GATES.sample(logits, logistic_noise(logits)).sum().backward()
    assert logits.grad is not None
    assert float((logits.grad > 0).float().mean()) > 0.5
    assert bool((logits.grad >= 0).all())


@pytest.mark.parametrize("spread", [0.0, 0.5, 5.0, 30.0])
@pytest.mark.parametrize("share", [1e-3, 0.25, 0.5, 0.97])
def test_a_shift_meets_the_number(spread: float, share: float) -> None:
    torch.manual_seed(1)
    logits = 2.0 + spread * torch.randn(20_000)
    shift = GATES.shift_to(logits, share * 20_000)
    assert GATES.expected(logits + shift) == pytest.approx(share * 20_000, rel=2e-5)


def test_a_shift_meets_the_number_where_gates_have_parted() -> None:
    """Nothing between the open and the shut ones: Newton's method alone would leap far away."""
    logits = torch.cat([torch.full((700,), 40.0), torch.full((1300,), -40.0)])
    for target in (300.0, 650.0, 1500.0):
        assert GATES.expected(logits + GATES.shift_to(logits, target)) == pytest.approx(target, rel=1e-3)


def test_no_shift_is_needed_where_the_number_is_met() -> None:
    logits = torch.randn(1000)
    assert GATES.shift_to(logits, GATES.expected(logits)) == 0.0


@pytest.mark.parametrize(
    "gates", [HardConcrete(0.0, -0.1, 1.1), HardConcrete(0.5, 0.0, 1.1), HardConcrete(0.5, -0.1, 1.0)], ids=str
)
def test_settings_that_make_no_distribution_are_refused(gates: HardConcrete) -> None:
    with pytest.raises(TuningError, match="temperature"):
        gates.check()
