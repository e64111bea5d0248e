"""``samtune find``: find all objects of an area with an adapter, and write them to a GeoPackage."""

from __future__ import annotations

import argparse
from pathlib import Path

import shapely

from .. import console, raster_options
from ..area_messages import FindParams, FindResult
from ..areas import options
from ..cli import Subparsers
from ..messages import RasterInfo
from ..provenance import raster_name
from ..vector_output import Outline, Target, check_target, write_outlines

NOTHING_FOUND = 3
"""Exit status when there are no objects; nothing is written then."""

FOUND = "find"
"""Value of the attribute ``prompt``: nobody clicked."""


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command's parser.

    Args:
        subparsers: of the ``samtune`` parser.
    """
    parser = subparsers.add_parser(
        "find",
        help="find all objects of an area with an adapter",
        description="Find all objects that an adapter was tuned to find, and write them to a GeoPackage.",
        epilog="Where the raster has no CRS, pixels take the place of metres.",
    )
    options.add_area_options(parser)
    parser.add_argument("--threshold", type=_share, default=0.3, help="least chance of an object, 0 to 1 (default 0.3)")
    parser.add_argument("--most", type=int, default=20000, metavar="N", help="objects at most (default 20000)")
    raster_options.add_outline_options(parser)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.gpkg", help="GeoPackage to write")
    parser.add_argument("--layer", default="segments", help="layer in it (default: segments)")
    exists = parser.add_mutually_exclusive_group()
    exists.add_argument("--overwrite", action="store_true", help="replace an existing file")
    exists.add_argument("--append", action="store_true", help="add to the layer of an existing file")
    parser.add_argument("--json", action="store_true", help="tell the result as JSON, without the outlines")


def run(args: argparse.Namespace) -> int:
    """Find and write.

    Args:
        args: as parsed.

    Returns:
        0; :data:`NOTHING_FOUND` when there are no objects.

    Raises:
        SamTuneError: bad input or output, in words.
    """
    target = Target(args.output, args.layer, overwrite=args.overwrite, append=args.append)
    check_target(target)
    asked = options.opened(args)
    params = FindParams(
        raster=asked.info.spec,
        model=asked.model,
        adapter=args.adapter,
        second=args.second,
        area=asked.area,
        level=args.level,
        threshold=args.threshold,
        outline=raster_options.outline_options(args, asked.info),
        most=args.most,
    )
    progress = console.TaskProgress()
    try:
        with progress.interruptible():
            found = asked.service.find(params, progress)
    finally:
        progress.close()
    if found.objects:
        write_outlines(target, _outlines(args, params, found), asked.info.crs_wkt)
    _tell(args, asked.info, found)
    return 0 if found.objects else NOTHING_FOUND


def _outlines(args: argparse.Namespace, params: FindParams, found: FindResult) -> list[Outline]:
    return [
        Outline(
            geometry=shapely.from_wkb(bytes.fromhex(item.wkb)),
            label=item.label,
            score=item.score,
            model=params.model,
            prompt=FOUND,
            raster=raster_name(args.raster),
            bands=params.raster.bands,
            adapter=found.adapter,
        )
        for item in found.objects
    ]


def _tell(args: argparse.Namespace, info: RasterInfo, found: FindResult) -> None:
    console.warn(found.notes)
    counts: dict[str, int] = {}
    for item in found.objects:
        counts[item.label] = counts.get(item.label, 0) + 1
    if args.json:
        console.write_json(
            {
                "output": str(args.output) if found.objects else "",
                "objects": len(found.objects),
                "classes": counts,
                "adapter": found.adapter,
                "level": found.level,
                "crops": found.crops,
                "skipped": found.skipped,
                "seconds": found.seconds,
                "notes": (*info.notes, *found.notes),
            }
        )
    elif not found.objects:
        console.write("No objects were found. Try a lower --threshold, or another --level.")
    else:
        each = ", ".join(f"{count} {label or 'without a class'}" for label, count in sorted(counts.items()))
        number = "1 object" if len(found.objects) == 1 else f"{len(found.objects)} objects"
        console.write(f"{number} ({each}) in {found.crops} parts of the raster, written to {args.output}.")


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
