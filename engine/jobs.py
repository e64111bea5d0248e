"""Requests on their way through the engine: a job per request, and lanes that run them. Standard library only."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from enum import Enum

from ..models.errors import CancelledByUser
from .messages import Method

REPORT_INTERVAL = 0.1
"""Seconds between two ``$/progress`` notifications of one request, at least."""


class Lane(Enum):
    """Which thread runs a request. Requests of one lane never overlap.

    MODEL: everything that uses a network or a raster. QUICK: what is answered while the model is busy.
    TRANSFER: downloads and imports, which take minutes but need no model.
    """

    MODEL = "model"
    QUICK = "quick"
    TRANSFER = "transfer"


LANES: dict[Method, Lane] = {
    Method.INFO: Lane.QUICK,
    Method.MODELS: Lane.QUICK,
    Method.DOWNLOAD: Lane.TRANSFER,
    Method.IMPORT: Lane.TRANSFER,
    Method.TUNE_WATCH: Lane.QUICK,
    Method.TUNE_CONTROL: Lane.QUICK,
    Method.BATCH_STATUS: Lane.QUICK,
}
"""Lane of each method that is not in the model lane."""

PRIORITIES: dict[Method, int] = {
    Method.INITIALIZE: 0,
    Method.SEGMENT: 1,
    Method.OPEN: 2,
    Method.PREPARE: 3,
}
"""Lower runs first among the waiting requests of a lane; equal ones in order of arrival."""

_LAST_PRIORITY = 9


class Job:
    """One request: what was asked, whether it is still wanted, and the progress it reports.

    Is the :class:`~samtune.engine.progress.Progress` that its handler gets.
    """

    def __init__(self, request: int, method: Method, params: object, notify: Callable[[int, float, str], None]) -> None:
        """Describe a request.

        Args:
            request: its id on the wire.
            method: what is asked.
            params: the method's message.
            notify: sends progress: request, fraction, message.
        """
        self.request = request
        self.method = method
        self.params = params
        self.cancelled = threading.Event()
        self._notify = notify
        self._next_report = 0.0

    @property
    def priority(self) -> int:
        """Return the place among waiting jobs; lower runs first."""
        return PRIORITIES.get(self.method, _LAST_PRIORITY)

    def report(self, fraction: float, message: str) -> None:
        """Send progress unless some was sent just now.

        Args:
            fraction: 0 to 1, or negative when unknown.
            message: what is being done.
        """
        now = time.monotonic()
        if now < self._next_report and fraction < 1.0:
            return
        self._next_report = now + REPORT_INTERVAL
        self._notify(self.request, fraction, message)

    def check(self) -> None:
        """Stop the handler when the request was cancelled.

        Raises:
            CancelledByUser: it was.
        """
        if self.cancelled.is_set():
            raise CancelledByUser


class LaneRunner:
    """One daemon thread that runs jobs by priority, one at a time."""

    def __init__(self, lane: Lane, execute: Callable[[Job], None]) -> None:
        """Start the thread.

        Args:
            lane: for the thread's name.
            execute: runs a job and sends its answer; must not raise.
        """
        self._execute = execute
        self._waiting: list[tuple[int, int, Job]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self.running: Job | None = None
        threading.Thread(target=self._loop, name=f"samtune-{lane.value}", daemon=True).start()

    def put(self, job: Job) -> None:
        """Queue a job."""
        with self._changed:
            heapq.heappush(self._waiting, (job.priority, next(self._order), job))
            self._changed.notify()

    def withdraw(self, job: Job) -> bool:
        """Take a job out of the queue.

        Returns:
            Whether it was still waiting; when not, it runs or is answered already.
        """
        with self._changed:
            kept = [entry for entry in self._waiting if entry[2] is not job]
            found = len(kept) < len(self._waiting)
            heapq.heapify(kept)
            self._waiting = kept
            return found

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                self.running = heapq.heappop(self._waiting)[2]
            self._execute(self.running)
            self.running = None
