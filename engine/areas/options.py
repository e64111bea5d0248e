"""What the commands that apply an adapter to an area have in common."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import shapely

from ...models.errors import PromptError
from ...models.peft.adapter_card import read_card
from .. import console, raster_options
from ..adapters import AdapterService
from ..device import AUTO, apply_threads, choose
from ..messages import RasterInfo, RasterSpec
from ..model_service import ModelService
from ..raster_source import RasterSource
from ..tuning.vectors import read_extent
from .service import AreaService


@dataclass(frozen=True)
class AreaCommand:
    """What such a command works with.

    Attributes:
        service: does it.
        info: of the raster, with the adapter's bands unless others were given.
        model: name of the base model.
        area: hexadecimal WKB in the raster's CRS; empty for the whole raster.
    """

    service: AreaService
    info: RasterInfo
    model: str
    area: str


def add_area_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--area``, ``--bbox`` and what else says how an adapter is applied to an area.

    Args:
        parser: of a command.
    """
    parser.add_argument("raster", help="path or GDAL URI")
    parser.add_argument("--adapter", required=True, metavar="FILE", help="adapter that was tuned for this")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--area", type=Path, metavar="POLYGONS", help="vector file; only within its polygons")
    where.add_argument(
        "--bbox",
        nargs=4,
        type=float,
        metavar=("X0", "Y0", "X1", "Y1"),
        help="only within this rectangle, raster CRS",
    )
    parser.add_argument(
        "--bands", type=raster_options.bands, default=(), metavar="R,G,B", help="default: the adapter's"
    )
    parser.add_argument("--level", type=int, help="a model pixel is 2**LEVEL raster pixels (default: the adapter's)")
    parser.add_argument("--model", default="", help="name of the base model (default: the adapter's)")
    parser.add_argument("--second", default="", metavar="RASTER", help="second raster, for an adapter that wants one")
    parser.add_argument("--device", default=AUTO, help="auto, cpu, cuda or mps")
    console.add_folder_options(parser)


def opened(args: argparse.Namespace) -> AreaCommand:
    """Prepare what was asked for.

    Args:
        args: of a parser with :func:`add_area_options`.

    Raises:
        SamTuneError: the adapter, the raster, the area or the device cannot be used.
    """
    card = read_card(Path(str(args.adapter)).expanduser())
    device = choose(args.device)
    apply_threads(device.threads)
    models = ModelService(console.models_dir(args), device)
    source = RasterSource(RasterSpec(args.raster, args.bands or card.inputs.rgb))
    source.close()
    service = AreaService(models, console.open_store(args), AdapterService())
    return AreaCommand(service, source.info, args.model or card.base.name, area_wkb(args, source.info))


def area_wkb(args: argparse.Namespace, info: RasterInfo) -> str:
    """Return the area that was asked for as hexadecimal WKB in the raster's CRS; empty for the whole raster.

    Args:
        args: of a parser with :func:`add_area_options`.
        info: of the raster.

    Raises:
        TuningError: the file cannot be read, or holds no polygon.
        PromptError: the rectangle is empty.
    """
    if args.area is not None:
        return str(read_extent(args.area, info.crs_wkt).wkb_hex)
    if args.bbox is None:
        return ""
    x0, y0, x1, y1 = args.bbox
    box = shapely.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    if not math.isfinite(box.area) or box.area <= 0:
        raise PromptError("The rectangle is empty. Give two opposite corners as X0 Y0 X1 Y1.")
    return str(box.wkb_hex)
