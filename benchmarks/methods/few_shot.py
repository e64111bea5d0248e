"""Question a: what do a few outlined houses teach a promptable model, by which method?

Houses of LEVIR-CD (0.5 m), which the model was never shown and finds hard, each in a crop of 64 px shown as 128. Images
are parted, never the objects of one image. All arms see the same objects in the same order for as many steps.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from samtune.models.peft.adaptformer import AdaptFormerConfig
from samtune.models.peft.conv_lora import ConvLoraConfig
from samtune.models.peft.dora import DoraConfig
from samtune.models.peft.gate_config import GateConfig, Selection
from samtune.models.peft.hybrid import HybridConfig
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.selective import BitFitConfig, DecoderConfig, FullConfig, NormConfig
from samtune.models.peft.sites import EVERY_LAYER

from .base import Arm, Options, base, facts, new_adapter, trainable
from .data import LEVIR, Scene, change_objects, close_ups, fingerprint, folder
from .promptable import Recipe, measure, train
from .record import Column, Report, Run

FROZEN, FULL, GATE = "frozen", "full", "gate 0.3 %"
SIZES = (5, 10, 20, 50)
_FIRST = 20
STEPS = 50
AIM = 0.85
_MAIN = (GATE, FULL, "decoder", "LoRA r4 q, v", "AdaptFormer")

ARMS = (
    Arm("decoder", (DecoderConfig(),), 1e-3),
    Arm("BitFit", (BitFitConfig(),), 1e-2),
    Arm("norms", (NormConfig(),), 1e-2),
    Arm("LoRA r4 q, v", (LoraConfig(),), 1e-2),
    Arm("LoRA r8 all layers", (LoraConfig(rank=8, alpha=8.0, layers=EVERY_LAYER),), 5e-3),
    Arm("late LoRA r8", (LoraConfig(rank=8, alpha=8.0, layers=EVERY_LAYER, start=0.5),), 5e-3),
    Arm("DoRA r4 q, v", (DoraConfig(),), 1e-2),
    Arm("AdaptFormer", (AdaptFormerConfig(),), 1e-2),
    Arm("Conv-LoRA", (ConvLoraConfig(),), 1e-2),
    Arm(GATE, (GateConfig(),), 2e-2),
    Arm("scored 0.3 %", (GateConfig(selection=Selection.SCORED),), 2e-2),
    Arm("hybrid", (HybridConfig(),), 5e-3),
    Arm("LoRA r4 + decoder", (LoraConfig(), DecoderConfig()), 1e-2),
    Arm(FULL, (FullConfig(),), 2e-3),
)


def run(options: Options) -> Report:
    """Measure; the middle number of objects first.

    Args:
        options: how the program was called.
    """
    quick = options.quick
    scenes = change_objects(folder(options.data, LEVIR), "LEVIR")
    card, sam = base()
    recipe = Recipe(steps=3 if quick else STEPS, crops=4, objects=1, head_rate=1e-3)
    sizes, seeds = ((5,), (0,)) if quick else (SIZES, (0, 1, 2))
    used = fingerprint([array for scene in scenes for array in (scene.image, scene.masks)])
    shape = (recipe.crops, recipe.objects)
    about = {"command": options.command, "seeds": seeds, "steps": recipe.steps, "crops x objects": shape}
    report = Report(
        "a. Few-shot: mean IoU (1 click, 3 clicks, box) of houses that were not learnt from",
        facts(card, about, used),
        [Column(f"{size} objects", str(size), "iou") for size in sizes],
        file=options.json,
        minutes=options.minutes,
        only=options.only,
    )
    report.go_on()
    for size, main in _order(sizes):
        for seed in seeds:
            learn, test = parted(scenes, max(SIZES), seed)
            test = close_ups(test[:2] if quick else test)
            if report.needs(FROZEN, str(size), seed):
                report.add(Run(FROZEN, str(size), seed, measure(sam, None, test)))
            few = close_ups(first_objects(learn, size))
            for arm in ARMS:
                if (arm.name in _MAIN) == main and report.needs(arm.name, str(size), seed):
                    adapter = new_adapter(sam, arm, seed)
                    cost = train(sam, adapter, few, replace(recipe, rate=arm.rate), seed)
                    found = measure(sam, adapter, test)
                    report.add(Run(arm.name, str(size), seed, found, trainable(sam, arm), cost.seconds, cost.memory))
    report.conclude(lambda made: findings(made, sizes))
    return report


def _order(sizes: Sequence[int]) -> list[tuple[int, bool]]:
    """Return (number of objects, whether the main arms' turn it is) in the order of interest."""
    ordered = sorted(sizes, key=lambda size: (size != _FIRST, -size))
    turns = [(size, main) for main in (True, False) for size in ordered]
    return sorted(turns, key=lambda turn: turn[0] != _FIRST)


def parted(scenes: Sequence[Scene], most: int, seed: int) -> tuple[list[Scene], list[Scene]]:
    """Part images at random: as many for training as hold ``most`` objects, the others for measuring."""
    order = np.random.default_rng([seed, 0]).permutation(len(scenes))
    chosen: list[Scene] = []
    left = [scenes[index] for index in order]
    while left and sum(len(scene.masks) for scene in chosen) < most:
        chosen.append(left.pop(0))
    return chosen, left


def first_objects(scenes: Sequence[Scene], count: int) -> list[Scene]:
    """Return scenes with the first ``count`` objects, in turns from every image, so that more contain fewer."""
    kept: list[list[int]] = [[] for _ in scenes]
    taken = 0
    for place in range(max(len(scene.masks) for scene in scenes)):
        for index, scene in enumerate(scenes):
            if place < len(scene.masks) and taken < count:
                kept[index].append(place)
                taken += 1
    return [replace(s, masks=s.masks[rows]) for s, rows in zip(scenes, kept, strict=True) if rows]


def findings(report: Report, sizes: Sequence[int]) -> list[str]:
    """Say how much of full fine-tuning's gain the gate reaches."""
    found = []
    for size in sizes:
        case = str(size)
        ends = [report.values(name, case, "iou") for name in (FROZEN, GATE, FULL)]
        if not all(ends) or len({len(values) for values in ends}) > 1:
            continue
        frozen, gate, full = (statistics.fmean(values) for values in ends)
        if full - frozen <= 0:
            found.append(
                f"{size} objects: full fine-tuning gains nothing ({full - frozen:+.3f}), so there is no ratio."
            )
            continue
        ratio = (gate - frozen) / (full - frozen)
        verdict = "met" if ratio >= AIM else "not met"
        found.append(
            f"{size} objects: (gate - frozen) / (full - frozen) = {gate - frozen:+.3f} / {full - frozen:+.3f} = "
            f"{ratio:.2f}; aim >= {AIM}: {verdict}."
        )
    return found
