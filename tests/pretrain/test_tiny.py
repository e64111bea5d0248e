"""The compact network: sizes, windows, the stem's folded weights, batched decoding."""

from __future__ import annotations

import sys

import pytest
import torch
from samtune.models.batch_decode import decode_batch
from samtune.models.conv_stem import ConvStem, fold_published
from samtune.models.errors import WeightsError
from samtune.models.losses import dice, focal, true_iou
from samtune.models.prompt_mask import draw_prompts
from samtune.models.sam_modules import Sam, import_modeling
from samtune.models.tiny import build_tiny
from torch import nn


@pytest.fixture(scope="module")
def tiny() -> Sam:
    torch.manual_seed(0)
    return build_tiny()


def test_segment_anything_is_imported_without_its_package_file() -> None:
    modeling = import_modeling()
    assert modeling.__name__ == "segment_anything.modeling"
    assert "torchvision" not in sys.modules
    assert import_modeling() is modeling


def test_it_is_small_enough_to_ship(tiny: Sam) -> None:
    count = sum(parameter.numel() for parameter in tiny.parameters())
    assert 5e6 < count < 12e6
    assert 2 * count < 20e6


@pytest.mark.parametrize(("height", "width"), [(512, 512), (256, 256), (64, 128), (544, 528)])
def test_any_multiple_of_sixteen_is_encoded(tiny: Sam, height: int, width: int) -> None:
    with torch.no_grad():
        embedding = tiny.image_encoder(torch.zeros(1, 3, height, width))
    assert embedding.shape == (1, 256, height // 16, width // 16)
    assert embedding.isfinite().all()


def test_a_window_uses_the_positions_of_its_place() -> None:
    torch.manual_seed(1)
    sam = build_tiny()
    nn.init.normal_(sam.image_encoder.pos_embed)
    image = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        here, there = sam.image_encoder(image, 3, 5), sam.image_encoder(image, 0, 0)
        moved = torch.roll(sam.image_encoder.pos_embed, (-3, -5), (1, 2))
        sam.image_encoder.pos_embed.copy_(moved)
        again = sam.image_encoder(image, 0, 0)
    assert torch.allclose(here, again, atol=1e-5)
    assert not torch.allclose(here, there, atol=1e-3)


def test_relative_positions_are_cut_not_shrunk() -> None:
    torch.manual_seed(1)
    sam = build_tiny()
    for block in sam.image_encoder.blocks:
        nn.init.zeros_(block.attn.rel_pos_h)
        # Only distances of 16 tokens and more matter: none within a window of 8 tokens.
        block.attn.rel_pos_h.data[: 31 - 15] = 5.0
        block.attn.rel_pos_h.data[31 + 16 :] = 5.0
    image = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        far = sam.image_encoder(image)
        for block in sam.image_encoder.blocks:
            nn.init.zeros_(block.attn.rel_pos_h)
        none = sam.image_encoder(image)
    assert torch.allclose(far, none, atol=1e-5)


class _Published(nn.Module):
    """The first layers as published: convolution, then batch normalisation, under the published names."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)


def _published_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    stem = ConvStem(8)
    state: dict[str, torch.Tensor] = {}

    def add(conv: str, norm: str, weight: torch.Tensor) -> None:
        state[f"{conv}.weight"] = torch.randn(weight.shape, generator=generator) * 0.1
        for name in ("weight", "running_var"):
            state[f"{norm}.{name}"] = torch.rand(weight.shape[0], generator=generator) + 0.5
        for name in ("bias", "running_mean"):
            state[f"{norm}.{name}"] = torch.randn(weight.shape[0], generator=generator)

    add("_conv_stem", "_bn0", stem.first.weight)
    for index, block in enumerate(stem.blocks):
        if block.expand is not None:
            add(f"_blocks.{index}._expand_conv", f"_blocks.{index}._bn0", block.expand.weight)
        add(f"_blocks.{index}._depthwise_conv", f"_blocks.{index}._bn1", block.depthwise.weight)
        add(f"_blocks.{index}._project_conv", f"_blocks.{index}._bn2", block.project.weight)
    return state


def test_folding_equals_convolution_and_batch_normalisation() -> None:
    state = _published_state()
    published = _Published().eval()
    published.load_state_dict(
        {name: state[name] for name in state if name.startswith(("_conv_stem", "_bn0"))}, strict=False
    )
    stem = ConvStem(8)
    missing, unexpected = stem.load_state_dict(fold_published(state), strict=False)
    assert sorted(missing) == ["proj.bias", "proj.weight"]
    assert unexpected == []
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        padded = nn.functional.pad(image, (0, 1, 0, 1))
        expected = published._bn0(published._conv_stem(padded))
        assert torch.allclose(stem.first(image), expected, atol=1e-5)
        assert stem(image).shape == (1, 2, 2, 8)


def test_another_file_is_refused() -> None:
    state = _published_state()
    del state["_blocks.3._bn1.running_mean"]
    with pytest.raises(WeightsError, match="EfficientNet-Lite0"):
        fold_published(state)


@pytest.mark.parametrize("boxed", [False, True])
def test_batched_decoding_equals_sam(tiny: Sam, *, boxed: bool) -> None:
    torch.manual_seed(2)
    embeddings = torch.randn(2, 256, 32, 32)
    points = torch.rand(4, 2, 2) * 512
    labels = torch.tensor([[1, 0]] * 4)
    boxes = torch.tensor([[40.0, 50.0, 300.0, 310.0]] * 4) if boxed else None
    planes = draw_prompts((128, 128), points, labels, boxes)
    with torch.no_grad():
        logits, iou = decode_batch(tiny, embeddings, points, labels, boxes, planes)
        for index in range(4):
            sparse, dense = tiny.prompt_encoder(
                (points[index : index + 1] - 0.5, labels[index : index + 1].float()),
                None if boxes is None else boxes[index : index + 1] - 0.5,
                planes[index : index + 1],
            )
            expected, score = tiny.mask_decoder.predict_masks(
                embeddings[index // 2 : index // 2 + 1], tiny.prompt_encoder.get_dense_pe(), sparse, dense
            )
            assert torch.allclose(logits[index], expected[0], atol=1e-4)
            assert torch.allclose(iou[index], score[0], atol=1e-4)


def test_a_window_of_the_grid_has_the_positions_of_its_place(tiny: Sam) -> None:
    torch.manual_seed(3)
    embeddings = torch.randn(1, 256, 8, 8)
    points, labels = torch.rand(1, 1, 2) * 128, torch.ones(1, 1)
    planes = draw_prompts((32, 32), points, labels)
    with torch.no_grad():
        first, _ = decode_batch(tiny, embeddings, points, labels, None, planes, (0, 0))
        moved, _ = decode_batch(tiny, embeddings, points, labels, None, planes, (7, 11))
    assert first.shape == (1, 4, 32, 32)
    assert not torch.allclose(first, moved, atol=1e-4)


def test_losses_of_known_answers() -> None:
    target = torch.zeros(1, 8, 8)
    target[0, :4] = 1.0
    right, wrong = (target * 2 - 1) * 20, (1 - target * 2) * 20
    assert focal(right, target).item() == pytest.approx(0.0, abs=1e-6)
    assert focal(wrong, target).item() == pytest.approx(0.5 * 20, rel=1e-3)
    assert dice(right, target).item() == pytest.approx(0.0, abs=1e-4)
    assert dice(wrong, target).item() > 0.95
    assert true_iou(right, target).item() == 1.0
    assert true_iou(wrong, target).item() == 0.0
    assert true_iou(-torch.ones(1, 4, 4), torch.zeros(1, 4, 4)).item() == 0.0


def test_dice_is_least_at_the_shares_themselves() -> None:
    target = torch.tensor([[[0.0, 0.25], [0.75, 1.0]]]).repeat(1, 4, 4)
    exact = torch.logit(target.clamp(1e-4, 1 - 1e-4))
    sharper = torch.where(target > 0.5, 8.0, -8.0)
    assert dice(exact, target).item() < dice(sharper, target).item()
