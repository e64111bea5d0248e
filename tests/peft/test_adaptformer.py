"""AdaptFormer: what it computes, where, and what learns."""

from __future__ import annotations

import pytest
import torch
from samtune.models.encoder import encode
from samtune.models.peft.adaptformer import AdaptFormer, AdaptFormerConfig
from samtune.models.peft.contract import TuningError
from torch.nn import functional

from .windowed import DIM, attached, embed, images, windowed_sam


def test_it_adds_the_scaled_bottleneck_of_the_normalised_tokens() -> None:
    sam = windowed_sam()
    block = sam.image_encoder.blocks[1]
    tokens = torch.randn(2, 5, 5, DIM)
    plain = block.mlp(tokens)
    adapter, part = attached(sam, AdaptFormerConfig(bottleneck=7, scale=0.3))
    assert isinstance(part, AdaptFormer)
    own = part.bottlenecks[1]
    middle = functional.relu(tokens @ own.down.weight.T + own.down.bias)
    expected = plain + 0.3 * (middle @ own.up.weight.T + own.up.bias)
    assert torch.allclose(block.mlp(tokens), expected, atol=1e-5)
    adapter.detach()
    assert torch.equal(block.mlp(tokens), plain)


def test_it_sees_what_the_second_norm_gives() -> None:
    sam = windowed_sam()
    block = sam.image_encoder.blocks[2]
    tokens = torch.randn(1, 5, 5, DIM)
    adapter, part = attached(sam, AdaptFormerConfig(scale=1.0))
    own = part.bottlenecks[2]  # type: ignore[union-attr, index]
    after_attention = tokens + block.attn(block.norm1(tokens))
    u = block.norm2(after_attention)
    adapter.detach()
    plain = block(tokens)
    adapter.attach(sam)
    assert torch.allclose(block(tokens), plain + own(u), atol=1e-4)


def test_only_the_down_projection_is_not_zero_at_the_start() -> None:
    _, part = attached(windowed_sam(), AdaptFormerConfig(), moved=False)
    for name, value in part.named_parameters():
        assert bool(value.any()) == name.endswith("down.weight"), name


@pytest.mark.parametrize(("start", "stop", "same"), [(0.34, 1.0, 1), (0.67, 1.0, 2), (0.0, 0.34, 0)])
def test_a_range_of_blocks_leaves_those_before_it_alone(start: float, stop: float, same: int) -> None:
    sam = windowed_sam()
    batch = images(1)
    plain = encode(sam.image_encoder, batch, collect=range(3)).blocks
    config = AdaptFormerConfig(start=start, stop=stop)
    _, part = attached(sam, config)
    changed = encode(sam.image_encoder, batch, collect=range(3)).blocks
    assert [torch.equal(plain[index], changed[index]) for index in range(3)] == [index < same for index in range(3)]
    assert len(part.bottlenecks) == len(config.plan(sam).sites) == (2 if start == 0.34 else 1)  # type: ignore[arg-type]


def test_at_first_only_the_up_projection_gets_a_gradient() -> None:
    sam = windowed_sam()
    _, part = attached(sam, AdaptFormerConfig(), moved=False)
    encode(sam.image_encoder, images(1)).embedding.square().sum().backward()
    for name, value in part.named_parameters():
        assert value.grad is not None
        assert bool(value.grad.any()) == (".up." in name), name
    assert all(value.grad is None for value in sam.parameters())


def test_it_works_in_half_precision() -> None:
    sam = windowed_sam()
    attached(sam, AdaptFormerConfig())
    batch = images(1)
    exact = embed(sam, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = embed(sam, batch)
    assert (rough.float() - exact).abs().mean() < 0.1 * exact.abs().mean()


@pytest.mark.parametrize("config", [AdaptFormerConfig(bottleneck=0), AdaptFormerConfig(scale=0.0)], ids=str)
def test_a_bottleneck_needs_a_width_and_a_say(config: AdaptFormerConfig) -> None:
    with pytest.raises(TuningError, match="at least 1, and a scale"):
        config.plan(windowed_sam())
