"""Cost of training: processor seconds of a step and memory above what was there before."""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc(5)


@dataclass
class Cost:
    """What a stretch of work took.

    Attributes:
        seconds: processor seconds of the process, which other programs on the machine do not lengthen.
        memory: MiB at the peak above the start; None where the system does not tell.
    """

    seconds: float = 0.0
    memory: float | None = None


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure what is done while the context lasts; the figures are there when it ends."""
    cost = Cost()
    before = _reset()
    began = time.process_time()
    try:
        yield cost
    finally:
        cost.seconds = time.process_time() - began
        peak = _status("VmHWM")
        cost.memory = None if before is None or peak is None else max(peak - before, 0.0)


def _reset() -> float | None:
    """Give back free memory, forget the peak, and return the MiB that are held now."""
    gc.collect()
    name = ctypes.util.find_library("c")
    if name is not None and _STATUS.exists():
        library = ctypes.CDLL(name)
        if hasattr(library, "malloc_trim"):
            library.malloc_trim(0)
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return None
    return _status("VmRSS")


def _status(name: str) -> float | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return float(line.split()[1]) / 1024
    return None
