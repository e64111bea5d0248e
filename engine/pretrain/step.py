"""What one training step computes: prompts, answers, corrections, losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...models.batch_decode import decode_batch
from ...models.losses import dice, focal, true_iou
from ...models.prompt_mask import LIKENESS_LOGIT, draw_prompts, likeness
from ...models.sam_modules import Sam
from ...models.tiny import GRID, MEAN, PATCH, STD
from .prompting import Batch, correction_clicks

FOCAL_WEIGHT = 20.0
DICE_WEIGHT = 2.0
LIKENESS_WEIGHT = 1.0
MEAN_SHARE = 0.25
"""Three answers to one click are taught by the best one's loss, and by this share of all three's: otherwise each
becomes so special that choosing among them by predicted IoU goes wrong, and two of them learn next to nothing."""
_FORGET = 0.1  # share of corrections given without the previous answer


@dataclass(frozen=True)
class StepResult:
    """Loss and figures of a step.

    Attributes:
        loss: scalar to differentiate.
        figures: means for the log: ``focal``, ``dice``, ``iou_error`` (absolute, of the predicted IoU), ``point`` and
            ``box`` (IoU after the first prompt), ``corrected`` (IoU after the last click).
    """

    loss: torch.Tensor
    figures: dict[str, float]


def normalise(images: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Turn (B, 3, S, S) uint8 images into SAM's normalised floats, 0 outside ``valid`` (B, S, S)."""
    mean = torch.tensor(MEAN, device=images.device)[:, None, None]
    std = torch.tensor(STD, device=images.device)[:, None, None]
    scaled = (images.float() - mean) / std * valid[:, None]
    return scaled.contiguous(memory_format=torch.channels_last)


def run_step(sam: Sam, batch: Batch, clicks: int, rng: np.random.Generator, *, bf16: bool) -> StepResult:
    """Compute the loss of a batch.

    Args:
        sam: the model.
        batch: images, targets and first prompts, on the model's device.
        clicks: correction clicks after the first prompt.
        rng: random generator.
        bf16: compute in bfloat16 where it is safe.
    """
    height, width = (side // PATCH for side in batch.images.shape[-2:])
    window = (int(rng.integers(GRID - height + 1)), int(rng.integers(GRID - width + 1)))
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=bf16):
        embeddings = sam.image_encoder(normalise(batch.images, batch.valid), *window)
    images = len(batch.images)
    each = len(batch.targets) // images
    split = (images - batch.boxed) * each
    parts = []
    if split:
        embedded = embeddings[: images - batch.boxed]
        parts.append(_Part(sam, embedded, batch, slice(0, split), window, bf16=bf16, boxed=False))
    if batch.boxed:
        embedded = embeddings[images - batch.boxed :]
        parts.append(_Part(sam, embedded, batch, slice(split, None), window, bf16=bf16, boxed=True))
    for _ in range(clicks + 1):
        for part in parts:
            part.ask(rng)
    loss = torch.cat([torch.stack(part.losses).mean(dim=0) for part in parts]).mean()
    logged = {name: [value for part in parts for value in part.logged[name]] for name in parts[0].logged}
    figures = {name: float(np.mean(values)) for name, values in logged.items()}
    for part in parts:
        if part.known.any():
            figures["box" if part.boxed else "point"] = float(part.ious[0][part.known].mean())
    last = torch.cat([part.ious[-1][part.known] for part in parts])
    figures["corrected"] = float(last.mean())
    return StepResult(loss, figures)


class _Part:
    """The objects of a batch that begin with the same kind of prompt, through their clicks."""

    def __init__(
        self,
        sam: Sam,
        embeddings: torch.Tensor,
        batch: Batch,
        rows: slice,
        window: tuple[int, int],
        *,
        bf16: bool,
        boxed: bool,
    ) -> None:
        self._sam, self._embeddings, self._window, self._bf16 = sam, embeddings, window, bf16
        self.boxed = boxed
        self._targets = batch.targets[rows]
        self.known = self._targets.flatten(1).amax(dim=1) > 0
        count, device = len(self._targets), embeddings.device
        self._boxes = batch.boxes[rows] if boxed else None
        self._points = torch.zeros(count, 0, 2, device=device) if boxed else batch.points[rows]
        self._labels = torch.zeros(count, 0, dtype=torch.int64, device=device)
        if not boxed:
            self._labels = torch.ones(count, 1, dtype=torch.int64, device=device)
        self._previous: torch.Tensor | None = None
        self._aid: torch.Tensor | float = 0.0
        self.losses: list[torch.Tensor] = []
        self.ious: list[torch.Tensor] = []
        self.logged: dict[str, list[float]] = {"focal": [], "dice": [], "iou_error": []}

    def ask(self, rng: np.random.Generator) -> None:
        """Decode with the prompts so far, keep the losses, and add a correction click for the next time."""
        size = (self._targets.shape[-2], self._targets.shape[-1])
        planes = draw_prompts(size, self._points, self._labels, self._boxes, self._previous, self._embeddings)
        with torch.autocast(self._embeddings.device.type, torch.bfloat16, enabled=self._bf16):
            logits, predicted = decode_batch(
                self._sam, self._embeddings, self._points, self._labels, self._boxes, planes, self._window
            )
        single_click = self._points.shape[1] == 1 and self._boxes is None
        if not self.losses:
            self._aid = self._teach_likeness(planes[:, 0])
        answers = slice(1, 4) if single_click else slice(0, 1)
        answer = self._score(logits[:, answers].float(), predicted[:, answers].float())
        points, labels = correction_clicks(answer, self._targets, rng)
        self._points = torch.cat([self._points, points], dim=1)
        self._labels = torch.cat([self._labels, labels], dim=1)
        self._previous = None if rng.random() < _FORGET else answer

    def _teach_likeness(self, planes: torch.Tensor) -> torch.Tensor:
        """Return (N,) losses of what the first prompt's embedding alone says, taken as an answer.

        So embeddings come to be alike within an object and unlike around it.

        Args:
            planes: (N, h, w) mask prompts as drawn; those of clicks have the bump, which is left out here.
        """
        if not self.boxed:
            size = (planes.shape[-2], planes.shape[-1])
            planes = LIKENESS_LOGIT * likeness(self._embeddings, self._points, self._labels, size)
        return LIKENESS_WEIGHT * dice(planes, self._targets) * self.known

    def _score(self, logits: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
        """Keep loss and figures of (N, K, h, w) answers; return the (N, h, w) answer of the highest predicted IoU."""
        targets = self._targets[:, None].expand_as(logits)
        each_focal, each_dice = focal(logits, targets), dice(logits, targets) * self.known[:, None]
        each = FOCAL_WEIGHT * each_focal + DICE_WEIGHT * each_dice
        best = each.min(dim=1)
        mixed = (1 - MEAN_SHARE) * best.values + MEAN_SHARE * each.mean(dim=1)
        truth = true_iou(logits.detach(), targets)
        # All answers' IoU is taught, not only the best one's: the head has to choose among them.
        aid = self._aid if self.losses == [] else 0.0
        self.losses.append(mixed + aid + ((predicted - truth) ** 2).mean(dim=1))
        chosen = predicted.argmax(dim=1)
        rows = torch.arange(len(chosen), device=chosen.device)
        self.ious.append(truth[rows, chosen])
        self.logged["focal"].append(float(each_focal[rows, best.indices].detach().mean()))
        self.logged["dice"].append(float(each_dice[rows, best.indices].detach().mean()))
        self.logged["iou_error"].append(float((predicted - truth)[rows, chosen].detach().abs().mean()))
        return logits.detach()[rows, chosen]
