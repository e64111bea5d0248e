"""Reading, computing and shaping at the same time: three stages with short queues between them.

The stages of one unit follow each other, those of different parts overlap: while the model has one tile, the next ones
are read and the outlines of those before are traced. Queues are bounded, so memory does not grow with the job. The
model runs in the thread that calls, because torch keeps its number of threads per thread.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ...models.errors import RasterError
from .items import Unit, UnitResult

AHEAD = 4
"""Parts read ahead, and parts waiting to be shaped, at most; and units waiting to be written."""

_WAIT = 0.1


class Stages(Protocol):
    """The work on the units of one raster, taken apart. What passes between the stages is their own affair."""

    @property
    def batch(self) -> int:
        """How many parts :meth:`compute` is given at once, from now on."""

    def read(self, part: Any) -> Any | None:  # noqa: ANN401 - the task's own
        """Read what a part needs; None where there is no data. Called in a thread of its own."""

    def compute(self, parts: list[Any]) -> list[Any]:
        """Run the model on what was read, in order. Called in the thread that has the model."""

    def shape(self, part: Any, computed: Any) -> Any:  # noqa: ANN401 - likewise
        """Make of an answer what is kept of it. Called in a thread of its own."""

    def finish(self, unit: Unit, shaped: list[Any], skipped: int) -> UnitResult:
        """Make a unit's result of its parts, in order. Called in the same thread."""


@dataclass
class Work:
    """A unit on its way.

    Attributes:
        unit: of the job.
        stages: that it goes through.
        parts: of it.
    """

    unit: Unit
    stages: Stages
    parts: list[Any]
    begun: float = 0.0
    problem: str = ""
    shaped: list[Any] = field(default_factory=list)
    skipped: int = 0


@dataclass(frozen=True)
class _Item:
    """Something between two stages: a part, or the end of a unit (without one)."""

    work: Work
    part: Any = None
    value: Any = None


class _Stop(Exception):  # noqa: N818 - ends a thread in good order
    """Another stage has failed, or the work is no longer wanted."""


class _Line:
    """A queue that can be given up, and that ends."""

    _END = object()

    def __init__(self, size: int, stop: threading.Event) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(size)
        self._stop = stop

    def put(self, item: object) -> None:
        """Add an item; waits while the queue is full."""
        while True:
            if self._stop.is_set():
                raise _Stop
            try:
                return self._queue.put(item, timeout=_WAIT)
            except queue.Full:
                continue

    def end(self) -> None:
        """Say that nothing comes any more."""
        self.put(self._END)

    def __iter__(self) -> Iterator[Any]:
        """Yield items until the end."""
        while True:
            item = self.get()
            if item is self._END:
                return
            yield item

    def get(self) -> Any:  # noqa: ANN401 - what was put in
        """Take an item; waits for one."""
        while True:
            if self._stop.is_set():
                raise _Stop
            try:
                return self._queue.get(timeout=_WAIT)
            except queue.Empty:
                continue


class Pipeline:
    """Takes units through their stages."""

    def __init__(self, check: Callable[[], None], tick: Callable[[Work, int], None]) -> None:
        """Prepare.

        Args:
            check: called between parts; may raise to stop.
            tick: told, in the calling thread, of parts whose computing is done or that have no data, and how many.
        """
        self._check, self._tick = check, tick
        self._stop = threading.Event()
        self._failures: list[BaseException] = []

    def run(self, units: Iterable[Work], done: Callable[[UnitResult], None]) -> None:
        """Do units, and hand each one's result over when it is ready.

        Args:
            units: taken one by one, when there is room.
            done: called in a thread of its own, in order.

        Raises:
            BaseException: what a stage raised, or ``check``. Results handed over until then stay.
        """
        read, computed, ready = (_Line(AHEAD, self._stop) for _ in range(3))
        threads = [
            threading.Thread(target=self._guard, args=(target, *lines), name=f"samtune-batch-{target.__name__}")
            for target, lines in ((self._read, (units, read)), (self._shape, (computed, ready)))
        ]
        writer = threading.Thread(target=self._guard, args=(self._write, ready, done), name="samtune-batch-write")
        for thread in (*threads, writer):
            thread.daemon = True
            thread.start()
        try:
            self._compute(read, computed)
            for thread in (*threads, writer):
                while thread.is_alive():
                    thread.join(_WAIT)
                    self._check()
        except _Stop:
            self._stop.set()
        except BaseException:
            self._stop.set()
            self._join((*threads, writer))
            raise
        self._join((*threads, writer))
        if self._failures:
            raise self._failures[0]

    @staticmethod
    def _join(threads: tuple[threading.Thread, ...]) -> None:
        for thread in threads:
            thread.join()

    def _guard(self, target: Callable[..., None], *arguments: object) -> None:
        """Run a stage; what it raises is raised where the pipeline runs, and stops the others."""
        try:
            target(*arguments)
        except _Stop:
            return
        except BaseException as error:
            self._failures.append(error)
            self._stop.set()

    def _read(self, units: Iterable[Work], line: _Line) -> None:
        for work in units:
            work.begun = time.perf_counter()
            for part in work.parts:
                value = None
                if not work.problem:
                    try:
                        value = work.stages.read(part)
                    except RasterError as error:
                        work.problem = error.user_text
                line.put(_Item(work, part, value))
            line.put(_Item(work))
        line.end()

    def _compute(self, read: _Line, line: _Line) -> None:
        waiting: list[_Item] = []
        for item in read:
            self._check()
            together = bool(waiting) and waiting[0].work.stages is item.work.stages
            if waiting and not together:
                self._compute_batch(waiting, line)
            waiting.append(item)
            with_data = sum(entry.value is not None for entry in waiting)
            # What has no data, and ends of units, wait behind the parts before them, so that order is kept.
            if not with_data or with_data >= item.work.stages.batch:
                self._compute_batch(waiting, line)
        self._compute_batch(waiting, line)
        line.end()

    def _compute_batch(self, items: list[_Item], line: _Line) -> None:
        """Compute and pass on what waits, and leave the list empty."""
        given = [item for item in items if item.value is not None]
        answers = iter(given[0].work.stages.compute([item.value for item in given]) if given else [])
        for item in items:
            answer = None if item.value is None else next(answers)
            line.put(replace(item, value=answer))
            if item.part is not None:
                self._tick(item.work, 1)
        items.clear()

    def _shape(self, computed: _Line, ready: _Line) -> None:
        for item in computed:
            work = item.work
            if item.part is None:
                ready.put(self._finished(work))
            elif item.value is None:
                work.skipped += 1
            else:
                work.shaped.append(work.stages.shape(item.part, item.value))
        ready.end()

    @staticmethod
    def _finished(work: Work) -> UnitResult:
        if work.problem:
            return UnitResult(work.unit.number, problem=work.problem)
        result = work.stages.finish(work.unit, work.shaped, work.skipped)
        return replace(result, unit=work.unit.number, skipped=work.skipped, seconds=time.perf_counter() - work.begun)

    @staticmethod
    def _write(ready: _Line, done: Callable[[UnitResult], None]) -> None:
        for result in ready:
            done(result)
