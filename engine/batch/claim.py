"""The right to work on a job: one process at a time, and what a dead one leaves is taken over.

Two things say that a job is worked on. On one machine it is a lock of the operating system, which goes when its process
does, however that ends. Between machines it is a row in the file with a time that is renewed, because locks do not
reach across every network drive.
"""

from __future__ import annotations

import os
import platform
import secrets
import sqlite3
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from ...models.errors import OutputError
from ..file_lock import locked

BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
"""Age of the last sign of life at which a process on another machine counts as gone."""


class Claim:
    """The right to work on one job while the context lasts."""

    def __init__(self, path: Path, db: sqlite3.Connection, lock: threading.RLock) -> None:
        """Prepare; nothing is claimed yet.

        Args:
            path: of the job file.
            db: the open file, in autocommit mode.
            lock: held while the connection is used.
        """
        self._path, self._db, self._lock = path, db, lock
        self._owner = f"{secrets.token_hex(8)} {os.getpid()} on {platform.node()}"
        self._held = ExitStack()
        self._next_beat = 0.0

    def __enter__(self) -> Claim:
        """Claim the job.

        Raises:
            OutputError: another process works on it.
        """
        try:
            self._take()
        except BaseException:
            self._held.close()
            raise
        return self

    def _take(self) -> None:
        # Imported late: the two modules need each other.
        from .job_file import job_errors

        with job_errors(self._path):
            beside = self._path.with_name(self._path.name + ".lock")
            if not self._held.enter_context(locked(beside)):
                raise OutputError(f"Another process works on the job {self._path.name}. Wait for it, or stop it first.")
            with self._lock:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    self._refuse_living()
                    self._beat()
                    self._db.execute("COMMIT")
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise

    def __exit__(self, *_: object) -> None:
        """Give the job back."""
        with self._lock:
            try:
                self._db.execute("DELETE FROM job WHERE key = 'claim' AND value LIKE ?", (self._owner + "%",))
            except sqlite3.Error:  # the drive may be gone; the claim then goes stale by itself
                self._next_beat = 0.0
            finally:
                self._held.close()

    def _refuse_living(self) -> None:
        row = self._db.execute("SELECT value FROM job WHERE key = 'claim'").fetchone()
        if row is None:
            return
        owner, _, beat = str(row[0]).rpartition(" at ")
        host = owner.partition(" on ")[2]
        age = time.time() - float(beat)
        if host != platform.node() and abs(age) < STALE_SECONDS:  # on this machine the lock has told already
            raise OutputError(
                f"The machine {host} works on the job {self._path.name} ({max(age, 0):.0f} s ago). Stop "
                f"it there; if it is gone, try again in {STALE_SECONDS:.0f} s."
            )

    def confirm(self) -> None:
        """Check, within a transaction, that the job is ours still, and give a sign of life when it is time for one.

        Raises:
            OutputError: another process has taken it over.
        """
        row = self._db.execute("SELECT value FROM job WHERE key = 'claim'").fetchone()
        if row is None or not str(row[0]).startswith(self._owner):
            raise OutputError(
                f"Another process has taken over the job {self._path.name}, because this one gave no sign of life for "
                "too long. It goes on there; nothing is lost."
            )
        if time.monotonic() >= self._next_beat:
            self._beat()

    def beat(self, run: str = "") -> None:
        """Give a sign of life when it is time for one; called now and then while units take their time.

        Args:
            run: what is to be known of this run meanwhile: see :class:`.status.Meter`.
        """
        if time.monotonic() < self._next_beat:
            return
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self.confirm()
                if run:
                    self._db.execute("INSERT OR REPLACE INTO job VALUES ('run', ?)", (run,))
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def _beat(self) -> None:
        self._next_beat = time.monotonic() + BEAT_SECONDS
        value = f"{self._owner} at {time.time():.0f}"
        self._db.execute("INSERT OR REPLACE INTO job VALUES ('claim', ?)", (value,))


def is_claimed(value: str) -> bool:
    """Tell whether a process works on a job now, by what its claim says.

    Args:
        value: of the key ``claim``; empty for none.
    """
    beat = value.rpartition(" at ")[2]
    return bool(beat) and time.time() - float(beat) < STALE_SECONDS
