"""Which single weights of a network a task is sensitive to: the sum of their squared gradients over samples.

The score is that of SPT (He et al., ICCV 2023): with g the gradient of one sample's loss, s = sum of g^2 approximates
how much one step of descent on that weight alone would lower the loss. Nothing is trained while scoring.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch.utils.hooks import RemovableHandle

from ..errors import TuningError

_HALF = 16
_COARSE = (0x7F800000 >> _HALF) + 1
"""Upper halves of the bits of float32 that are neither negative nor above infinity."""


def score(weights: Sequence[torch.Tensor], losses: Iterable[Callable[[], torch.Tensor]]) -> list[torch.Tensor]:
    """Sum the squared gradients of losses.

    A gradient is squared and let go as soon as it is there, so that beside the scores only one weight's is held. All
    else stays as it was: values, gradients and which parameters want one.

    Args:
        weights: of the network.
        losses: each makes a forward pass on one sample and returns its loss (scalar, with its graph).

    Returns:
        The scores, each in its weight's shape, float32, not negative.

    Raises:
        TuningError: there is no sample, no gradient, or one that is not finite.
    """
    scores = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    samples = 0
    with _gathering(weights, scores), torch.enable_grad():
        for loss in losses:
            value = loss()
            if not torch.isfinite(value.detach()).all():
                raise TuningError(
                    "The loss on a training sample is not a number, so the weights to tune cannot be chosen. Check "
                    "the raster for extreme values.",
                    f"sample {samples}: {float(value.detach())}",
                )
            torch.autograd.backward(value, inputs=list(weights))
            samples += 1
    if not samples:
        raise TuningError("Choosing the weights to tune takes at least one labelled object. Label some.")
    total = float(torch.stack([plane.sum(dtype=torch.float64) for plane in scores]).sum())
    if not 0 < total < float("inf"):
        raise TuningError("The training samples do not say which weights to tune.", f"sum of squared gradients {total}")
    return scores


@contextlib.contextmanager
def _gathering(weights: Sequence[torch.Tensor], scores: Sequence[torch.Tensor]) -> Iterator[None]:
    """Let backward passes add to the scores, while the context lasts."""
    before = [(weight.requires_grad, weight.grad) for weight in weights]
    handles: list[RemovableHandle] = []
    try:
        for weight, plane in zip(weights, scores, strict=True):
            weight.requires_grad_()
            weight.grad = None
            handle: RemovableHandle = weight.register_post_accumulate_grad_hook(_adder(plane))  # type: ignore[no-untyped-call]
            handles.append(handle)
        yield
    finally:
        for handle in handles:
            handle.remove()
        for weight, (wanted, gradient) in zip(weights, before, strict=True):
            weight.requires_grad_(wanted)
            weight.grad = gradient


def _adder(plane: torch.Tensor) -> Callable[[torch.Tensor], None]:
    def add(weight: torch.Tensor) -> None:
        if weight.grad is not None:
            gradient = weight.grad.float()
            plane.addcmul_(gradient, gradient)
            weight.grad = None

    return add


def choose(scores: Sequence[torch.Tensor], number: int, largest_share: float) -> torch.Tensor:
    """Choose the weights with the highest scores.

    Where one layer would take more than a share of them, every layer's scores are divided by their mean first.

    Args:
        scores: as :func:`score` gave them; divided in place where that is needed.
        number: how many.
        largest_share: of all chosen weights that one layer may have, 0 to 1.

    Returns:
        (number,) int32 indices into the concatenated, flattened weights, ascending.
    """
    chosen = highest(scores, number)
    sizes = torch.tensor([plane.numel() for plane in scores])
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]).to(chosen)
    taken = torch.searchsorted(chosen, starts).diff()
    # A layer that makes up most of the network may take most of the choice.
    fair = sizes.max() / sizes.sum()
    if int(taken.max()) <= max(largest_share, float(fair)) * number:
        return chosen
    for plane in scores:
        plane.div_(plane.mean().clamp_min(torch.finfo(torch.float32).tiny))
    return highest(scores, number)


def highest(scores: Sequence[torch.Tensor], number: int) -> torch.Tensor:
    """Find the highest of many numbers without sorting or joining them.

    As integers, the bits of float32 that are not negative have the same order. The upper half of the threshold's bits
    is found by counting, the lower half among the few scores that share the upper one. Of equal scores the first ones
    are taken.

    Args:
        scores: float32, finite, not negative, of any shapes.
        number: how many, at most as many as there are.

    Returns:
        (number,) int32 indices into the concatenated, flattened scores, ascending.

    Raises:
        TuningError: there are fewer.
    """
    planes = [plane.reshape(-1).view(torch.int32) for plane in scores]
    if not 0 < number <= sum(plane.numel() for plane in planes):
        raise TuningError("There are fewer weights than were to be chosen.", str(number))
    threshold, ties = _threshold(planes, number)
    found: list[torch.Tensor] = []
    start = 0
    for plane in planes:
        # Nearly all scores are below the threshold: one comparison of all, the rest among the few.
        reached = (plane >= threshold).nonzero()[:, 0]
        equal = plane[reached] == threshold
        wanted = ~equal | (equal.cumsum(0) <= ties)
        ties -= int((equal & wanted).sum())
        found.append((reached[wanted] + start).to(torch.int32))
        start += plane.numel()
    return torch.cat(found)


def _threshold(planes: Sequence[torch.Tensor], number: int) -> tuple[int, int]:
    """Return the bits of the lowest score that is taken, and how many of those with just that one are."""
    counts = torch.stack([torch.bincount(plane >> _HALF, minlength=_COARSE) for plane in planes]).sum(dim=0)
    at_least = counts.flip(0).cumsum(0).flip(0)
    coarse = int((at_least >= number).nonzero()[-1])
    within = number - int(at_least[coarse] - counts[coarse])
    members = torch.cat([plane[(plane >> _HALF) == coarse] for plane in planes])
    threshold = int(members.topk(within).values[-1])
    return threshold, within - int((members > threshold).sum())
