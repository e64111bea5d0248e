"""Networks, scenes and training for the tests of the tuning methods: small, and the same every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache, partial

import torch
from safetensors.torch import load_file
from samtune.models import registry
from samtune.models.batch_decode import decode_batch
from samtune.models.card import Architecture
from samtune.models.encoder import encode
from samtune.models.heads.contract import Head, HeadConfig
from samtune.models.loading import build
from samtune.models.peft.adapter import Adapter, freeze
from samtune.models.peft.contract import SideInputs
from samtune.models.sam_modules import Sam
from samtune.models.tiny import build_tiny

from .cases import Case

SIDE = 64
SHA = "5a" * 32


@cache
def tiny() -> Sam:
    """Return the shipped ``tiny``, frozen; whoever attaches to it detaches again."""
    sam = build_tiny()
    state = load_file(registry.WEIGHTS_DIR / registry.card("tiny").file_name)
    sam.load_state_dict({name: value.float() for name, value in state.items()})
    freeze(sam)
    return sam


@cache
def meta(architecture: Architecture) -> Sam:
    """Return a published SAM without memory."""
    with torch.device("meta"):
        return build(architecture)


def images(case: Case, side: int = SIDE, count: int = 2) -> torch.Tensor:
    """Return images, or as many pairs for a method with two streams: (B, 3, side, side), normalised."""
    random = torch.Generator().manual_seed(1)
    return torch.randn(count * case.side(count, side).streams, 3, side, side, generator=random)


def answers(sam: Sam, adapter: Adapter | None, case: Case, side: int = SIDE, count: int = 2) -> list[torch.Tensor]:
    """Compute embedding, masks, predicted IoU and what a head says, with whatever is attached.

    Returns:
        The embedding first.
    """
    given, pictures = case.side(count, side), images(case, side, count)
    if adapter is None:
        return list(_answers(sam, None, pictures, given))
    with adapter.given(given):
        return list(_answers(sam, adapter, pictures, given))


def _answers(sam: Sam, adapter: Adapter | None, pictures: torch.Tensor, side: SideInputs) -> Iterator[torch.Tensor]:
    heads = [part for part in adapter.parts.values() if isinstance(part, Head)] if adapter is not None else []
    wanted = {block for head in heads if isinstance(head.config, HeadConfig) for block in head.config.collect(sam)}
    features = encode(sam.image_encoder, pictures, collect=wanted)
    yield features.embedding
    own = features.embedding[: len(features.embedding) // side.streams]
    count = len(own)
    points = torch.tensor([[[20.0, 24.0]], [[40.0, 30.0]]])[:count]
    boxes = torch.tensor([[8.0, 8.0, 40.0, 44.0], [torch.nan] * 4])[:count]
    yield from decode_batch(sam, own, points, torch.tensor([[1], [0]])[:count], boxes, None)
    for head in heads:
        said = head(features)
        yield from [said] if isinstance(said, torch.Tensor) else _tensors(said)


def _tensors(record: object) -> list[torch.Tensor]:
    values = [getattr(record, item.name) for item in dataclasses.fields(record)]  # type: ignore[arg-type]
    return [value for value in values if isinstance(value, torch.Tensor)]


def train(sam: Sam, adapter: Adapter, case: Case, steps: int, rate: float = 1e-2) -> list[float]:
    """Attach, train towards arbitrary answers, and detach. Returns the loss of each step."""
    random = torch.Generator().manual_seed(2)
    adapter.train()
    adapter.attach(sam)
    try:
        with torch.no_grad():
            targets = [torch.randn(value.shape, generator=random) for value in answers(sam, adapter, case)]
        adapter.calibrate(sam, [partial(_loss, sam, adapter, case, targets)])
        optimiser = torch.optim.Adam([value for _, value in adapter.trainable_parameters()], lr=rate)
        losses = []
        for step in range(steps):
            adapter.begin_step(step / steps)
            losses.append(_step(sam, adapter, case, targets, optimiser))
    finally:
        adapter.detach()
        adapter.eval()
    return losses


def _loss(sam: Sam, adapter: Adapter, case: Case, targets: list[torch.Tensor]) -> torch.Tensor:
    found = answers(sam, adapter, case)
    return torch.stack([((value - target) ** 2).mean() for value, target in zip(found, targets, strict=True)]).sum()


def _step(
    sam: Sam, adapter: Adapter, case: Case, targets: list[torch.Tensor], optimiser: torch.optim.Optimizer
) -> float:
    loss = _loss(sam, adapter, case, targets)
    extra = adapter.penalty()
    optimiser.zero_grad()
    (loss if extra is None else loss + extra).backward()
    optimiser.step()
    return float(loss.detach())


def shake(adapter: Adapter, amount: float = 0.05, seed: int = 3) -> None:
    """Move every trainable tensor at random, as training would."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, value in adapter.trainable_parameters():
            value.add_(amount * torch.randn(value.shape, generator=random))


@cache
def pristine() -> dict[str, torch.Tensor]:
    """Return what ``tiny`` held when it was loaded."""
    return snapshot(tiny())


def snapshot(sam: Sam) -> dict[str, torch.Tensor]:
    """Return copies of all of a network's tensors."""
    return {name: value.detach().clone() for name, value in sam.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Say whether two sets of tensors are bit for bit the same."""
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    """Say whether two lists of answers are bit for bit the same."""
    return len(first) == len(second) and all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def distance(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    """Return the largest difference between answers, as a share of the largest answer."""
    pairs = zip(first, second, strict=True)
    return max(float((one - two).abs().max() / one.abs().max().clamp_min(1.0)) for one, two in pairs)
