"""Starting other programs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from samtune.plugin.child import clean_environment, run


@pytest.mark.parametrize(
    "name",
    [
        *("PYTHONPATH", "PYTHONHOME", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB", "PROJ_DATA", "QT_PLUGIN_PATH"),
        *("QT_QPA_PLATFORM", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "OSGEO4W_ROOT"),
        *("GISBASE", "CONDA_PREFIX", "PIP_TARGET", "PIP_USER", "pythonpath"),
    ],
)
def test_what_belongs_to_qgis_is_not_handed_down(name: str) -> None:
    assert name not in clean_environment({name: "x", "HOME": "/home/me"})


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "HTTPS_PROXY", "PIP_INDEX_URL", "LANG", "CUDA_VISIBLE_DEVICES", "TMP"]
)
def test_what_belongs_to_the_user_is(name: str) -> None:
    assert clean_environment({name: "x"})[name] == "x"


def test_folders_of_qgis_leave_the_search_path(tmp_path: Path) -> None:
    qgis = tmp_path / "QGIS"
    parts = [str(qgis / "bin"), str(tmp_path / "other"), str(qgis), str(tmp_path / "QGIS2")]
    cleaned = clean_environment({"Path": os.pathsep.join(parts)}, qgis)
    assert cleaned["Path"].split(os.pathsep) == [str(tmp_path / "other"), str(tmp_path / "QGIS2")]


def test_the_environment_given_is_left_as_it_is() -> None:
    given = {"PYTHONPATH": "x", "PATH": "/bin"}
    clean_environment(given)
    assert given == {"PYTHONPATH": "x", "PATH": "/bin"}


def test_lines_of_both_streams_and_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    code = (
        "import os, sys; print('out', flush=True); print('PYTHONWARNINGS' in os.environ, flush=True); "
        "sys.stderr.write('err\\n'); sys.exit(5)"
    )
    lines: list[str] = []
    assert run([sys.executable, "-c", code], lines.append) == 5
    assert lines == ["out", "False", "err"]


def test_a_question_gets_no_answer_rather_than_waiting() -> None:
    lines: list[str] = []
    assert run([sys.executable, "-c", "input('really? ')"], lines.append, timeout=20) == 1
    assert "EOFError" in lines[-1]


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(OSError, match="nowhere"):
        run(["/nowhere/program"], lambda _: None)


def test_too_long_is_killed() -> None:
    began = time.monotonic()
    assert run([sys.executable, "-c", "import time; time.sleep(60)"], lambda _: None, timeout=0.3) is None
    assert time.monotonic() - began < 5


@pytest.mark.skipif(os.name != "posix", reason="process groups are of POSIX")
def test_stopping_kills_what_the_program_started_too() -> None:
    code = (
        "import subprocess, sys, time; "
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print(p.pid, flush=True); p.wait()"
    )
    lines: list[str] = []
    began = time.monotonic()
    assert run([sys.executable, "-c", code], lines.append, lambda: bool(lines)) is None
    assert time.monotonic() - began < 5
    grandchild = Path(f"/proc/{lines[0]}")
    end = time.monotonic() + 5
    while grandchild.exists() and "Z" not in (grandchild / "stat").read_text().split()[2]:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_exception_in_the_listener_leaves_no_program_behind() -> None:
    def explode(_line: str) -> None:
        raise ValueError("a bug")

    began = time.monotonic()
    with pytest.raises(ValueError, match="a bug"):
        run([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], explode)
    assert time.monotonic() - began < 5
