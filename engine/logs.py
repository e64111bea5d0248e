"""Where the engine's log goes: stderr, which QGIS keeps the tail of, and a rotating file. Standard library only."""

from __future__ import annotations

import faulthandler
import logging
import logging.handlers
import sys
from pathlib import Path

from .provenance import without_secrets

LOG_NAME = "engine.log"
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_MAX_BYTES = 1024**2
_BACKUPS = 3


class _Discreet(logging.Formatter):
    """Users send logs to others: logins and signatures in addresses stay out of them."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record, exception included, without secrets."""
        return without_secrets(super().format(record))


def set_up(folder: Path | None, level: int = logging.INFO) -> str:
    """Send all logging to stderr and to a rotating file.

    Args:
        folder: of the file; None for stderr only.
        level: least severe level kept.

    Returns:
        The file's path; empty when it could not be opened, which is no reason not to work.
    """
    root = logging.getLogger()
    root.setLevel(level)
    formatter = _Discreet(_FORMAT)
    to_stderr = logging.StreamHandler(sys.stderr)
    to_stderr.setFormatter(formatter)
    root.addHandler(to_stderr)
    faulthandler.enable(sys.stderr)
    if folder is None:
        return ""
    path = folder / LOG_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        to_file = logging.handlers.RotatingFileHandler(
            path, maxBytes=_MAX_BYTES, backupCount=_BACKUPS, encoding="utf-8"
        )
    except OSError as error:
        root.warning("No log file: %s", error)
        return ""
    to_file.setFormatter(formatter)
    root.addHandler(to_file)
    return str(path)


def log_file_of(folder: Path) -> str:
    """Return the path of the log file in a folder if there is one, else an empty string.

    Args:
        folder: as given to :func:`set_up`.
    """
    path = folder / LOG_NAME
    return str(path) if path.is_file() else ""
