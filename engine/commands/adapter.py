"""``samtune adapter``: show, check, merge, export and import adapter files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ...models.errors import OutputError
from ...models.peft.adapter_card import AdapterCard, read_card
from .. import console
from ..adapter_check import Answer, Finding, check_adapter
from ..adapter_text import as_text
from ..cli import FAILED, Subparsers
from ..device import AUTO, choose
from ..model_service import ModelService

WARNED = 3
"""Exit status of ``check`` when the adapter can be used, but something speaks against it."""


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command's parser.

    Args:
        subparsers: of the ``samtune`` parser.
    """
    parser = subparsers.add_parser("adapter", help="show, check, merge, export and import adapters")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="what an adapter is, from its card")
    show.add_argument("file", type=Path, help="of the adapter")
    show.add_argument("--json", action="store_true", help="the card as JSON")
    _add_check(actions)
    _add_merge(actions)


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


def _add_merge(actions: Subparsers[argparse.ArgumentParser]) -> None:
    merge = actions.add_parser("merge", help="write the base's weights with an adapter merged into them")
    merge.add_argument("file", type=Path, help="of the adapter")
    merge.add_argument("--model", default="", help="name of the base model (default: the one it was tuned on)")
    merge.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.safetensors", help="file to write")
    merge.add_argument("--overwrite", action="store_true", help="replace an existing file")
    _add_machine(merge)


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
    if args.action == "check":
        return _check(args)
    card = read_card(args.file)
    if args.action == "show":
        _show(args, card)
    else:
        _merge(args, card)
    return 0


def _show(args: argparse.Namespace, card: AdapterCard) -> None:
    if args.json:
        console.write(json.dumps(json.loads(card.to_json()), indent=2))
    else:
        console.write(as_text(card, args.file.stat().st_size))


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


def _merge(args: argparse.Namespace, card: AdapterCard) -> None:
    from ..adapter_merge import merge_adapter  # torch

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


def _models(args: argparse.Namespace) -> ModelService:
    return ModelService(console.models_dir(args), choose(args.device))
