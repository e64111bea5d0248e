"""``samtune adapter``: show, rename, check, compare, merge, export and import adapter files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ...models.errors import OutputError, TuningError
from ...models.peft.adapter_card import USER_NOTE, read_card
from .. import console
from ..adapter_check import Answer, Finding, check_adapter
from ..adapter_exchange import export_adapter, import_adapter, refuse_full_folder
from ..adapter_text import as_text, compared_text, method_text
from ..cli import FAILED, Subparsers
from ..device import AUTO, choose
from ..messages import RasterSpec
from ..model_service import ModelService
from ..tune_messages import LabelSource

_BASE = "base"
"""Stands for the model without an adapter."""

WARNED = 3
"""Exit status of ``check`` when the adapter can be used, but something speaks against it."""


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command's parser.

    Args:
        subparsers: of the ``samtune`` parser.
    """
    parser = subparsers.add_parser("adapter", help="show, rename, check, compare, merge, export and import adapters")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="what an adapter is, from its card")
    show.add_argument("file", type=Path, help="of the adapter")
    show.add_argument("--json", action="store_true", help="the card as JSON")
    rename = actions.add_parser("rename", help="give an adapter another name, and other notes, in place")
    rename.add_argument("file", type=Path, help="of the adapter; it keeps its own name")
    rename.add_argument("name", help="for lists")
    rename.add_argument("--note", help="replaces what was noted before (default: that stays)")
    _add_check(actions)
    _add_compare(actions)
    _add_merge(actions)
    _add_exchange(actions)


def _add_check(actions: Subparsers[argparse.ArgumentParser]) -> None:
    check = actions.add_parser(
        "check",
        help="whether an adapter is whole and fits a model and a raster",
        epilog=f"Exit status: 0 it can be used, {WARNED} it can, but something speaks against it, {FAILED} it cannot.",
    )
    check.add_argument("file", type=Path, help="of the adapter")
    check.add_argument("--model", default="", help="name of the base model (default: the one it was tuned on)")
    check.add_argument("--raster", default="", metavar="R", help="raster that it is to be used on")
    check.add_argument("--json", action="store_true", help="as JSON")
    _add_machine(check)


def _add_compare(actions: Subparsers[argparse.ArgumentParser]) -> None:
    compare = actions.add_parser("compare", help="measure two adapters on labelled polygons of a raster")
    compare.add_argument("first", metavar="A", help="adapter, or the word base for the model as it is")
    compare.add_argument("other", metavar="B", help="adapter, or the word base")
    compare.add_argument("raster", metavar="RASTER", help="to measure on")
    compare.add_argument("labels", metavar="LABELS", help="vector file with polygons on it")
    compare.add_argument("--class-field", default="", metavar="F", help="attribute of the polygons with their class")
    compare.add_argument("--layer", default="", help="layer of the vector file (default: its first)")
    compare.add_argument("--bands", default="", metavar="R,G,B", help="bands shown (default: those of an adapter)")
    compare.add_argument("--second", default="", metavar="R", help="second raster, for adapters that need one")
    compare.add_argument("--most", type=int, default=40, metavar="N", help="objects measured at most (40)")
    compare.add_argument("--model", default="", help="name of the base model (default: the one they were tuned on)")
    compare.add_argument("--json", action="store_true", help="as JSON, with pictures")
    _add_machine(compare)


def _add_merge(actions: Subparsers[argparse.ArgumentParser]) -> None:
    merge = actions.add_parser("merge", help="write the base's weights with an adapter merged into them")
    merge.add_argument("file", type=Path, help="of the adapter")
    merge.add_argument("--model", default="", help="name of the base model (default: the one it was tuned on)")
    merge.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.safetensors", help="file to write")
    merge.add_argument("--overwrite", action="store_true", help="replace an existing file")
    _add_machine(merge)


def _add_exchange(actions: Subparsers[argparse.ArgumentParser]) -> None:
    give = actions.add_parser("export", help="write LoRA or DoRA in the folder layout of the peft library")
    give.add_argument("file", type=Path, help="of the adapter")
    give.add_argument("folder", type=Path, metavar="DIR", help="to write to")
    give.add_argument("--overwrite", action="store_true", help="write into a folder that is not empty")
    take = actions.add_parser("import", help="take a LoRA or DoRA in the folder layout of the peft library")
    take.add_argument("folder", type=Path, metavar="DIR", help="with adapter_config.json")
    take.add_argument("--model", required=True, help="name of the base model that it was tuned on")
    take.add_argument("-o", "--output", required=True, type=Path, metavar="ADAPTER.safetensors", help="file to write")
    take.add_argument("--overwrite", action="store_true", help="replace an existing file")
    _add_machine(give)
    _add_machine(take)


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default=AUTO, help="auto, cpu, cuda or mps")
    console.add_folder_options(parser)


def run(args: argparse.Namespace) -> int:
    """Do it.

    Args:
        args: as parsed.

    Returns:
        0; of ``check`` also :data:`WARNED` or 1.

    Raises:
        SamTuneError: a file, a model or an output cannot be used.
    """
    return _ACTIONS[str(args.action)](args)


def _show(args: argparse.Namespace) -> int:
    card = read_card(args.file)
    if args.json:
        console.write(json.dumps(json.loads(card.to_json()), indent=2))
    else:
        console.write(as_text(card, args.file.stat().st_size))
    return 0


def _check(args: argparse.Namespace) -> int:
    progress = console.ConsoleProgress()
    try:
        answers = check_adapter(args.file, _models(args), progress, model=args.model, raster=args.raster)
    finally:
        progress.close()
    if args.json:
        console.write_json(answers)
    else:
        console.write("\n".join(_line(answer) for answer in answers))
    findings = {answer.finding for answer in answers}
    if Finding.BAD in findings:
        return FAILED
    return WARNED if Finding.WARNING in findings else 0


def _line(answer: Answer) -> str:
    return f"{answer.about:<8} {answer.finding:<8} {answer.text}"


def _rename(args: argparse.Namespace) -> int:
    from ..adapter_requests import describe_adapter

    before = [note.removeprefix(USER_NOTE) for note in read_card(args.file).notes if note.startswith(USER_NOTE)]
    card = describe_adapter(args.file, args.name, " ".join(before) if args.note is None else args.note)
    console.write(f"{args.file} is called {card.name}.")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from ..adapter_compare import Comparing
    from ..adapters import AdapterService
    from ..area_messages import CompareParams

    paths = ["" if text == _BASE else text for text in (args.first, args.other)]
    cards = [read_card(Path(path)) for path in paths if path]
    if not cards:
        raise TuningError("Give at least one adapter to compare.")
    bands = tuple(int(part) for part in args.bands.split(",")) if args.bands else cards[0].inputs.rgb
    params = CompareParams(
        RasterSpec(args.raster, bands),
        args.model or cards[0].base.name,
        paths[0],
        paths[1],
        LabelSource(args.labels, args.layer, args.class_field),
        args.second,
        args.most,
        6 if args.json else 0,
    )
    progress = console.ConsoleProgress()
    try:
        result = Comparing(_models(args), AdapterService()).compare(params, progress)
    finally:
        progress.close()
    if args.json:
        console.write_json(result)
    else:
        console.write("\n".join(compared_text(result)))
    return 0


def _merge(args: argparse.Namespace) -> int:
    from ..adapter_merge import merge_adapter  # torch

    card = read_card(args.file)
    console.refuse_output(args.output, overwrite=args.overwrite, suffix=".safetensors")
    if args.output.exists() and args.output.samefile(args.file):
        raise OutputError("The merged weights would replace the adapter itself. Choose another output.")
    model = args.model or card.base.name
    progress = console.ConsoleProgress()
    try:
        changed = merge_adapter(args.file, _models(args), model, args.output, progress)
    finally:
        progress.close()
    size = args.output.stat().st_size / 1e6
    console.write(f"{model} with {card.name}: {changed} tensors changed, {size:.0f} MB, written to {args.output}.")
    return 0


def _export(args: argparse.Namespace) -> int:
    refuse_full_folder(args.folder, overwrite=args.overwrite)
    progress = console.ConsoleProgress()
    try:
        notes = export_adapter(args.file, _models(args), args.folder, progress)
    finally:
        progress.close()
    console.warn(notes)
    console.write(f"Written to {args.folder}.")
    return 0


def _import(args: argparse.Namespace) -> int:
    console.refuse_output(args.output, overwrite=args.overwrite, suffix=".safetensors")
    progress = console.ConsoleProgress()
    try:
        card = import_adapter(args.folder, _models(args), args.model, args.output, progress)
    finally:
        progress.close()
    methods = ", ".join(method_text(part) for part in card.parts)
    console.write(f"{card.name}: {methods}, for {card.base.name}, written to {args.output}.")
    return 0


def _models(args: argparse.Namespace) -> ModelService:
    return ModelService(console.models_dir(args), choose(args.device))


_ACTIONS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "show": _show,
    "rename": _rename,
    "check": _check,
    "compare": _compare,
    "merge": _merge,
    "export": _export,
    "import": _import,
}
