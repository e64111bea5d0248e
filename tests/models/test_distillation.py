from __future__ import annotations

import math

import pytest
import torch
from samtune.models.distillation import (
    DistillationConfig,
    divergence,
    feature_distance,
    mask_imitation,
    mutual,
    spectral_distance,
)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def plane(*values: float) -> torch.Tensor:
    return torch.tensor(values)[None, None]


def binary_kl(p: float, q: float) -> float:
    """KL of two coins, by hand."""
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_the_weights_are_those_of_the_design() -> None:
    config = DistillationConfig()
    assert (config.mutual, config.feature, config.mask, config.old) == (0.5, 0.1, 0.5, 1.0)
    assert (config.temperature, config.confident, config.least_iou, config.average) == (2.0, 0.7, 0.8, 0.999)


def test_divergence_of_two_coins_is_that_computed_by_hand() -> None:
    student, teacher = plane(logit(0.5)), plane(logit(0.9))
    assert float(divergence(student, teacher, temperature=1.0)) == pytest.approx(binary_kl(0.9, 0.5), abs=1e-6)


def test_divergence_is_of_the_softened_answers_times_the_squared_temperature() -> None:
    def softened(probability: float) -> float:
        return 1 / (1 + math.exp(-logit(probability) / 2))

    found = float(divergence(plane(logit(0.3)), plane(logit(0.9)), temperature=2.0))
    assert found == pytest.approx(4 * binary_kl(softened(0.9), softened(0.3)), abs=1e-5)


def test_divergence_keeps_the_size_of_its_gradient_at_any_temperature() -> None:
    sizes = []
    for temperature in (4.0, 8.0):
        student = plane(0.4).requires_grad_()
        divergence(student, plane(-0.2), temperature).sum().backward()
        sizes.append(float(student.grad.abs().sum()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def test_divergence_of_classes_is_that_computed_by_hand() -> None:
    teacher = torch.tensor([0.7, 0.2, 0.1]).log()[None, :, None, None]
    student = torch.tensor([0.2, 0.5, 0.3]).log()[None, :, None, None]
    found = divergence(student, teacher, temperature=1.0, classes=True)
    by_hand = 0.7 * math.log(0.7 / 0.2) + 0.2 * math.log(0.2 / 0.5) + 0.1 * math.log(0.1 / 0.3)
    assert found.shape == (1, 1, 1)
    assert float(found) == pytest.approx(by_hand, abs=1e-6)


def test_two_classes_diverge_as_a_coin_does() -> None:
    first, second = torch.randn(1, 4, 4), torch.randn(1, 4, 4)
    coins = divergence(first, second)
    both = divergence(torch.stack([first, 0 * first], 1), torch.stack([second, 0 * second], 1), classes=True)
    torch.testing.assert_close(both, coins, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("classes", [False, True])
def test_who_agrees_loses_nothing_and_divergence_is_never_negative(*, classes: bool) -> None:
    torch.manual_seed(0)
    first, second = 5 * torch.randn(2, 3, 8, 8), 5 * torch.randn(2, 3, 8, 8)
    assert float(divergence(first, first.clone(), classes=classes).abs().max()) < 1e-5
    assert float(divergence(first, second, classes=classes).min()) > -1e-5
    assert float(mutual(first, first.clone(), classes=classes)) < 1e-5


def test_divergence_is_finite_for_answers_that_are_certain() -> None:
    found = divergence(plane(-200.0, 200.0), plane(200.0, 200.0))
    assert torch.isfinite(found).all()
    assert float(found[0, 0, 1]) == 0


def test_no_teacher_gets_a_gradient() -> None:
    for loss in (
        lambda s, t: divergence(s, t).sum(),
        feature_distance,
        lambda s, t: mask_imitation(s[0], t[0], torch.ones(3)),
        spectral_distance,
    ):
        student = torch.randn(1, 3, 4, 4, requires_grad=True)
        teacher = torch.randn(1, 3, 4, 4, requires_grad=True)
        loss(student, teacher).backward()
        assert teacher.grad is None
        assert float(student.grad.abs().sum()) > 0


def test_both_streams_learn_from_each_other() -> None:
    first, second = plane(3.0).requires_grad_(), plane(-1.0).requires_grad_()
    mutual(first, second).backward()
    assert float(first.grad) > 0 > float(second.grad)  # descent moves them towards each other


def test_mutual_is_the_sum_of_both_directions_where_one_stream_is_sure() -> None:
    first, second = plane(logit(0.9), logit(0.6)), plane(logit(0.4), logit(0.55))
    expected = float((divergence(first, second) + divergence(second, first))[0, 0, 0])  # the other pixel: nobody is
    assert float(mutual(first, second)) == pytest.approx(expected, rel=1e-5)


def test_sureness_is_judged_before_softening_and_either_way() -> None:
    unsure = plane(0.0)
    assert float(mutual(plane(logit(0.71)), unsure)) > 0
    assert float(mutual(plane(logit(0.29)), unsure)) > 0
    assert float(mutual(unsure, plane(logit(0.71)))) > 0
    assert float(mutual(plane(logit(0.69)), unsure)) == 0


def test_sureness_of_classes_is_the_likeliest_ones_probability() -> None:
    flat = torch.zeros(1, 3, 1, 1)
    sure = torch.tensor([0.72, 0.14, 0.14]).log()[None, :, None, None]
    unsure = torch.tensor([0.6, 0.2, 0.2]).log()[None, :, None, None]
    assert float(mutual(sure, flat, classes=True)) > 0
    assert float(mutual(unsure, flat, classes=True)) == 0


def test_feature_distance_is_one_less_the_cosine() -> None:
    student = torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, 4, 4)
    turned = torch.tensor([1.0, 1.0])[None, :, None, None].expand(1, 2, 4, 4)
    assert float(feature_distance(student, turned)) == pytest.approx(1 - math.sqrt(0.5), abs=1e-6)
    assert float(feature_distance(student, 7 * student)) == pytest.approx(0, abs=1e-6)
    assert float(feature_distance(student, -student)) == pytest.approx(2, abs=1e-6)


def test_feature_distance_leaves_out_every_second_place() -> None:
    student = torch.randn(1, 5, 4, 4)
    teacher = student.clone()
    teacher[:, :, 1::2] = torch.randn(1, 5, 2, 4)
    teacher[:, :, :, 1::2] = torch.randn(1, 5, 4, 2)
    assert float(feature_distance(student, teacher)) == pytest.approx(0, abs=1e-6)
    assert float(feature_distance(student, teacher, stride=1)) > 0.1


def test_the_same_masks_cost_nothing_and_others_do() -> None:
    teacher = 4 * torch.randn(3, 8, 8)
    sure = torch.full((3,), 0.9)
    assert float(mask_imitation(teacher, teacher, sure)) == pytest.approx(0, abs=1e-5)
    assert float(mask_imitation(-teacher, teacher, sure)) > 1


def test_mask_imitation_is_cross_entropy_less_entropy_and_dice() -> None:
    student, teacher = torch.full((1, 2, 2), logit(0.5)), torch.full((1, 2, 2), logit(0.8))
    dice = 1 - (2 * 4 * 0.5 * 0.8 + 1) / (4 * 0.25 + 4 * 0.64 + 1)
    expected = 0.9 * (binary_kl(0.8, 0.5) + dice)
    assert float(mask_imitation(student, teacher, torch.tensor([0.9]))) == pytest.approx(expected, abs=1e-5)


def test_only_masks_that_the_teacher_trusts_are_imitated_by_their_weight() -> None:
    torch.manual_seed(1)
    student, teacher = torch.randn(3, 4, 4), torch.randn(3, 4, 4)
    alone = [float(mask_imitation(student[i : i + 1], teacher[i : i + 1], torch.ones(1))) for i in range(3)]
    found = float(mask_imitation(student, teacher, torch.tensor([0.8, 0.79, 1.0])))
    assert found == pytest.approx((0.8 * alone[0] + 1.0 * alone[2]) / 2, rel=1e-5)
    assert float(mask_imitation(student, teacher, torch.tensor([0.1, 0.5, 0.7]))) == 0


def test_spectral_distance_adds_the_codes_where_both_have_one() -> None:
    features, others = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    alone = float(spectral_distance(features, others))
    code = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    assert float(spectral_distance(features, others, code, None)) == alone
    assert float(spectral_distance(features, others, code, code)) == pytest.approx(alone)
    with_codes = float(spectral_distance(features, others, torch.zeros(2, 2), code))
    assert with_codes == pytest.approx(alone + 1.0, rel=1e-5)  # a code of nothing misses all of the teacher's square
