"""Engines with make-believe services, ended after each test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FAKE = Path(__file__).resolve().parent / "fake_engine.py"


@pytest.fixture
def start() -> Iterator[Callable[..., Any]]:
    """Return a function that starts an engine process with make-believe services."""
    from samtune.engine.messages import EngineSettings
    from samtune.plugin.engine_process import EngineProcess

    started = []

    def _start(*arguments: str, behave: str = "", **options: Any) -> EngineProcess:
        def command() -> list[str]:
            return [sys.executable, "-B", str(FAKE), *arguments]

        options.setdefault("command", command)
        engine = EngineProcess(settings=EngineSettings(store_dir=behave), **options)
        started.append(engine)
        return engine

    yield _start
    for engine in started:
        engine.close()
    assert all(engine.wait(5.0) for engine in started)
