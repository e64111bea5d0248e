"""Deep fusion: scales, gates, and that an absent modality contributes nothing."""

from __future__ import annotations

import pytest
import torch
from samtune.models.heads.fusion import ChannelGate, DeepFusion, FeaturePyramid, bare_pyramid, half

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def counted(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def test_the_count_is_the_sources() -> None:
    assert counted(DeepFusion(2, CPU)) == 1_643_136
    assert counted(FeaturePyramid(CPU)) == 3 * (256 * 256 * 4 + 256) + 512
    assert counted(ChannelGate(CPU)) == 2 * 256 * 16 + 16 + 256


@pytest.mark.parametrize("size", [(1, 1), (5, 4), (8, 8)])
@pytest.mark.parametrize("streams", [1, 2])
def test_four_scales(size: tuple[int, int], streams: int) -> None:
    height, width = size
    with torch.no_grad():
        found = DeepFusion(2, CPU)([torch.randn(2, 256, height, width) for _ in range(streams)])
    shapes = [tuple(scale.shape) for scale in found]
    assert shapes == [
        (2, 256, 4 * height, 4 * width),
        (2, 256, 2 * height, 2 * width),
        (2, 256, height, width),
        (2, 256, -(-height // 2), -(-width // 2)),
    ]
    assert [tuple(scale.shape) for scale in bare_pyramid(torch.randn(2, 256, height, width))] == shapes


def test_the_gate_follows_its_formula() -> None:
    gate = ChannelGate(CPU)
    t = torch.randn(3, 256, 4, 5)
    with torch.no_grad():
        pooled = t.mean(dim=(2, 3))
        hidden = (pooled @ gate.squeeze.weight.T + gate.squeeze.bias).clamp_min(0)
        weights = torch.sigmoid(hidden @ gate.excite.weight.T + gate.excite.bias)
        torch.testing.assert_close(gate(t), t * weights[:, :, None, None])


def test_the_sum_of_modalities_each_behind_its_own_gate() -> None:
    fusion = DeepFusion(2, CPU)
    x, y = torch.randn(1, 256, 4, 4), torch.randn(1, 256, 4, 4)
    with torch.no_grad():
        joined = fusion([x, y])
        for scale in range(4):
            parts = [fusion.gates[scale][index](fusion.pyramids[index](z)[scale]) for index, z in enumerate((x, y))]
            torch.testing.assert_close(joined[scale], parts[0] + parts[1])
            torch.testing.assert_close(fusion([x])[scale], parts[0])


def test_modalities_have_layers_of_their_own() -> None:
    fusion = DeepFusion(2, CPU)
    x, y = torch.randn(1, 256, 4, 4), torch.randn(1, 256, 4, 4)
    with torch.no_grad():
        assert not torch.allclose(fusion([x, y])[0], fusion([y, x])[0], atol=1e-3)


def test_the_norm_is_over_the_channels_of_every_place() -> None:
    pyramid = FeaturePyramid(CPU)
    z = torch.randn(2, 256, 3, 3)
    with torch.no_grad():
        normed = pyramid.four[1](pyramid.four[0](z))
    torch.testing.assert_close(normed.mean(dim=1), torch.zeros(2, 6, 6), atol=1e-4, rtol=0)
    torch.testing.assert_close(normed.std(dim=1, correction=0), torch.ones(2, 6, 6), atol=1e-3, rtol=0)


def test_the_bare_pyramid_keeps_values() -> None:
    flat = bare_pyramid(torch.full((1, 256, 4, 4), 2.5))
    assert all(torch.equal(scale, torch.full_like(scale, 2.5)) for scale in flat)
    z = torch.randn(1, 256, 4, 4)
    four, two, one, least = bare_pyramid(z)
    assert one is z
    inner = torch.nn.functional.avg_pool2d(two, 2)[..., 1:-1, 1:-1]
    # Enlarged by two, a cell's four parts average to 9/16 of it, 3/32 of each neighbour and 1/64 of each corner.
    kernel = torch.tensor([[1.0, 6, 1], [6, 36, 6], [1, 6, 1]]).div(64).expand(256, 1, 3, 3)
    torch.testing.assert_close(inner, torch.nn.functional.conv2d(z, kernel, groups=256))
    assert torch.equal(least, z.unflatten(-1, (2, 2)).unflatten(-3, (2, 2)).amax(dim=(-1, -3)))
    assert four.abs().max() <= z.abs().max()


def test_half_of_an_odd_size_keeps_the_last_row_and_column() -> None:
    z = torch.zeros(1, 1, 3, 3)
    z[..., 2, 2] = 7
    assert half(z).tolist() == [[[[0, 0], [0, 7]]]]


def test_gradients_reach_everything() -> None:
    fusion = DeepFusion(2, CPU)
    found = fusion([torch.randn(2, 256, 3, 3), torch.randn(2, 256, 3, 3)])
    torch.stack([(scale * torch.randn_like(scale)).sum() for scale in found]).sum().backward()
    for name, value in fusion.named_parameters():
        assert value.grad is not None and value.grad.abs().max() > 0, name
