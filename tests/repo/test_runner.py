"""The runner of QGIS: its profile, its verdicts, and that nothing is left running. QGIS itself is not needed."""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

_spec = importlib.util.spec_from_file_location("samtune_run_in_qgis", ROOT / "tests" / "qgis" / "run_in_qgis.py")
if _spec is None or _spec.loader is None:
    raise ImportError("run_in_qgis.py is missing")
runner = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(runner)


def test_the_profile_has_this_checkout_as_its_enabled_plugin(tmp_path: Path) -> None:
    runner.make_profile(tmp_path, "print('started')\n")
    home = tmp_path / "profiles" / "default"
    assert (home / "python" / "plugins" / "samtune").resolve() == ROOT
    settings = configparser.ConfigParser()
    settings.read(home / "QGIS" / "QGIS3.ini")
    assert settings["PythonPlugins"]["samtune"] == "true"
    assert settings["qgis"]["checkVersion"] == "false"
    assert (tmp_path / "xdg_data_home" / "QGIS" / "QGIS3" / "startup.py").read_text() == "print('started')\n"


def test_caches_and_settings_stay_in_the_profile(tmp_path: Path) -> None:
    variables = runner.private_folders(tmp_path)
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        assert Path(variables[name]).parent == tmp_path
        assert Path(variables[name]).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("status", [0, 1, 5])
def test_the_verdict_is_what_the_script_reported(tmp_path: Path, status: int) -> None:
    outcome = tmp_path / "outcome.json"
    outcome.write_text(json.dumps({"status": status}))
    assert runner.verdict(0, outcome) == status


def test_a_qgis_that_reports_nothing_has_crashed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.verdict(0, tmp_path / "outcome.json") == runner.CRASHED
    assert "before the script was done" in capsys.readouterr().err


def test_being_late_counts_more_than_a_report(tmp_path: Path) -> None:
    (tmp_path / "outcome.json").write_text('{"status": 0}')
    assert runner.verdict(runner.TIMED_OUT, tmp_path / "outcome.json") == runner.TIMED_OUT


def test_a_hanging_program_is_ended_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import pathlib, signal, subprocess, time\n"
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    begun = time.monotonic()
    assert runner.run_guarded([sys.executable, "-c", code], dict(os.environ), 3.0) == runner.TIMED_OUT
    assert time.monotonic() - begun < 20
    pid = int(note.read_text())
    end = time.monotonic() + 5
    while _runs(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    """Tell whether a process exists and is more than an entry that nobody has collected yet."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_the_exit_status_comes_through() -> None:
    assert runner.run_guarded([sys.executable, "-c", "raise SystemExit(7)"], dict(os.environ), 30.0) == 7


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb")
def test_the_virtual_display_goes_away_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    with runner.display("auto") as env:
        socket = Path(f"/tmp/.X11-unix/X{env['DISPLAY'].removeprefix(':')}")
        assert socket.exists()
        assert env["QT_QPA_PLATFORM"] == "xcb"
    assert not socket.exists()


def test_a_display_of_the_user_is_used_when_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":77")
    with runner.display("auto") as env:
        assert env["DISPLAY"] == ":77"


@pytest.mark.skipif(shutil.which("qgis") is None, reason="needs QGIS")
def test_without_a_display_there_is_nothing_to_try_by_hand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert runner.main(["--interactive"]) == 1
    assert "make demo" in capsys.readouterr().err
