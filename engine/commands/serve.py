"""``samtune serve``: the engine process that QGIS starts. Speaks JSON-RPC on stdin and stdout until stdin ends."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from ...models.errors import ProtocolError
from ..framing import FrameReader, FrameWriter
from ..logs import set_up
from ..messages import EngineSettings
from ..progress import Progress
from ..server import HandlerFactory, Handlers, Server, claim_streams

_CORRUPT_INPUT = 3
_log = logging.getLogger(__name__)


def run_server(factory: HandlerFactory, log_folder: Path | None) -> None:
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
        _log.error("The input is corrupt: %s", error.details)  # noqa: TRY400 - the traceback tells nothing more
        code = _CORRUPT_INPUT
    finally:
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)  # a computation under way would otherwise keep the process alive


def _note_noise(line: str) -> None:
    _log.warning("Not a message: %r", line[:200])


def _make_handlers(settings: EngineSettings, progress: Progress) -> Handlers:
    from ..handlers import build  # imports torch and rasterio: only now, in the worker, with heartbeats going out

    return build(settings, progress)
