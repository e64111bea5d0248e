"""Starting other programs: the engine, and the tools that make its environment. No Qt; nothing else starts any.

Only Python interpreters and uv are started, from argument lists with absolute paths, never through a shell.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess  # nosec B404
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_DROPPED_PREFIXES = (
    "PYTHON",
    "GDAL_",
    "PROJ_",
    "QT_",
    "QML",
    "GEOTIFF_",
    "OSGEO4W_",
    "GRASS_",
    "CPL_",
    "LD_",
    "DYLD_",
    "CONDA_",
)
_DROPPED_NAMES = {
    *("VIRTUAL_ENV", "GISBASE", "GISRC", "__PYVENV_LAUNCHER__"),
    *("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV", "UV_SYSTEM_PYTHON", "UV_PROJECT_ENVIRONMENT"),
}
_POLL_SECONDS = 0.1
_NO_CONSOLE = 0x08000000  # CREATE_NO_WINDOW, a constant that the subprocess module has on Windows only


def clean_environment(source: Mapping[str, str] | None = None, qgis_root: Path | None = None) -> dict[str, str]:
    """Return the environment for a child that must not see QGIS's libraries and data files.

    Args:
        source: environment to clean; None for this process's.
        qgis_root: on Windows, folders of ``PATH`` below this one are dropped, for they hold QGIS's DLLs; None to find
            it from this process.

    Returns:
        A new dict.
    """
    given = os.environ if source is None else source
    kept = {
        name: value
        for name, value in given.items()
        if name.upper() not in _DROPPED_NAMES and not name.upper().startswith(_DROPPED_PREFIXES)
    }
    if qgis_root is None and sys.platform == "win32":
        qgis_root = Path(given.get("OSGEO4W_ROOT", sys.base_prefix))
    if qgis_root is not None:
        kept = {name: _without(value, qgis_root) if name.upper() == "PATH" else value for name, value in kept.items()}
    kept["PYTHONDONTWRITEBYTECODE"] = "1"
    return kept


def _without(search_path: str, root: Path) -> str:
    parts = [part for part in search_path.split(os.pathsep) if part]
    return os.pathsep.join(part for part in parts if root not in (Path(part), *Path(part).parents))


def spawn(command: Sequence[str], *, merge_stderr: bool = False) -> subprocess.Popen[bytes]:
    """Start a program with a cleaned environment, pipes on all three streams, no shell and no console window.

    Args:
        command: absolute path of a program, then its arguments.
        merge_stderr: let stderr go into stdout.

    Returns:
        The process. On POSIX it leads its own session, so that Ctrl-C in QGIS's terminal does not reach it.

    Raises:
        OSError: it could not be started.
    """
    # No shell, an argument list, and the program is the user's own choice of interpreter.
    return subprocess.Popen(  # noqa: S603 # nosec B603
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merge_stderr else subprocess.PIPE,
        env=clean_environment(),
        start_new_session=True,
        creationflags=_NO_CONSOLE if sys.platform == "win32" else 0,
    )


def run(
    command: Sequence[str],
    on_line: Callable[[str], None],
    should_stop: Callable[[], bool] = lambda: False,
    timeout: float | None = None,
) -> int | None:
    """Run a program to its end. Blocks: never on QGIS's main thread.

    Args:
        command: absolute path of a program, then its arguments.
        on_line: gets each line of its output, errors included, in the calling thread.
        should_stop: asked some ten times a second; when True the program and what it started are killed.
        timeout: seconds, after which the same happens; None for none.

    Returns:
        The exit code; None when it was killed.

    Raises:
        OSError: it could not be started.
    """
    process = spawn(command, merge_stderr=True)
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_pump, args=(process, lines), name="samtune-child", daemon=True).start()
    end = time.monotonic() + timeout if timeout is not None else float("inf")
    try:
        while True:
            if should_stop() or time.monotonic() > end:
                return None
            try:
                line = lines.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if line is None:
                return process.wait()
            on_line(line)
    finally:
        kill_tree(process)


def _pump(process: subprocess.Popen[bytes], lines: queue.SimpleQueue[str | None]) -> None:
    if process.stdin is not None:
        process.stdin.close()  # a program that asks something gets no answer, rather than waiting for ever
    if process.stdout is not None:
        with process.stdout:
            for line in process.stdout:
                lines.put(line.decode("utf-8", errors="replace").rstrip())
    lines.put(None)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and, on POSIX, what it started. Does nothing when it has ended.

    Args:
        process: from :func:`spawn`.
    """
    if process.poll() is None:
        if sys.platform == "win32":
            process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):  # it ended in between
                os.killpg(process.pid, signal.SIGKILL)  # its session's leader has the group's number
        process.wait()
