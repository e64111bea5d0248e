"""Default folders for models, embeddings and logs, as each operating system wants them. Standard library only."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

APPLICATION = "samtune"


@dataclass(frozen=True)
class Folders:
    """Where things lie unless the settings say otherwise. None of them need exist yet.

    Attributes:
        models: downloaded and imported weight files; kept until the user deletes them.
        store: the embedding store's disk tier; a cache, may vanish at any time.
        logs: rotating log files of the engine.
    """

    models: Path
    store: Path
    logs: Path


def default_folders(
    platform: str = sys.platform, environment: Mapping[str, str] = os.environ, home: Path | None = None
) -> Folders:
    """Return the default folders of this user.

    Args:
        platform: as in :data:`sys.platform`.
        environment: environment variables.
        home: the user's home folder; None asks the operating system.

    Returns:
        Folders under ``%LOCALAPPDATA%`` on Windows, ``~/Library`` on macOS, the XDG base directories elsewhere.
    """
    base = Path.home() if home is None else home
    if platform == "win32":
        local = _absolute(environment.get("LOCALAPPDATA", ""), base / "AppData" / "Local") / APPLICATION
        return Folders(local / "models", local / "store", local / "logs")
    if platform == "darwin":
        library = base / "Library"
        return Folders(
            library / "Application Support" / APPLICATION / "models",
            library / "Caches" / APPLICATION,
            library / "Logs" / APPLICATION,
        )
    return Folders(
        _absolute(environment.get("XDG_DATA_HOME", ""), base / ".local" / "share") / APPLICATION / "models",
        _absolute(environment.get("XDG_CACHE_HOME", ""), base / ".cache") / APPLICATION,
        _absolute(environment.get("XDG_STATE_HOME", ""), base / ".local" / "state") / APPLICATION / "logs",
    )


def _absolute(value: str, fallback: Path) -> Path:
    """Take the variable's folder; the XDG specification says to ignore relative ones."""
    path = Path(value)
    return path if path.is_absolute() else fallback


def chosen(setting: str, fallback: Path) -> Path:
    """Return the folder named in a setting, or the default where the setting is empty.

    Args:
        setting: a path, ``~`` allowed, or an empty string.
        fallback: the default.
    """
    return Path(setting).expanduser() if setting else fallback


def size_of(folder: Path) -> int:
    """Return the bytes of all files under a folder; 0 if there is none. What cannot be looked at counts nothing.

    Args:
        folder: any folder.
    """
    total = 0
    for parent, _folders, files in os.walk(folder):
        for name in files:
            try:
                total += (Path(parent) / name).stat().st_size
            except OSError:
                continue
    return total
