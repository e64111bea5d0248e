"""Options that several commands have: bands, and how outlines are cleaned."""

from __future__ import annotations

import argparse
import math

from . import ground
from .messages import OutlineOptions, RasterInfo


def bands(text: str) -> tuple[int, ...]:
    """Read band numbers such as ``4,3,2``.

    Args:
        text: as typed.

    Raises:
        argparse.ArgumentTypeError: it is no such list.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no list of band numbers such as 4,3,2") from error


def add_outline_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--simplify``, ``--min-hole`` and ``--min-part``.

    Args:
        parser: of a command.
    """
    parser.add_argument("--simplify", type=_length, default=0.0, metavar="M", help="tolerance, metres")
    parser.add_argument("--min-hole", type=_length, default=0.0, metavar="A", help="fill holes of less area, m²")
    parser.add_argument("--min-part", type=_length, default=0.0, metavar="A", help="drop parts of less area, m²")


def outline_options(args: argparse.Namespace, info: RasterInfo) -> OutlineOptions:
    """Turn metres into units of the raster's CRS, as long as they are at the raster's middle.

    Args:
        args: of a parser with :func:`add_outline_options`.
        info: of the raster.
    """
    return ground.outline_options(info, args.simplify, args.min_hole, args.min_part)


def _length(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return value
