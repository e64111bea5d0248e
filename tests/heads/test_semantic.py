"""The semantic head: sizes, that unlabelled pixels do not exist for the loss, that it learns."""

from __future__ import annotations

import math

import pytest
import torch
from samtune.models.card import Architecture
from samtune.models.encoder import Features
from samtune.models.heads.contract import IGNORE
from samtune.models.heads.semantic import (
    Semantic,
    SemanticConfig,
    class_map,
    class_weights,
    semantic_loss,
)
from samtune.models.loading import build
from samtune.models.peft.contract import SideInputs, TuningError, count
from samtune.models.peft.registry import config_from_json
from samtune.models.tiny import build_tiny
from torch.nn import functional

from .scenes import SIZE, discs, random_features, seen, shipped


def _head(classes: int = 2, seed: int = 0) -> Semantic:
    torch.manual_seed(seed)
    head = SemanticConfig(classes).build(build_tiny())
    assert isinstance(head, Semantic)
    return head


@pytest.mark.parametrize(
    ("architecture", "trainable", "taps"),
    [
        (Architecture.TINY, 144_550, (1, 3, 5)),
        (Architecture.VIT_B, 309_862, (1, 3, 5, 7, 9, 11)),
        (Architecture.VIT_L, 627_430, tuple(range(1, 24, 2))),
        (Architecture.VIT_H, 943_590, tuple(range(1, 32, 2))),
    ],
)
def test_it_is_small_and_looks_at_every_second_block(
    architecture: Architecture, trainable: int, taps: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        sam = build(architecture)
    config = SemanticConfig(classes=6)
    assert config.collect(sam) == taps
    assert config.plan(sam).trainable == trainable
    assert not config.plan(sam).replaced


def test_the_plan_counts_what_is_built() -> None:
    head = _head(3)
    assert head.config.plan(build_tiny()).trainable == count(head.parameters())
    assert all(value.requires_grad for value in head.parameters())


def test_it_touches_nothing_of_the_base() -> None:
    sam, head = build_tiny(), _head()
    before = {name: len(module._forward_hooks) for name, module in sam.named_modules()}
    head.attach(sam)
    assert {name: len(module._forward_hooks) for name, module in sam.named_modules()} == before
    head.detach()


def test_logits_have_a_quarter_of_the_size() -> None:
    logits = _head(5)(random_features(2, side=6))
    assert logits.shape == (2, 5, 24, 24)
    assert logits.dtype == torch.float32


def test_it_works_on_any_size_with_the_same_answer_in_the_middle() -> None:
    """Norms are over channels alone: more ground around does not change what a place looks like."""
    head, wide = _head(), random_features(side=24)
    cut = Features(wide.embedding[..., 6:18, 6:18], {k: v[:, 6:18, 6:18] for k, v in wide.blocks.items()})
    with torch.no_grad():
        whole, part = head(wide), head(cut)
    assert torch.allclose(whole[..., 44:52, 44:52], part[..., 20:28, 20:28], atol=1e-4)


def test_two_streams_are_averaged_and_one_twice_is_one() -> None:
    head, one = _head(), random_features(2)
    twice = Features(torch.cat([one.embedding] * 2), {k: torch.cat([v] * 2) for k, v in one.blocks.items()})
    with torch.no_grad():
        alone = head(one)
        head.side = SideInputs(streams=2)
        both = head(twice)
    assert torch.allclose(alone, both, atol=1e-5)


def test_every_tapped_block_and_the_embedding_matter() -> None:
    head, features = _head(), random_features()
    with torch.no_grad():
        answer = head(features)
        for tap in features.blocks:
            others = {k: (torch.zeros_like(v) if k == tap else v) for k, v in features.blocks.items()}
            assert not torch.allclose(head(Features(features.embedding, others)), answer, atol=1e-3)
        assert not torch.allclose(
            head(Features(torch.zeros_like(features.embedding), features.blocks)), answer, atol=1e-3
        )


def test_one_class_is_refused() -> None:
    with pytest.raises(TuningError, match="two classes"):
        SemanticConfig(classes=1).build(build_tiny())


def test_settings_survive_json() -> None:
    config = SemanticConfig(classes=7)
    assert config_from_json(config.to_json()) == config


def test_the_loss_is_cross_entropy_plus_dice() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    rows, flat = logits.permute(0, 2, 3, 1).reshape(-1, 3), labels.flatten()
    chances = rows.softmax(1)
    dice = 0.0
    for kind in range(3):
        truth = (flat == kind).float()
        dice += 1 - 2 * (chances[:, kind] * truth).sum() / ((chances[:, kind] ** 2).sum() + truth.sum())
    expected = functional.cross_entropy(rows, flat) + dice / 3
    assert torch.allclose(semantic_loss(logits, labels), expected, atol=1e-6)
    assert torch.allclose(semantic_loss(logits, labels, dice_share=0.0), functional.cross_entropy(rows, flat))


def test_unlabelled_pixels_do_not_exist() -> None:
    """The loss and its gradient are those of the labelled columns alone; even NaN on unlabelled ground does nothing."""
    torch.manual_seed(0)
    whole = torch.randn(2, 3, 8, 12)
    labels = torch.randint(0, 3, (2, 8, 12))
    labels[:, :, 7:] = IGNORE
    poisoned = whole.clone()
    poisoned[:, :, :, 7:] = torch.nan
    first, second = whole[..., :7].clone().requires_grad_(), poisoned.requires_grad_()
    alone, among = semantic_loss(first, labels[..., :7]), semantic_loss(second, labels)
    alone.backward()
    among.backward()
    assert torch.equal(alone, among)
    assert first.grad is not None and second.grad is not None
    assert torch.equal(first.grad, second.grad[..., :7])
    assert torch.equal(second.grad[..., 7:], torch.zeros(2, 3, 8, 5))


def test_no_labels_at_all_are_no_loss() -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = semantic_loss(logits, torch.full((1, 16, 16), IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_absent_classes_have_no_dice() -> None:
    """A sure and right answer costs next to nothing although two of the classes do not occur."""
    logits = torch.full((1, 4, 4, 4), -20.0)
    logits[:, 1] = 20.0
    assert semantic_loss(logits, torch.ones(1, 4, 4, dtype=torch.int64)).item() < 1e-6


def test_a_weight_moves_the_loss_to_its_class() -> None:
    logits = torch.zeros(1, 2, 2, 2)
    logits[:, 0] = 2.0
    labels = torch.tensor([[[0, 0], [0, 1]]])
    even = semantic_loss(logits, labels, torch.tensor([1.0, 1.0]))
    rare = semantic_loss(logits, labels, torch.tensor([1.0, 9.0]))
    assert torch.allclose(even, semantic_loss(logits, labels))
    assert rare > even


def test_logits_are_resized_to_the_labels() -> None:
    logits, labels = torch.randn(1, 2, 4, 4), torch.randint(0, 2, (1, 16, 16))
    big = functional.interpolate(logits, (16, 16), mode="bilinear", align_corners=False)
    assert torch.allclose(semantic_loss(logits, labels), semantic_loss(big, labels))


def test_class_weights_are_the_inverse_roots_of_the_shares() -> None:
    labels = torch.tensor([0] * 36 + [1] * 4 + [IGNORE] * 60)
    weights = class_weights([labels[:50].view(2, 25), labels[50:]], 3)
    assert torch.allclose(weights[1] / weights[0], torch.tensor(3.0))
    assert math.isclose(float(weights[:2].mean()), 1.0, rel_tol=1e-6)
    assert weights[2] == 1
    assert torch.equal(class_weights([torch.full((3, 3), IGNORE)], 2), torch.ones(2))


def test_the_class_map_has_the_likeliest_class_and_its_probability() -> None:
    logits = torch.tensor([0.0, 2.0, -1.0])[None, :, None, None].expand(1, 3, 4, 4)
    found = class_map(logits, (16, 16))
    assert found.classes.shape == (1, 16, 16)
    assert (found.classes == 1).all()
    assert torch.allclose(found.confidence, torch.tensor([0.0, 2.0, -1.0]).softmax(0)[1].expand(1, 16, 16))


def test_it_learns_one_tile_within_a_hundred_steps() -> None:
    torch.manual_seed(0)
    head = SemanticConfig().build(shipped())
    labels = discs().masks.any(dim=0).long()[None]
    labels[:, :24] = IGNORE
    optimiser = torch.optim.AdamW(head.parameters(), 2e-3)
    for _ in range(60):
        optimiser.zero_grad()
        semantic_loss(head(seen()), labels).backward()
        optimiser.step()
    with torch.no_grad():
        found = class_map(head(seen()), (SIZE, SIZE)).classes
    answer, truth, known = found == 1, labels == 1, labels != IGNORE
    assert ((answer & truth).sum() / ((answer | truth) & known).sum()).item() > 0.9
