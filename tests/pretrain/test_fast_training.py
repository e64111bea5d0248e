"""The faster step computes what the plain one does."""

from __future__ import annotations

import copy

import pytest
import torch
from samtune.engine.pretrain.fast_training import speed_up_training
from samtune.models.conv_stem import ConvStem
from samtune.models.prompt_mask import contrast, draw_prompts, likeness
from samtune.models.tiny import build_tiny
from torch import nn


class _Whole(nn.Module):
    """A part of a network where ``speed_up_training`` looks for it."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.image_encoder = nn.Module()
        self.image_encoder.patch_embed = stem
        self.image_encoder.blocks = nn.ModuleList()


def gradients(module: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    given = x.clone().requires_grad_()
    out = module(given)
    (out**2).mean().backward()
    assert given.grad is not None
    return out.detach(), given.grad, {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def stems() -> tuple[nn.Module, nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    plain = ConvStem(16).to(memory_format=torch.channels_last)
    fast = copy.deepcopy(plain)
    speed_up_training(_Whole(fast))  # type: ignore[arg-type]
    return plain, fast, torch.randn(2, 3, 64, 64)


def test_stem_and_all_its_gradients_stay() -> None:
    plain, fast, x = stems()
    outs, inputs, weights = zip(gradients(plain, x), gradients(fast, x), strict=True)
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*inputs)
    assert weights[0].keys() == weights[1].keys()
    for name, found in weights[0].items():
        torch.testing.assert_close(weights[1][name], found, msg=name)


def test_the_stem_in_half_precision_differs_by_rounding_only() -> None:
    plain, fast, x = stems()
    exact = gradients(plain, x)
    plain.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        rough = gradients(fast, x)
    for name, found in exact[2].items():
        assert rough[2][name].dtype == torch.float32
        similar = torch.nn.functional.cosine_similarity(rough[2][name].flatten(), found.flatten(), dim=0)
        assert similar > 0.98, name


def test_frozen_filters_get_no_gradient() -> None:
    _, fast, x = stems()
    frozen = next(module for module in fast.modules() if isinstance(module, nn.Conv2d) and module.groups > 1)
    frozen.requires_grad_(requires_grad=False)
    _, _, weights = gradients(fast, x)
    assert frozen.weight.grad is None
    assert len(weights) > 10


def test_the_whole_encoder_and_its_weights_names_stay() -> None:
    torch.manual_seed(1)
    plain = build_tiny()
    with torch.no_grad():  # SAM starts these at zero, which would hide a mistake
        for block in plain.image_encoder.blocks:
            block.attn.rel_pos_h.normal_(std=0.1)
            block.attn.rel_pos_w.normal_(std=0.1)
    fast = copy.deepcopy(plain)
    speed_up_training(fast)
    assert list(fast.state_dict()) == list(plain.state_dict())
    x = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(fast.image_encoder(x, 3, 5), plain.image_encoder(x, 3, 5), rtol=1e-4, atol=1e-4)


def test_copies_of_a_fast_network_are_their_own() -> None:
    """Validation copies the network and loads other weights into the copy."""
    _, fast, x = stems()
    copied = copy.deepcopy(fast)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
        assert float(copied(x).abs().max()) == 0.0
        assert float(fast(x).abs().max()) > 0.0


@pytest.mark.parametrize("objects", [1, 3])
def test_prompts_of_several_objects_share_their_images_embedding(objects: int) -> None:
    generator = torch.Generator().manual_seed(2)
    embeddings = torch.randn(2, 8, 6, 6, generator=generator)
    points = torch.rand(2 * objects, 2, 2, generator=generator) * 96
    labels = torch.tensor([[1, 0]] * 2 * objects)
    low = torch.rand(2 * objects, 2, generator=generator) * 40
    boxes = torch.cat([low, low + 30], dim=1)
    repeated = embeddings.repeat_interleave(objects, dim=0)
    torch.testing.assert_close(
        likeness(embeddings, points, labels, (24, 24)), likeness(repeated, points, labels, (24, 24))
    )
    torch.testing.assert_close(contrast(embeddings, boxes, (24, 24)), contrast(repeated, boxes, (24, 24)))
    drawn = draw_prompts((24, 24), points, labels, boxes, None, embeddings)
    torch.testing.assert_close(drawn, draw_prompts((24, 24), points, labels, boxes, None, repeated))
