"""Kill the engine in the middle of a run, go on, and compare.

A run of nine objects, each part of their ground held out once, is done without interruption first. Then it is done with
``kill -9`` of the engine's process at moments drawn evenly over the time that this took; the next engine goes on from
what is in the run's folder. When it comes to its end before all kills are done, it begins again elsewhere. Every
adapter must have the very tensors of the first one. On the processor, where sums are done in one order.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pyogrio.raw
from safetensors.torch import load_file
from samtune.engine.messages import EngineSettings, Method
from samtune.engine.tune_messages import LabelSource, TuneInputs, TuneParams, TuneRunParams, TuneTask
from samtune.plugin.engine_process import EngineProcess
from samtune.plugin.environment import EngineLocation, engine_command

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "docs" / "sample"
OPTIONS = ("schedule.batch=1", "schedule.objects=2", "schedule.prompts=1", "schedule.checks=2", "schedule.ways=2")
LONGEST = 1800.0


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        seconds: of the run without interruption.
        moments: when the engine was killed, seconds after the run began or went on.
        steps: how many steps were done then, by the run's record.
        ends: runs that came to their end, and
        same: those of them with the tensors of the first one.
    """

    seconds: float = 0.0
    moments: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    ends: int = 0
    same: int = 0


def few_labels(folder: Path, count: int = 9) -> Path:
    """Write some of the sample's polygons to a file of their own, spread over its scene."""
    meta, _, geometry, _ = pyogrio.raw.read(SAMPLE / "landsat_labels.geojson", columns=[])
    path = folder / "few.gpkg"
    chosen = geometry[:: max(1, len(geometry) // count)][:count]
    pyogrio.raw.write(path, chosen, [], [], geometry_type="Polygon", crs=meta["crs"], driver="GPKG")
    return path


def run_params(labels: Path, folder: Path, **changes: object) -> TuneParams:
    """Return a small run."""
    inputs = TuneInputs((str(SAMPLE / "landsat_raleigh.tif"),), LabelSource(str(labels)), rgb=(4, 3, 2))
    run = TuneParams(
        inputs,
        TuneTask.PROMPTABLE,
        str(folder / "adapter.safetensors"),
        str(folder),
        methods=("decoder",),
        options=OPTIONS,
        steps=6,
    )
    return replace(run, **changes)


def interrupted(folder: Path, kills: int, seed: int = 0, **changes: object) -> Outcome:
    """Do a run, and do it again with kills.

    Args:
        folder: to work in.
        kills: how many.
        seed: of the moments.
        changes: of the run's parameters.
    """
    outcome, drawn = Outcome(), random.Random(seed)
    labels = few_labels(folder)
    begun = _attempt(folder, run_params(labels, folder / "whole", **changes), None, resume=False)
    if begun is None:
        raise SystemExit("The run without interruption did not end.")
    outcome.seconds = begun
    while len(outcome.moments) < kills or not outcome.ends:
        run = run_params(labels, folder / f"run-{outcome.ends}", **changes)
        resume = False
        while True:
            moment = drawn.uniform(0, outcome.seconds) if len(outcome.moments) < kills else None
            if _attempt(folder, run, moment, resume=resume) is not None:
                break
            outcome.moments.append(moment or 0.0)
            outcome.steps.append(_step(Path(run.folder)))
            resume = True
        outcome.ends += 1
        outcome.same += _same(folder / "whole" / "adapter.safetensors", Path(run.output))
    return outcome


def _attempt(folder: Path, run: TuneParams, moment: float | None, *, resume: bool) -> float | None:
    """Run in an engine of its own, and kill that after some seconds; return how long it took, None if it was killed."""
    settings = EngineSettings("cpu", 1, str(folder / "store"), models_dir=str(folder / "models"))
    engine = EngineProcess(engine_command(EngineLocation(sys.executable, folder / "data", ROOT)), settings)
    try:
        engine.ready.result(LONGEST)
        begun = time.monotonic()
        answer = engine.request(Method.TUNE_RUN, TuneRunParams(run, resume))
        try:
            answer.result(LONGEST if moment is None else moment)
        except NotYet:
            os.kill(engine.pid or 0, signal.SIGKILL)
            return None
        return time.monotonic() - begun
    finally:
        engine.close()
        engine.wait(10)


def _step(folder: Path) -> int:
    record = folder / "run.json"
    return int(json.loads(record.read_text(encoding="utf-8"))["step"]) if record.is_file() else 0


def _same(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(bool((first[name] == second[name]).all()) for name in first)


def measure(argv: list[str] | None, report: ModuleType) -> None:
    """Run and print.

    Args:
        argv: of the command line; None for the process's own.
        report: the module that publishes.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="three kills, and nothing held out")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args(argv)
    with TemporaryDirectory() as folder:
        found = interrupted(Path(folder), 3, hold_out=0.0) if args.quick else interrupted(Path(folder), args.kills)
    rows = [
        report.Row("kills", len(found.moments), "", note="at moments drawn evenly over the run"),
        report.Row("of them after the first step", sum(step > 0 for step in found.steps), ""),
        report.Row("runs that came to their end", found.ends, ""),
        report.Row("of them with the same tensors", found.same / max(found.ends, 1), "share", ">= 1"),
    ]
    report.publish(
        "Killed engines",
        rows,
        args.json,
        seconds_without=round(found.seconds, 1),
        moments=[round(moment, 1) for moment in found.moments],
        steps_then=found.steps,
    )
