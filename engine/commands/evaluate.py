"""``samtune evaluate``: how good a model, or a classical baseline, is on labelled rasters."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from ...models import registry
from ...models.errors import OutputError, SamTuneError
from .. import console
from ..adapters import AdapterService, refuse_without_prompts
from ..cli import Subparsers
from ..device import AUTO, choose
from ..evaluate.answerers import ModelAnswerer
from ..evaluate.baselines import FelzenszwalbAnswerer, RandomWalkerAnswerer
from ..evaluate.figures import Report, as_text
from ..evaluate.labels import find_pairs
from ..evaluate.protocol import Answerer, Plan
from ..evaluate.run import Selection, evaluate, report
from ..further_inputs import FurtherInputsKeeper
from ..model_service import ModelService
from ..raster_source import RasterSource

_BASELINES = {"felzenszwalb": FelzenszwalbAnswerer, "random-walker": RandomWalkerAnswerer}
_PROMPTS = ("point", "box")


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command's parser.

    Args:
        subparsers: of the ``samtune`` parser.
    """
    parser = subparsers.add_parser("evaluate", help="measure a model on labelled images")
    parser.add_argument("rasters", type=Path, help="a raster, or a folder of rasters")
    parser.add_argument("labels", type=Path, help="COCO file, label image, vector file, or a folder of them")
    parser.add_argument("--class-field", default="", metavar="F", help="attribute of vector labels with the class")
    parser.add_argument("--bands", default="", metavar="B", help="one or three band numbers, such as 4,3,2")
    parser.add_argument("--model", default="", metavar="M", help="base model (tiny, or the adapter's)")
    parser.add_argument("--adapter", default="", metavar="FILE", help="adapter tuned on that model")
    parser.add_argument("--second", default="", metavar="RASTER", help="second raster, for an adapter that wants one")
    parser.add_argument("--baseline", choices=sorted(_BASELINES), help="measure this classical method instead")
    parser.add_argument("--prompts", default="point,box", metavar="P", help="point, box or both (point,box)")
    parser.add_argument("--clicks", type=int, default=5, metavar="N", help="clicks measured (5)")
    parser.add_argument("--no-count", action="store_true", help="do not go on to 20 clicks to count those to an IoU")
    parser.add_argument("--level", type=int, metavar="L", help="fixed level; default: by each object's size")
    parser.add_argument("--least", type=int, default=16, metavar="PX", help="smallest object, raster pixels (16)")
    parser.add_argument("--most", type=int, default=0, metavar="N", help="measure about N objects, drawn by chance")
    parser.add_argument("--seed", type=int, default=0, help="of the box jitter, the draw and the bootstrap (0)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the report, with every object, to this file")
    parser.add_argument("--device", default=AUTO, help="auto, cpu, cuda or mps")
    console.add_folder_options(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print.

    Args:
        args: as parsed.

    Returns:
        0.

    Raises:
        SamTuneError: the data, the model or an option cannot be used.
    """
    prompts = {part.strip() for part in str(args.prompts).split(",")}
    if not prompts <= set(_PROMPTS):
        raise SamTuneError(f"--prompts takes {' and '.join(_PROMPTS)}, not {args.prompts}.")
    if args.baseline and args.adapter:
        raise SamTuneError("--baseline measures a classical method, which has no adapters. Leave one of the two out.")
    plan = Plan(
        points="point" in prompts,
        boxes="box" in prompts,
        clicks=max(1, args.clicks),
        count_clicks=not args.no_count,
        level=args.level,
        seed=args.seed,
    )
    pairs = find_pairs(args.rasters, args.labels, args.class_field, args.least)
    card = console.adapter_card(args)
    if card is not None:
        refuse_without_prompts(card)
    args.model = args.model or (card.base.name if card else registry.DEFAULT_MODEL)
    bands = tuple(int(part) for part in str(args.bands).split(",") if part.strip())
    bands = bands or (card.inputs.rgb if card else ())
    progress = console.ConsoleProgress()
    try:
        outcomes = evaluate(pairs, _maker(args), plan, Selection(args.most, bands, args.seed), progress)
    finally:
        progress.close()
    if not outcomes:
        raise SamTuneError(f"None of the labelled objects has {args.least} pixels. Lower --least.")
    found = report(outcomes, plan, seed=args.seed, objects=args.json is not None)
    found["measured"] = args.baseline or args.model + (f" with {card.name}" if card else "")
    console.write(as_text(found))
    if args.json is not None:
        _write(args.json, found)
    return 0


def _write(path: Path, found: Report) -> None:
    try:
        path.write_text(json.dumps(found, indent=1, default=float) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"The report could not be written to {path}. Choose another place.", str(error)) from error


def _maker(args: argparse.Namespace) -> Callable[[RasterSource], Answerer]:
    if args.baseline:
        return _BASELINES[str(args.baseline)]
    model = ModelService(console.models_dir(args), choose(args.device)).get(str(args.model))
    if not args.adapter:
        return lambda source: ModelAnswerer(model, source)
    loaded = AdapterService().get(str(args.adapter), model)
    opened = FurtherInputsKeeper()

    def make(source: RasterSource) -> Answerer:
        return ModelAnswerer(model, source, loaded.adapter, opened.get(loaded.card, source, str(args.second)))

    return make
