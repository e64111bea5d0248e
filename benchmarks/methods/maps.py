"""Tuning for class maps on crops at hand, with bands or a second modality, and measuring by intersection over union."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from samtune.models.encoder import encode
from samtune.models.heads.contract import IGNORE, HeadConfig, SemanticHead
from samtune.models.heads.semantic import class_map, class_weights, semantic_loss
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.contract import SideInputs
from samtune.models.sam_modules import Sam

from .data import Bands, normalised
from .measuring import Cost
from .promptable import Recipe, bf16, laid, taught

SIDE = 128
_WAYS = 8


@dataclass(frozen=True)
class MapCrop:
    """A crop with a class map.

    Attributes:
        image: (S, S, 3) uint8.
        classes: (S, S) int64 with ``IGNORE`` where nothing is known.
        bands: (S, S, C) float32, standardised, NaN without data; or None.
        second: (S, S, 3) uint8, the second modality as a picture; or None.
    """

    image: NDArray[np.uint8]
    classes: NDArray[np.int64]
    bands: NDArray[np.float32] | None = None
    second: NDArray[np.uint8] | None = None

    def laid(self, way: int) -> MapCrop:
        """Return it turned or mirrored."""
        return MapCrop(
            laid(self.image, way),
            laid(self.classes, way),
            None if self.bands is None else laid(self.bands, way),
            None if self.second is None else laid(self.second, way),
        )


def picture(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch (3, H, W) between the 2 % and 98 % quantiles of each band into (H, W, 3) uint8; 0 without data."""
    low, high = (np.nanpercentile(values, q, axis=(1, 2), keepdims=True) for q in (2, 98))
    scaled = np.clip((values - low) / np.maximum(high - low, 1e-6) * 255, 0, 255)
    return np.ascontiguousarray(np.nan_to_num(scaled).round().astype(np.uint8).transpose(1, 2, 0))


def standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring every band of (C, H, W) to mean 0 and deviation 1, clipped at 6; (H, W, C)."""
    mean, std = (f(values, axis=(1, 2), keepdims=True) for f in (np.nanmean, np.nanstd))
    scaled = np.clip((values - mean) / np.maximum(std, 1e-6), -6, 6)
    return np.ascontiguousarray(scaled.transpose(1, 2, 0).astype(np.float32))


def crops_of(ground: Bands, groups: NDArray[np.int64], *, zoom: int) -> list[MapCrop]:
    """Cut ground into crops that do not overlap; in each only the labels of some groups are known.

    Args:
        ground: what to cut.
        groups: numbers of the groups whose labels are known.
        zoom: input pixels of a raster pixel.
    """
    image, bands = picture(ground.values[list(ground.rgb)]), standardised(ground.values)
    second = picture(ground.values[list(ground.second)])
    classes = np.where(np.isin(ground.groups, groups), ground.classes, IGNORE)
    step = SIDE // zoom
    found = []
    for row in range(0, classes.shape[0] - step + 1, step):
        for column in range(0, classes.shape[1] - step + 1, step):
            window = (slice(row, row + step), slice(column, column + step))
            if (classes[window] != IGNORE).any():
                grown = (_grown(layer[window], zoom) for layer in (image, classes, bands, second))
                found.append(MapCrop(*grown))
    return found


def _grown(values: NDArray[np.generic], zoom: int) -> NDArray[np.generic]:
    return values.repeat(zoom, axis=0).repeat(zoom, axis=1)


def train(
    sam: Sam, adapter: Adapter, crops: Sequence[MapCrop], classes: int, recipe: Recipe, seed: int, *, two: bool = False
) -> Cost:
    """Tune an adapter with its head on class maps; it stays detached afterwards.

    Args:
        sam: the base.
        adapter: new, with a head.
        crops: to learn from.
        classes: how many there are.
        recipe: how long and how hard; ``objects`` and ``prompts`` mean nothing here.
        seed: of everything drawn, the same for all arms.
        two: show the second modality as well.

    Returns:
        Processor seconds of a step, and memory.
    """
    adapter.attach(sam)
    adapter.train()
    weights = class_weights([torch.from_numpy(crop.classes) for crop in crops], classes)

    def sample(step: int) -> torch.Tensor:
        rng = np.random.default_rng([seed, 1, step])
        chosen = [crops[int(rng.integers(len(crops)))].laid(int(rng.integers(_WAYS))) for _ in range(recipe.crops)]
        labels = torch.from_numpy(np.stack([crop.classes for crop in chosen]))
        return semantic_loss(_logits(sam, adapter, chosen, two=two), labels, weights)

    return taught(sam, adapter, recipe, seed, sample, shown=8)


def _logits(sam: Sam, adapter: Adapter, crops: Sequence[MapCrop], *, two: bool) -> torch.Tensor:
    images = normalised(np.stack([crop.image for crop in crops]))
    side = SideInputs()
    if two:
        seconds = [crop.second for crop in crops if crop.second is not None]
        images, side = torch.cat([images, normalised(np.stack(seconds))]), SideInputs(streams=2)
    elif crops[0].bands is not None:
        bands = np.stack([crop.bands for crop in crops if crop.bands is not None])
        side = SideInputs(bands=torch.from_numpy(bands).permute(0, 3, 1, 2).contiguous())
    head = next(part for part in adapter.parts.values() if isinstance(part, SemanticHead))
    heads = [config for config in adapter.configs if isinstance(config, HeadConfig)]
    with adapter.given(side), torch.autocast("cpu", torch.bfloat16, enabled=bf16()):
        # Where only the head is trained, no gradient is wanted within the encoder.
        with torch.set_grad_enabled(torch.is_grad_enabled() and adapter.tunes_encoder):
            features = encode(sam.image_encoder, images, collect=heads[0].collect(sam))
        logits: torch.Tensor = head(features)
    return logits


@torch.no_grad()
def measure(
    sam: Sam, adapter: Adapter, crops: Sequence[MapCrop], classes: int, *, two: bool = False
) -> dict[str, float]:
    """Return mean IoU over the classes that occur among the known pixels, and the share of them that are right."""
    adapter.attach(sam)
    table = torch.zeros(classes, classes, dtype=torch.int64)
    for start in range(0, len(crops), 4):
        part = crops[start : start + 4]
        found = class_map(_logits(sam, adapter, part, two=two), (SIDE, SIDE)).classes
        truth = torch.from_numpy(np.stack([crop.classes for crop in part]))
        known = truth != IGNORE
        flat = truth[known] * classes + found[known]
        table += torch.bincount(flat, minlength=classes**2).view(classes, classes)
    adapter.detach()
    return scores_of(table)


def scores_of(table: torch.Tensor) -> dict[str, float]:
    """Return ``miou`` and ``accuracy`` of a (K, K) confusion table, rows being the truth.

    Classes that are not there to be found take no part in the mean, but what is taken for them by mistake is missed.
    """
    right = table.diagonal().double()
    either = table.sum(dim=0) + table.sum(dim=1) - table.diagonal()
    present = table.sum(dim=1) > 0
    iou = right[present] / either[present].clamp_min(1)
    return {"miou": float(iou.mean()), "accuracy": float(right.sum() / table.sum().clamp_min(1))}
