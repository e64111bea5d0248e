"""Runs that were interrupted or not kept: found by the records in their folders, which are believed in nothing."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ..engine.tune_messages import OFFER, RunState, TuneParams, TuneReport
from ..engine.wire import from_wire
from ..models.errors import OutputError, ProtocolError

RECORD = "run.json"
LARGEST_RECORD = 1 << 20
LARGEST_OFFER = 1 << 25
"""It holds pictures."""

CUT_OFF = (RunState.PREPARING, RunState.RUNNING, RunState.PAUSED, RunState.MEASURING)
"""What a run is at for ever whose engine died."""

GIVEN_UP = (RunState.CANCELLED, RunState.FAILED)
"""Its task was cancelled, by the user or because QGIS was closed; or the disk was full. Worth it after some steps."""

LIVE_SECONDS = 60
"""A record as young as this may be of a run that is under way in another QGIS."""

_UNSAFE = re.compile(r"[^\w-]+")
_STAMP = re.compile(r"^\d{8}-\d{6}-?")


@dataclass(frozen=True)
class KeptRun:
    """A run that can be gone on with, or whose adapter can still be kept.

    Attributes:
        folder: of its records.
        name: for the user.
        params: the run.
        state: where it was.
        step: steps done, and
        steps: of how many.
        live: it may be under way, here or in another QGIS.
        report: what came of it, where it is finished and its adapter was not kept.
    """

    folder: Path
    name: str
    params: TuneParams
    state: RunState
    step: int
    steps: int
    live: bool = False
    report: TuneReport | None = None


def new_run_folder(runs: Path, name: str) -> Path:
    """Return a folder for a new run that does not exist yet; it is not made.

    Args:
        runs: folder of all runs.
        name: for people, any text.
    """
    plain = _UNSAFE.sub("-", name).strip("-")[:40]
    stem = "-".join(part for part in (time.strftime("%Y%m%d-%H%M%S"), plain) if part)
    folder, number = runs / stem, 1
    while folder.exists():
        number += 1
        folder = runs / f"{stem}-{number}"
    return folder


def run_title(folder: Path) -> str:
    """Return what a run is called, for the user, by its folder."""
    return _STAMP.sub("", folder.name).replace("-", " ") or folder.name


def kept_runs(runs: Path) -> tuple[KeptRun, ...]:
    """Return the interrupted runs below a folder, and those whose adapter was not kept, the newest first.

    Args:
        runs: folder of all runs; need not exist.
    """
    found = (read_run(path.parent) for path in sorted(runs.glob(f"*/{RECORD}"), reverse=True))
    return tuple(run for run in found if run is not None)


def read_run(folder: Path) -> KeptRun | None:
    """Read the record of a run; None where there is none to be offered.

    Args:
        folder: of the run.
    """
    path = folder / RECORD
    try:
        record = json.loads(_text(path, LARGEST_RECORD))
        params = from_wire(TuneParams, record["params"])
        state, step, steps = RunState(record["state"]), int(record["step"]), int(record["steps"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ProtocolError):
        return None
    if step < 0 or Path(params.folder) != folder:
        return None
    if state is RunState.FINISHED:
        report = _unkept(folder)
        return None if report is None else KeptRun(folder, run_title(folder), params, state, step, steps, report=report)
    if state not in CUT_OFF and not (state in GIVEN_UP and step > 0):
        return None
    if not Path(params.inputs.labels.path).is_file():
        return None
    live = state in CUT_OFF and _is_young(record.get("updated"))
    return KeptRun(folder, run_title(folder), params, state, step, max(step, steps), live)


def _unkept(folder: Path) -> TuneReport | None:
    """Return what came of a finished run whose adapter was not kept; None where it was, or is gone."""
    try:
        report = from_wire(TuneReport, json.loads(_text(folder / OFFER, LARGEST_OFFER)))
    except (OSError, ValueError, RecursionError, ProtocolError):
        return None
    there = Path(report.folder) == folder and Path(report.adapter).is_file()
    return report if there else None


def _text(path: Path, largest: int) -> str:
    if path.stat().st_size > largest:
        raise ValueError("the file is no record of a run: it is too large")
    return path.read_text(encoding="utf-8")


def was_kept(run: Path) -> None:
    """Have a run offered no more: its adapter is in the list.

    Args:
        run: its folder.

    Raises:
        OutputError: the folder cannot be changed.
    """
    try:
        (run / OFFER).unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(
            f"{run} cannot be changed, so its adapter is offered again. Discard it.", str(error)
        ) from error


def _is_young(updated: object) -> bool:
    """Tell whether a record was written just now; what is no time, or lies in the future, was not."""
    try:
        written = datetime.fromisoformat(str(updated))
    except ValueError:
        return False
    if written.tzinfo is None:
        return False
    return timedelta(0) <= datetime.now(timezone.utc) - written < timedelta(seconds=LIVE_SECONDS)


def discard(run: Path, runs: Path) -> None:
    """Delete a run's folder for good.

    Args:
        run: its folder.
        runs: folder of all runs, in which it must lie.

    Raises:
        OutputError: it lies elsewhere, or cannot be deleted.
    """
    if run.resolve().parent != runs.resolve():
        raise OutputError(f"{run} is no folder of a run, and stays.")
    try:
        shutil.rmtree(run)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{run} cannot be deleted. Delete it yourself.", str(error)) from error
