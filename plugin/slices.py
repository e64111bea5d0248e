"""Long work on the main thread in short slices, between which QGIS answers the mouse."""

from __future__ import annotations

from collections.abc import Callable, Generator

from qgis.PyQt.QtCore import QElapsedTimer, QObject, QTimer

from ..models.errors import SamTuneError

SLICE_MS = 20
"""A slice ends after this; with the step under way it stays below the 50 ms that a hand notices."""

Steps = Generator[None, None, None]


class Slices(QObject):
    """Runs a generator, step by step. For what only the main thread may touch, such as layers."""

    def __init__(self, parent: QObject | None = None) -> None:
        """Run nothing yet."""
        super().__init__(parent)
        self._steps: Steps | None = None
        self._on_done: Callable[[], None] = _nothing
        self._on_failed: Callable[[SamTuneError], None] = _nothing_of
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._run_slice)

    @property
    def running(self) -> bool:
        """Return whether there are steps left."""
        return self._steps is not None

    def run(self, steps: Steps, on_done: Callable[[], None], on_failed: Callable[[SamTuneError], None]) -> None:
        """Run a generator to its end, in place of one under way.

        Args:
            steps: yields after every small step.
            on_done: called after the last one.
            on_failed: called with a SamTuneError that a step raised.
        """
        self.stop()
        self._steps, self._on_done, self._on_failed = steps, on_done, on_failed
        self._timer.start()

    def stop(self) -> None:
        """Give up what is under way: the generator is closed, so its clean-up runs now. Nobody is called."""
        self._timer.stop()
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.close()

    def _run_slice(self) -> None:
        clock = QElapsedTimer()
        clock.start()
        steps = self._steps
        try:
            while steps is not None and steps is self._steps:
                next(steps)
                if clock.elapsed() >= SLICE_MS:
                    return
        except StopIteration:
            self._end()
            self._on_done()
        except SamTuneError as error:
            self._end()
            self._on_failed(error)
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self._timer.stop()
        self._steps = None


def _nothing() -> None:
    """Do nothing."""


def _nothing_of(_error: SamTuneError) -> None:
    """Do nothing."""
