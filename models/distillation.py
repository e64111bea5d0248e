"""Losses that keep a tuned SAM close to what it should not forget, and two streams close to each other.

The ingredients are standard: deep mutual learning (Zhang et al., CVPR 2018), distillation at a temperature (Hinton et
al., 2015) and learning without forgetting (Li and Hoiem, ECCV 2016). Who plays the teacher:

* T, the base without adapters: its features (:func:`feature_distance`) and its confident masks
  (:func:`mask_imitation`) on ground that nobody labelled keep the tuned model general;
* P, the previous version of the adapter, or a running mean of the present one: its answers (:func:`divergence`) keep
  the previous task;
* the other stream, where the model sees two modalities: each learns from the other where one of them is sure
  (:func:`mutual`);
* a model that sees all bands, for a student that sees fewer (:func:`spectral_distance`).

All losses are zero where student and teacher agree, and give no gradient to the teacher.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from .losses import dice


@dataclass(frozen=True)
class DistillationConfig:
    """Weights of the terms, and where they count.

    Attributes:
        mutual: weight of :func:`mutual`.
        feature: weight of :func:`feature_distance` to the base's.
        mask: weight of :func:`mask_imitation` of the base.
        old: weight of :func:`divergence` from the previous version.
        spectral: weight of :func:`spectral_distance`.
        temperature: answers are softened by, in ``mutual`` and ``old``.
        confident: least probability of the likelier class in one of two streams for a pixel to count in ``mutual``.
        least_iou: least IoU that the base predicts for a mask to be imitated.
        average: decay per step of the running mean that stands in for a previous version.
    """

    mutual: float = 0.5
    feature: float = 0.1
    mask: float = 0.5
    old: float = 1.0
    spectral: float = 1.0
    temperature: float = 2.0
    confident: float = 0.7
    least_iou: float = 0.8
    average: float = 0.999


def divergence(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float = 2.0, *, classes: bool = False
) -> torch.Tensor:
    """Kullback-Leibler divergence of softened answers, KL(teacher || student), per pixel.

    Multiplied by the temperature's square, as in Hinton et al. (2015), so that its gradient keeps its size.

    Args:
        student: (..., h, w) logits of an object against its surroundings, or (B, K, h, w) of K classes.
        teacher: the same shape; gets no gradient.
        temperature: both are divided by it.
        classes: the second dimension holds classes that exclude each other.

    Returns:
        (..., h, w) float32, or (B, h, w) with ``classes``; at least 0.
    """
    own, other = student.float() / temperature, teacher.detach().float() / temperature
    if classes:
        target = functional.log_softmax(other, dim=1)
        kl = (target.exp() * (target - functional.log_softmax(own, dim=1))).sum(dim=1)
    else:
        kl = torch.sigmoid(other) * (functional.logsigmoid(other) - functional.logsigmoid(own))
        kl = kl + torch.sigmoid(-other) * (functional.logsigmoid(-other) - functional.logsigmoid(-own))
    return kl * temperature**2


def mutual(
    first: torch.Tensor,
    second: torch.Tensor,
    temperature: float = 2.0,
    confident: float = 0.7,
    *,
    classes: bool = False,
) -> torch.Tensor:
    """Let two streams teach each other: KL(second || first) + KL(first || second), the teacher's side without gradient.

    Only pixels count where the likelier class has at least the probability ``confident`` in one of them; that is judged
    before softening.

    Args:
        first: (..., h, w) logits, or (B, K, h, w) with ``classes``.
        second: the same shape.
        temperature: see :func:`divergence`.
        confident: 0.5 to 1.
        classes: see :func:`divergence`.

    Returns:
        Scalar mean over the pixels that count; 0 where none does.
    """
    both = divergence(first, second, temperature, classes=classes)
    both = both + divergence(second, first, temperature, classes=classes)
    sure = torch.maximum(_certainty(first, classes=classes), _certainty(second, classes=classes)) >= confident
    return (both * sure).sum() / sure.sum().clamp_min(1)


def _certainty(logits: torch.Tensor, *, classes: bool) -> torch.Tensor:
    """Return the probability of the likelier class, (..., h, w), or (B, h, w) with ``classes``."""
    seen = logits.detach().float()
    return seen.softmax(dim=1).amax(dim=1) if classes else torch.sigmoid(seen.abs())


def feature_distance(student: torch.Tensor, teacher: torch.Tensor, stride: int = 2) -> torch.Tensor:
    """Return 1 - cosine of the features, averaged over every ``stride``-th row and column.

    Args:
        student: (B, C, h, w) output of the encoder's neck.
        teacher: the same shape; gets no gradient.
        stride: neighbours say nearly the same, so some are left out.

    Returns:
        Scalar in [0, 2].
    """
    own, other = student[..., ::stride, ::stride].float(), teacher.detach()[..., ::stride, ::stride].float()
    return (1 - functional.cosine_similarity(own, other, dim=1)).mean()


def mask_imitation(
    student: torch.Tensor, teacher: torch.Tensor, predicted: torch.Tensor, least_iou: float = 0.8
) -> torch.Tensor:
    """Follow the teacher's masks, those that it expects to be good.

    Cross-entropy and dice against the teacher's probabilities. The teacher's own entropy, which no student can get rid
    of, is left out, so that the same answer costs nothing; the gradient is that of the cross-entropy.

    Args:
        student: (N, h, w) logits.
        teacher: (N, h, w) logits; get no gradient.
        predicted: (N,) IoU that the teacher predicts for its masks, 0 to 1: their weights.
        least_iou: masks with less are passed by.

    Returns:
        Scalar: weighted sum over the masks that count, divided by their number; 0 where none does.
    """
    weight = predicted.detach().float() * (predicted.detach() >= least_iou)
    entropy = divergence(student, teacher, temperature=1.0).mean(dim=(-2, -1))
    overlap = dice(student.float(), torch.sigmoid(teacher.detach().float()))
    return (weight * (entropy + overlap)).sum() / (weight > 0).sum().clamp_min(1)


def spectral_distance(
    student: torch.Tensor,
    teacher: torch.Tensor,
    student_code: torch.Tensor | None = None,
    teacher_code: torch.Tensor | None = None,
) -> torch.Tensor:
    """Match what a model of all bands sees: the neck's features, and the spectral code where both have one.

    Args:
        student: (B, C, h, w) features.
        teacher: the same shape; gets no gradient.
        student_code: (B, S) mean spectral code of each image, or None for a student without bands.
        teacher_code: the same shape, or None; gets no gradient.

    Returns:
        Scalar: 1 - cosine of the features, at every place, plus the codes' mean squared difference relative to the
        teacher's mean square.
    """
    loss = feature_distance(student, teacher, stride=1)
    if student_code is None or teacher_code is None:
        return loss
    target = teacher_code.detach().float()
    missed = functional.mse_loss(student_code.float(), target)
    return loss + missed / target.square().mean().clamp_min(1e-6)
