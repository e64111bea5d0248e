"""Scores of single weights, and the highest of very many."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from samtune.models.peft.contract import TuningError
from samtune.models.peft.gate_score import choose, highest, score
from torch import nn


def network() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 2))
    return made.requires_grad_(False)


def losses(net: nn.Module, count: int = 3) -> list[Callable[[], torch.Tensor]]:
    samples = torch.randn(count, 5, 4, generator=torch.Generator().manual_seed(1))

    def loss(sample: torch.Tensor) -> torch.Tensor:
        return net(sample).square().mean()

    return [partial(loss, sample) for sample in samples]


def test_scores_are_sums_of_squared_gradients_of_samples() -> None:
    net = network()
    weights = [net[0].weight, net[2].weight]
    found = score(weights, losses(net))
    expected = [torch.zeros_like(weight) for weight in weights]
    net.requires_grad_(True)
    for loss in losses(net):
        for plane, gradient in zip(expected, torch.autograd.grad(loss(), weights), strict=True):
            plane.add_(gradient**2)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other)
        assert one.dtype == torch.float32
        assert not one.requires_grad


def test_scoring_leaves_everything_as_it_was() -> None:
    net = network()
    net[2].weight.requires_grad_(True)
    held = net[2].weight.grad = torch.full((2, 6), 7.0)
    net[0].bias.requires_grad_(True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    score([net[0].weight, net[2].weight], losses(net))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [value.requires_grad for value in net.parameters()] == [False, True, True, False]
    assert net[2].weight.grad is held
    assert torch.equal(held, torch.full((2, 6), 7.0))
    assert net[0].weight.grad is None
    assert net[0].bias.grad is None, "others get no gradient either"
    assert not net[0].weight._post_accumulate_grad_hooks


def test_scoring_works_where_gradients_are_switched_off() -> None:
    net = network()
    with torch.no_grad():
        assert score([net[0].weight], losses(net))[0].any()


def test_half_precision_is_summed_in_full() -> None:
    net = network().to(torch.bfloat16)
    samples = [lambda: net(torch.ones(5, 4, dtype=torch.bfloat16)).square().mean()] * 2
    found = score([net[0].weight], samples)
    assert found[0].dtype == torch.float32
    assert net[0].weight.dtype == torch.bfloat16


def _nan(net: nn.Module) -> torch.Tensor:
    return net(torch.full((1, 4), float("nan"))).sum()


def _nothing(net: nn.Module) -> torch.Tensor:
    return 0.0 * net(torch.ones(1, 4)).sum()


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda net: [], "at least one labelled object"),
        (lambda net: [partial(_nan, net)], "not a number"),
        (lambda net: [partial(_nothing, net)], "do not say which"),
    ],
    ids=["none", "nan", "zero"],
)
def test_samples_that_teach_nothing_are_refused(
    made: Callable[[nn.Module], list[Callable[[], torch.Tensor]]], text: str
) -> None:
    net = network()
    with pytest.raises(TuningError, match=text):
        score([net[0].weight], made(net))
    assert not net[0].weight.requires_grad


def planes(kind: str) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(4)
    shapes = ((30, 40), (7,), (50, 20))
    made = [torch.rand(shape, generator=random) for shape in shapes]
    if kind == "spread":
        return [(12 * plane - 6).exp() ** 3 for plane in made]
    if kind == "ties":
        return [(plane * 4).floor() for plane in made]
    if kind == "minute":
        return [plane * 1e-42 for plane in made]
    if kind == "flat":
        return [torch.full_like(plane, 2.5) for plane in made]
    return made


@pytest.mark.parametrize("kind", ["plain", "spread", "ties", "minute", "flat"])
@pytest.mark.parametrize("number", [1, 13, 700, 2206, 2207])
def test_the_highest_are_those_that_sorting_gives(kind: str, number: int) -> None:
    scores = planes(kind)
    found = highest(scores, number)
    flat = torch.cat([plane.flatten() for plane in scores])
    order = flat.argsort(descending=True, stable=True)[:number].sort().values
    assert torch.equal(found.long(), order), "of equal scores the first ones"
    assert found.dtype == torch.int32


@pytest.mark.parametrize("number", [0, 2208])
def test_more_than_there_are_cannot_be_chosen(number: int) -> None:
    with pytest.raises(TuningError, match="fewer weights"):
        highest(planes("plain"), number)


def test_a_layer_that_takes_too_much_is_put_on_a_level_with_the_others() -> None:
    random = torch.Generator().manual_seed(5)
    scores = [torch.rand(1000, generator=random) for _ in range(4)]
    scores[2] *= 100.0
    before = [plane.clone() for plane in scores]
    counts = torch.bincount(choose(scores, 400, 0.4).long() // 1000, minlength=4)
    assert counts.max() < 150, "all layers are alike but for the factor"
    assert counts.sum() == 400
    allowed = choose([plane.clone() for plane in before], 400, 1.0)
    assert torch.equal(torch.bincount(allowed.long() // 1000, minlength=4), torch.tensor([0, 0, 400, 0]))


def test_scores_stay_as_they_are_where_no_layer_takes_too_much() -> None:
    scores = [torch.rand(1000, generator=torch.Generator().manual_seed(seed)) * (1 + seed / 10) for seed in range(4)]
    before = [plane.clone() for plane in scores]
    choose(scores, 400, 0.9)
    assert all(torch.equal(plane, kept) for plane, kept in zip(scores, before, strict=True))


def test_a_layer_without_any_gradient_is_no_obstacle() -> None:
    scores = [torch.zeros(100), torch.rand(100) + 0.1]
    found = choose(scores, 60, 0.1)
    assert int(found.min()) >= 100
