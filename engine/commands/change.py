"""``samtune change``: what changed between two dates of the same ground."""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from ...models import registry
from ...models.peft.card_records import HeadKind
from .. import console
from ..batch.items import Machine
from ..batch.service import BatchService
from ..batch_messages import BatchOptions, BatchOutputs, BatchRasters, BatchRunParams, BatchSpec, BatchTask
from ..change.service import ChangeService
from ..change_messages import ChangeParams, ChangeResult, ChangeWay, DateInput
from ..cli import Subparsers
from ..device import AUTO, apply_threads, choose
from ..messages import RasterSpec
from ..model_service import ModelService
from ..progress import Progress
from ..vector_output import Target, check_target

_VECTORS = {".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".sqlite"}
_DEFAULTS = ChangeParams(ChangeWay.OBJECTS, DateInput(), DateInput(), "")
CLASS = "class"


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command's parser.

    Args:
        subparsers: of the ``samtune`` parser.
    """
    parser = subparsers.add_parser(
        "change",
        help="what changed between two dates",
        description="Find what is new, gone, changed or stable between two dates of the same ground. Of two vector "
        "files, the objects are matched. Of two rasters, objects are outlined first (--adapter, --everything) and "
        "written beside the output; without either, the dates are compared by what the model sees, without objects.",
    )
    parser.add_argument("before", help="first date: polygons, or a raster")
    parser.add_argument("after", help="second date, likewise")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.gpkg", help="GeoPackage to write")
    parser.add_argument("--shift", type=float, default=0.0, metavar="M", help="possible misregistration, metres (0)")
    parser.add_argument("--match", type=float, default=_DEFAULTS.match, help="least agreement of one object (0.3)")
    parser.add_argument("--stable", type=float, default=_DEFAULTS.stable, help="least agreement of no change (0.8)")
    parser.add_argument("--least", type=float, default=0.0, metavar="A", help="leave out what has less area, m² (0)")
    parser.add_argument("--class-field", default="", metavar="F", help="of polygons: attribute with the class")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--adapter", default="", metavar="FILE", help="of rasters: find objects or map classes with this")
    how.add_argument("--everything", action="store_true", help="of rasters: outline everything")
    parser.add_argument("--bands", type=_bands, default=(), metavar="R,G,B", help="one or three band numbers from 1")
    parser.add_argument("--model", default="", help="name of the base model (default: tiny, or the adapter's)")
    parser.add_argument("--level", type=int, help="a model pixel is 2**LEVEL raster pixels")
    parser.add_argument("--floor", type=float, default=_DEFAULTS.floor, help="without objects: least distance (0.1)")
    parser.add_argument("--device", default=AUTO, help="auto, cpu, cuda or mps")
    parser.add_argument("--json", action="store_true", help="tell the result as JSON")
    console.add_folder_options(parser)


def run(args: argparse.Namespace) -> int:
    """Find what changed.

    Args:
        args: as parsed.

    Returns:
        0.

    Raises:
        SamTuneError: bad input or output, in words.
    """
    check_target(Target(args.output))
    card = console.adapter_card(args)
    args.model = args.model or (card.base.name if card else registry.DEFAULT_MODEL)
    vectors = [Path(path).suffix.lower() in _VECTORS for path in (args.before, args.after)]
    progress = console.TaskProgress()
    try:
        with progress.interruptible():
            if all(vectors):
                way, dates = ChangeWay.OBJECTS, [DateInput(path, "", args.class_field) for path in _paths(args)]
            elif args.adapter or args.everything:
                task = BatchTask.AUTOMATIC
                if card is not None:
                    task = BatchTask.MAP if card.head is HeadKind.SEMANTIC else BatchTask.FIND
                way, dates = ChangeWay.OBJECTS, _outlined(args, task, progress)
            else:
                way = ChangeWay.EMBEDDINGS
                dates = [DateInput(raster=RasterSpec(path, args.bands)) for path in _paths(args)]
            result = _detect(args, way, dates, progress)
    finally:
        progress.close()
    _tell(args, result)
    return 0


def _paths(args: argparse.Namespace) -> tuple[str, str]:
    return args.before, args.after


def _outlined(args: argparse.Namespace, task: BatchTask, progress: Progress) -> list[DateInput]:
    """Outline the objects of both rasters, each into a file beside the output."""
    service = BatchService(Machine(args.models_dir, args.store_dir, args.device))
    dates = []
    for path, name in zip(_paths(args), ("before", "after"), strict=True):
        objects = args.output.with_suffix(f".{name}.gpkg")
        spec = BatchSpec(
            task,
            BatchRasters((path,), bands=args.bands),
            args.model,
            args.adapter,
            outputs=BatchOutputs(str(objects)),
            options=BatchOptions(level=args.level),
        )
        with TemporaryDirectory(prefix=".samtune-", dir=args.output.parent) as folder:
            service.run(BatchRunParams(str(Path(folder) / "job.samjob"), spec), progress)
        label = "" if task is BatchTask.AUTOMATIC else CLASS
        dates.append(DateInput(str(objects), "", label, RasterSpec(path, args.bands)))
    return dates


def _detect(args: argparse.Namespace, way: ChangeWay, dates: list[DateInput], progress: Progress) -> ChangeResult:
    device = choose(args.device)
    apply_threads(device.threads)
    params = ChangeParams(
        way,
        dates[0],
        dates[1],
        str(args.output),
        shift=args.shift,
        match=args.match,
        stable=args.stable,
        least=args.least,
        model=args.model,
        level=args.level or 0,
        floor=args.floor,
    )
    return ChangeService(ModelService(console.models_dir(args), device)).detect(params, progress)


def _tell(args: argparse.Namespace, result: ChangeResult) -> None:
    console.warn(result.notes)
    if args.json:
        console.write_json(result)
        return
    for count in result.counts:
        console.write(f"{count.kind:<8} {count.count:>7}  {count.area:.1f} m²")
    console.write(f"written: {result.output}")


def _bands(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no list of band numbers such as 4,3,2") from error
