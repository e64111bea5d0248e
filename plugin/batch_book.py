"""Which batch jobs there are: remembered in the settings, so that an interrupted one is offered in the next session."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from ..engine.batch_messages import BatchOutputs, BatchState, BatchStatus, BatchTask
from ..engine.wire import from_wire, to_wire
from ..models.errors import ProtocolError
from .settings import PluginSettings

JOB_SUFFIX = ".samjob"
MOST_JOBS = 50


@dataclass(frozen=True)
class JobRecord:
    """What is remembered of a job besides its file.

    Attributes:
        path: of the job file.
        task: what is done.
        state: where it was when last heard of; RUNNING of a job that nobody works on means that it was interrupted.
        tiles: in all, and
        done: of them, then.
        adapter: path of the adapter's file, for the colours of its classes; empty for none.
        outputs: what is written in the end.
        show: put the results into the project when they are there.
        problem: why the last run ended early, for the user; empty when it did not.
    """

    path: str
    task: BatchTask
    state: BatchState = BatchState.WAITING
    tiles: int = 0
    done: int = 0
    adapter: str = ""
    outputs: BatchOutputs = BatchOutputs()  # noqa: RUF009 - frozen
    show: bool = True
    problem: str = ""

    @property
    def name(self) -> str:
        """Return the job's name for the user."""
        return Path(self.path).stem

    def with_status(self, status: BatchStatus) -> JobRecord:
        """Return the record with what a status says."""
        return replace(self, task=status.task, state=status.state, tiles=status.tiles, done=status.done)


class JobBook:
    """The records, the newest first, written to the settings with every change."""

    def __init__(self, settings: PluginSettings) -> None:
        """Read the settings.

        Args:
            settings: hold the records.
        """
        self._settings = settings
        self._records = {record.path: record for record in _read(settings.batch_jobs.value())}

    @property
    def records(self) -> tuple[JobRecord, ...]:
        """Return all records, the newest first."""
        return tuple(self._records.values())

    def find(self, path: str) -> JobRecord | None:
        """Return the record of a job file."""
        return self._records.get(path)

    def add(self, record: JobRecord) -> None:
        """Keep a new record as the newest; the oldest of too many goes."""
        others = {path: known for path, known in self._records.items() if path != record.path}
        self._records = {record.path: record, **others}
        for path in list(self._records)[MOST_JOBS:]:
            del self._records[path]
        self._write()

    def update(self, record: JobRecord) -> None:
        """Keep a changed record in its place."""
        if self._records.get(record.path) not in (None, record):
            self._records[record.path] = record
            self._write()

    def remove(self, path: str) -> None:
        """Forget a job; its file stays."""
        if self._records.pop(path, None) is not None:
            self._write()

    def _write(self) -> None:
        self._settings.batch_jobs.setValue(json.dumps([to_wire(record) for record in self.records]))


def _read(text: str) -> list[JobRecord]:
    """Return the records of a setting; what another version or hand has written there is left out."""
    try:
        values = json.loads(text or "[]")
    except ValueError:
        return []
    return [record for record in map(_record, values if isinstance(values, list) else []) if record is not None]


def _record(value: object) -> JobRecord | None:
    try:
        return from_wire(JobRecord, value)
    except ProtocolError:
        return None
