"""Engines with make-believe services for the tests in QGIS, and waiting that lets Qt's events run."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from qgis.PyQt.QtCore import QEventLoop, QTimer
from samtune.engine.messages import EngineSettings
from samtune.plugin.engine_service import EngineConfig

FAKE = Path(__file__).resolve().parent.parent / "rpc" / "fake_engine.py"


def python() -> str:
    """Return a Python that is no QGIS."""
    given = os.environ.get("SAMTUNE_ENGINE_PYTHON", "")
    return given if given and Path(given).exists() else shutil.which("python3") or "python3"


def fake_config(*arguments: str, behave: str = "", key: str = "") -> EngineConfig:
    """Return how to start an engine with make-believe services (see fake_engine.py)."""

    def command() -> list[str]:
        return [python(), "-B", str(FAKE), *arguments]

    return EngineConfig(command, EngineSettings(store_dir=behave), key)


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Let Qt's events run until something is so.

    Raises:
        AssertionError: it is not so after that time.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} s"
        let_run(0.01)


def let_run(seconds: float) -> None:
    """Let Qt's events run for a while."""
    loop = QEventLoop()
    QTimer.singleShot(int(seconds * 1000), loop.quit)
    loop.exec()
