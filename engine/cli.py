"""The command line ``samtune``. One module per command in :mod:`.commands`, imported only when its command is given.

A command module has ``add_parser(subparsers) -> None``, which adds one parser named like the command, and
``run(args) -> int``, which returns the exit status. It may raise :class:`~samtune.models.errors.SamTuneError`: the user
then sees its text as one line on stderr. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol, cast

from ..models.errors import CancelledByUser, EnvironmentMissingError, SamTuneError
from .provenance import without_secrets

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
_PACKAGE = f"{__package__}.commands"


class CommandModule(Protocol):
    """What a module in :mod:`.commands` offers."""

    def add_parser(self, subparsers: Subparsers[argparse.ArgumentParser]) -> None:
        """Add the command's parser.

        Args:
            subparsers: of the ``samtune`` parser.
        """

    def run(self, args: argparse.Namespace) -> int:
        """Do it.

        Args:
            args: as parsed.

        Returns:
            The exit status.
        """


class CliParser(argparse.ArgumentParser):
    """A parser whose complaint is one line, and which knows ``--verbose`` before and after the command."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Make a parser.

        Args:
            *args: as for :class:`argparse.ArgumentParser`.
            **kwargs: likewise.
        """
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.add_argument(
            "--verbose",
            action="store_true",
            default=argparse.SUPPRESS,
            help="on failure, print technical details as well",
        )

    def error(self, message: str) -> NoReturn:
        """Print the complaint and end the program.

        Args:
            message: what is wrong.
        """
        self.exit(WRONG_USAGE, f"{self.prog}: {_one_line(message)} (see {self.prog} --help)\n")


Subparsers = argparse._SubParsersAction  # argparse has no public name for it


@dataclass(frozen=True)
class Command:
    """A command as listed by ``samtune --help``.

    Attributes:
        name: as typed; its module in :mod:`.commands` has the same name.
        summary: one line.
    """

    name: str
    summary: str


COMMANDS = (
    Command("info", "versions, device, models and store of this installation"),
    Command("models", "list, download and import the base models"),
    Command("segment", "segment objects of a raster by points and boxes"),
    Command("find", "find all objects of an area with an adapter"),
    Command("map", "make a class map of an area with an adapter"),
    Command("batch", "one task over many rasters, in a job that can be resumed"),
    Command("change", "what is new, gone, changed or stable between two dates"),
    Command("tune", "teach a model your objects from a few labelled polygons"),
    Command("adapter", "show, rename, check, compare, merge, export and import adapters"),
    Command("evaluate", "measure a model on labelled images"),
    Command("pretrain", "train a base model from a configuration file"),
    Command("serve", "run the engine process that QGIS talks to"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: without the program's name; None takes the process's.

    Returns:
        Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in arguments
    try:
        return _run(arguments)
    except SamTuneError as error:
        return _fail(error.user_text, error.details, verbose=verbose)
    except (CancelledByUser, KeyboardInterrupt):
        _fail("Interrupted.", "", verbose=False)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone (``samtune ... | head``); keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except SystemExit as end:  # argparse: help printed, or wrong usage told
        return end.code if isinstance(end.code, int) else FAILED
    except Exception as error:  # the outermost boundary: the user gets a line, not a traceback
        text = (
            f"Unexpected problem: {type(error).__name__}: {error}. Run it again with --verbose for a report to send in."
        )
        return _fail(text, traceback.format_exc(), verbose=verbose)


def _run(arguments: list[str]) -> int:
    from .about import version

    parser = CliParser(prog="samtune", description="Segment rasters by prompt with a Segment Anything model.")
    parser.add_argument("--version", action="version", version=f"samtune {version()}")
    subparsers = cast("Subparsers[argparse.ArgumentParser]", parser.add_subparsers(metavar="COMMAND", title="commands"))
    wanted = next((word for word in arguments if not word.startswith("-")), "")
    module: CommandModule | None = None
    for command in COMMANDS:
        if command.name == wanted:
            module = _load(command.name)
            module.add_parser(subparsers)
        elif importlib.util.find_spec(f"{_PACKAGE}.{command.name}") is not None:
            subparsers.add_parser(command.name, help=command.summary)
    args = parser.parse_args(arguments)
    if module is None:
        parser.print_help()
        return WRONG_USAGE
    status = module.run(args)
    sys.stdout.flush()  # here, where a reader that has gone away is handled
    return status


def _load(name: str) -> CommandModule:
    try:
        return cast("CommandModule", importlib.import_module(f"{_PACKAGE}.{name}"))
    except ImportError as error:
        raise EnvironmentMissingError(
            f"The command {name} cannot run: the Python package {error.name or 'it needs'} is missing or broken here. "
            "Install the engine's requirements again.",
            traceback.format_exc(),
        ) from error


def _fail(text: str, details: str, *, verbose: bool) -> int:
    sys.stderr.write(f"samtune: {_one_line(without_secrets(text))}\n")
    if verbose and details:
        sys.stderr.write(f"{without_secrets(details.rstrip())}\n")
    sys.stderr.flush()
    return FAILED


def _one_line(text: str) -> str:
    return " ".join(text.split())
