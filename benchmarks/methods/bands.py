"""Question b: what are the bands besides red, green and blue worth, and which method takes them in best?

Class maps from few labels: Landsat 7 (5 bands, class polygons), EnMAP (224 bands) and Sentinel-2 (10 bands).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from samtune.models.heads.semantic import SemanticConfig
from samtune.models.peft.band_stem import BandStemConfig
from samtune.models.peft.contract import MethodConfig
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.new_patch_embed import NewPatchEmbedConfig
from samtune.models.peft.selective import BitFitConfig, FullConfig
from samtune.models.peft.sites import EVERY_LAYER

from .base import Arm, Options, base, facts, new_adapter, trainable
from .data import ENMAP, LANDSAT, SENTINEL, Bands, enmap, fingerprint, folder, landsat, sentinel
from .maps import MapCrop, crops_of, measure, train
from .promptable import Recipe
from .record import Column, Report, Run

RGB, STEM, LORA_ALL = "RGB, head only", "band stem", "all bands, LoRA r16"
_SHARE = 5
_HEAD_RATE = 3e-3
_FIRST = 4


@dataclass(frozen=True)
class Ground:
    """A set, and how it is used.

    Attributes:
        read: from the folder.
        zoom: input pixels of a raster pixel.
        taught: share of the groups that are learnt from.
    """

    read: Callable[[Path], Bands]
    zoom: int
    taught: float


GROUNDS = (Ground(landsat, 4, 0.5), Ground(sentinel, 2, 0.25), Ground(enmap, 4, 0.66))


def arms(channels: int, classes: int) -> tuple[Arm, ...]:
    """Return what is compared, for a number of bands and classes, what matters most first; all have the same head."""
    head = SemanticConfig(classes=classes)
    wide = LoraConfig(rank=16, alpha=16.0, layers=EVERY_LAYER, projections=())
    patch = NewPatchEmbedConfig(channels=channels)

    def arm(name: str, *configs: MethodConfig, rate: float = 1e-3) -> Arm:
        return Arm(name, (*configs, head), rate)

    return (
        arm(RGB),
        arm(STEM, BandStemConfig(channels=channels)),
        arm(LORA_ALL, patch, wide),
        arm("all bands, new patch embedding", patch),
        arm("all bands, BitFit", patch, BitFitConfig()),
        arm("RGB, full", FullConfig(), rate=3e-4),
        arm("RGB, LoRA r16", wide),
        arm("RGB, BitFit", BitFitConfig()),
    )


def run(options: Options) -> Report:
    """Measure.

    Args:
        options: how the program was called; a quick run takes one of the sets.
    """
    quick = options.quick
    root = folder(options.data, LANDSAT, ENMAP, SENTINEL)
    card, sam = base()
    recipe = Recipe(steps=3 if quick else 80, crops=4, head_rate=_HEAD_RATE)
    seeds = (0,) if quick else (0, 1, 2)
    grounds = [(ground, ground.read(root)) for ground in (GROUNDS[:1] if quick else GROUNDS)]
    used = fingerprint([array for _, bands in grounds for array in (bands.values, bands.classes)])
    about = {"command": options.command, "seeds": seeds, "steps": recipe.steps, "crops of a step": recipe.crops}
    report = Report(
        "b. Bands: mean IoU of class maps on ground that was not learnt from",
        facts(card, about, used),
        [Column(f"{b.name}, {len(b.values)} bands: mIoU", b.name, "miou") for _, b in grounds],
        file=options.json,
        minutes=options.minutes,
        only=options.only,
    )
    report.go_on()
    for ground, bands, places in _turns(grounds):
        classes = int(bands.classes.max()) + 1
        for seed in seeds:
            taught, tested = parted(bands, ground.taught, seed)
            learn, test = (crops_of(bands, side, zoom=ground.zoom) for side in (taught, tested))
            for arm in arms(len(bands.values), classes)[places]:
                if report.needs(arm.name, bands.name, seed):
                    adapter = new_adapter(sam, arm, seed)
                    cost = train(sam, adapter, _shown(learn, arm), classes, replace(recipe, rate=arm.rate), seed)
                    found = measure(sam, adapter, _shown(test, arm), classes)
                    report.add(Run(arm.name, bands.name, seed, found, trainable(sam, arm), cost.seconds, cost.memory))
    report.conclude(lambda made: findings(made, [bands.name for _, bands in grounds]))
    return report


def _turns(grounds: Sequence[tuple[Ground, Bands]]) -> list[tuple[Ground, Bands, slice]]:
    """Return the sets with the arms that are wanted most, then again with the others."""
    return [(ground, bands, part) for part in (slice(_FIRST), slice(_FIRST, None)) for ground, bands in grounds]


def _shown(crops: Sequence[MapCrop], arm: Arm) -> list[MapCrop]:
    return [replace(crop, bands=None) for crop in crops] if arm.name.startswith("RGB") else list(crops)


def parted(ground: Bands, taught: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part the groups at random so that, class by class, a share of those that have it is learnt from, at least one.

    A class that only one group has is learnt and not measured.
    """
    rng = np.random.default_rng([seed, 0])
    known = ground.classes >= 0
    chosen: set[int] = set()
    others: set[int] = set()
    counts = {c: np.unique(ground.groups[known & (ground.classes == c)]) for c in np.unique(ground.classes[known])}
    for members in sorted(counts.values(), key=len):
        free = [int(group) for group in members if group not in chosen | others]
        already = len(chosen & {int(group) for group in members})
        wanted = max(1, round(taught * len(members))) - already
        order = [free[index] for index in rng.permutation(len(free))]
        chosen.update(order[: max(wanted, 0)])
        others.update(order[max(wanted, 0) :])
    return np.array(sorted(chosen)), np.array(sorted(others))


def findings(report: Report, names: Sequence[str]) -> list[str]:
    """Compare the band stem with the image alone and with LoRA, and their sizes."""
    found = []
    for name in names:
        over_rgb, over_lora = (report.gain(STEM, arm, name, "miou") for arm in (RGB, LORA_ALL))
        if over_rgb is None or over_lora is None:
            continue
        sizes = {run.arm: run.trainable for run in report.runs if run.case == name}
        share = sizes[STEM] / sizes[LORA_ALL]
        found.append(f"{name}: band stem less RGB alone {over_rgb:+.3f}; aim: above, {_verdict(over_rgb > 0)}.")
        found.append(
            f"{name}: band stem less LoRA r16 on all bands {over_lora:+.3f}; aim: level (0.005), "
            f"{_verdict(over_lora >= -0.005)}; with {share:.2f} of its parameters; aim: at most 1/{_SHARE}, "
            f"{_verdict(share <= 1 / _SHARE)}."
        )
    return found


def _verdict(met: bool) -> str:  # noqa: FBT001 - nothing but a truth value put into words
    return "met" if met else "not met"
