"""Units on a ``dask.distributed`` cluster: one model per worker process, and the job file with this process alone.

The scheduler may run a unit twice (a worker that dies, one that is slow); that is harmless, because a unit gives the
same wherever and however often it is done, and only the first result is written.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import queue
import threading
from collections.abc import Iterable
from typing import Any

from ...models.errors import EnvironmentMissingError, SamTuneError
from ..progress import NullProgress, Progress
from .executors import Done, Tick
from .items import UnitResult
from .pipeline import Pipeline
from .worker import Order, Setup, Worker

PER_THREAD = 2
"""Units under way per thread of the cluster, so that none waits for this process."""

RETRIES = 2
"""How often a unit that failed with an error is tried again, perhaps elsewhere."""

_WAIT = 0.5
_turn = threading.Lock()
"""Held while a unit is done: threads of one worker process would share its model."""


@functools.lru_cache(maxsize=1)
def _worker(setup: Setup) -> Worker:
    """Return this process's worker; a further job takes the place of the one before."""
    return Worker(setup)


def run_unit(setup: Setup, order: Order) -> UnitResult:
    """Do one unit in a worker process.

    Args:
        setup: of the job.
        order: the unit.

    Returns:
        What it gives.

    Raises:
        SamTuneError: the work cannot go on.
    """
    results: list[UnitResult] = []
    pipeline = Pipeline(NullProgress().check, lambda _work, _tiles: None)
    with _turn:
        pipeline.run(iter([_worker(setup).work(order)]), results.append)
    return results[0]


class DaskExecutor:
    """Does units on a cluster."""

    def __init__(self, address: str, setup: Setup) -> None:
        """Connect.

        Args:
            address: of the scheduler, such as ``tcp://head:8786``.
            setup: of the job; its paths are those of the workers.

        Raises:
            EnvironmentMissingError: ``distributed`` is not installed.
            SamTuneError: no scheduler answers, or it has no workers.
        """
        try:
            self._dask = importlib.import_module("distributed")
        except ImportError as error:
            raise EnvironmentMissingError(
                "Working on a cluster needs the Python package distributed. Install it here and on the workers "
                "(pip install distributed), in the same version."
            ) from error
        self._setup = setup
        try:
            self._client = self._dask.Client(address, timeout="10s", set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise SamTuneError(
                f"No Dask scheduler answers at {address}. Start one (dask scheduler), or check the address.", str(error)
            ) from error

    def run(self, orders: Iterable[Order], done: Done, tick: Tick, progress: Progress) -> None:
        """Do units: see :class:`.executors.Executor`."""
        waiting = iter(orders)
        ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        under_way: dict[Any, Order] = {}
        try:
            while True:
                for order in itertools.islice(waiting, max(0, self._room() - len(under_way))):
                    future = self._client.submit(run_unit, self._setup, order, pure=False, retries=RETRIES)
                    under_way[future] = order
                    future.add_done_callback(ready.put)
                if not under_way:
                    return
                progress.check()
                try:
                    future = ready.get(timeout=_WAIT)
                except queue.Empty:
                    continue
                order = under_way.pop(future)
                done(self._result(future))
                tick(order.unit.tiles)
        finally:
            self._client.cancel(list(under_way))
            self._client.close()

    def _room(self) -> int:
        return max(1, PER_THREAD * sum(self._client.nthreads().values()))

    def _result(self, future: Any) -> UnitResult:  # noqa: ANN401 - distributed has no type information
        try:
            result: UnitResult = future.result()
        except self._dask.KilledWorker as error:
            raise SamTuneError(
                "A unit ended its worker several times: out of memory, perhaps. Look at the worker's log; give workers "
                "more memory or make units smaller (--tiles), then resume the job.",
                str(error),
            ) from error
        except RuntimeError as error:
            if "deserialization" not in str(error):
                raise
            raise EnvironmentMissingError(
                "The cluster cannot read this program's units. Install the same versions of SamTune and distributed "
                "here, for the scheduler and for the workers.",
                str(error),
            ) from error
        return result
