"""Question d: what does tuning for one kind of object cost elsewhere, and how much of it does distillation keep?

Tuned on houses of LEVIR-CD as in question a, with and without distillation from the untuned model on ground that nobody
labelled (the earlier images of the same places). Measured on those houses, and on other classes and other imagery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from samtune.engine.tuning.distil import Distiller
from samtune.engine.tuning.distil_hook import ExtraLoss
from samtune.engine.tuning.distil_run import GENERAL
from samtune.engine.tuning.distil_streams import Unlabelled
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.selective import DecoderConfig, FullConfig
from samtune.models.sam_modules import Sam

from .base import Arm, Options, base, facts, new_adapter, trainable
from .data import (
    LEVIR,
    NWPU,
    WATER,
    Scene,
    change_objects,
    close_ups,
    fingerprint,
    folder,
    normalised,
    nwpu_scenes,
    pictures,
    water_scenes,
)
from .few_shot import STEPS, first_objects, parted
from .promptable import Recipe, measure, train
from .record import Column, Report, Run

TARGET, OTHERS, WATERS = "houses", "NWPU", "water"
OBJECTS = 50
_DESIGN, _SHIPPED = ", distilled", ", distilled harder"
_MODES = ("", _DESIGN, _SHIPPED)
"""Nothing; the design's starting weights with a running mean; what ``--keep-general`` does."""

ARMS = (
    Arm("decoder", (DecoderConfig(),), 1e-3),
    Arm("LoRA r4 q, v", (LoraConfig(),), 1e-2),
    Arm("full", (FullConfig(),), 2e-3),
    Arm("LoRA r4 + decoder", (LoraConfig(), DecoderConfig()), 1e-2),
)


def run(options: Options) -> Report:
    """Measure.

    Args:
        options: how the program was called.
    """
    quick = options.quick
    root = folder(options.data, LEVIR, NWPU, WATER)
    card, sam = base()
    recipe = Recipe(steps=3 if quick else STEPS, crops=4, objects=1, head_rate=1e-3)
    seeds = (0,) if quick else (0, 1, 2)
    houses = change_objects(root, "LEVIR")
    others = _some(nwpu_scenes(root), 2 if quick else 20)
    water = water_scenes(root, 2 if quick else 12, np.random.default_rng(0))
    ground = pictures(root, "LEVIR")
    used = fingerprint([a for s in (*houses, *others, *water) for a in (s.image, s.masks)] + ground)
    about = {"command": options.command, "seeds": seeds, "steps": recipe.steps, "objects": OBJECTS}
    report = Report(
        "d. Forgetting: mean IoU (1 click, 3 clicks, box) before and after tuning for houses",
        facts(card, {**about, "unlabelled crops": len(ground)}, used),
        [
            Column("houses (tuned for)", TARGET, "iou"),
            Column("NWPU: 10 classes", OTHERS, "iou"),
            Column("water, Sentinel-2", WATERS, "iou"),
        ],
        file=options.json,
        minutes=options.minutes,
        only=options.only,
    )
    report.go_on()
    tiles = [Unlabelled(normalised(image[None])[0]) for image in ground]
    elsewhere = ((OTHERS, others), (WATERS, water))
    for seed in seeds:
        learn, test = parted(houses, OBJECTS, seed)
        cases = ((TARGET, close_ups(test[:2] if quick else test)), *elsewhere)
        few = close_ups(first_objects(learn, OBJECTS))
        for case, scenes in cases:
            if report.needs("before", case, seed):
                report.add(Run("before", case, seed, measure(sam, None, scenes)))
        for arm in ARMS:
            for mode in _MODES:
                name = f"{arm.name}{mode}"
                if not report.needs(name, WATERS, seed):
                    continue
                adapter = new_adapter(sam, arm, seed)
                extra = _loss(mode, sam, adapter, tiles)
                cost = train(sam, adapter, few, replace(recipe, rate=arm.rate), seed, extra)
                made = [(case, measure(sam, adapter, scenes)) for case, scenes in cases]
                for case, found in made:
                    report.add(Run(name, case, seed, found, trainable(sam, arm), cost.seconds, cost.memory))
    report.conclude(findings)
    return report


def _loss(mode: str, sam: Sam, adapter: Adapter, tiles: Sequence[Unlabelled]) -> ExtraLoss | None:
    if mode == _SHIPPED:
        return Distiller(sam, adapter, tiles, config=GENERAL, running_mean=False)
    return Distiller(sam, adapter, tiles) if mode == _DESIGN else None


def _some(scenes: Sequence[Scene], most: int) -> list[Scene]:
    """Return scenes in turns from every class, so that the frequent ones do not decide."""
    by_class: dict[str, list[Scene]] = {}
    for scene in scenes:
        by_class.setdefault(scene.name, []).append(scene)
    longest = max(len(found) for found in by_class.values())
    turns = [found[index] for index in range(longest) for found in by_class.values() if index < len(found)]
    return turns[:most]


def findings(report: Report) -> list[str]:
    """Say what each arm gains on its objects and loses elsewhere, without and with distillation."""
    found = []
    for arm in ARMS:
        texts = []
        for mode in _MODES:
            name = f"{arm.name}{mode}"
            if not report.values(name, WATERS, "iou"):
                continue
            change = [report.gain(name, "before", c, "iou") or 0.0 for c in (TARGET, OTHERS, WATERS)]
            texts.append(f"{name}: houses {change[0]:+.3f}, NWPU {change[1]:+.3f}, water {change[2]:+.3f}")
        found.extend(texts)
    return found
