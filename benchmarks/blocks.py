"""How long QGIS's main thread does not come back to its event loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from qgis.PyQt.QtCore import Qt, QTimer

LIMIT = 0.05
"""Seconds; a longer block is felt."""


class Blocks:
    """Watches the main thread by a timer that should fire all the time.

    Attributes:
        longest: time between two of its turns, seconds.
        over: how many were longer than ``LIMIT``.
    """

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self.longest, self.over = 0.0, 0
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(2)
        self._timer.timeout.connect(self._tick)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last)
        self.over += now - self._last > LIMIT
        self._last = now

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Watch while the block runs; the block must wait in event loops."""
        self._last = time.perf_counter()
        self._timer.start()
        try:
            yield
        finally:
            self._timer.stop()
