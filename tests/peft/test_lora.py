"""LoRA and DoRA against their equations, written out here with plain matrices."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samtune.models.card import Architecture
from samtune.models.errors import TuningError
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.dora import DoraConfig
from samtune.models.peft.lora import Lora, LoraConfig, Projection
from samtune.models.peft.sites import EVERY_LAYER, Blocks, Layer, linear, linear_names

from .support import meta, shake, tiny

NAME = "image_encoder.blocks.2.attn.qkv"
DIM = 192


def part_of(config: LoraConfig) -> Lora:
    torch.manual_seed(0)
    adapter = Adapter(tiny(), [config])
    shake(adapter, 0.2)
    part = adapter.parts[config.method]
    if not isinstance(part, Lora):
        raise TypeError(part)
    return part


def tokens() -> torch.Tensor:
    return torch.randn(2, 4, 4, DIM, generator=torch.Generator().manual_seed(5))


def rows(projection: Projection) -> slice:
    return slice(projection.value * DIM, (projection.value + 1) * DIM)


@pytest.mark.parametrize("alpha", [1.0, 4.0, 12.0])
@torch.no_grad()
def test_lora_adds_alpha_over_rank_b_a_x(alpha: float) -> None:
    part = part_of(LoraConfig(rank=3, alpha=alpha, projections=()))
    (update,) = part.of(NAME)
    layer = linear(tiny(), NAME)
    x = tokens()
    weight = layer.weight + alpha / 3 * update.lora_B @ update.lora_A
    part.attach(tiny())
    found = layer(x)
    part.detach()
    assert torch.allclose(found, x @ weight.T + layer.bias, atol=1e-5)
    assert torch.allclose(part.merged(tiny())[f"{NAME}.weight"], weight, atol=1e-6)


@pytest.mark.parametrize("kind", [LoraConfig, DoraConfig])
@pytest.mark.parametrize("tuned", [(Projection.Q,), (Projection.V, Projection.Q), (Projection.K,)])
@torch.no_grad()
def test_projections_that_are_not_tuned_stay_bit_for_bit(kind: type[LoraConfig], tuned: tuple[Projection, ...]) -> None:
    part = part_of(kind(projections=tuned))
    layer, x = linear(tiny(), NAME), tokens()
    plain = layer(x)
    part.attach(tiny())
    found = layer(x)
    part.detach()
    merged = part.merged(tiny())[f"{NAME}.weight"]
    for projection in Projection:
        place = rows(projection)
        assert torch.equal(found[..., place], plain[..., place]) == (projection not in tuned)
        assert torch.equal(merged[place], layer.weight[place]) == (projection not in tuned)


def test_every_projection_has_an_a_and_b_of_its_own() -> None:
    part = part_of(LoraConfig(rank=2))
    query, value = part.of(NAME)
    assert (query.start, query.stop, value.start, value.stop) == (0, DIM, 2 * DIM, 3 * DIM)
    assert query.lora_A.shape == value.lora_A.shape == (2, DIM)
    assert not torch.equal(query.lora_A, value.lora_A)


def test_a_starts_kaiming_uniform_and_b_zero() -> None:
    part = Adapter(tiny(), [LoraConfig(rank=8)]).parts["lora"]
    for name, value in part.named_parameters():
        if name.endswith("lora_B"):
            assert not value.any()
        else:
            bound = 1 / math.sqrt(DIM)
            assert value.abs().max() <= bound
            assert abs(float(value.detach().std()) - bound / math.sqrt(3)) < 0.1 * bound


def dora_weight(part: Lora, alpha: float, rank: int) -> torch.Tensor:
    (update,) = part.of(NAME)
    moved = linear(tiny(), NAME).weight + alpha / rank * update.lora_B @ update.lora_A
    magnitude = dict(update.named_parameters())["magnitude"]
    return magnitude[:, None] * moved / moved.norm(dim=1, keepdim=True)


@torch.no_grad()
def test_dora_scales_directions_by_lengths() -> None:
    part = part_of(DoraConfig(rank=3, alpha=6.0, projections=()))
    layer, x = linear(tiny(), NAME), tokens()
    weight = dora_weight(part, 6.0, 3)
    part.attach(tiny())
    found = layer(x)
    part.detach()
    assert torch.allclose(found, x @ weight.T + layer.bias, atol=1e-5)
    assert torch.allclose(part.merged(tiny())[f"{NAME}.weight"], weight, atol=1e-6)


def test_dora_takes_the_norm_for_a_constant() -> None:
    part = part_of(DoraConfig(rank=3, alpha=3.0, projections=()))
    (update,) = part.of(NAME)
    layer, x = linear(tiny(), NAME), tokens()
    part.attach(tiny())
    layer(x).square().sum().backward()
    part.detach()
    found = {name: value.grad for name, value in update.named_parameters()}
    lower, upper, lengths = (value.detach().requires_grad_() for value in update.parameters())
    moved = layer.weight + upper @ lower
    weight = lengths[:, None] * moved / moved.norm(dim=1, keepdim=True).detach()
    (x @ weight.T + layer.bias).square().sum().backward()
    for name, expected in (("lora_A", lower), ("lora_B", upper), ("magnitude", lengths)):
        assert found[name] is not None
        assert torch.allclose(found[name], expected.grad, rtol=1e-3, atol=1e-3), name


def test_dora_lengths_start_as_the_weights() -> None:
    part = Adapter(tiny(), [DoraConfig()]).parts["dora"]
    if not isinstance(part, Lora):
        raise TypeError(part)
    query, value = (dict(update.named_parameters())["magnitude"] for update in part.of(NAME))
    lengths = linear(tiny(), NAME).weight.norm(dim=1)
    assert torch.allclose(query, lengths[:DIM])
    assert torch.allclose(value, lengths[2 * DIM :])


@torch.no_grad()
def test_dora_leaves_a_row_of_zeros_alone() -> None:
    layer = linear(tiny(), NAME)
    row = layer.weight[7].clone()
    layer.weight[7] = 0
    try:
        part = Adapter(tiny(), [DoraConfig()]).parts["dora"]
        x = tokens()
        plain = layer(x)
        part.attach(tiny())
        found = layer(x)
        part.detach()
        assert torch.equal(found, plain)
        assert torch.isfinite(part.merged(tiny())[f"{NAME}.weight"]).all()
    finally:
        layer.weight[7] = row


@pytest.mark.parametrize("kind", [LoraConfig, DoraConfig])
def test_they_compute_in_half_precision_too(kind: type[LoraConfig]) -> None:
    part = part_of(kind())
    layer, x = linear(tiny(), NAME), tokens()
    part.attach(tiny())
    exact = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(x)
        found.float().sum().backward()
    part.detach()
    assert torch.allclose(found.float(), exact, atol=0.1)
    assert all(value.grad is not None for value in part.of(NAME)[0].parameters())


COUNTS = {  # rank 4, 8, 16, 32 of vit_b and 4, 16 of the others, from the table of the sources
    Architecture.VIT_B: {4: (147_456, 221_184, 589_824), 8: (294_912, 442_368, 1_179_648)},
    Architecture.VIT_L: {4: (393_216, 589_824, 1_572_864), 16: (1_572_864, 2_359_296, 6_291_456)},
    Architecture.VIT_H: {4: (655_360, 983_040, 2_621_440), 16: (2_621_440, 3_932_160, 10_485_760)},
}


@pytest.mark.parametrize("architecture", list(COUNTS))
def test_the_sizes_of_the_sources(architecture: Architecture) -> None:
    for rank, counts in COUNTS[architecture].items():
        for layers, expected in zip(((Layer.QKV,), (Layer.QKV, Layer.PROJ), EVERY_LAYER), counts, strict=True):
            for projections in ((), (Projection.Q, Projection.V)):
                config = LoraConfig(rank=rank, layers=layers, projections=projections)
                assert config.plan(meta(architecture)).trainable == expected
    late = LoraConfig(start=0.5).plan(meta(architecture))
    assert late.trainable == COUNTS[architecture][4][0] // 2


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(rank=0),
        LoraConfig(rank=193),
        LoraConfig(layers=()),
        LoraConfig(projections=(Projection.Q, Projection.Q)),
        LoraConfig(start=0.5, stop=0.5),
        LoraConfig(alpha=0.0),
        LoraConfig(alpha=-1.0),
        LoraConfig(alpha=math.nan),
        LoraConfig(start=-0.5),
        LoraConfig(stop=1.5),
        LoraConfig(start=0.01, stop=0.02),
    ],
)
def test_settings_that_do_not_fit_are_refused(config: LoraConfig) -> None:
    for one in (config, DoraConfig(**{name: getattr(config, name) for name in vars(config)})):
        with pytest.raises(TuningError):
            one.plan(tiny())
        with pytest.raises(TuningError):
            one.build(tiny())


def test_late_lora_begins_half_way() -> None:
    config = LoraConfig(start=0.5, layers=(Layer.LIN2, Layer.QKV))
    assert config.plan(tiny()).sites == tuple(
        f"image_encoder.blocks.{index}.{layer}" for index in (3, 4, 5) for layer in ("attn.qkv", "mlp.lin2")
    )
    assert (
        replace(config, start=0.0, stop=1 / 3)
        .plan(meta(Architecture.VIT_B))
        .sites[-1]
        .startswith("image_encoder.blocks.3.")
    )


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from([*Architecture]))
def test_ranges_of_blocks_lie_within_the_encoder(start: float, stop: float, architecture: Architecture) -> None:
    sam = meta(architecture)
    depth = len(sam.image_encoder.blocks)
    try:
        found = Blocks(start, stop).of(sam)
    except TuningError:
        assert start >= stop or round(start * depth) == round(stop * depth)
        return
    assert found
    assert 0 <= found.start < found.stop <= depth
    assert abs(found.start - start * depth) <= 0.5
    assert abs(found.stop - stop * depth) <= 0.5
    assert len(linear_names(found, EVERY_LAYER)) == 4 * len(found)


@given(st.integers(1, 32), st.data())
def test_whole_blocks_as_shares_are_those_blocks(depth: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, depth - 1))
    last = data.draw(st.integers(first + 1, depth))
    assert range(round(first / depth * depth), round(last / depth * depth)) == range(first, last)


def test_ranges_meet_where_they_should() -> None:
    for architecture in Architecture:
        sam = meta(architecture)
        pieces = [Blocks(third / 3, (third + 1) / 3).of(sam) for third in range(3)]
        assert [index for piece in pieces for index in piece] == list(range(len(sam.image_encoder.blocks)))


def test_another_network_is_told() -> None:
    with pytest.raises(TuningError, match="another base model"):
        linear(tiny(), "image_encoder.blocks.99.attn.qkv")
    with pytest.raises(TuningError, match="another base model"):
        linear(tiny(), "image_encoder.blocks.0.norm1")
