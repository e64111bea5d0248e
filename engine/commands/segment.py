"""``samtune segment``: outline one object of a raster by points and a box, and write it to a GeoPackage."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from ...models import registry
from ...models.errors import PromptError
from ...models.peft.adapter_card import AdapterCard
from .. import console, raster_options
from ..adapters import level_of
from ..cli import Subparsers
from ..crops import RasterFrame, level_for_object
from ..device import AUTO, apply_threads, choose
from ..messages import Empty, Prompt, RasterInfo, RasterSpec, SegmentParams, SegmentResult
from ..model_service import ModelService
from ..provenance import prompt_kind, raster_name
from ..segmenter import Segmenter
from ..vector_output import Outline, Target, check_target, ground_area, write_outlines

NOTHING_FOUND = 3
"""Exit status when the model finds no object; nothing is written then."""


class _Point(argparse.Action):
    """Collects ``--point`` and ``--negative`` in the order given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse's signature
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        """Add one point."""
        x, y = (float(str(value)) for value in values or ())
        namespace.points = (*namespace.points, Prompt(x, y, positive=option_string != "--negative"))


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command's parser.

    Args:
        subparsers: of the ``samtune`` parser.
    """
    parser = subparsers.add_parser(
        "segment",
        help="segment objects of a raster by points and boxes",
        description="Outline one object of a raster by points and a box, and write it to a GeoPackage.",
        epilog="Where the raster has no CRS, pixels take the place of metres.",
    )
    parser.add_argument("raster", help="path or GDAL URI")
    for option, words in (("--point", "a point on the object"), ("--negative", "a point that is not on the object")):
        parser.add_argument(
            option,
            dest="points",
            nargs=2,
            type=float,
            metavar=("X", "Y"),
            action=_Point,
            default=(),
            help=f"{words}; may be repeated",
        )
    parser.add_argument("--box", nargs=4, type=float, metavar=("X0", "Y0", "X1", "Y1"), help="a box around the object")
    parser.add_argument("--crs", default="", metavar="EPSG:n", help="of the coordinates given (default: the raster's)")
    parser.add_argument(
        "--bands", type=raster_options.bands, default=(), metavar="R,G,B", help="one or three band numbers from 1"
    )
    parser.add_argument(
        "--level", type=int, help="a model pixel is 2**LEVEL raster pixels (default 0; by the box or adapter)"
    )
    raster_options.add_outline_options(parser)
    parser.add_argument("--class", default="", dest="label", metavar="NAME", help="value of the attribute class")
    parser.add_argument("--model", default="", help="name of the base model (default: tiny, or the adapter's)")
    parser.add_argument("--adapter", default="", metavar="FILE", help="adapter tuned on that model")
    parser.add_argument("--second", default="", metavar="RASTER", help="second raster, for an adapter that wants one")
    parser.add_argument("--device", default=AUTO, help="auto, cpu, cuda or mps")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.gpkg", help="GeoPackage to write")
    parser.add_argument("--layer", default="segments", help="layer in it (default: segments)")
    exists = parser.add_mutually_exclusive_group()
    exists.add_argument("--overwrite", action="store_true", help="replace an existing file")
    exists.add_argument("--append", action="store_true", help="add to the layer of an existing file")
    parser.add_argument("--json", action="store_true", help="tell the result as JSON")
    console.add_folder_options(parser)


def run(args: argparse.Namespace) -> int:
    """Segment and write.

    Args:
        args: as parsed.

    Returns:
        0; :data:`NOTHING_FOUND` when the model finds no object.

    Raises:
        SamTuneError: bad input or output, in words.
    """
    target = Target(args.output, args.layer, overwrite=args.overwrite, append=args.append)
    check_target(target)
    device = choose(args.device)
    apply_threads(device.threads)
    card = console.adapter_card(args)
    args.model = args.model or (card.base.name if card else registry.DEFAULT_MODEL)
    models = ModelService(console.models_dir(args), device)
    segmenter = Segmenter(models, console.open_store(args))
    progress = console.ConsoleProgress()
    try:
        bands = args.bands or (card.inputs.rgb if card else ())
        info = segmenter.open(RasterSpec(args.raster, bands), progress)
        size = models.get(args.model, progress).card.input_size
        params = _params(args, info, size, card)
        result = segmenter.segment(params, progress)
    finally:
        progress.close()
    if result.empty is not Empty.NONE:
        _tell(args, info, result)
        return NOTHING_FOUND
    outline = Outline(
        geometry=shapely.from_wkb(bytes.fromhex(result.wkb)),
        label=args.label,
        score=result.score,
        model=args.model,
        prompt=prompt_kind(points=bool(params.points), box=bool(params.box)),
        raster=raster_name(args.raster),
        bands=info.spec.bands,
        adapter=result.adapter,
    )
    write_outlines(target, [outline], info.crs_wkt)
    _tell(args, info, result, outline)
    return 0


def _params(args: argparse.Namespace, info: RasterInfo, size: int, card: AdapterCard | None) -> SegmentParams:
    points, box = args.points, _ring(args.box)
    if args.crs:
        xy = _reproject([(point.x, point.y) for point in points], args.crs, info)
        points = tuple(Prompt(x, y, point.positive) for (x, y), point in zip(xy, points, strict=True))
        box = _reproject(box, args.crs, info)
    level = args.level
    if level is None and card is not None and not box:
        level = level_of(card, info)
    if level is None:
        level = _level(info, box, size)
    options = raster_options.outline_options(args, info)
    return SegmentParams(info.spec, args.model, level, points, box, options, adapter=args.adapter, second=args.second)


def _ring(box: list[float] | None) -> tuple[tuple[float, float], ...]:
    if box is None:
        return ()
    x0, y0, x1, y1 = box
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _level(info: RasterInfo, box: tuple[tuple[float, float], ...], size: int) -> int:
    """Choose a level: full resolution for points; for a box one that leaves room around it."""
    if not box:
        return 0
    xs, ys = zip(*box, strict=True)
    extent = max(max(xs) - min(xs), max(ys) - min(ys))
    frame = RasterFrame(info.width, info.height, info.transform)
    return max(level_for_object(frame, size, extent), 0)


def _reproject(points: Sequence[tuple[float, float]], crs: str, info: RasterInfo) -> tuple[tuple[float, float], ...]:
    if not info.crs_wkt:
        raise PromptError("The raster has no CRS, so --crs cannot be used. Give the coordinates as columns and -rows.")
    try:
        transformer = Transformer.from_crs(CRS.from_user_input(crs), CRS.from_wkt(info.crs_wkt), always_xy=True)
        moved = tuple(transformer.transform(x, y) for x, y in points)
    except CRSError as error:
        raise PromptError(f"{crs} is no known CRS. Give it as EPSG:n.", str(error)) from error
    except ProjError as error:
        raise PromptError(f"The coordinates cannot be brought from {crs} to the raster's CRS.", str(error)) from error
    if not all(math.isfinite(value) for point in moved for value in point):
        raise PromptError(f"The coordinates do not exist in {crs}. Check their order: X is easting or longitude.")
    return moved


def _tell(args: argparse.Namespace, info: RasterInfo, result: SegmentResult, outline: Outline | None = None) -> None:
    area = ground_area(outline.geometry, info.crs_wkt) if outline else 0.0
    console.warn(result.notes)
    if args.json:
        output = str(args.output) if outline else ""
        square_metres = area if math.isfinite(area) else None
        facts = {"output": output, "area_m2": square_metres, "result": result, "notes": info.notes}
        console.write_json(facts)
    elif outline is None:
        console.write(result.message)
    else:
        size = f"{area:.1f} m²" if math.isfinite(area) else f"{result.area:.1f} square units"
        edge = " It reaches the border of the model's view; try a higher --level." if result.touches_edge else ""
        console.write(f"One object of {size}, score {result.score:.2f}, written to {args.output}.{edge}")
