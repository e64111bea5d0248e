"""An engine process with make-believe services: what the model says depends on its name. Started by the tests."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import logging
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


def _import_samtune() -> None:
    spec = importlib.util.spec_from_file_location("samtune_bootstrap", ROOT / "engine" / "bootstrap.py")
    if spec is None or spec.loader is None:
        raise ImportError("engine/bootstrap.py is missing")
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    bootstrap.make_importable(ROOT)


_import_samtune()

from samtune.engine import messages, server  # noqa: E402 - importable only from here on
from samtune.engine.area_messages import (  # noqa: E402
    CompareParams,
    CompareResult,
    FindParams,
    FindResult,
    FoundObject,
    MapClass,
    MapParams,
    MapResult,
    Suggestion,
    SuggestParams,
    SuggestResult,
)
from samtune.engine.batch_messages import (  # noqa: E402
    BatchEstimate,
    BatchResult,
    BatchRunParams,
    BatchState,
    BatchStatus,
    BatchStatusParams,
    BatchTask,
    EstimateParams,
    RasterProgress,
)
from samtune.engine.commands.serve import run_server  # noqa: E402
from samtune.engine.messages import (  # noqa: E402
    AdapterReport,
    Done,
    Empty,
    EngineInfo,
    EngineSettings,
    Method,
    ModelInfo,
    ModelList,
    SegmentParams,
    SegmentResult,
    WarmUpParams,
)
from samtune.engine.progress import Progress  # noqa: E402
from samtune.engine.tune_messages import DescribeAdapterParams, FigureRow  # noqa: E402
from samtune.models.errors import OutputError, RasterError  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent))
import fake_tuning  # noqa: E402 - beside this file


def info(settings: EngineSettings) -> EngineInfo:
    """Return a made-up description of this process."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return EngineInfo(
        messages.PROTOCOL_VERSION, "0", version, os.getpid(), settings.device, "fake", 1, {}, settings.models_dir, "", 0
    )


def segment(params: object, progress: Progress) -> SegmentResult:
    """Echo the first point in the score, after as many milliseconds as the level says."""
    if not isinstance(params, SegmentParams):
        raise TypeError(params)
    end = time.monotonic() + params.level / 1000
    while time.monotonic() < end:
        progress.check()
        time.sleep(0.002)
    score = params.points[0].x if params.points else 0.0
    return SegmentResult(Empty.NOTHING, "", score, 0.0, False, params.level, (), "", {}, "nothing here")


def warm_up(params: object, progress: Progress) -> Done:
    """Behave as the model's name says."""
    if not isinstance(params, WarmUpParams):
        raise TypeError(params)
    kind, _, argument = params.model.partition(":")
    progress.report(0.0, "begun")
    if kind == "raster-error":
        raise RasterError("The raster is gone. Choose another.", "details of it")
    if kind == "login":
        raise RasterError(f"{argument} cannot be opened.", f"GDAL: {argument} answered 403")
    if kind == "bug":
        raise ValueError("a bug")
    if kind == "exit":
        sys.exit(3)
    if kind == "memory":
        raise MemoryError
    if kind == "torch-memory":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if kind == "die":
        sys.stderr.write("these were my last words\n")
        sys.stderr.flush()
        os._exit(7)
    if kind == "print":
        sys.stdout.write("stray python output\n")
        os.write(1, b"stray C output\nContent-Length: 5\r\n\r\nxxxxx")
        os.system("echo stray child output")
    if kind == "sleep":
        time.sleep(float(argument))
    if kind == "hold":  # as a C library that never lets Python run
        ctypes.PyDLL(None).usleep(ctypes.c_uint(int(float(argument) * 1e6)))
    if kind == "work":
        steps = int(argument)
        for step in range(steps):
            progress.check()
            progress.report((step + 1) / steps, f"step {step + 1}")
            time.sleep(0.005)
    if kind == "nan":
        return Done(float("nan"))  # type: ignore[arg-type] - what a careless service does
    return Done(kind)


def _behave(name: str, progress: Progress) -> str:
    """Behave as the name of an adapter's file says, as :func:`warm_up` does; return its argument."""
    kind, _, argument = Path(name).stem.partition(":")
    if kind in {"die", "raster-error", "bug", "exit"}:
        warm_up(WarmUpParams(kind), progress)
    steps = min(200, int(argument or "1"))
    for step in range(steps):
        progress.check()
        progress.report((step + 1) / steps, f"crop {step + 1} of {steps}")
        time.sleep(0.005)
    return argument


def _square(x: float, y: float, side: float) -> str:
    """Return a square as hexadecimal WKB MultiPolygon, upper left corner at x, y."""
    ring = ((x, y), (x + side, y), (x + side, y - side), (x, y - side), (x, y))
    points = b"".join(struct.pack("<dd", *point) for point in ring)
    polygon = struct.pack("<BII", 1, 3, 1) + struct.pack("<I", len(ring)) + points
    return (struct.pack("<BII", 1, 6, 1) + polygon).hex()


def find(params: object, progress: Progress) -> FindResult:
    """Find as many squares as the adapter's name says: ``find:7``."""
    if not isinstance(params, FindParams):
        raise TypeError(params)
    count = int(_behave(params.adapter, progress) or "3")
    places = [(500010.0 + 6 * (i % 15), 3299990.0 - 6 * (i // 15 % 12)) for i in range(count)]
    objects = [FoundObject(_square(x, y, 4.0), "crown", 0.9 - 0.5 * i / count, 16.0) for i, (x, y) in enumerate(places)]
    return FindResult(tuple(objects), "crowns", 0, 4, 0, 0.1)


def suggest(params: object, progress: Progress) -> SuggestResult:
    """Suggest three places."""
    if not isinstance(params, SuggestParams):
        raise TypeError(params)
    _behave(params.adapter or "none:2", progress)
    found = []
    for number in range(3):
        x, y = 500020.0 + 20 * number, 3299980.0
        found.append(Suggestion(x + 4, y - 4, _square(x, y, 8.0), 0.9 - number / 10, 0.6, 0.5, "unlike the rest"))
    labels = f"{Path(params.labels.path).stat().st_size} bytes of labels" if params.labels.path else "no labels"
    return SuggestResult(tuple(found), 0, 4, 0.1, (labels,))


def class_map(params: object, progress: Progress) -> MapResult:
    """Say that a map was written, without writing one."""
    if not isinstance(params, MapParams):
        raise TypeError(params)
    _behave(params.adapter, progress)
    classes = (MapClass(1, "water", "#0072b2", 100.0), MapClass(2, "built", "#d55e00", 50.0))
    return MapResult(params.output, params.confidence, classes, 0, 4, 0, 0.1)


def describe_adapter(params: object, _progress: Progress) -> AdapterReport:
    """Say that the card was changed."""
    if not isinstance(params, DescribeAdapterParams):
        raise TypeError(params)
    return AdapterReport(params.name, params.path)


def compare_adapters(params: object, progress: Progress) -> CompareResult:
    """Say that the second one is better."""
    if not isinstance(params, CompareParams):
        raise TypeError(params)
    _behave(params.second_adapter or "none:2", progress)
    row = FigureRow("iou_1_click", "IoU at 1 click", 0.41, 0.62, 0.1, 0.3)
    return CompareResult((row,), "The second one is better.", 12)


def area_handlers() -> dict[Method, server.Handler]:
    """Return the services for whole areas and for handling adapters."""
    return {
        Method.FIND: find,
        Method.MAP: class_map,
        Method.SUGGEST: suggest,
        Method.DESCRIBE_ADAPTER: describe_adapter,
        Method.COMPARE_ADAPTERS: compare_adapters,
    }


BATCH_UNITS = 10
BATCH_RUNNING: set[str] = set()


def batch_estimate(params: object, progress: Progress) -> BatchEstimate:
    """Take each path for a raster; one whose name begins with ``bad`` cannot be used."""
    if not isinstance(params, EstimateParams):
        raise TypeError(params)
    paths = params.spec.rasters.paths
    bad = tuple(f"{Path(path).name}: no CRS" for path in paths if Path(path).name.startswith("bad"))
    seconds = 60.0 if params.measure else -1.0
    return BatchEstimate(len(paths) - len(bad), bad, BATCH_UNITS, 40, seconds, 1 << 20, 1 << 30, "fake")


def batch_run(params: object, progress: Progress) -> BatchResult:
    """Do ten units; in the fifth one, behave as the name of the class says the first time.

    ``die`` and ``full`` end there with an error, ``slow`` takes longer over every unit.
    """
    if not isinstance(params, BatchRunParams):
        raise TypeError(params)
    job = Path(params.job)
    if params.spec is not None:
        kind, task = params.spec.class_name, params.spec.task.value
        known = {"done": 0, "kind": kind, "task": task, "failed": False, "output": params.spec.outputs.vector}
        job.write_text(json.dumps(known))
    known = json.loads(job.read_text())
    if params.outputs is not None:
        known["output"] = params.outputs.vector
        job.write_text(json.dumps(known))
    BATCH_RUNNING.add(params.job)
    try:
        _batch_units(job, known, progress)
    finally:
        BATCH_RUNNING.discard(params.job)
    return BatchResult(_batch_status(params.job, BatchState.FINISHED), 1.0, "samtune batch resume")


def _batch_units(job: Path, known: dict[str, Any], progress: Progress) -> None:
    while known["done"] < BATCH_UNITS:
        progress.check()
        time.sleep(0.2 if known["kind"] == "slow" else 0.01)
        if known["done"] == 5 and not known["failed"]:
            known["failed"] = True
            job.write_text(json.dumps(known))
            if known["kind"] == "die":
                os._exit(7)
            if known["kind"] == "full":
                raise OutputError("The disk is full. Make room.", "ENOSPC")
        known["done"] += 1
        job.write_text(json.dumps(known))


def batch_status(params: object, progress: Progress) -> BatchStatus:
    """Tell what the job file holds."""
    if not isinstance(params, BatchStatusParams):
        raise TypeError(params)
    known = json.loads(Path(params.job).read_text())
    idle = BatchState.FINISHED if known["done"] == BATCH_UNITS else BatchState.WAITING
    return _batch_status(params.job, BatchState.RUNNING if params.job in BATCH_RUNNING else idle)


def _batch_status(job: str, state: BatchState) -> BatchStatus:
    known = json.loads(Path(job).read_text())
    done = known["done"]
    rasters = (
        RasterProgress("a.tif", state, BATCH_UNITS, done, objects=3 * done),
        RasterProgress("bad.tif", BatchState.FAILED, problem="no CRS"),
    )
    outputs = (known["output"],) if state is BatchState.FINISHED and known["output"] else ()
    return BatchStatus(
        job, BatchTask(known["task"]), state, BATCH_UNITS, done, BATCH_UNITS, done, 3 * done, rasters=rasters,
        outputs=outputs,
    )  # fmt: skip


def factory(settings: EngineSettings, progress: Progress) -> server.Handlers:
    """Make handlers; misbehave as the store's folder says."""
    kind, _, argument = settings.store_dir.partition(":")
    models_take = float(argument) if kind == "slow-models" else 0.0
    if kind == "slow-start":
        time.sleep(float(argument))
    if kind == "fail-start":
        raise ImportError("no torch here")
    if kind == "say":
        logging.getLogger().warning(argument)
        sys.stderr.write(f"{argument}\n")
        sys.stderr.flush()
    progress.report(1.0, "loaded")
    model = ModelInfo("tiny", "Tiny", "", True, 1, 512, "GPL")
    return {
        Method.INFO: lambda _params, _progress: info(settings),
        Method.MODELS: lambda _params, _progress: (time.sleep(models_take), ModelList((model,)))[1],
        Method.SEGMENT: segment,
        Method.WARM_UP: warm_up,
        **area_handlers(),
        Method.BATCH_ESTIMATE: batch_estimate,
        Method.BATCH_RUN: batch_run,
        Method.BATCH_STATUS: batch_status,
        Method.DOWNLOAD: lambda _params, progress: (warm_up(WarmUpParams("work:20"), progress), model)[1],
        **fake_tuning.handlers(),
    }


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "no-start":
        sys.stderr.write("there is no engine in here\n")
        sys.exit(4)
    if len(sys.argv) > 1 and sys.argv[1] == "noisy-start":
        os.write(1, b"Welcome to a noisy Python\n")
    run_server(factory, log_folder=None)
