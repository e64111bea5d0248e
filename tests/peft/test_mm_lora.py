"""MMLoRA: the source's counts and equations, nothing changed at the start, crossed branches in the MLP only."""

from __future__ import annotations

import pytest
import torch
from samtune.models.card import Architecture
from samtune.models.loading import build
from samtune.models.peft.contract import SideInputs, TuningError
from samtune.models.peft.mm_lora import MmLoraConfig
from samtune.models.sam_modules import Sam

from .windowed import DIM, attached, embed, gradients, images, windowed_sam

TWO = SideInputs(streams=2)


@pytest.fixture
def sam() -> Sam:
    return windowed_sam()


@pytest.mark.parametrize(
    ("architecture", "low_rank", "blocks", "millions"),
    [
        (Architecture.VIT_B, 1_032_192, 12, "1.032"),
        (Architecture.VIT_L, 2_752_512, 24, "2.753"),
        (Architecture.VIT_H, 4_587_520, 32, "4.588"),
    ],
)
def test_the_source_configuration_has_the_sources_count(
    architecture: Architecture, low_rank: int, blocks: int, millions: str
) -> None:
    with torch.device("meta"):
        sam = build(architecture)
    part = MmLoraConfig(rank=4).build(sam)
    counted = sum(value.numel() for value in part.parameters())
    assert counted == MmLoraConfig(rank=4).plan(sam).trainable == low_rank + 2 * blocks
    assert f"{counted / 1e6:.3f}" == f"{low_rank / 1e6:.3f}" == millions
    assert MmLoraConfig(rank=4, exchange=False).plan(sam).trainable == low_rank


def products(tensors: dict[str, torch.Tensor], prefix: str) -> list[torch.Tensor]:
    """Return B A of every range of a layer."""
    return [
        tensors[f"{prefix}.parts.{number}.lora_B"] @ tensors[f"{prefix}.parts.{number}.lora_A"]
        for number in range(2)
        if f"{prefix}.parts.{number}.lora_A" in tensors
    ]


@pytest.mark.parametrize(("layer", "width"), [("lin1", DIM), ("lin2", 4 * DIM)])
def test_the_layers_of_the_mlp_follow_the_equations(sam: Sam, layer: str, width: int) -> None:
    adapter, part = attached(sam, MmLoraConfig(rank=2, alpha=6.0))
    tensors = part.state_dict()
    linear = sam.image_encoder.blocks[1].mlp.get_submodule(layer)
    x, y = torch.randn(2, 5, 5, width), torch.randn(2, 5, 5, width)
    with torch.no_grad(), adapter.given(TWO):
        found = linear(torch.cat([x, y]))
    adapter.detach()
    (first,) = products(tensors, f"blocks.1.layers.mlp/{layer}.image")
    (second,) = products(tensors, f"blocks.1.layers.mlp/{layer}.second")
    l1, l2 = torch.sigmoid(tensors["blocks.1.mixing.logits"])
    with torch.no_grad():
        here, there = 3 * x @ first.T, 3 * y @ second.T
        expected = [linear(x) + l1 * here + (1 - l1) * there, linear(y) + l2 * there + (1 - l2) * here]
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("exchange", [True, False])
def test_attention_has_q_and_v_of_each_modality_without_exchange(sam: Sam, exchange: bool) -> None:
    adapter, part = attached(sam, MmLoraConfig(rank=2, alpha=6.0, exchange=exchange))
    tensors = part.state_dict()
    linear = sam.image_encoder.blocks[0].attn.qkv
    x, y = torch.randn(4, 3, 3, DIM), torch.randn(4, 3, 3, DIM)
    with torch.no_grad(), adapter.given(TWO):
        found = linear(torch.cat([x, y]))
    adapter.detach()
    expected = []
    for name, value in (("image", x), ("second", y)):
        q, v = products(tensors, f"blocks.0.layers.attn/qkv.{name}")
        grown = torch.cat([3 * value @ q.T, torch.zeros(4, 3, 3, DIM), 3 * value @ v.T], dim=-1)
        expected.append(linear(value).detach() + grown)
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("exchange", [True, False])
def test_gradients_reach_everything(sam: Sam, exchange: bool) -> None:
    adapter, _ = attached(sam, MmLoraConfig(exchange=exchange))
    found = gradients(sam, images(4), adapter, TWO)
    assert found
    for name, gradient in found.items():
        assert gradient is not None and gradient.abs().max() > 0, name


def test_computing_blocks_again_gives_the_same_gradients(sam: Sam) -> None:
    adapter, _ = attached(sam, MmLoraConfig())
    plain = gradients(sam, images(2), adapter, TWO)
    again = gradients(sam, images(2), adapter, TWO, recompute=True)
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, msg=name)


def test_the_first_step_moves_b_of_both(sam: Sam) -> None:
    adapter, part = attached(sam, MmLoraConfig(), moved=False)
    before = {name: value.clone() for name, value in part.state_dict().items()}
    optimiser = torch.optim.SGD([value for _, value in adapter.trainable_parameters()], lr=0.1)
    gradients(sam, images(2), adapter, TWO)
    optimiser.step()
    moved = {name for name, value in part.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.endswith("lora_B")}


def test_state_goes_round_bit_for_bit_and_detaching_leaves_nothing(sam: Sam) -> None:
    frozen = embed(sam, images(4))
    adapter, part = attached(sam, MmLoraConfig())
    expected = embed(sam, images(4), adapter, TWO)
    assert not torch.equal(expected, frozen)
    adapter.detach()
    assert torch.equal(embed(sam, images(4)), frozen)
    other, twin = attached(sam, MmLoraConfig(), moved=False)
    twin.load_state_dict(part.state_dict())
    assert torch.equal(embed(sam, images(4), other, TWO), expected)


def test_late_blocks_only(sam: Sam) -> None:
    plan = MmLoraConfig(start=0.67).plan(sam)
    assert plan.sites == tuple(f"image_encoder.blocks.2.{name}" for name in ("attn.qkv", "mlp.lin1", "mlp.lin2"))
    assert plan.trainable == 112 * DIM + 2  # at rank 4: q and v 32 D, both layers of the MLP 80 D


@pytest.mark.parametrize("rank", [0, DIM + 1])
def test_a_rank_that_does_not_fit_is_refused(sam: Sam, rank: int) -> None:
    with pytest.raises(TuningError, match="rank"):
        MmLoraConfig(rank=rank).plan(sam)


def test_a_batch_without_two_halves_is_refused(sam: Sam) -> None:
    adapter, _ = attached(sam, MmLoraConfig())
    with pytest.raises(TuningError, match="second modality"):
        embed(sam, images(3), adapter, TWO)


def test_settings_go_through_json() -> None:
    config = MmLoraConfig(rank=8, alpha=16.0, exchange=False, stop=0.5)
    assert MmLoraConfig.from_json(config.to_json()) == config
