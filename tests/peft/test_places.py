"""Weights in the places of others come off in any order, and adapters with them."""

from __future__ import annotations

import itertools

import pytest
import torch
from samtune.models.errors import TuningError
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.places import replace_parameters, taken
from samtune.models.peft.selective import BitFitConfig, DecoderConfig, FullConfig, NormConfig
from torch import nn

from .support import shake, snapshot, tiny


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_last_one_left_counts(order: tuple[int, ...]) -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    own = network[0].weight
    given = [torch.full((2, 2), float(number)) for number in range(3)]
    undo = [step for tensor in given for step in replace_parameters(network, {"0.weight": tensor})]
    left = list(range(3))
    for number in order:
        assert torch.equal(network[0].weight, given[left[-1]])
        undo[number]()
        left.remove(number)
    assert network[0].weight is own
    assert not taken(network)


def test_one_parameter_may_take_a_place_twice() -> None:
    network = nn.Linear(2, 2)
    own, other = network.weight, nn.Parameter(torch.zeros(2, 2))
    first, second = [step for _ in range(2) for step in replace_parameters(network, {"weight": other})]
    first()
    assert network.weight is other
    second()
    assert network.weight is own


def test_a_parameter_keeps_its_gradient_and_a_tensor_gets_none() -> None:
    network = nn.Linear(2, 2)
    list(replace_parameters(network, {"weight": torch.zeros(2, 2), "bias": nn.Parameter(torch.zeros(2))}))
    assert not network.weight.requires_grad
    assert network.bias.requires_grad


@pytest.mark.parametrize("name", ["none.weight", "weights", "weight.x"])
def test_names_of_another_network(name: str) -> None:
    with pytest.raises(TuningError, match="another base model"):
        list(replace_parameters(nn.Linear(2, 2), {name: torch.zeros(2, 2)}))


def test_shapes_of_another_network() -> None:
    with pytest.raises(TuningError, match="another base model"):
        list(replace_parameters(nn.Linear(2, 2), {"weight": torch.zeros(2, 3)}))
    with pytest.raises(TuningError, match="another base model"):
        list(replace_parameters(nn.Linear(2, 2, bias=False), {"bias": torch.zeros(2)}))


def full() -> Adapter:
    adapter = Adapter(tiny(), [FullConfig()])
    shake(adapter)
    return adapter


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("merged", [False, True])
def test_adapters_of_the_same_weights_come_off_in_any_order(first: int, merged: bool) -> None:
    before = snapshot(tiny())
    bias = tiny().image_encoder.blocks[0].attn.qkv.bias
    pair = (full(), Adapter(tiny(), [BitFitConfig()]))
    shake(pair[1], seed=9)
    for adapter in pair:
        adapter.attach(tiny(), merged=merged)
    pair[first].detach()
    left = pair[1 - first].parts["full" if first else "bitfit"]
    assert torch.equal(
        tiny().image_encoder.blocks[0].attn.qkv.bias,
        dict(left.named_parameters())["image_encoder/blocks/0/attn/qkv/bias"],
    )
    pair[1 - first].detach()
    assert tiny().image_encoder.blocks[0].attn.qkv.bias is bias
    assert all(torch.equal(value, before[name]) for name, value in tiny().state_dict().items())


@pytest.mark.parametrize("order", [0, 1])
@torch.no_grad()
def test_lora_merges_with_the_weights_tuned_beside_it(order: int) -> None:
    configs = [FullConfig(), LoraConfig()]
    adapter = Adapter(tiny(), configs if order else configs[::-1])
    shake(adapter)
    assert list(adapter.parts) == ["full", "lora"]
    picture = torch.randn(1, 3, 64, 64)
    found = []
    for merged in (False, True):
        adapter.attach(tiny(), merged=merged)
        found.append(tiny().image_encoder(picture))
        adapter.detach()
    assert torch.allclose(*found, atol=1e-4)
    assert not torch.allclose(found[0], tiny().image_encoder(picture), atol=1e-2)


def test_what_cannot_go_together_is_said_before_anything_is_done() -> None:
    with pytest.raises(TuningError, match="both tune the same weights"):
        Adapter(tiny(), [FullConfig(), BitFitConfig()])
    with pytest.raises(TuningError, match="given twice"):
        Adapter(tiny(), [DecoderConfig(), DecoderConfig()])
    with pytest.raises(TuningError, match="at least one"):
        Adapter(tiny(), [])
    Adapter(tiny(), [NormConfig(), BitFitConfig(), DecoderConfig(), LoraConfig()])


def test_an_adapter_that_fails_to_attach_leaves_nothing() -> None:
    adapter = Adapter(tiny(), [NormConfig(), LoraConfig()])
    hooks = sum(len(module._forward_hooks) for module in tiny().modules())
    adapter.parts["lora"].attach(tiny())
    with pytest.raises(TuningError, match="in use already"):
        adapter.attach(tiny())
    assert not adapter.attached
    assert not taken(tiny())
    assert hooks == sum(len(module._forward_hooks) for module in tiny().modules())
