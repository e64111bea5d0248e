"""Make-believe tuning for the fake engine: counts the real labels, and behaves as the run's options say.

Options, as the expert panel takes them: ``fake.steps=40``, ``fake.pace=0.01`` (seconds of a step), ``fake.die=12`` (the
process ends after that step), ``fake.fail=12`` (an error), ``fake.verdict=not-better``, ``fake.problem=memory``.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import sqlite3
import struct
import sys
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

from samtune.engine.messages import AdapterReport, Done, Method
from samtune.engine.progress import Progress
from samtune.engine.tune_messages import (
    ClassCount,
    ControlParams,
    CurvePoint,
    FigureRow,
    Inspection,
    InspectParams,
    KeepAdapterParams,
    LabelSource,
    Parting,
    Picture,
    PictureKind,
    PlanParams,
    Rung,
    RunState,
    SizeBin,
    TuneAction,
    TuneParams,
    TunePlan,
    TuneReport,
    TuneRunParams,
    TuneTask,
    TuneWatch,
    WatchParams,
)
from samtune.engine.wire import to_wire
from samtune.models.errors import CancelledByUser, OutputError, TuningError

COLOURS = ("#e69f00", "#0072b2", "#009e73", "#cc79a7")
CHECKPOINT = "checkpoint.txt"


def png(side: int, shade: int) -> str:
    """Return a plain grey picture as base64 PNG."""
    rows = (b"\x00" + bytes([shade, 160, 255 - shade]) * side) * side

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    whole = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + whole).decode()


def classes_of(labels: LabelSource) -> Counter[str]:
    """Count the polygons of each class in a GeoPackage."""
    with sqlite3.connect(f"file:{labels.path}?mode=ro", uri=True) as database:
        rows = database.execute(f'SELECT "{labels.class_field}" FROM "{labels.layer}" WHERE geom IS NOT NULL')
        return Counter(str(row[0]) for row in rows)


def inspect(params: object, progress: Progress) -> Inspection:
    """Count, and hold a fifth out where there are five."""
    if not isinstance(params, InspectParams):
        raise TypeError(params)
    progress.report(0.5, "counting")
    counts = classes_of(params.inputs.labels)
    total = sum(counts.values())
    parting = Parting.BLOCKS if total >= 10 else Parting.EACH_BLOCK if total >= 3 else Parting.NONE
    classes = []
    for index, (name, number) in enumerate(sorted(counts.items())):
        held = round(number * params.hold_out) if parting is Parting.BLOCKS else 0
        classes.append(ClassCount(name, number, number - held, held, COLOURS[index % len(COLOURS)]))
    pictures = tuple(Picture(PictureKind.CROP, f"crop {n + 1}", png(32, 20 * n)) for n in range(min(8, total)))
    level = 0 if params.inputs.level is None else params.inputs.level
    return Inspection(
        classes=tuple(classes),
        sizes=(SizeBin(0, 16, total // 3), SizeBin(16, 32, total - total // 3)),
        parting=parting,
        blocks=5,
        held_blocks=1,
        left_out=(1,) if total > 5 else (),
        too_small=total // 3 if level == 0 else 0,
        level=level,
        fitting_level=-1 if level == 0 else level,
        pictures=pictures,
    )


def options_of(run: TuneParams) -> dict[str, str]:
    """Return what the run's options say about this engine."""
    pairs = (option.partition("=") for option in run.options if option.startswith("fake."))
    return {name.removeprefix("fake."): value for name, _, value in pairs}


RUNGS = (
    Rung("instant", "Instant", ("mask_mix",), 1, "For one to four objects: seconds.", possible=True),
    Rung("decoder", "Decoder", ("decoder",), 40, "For five to fifteen objects: minutes.", possible=True),
    Rung("late-lora", "Decoder and late layers", ("late-lora", "decoder"), 80, "For sixteen and more.", possible=True),
    Rung("bands", "All bands", ("band_stem", "decoder"), 80, "Needs bands besides.", possible=False),
)


def plan(params: object, progress: Progress) -> TunePlan:
    """Recommend by the number of objects; what the options call a problem is one."""
    if not isinstance(params, PlanParams):
        raise TypeError(params)
    run = params.run
    progress.report(-1.0, "measuring")
    total = sum(classes_of(run.inputs.labels).values())
    best = RUNGS[0 if total < 5 else 1 if total < 16 else 2]
    chosen = next((rung for rung in RUNGS if rung.methods == run.methods), None) if run.methods else best
    problem = "There is not enough memory: 9 GB are needed." if options_of(run).get("problem") == "memory" else ""
    return TunePlan(
        RUNGS, best.name, f"There are {total} objects.", chosen.name if chosen else "", run.methods or best.methods,
        run.steps or (chosen.steps if chosen else 40), "cpu", "There is no graphics card.", 64.0, 1.5, 900 << 20,
        8 << 30, 40 << 20, 80 << 30, 12 << 20, 3_000_000, params.measure, problem,
    )  # fmt: skip


class FakeRuns:
    """The run under way, and its answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watch = TuneWatch(RunState.CANCELLED)
        self._folder = ""
        self._wish = TuneAction.RESUME

    def run(self, params: object, progress: Progress) -> TuneReport:
        """Take steps, writing the record and a checkpoint after each tenth."""
        if not isinstance(params, TuneRunParams):
            raise TypeError(params)
        run, options = params.run, options_of(params.run)
        folder = Path(run.folder)
        kept = folder / CHECKPOINT
        if kept.exists() and not params.resume:
            raise TuningError("There is a checkpoint here. Go on from it.")
        begun = int(kept.read_text()) if kept.exists() else 0
        steps = int(options.get("steps", run.steps or 40))
        self._folder, self._wish = run.folder, TuneAction.RESUME
        self._set(TuneWatch(RunState.PREPARING, begun, steps), run)
        progress.report(0.0, "Encoding crops")
        try:
            self._train(run, begun, steps, options, progress, died=params.resume)
        except CancelledByUser:
            self._set(dataclasses.replace(self._watch, state=RunState.CANCELLED), run)
            raise
        except TuningError:
            self._set(dataclasses.replace(self._watch, state=RunState.FAILED), run)
            raise
        self._set(dataclasses.replace(self._watch, state=RunState.FINISHED), run)
        kept.unlink(missing_ok=True)
        return report(run, options, self._watch.step)

    def _train(
        self, run: TuneParams, begun: int, steps: int, options: dict[str, str], progress: Progress, *, died: bool
    ) -> None:
        training: tuple[CurvePoint, ...] = ()
        held_out: tuple[CurvePoint, ...] = ()
        for step in range(begun + 1, steps + 1):
            progress.check()
            while self._wish is TuneAction.PAUSE:
                self._set(dataclasses.replace(self._watch, state=RunState.PAUSED), run)
                progress.check()
                time.sleep(0.01)
            time.sleep(float(options.get("pace", "0.002")))
            training += (CurvePoint(step, {"loss": 1.0 / (1 + 0.1 * step)}),)
            if step % 10 == 0:
                held_out += (CurvePoint(step, {"iou": 0.5 + step / 400, "value": 0.5 + step / 400}),)
                (Path(run.folder) / CHECKPOINT).write_text(str(step))
            pictures = tuple(Picture(PictureKind.PREDICTION, f"object {n}", png(32, step % 250)) for n in (1, 2))
            left = (steps - step) * 0.5
            shown = step // 10 * 10 if step >= 10 else -1
            watch = TuneWatch(
                RunState.RUNNING, step, steps, left, training, held_out, step // 10 * 10,
                pictures if shown > 0 else (), shown,
            )  # fmt: skip
            self._set(watch, run, write=step % 10 == 0)
            if not died and int(options.get("die", "0")) == step:
                sys.stderr.write("killed by a test\n")
                sys.stderr.flush()
                os._exit(9)
            if not died and int(options.get("fail", "0")) == step:
                raise TuningError("The disk is full. Make room, then go on.")
            if self._wish is TuneAction.FINISH:
                return

    def _set(self, watch: TuneWatch, run: TuneParams, *, write: bool = True) -> None:
        with self._lock:
            self._watch = watch
        if write:
            record = {
                "params": to_wire(run),
                "state": watch.state.value,
                "step": watch.step,
                "steps": watch.steps,
                "updated": "2026-01-01T00:00:00",
            }
            Path(run.folder, "run.json").write_text(json.dumps(record))

    def watch(self, params: object, _progress: Progress) -> TuneWatch:
        """Say how the run is doing."""
        if not isinstance(params, WatchParams):
            raise TypeError(params)
        with self._lock:
            now = self._watch
        if params.folder != self._folder:
            return TuneWatch(RunState.CANCELLED)
        fresh = now.pictures_step > params.pictures_after
        points = tuple(point for point in now.training if point.step > params.steps_after)
        return dataclasses.replace(now, training=points, pictures=now.pictures if fresh else ())

    def control(self, params: object, _progress: Progress) -> Done:
        """Take down what the user wants."""
        if not isinstance(params, ControlParams):
            raise TypeError(params)
        if params.folder != self._folder:
            raise TuningError("This run is not under way any more.")
        self._wish = params.action
        return Done("")


def report(run: TuneParams, options: dict[str, str], steps: int) -> TuneReport:
    """Write an adapter without tensors, and say what the options say of it."""
    head = {TuneTask.PROMPTABLE: "promptable", TuneTask.INSTANCES: "instances", TuneTask.SEMANTIC: "semantic"}
    counts = classes_of(run.inputs.labels)
    write_adapter(
        Path(run.output), "unnamed", run.inputs.model, head[run.task], [(name, n) for name, n in counts.items()]
    )
    verdict = options.get("verdict", "better").replace("-", " ")
    better = verdict == "better"
    after, low = (0.72, 0.05) if better else (0.54, -0.03)
    figures = [
        FigureRow("iou_1_click", "IoU after one click", 0.53, after, low, 0.3),
        FigureRow("clicks", "Clicks to an IoU of 0.8", 4.2, 2.1 if better else 4.2, higher_is_better=False),
        *(FigureRow("iou_1_click", "IoU after one click", 0.5, after, group=name) for name in sorted(counts)),
        FigureRow("iou_1_click", "IoU after one click", 0.61, 0.60, -0.03, 0.01, group="general"),
    ]
    sentence = "Better than the base on ground it never saw: +0.190 (95 % interval +0.050 to +0.300, 8 held out)."
    page = Path(run.folder) / "report.html"
    page.write_text("<h1>Report</h1>")
    return TuneReport(
        run.output,
        run.folder,
        verdict,
        sentence if better else "Not better than the base: +0.010 (95 % interval -0.030 to +0.300, 8 held out).",
        tuple(figures),
        "Other imagery is outlined as well as before.",
        Parting.BLOCKS if sum(counts.values()) >= 10 else Parting.NONE,
        8,
        tuple(Picture(PictureKind.GAIN, f"object {n}", png(32, 40 * n), 0.4, 0.4 + n / 10) for n in range(1, 4)),
        steps,
        64.0,
        str(page),
        f"samtune tune --steps {steps}",
        ("A note.",),
    )


def write_adapter(path: Path, name: str, base: str, head: str, classes: list[tuple[str, int]]) -> None:
    """Write an adapter file without tensors."""
    card = {
        "schema": 1, "name": name, "base": {"name": base}, "head": head,
        "classes": [{"name": label, "objects": number} for label, number in classes],
    }  # fmt: skip
    text = json.dumps({"__metadata__": {"format": "samtune-adapter", "card": json.dumps(card)}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text)


def keep(params: object, _progress: Progress) -> AdapterReport:
    """Copy under a name; one that is taken gets a number."""
    if not isinstance(params, KeepAdapterParams):
        raise TypeError(params)
    if params.name == "full disk":
        raise OutputError("The folder of adapters is full. Make room there.")
    folder, name, number = Path(params.folder), params.name, 1
    while (folder / f"{name}.safetensors").exists():
        number += 1
        name = f"{params.name} {number}"
    raw = Path(params.path).read_bytes()
    card = json.loads(json.loads(raw[8:])["__metadata__"]["card"])
    path = folder / f"{name}.safetensors"
    write_adapter(path, name, params.model, card["head"], [(one["name"], one["objects"]) for one in card["classes"]])
    return AdapterReport(name, str(path))


def handlers() -> dict[Method, object]:
    """Return what answers the methods of tuning."""
    runs = FakeRuns()
    return {
        Method.TUNE_INSPECT: inspect,
        Method.TUNE_PLAN: plan,
        Method.TUNE_RUN: runs.run,
        Method.TUNE_WATCH: runs.watch,
        Method.TUNE_CONTROL: runs.control,
        Method.KEEP_ADAPTER: keep,
    }
