"""The make-believe engine with answers to what Processing asks; started by the tests, never imported by them.

    fake_processing.py LOG

Each request's method and parameters become a line of JSON in LOG. How it behaves is said by the settings' store folder:
``fail`` refuses everything, ``work`` works until it is cancelled, ``deaf`` does so and never heeds a cancel.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

LOG = Path(sys.argv[1])

spec = importlib.util.spec_from_file_location("fake_engine", Path(__file__).parent.parent / "rpc" / "fake_engine.py")
if spec is None or spec.loader is None:
    raise ImportError("fake_engine.py is missing")
fake = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake)

import shapely  # noqa: E402 - the package is importable only from here on
from pyproj import CRS  # noqa: E402
from samtune.engine import server  # noqa: E402
from samtune.engine.area_messages import CompareParams, CompareResult  # noqa: E402
from samtune.engine.batch_messages import (  # noqa: E402
    BatchResult,
    BatchRunParams,
    BatchState,
    BatchStatus,
    BatchStatusParams,
    BatchTask,
    RasterProgress,
)
from samtune.engine.change.files import write_changes  # noqa: E402
from samtune.engine.change.service import ChangeService  # noqa: E402
from samtune.engine.change_messages import ChangeCount, ChangeParams, ChangeResult, ChangeWay  # noqa: E402
from samtune.engine.commands.serve import run_server  # noqa: E402
from samtune.engine.messages import EngineSettings, Method  # noqa: E402
from samtune.engine.progress import Progress  # noqa: E402
from samtune.engine.tune_messages import (  # noqa: E402
    FigureRow,
    PlanParams,
    Rung,
    TunePlan,
    TuneReport,
    TuneRunParams,
)
from samtune.engine.vector_output import Outline, Target, write_outlines  # noqa: E402
from samtune.engine.wire import to_wire  # noqa: E402
from samtune.models.errors import RasterError  # noqa: E402

UTM17 = CRS.from_epsg(32617).to_wkt()
FIGURES = (
    FigureRow("iou_1_click", "IoU after one click", 0.4, 0.6, 0.1, 0.3),
    FigureRow("iou_1_click", "IoU after one click", -1.0, 0.5, group="water"),
)


def batch(params: BatchRunParams, progress: Progress) -> BatchResult:
    """Write two squares, and for maps two files that call themselves GeoTIFF."""
    progress.report(0.5, "half of it is done")
    outputs = params.outputs or (params.spec.outputs if params.spec else None)
    if outputs is None:
        raise TypeError(params)
    written: list[str] = []
    made = ""
    if outputs.vector:
        squares = [shapely.MultiPolygon([shapely.box(500000 + d, 3299900, 500010 + d, 3299910)]) for d in (0, 50)]
        outlines = [
            Outline(square, name, 0.9, "tiny", "point", "scene.tif", (1, 2, 3))
            for square, name in zip(squares, ("tree", "roof"), strict=True)
        ]
        write_outlines(Target(Path(outputs.vector), outputs.layer), outlines, UTM17)
        written.append(outputs.vector)
    if outputs.maps:
        Path(outputs.maps).mkdir(exist_ok=True)
        for name in ("scene_classes.tif", *(["scene_confidence.tif"] if outputs.confidence else [])):
            (Path(outputs.maps) / name).write_bytes(name.encode())
            written.append(str(Path(outputs.maps) / name))
        made = written[-2] if outputs.confidence else written[-1]
    task = params.spec.task if params.spec else BatchTask(Path(params.job).read_text())
    Path(params.job).write_text(task.value)
    raster = RasterProgress("scene.tif", BatchState.FINISHED, 4, 4, 0, 2, output=made)
    status = BatchStatus(
        params.job, task, BatchState.FINISHED, objects=2, rasters=(raster,), outputs=tuple(written), notes=("A note.",)
    )
    return BatchResult(status, 1.5, "samtune batch resume")


def status(params: BatchStatusParams, _progress: Progress) -> BatchStatus:
    """Take the task from the job file's content."""
    return BatchStatus(params.job, BatchTask(Path(params.job).read_text()), BatchState.WAITING)


def plan(params: PlanParams, _progress: Progress) -> TunePlan:
    """Know two rungs, one of which cannot be taken."""
    rungs = (
        Rung("decoder", "Decoder", ("decoder",), 60, "for few"),
        Rung("streams", "Streams", ("mm_adapter",), 90, "for two", possible=False),
    )
    return TunePlan(rungs, "decoder", "With 5 objects.", "", params.run.methods, 60, "cpu", "no card")


def tune(params: TuneRunParams, progress: Progress) -> TuneReport:
    """Write an adapter that is none, and a report."""
    progress.report(0.5, "half of it is done")
    run = params.run
    Path(run.output).write_bytes(b"adapter")
    Path(run.folder).mkdir(exist_ok=True)
    report = Path(run.folder) / "report.html"
    report.write_text("<html></html>")
    return TuneReport(run.output, run.folder, "better", "Better by 0.2.", FIGURES, report=str(report))


def compare(_params: CompareParams, _progress: Progress) -> CompareResult:
    """Give figures."""
    return CompareResult(FIGURES, "The second is better.", 12)


def change(params: ChangeParams, progress: Progress) -> ChangeResult:
    """Match objects as the real one does; without objects, write an empty layer."""
    if params.way is ChangeWay.EMBEDDINGS:
        write_changes(Path(params.output), params.layer, [], UTM17)
        return ChangeResult(params.output, (ChangeCount("changed", 0, 0.0),), 0.1, 1.0)
    dates = [replace(date, raster=None) for date in (params.before, params.after)]
    service = ChangeService(None)  # type: ignore[arg-type] - matching asks for no model
    return service.detect(replace(params, before=dates[0], after=dates[1]), progress)


def factory(settings: EngineSettings, progress: Progress) -> server.Handlers:
    """Make handlers that behave as the store's folder says."""

    def behaving(method: Method, answer: Callable[..., object]) -> server.Handler:
        def handle(params: object, listener: Progress) -> object:
            with LOG.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"method": method.value, "params": to_wire(params)}) + "\n")
            if settings.store_dir == "fail":
                raise RasterError("The raster is gone. Choose another.", "details of it")
            step = 0
            while settings.store_dir in ("work", "deaf"):
                step += 1
                if settings.store_dir == "work":
                    listener.check()
                listener.report(min(step / 100, 1.0), f"step {step}")
                time.sleep(0.02)
            return answer(params, listener)

        return handle

    handlers = dict(fake.factory(replace(settings, store_dir=""), progress))
    answers: dict[Method, Callable[..., object]] = {
        Method.BATCH_RUN: batch,
        Method.BATCH_STATUS: status,
        Method.TUNE_PLAN: plan,
        Method.TUNE_RUN: tune,
        Method.COMPARE_ADAPTERS: compare,
        Method.CHANGE: change,
    }
    return {**handlers, **{method: behaving(method, answer) for method, answer in answers.items()}}


if __name__ == "__main__":
    run_server(factory, log_folder=None)
