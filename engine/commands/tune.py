"""``samtune tune``: teach a model objects or classes from a few labelled polygons, and say whether it helped."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import shlex
import sys
from pathlib import Path

from ...models import registry
from ...models.errors import CancelledByUser, OutputError
from ...models.peft.contract import MethodConfig, TuningError
from .. import console
from ..cli import INTERRUPTED, Subparsers
from ..device import AUTO, DeviceChoice, DeviceKind, apply_threads, choose
from ..messages import RasterSpec
from ..model_service import ModelService
from ..raster_source import RasterSource
from ..tune_ladder import Rung, Situation, recommended
from ..tune_options import index_from, method_names, methods_from, schedule_from
from ..tune_report import as_json, closing_text, opening_text
from ..tuning.loop import CHECKPOINT
from ..tuning.objects import on_raster, to_pixels
from ..tuning.result import Estimate, Verdict
from ..tuning.run import estimate, tune
from ..tuning.settings import Bands, Labels, Schedule, Task, TuneSettings
from ..tuning.vectors import read_shapes

NOT_BETTER = 3
"""Exit status when the adapter is written, but is no better than the base on the hold-out."""

_EPILOG = f"""\
methods: {", ".join(method_names())}
exit status: 0 done; {NOT_BETTER} the adapter is written, but is not better on the hold-out; 1 failed; 2 wrong usage;
130 interrupted (Ctrl-C: the run can be taken up again with --resume)
several GPUs: torchrun --nproc-per-node N --no-python samtune tune ..."""


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command's parser.

    Args:
        subparsers: of the ``samtune`` parser.
    """
    parser = subparsers.add_parser(
        "tune",
        help="teach a model your objects from a few labelled polygons",
        description="Tune a model to the objects or classes of labelled polygons, and measure it on ground held out.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rasters", type=Path, nargs="+", metavar="RASTER", help="one or several of the same kind")
    parser.add_argument("labels", type=Path, metavar="LABELS", help="vector file with the labelled polygons")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="ADAPTER.safetensors", help="adapter to write"
    )
    _add_data(parser)
    _add_method(parser)
    _add_run(parser)
    parser.add_argument("--json", type=Path, metavar="REPORT", help="write a report to this file")
    parser.add_argument("--device", default=AUTO, help="auto, cpu, cuda or mps")
    console.add_folder_options(parser)


def _add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("what to learn from")
    data.add_argument("--class-field", default="", metavar="F", help="attribute of the polygons with their class")
    data.add_argument(
        "--class", default="", dest="label", metavar="NAME", help="class of all polygons, without a field"
    )
    data.add_argument("--layer", default="", help="layer of the vector file (default: its first)")
    data.add_argument("--where", default="", metavar="EXPR", help="only polygons for which this holds: kind = 'roof'")
    data.add_argument("--extent", type=Path, metavar="POLY", help="polygons within which everything is labelled")
    data.add_argument(
        "--bands", default="", metavar="R,G,B", help="bands shown to the model; all: give the rest as well"
    )
    data.add_argument("--further", default="", metavar="N,N|all", help="bands given besides those shown")
    data.add_argument("--index", action="append", default=[], metavar="NAME=A,B", help="give (A - B) / (A + B) besides")
    data.add_argument("--second", type=Path, metavar="RASTER", help="another raster of the ground: height, radar, ...")
    data.add_argument("--level", type=int, help="fixed level of detail (default: by each object's size)")
    data.add_argument("--least", type=int, default=16, metavar="PX", help="smallest object, raster pixels (16)")
    data.add_argument("--hold-out", type=float, default=0.2, metavar="SHARE", help="kept for measuring (0.2)")


def _add_method(parser: argparse.ArgumentParser) -> None:
    method = parser.add_argument_group("how to learn it")
    tasks = [task.value for task in Task]
    method.add_argument("--head", default=Task.PROMPTABLE.value, choices=tasks, help="what for (promptable)")
    method.add_argument(
        "--method", default="", metavar="M,M", help="tuning methods (default: by the number of objects and the device)"
    )
    method.add_argument(
        "--set", action="append", default=[], metavar="M.KEY=VALUE", help="a setting of a method, or of the schedule"
    )
    method.add_argument("--model", default=registry.DEFAULT_MODEL, metavar="M", help="base model (tiny)")
    method.add_argument(
        "--steps", type=int, metavar="N", help=f"(by the recommendation; with --method {Schedule.steps})"
    )
    method.add_argument("--seed", type=int, default=0, metavar="S", help="of everything drawn by chance (0)")
    method.add_argument("--keep-general", action="store_true", help="also keep what the base outlines well elsewhere")
    method.add_argument("--previous", type=Path, metavar="ADAPTER", help="go on with this adapter and keep its task")
    method.add_argument("--note", default="", help="text for the adapter's card")


def _add_run(parser: argparse.ArgumentParser) -> None:
    run_options = parser.add_argument_group("the run")
    run_options.add_argument("--estimate-only", action="store_true", help="say what it would take, and stop")
    run_options.add_argument("--no-estimate", action="store_true", help="start at once")
    run_options.add_argument("--resume", action="store_true", help="go on with the run that was interrupted")
    run_options.add_argument("--full-precision", action="store_true", help="float32 everywhere; slower on a GPU")
    run_options.add_argument("--overwrite", action="store_true", help="replace an existing adapter, begin anew")
    run_options.add_argument("--folder", type=Path, metavar="DIR", help="of checkpoints and records (NAME.run)")


def run(args: argparse.Namespace) -> int:
    """Tune.

    Args:
        args: as parsed.

    Returns:
        0; :data:`NOT_BETTER`; 130 when interrupted.

    Raises:
        SamTuneError: the data, an option, the model or the output cannot be used.
    """
    _refuse(args)
    device = choose(args.device)
    apply_threads(device.threads)
    models = ModelService(console.models_dir(args), device)
    settings = _settings(args, device)
    if not args.estimate_only and _speaks():
        _begin_or_resume(args, settings)
    progress = console.TaskProgress(None if _speaks() else io.StringIO())
    with progress.interruptible():
        try:
            return _run(args, settings, models, progress)
        except CancelledByUser:
            progress.close()
            console.warn([f"Interrupted. {_how_to_go_on(settings)}"])
            return INTERRUPTED
        finally:
            progress.close()


def _speaks() -> bool:
    """Say whether this process tells the user anything: of several that ``torchrun`` started, the first does."""
    return os.environ.get("RANK", "0") == "0"


def _run(args: argparse.Namespace, settings: TuneSettings, models: ModelService, progress: console.TaskProgress) -> int:
    if not _speaks():
        tune(settings, models, progress, resume=args.resume)
        return 0
    expected: Estimate | None = None
    if args.estimate_only or not args.no_estimate:
        expected = estimate(settings, models, progress)
        progress.close()
    console.write(opening_text(settings, expected))
    sys.stdout.flush()
    if args.estimate_only:
        return 0
    result = tune(settings, models, progress, resume=args.resume)
    progress.close()
    console.write(closing_text(result))
    if args.json is not None:
        _write(args.json, as_json(settings, expected, result))
    return NOT_BETTER if result.verdict is Verdict.NOT_BETTER else 0


def _refuse(args: argparse.Namespace) -> None:
    """Refuse what cannot end well, before anything is loaded."""
    if not args.estimate_only:
        console.refuse_output(args.output, overwrite=args.overwrite, suffix=".safetensors")
    if args.json is not None and not args.json.parent.is_dir():
        raise OutputError(f"There is no folder {args.json.parent}. Make it first.")
    if args.resume and args.overwrite:
        raise TuningError("--resume goes on with a run and --overwrite begins anew. Leave one of the two out.")
    for path in (*args.rasters, args.labels, args.second, args.extent, args.previous):
        if path is not None and not path.exists() and ":" not in str(path):
            raise TuningError(f"There is no file {path}.")


def _begin_or_resume(args: argparse.Namespace, settings: TuneSettings) -> None:
    """See to it that a run goes on with a checkpoint only where that is wanted."""
    checkpoint = settings.work_folder / CHECKPOINT
    if args.resume and not checkpoint.exists():
        console.warn([f"There is no interrupted run in {settings.work_folder}: a new one begins."])
    elif checkpoint.exists() and args.overwrite:
        checkpoint.unlink()
    elif checkpoint.exists() and not args.resume:
        raise TuningError(
            f"An interrupted run is kept in {settings.work_folder}. Use --resume to go on with it, or --overwrite to "
            "begin anew."
        )


def _settings(args: argparse.Namespace, device: DeviceChoice) -> TuneSettings:
    rgb, bands = _bands(args)
    labels = Labels(args.labels, args.layer, args.class_field, args.where, args.label)
    task = Task(args.head)
    methods, usual = _methods(args, labels, device)
    schedule = schedule_from(usual, args.set)
    if args.steps is not None:
        schedule = dataclasses.replace(schedule, steps=args.steps)
    return TuneSettings(
        rasters=tuple(args.rasters),
        labels=labels,
        output=args.output,
        methods=methods,
        task=task,
        model=args.model,
        rgb=rgb,
        bands=bands,
        indices=tuple(index_from(text) for text in args.index),
        second=args.second,
        extent=args.extent,
        level=args.level,
        schedule=schedule,
        hold_out=args.hold_out,
        least=args.least,
        seed=args.seed,
        amp=not args.full_precision,
        folder=args.folder,
        command=_command(),
        notes=args.note,
        keep_general=args.keep_general,
        previous=args.previous,
    )


def _bands(args: argparse.Namespace) -> tuple[tuple[int, ...], Bands | tuple[int, ...]]:
    """Return the bands that are shown, and those that are given besides."""
    further = "all" if args.bands == "all" else args.further
    shown = () if args.bands in {"", "all"} else _numbers("--bands", args.bands)
    if further == "all":
        return shown, Bands.ALL
    return shown, _numbers("--further", further) if further else Bands.RGB


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise TuningError(f"{option} {text} is no list of band numbers such as 4,3,2.") from error


def _methods(
    args: argparse.Namespace, labels: Labels, device: DeviceChoice
) -> tuple[tuple[MethodConfig, ...], Schedule]:
    """Return the methods, and the schedule that goes with them."""
    if args.method:
        return methods_from(args.method, args.set), Schedule()
    rung = _recommended(args, labels, device)
    return rung.methods, rung.schedule


def _recommended(args: argparse.Namespace, labels: Labels, device: DeviceChoice) -> Rung:
    """Choose methods by what there is to learn from, and say why."""
    if any(not text.startswith("schedule.") for text in args.set):
        raise TuningError("--set changes a method that --method names. Name it, or leave --set out.")
    situation = Situation(
        objects=_usable(args, labels),
        task=Task(args.head),
        cheap_encoder=device.name != DeviceKind.CPU.value or args.model == registry.DEFAULT_MODEL,
        bands=args.bands == "all" or bool(args.further or args.index),
        second=args.second is not None,
        processor=device.name == DeviceKind.CPU.value,
    )
    rung = recommended(situation)
    if not _speaks():
        return rung
    names = ", ".join(config.method for config in rung.methods) or f"the head {args.head} alone"
    console.warn([f"{rung.reason} Method: {names} (see --method)."])
    return rung


def _usable(args: argparse.Namespace, labels: Labels) -> int:
    """Return how many polygons lie large enough on the first raster."""
    source = RasterSource(RasterSpec(str(args.rasters[0])))
    source.close()
    shapes = read_shapes(labels, source.info.crs_wkt).items
    on_it = (on_raster(to_pixels(shape.geometry, source.frame), source.frame) for shape in shapes)
    return sum(piece.area >= args.least for piece in on_it)


def _command() -> str:
    """Return the command line that repeats the run from its beginning."""
    return shlex.join(["samtune", *(word for word in sys.argv[1:] if word not in {"--resume", "--overwrite"})])


def _how_to_go_on(settings: TuneSettings) -> str:
    if not (settings.work_folder / CHECKPOINT).is_file():
        return "Nothing was learnt yet."
    return f"The run is kept in {settings.work_folder}: the same command with --resume goes on with it."


def _write(path: Path, report: object) -> None:
    try:
        path.write_text(json.dumps(report, indent=1, default=float) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"The report could not be written to {path}. Choose another place.", str(error)) from error
