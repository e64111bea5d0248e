"""How much memory the process says it has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from samtune.engine import memory

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows tells neither")


PROGRAM = """
import importlib.util
import numpy as np
spec = importlib.util.spec_from_file_location("memory", {path!r})
memory = importlib.util.module_from_spec(spec)
spec.loader.exec_module(memory)
before = memory.resident_bytes()
block = np.ones(64 * 1024**2, np.uint8)
print(memory.resident_bytes() - before, block.sum())
"""


@posix_only
def test_memory_in_use_is_seen() -> None:
    program = PROGRAM.format(path=memory.__file__)  # on its own: in this process others give memory back meanwhile
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert 32 * 1024**2 < int(done.stdout.split()[0]) < 128 * 1024**2


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
