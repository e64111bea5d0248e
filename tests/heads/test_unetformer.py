"""The decoder: the source's count, its formulas, and inputs of any size."""

from __future__ import annotations

import pytest
import torch
from samtune.models.heads.fusion import bare_pyramid
from samtune.models.heads.unetformer import (
    GlobalLocalBlock,
    Refinement,
    UnetformerDecoder,
    WeightedJoin,
    WindowAttention,
    relative_places,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def counted(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def test_the_count_is_the_sources() -> None:
    assert counted(UnetformerDecoder(6, 64)) == 515_102
    assert f"{counted(UnetformerDecoder(6, 64)) / 1e6:.3f}" == "0.515"
    assert counted(GlobalLocalBlock(64)) == 96_968
    assert counted(UnetformerDecoder(7, 64)) == 515_102 + 64


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (16, 16), (17, 9)])
def test_any_size_gives_four_times_the_cells(size: tuple[int, int]) -> None:
    decoder = UnetformerDecoder(3, 16).eval()
    with torch.no_grad():
        logits = decoder(bare_pyramid(torch.randn(2, 256, *size)))
    assert logits.shape == (2, 3, 4 * size[0], 4 * size[1])
    assert torch.isfinite(logits).all()


def by_hand(attention: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """Return attention within one window (8 x 8 or less), cell by cell from the formula."""
    batch, width, rows, columns = x.shape
    q, k, v = attention.qkv(x).flatten(2).transpose(1, 2).reshape(batch, -1, 3, 8, width // 8).unbind(2)
    out = torch.zeros(batch, rows * columns, 8, width // 8)
    for one in range(rows * columns):
        for head in range(8):
            logits = []
            for other in range(rows * columns):
                down, right = one // columns - other // columns, one % columns - other % columns
                bias = attention.places[(down + 7) * 15 + right + 7, head]
                logits.append((q[:, one, head] * k[:, other, head]).sum(-1) * (width // 8) ** -0.5 + bias)
            shares = torch.stack(logits, dim=-1).softmax(dim=-1)
            out[:, one, head] = torch.einsum("bn,bnc->bc", shares, v[:, :, head])
    return out.flatten(2).transpose(1, 2).reshape(batch, width, rows, columns)


@pytest.mark.parametrize("size", [(8, 8), (3, 4)])
def test_a_window_attends_as_the_formula_says_and_not_to_padding(size: tuple[int, int]) -> None:
    attention = WindowAttention(16)
    torch.nn.init.normal_(attention.places)
    x = torch.randn(2, 16, *size)
    with torch.no_grad():
        torch.testing.assert_close(attention._attend(x), by_hand(attention, x), atol=1e-5, rtol=1e-4)


def test_windows_do_not_see_each_other_but_for_the_smoothing() -> None:
    attention = WindowAttention(16)
    x = torch.randn(1, 16, 16, 24)
    other = x.clone()
    other[..., :8, 8:16] += 1
    with torch.no_grad():
        changed = (attention._attend(x) - attention._attend(other)).abs().amax(dim=(0, 1)) > 1e-7
    assert changed[:8, 8:16].all()
    assert int(changed.sum()) == 64


def test_relative_places_are_one_for_every_displacement() -> None:
    pairs = relative_places(3)
    assert pairs.shape == (9, 9) and pairs.min() == 0 and pairs.max() == 24
    assert pairs.unique().numel() == 25
    assert pairs[0, 4] == pairs[4, 8] != pairs[4, 0]


def test_the_join_weighs_by_two_positive_shares() -> None:
    join = WeightedJoin(16).eval()
    coarse, fine = torch.randn(1, 16, 2, 2), torch.randn(1, 256, 4, 4)
    larger = torch.nn.functional.interpolate(coarse, (4, 4), mode="bilinear")
    with torch.no_grad():
        narrow = join.narrow(fine)
        torch.testing.assert_close(join(coarse, fine), join.after((narrow + larger) / 2))
        join.weights.copy_(torch.tensor([3.0, 1.0]))
        torch.testing.assert_close(join(coarse, fine), join.after(0.75 * narrow + 0.25 * larger))
        join.weights.copy_(torch.tensor([-2.0, 5.0]))
        torch.testing.assert_close(join(coarse, fine), join.after(larger))
        join.weights.fill_(-1.0)
        assert torch.isfinite(join(coarse, fine)).all()


def test_the_refinement_gates_by_place_and_by_channel() -> None:
    refine = Refinement(16).eval()
    x = torch.randn(2, 16, 5, 5)
    with torch.no_grad():
        gated = x * (torch.sigmoid(refine.spatial(x)) + torch.sigmoid(refine.channel(x)))
        expected = (refine.project(gated) + refine.shortcut(x)).clamp(0, 6)
        torch.testing.assert_close(refine(x), expected)
    assert refine.channel(x).shape == (2, 16, 1, 1)


def test_gradients_reach_everything() -> None:
    decoder = UnetformerDecoder(3, 64)
    logits = decoder(bare_pyramid(torch.randn(2, 256, 4, 4)))
    (logits * torch.randn_like(logits)).sum().backward()
    for name, value in decoder.named_parameters():
        assert value.grad is not None and value.grad.abs().max() > 0, name


def test_in_use_images_of_a_batch_do_not_matter_to_each_other() -> None:
    decoder = UnetformerDecoder(3, 16).eval()
    z = torch.randn(2, 256, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(decoder(bare_pyramid(z))[1:], decoder(bare_pyramid(z[1:])), atol=1e-5, rtol=1e-4)
