"""What the commands share: folder options, progress on a terminal, output."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..models.errors import CancelledByUser, OutputError
from .paths import chosen, default_folders
from .wire import to_wire

if TYPE_CHECKING:
    from ..models.peft.adapter_card import AdapterCard
    from .store import EmbeddingStore

_INTERVAL = 0.2


class ConsoleProgress:
    """A :class:`~.progress.Progress` that shows one changing line on a terminal, and nothing in a file or pipe.

    Ctrl-C raises KeyboardInterrupt by itself, so :meth:`check` has nothing to do.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """Prepare.

        Args:
            stream: where to; None for stderr.
        """
        self._stream = sys.stderr if stream is None else stream
        self._width = 0
        self._next = 0.0

    def report(self, fraction: float, message: str) -> None:
        """Show how far the work is.

        Args:
            fraction: 0 to 1, or negative when unknown.
            message: what is being done.
        """
        if not self._stream.isatty() or (time.monotonic() < self._next and fraction < 1):
            return
        self._next = time.monotonic() + _INTERVAL
        line = f"{message} ({fraction:.0%})" if fraction >= 0 else message
        self._stream.write(f"\r{line:<{self._width}}")
        self._stream.flush()
        self._width = len(line)

    def check(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Remove the line."""
        if self._width:
            self._stream.write(f"\r{'':<{self._width}}\r")
            self._stream.flush()
            self._width = 0


class TaskProgress(ConsoleProgress):
    """Progress of work that takes minutes to hours, and that Ctrl-C ends in good order.

    In a file or pipe it is a line now and then, so that a log shows how far the work is.
    """

    def __init__(self, stream: TextIO | None = None, interval: float = 30.0) -> None:
        """Prepare.

        Args:
            stream: where to; None for stderr.
            interval: seconds between two lines where the stream is no terminal.
        """
        super().__init__(stream)
        self._interval = interval
        self._next_line = 0.0
        self._stop = threading.Event()

    def report(self, fraction: float, message: str) -> None:
        """Show how far the work is.

        Args:
            fraction: 0 to 1, or negative when unknown.
            message: what is being done.
        """
        if self._stream.isatty():
            super().report(fraction, message)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + self._interval
            self._stream.write(f"{message} ({fraction:.0%})\n" if fraction >= 0 else f"{message}\n")
            self._stream.flush()

    def check(self) -> None:
        """Stop the work when Ctrl-C was pressed, or the process was asked to end.

        Raises:
            CancelledByUser: as said.
        """
        if self._stop.is_set():
            raise CancelledByUser

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Have Ctrl-C and SIGTERM noted for :meth:`check` while the context lasts; a second one ends at once."""

        def note(_number: int, _frame: object) -> None:
            if self._stop.is_set():
                raise KeyboardInterrupt
            self._stop.set()

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def add_folder_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--models-dir`` and ``--store-dir``.

    Args:
        parser: of a command.
    """
    folders = default_folders()
    parser.add_argument("--models-dir", default="", metavar="DIR", help=f"folder of weight files ({folders.models})")
    parser.add_argument(
        "--store-dir", default="", metavar="DIR", help=f"folder of the embedding store ({folders.store})"
    )


def models_dir(args: argparse.Namespace) -> Path:
    """Return the folder of weight files.

    Args:
        args: of a parser with :func:`add_folder_options`.
    """
    return chosen(str(args.models_dir), default_folders().models)


def store_dir(args: argparse.Namespace) -> Path:
    """Return the folder of the embedding store.

    Args:
        args: of a parser with :func:`add_folder_options`.
    """
    return chosen(str(args.store_dir), default_folders().store)


def open_store(args: argparse.Namespace) -> EmbeddingStore:
    """Open the embedding store, and say on stderr where it cannot be used.

    Args:
        args: of a parser with :func:`add_folder_options`.

    Raises:
        StoreError: the folder given cannot be used.
    """
    from .store import open_store as opened  # safetensors, which not every command needs

    store = opened(str(args.store_dir), default_folders().store)
    if store.warning:
        sys.stderr.write(f"samtune: {store.warning}\n")
    return store


def adapter_card(args: argparse.Namespace) -> AdapterCard | None:
    """Return the card of the adapter given by ``--adapter``; None without one.

    Args:
        args: of a parser with that option.

    Raises:
        TuningError: the file is missing, or damaged or no adapter.
    """
    from ..models.peft.adapter_card import read_card  # not every command needs it

    return read_card(Path(str(args.adapter)).expanduser()) if args.adapter else None


def refuse_output(path: Path, *, overwrite: bool, suffix: str) -> None:
    """Refuse a file that cannot be written, before any work is done.

    Args:
        path: of the file.
        overwrite: an existing one may be replaced.
        suffix: that its name must have.

    Raises:
        OutputError: it exists, has another suffix, or its folder is missing or protected.
    """
    if path.suffix.lower() != suffix:
        raise OutputError(f"{path} should be named {path.stem or 'name'}{suffix}. Give it that suffix.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder. Give the name of a file.")
    if not path.parent.is_dir():
        raise OutputError(f"There is no folder {path.parent}. Make it first.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists. Use --overwrite to replace it, or choose another name.")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise OutputError(f"{path} cannot be written: the folder is protected. Choose another one.")


def warn(sentences: Iterable[str]) -> None:
    """Write sentences to stderr, a line each.

    Args:
        sentences: what the user should know, but what stops nothing.
    """
    for sentence in sentences:
        sys.stderr.write(f"samtune: {sentence}\n")


def write(text: str) -> None:
    """Write a line to stdout.

    Args:
        text: without the line's end.
    """
    sys.stdout.write(f"{text}\n")


def write_json(message: object) -> None:
    """Write a message as indented JSON to stdout.

    Args:
        message: a dataclass of :mod:`.messages`, or dicts and lists of such.
    """
    write(json.dumps(to_wire(message), indent=2, ensure_ascii=False))
