"""The lock between processes."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from samtune.engine import file_lock
from samtune.engine.file_lock import locked

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("file_lock", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
with module.locked(pathlib.Path(sys.argv[2])) as ours:
    print(ours, flush=True)
    sys.stdin.read()
"""


def test_one_holder_at_a_time_in_a_process(tmp_path: Path) -> None:
    with locked(tmp_path / "lock") as first:
        with locked(tmp_path / "lock") as second:
            assert (first, second) == (True, False)
        with locked(tmp_path / "other") as elsewhere:
            assert elsewhere
    with locked(tmp_path / "lock") as again:
        assert again


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(ROOT / "engine" / "file_lock.py"), str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with locked(tmp_path / "lock") as ours:
            assert not ours
        holder.kill()
        holder.wait(10)
        with locked(tmp_path / "lock") as ours:
            assert ours


def test_the_lock_ends_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "lock"):
        raise ZeroDivisionError
    with locked(tmp_path / "lock") as ours:
        assert ours


@pytest.mark.parametrize(("code", "ours"), [(errno.ENOLCK, True), (errno.EAGAIN, False), (errno.EACCES, False)])
def test_file_systems_without_locks_do_not_forbid_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, ours: bool
) -> None:
    def fail(_stream: object) -> None:
        raise OSError(code, "made up")

    monkeypatch.setattr(file_lock, "_lock", fail)
    with locked(tmp_path / "lock") as found:
        assert found == ours
