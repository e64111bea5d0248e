"""Question c: what does a second modality add, and must the streams exchange what they see?

A made-up city, in which height tells roofs from streets of the same colours, and a real pair: red, green and blue of
Sentinel-2 with its near infrared, red edge and short-wave infrared.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from samtune.models.heads.mfnet import MfnetHeadConfig
from samtune.models.peft.contract import MethodConfig
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.mm_adapter import MmAdapterConfig
from samtune.models.peft.mm_lora import MmLoraConfig
from samtune.models.peft.sites import Layer

from .bands import parted
from .base import Arm, Options, base, facts, new_adapter, trainable
from .city import CLASSES, Town, make_town
from .data import SENTINEL, Bands, fingerprint, folder, sentinel
from .maps import SIDE, MapCrop, crops_of, measure, train
from .promptable import Recipe
from .record import Column, Report, Run

CITY, PAIR = "city", "Sentinel-2"
_CITY_SEED = 20_260
_TOWNS = 6
_TALLEST = 10.0

_PLACES = (Layer.QKV, Layer.LIN1, Layer.LIN2)
_SINGLE: tuple[tuple[str, float, tuple[MethodConfig, ...]], ...] = (
    ("image, none", 3e-3, ()),
    ("image, LoRA", 3e-3, (LoraConfig(layers=_PLACES),)),
    ("image, Adapter", 2e-3, (MmAdapterConfig(ratio=4),)),
)
_DOUBLE: tuple[tuple[str, float, tuple[MethodConfig, ...]], ...] = (
    ("both, none", 3e-3, ()),
    ("both, plain LoRA", 3e-3, (MmLoraConfig(exchange=False),)),
    ("both, MMLoRA", 3e-3, (MmLoraConfig(),)),
    ("both, plain Adapter", 2e-3, (MmAdapterConfig(ratio=4, exchange=False),)),
    ("both, MMAdapter", 2e-3, (MmAdapterConfig(ratio=4),)),
)
SOURCE_ORDER = (
    ("image, none", "image, LoRA"),
    ("image, LoRA", "image, Adapter"),
    ("both, plain LoRA", "image, LoRA"),
    ("both, plain LoRA", "both, MMLoRA"),
    ("image, Adapter", "both, plain Adapter"),
    ("both, plain Adapter", "both, MMAdapter"),
    ("both, MMLoRA", "both, MMAdapter"),
)
"""Pairs of which the source's table (ViT-L on Vaihingen) has the second above the first."""


def arms(classes: int, *, fusion: bool) -> tuple[Arm, ...]:
    """Return what is compared; without fusion only what has two streams to fuse."""
    double = tuple(
        Arm(_name(name, fusion=fusion), (*configs, MfnetHeadConfig(classes=classes, fusion=fusion)), rate)
        for name, rate, configs in _DOUBLE
        if fusion or name != "both, plain Adapter"
    )
    if not fusion:
        return double
    single = tuple(
        Arm(name, (*configs, MfnetHeadConfig(classes=classes, streams=1)), rate) for name, rate, configs in _SINGLE
    )
    return single + double


def _name(name: str, *, fusion: bool) -> str:
    return name if fusion else f"{name}, no fusion module"


def run(options: Options) -> Report:
    """Measure. The city needs no data; without a folder it is all that is measured.

    Args:
        options: how the program was called.
    """
    quick = options.quick
    card, sam = base()
    recipe = Recipe(steps=3 if quick else 60, crops=2)
    seeds = (0,) if quick else (0, 1, 2)
    towns = [make_town(np.random.default_rng([_CITY_SEED, number])) for number in range(2 * _TOWNS * len(seeds))]
    pair = None if options.data is None else sentinel(folder(options.data, SENTINEL))
    arrays = [array for town in towns for array in (town.image, town.height)]
    used = fingerprint(arrays if pair is None else [*arrays, pair.values, pair.classes])
    about = {"command": options.command, "seeds": seeds, "steps": recipe.steps, "crops of a step": recipe.crops}
    cases = [CITY] if pair is None else [CITY, PAIR]
    report = Report(
        "c. Two modalities: mean IoU of class maps on ground that was not learnt from",
        facts(card, {**about, "city": f"made up from seed {_CITY_SEED}, classes {', '.join(CLASSES)}"}, used),
        [Column(f"{case}: mIoU", case, "miou") for case in cases],
        file=options.json,
        minutes=options.minutes,
        only=options.only,
    )
    report.go_on()
    for case in cases:
        for seed in seeds:
            city = pair is None or case == CITY
            learn, test = _sides(towns, seed) if city else _halves(pair, seed)
            classes = len(CLASSES) if city else int(pair.classes.max()) + 1
            for arm in arms(classes, fusion=True) + (arms(classes, fusion=False) if case == CITY else ()):
                if report.needs(arm.name, case, seed):
                    two = arm.name.startswith("both")
                    adapter = new_adapter(sam, arm, seed)
                    cost = train(sam, adapter, learn, classes, replace(recipe, rate=arm.rate), seed, two=two)
                    found = measure(sam, adapter, test, classes, two=two)
                    report.add(Run(arm.name, case, seed, found, trainable(sam, arm), cost.seconds, cost.memory))
    report.conclude(lambda made: [text for case in cases for text in findings(made, case)])
    return report


def _sides(towns: list[Town], seed: int) -> tuple[list[MapCrop], list[MapCrop]]:
    """Return a seed's own towns, half of them to learn from."""
    own = towns[2 * _TOWNS * seed : 2 * _TOWNS * (seed + 1)]
    return town_crops(own[:_TOWNS]), town_crops(own[_TOWNS:])


def town_crops(towns: list[Town]) -> list[MapCrop]:
    """Cut towns into crops, heights from 0 to 10 m as a grey picture."""
    found = []
    for town in towns:
        grey = np.clip(town.height / _TALLEST * 255, 0, 255).round().astype(np.uint8)
        second = np.repeat(grey[..., None], 3, axis=2)
        for row in range(0, town.image.shape[0], SIDE):
            for column in range(0, town.image.shape[1], SIDE):
                window = (slice(row, row + SIDE), slice(column, column + SIDE))
                found.append(MapCrop(town.image[window], town.classes[window], None, second[window]))
    return found


def _halves(pair: Bands, seed: int) -> tuple[list[MapCrop], list[MapCrop]]:
    """Return a quarter of the pair's blocks to learn from, and the others."""
    taught, tested = parted(pair, 0.25, seed)
    learn, test = (crops_of(pair, side, zoom=2) for side in (taught, tested))
    return [replace(crop, bands=None) for crop in learn], [replace(crop, bands=None) for crop in test]


def findings(report: Report, case: str) -> list[str]:
    """Say where the order differs from the source's table."""
    found = []
    for lower, higher in SOURCE_ORDER:
        difference = report.gain(higher, lower, case, "miou")
        if difference is None:
            continue
        agrees = "as in the source" if difference > 0 else "the other way round than in the source"
        found.append(f"{case}: {higher} less {lower}: {difference:+.3f}, {agrees}.")
    return found
