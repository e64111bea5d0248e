"""``samtune serve``: the engine process that QGIS starts. Speaks JSON-RPC on stdin and stdout until stdin ends."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from ...models.errors import ProtocolError
from ..cli import Subparsers
from ..framing import FrameReader, FrameWriter
from ..logs import log_file_of, set_up
from ..messages import EngineSettings
from ..paths import default_folders
from ..progress import Progress
from ..server import HandlerFactory, Handlers, Server, claim_streams

_CORRUPT_INPUT = 3
_log = logging.getLogger(__name__)


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command's parser.

    Args:
        subparsers: of the ``samtune`` parser.
    """
    parser = subparsers.add_parser("serve", help="run the engine process that QGIS talks to, on stdin and stdout")
    parser.add_argument("--log-dir", type=Path, default=None, help="folder of the log file; default: the user's own")


def run(args: argparse.Namespace) -> int:
    """Serve until stdin ends; the process ends with it.

    Args:
        args: as parsed.

    Returns:
        Never.
    """
    folder = args.log_dir or default_folders().logs

    def make_handlers(settings: EngineSettings, progress: Progress) -> Handlers:
        from ..handlers import build  # torch and rasterio: only now, in the worker, with heartbeats going out

        return build(settings, progress, log_file_of(folder))

    run_server(make_handlers, folder)


def run_server(factory: HandlerFactory, log_folder: Path | None) -> NoReturn:
    """Serve stdin and stdout, then end the process without waiting for what is under way. Does not return.

    Args:
        factory: makes the handlers from the handshake's settings.
        log_folder: of the rotating log file; None to log to stderr only.
    """
    source, sink = claim_streams()
    set_up(log_folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is QGIS's; the end of stdin is what ends an engine
    code = 0
    try:
        Server(FrameReader(source, _note_noise), FrameWriter(sink), factory).run()
        _log.info("The client is gone: this engine ends.")
    except ProtocolError as error:
        _log.error("The input is corrupt: %s", error.details)  # the traceback tells nothing more
        code = _CORRUPT_INPUT
    finally:
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)  # a computation under way would otherwise keep the process alive


def _note_noise(line: str) -> None:
    _log.warning("Not a message: %r", line[:200])
