"""``samtune map``: make a class map of an area with an adapter, as a cloud-optimised GeoTIFF."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import console
from ..area_messages import MapParams, MapResult
from ..areas import options
from ..areas.map_file import check_output
from ..cli import Subparsers
from ..messages import RasterInfo


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command's parser.

    Args:
        subparsers: of the ``samtune`` parser.
    """
    parser = subparsers.add_parser(
        "map",
        help="make a class map of an area with an adapter",
        description="Make a class map with an adapter that was tuned for that, as a cloud-optimised GeoTIFF.",
    )
    options.add_area_options(parser)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="MAP.tif", help="file; must not exist")
    parser.add_argument(
        "--confidence", type=Path, metavar="C.tif", help="file for how sure each pixel is, in percent; must not exist"
    )
    parser.add_argument("--json", action="store_true", help="tell the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Map and write.

    Args:
        args: as parsed.

    Returns:
        0.

    Raises:
        SamTuneError: bad input or output, in words.
    """
    for path in (args.output, args.confidence):
        if path is not None:
            check_output(path)
    asked = options.opened(args)
    params = MapParams(
        raster=asked.info.spec,
        model=asked.model,
        adapter=args.adapter,
        output=str(args.output),
        second=args.second,
        area=asked.area,
        level=args.level,
        confidence=str(args.confidence or ""),
    )
    progress = console.TaskProgress()
    try:
        with progress.interruptible():
            made = asked.service.map(params, progress)
    finally:
        progress.close()
    _tell(args, asked.info, made)
    return 0


def _tell(args: argparse.Namespace, info: RasterInfo, made: MapResult) -> None:
    console.warn(made.notes)
    if args.json:
        console.write_json({"result": made, "notes": info.notes})
        return
    total = sum(item.area for item in made.classes)
    shares = ", ".join(f"{item.name} {item.area / total:.1%}" for item in made.classes if item.area > 0)
    console.write(f"{shares or 'No data at all'}; {made.crops} parts of the raster, written to {made.output}.")
