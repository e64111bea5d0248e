"""The encoder's attention without the large table gives what SAM's own gives."""

from __future__ import annotations

import copy

import pytest
import torch
from samtune.models.fast_attention import attend, fastest_precision, speed_up
from samtune.models.sam_modules import Block, ImageEncoderViT
from samtune.models.tiny import build_tiny


def block(dim: int, heads: int, grid: tuple[int, int], window: int = 0) -> Block:
    torch.manual_seed(1)
    made = Block(
        dim=dim, num_heads=heads, use_rel_pos=True, rel_pos_zero_init=False, window_size=window, input_size=grid
    )
    torch.nn.init.normal_(made.attn.rel_pos_h)
    torch.nn.init.normal_(made.attn.rel_pos_w)
    return made.eval()


@pytest.mark.parametrize("grid", [(1, 1), (7, 7), (6, 9), (32, 32)])
@pytest.mark.parametrize("heads", [1, 3])
def test_equals_the_attention_of_sam(grid: tuple[int, int], heads: int) -> None:
    attention = block(24, heads, grid).attn
    x = torch.randn(2, *grid, 24)
    with torch.no_grad():
        torch.testing.assert_close(attend(attention, x), attention(x), atol=1e-5, rtol=1e-5)


def test_equals_it_on_a_grid_of_another_size_than_the_trained_one() -> None:
    attention = block(24, 2, (8, 8)).attn
    x = torch.randn(1, 12, 12, 24)
    with torch.no_grad():
        torch.testing.assert_close(attend(attention, x), attention(x), atol=1e-5, rtol=1e-5)


def test_gives_the_same_gradients() -> None:
    attention = block(24, 2, (5, 6)).attn
    gradients = []
    for run in (attention, lambda x: attend(attention, x)):
        attention.zero_grad()
        x = torch.linspace(-1, 1, 5 * 6 * 24).reshape(1, 5, 6, 24).requires_grad_()
        run(x).square().sum().backward()
        gradients.append([x.grad, *(p.grad.clone() for p in attention.parameters())])
    for own, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(own, theirs, atol=1e-4, rtol=1e-4)


def test_relative_positions_matter() -> None:
    attention = block(24, 2, (6, 6)).attn
    x = torch.randn(1, 6, 6, 24)
    with torch.no_grad():
        with_positions = attend(attention, x)
        attention.rel_pos_h.zero_()
        without = attend(attention, x)
    assert (with_positions - without).abs().max() > 1e-3


def test_a_whole_encoder_with_windows_gives_the_same_and_keeps_its_weights() -> None:
    torch.manual_seed(2)
    encoder = ImageEncoderViT(
        img_size=128, embed_dim=32, depth=3, num_heads=2, use_rel_pos=True, rel_pos_zero_init=False, window_size=3,
        global_attn_indexes=(2,), out_chans=16,
    ).eval()  # fmt: skip
    x = torch.randn(1, 3, 128, 128)
    names = list(encoder.state_dict())
    with torch.no_grad():
        expected = encoder(x)
        speed_up(encoder)
        torch.testing.assert_close(encoder(x), expected, atol=1e-5, rtol=1e-4)
    assert list(encoder.state_dict()) == names


def test_tiny_gives_the_same_also_on_a_window_of_its_grid() -> None:
    torch.manual_seed(3)
    encoder = build_tiny().image_encoder
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = encoder(x)
        speed_up(encoder)
        torch.testing.assert_close(encoder(x), expected, atol=1e-5, rtol=1e-4)


def test_a_copy_attends_with_its_own_weights() -> None:
    encoder = build_tiny().image_encoder
    speed_up(encoder)
    twin = copy.deepcopy(encoder)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = encoder(x)
        for parameter in twin.blocks[0].attn.parameters():
            parameter.zero_()
        assert not torch.equal(twin(x), before)
        assert torch.equal(encoder(x), before)


def test_attention_without_relative_positions_is_left_alone() -> None:
    encoder = ImageEncoderViT(img_size=64, embed_dim=32, depth=1, num_heads=2, use_rel_pos=False, out_chans=16).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = encoder(x)
        speed_up(encoder)
        torch.testing.assert_close(encoder(x), expected, atol=1e-5, rtol=1e-5)
    assert "forward" not in vars(encoder.blocks[0].attn)


@pytest.mark.parametrize(
    ("abilities", "half"),
    [
        ({}, False),
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": False, "avx2": True}, False),
    ],
)
def test_the_processor_computes_in_half_precision_only_where_it_can(
    monkeypatch: pytest.MonkeyPatch, abilities: dict[str, bool], half: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    with fastest_precision(torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu") is half
    assert not torch.is_autocast_enabled("cpu")
