"""``samtune batch``: one task over many rasters, in a job that can be stopped and resumed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .. import console, raster_options
from ..batch.estimate import GIB
from ..batch.items import Machine
from ..batch.job_file import SUFFIX
from ..batch.service import BatchService
from ..batch.spec import read_manifest
from ..batch.status import in_words
from ..batch_messages import (
    BatchOptions,
    BatchOutputs,
    BatchRasters,
    BatchResult,
    BatchRunParams,
    BatchSpec,
    BatchState,
    BatchStatus,
    BatchStatusParams,
    BatchTask,
    EstimateParams,
    VectorSource,
)
from ..cli import Subparsers
from ..device import AUTO

SOME_FAILED = 3
"""Exit status when the job is done, but some rasters could not be used."""

_DEFAULTS = BatchOptions()


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command's parser.

    Args:
        subparsers: of the ``samtune`` parser.
    """
    parser = subparsers.add_parser(
        "batch",
        help="one task over many rasters, resumable",
        epilog=f"Exit status: 0 done, {SOME_FAILED} done but for some rasters, 1 failed, 130 interrupted (resume it).",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    run = actions.add_parser(
        "run",
        help="make a job and do it",
        description=f"Make a job and do it; or do the one in a manifest (*.toml) or job file (*{SUFFIX}).",
        epilog="Ctrl-C leaves a job that can be resumed. Where a raster has no CRS, pixels take the place of metres.",
    )
    _add_rasters(run)
    _add_task(run)
    _add_outputs(run)
    run.add_argument("--estimate", action="store_true", help="only say what the job would take")
    _add_machine(run)
    resume = actions.add_parser("resume", help="go on with a job; of a finished one, write the outputs again")
    resume.add_argument("job", type=Path, help=f"job file (*{SUFFIX})")
    _add_outputs(resume)
    _add_machine(resume)
    status = actions.add_parser("status", help="say how a job is doing")
    status.add_argument("job", type=Path, help=f"job file (*{SUFFIX})")
    status.add_argument("--json", action="store_true", help="as JSON")


def _add_rasters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rasters", nargs="+", help="rasters, folders of them, a manifest or a job file")
    pattern = BatchRasters(()).pattern
    parser.add_argument("--filter", default=pattern, help="file names taken from folders (%(default)s)")
    parser.add_argument(
        "--bands", type=raster_options.bands, default=(), metavar="R,G,B", help="one or three band numbers from 1"
    )
    parser.add_argument("--second", default="", metavar="R", help="second raster, or folder of equally named ones")
    parser.add_argument("--area", default="", metavar="POLY", help="vector file with polygons to work in")


def _add_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=[task.value for task in BatchTask], help="what to do")
    parser.add_argument("--prompts", default="", metavar="FILE", help="points, boxes or polygons: each one object")
    parser.add_argument("--prompts-layer", default="", metavar="NAME", help="layer in that file")
    parser.add_argument("--class-field", default="", metavar="NAME", help="attribute of the prompts with the class")
    parser.add_argument("--class", default="", dest="label", metavar="NAME", help="class of all objects")
    parser.add_argument("--model", default="", help="name of the base model (default: tiny, or the adapter's)")
    parser.add_argument("--adapter", default="", metavar="FILE", help="adapter tuned on that model")
    parser.add_argument("--level", type=int, help="a model pixel is 2**LEVEL raster pixels")
    raster_options.add_outline_options(parser)
    for option, words in (
        ("--threshold", "of find: least score of an object"),
        ("--iou", "of automatic: least predicted IoU of a mask; 0: what suits the model"),
        ("--stability", "of automatic: least stability of a mask; 0: likewise"),
    ):
        name = option[2:].replace("-", "_")
        parser.add_argument(option, type=float, default=getattr(_DEFAULTS, name), help=f"{words} (%(default)s)")
    for option, words in (
        ("--points", "of automatic: points per side of a tile"),
        ("--levels", "of automatic: levels, each twice as coarse"),
        ("--tiles", "tiles per side of a unit of work"),
    ):
        parser.add_argument(option, type=int, default=getattr(_DEFAULTS, option[2:]), help=f"{words} (%(default)s)")


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", default="", metavar="OUT", help="objects: .gpkg, .fgb or .parquet")
    parser.add_argument("--layer", default=BatchOutputs().layer, help="layer in a GeoPackage (%(default)s)")
    parser.add_argument("--maps", default="", metavar="DIR", help="of map: folder of the class maps")
    parser.add_argument("--confidence", action="store_true", help="of map: write how sure they are, too")
    parser.add_argument("--overwrite", action="store_true", help="replace existing outputs")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--job", dest="job_file", default="", metavar="F", help=f"job file to make (*{SUFFIX})")
    parser.add_argument("--root", default="", metavar="DIR", help="where the job's rasters are now")
    parser.add_argument("--scheduler", default="", metavar="ADDRESS", help="work on this Dask cluster")
    parser.add_argument("--device", default=AUTO, help="auto, cpu, cuda or mps")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the model (default: all cores but one)")
    cap = Machine().store_bytes / GIB
    parser.add_argument(
        "--store-gib", type=float, default=cap, metavar="GIB", help="size cap of the embedding store (%(default)g)"
    )
    parser.add_argument("--json", action="store_true", help="tell the result as JSON")
    console.add_folder_options(parser)


def run(args: argparse.Namespace) -> int:
    """Do what is asked.

    Args:
        args: as parsed.

    Returns:
        0; :data:`SOME_FAILED` when rasters could not be used.

    Raises:
        SamTuneError: the job cannot be made or gone on with, in words.
    """
    if args.action == "status":
        return _status(args)
    cap = round(max(0.0, args.store_gib) * GIB)
    service = BatchService(Machine(args.models_dir, args.store_dir, args.device, args.threads, cap))
    progress = console.TaskProgress()
    try:
        with progress.interruptible():
            if args.action == "run" and args.estimate:
                console.write_json(service.estimate(EstimateParams(_spec(args)), progress))
                return 0
            result = service.run(_params(args), progress)
    finally:
        progress.close()
    return _tell(args, result)


def _params(args: argparse.Namespace) -> BatchRunParams:
    if args.action == "resume" or (len(args.rasters) == 1 and args.rasters[0].endswith(SUFFIX)):
        job = args.job if args.action == "resume" else Path(args.rasters[0])
        outputs = _outputs(args) if args.output or args.maps else None
        return BatchRunParams(str(job), None, outputs, args.root, args.scheduler)
    spec = _spec(args)
    return BatchRunParams(str(_job(args, spec)), spec, None, args.root, args.scheduler)


def _job(args: argparse.Namespace, spec: BatchSpec) -> Path:
    """Return the job file to make: as given, or beside the output under its name."""
    if args.job_file:
        return Path(args.job_file)
    if spec.outputs.vector:
        return Path(spec.outputs.vector).with_suffix(SUFFIX)
    if spec.outputs.maps:
        return Path(spec.outputs.maps).with_suffix(SUFFIX)
    return Path(f"{spec.task.value}{SUFFIX}")


def _spec(args: argparse.Namespace) -> BatchSpec:
    if len(args.rasters) == 1 and args.rasters[0].endswith(".toml"):
        return read_manifest(Path(args.rasters[0]))
    card = console.adapter_card(args)
    return BatchSpec(
        task=BatchTask(args.task) if args.task else BatchTask.PROMPTS,
        rasters=BatchRasters(tuple(args.rasters), args.filter, args.bands, (), args.second),
        model=args.model or (card.base.name if card else "tiny"),
        adapter=args.adapter,
        area=VectorSource(args.area),
        prompts=VectorSource(args.prompts, args.prompts_layer),
        class_field=args.class_field,
        class_name=args.label,
        outputs=_outputs(args),
        options=BatchOptions(
            args.level,
            args.simplify,
            args.min_hole,
            args.min_part,
            args.threshold,
            args.points,
            args.iou,
            args.stability,
            args.levels,
            args.tiles,
        ),
    )


def _outputs(args: argparse.Namespace) -> BatchOutputs:
    return BatchOutputs(args.output, args.layer, args.maps, args.confidence, args.overwrite)


def _status(args: argparse.Namespace) -> int:
    status = BatchService(Machine()).status(BatchStatusParams(str(args.job)), console.ConsoleProgress())
    if args.json:
        console.write_json(status)
    else:
        _write_status(status)
    return 0


def _tell(args: argparse.Namespace, result: BatchResult) -> int:
    failed = [item for item in result.status.rasters if item.state is BatchState.FAILED]
    if args.json:
        console.write_json(result)
    else:
        _write_status(result.status)
    if failed:
        sys.stderr.write(f"samtune: {len(failed)} rasters could not be used; mend them, then: {result.command}\n")
    return SOME_FAILED if failed else 0


def _write_status(status: BatchStatus) -> None:
    """Write a table of the rasters, and the job's sum."""
    rows: list[tuple[str, ...]] = [("raster", "state", "done", "of", "no data", "objects")]
    for item in status.rasters:
        numbers = (item.done, item.tiles, item.skipped, item.objects)
        rows.append((item.name, item.state.value, *(str(number) for number in numbers)))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        console.write("  ".join(cells).rstrip())
    for item in status.rasters:
        if item.problem:
            console.write(f"{item.name}: {item.problem}")
    left = f", {in_words(status.seconds_left)} left" if status.seconds_left >= 0 else ""
    sums = f"{status.done} of {status.tiles} tiles, {status.objects} objects{left}"
    console.write(f"{status.task.value}, {status.state.value}: {sums}")
    for path in status.outputs:
        console.write(f"written: {path}")
