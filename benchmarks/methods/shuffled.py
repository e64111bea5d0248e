"""Labels that are nonsense must never be called learnt: ``python benchmarks/shuffled.py``.

Two ways to make nonsense of a few polygons. For clicks, every shape is moved to the place of another one: whatever is
drawn there, it is not what can be seen. For class maps, the names of the classes are dealt out anew among the polygons.
Each with seeds 0 to 9, which also choose the polygons; both must be called "not better" every time. The same runs with
the labels as they were drawn show what that costs: how often a real gain is recognised.

What can fool a measure of clicks: a decoder that has learnt to draw a blob of the usual size around a click comes
nearer to any shape than the base, which outlines what is there. The hold-out is as nonsensical as the training, so its
figures may rise. That is why ``engine/tuning/exam.py`` asks a second question: do the answers fit the shapes where they
lie better than the same shapes dealt to the other places? Blobs do not. Class maps fool likewise: what is an object and
what is background can be learnt whatever the objects are called, and beats saying one class everywhere. There the names
are dealt. The notes say how many runs would have been called better by the interval alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from samtune.engine.model_service import ModelService
from samtune.engine.progress import NullProgress
from samtune.engine.tune_ladder import Situation, recommended
from samtune.engine.tuning.result import TuneResult, Verdict
from samtune.engine.tuning.run import tune
from samtune.engine.tuning.settings import Schedule, Task, TuneSettings
from samtune.models.peft.selective import DecoderConfig

from .polygons import Polygons, sample, service

OBJECTS = 12
THREADS = 1
CLICKS = Schedule(steps=16, batch=1, objects=2, prompts=2, checks=2, ways=1, patience=0)
MAPS = Schedule(steps=20, batch=1, checks=2, patience=0)
LEVEL = -1
"""Of the class maps: four crops show the scene."""


@dataclass(frozen=True)
class Case:
    """One way to make nonsense.

    Attributes:
        kind: how it is asked for.
        name: for the table.
        task: of the adapter.
        spoil: makes nonsense of polygons.
    """

    kind: str
    name: str
    task: Task
    spoil: Callable[[Polygons, np.random.Generator], Polygons]


CASES = (
    Case("clicks", "clicks, shapes dealt to other places", Task.PROMPTABLE, lambda found, rng: found.dealt(rng)),
    Case("maps", "class map, names dealt to other polygons", Task.SEMANTIC, lambda found, rng: found.renamed(rng)),
)


def chosen(whole: Polygons, rng: np.random.Generator) -> Polygons:
    """Return a few polygons, as many of each class as there are to be had."""
    kinds = np.array(whole.kinds)
    names = sorted(set(whole.kinds))
    orders = [rng.permutation(np.flatnonzero(kinds == name)).tolist() for name in names]
    taken: list[int] = []
    while len(taken) < OBJECTS and any(orders):
        for order in orders:
            if order and len(taken) < OBJECTS:
                taken.append(int(order.pop()))
    return whole.only(sorted(taken))


def schedule_of(case: Case, args: argparse.Namespace) -> Schedule:
    """Return how long is learnt: shortly, or as the wizard recommends for so many objects on a processor."""
    schedule = CLICKS if case.task is Task.PROMPTABLE else MAPS
    if args.wizard:
        schedule = recommended(Situation(OBJECTS, case.task)).schedule
    return replace(schedule, steps=4) if args.quick else schedule


def run(case: Case, found: Polygons, seed: int, folder: Path, models: ModelService, schedule: Schedule) -> TuneResult:
    """Tune on some polygons, and measure."""
    settings = TuneSettings(
        rasters=(found.raster,),
        labels=found.write(folder / "labels.gpkg"),
        output=folder / "adapter.safetensors",
        methods=(DecoderConfig(),) if case.task is Task.PROMPTABLE else (),
        task=case.task,
        rgb=found.bands,
        level=None if case.task is Task.PROMPTABLE else LEVEL,
        schedule=schedule,
        seed=seed,
    )
    return tune(settings, models, NullProgress())


def measure(args: argparse.Namespace, report: ModuleType) -> None:
    """Run everything and print the table.

    Args:
        args: ``quick``, ``json``, ``wizard`` and ``only``.
        report: the module of tables.
    """
    torch.set_num_threads(THREADS)
    seeds = range(2) if args.quick else range(10)
    whole, models = sample(), service(THREADS)
    began = time.monotonic()
    rows: list[object] = []
    cases = [case for case in CASES if args.only in (None, case.kind)]
    for spoilt in (True,) if args.wizard else (True, False):
        for case in cases:
            schedule = schedule_of(case, args)
            results: list[TuneResult] = []
            for seed in seeds:
                rng = np.random.default_rng([seed, 7])
                found = chosen(whole, rng)
                found = case.spoil(found, rng) if spoilt else found
                with tempfile.TemporaryDirectory() as name:
                    results.append(run(case, found, seed, Path(name), models, schedule))
                print(_line(case, seed, results[-1], spoilt=spoilt), flush=True)
            rows.append(_row(case, results, report, spoilt=spoilt))
    report.publish(
        "Nonsense, and labels as they were drawn: how often an adapter is called better",
        rows,
        args.json,
        command=" ".join(["python benchmarks/shuffled.py", *_options(args)]),
        data=f"{whole.name}, SHA-256 {whole.digest()}, {OBJECTS} of {len(whole.shapes)} polygons",
        seeds=f"{seeds.start} to {seeds.stop - 1}",
        schedule=", ".join(f"{case.name}: {schedule_of(case, args)}" for case in cases),
        torch=f"{torch.__version__}, {THREADS} thread",
        minutes=round((time.monotonic() - began) / 60, 1),
    )


def _options(args: argparse.Namespace) -> list[str]:
    found = [f"--{name}" for name in ("quick", "wizard") if getattr(args, name)]
    return found + ([f"--only {args.only}"] if args.only else [])


def _line(case: Case, seed: int, result: TuneResult, *, spoilt: bool) -> str:
    mean, low, high = result.gain or (float("nan"),) * 3
    way = "nonsense" if spoilt else "as drawn"
    follows = "follows the places" if result.follows else "does not follow the places"
    return (
        f"  {case.name}, {way}, seed {seed}: {result.verdict.value}, {mean:+.3f} ({low:+.3f} to {high:+.3f}), {follows}"
    )


def _row(case: Case, results: list[TuneResult], report: ModuleType, *, spoilt: bool) -> object:
    better = sum(result.verdict is Verdict.BETTER for result in results)
    alone = sum(result.gain is not None and result.gain[1] > 0 for result in results)
    gains = [result.gain[0] for result in results if result.gain is not None]
    note = f"of {len(results)}; by the interval alone it would have been {alone}; mean gain {np.mean(gains):+.3f}"
    name = case.name if spoilt else f"{case.task.value}, labels as drawn"
    return report.Row(f"{name}: called better", better, "runs", "<= 0" if spoilt else "", note)
