"""The instance head: targets drawn for objects, losses on known ground only."""

from __future__ import annotations

import math

import pytest
import torch
from samtune.models.card import Architecture
from samtune.models.heads.centres import BOX_HEAT, InstanceTargets, deepest, instance_targets
from samtune.models.heads.contract import IGNORE
from samtune.models.heads.instances import (
    InstanceMaps,
    Instances,
    InstancesConfig,
    giou_loss,
    instance_loss,
)
from samtune.models.loading import build
from samtune.models.peft.contract import TuningError, count
from samtune.models.peft.registry import config_from_json
from samtune.models.tiny import build_tiny

from .scenes import disc, random_features

ALL = torch.ones(1, 64, 64, dtype=torch.bool)


def _head(config: InstancesConfig, seed: int = 0) -> Instances:
    torch.manual_seed(seed)
    head = config.build(build_tiny())
    assert isinstance(head, Instances)
    return head


def _mask(*boxes: tuple[int, int, int, int], side: int = 64) -> torch.Tensor:
    """Return a mask of rectangles x0, y0, x1, y1."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def _targets(*masks: torch.Tensor, known: torch.Tensor = ALL, stride: int = 8) -> InstanceTargets:
    kinds = torch.zeros(len(masks), dtype=torch.int64)
    return instance_targets([torch.stack(masks)], [kinds], known, stride=stride)


def _maps(targets: InstanceTargets, seed: int = 0) -> InstanceMaps:
    random = torch.Generator().manual_seed(seed)
    heat = torch.randn(targets.heat.shape, generator=random)
    centre = 64 * torch.rand(targets.boxes[:, :2].shape, generator=random)
    half = 1 + 20 * torch.rand(centre.shape, generator=random)
    return InstanceMaps(
        heat.requires_grad_(), torch.cat([centre - half, centre + half], dim=1).requires_grad_(), targets.stride
    )


@pytest.mark.parametrize(
    ("architecture", "trainable"),
    [(Architecture.TINY, 202_021), (Architecture.VIT_B, 367_333), (Architecture.VIT_H, 1_001_061)],
)
def test_it_is_small(architecture: Architecture, trainable: int) -> None:
    with torch.device("meta"):
        sam = build(architecture)
    assert InstancesConfig().plan(sam).trainable == trainable


@pytest.mark.parametrize("stride", [16, 8, 4])
def test_the_stride_sets_the_size_of_the_maps(stride: int) -> None:
    config = InstancesConfig(classes=3, stride=stride)
    head = _head(config)
    maps = head(random_features(2, side=8))
    assert maps.heat.shape == (2, 3, 128 // stride, 128 // stride)
    assert maps.boxes.shape == (2, 4, 128 // stride, 128 // stride)
    assert config.plan(build_tiny()).trainable == count(head.parameters())


def test_boxes_are_never_inverted_and_contain_their_cell() -> None:
    head = _head(InstancesConfig())
    for parameter in head.reaches.parameters():
        parameter.data *= 30
    boxes = head(random_features(side=8)).boxes
    cells = (torch.arange(16) + 0.5) * 8
    assert (boxes[:, 0] < cells[None, None, :]).all()
    assert (boxes[:, 2] > cells[None, None, :]).all()
    assert (boxes[:, 1] < cells[None, :, None]).all()
    assert (boxes[:, 3] > cells[None, :, None]).all()
    assert boxes.isfinite().all()


def test_a_new_head_expects_few_centres() -> None:
    heat = torch.sigmoid(_head(InstancesConfig())(random_features(side=8)).heat)
    assert 0.01 < heat.median() < 0.15


@pytest.mark.parametrize("config", [InstancesConfig(stride=6), InstancesConfig(classes=0)])
def test_impossible_settings_are_refused(config: InstancesConfig) -> None:
    with pytest.raises(TuningError, match="stride"):
        config.build(build_tiny())


def test_settings_survive_json() -> None:
    config = InstancesConfig(classes=4, stride=4)
    assert config_from_json(config.to_json()) == config


def test_heat_is_one_at_the_centre_and_falls_off_with_the_size() -> None:
    small = _targets(disc(64, 21.5, 29.5, 6), stride=4)
    large = _targets(disc(64, 32.0, 32.0, 30), stride=4)
    assert small.heat[0, 0, 7, 5] == 1
    assert (small.heat == 1).sum() == (large.heat == 1).sum() == 1
    assert (large.heat > 0.2).sum() > (small.heat > 0.2).sum()


def test_a_long_object_has_a_long_bump() -> None:
    heat = _targets(_mask((2, 28, 62, 36)), stride=4).heat[0, 0]
    row, column = divmod(int(heat.argmax()), 16)
    assert heat[row, column - 1] > 2 * heat[row - 1, column]


def test_boxes_are_the_objects_around_their_centres() -> None:
    targets = _targets(_mask((4, 8, 30, 26)), _mask((36, 40, 61, 64)))
    assert targets.boxes[0, :, 2, 2].tolist() == [4, 8, 30, 26]
    assert targets.boxes[0, :, 6, 6].tolist() == [36, 40, 61, 64]
    assert targets.weight[0, 2, 2] == targets.weight[0, 6, 6] == 1
    assert targets.weight[targets.weight > 0].min() >= BOX_HEAT
    assert targets.weight[0, 0, 7] == 0


def test_the_nearer_of_two_neighbours_has_the_cell() -> None:
    targets = _targets(_mask((0, 0, 40, 64)), _mask((40, 0, 64, 64)))
    assert targets.heat[0, 0].nonzero()[targets.heat[0, 0][targets.heat[0, 0] > 0] == 1].tolist() == [[3, 2], [3, 6]]
    assert targets.boxes[0, 2, 3, :5].tolist() == [0, 40, 40, 40, 0]
    assert targets.boxes[0, 0, 3, 5:].tolist() == [40, 40, 40]


def test_each_class_has_its_own_map() -> None:
    masks = torch.stack([disc(64, 16.0, 16.0, 8), disc(64, 48.0, 48.0, 8)])
    targets = instance_targets([masks], [torch.tensor([2, 0])], ALL, kinds=3)
    assert targets.heat.amax(dim=(2, 3))[0].tolist()[1] == 0
    assert targets.heat[0, 2].max() == targets.heat[0, 0].max() == 1


def test_images_without_objects_are_background() -> None:
    masks = [torch.zeros(0, 64, 64, dtype=torch.bool), disc(64, 32.0, 32.0, 9)[None]]
    kinds = [torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)]
    targets = instance_targets(masks, kinds, ALL.expand(2, -1, -1))
    assert not targets.heat[0].any()
    assert targets.heat[1].max() == 1
    assert targets.known.all()


def test_empty_masks_are_left_out() -> None:
    targets = _targets(torch.zeros(64, 64, dtype=torch.bool), disc(64, 32.0, 32.0, 9))
    assert (targets.heat == 1).sum() == 1


def test_a_cell_is_known_only_when_all_of_it_is() -> None:
    known = ALL.clone()
    known[0, 17, 40] = False
    targets = _targets(disc(64, 16.0, 48.0, 8), known=known)
    assert not targets.known[0, 2, 5]
    assert targets.known.sum() == 63


def test_an_object_smaller_than_a_cell_counts_where_only_it_is_labelled() -> None:
    mask = _mask((19, 19, 22, 22))
    targets = _targets(mask, known=mask[None])
    assert targets.known.sum() == 1
    assert targets.heat[targets.known[:, None]].item() == 1
    unknown = _targets(mask, known=torch.zeros_like(ALL))
    assert not unknown.known.any()


def test_an_object_of_unknown_class_makes_its_ground_unknown() -> None:
    masks = torch.stack([disc(64, 16.0, 16.0, 8), disc(64, 48.0, 48.0, 8)])
    targets = instance_targets([masks], [torch.tensor([0, IGNORE])], ALL)
    assert (targets.heat == 1).sum() == 1
    assert not targets.known[0, 5:7, 5:7].any()


@pytest.mark.parametrize("size", [9, 33, 150])
def test_the_deepest_pixel_of_a_disc_is_its_middle(size: int) -> None:
    side = 2 * size + 10
    row, column = deepest(disc(side, size + 3.5, size + 5.5, size))
    step = math.ceil(2 * size / 32)
    assert abs(row - (size + 5)) <= step
    assert abs(column - (size + 3)) <= step


def test_the_deepest_pixel_lies_in_the_object_even_where_the_centroid_does_not() -> None:
    ring = disc(64, 32.0, 32.0, 28) & ~disc(64, 32.0, 32.0, 18) & ~_mask((32, 0, 64, 64))
    row, column = deepest(ring)
    assert ring[row - 1 : row + 2, column - 1 : column + 2].all()
    angle = _mask((5, 5, 12, 60), (5, 50, 60, 60))
    assert angle[deepest(angle)]
    speck = _mask((60, 3, 61, 4))
    assert deepest(speck) == (3, 60)
    with pytest.raises(ValueError, match="empty"):
        deepest(torch.zeros_like(speck))


def test_a_perfect_answer_costs_less_than_any_other() -> None:
    targets = _targets(disc(64, 16.0, 20.0, 9), disc(64, 44.0, 44.0, 14))
    sure = torch.where(targets.heat == 1, 9.0, -9.0)
    perfect = instance_loss(InstanceMaps(sure, targets.boxes, 8), targets)
    assert perfect < 1e-3
    assert instance_loss(InstanceMaps(-sure, targets.boxes, 8), targets) > 1
    assert instance_loss(InstanceMaps(sure, targets.boxes + 6, 8), targets) > perfect + 0.1


def test_unlabelled_ground_has_no_part_in_the_loss() -> None:
    """Values and gradients are the same whatever the head answers there, and none comes from there."""
    known = ALL.clone()
    known[:, :, 40:] = False
    targets = _targets(disc(64, 16.0, 20.0, 9), disc(64, 24.0, 48.0, 7), known=known)
    maps, other = _maps(targets), _maps(targets)
    assert not targets.known[:, :, 5:].any()
    other.heat.data[..., 5:] = torch.nan
    other.boxes.data[..., 5:] = torch.nan
    first, second = instance_loss(maps, targets), instance_loss(other, targets)
    first.backward()
    second.backward()
    assert torch.equal(first, second)
    for one, two in ((maps.heat.grad, other.heat.grad), (maps.boxes.grad, other.boxes.grad)):
        assert one is not None and two is not None
        assert torch.equal(one, two)
        assert not one[..., 5:].any()
        assert one[..., :5].any()


def test_an_object_on_unlabelled_ground_is_not_asked_for() -> None:
    known = ALL.clone()
    known[:, :, 32:] = False
    with_it = _targets(disc(64, 16.0, 20.0, 9), disc(64, 52.0, 40.0, 7), known=known)
    without = _targets(disc(64, 16.0, 20.0, 9), known=known)
    maps = _maps(without)
    assert torch.allclose(instance_loss(maps, with_it), instance_loss(maps, without))


def test_no_known_ground_is_no_loss() -> None:
    targets = _targets(disc(64, 16.0, 20.0, 9), known=torch.zeros_like(ALL))
    maps = _maps(targets)
    loss = instance_loss(maps, targets)
    loss.backward()
    assert loss.item() == 0
    assert maps.heat.grad is not None
    assert not maps.heat.grad.any()


def test_background_near_a_centre_is_forgiven() -> None:
    targets = _targets(disc(64, 36.0, 36.0, 28), stride=4)
    near, far = torch.full_like(targets.heat, -9.0), torch.full_like(targets.heat, -9.0)
    near[targets.heat == 1] = far[targets.heat == 1] = 9.0
    row, column = divmod(int(targets.heat.argmax()), 16)
    near[0, 0, row, column + 1] = 3.0
    far[0, 0, 0, 0] = 3.0
    near_loss, far_loss = (instance_loss(InstanceMaps(heat, targets.boxes, 4), targets) for heat in (near, far))
    assert near_loss < far_loss / 3


def test_maps_and_targets_must_fit() -> None:
    targets = _targets(disc(64, 16.0, 20.0, 9))
    maps = InstanceMaps(torch.zeros(1, 2, 8, 8), torch.zeros(1, 4, 8, 8), 8)
    with pytest.raises(ValueError, match="differ"):
        instance_loss(maps, targets)


def test_giou_of_known_boxes() -> None:
    answer = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 2, 2]])
    truth = torch.tensor([[0.0, 0, 2, 2], [3, 0, 4, 1], [1, 0, 3, 2]])
    assert torch.allclose(giou_loss(answer, truth), torch.tensor([0.0, 1.5, 2 / 3]), atol=1e-6)


def test_targets_move_between_devices() -> None:
    moved = _targets(disc(64, 16.0, 20.0, 9)).to("meta")
    assert {moved.heat.device.type, moved.boxes.device.type, moved.weight.device.type, moved.known.device.type} == {
        "meta"
    }
    assert moved.stride == 8
