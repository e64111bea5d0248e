"""Deleting adapters so that it can be undone: files are moved into a folder beside, one for each day.

Standard library only.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from ..models.errors import OutputError
from .adapter_files import SUFFIX

TRASH = "trash"
KEEP_DAYS = 30
"""What was deleted longer ago is removed for good when the plugin is unloaded."""


@dataclass(frozen=True)
class Deleted:
    """Where a file was, and where it lies now."""

    before: Path
    now: Path


def move_to_trash(path: Path, today: date) -> Deleted:
    """Move an adapter's file into the trash beside it.

    Args:
        path: of the file.
        today: names the folder in the trash.

    Raises:
        OutputError: it cannot be moved; it is where it was.
    """
    folder = path.parent / TRASH / today.isoformat()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        now = free_name(folder / path.name)
        path.rename(now)
    except OSError as error:
        raise _failed(f"{path.name} cannot be moved to the trash", error) from error
    return Deleted(path, now)


def move_back(deleted: Deleted) -> Path:
    """Undo a delete; a file that has taken the name meanwhile stays, and the one that comes back gets a number.

    Returns:
        Where it lies now.

    Raises:
        OutputError: it cannot be moved; it is still in the trash.
    """
    try:
        back = free_name(deleted.before)
        deleted.now.rename(back)
    except OSError as error:
        raise _failed(f"{deleted.before.name} cannot be brought back from {deleted.now.parent}", error) from error
    return back


def remove_old(folder: Path, today: date) -> int:
    """Remove what has lain in the trash of a folder of adapters for more than :data:`KEEP_DAYS` days.

    Only adapter files in folders named after a day are touched.

    Returns:
        How many files were removed. What cannot be removed stays until the next time.
    """
    removed = 0
    limit = today - timedelta(days=KEEP_DAYS)
    for old in [place for day, place in _days(folder / TRASH) if day < limit]:
        removed += sum(_removed(file) for file in old.glob(f"*{SUFFIX}"))
        if not any(old.iterdir()):
            old.rmdir()
    return removed


def export_copy(path: Path, to: Path) -> Path:
    """Copy an adapter's file; an existing file is never replaced.

    Args:
        path: of the adapter.
        to: the copy; the ending is added where it lacks.

    Returns:
        The copy.

    Raises:
        OutputError: there is a file of that name, or it cannot be written.
    """
    if to.suffix != SUFFIX:
        to = to.with_name(to.name + SUFFIX)
    if to.exists():
        raise OutputError(f"{to.name} exists already and stays as it is. Choose another name.", str(to))
    part = to.with_name(f".{to.name}.part")
    try:
        shutil.copyfile(path, part)
        part.rename(to)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _failed(f"{to.name} cannot be written", error) from error
    return to


def free_name(path: Path) -> Path:
    """Return a path that no file has: the given one, or one with a number."""
    number, free = 2, path
    while free.exists():
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return free


def _days(trash: Path) -> list[tuple[date, Path]]:
    try:
        folders = [entry for entry in trash.iterdir() if entry.is_dir()]
    except OSError:
        return []  # no trash
    dated = ((_day_of(folder), folder) for folder in folders)
    return [(day, folder) for day, folder in dated if day is not None]


def _day_of(folder: Path) -> date | None:
    try:
        return date.fromisoformat(folder.name)
    except ValueError:
        return None  # not one of ours


def _removed(file: Path) -> int:
    try:
        file.unlink()
    except OSError:
        return 0
    return 1


def _failed(what: str, error: OSError) -> OutputError:
    return OutputError(
        f"{what}: {error.strerror or error}. Close programs that use it, or look at the folder.", str(error)
    )
