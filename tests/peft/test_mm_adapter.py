"""MMAdapter: the source's counts and equations, nothing changed at the start, two streams in one batch kept apart."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from samtune.models.card import Architecture
from samtune.models.loading import build
from samtune.models.peft.contract import SideInputs, TuningError
from samtune.models.peft.mm_adapter import MmAdapter, MmAdapterConfig
from samtune.models.peft.streams import Branch, Mixing, add_to_images, split
from samtune.models.sam_modules import Sam
from torch.nn import functional

from .windowed import DIM, attached, embed, gradients, images, windowed_sam

TWO = SideInputs(streams=2)


@pytest.fixture
def sam() -> Sam:
    return windowed_sam()


@pytest.mark.parametrize(
    ("architecture", "exact", "millions"),
    [
        (Architecture.VIT_B, 14_201_880, "14.20"),
        (Architecture.VIT_L, 50_454_576, "50.45"),
        (Architecture.VIT_H, 105_062_464, "105.06"),
    ],
)
def test_the_source_configuration_has_the_sources_count(architecture: Architecture, exact: int, millions: str) -> None:
    with torch.device("meta"):
        sam = build(architecture)
    config = MmAdapterConfig(ratio=4)
    part = config.build(sam)
    assert config.plan(sam).trainable == exact
    assert sum(value.numel() for value in part.parameters()) == exact
    assert f"{exact / 1e6:.2f}" == millions


def test_count_by_hand(sam: Sam) -> None:
    # Per block four bottlenecks 32 -> 8 -> 32 with biases, and two mixing weights.
    config = MmAdapterConfig(ratio=4)
    assert config.plan(sam).trainable == 3 * (4 * (32 * 8 + 8 + 8 * 32 + 32) + 2)
    assert MmAdapterConfig(ratio=4, exchange=False).plan(sam).trainable == config.plan(sam).trainable - 3 * 2


def test_streams_without_exchange_are_two_adapters_side_by_side(sam: Sam) -> None:
    adapter, part = attached(sam, MmAdapterConfig(exchange=False))
    both = embed(sam, torch.cat([images(2), images(2, seed=9)]), adapter, TWO)
    torch.testing.assert_close(both[:2], embed(sam, images(2), adapter, SideInputs()), atol=1e-5, rtol=1e-5)
    swapped = {
        name.replace(".image.", ".?.").replace(".second.", ".image.").replace(".?.", ".second."): value
        for name, value in part.state_dict().items()
    }
    part.load_state_dict(swapped)
    torch.testing.assert_close(both[2:], embed(sam, images(2, seed=9), adapter, SideInputs()), atol=1e-5, rtol=1e-5)


def by_hand(
    sam: Sam, index: int, x: torch.Tensor, y: torch.Tensor, tensors: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a global block does to both modalities, written from the equations."""
    block = sam.image_encoder.blocks[index]

    def bottleneck(name: str, value: torch.Tensor) -> torch.Tensor:
        prefix = f"blocks.{index}.{name}"
        hidden = functional.relu(value @ tensors[f"{prefix}.down.weight"].T + tensors[f"{prefix}.down.bias"])
        return hidden @ tensors[f"{prefix}.up.weight"].T + tensors[f"{prefix}.up.bias"]

    def attention(name: str, value: torch.Tensor) -> torch.Tensor:
        mixed = block.attn(block.norm1(value))
        return value + mixed + bottleneck(f"attn.{name}", mixed)

    x, y = attention("image", x), attention("second", y)
    u, v = block.norm2(x), block.norm2(y)
    a_x, a_y = bottleneck("mlp.image", u), bottleneck("mlp.second", v)
    first, second = (1 / (1 + math.exp(-value)) for value in tensors[f"blocks.{index}.mixing.logits"].tolist())
    x = x + block.mlp(u) + first * a_x + (1 - first) * a_y
    y = y + block.mlp(v) + second * a_y + (1 - second) * a_x
    return x, y


def test_a_block_follows_the_equations(sam: Sam) -> None:
    adapter, part = attached(sam, MmAdapterConfig(ratio=4, start=0.67))
    tensors = dict(part.state_dict())
    x, y = torch.randn(2, 5, 5, DIM), torch.randn(2, 5, 5, DIM)
    block = sam.image_encoder.blocks[2]
    with torch.no_grad(), adapter.given(TWO):
        found = block(torch.cat([x, y]))
    adapter.detach()
    with torch.no_grad():
        expected = torch.cat(by_hand(sam, 2, x, y, tensors))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert part.config.plan(sam).sites == ("image_encoder.blocks.2.attn", "image_encoder.blocks.2.mlp")


@pytest.mark.parametrize("exchange", [True, False])
def test_gradients_reach_everything(sam: Sam, exchange: bool) -> None:
    # Wide, so that not all units of a bottleneck are below zero everywhere by chance.
    adapter, _ = attached(sam, MmAdapterConfig(ratio=2, exchange=exchange))
    found = gradients(sam, images(4), adapter, TWO)
    assert found
    for name, gradient in found.items():
        assert gradient is not None and gradient.abs().max() > 0, name


def test_a_single_stream_trains_the_images_tensors_only(sam: Sam) -> None:
    adapter, _ = attached(sam, MmAdapterConfig(ratio=2))
    found = gradients(sam, images(2), adapter, SideInputs())
    for name, gradient in found.items():
        assert (gradient is None) == (".second." in name), name


def test_the_first_step_moves_the_up_projections_of_both(sam: Sam) -> None:
    adapter, part = attached(sam, MmAdapterConfig(ratio=2), moved=False)
    before = {name: value.clone() for name, value in part.state_dict().items()}
    optimiser = torch.optim.SGD([value for _, value in adapter.trainable_parameters()], lr=0.1)
    gradients(sam, images(2), adapter, TWO)
    optimiser.step()
    moved = {name for name, value in part.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if ".up." in name}


def test_computing_blocks_again_gives_the_same_gradients(sam: Sam) -> None:
    adapter, _ = attached(sam, MmAdapterConfig())
    plain = gradients(sam, images(2), adapter, TWO)
    again = gradients(sam, images(2), adapter, TWO, recompute=True)
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, msg=name)


def test_state_goes_round_bit_for_bit_and_detaching_leaves_nothing(sam: Sam) -> None:
    weights = {name: value.clone() for name, value in sam.state_dict().items()}
    frozen = embed(sam, images(4))
    adapter, part = attached(sam, MmAdapterConfig())
    expected = embed(sam, images(4), adapter, TWO)
    adapter.detach()
    assert torch.equal(embed(sam, images(4)), frozen)
    assert all(torch.equal(value, weights[name]) for name, value in sam.state_dict().items())
    other, twin = attached(sam, MmAdapterConfig(), moved=False)
    twin.load_state_dict(part.state_dict())
    assert torch.equal(embed(sam, images(4), other, TWO), expected)


def test_the_source_start_changes_outputs_and_has_gelu(sam: Sam) -> None:
    frozen = embed(sam, images(2))
    adapter, part = attached(sam, MmAdapterConfig(ratio=4, source=True), moved=False)
    assert (embed(sam, images(2), adapter, TWO) - frozen).abs().max() > 1e-3
    assert isinstance(part, MmAdapter)
    bottleneck = part.get_submodule("blocks.0.mlp.image")
    x = torch.randn(3, DIM)
    with torch.no_grad():
        down = x @ bottleneck.down.weight.T + bottleneck.down.bias
        torch.testing.assert_close(
            bottleneck(x), functional.gelu(down) @ bottleneck.up.weight.T + bottleneck.up.bias, atol=1e-6, rtol=1e-5
        )


def test_mixing_starts_at_half_and_stays_between_none_and_all(sam: Sam) -> None:
    _, part = attached(sam, MmAdapterConfig(), moved=False)
    assert isinstance(part, MmAdapter)
    assert part.mixing_shares() == {0: (0.5, 0.5), 1: (0.5, 0.5), 2: (0.5, 0.5)}
    with torch.no_grad():
        for name, value in part.named_parameters():
            if name.endswith("mixing.logits"):
                value.copy_(torch.tensor([1e4, -1e4]))
    assert part.mixing_shares()[1] == (1.0, 0.0)
    alone = MmAdapterConfig(exchange=False).build(sam)
    assert isinstance(alone, MmAdapter)
    assert alone.mixing_shares() == {}


def test_mixing_by_hand() -> None:
    mixing = Mixing(torch.device("cpu"))
    first = Branch(torch.tensor([[4.0]]), torch.tensor([[2.0]]))
    second = Branch(torch.tensor([[5.0]]), torch.tensor([[4.0]]))
    with torch.no_grad():
        mixing.logits.copy_(torch.tensor([math.log(3.0), math.log(1 / 4)]))
        found = mixing(first, second)
        alone = mixing(first, None)
        biased = mixing(replace(first, bias=torch.tensor([1.0])), replace(second, bias=torch.tensor([10.0])))
    torch.testing.assert_close(found, torch.tensor([[0.75 * 8 + 0.25 * 20], [0.2 * 20 + 0.8 * 8]]))
    torch.testing.assert_close(alone, torch.tensor([[6.0]]))
    torch.testing.assert_close(biased, torch.tensor([[0.75 * 9 + 0.25 * 30], [0.2 * 30 + 0.8 * 9]]))


def test_a_batch_without_two_halves_is_refused(sam: Sam) -> None:
    adapter, _ = attached(sam, MmAdapterConfig())
    with pytest.raises(TuningError, match="second modality"):
        embed(sam, images(3), adapter, TWO)
    with pytest.raises(TuningError):
        split(torch.zeros(6, 1), 3)


def test_adding_to_the_images_leaves_the_second_modality_and_the_layout() -> None:
    x = torch.randn(4, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    found = add_to_images(x, torch.ones(2, 8, 3, 3), 2)
    assert torch.equal(found[2:], x[2:])
    torch.testing.assert_close(found[:2], x[:2] + 1)
    assert found.stride() == x.stride()
    torch.testing.assert_close(add_to_images(x, torch.ones(4, 8, 3, 3), 1), x + 1)


@pytest.mark.parametrize("ratio", [0, -4, DIM + 1])
def test_a_ratio_that_leaves_no_bottleneck_is_refused(sam: Sam, ratio: int) -> None:
    with pytest.raises(TuningError, match="ratio"):
        MmAdapterConfig(ratio=ratio).plan(sam)


def test_settings_go_through_json() -> None:
    config = MmAdapterConfig(ratio=4, exchange=False, source=True, start=0.5)
    assert MmAdapterConfig.from_json(config.to_json()) == config


def test_half_precision_keeps_working(sam: Sam) -> None:
    adapter, _ = attached(sam, MmAdapterConfig())
    exact = embed(sam, images(2), adapter, TWO)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = embed(sam, images(2), adapter, TWO)
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()
