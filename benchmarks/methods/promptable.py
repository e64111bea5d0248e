"""Tuning for prompts on crops at hand, and measuring by simulated clicks and boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from samtune.engine.evaluate.clicks import box_of, correction, iou, pole
from samtune.engine.pretrain.prompting import correction_clicks
from samtune.engine.pretrain.sampling import first_click, noisy_box, quarter_share
from samtune.engine.tuning.distil_hook import ExtraLoss, StepContext
from samtune.models.batch_decode import decode_batch
from samtune.models.encoder import encode
from samtune.models.losses import dice, true_iou
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.contract import Scope
from samtune.models.prompt_mask import draw_prompts
from samtune.models.sam_modules import Sam
from torch.nn import functional

from .data import Scene, normalised
from .measuring import Cost, measured

CLICKS = 3
_SIDES = 8


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train.

    Attributes:
        steps: optimiser steps.
        rate: peak learning rate; it rises over the first tenth and falls to a tenth along a cosine.
        head_rate: that of a head or decoder, or None for the same.
        crops: per step.
        objects: per crop.
        prompts: of each object: the first, and corrections.
    """

    steps: int = 40
    rate: float = 1e-3
    crops: int = 2
    objects: int = 3
    prompts: int = 2
    head_rate: float | None = None


def bf16() -> bool:
    """Say whether this machine computes faster in bfloat16."""
    return bool(torch.backends.mkldnn.is_available()) and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def laid(image: NDArray[np.uint8], way: int) -> NDArray[np.uint8]:
    """Turn (S, S, ...) by way mod 4 right angles, mirrored for ways from 4 on."""
    turned = np.rot90(image, way % 4)
    return np.ascontiguousarray(turned[:, ::-1] if way >= _SIDES // 2 else turned)


class Embeddings:
    """What a frozen encoder makes of crops, made once for every way in which they are laid."""

    def __init__(self) -> None:
        """Begin empty."""
        self._kept: dict[tuple[int, int], torch.Tensor] = {}

    def get(self, sam: Sam, scenes: Sequence[Scene], chosen: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Return (B, 256, h, w) of the scenes and ways chosen."""
        for index, way in chosen:
            if (index, way) not in self._kept:
                with torch.no_grad():
                    pixels = normalised(laid(scenes[index].image, way)[None])
                    self._kept[index, way] = encode(sam.image_encoder, pixels).embedding[0].float()
        return torch.stack([self._kept[key] for key in chosen])


def train(
    sam: Sam,
    adapter: Adapter,
    scenes: Sequence[Scene],
    recipe: Recipe,
    seed: int,
    extra: ExtraLoss | None = None,
) -> Cost:
    """Tune an adapter on scenes; it stays detached afterwards.

    Args:
        sam: the base.
        adapter: new, not attached.
        scenes: all their objects may be learnt from.
        recipe: how long and how hard.
        seed: of everything drawn, the same for all arms.
        extra: a loss to add in each step.

    Returns:
        Processor seconds of a step, and memory.
    """
    adapter.attach(sam)
    adapter.train()
    kept = Embeddings()

    def sample(step: int) -> torch.Tensor:
        rng = np.random.default_rng([seed, 1, step])
        chosen = [(int(rng.integers(len(scenes))), int(rng.integers(_SIDES))) for _ in range(recipe.crops)]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16()):
            if adapter.tunes_encoder:
                images = np.stack([laid(scenes[index].image, way) for index, way in chosen])
                embeddings = encode(sam.image_encoder, normalised(images)).embedding
            else:
                embeddings = kept.get(sam, scenes, chosen)
        return _loss(sam, embeddings, [_objects(scenes[index], way, recipe, rng) for index, way in chosen], recipe, rng)

    return taught(sam, adapter, recipe, seed, sample, shown=16, extra=extra)


def taught(
    sam: Sam,
    adapter: Adapter,
    recipe: Recipe,
    seed: int,
    loss_of: Callable[[int], torch.Tensor],
    *,
    shown: int,
    extra: ExtraLoss | None = None,
) -> Cost:
    """Take an attached adapter through a training and measure what that costs; it stays detached afterwards.

    Args:
        sam: the base.
        adapter: attached, in training mode.
        recipe: how long and how hard.
        seed: of everything drawn.
        loss_of: the loss of a step.
        shown: how many steps' samples the methods may look at before, which training then has as well.
        extra: a loss to add in each step.
    """
    with measured() as cost:
        adapter.calibrate(sam, [lambda step=step: loss_of(step) for step in range(min(recipe.steps, shown))])
        _optimise(sam, adapter, recipe, seed, loss_of, extra)
    adapter.finish()
    adapter.detach()
    adapter.eval()
    return Cost(cost.seconds / recipe.steps, cost.memory)


def _optimise(
    sam: Sam,
    adapter: Adapter,
    recipe: Recipe,
    seed: int,
    loss_of: Callable[[int], torch.Tensor],
    extra: ExtraLoss | None,
) -> None:
    """Take the steps of a recipe with AdamW, for any loss of a step."""
    factors = dict(adapter.rate_factors)
    for name, part in adapter.parts.items():
        if part.config.scope is not Scope.ENCODER and recipe.head_rate is not None:
            factors.update({f"{name}.{own}": recipe.head_rate / recipe.rate for own, _ in part.trainable_parameters()})
    parameters = list(adapter.trainable_parameters())
    groups = [{"params": [value], "factor": factors.get(name, 1.0)} for name, value in parameters]
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate, weight_decay=0.01)
    torch.manual_seed(seed)
    for step in range(recipe.steps):
        done = step / recipe.steps
        rising = min((step + 1) / max(1, 0.1 * recipe.steps), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * group["factor"] * rising * (0.1 + 0.45 * (1 + np.cos(np.pi * done)))
        adapter.begin_step(done)
        loss = loss_of(step)
        penalty = adapter.penalty()
        loss = loss if penalty is None else loss + penalty
        if extra is not None:
            rng = np.random.default_rng([seed, 2, step])
            added = extra(StepContext(sam, adapter, step, recipe.steps, rng, bf16()))
            loss = loss if added is None else loss + added
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([value for _, value in parameters], 1.0)
        optimiser.step()


def _objects(scene: Scene, way: int, recipe: Recipe, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return as many of a scene's masks as the recipe says, (M, S, S), some twice where there are fewer."""
    count = len(scene.masks)
    chosen = (
        rng.permutation(count)[: recipe.objects]
        if count >= recipe.objects
        else rng.integers(count, size=recipe.objects)
    )
    return np.stack([laid(scene.masks[index], way) for index in chosen])


def _loss(
    sam: Sam,
    embeddings: torch.Tensor,
    objects: Sequence[NDArray[np.bool_]],
    recipe: Recipe,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Ask for the objects of (B, 256, h, w) embeddings, half of the steps by click first and half by box."""
    masks = np.concatenate(objects)
    shares = quarter_share(masks)
    targets = torch.from_numpy(shares)
    boxes: torch.Tensor | None = None
    points, labels = torch.zeros(len(masks), 0, 2), torch.zeros(len(masks), 0, dtype=torch.int64)
    if rng.random() < 0.5:
        boxes = torch.tensor([noisy_box(mask, rng) for mask in masks], dtype=torch.float32)
    else:
        clicks = [first_click(mask, share, rng) for mask, share in zip(masks, shares, strict=True)]
        points, labels = (
            torch.tensor(clicks, dtype=torch.float32)[:, None],
            torch.ones(len(masks), 1, dtype=torch.int64),
        )
    seen = embeddings.repeat_interleave(recipe.objects, dim=0)
    previous: torch.Tensor | None = None
    losses = []
    for _ in range(recipe.prompts):
        planes = draw_prompts(tuple(targets.shape[-2:]), points, labels, boxes, previous, seen)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16()):
            logits, predicted = decode_batch(sam, embeddings, points, labels, boxes, planes)
        which = slice(1, 4) if boxes is None and points.shape[1] == 1 else slice(0, 1)
        logits, predicted = logits[:, which].float(), predicted[:, which].float()
        wanted = targets[:, None].expand_as(logits)
        truth = true_iou(logits.detach(), wanted)
        losses.append((dice(logits, wanted).min(dim=1).values + ((predicted - truth) ** 2).mean(dim=1)).mean())
        answer = logits.detach()[torch.arange(len(masks)), predicted.argmax(dim=1)]
        more, kinds = correction_clicks(answer, targets, rng)
        points, labels = torch.cat([points, more], dim=1), torch.cat([labels, kinds], dim=1)
        previous = answer if rng.random() < 0.5 else None
    return torch.stack(losses).mean()


@torch.no_grad()
def measure(sam: Sam, adapter: Adapter | None, scenes: Sequence[Scene]) -> dict[str, float]:
    """Return mean IoU over all objects: after 1 click, after 3 clicks, by the box, and the mean of the three.

    Clicks are those of ``samtune evaluate``: the middle of the object, then of the largest error.
    """
    if adapter is not None:
        adapter.attach(sam, merged=True)
    try:
        found = [figures for scene in scenes for figures in _scene(sam, scene)]
    finally:
        if adapter is not None:
            adapter.detach()
    means = np.mean(np.array(found), axis=0)
    return {
        "iou": float(means.mean()),
        "iou_1_click": float(means[0]),
        "iou_3_clicks": float(means[1]),
        "iou_box": float(means[2]),
    }


def _scene(sam: Sam, scene: Scene) -> list[tuple[float, float, float]]:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16()):
        embedding = encode(sam.image_encoder, normalised(scene.image[None])).embedding
    embedding, count = embedding.float(), len(scene.masks)
    points = torch.tensor([[pole(mask)] for mask in scene.masks], dtype=torch.float32)
    labels = torch.ones(count, 1, dtype=torch.int64)
    answers, previous = [], None
    for number in range(CLICKS):
        logits = _ask(sam, embedding, points, labels, None, previous)
        answers.append(_pixels(logits, scene.masks.shape[-1]))
        if number < CLICKS - 1:
            clicks = [correction(a, t) or (0.0, 0.0, None) for a, t in zip(answers[-1], scene.masks, strict=True)]
            more = torch.tensor([[click[:2]] for click in clicks], dtype=torch.float32)
            kinds = torch.tensor([[-1 if click[2] is None else int(click[2])] for click in clicks])
            points, labels, previous = torch.cat([points, more], dim=1), torch.cat([labels, kinds], dim=1), logits
    boxes = torch.tensor([box_of(mask) for mask in scene.masks], dtype=torch.float32)
    boxed = _pixels(_ask(sam, embedding, points[:, :0], labels[:, :0], boxes, None), scene.masks.shape[-1])
    return [
        (iou(answers[0][row], truth), iou(answers[-1][row], truth), iou(boxed[row], truth))
        for row, truth in enumerate(scene.masks)
    ]


def _ask(
    sam: Sam,
    embedding: torch.Tensor,
    points: torch.Tensor,
    labels: torch.Tensor,
    boxes: torch.Tensor | None,
    previous: torch.Tensor | None,
) -> torch.Tensor:
    """Return (N, 4 h, 4 w) logits of the answers that a user would see."""
    size = (4 * embedding.shape[-2], 4 * embedding.shape[-1])
    seen = embedding.expand(len(labels), -1, -1, -1)
    planes = draw_prompts(size, points, labels, boxes, previous, seen)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16()):
        logits, predicted = decode_batch(sam, embedding, points, labels, boxes, planes)
    if boxes is not None or points.shape[1] > 1:
        return logits[:, 0].float()
    best = predicted[:, 1:].float().argmax(dim=1) + 1
    return logits[torch.arange(len(best)), best].float()


def _pixels(logits: torch.Tensor, side: int) -> NDArray[np.bool_]:
    grown = functional.interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)
    return np.asarray((grown[:, 0] > 0).numpy())
