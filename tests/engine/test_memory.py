"""How much memory the process says it has."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pytest
from samtune.engine import memory

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows tells neither")


@posix_only
def test_memory_in_use_is_seen() -> None:
    gc.collect()  # what earlier tests left must not go in between
    before = memory.resident_bytes()
    block = np.ones(64 * 1024**2, np.uint8)
    grown = memory.resident_bytes() - before
    assert 32 * 1024**2 < grown < 512 * 1024**2
    assert block.sum() == block.size


@posix_only
@pytest.mark.parametrize("content", [None, "", "12", "a b c"])
def test_without_a_readable_table_the_peak_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    table = tmp_path / "statm"
    if content is not None:
        table.write_text(content)
    monkeypatch.setattr(memory, "_STATM", table)
    assert memory.resident_bytes() == memory._peak_bytes()
    assert memory.resident_bytes() > 1e6


def test_the_unit_of_the_peak_follows_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrusage", lambda _who: type("Usage", (), {"ru_maxrss": 5000})())
    monkeypatch.setattr(sys, "platform", "linux")
    assert memory._peak_bytes() == 5000 * 1024
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory._peak_bytes() == 5000


def test_a_system_that_tells_nothing_gives_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_STATM", tmp_path / "absent")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert memory.resident_bytes() == 0
