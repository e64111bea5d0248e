"""Distillation during a tuning run: a loss that keeps the base's generality and a previous task.

Each step takes one unlabelled crop. The base without adapters (T) has answered it once, before it was needed again: its
embedding, a grid of clicks, the boxes of what it is sure of, and its masks for them are kept. The adapter under way (S)
is compared with that, with the previous version of the adapter or a running mean of its own (P), and, where the model
sees two modalities, one of its streams with the other. Against a step without, that costs a forward and backward pass
of one crop, and a forward pass of P; where the encoder is not tuned, decoder passes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...models.distillation import (
    DistillationConfig,
    divergence,
    feature_distance,
    mask_imitation,
    mutual,
)
from ...models.errors import SamTuneError
from ...models.heads.contract import HeadConfig, SemanticHead
from ...models.peft.adapter import Adapter
from ...models.peft.contract import SideInputs
from ...models.sam_modules import Sam
from .distil_exemplars import Exemplar
from .distil_hook import StepContext
from .distil_mean import RunningMean
from .distil_streams import Prompts, Unlabelled, answer, as_batch, device_of, grid_prompts, instead, see
from .encoding import training_precision

CLICKS = 6
BOXES = 3


@dataclass(frozen=True)
class _Known:
    """What the base said about a crop, in half precision on the CPU; ``grid`` are all its prompts."""

    embedding: torch.Tensor
    grid: Prompts
    logits: torch.Tensor
    predicted: torch.Tensor


@dataclass(frozen=True)
class _Seen:
    """What the model makes of a crop.

    ``embedding`` (1 or 2, 256, h, w), one for each stream; ``classes`` (1, K, h, w) logits where it has a head.
    """

    embedding: torch.Tensor
    classes: torch.Tensor | None = None


@dataclass(frozen=True)
class _Answered:
    seen: _Seen
    logits: torch.Tensor


class Distiller:
    """What keeps the base's generality and a previous task, as the training loop's extra loss.

    Attributes:
        figures: the terms of the last step, unweighted, for the log: ``feature``, ``mask``, ``mutual``, ``old``.
    """

    def __init__(
        self,
        sam: Sam,
        adapter: Adapter,
        tiles: Sequence[Unlabelled],
        *,
        previous: Adapter | None = None,
        exemplars: Sequence[Exemplar] = (),
        config: DistillationConfig | None = None,
        bumps: bool = True,
        running_mean: bool = True,
    ) -> None:
        """Take the material; nothing is computed yet.

        Args:
            sam: the base.
            adapter: what is going to be tuned.
            tiles: unlabelled crops.
            previous: the adapter of the task to protect, not attached; None where there is none.
            exemplars: objects of that task.
            config: weights and thresholds; those of the design where None.
            bumps: the model wants prompts drawn into the mask prompt (the card's ``click_bumps``).
            running_mean: without a previous adapter, a running mean of ``adapter`` stands for it; else the base does,
                whose answers are known already.

        Raises:
            SamTuneError: there are no crops.
        """
        if not tiles:
            raise SamTuneError(
                "Keeping what the model knew needs ground to try it on, and the raster has none left. "
                "Choose a larger area, or tune without keeping it."
            )
        self._tiles, self._exemplars = tuple(tiles), tuple(exemplars)
        self._config, self._bumps = config or DistillationConfig(), bumps
        self._known: dict[int, _Known] = {}
        self._embedded: dict[int, torch.Tensor] = {}
        self._previous = None if previous is None else previous.eval().requires_grad_(requires_grad=False)
        averaged = previous is None and running_mean
        self._mean = RunningMean(sam, adapter, self._config.average) if averaged else None
        self.figures: dict[str, float] = {}

    def __call__(self, context: StepContext) -> torch.Tensor | None:
        """Return the weighted sum of the terms for one unlabelled crop and, where there are any, one exemplar."""
        sam, adapter, rng = context.sam, context.adapter, context.rng
        number = int(rng.integers(len(self._tiles)))
        exemplar = int(rng.integers(len(self._exemplars))) if self._exemplars else None
        if self._mean is not None:
            self._mean.update(adapter, context.step)
        with training_precision(device_of(sam), amp=context.amp):
            known = self._base(context, number)
            prompts, rows = known.grid.some(CLICKS, BOXES, rng)
            terms = self._on_tile(context, self._tiles[number], known, prompts, rows)
            if exemplar is not None:
                terms["old"] = (terms["old"] + self._on_exemplar(context, exemplar)) / 2
        self.figures = {name: float(value.detach()) for name, value in terms.items()}
        weights = {
            "feature": self._config.feature,
            "mask": self._config.mask,
            "mutual": self._config.mutual,
            "old": self._config.old,
        }
        return torch.stack([weights[name] * value for name, value in terms.items()]).sum()

    def remembered(self) -> dict[str, torch.Tensor]:
        """Return the running mean: see :class:`.distil_hook.Remembering`."""
        return {} if self._mean is None else self._mean.remembered()

    def recall(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up the running mean where a run was stopped: see :class:`.distil_hook.Remembering`."""
        if self._mean is not None and tensors:
            self._mean.recall(tensors)

    def _base(self, context: StepContext, number: int) -> _Known:
        """Return what the base says about a crop, from memory or by asking it."""
        if number not in self._known:
            sam = context.sam
            image = self._tiles[number].image.to(device_of(sam))[None]
            with torch.no_grad(), instead(sam, context.adapter, None):
                embedding = see(sam, None, image, SideInputs()).embedding.float()
                grid = grid_prompts(sam, embedding, self._config.least_iou, bumps=self._bumps)
                logits, predicted = answer(sam, embedding, grid, bumps=self._bumps)
            half = (embedding.half().cpu(), logits.half().cpu())
            self._known[number] = _Known(half[0], grid, half[1], predicted.cpu())
        return self._known[number]

    def _on_tile(
        self, context: StepContext, tile: Unlabelled, known: _Known, prompts: Prompts, rows: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        config, device = self._config, device_of(context.sam)
        teacher = known.embedding.to(device).float()
        own = _look(context.sam, context.adapter, tile, teacher)
        answers = [answer(context.sam, stream[None], prompts, bumps=self._bumps)[0] for stream in own.embedding]
        masks = known.logits[rows].to(device).float()
        terms = {
            "mask": mask_imitation(answers[0], masks, known.predicted[rows].to(device), config.least_iou),
        }
        if self._mean is None and self._previous is None:
            terms["old"] = divergence(answers[0], masks, config.temperature).mean()
        else:
            terms["old"] = self._old(context, tile, prompts, _Answered(own, answers[0]), teacher)
        if context.adapter.tunes_encoder:
            terms["feature"] = feature_distance(own.embedding[:1], teacher)
        if len(answers) == 2:
            terms["mutual"] = mutual(answers[0], answers[1], config.temperature, config.confident)
        return terms

    def _on_exemplar(self, context: StepContext, number: int) -> torch.Tensor:
        sam, exemplar = context.sam, self._exemplars[number]
        tile, prompts = Unlabelled(exemplar.image), _prompts_of(exemplar)
        base = None if context.adapter.tunes_encoder else self._embedded.get(number)
        own = _look(sam, context.adapter, tile, base)
        if not context.adapter.tunes_encoder:
            self._embedded[number] = own.embedding.detach()
        answered = _Answered(own, answer(sam, own.embedding[:1], prompts, bumps=self._bumps)[0])
        return self._old(context, tile, prompts, answered, self._embedded.get(number))

    def _old(
        self,
        context: StepContext,
        tile: Unlabelled,
        prompts: Prompts,
        own: _Answered,
        base: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return how far the adapter's answers are from the previous version's."""
        before = self._previous if self._mean is None else self._mean.adapter
        with torch.no_grad(), instead(context.sam, context.adapter, before):
            seen = _look(context.sam, before, tile, base)
            target, _ = answer(context.sam, seen.embedding[:1], prompts, bumps=self._bumps)
        loss = divergence(own.logits, target, self._config.temperature).mean()
        classes = own.seen.classes
        if classes is not None and seen.classes is not None and classes.shape == seen.classes.shape:
            loss = loss + divergence(classes, seen.classes, self._config.temperature, classes=True).mean()
        return loss


def _look(sam: Sam, adapter: Adapter | None, tile: Unlabelled, base: torch.Tensor | None = None) -> _Seen:
    """Encode a crop with the adapter that is attached.

    Args:
        sam: the base.
        adapter: the one attached, or None.
        tile: the crop.
        base: (1, 256, h, w) embedding of the base alone, where it is known: that of an adapter without an encoder part.
    """
    device = device_of(sam)
    head = _semantic(adapter)
    if adapter is None or not (adapter.tunes_encoder or head):
        return _Seen(see(sam, None, tile.image.to(device)[None], SideInputs()).embedding if base is None else base)
    two = tile.second is not None and adapter.tunes_encoder
    images = torch.stack([tile.image, tile.second] if two and tile.second is not None else [tile.image]).to(device)
    side = SideInputs(bands=as_batch(tile.bands, device), streams=len(images))
    features = see(sam, adapter, images, side, _collected(sam, adapter))
    if head is None:
        return _Seen(features.embedding)
    with adapter.given(side):
        return _Seen(features.embedding, head(features))


def _collected(sam: Sam, adapter: Adapter) -> tuple[int, ...]:
    """Return the blocks that the adapter's heads look at."""
    heads = (config for config in adapter.configs if isinstance(config, HeadConfig))
    return tuple(sorted({block for config in heads for block in config.collect(sam)}))


def _semantic(adapter: Adapter | None) -> SemanticHead | None:
    parts = () if adapter is None else adapter.parts.values()
    return next((part for part in parts if isinstance(part, SemanticHead)), None)


def _prompts_of(exemplar: Exemplar) -> Prompts:
    """Return a click in the middle of an exemplar's object and its box."""
    places = exemplar.mask.nonzero().float()
    rows, columns = places[:, 0], places[:, 1]
    middle = places[((places - places.mean(dim=0)) ** 2).sum(dim=1).argmin()]
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return Prompts((middle.flip(0)[None] + 0.5) * 4, torch.stack(box)[None] * 4)
