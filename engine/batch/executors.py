"""Where units are done: in this process, or on a cluster (:mod:`.dask_executor`). The work is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ..progress import Progress
from .items import UnitResult
from .pipeline import Pipeline, Work
from .worker import Order, Worker

Done = Callable[[UnitResult], None]
Tick = Callable[[int], None]


class Executor(Protocol):
    """Does units, in any order."""

    def run(self, orders: Iterable[Order], done: Done, tick: Tick, progress: Progress) -> None:
        """Do units.

        Args:
            orders: the units; taken one by one, when there is room.
            done: called with the result of each, never at the same time.
            tick: called with the number of tiles that were done, now and then.
            progress: asked for a cancel.

        Raises:
            SamTuneError: the work cannot go on.
            CancelledByUser: from ``progress.check``.
        """


class LocalExecutor:
    """Does units in this process: reading, computing, shaping and writing at the same time."""

    def __init__(self, worker: Worker) -> None:
        """Take a worker.

        Args:
            worker: of the job.
        """
        self._worker = worker

    def run(self, orders: Iterable[Order], done: Done, tick: Tick, progress: Progress) -> None:
        """Do units: see :class:`Executor`."""

        def ticked(_work: Work, tiles: int) -> None:
            tick(tiles)

        Pipeline(progress.check, ticked).run((self._worker.work(order) for order in orders), done)
