"""Start the real QGIS desktop on a throw-away profile that has this checkout as its plugin, and run a script inside.

    run_in_qgis.py [options] -- tests/qgis -x      pytest inside QGIS (the default script is inside_qgis.py)
    run_in_qgis.py --code docs/demo/demo.py        another script
    run_in_qgis.py --interactive project.qgs       just QGIS, for trying things by hand

Without a display, or with ``--visible never``, QGIS runs under a virtual X server of its own with a small window
manager. The script's outcome is the number it hands to ``finish`` (see inside_qgis.py); a QGIS that crashes, hangs or
ends without saying so fails the run. Standard library only, any Python from 3.9.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
INSIDE = Path(__file__).resolve().parent / "inside_qgis.py"
SCREEN = "1600x1000x24"
CRASHED = 70
TIMED_OUT = 124

SETTINGS = """\
[PythonPlugins]
samtune=true
processing=false
db_manager=false
MetaSearch=false
GrassProviderPlugin=false
grassprovider=false
otbprovider=false

[qgis]
checkVersion=false
showTips=false
enableMacros=Never
projectOpenAtLaunch=2
askToSaveProjectChanges=false
networkAndProxy\\networkTimeout=3000

[Qgis]
showTips=false

[core]
NewsFeed\\httpsfeedqgisorg\\disabled=true

[migration]
fileVersion=2
settings=true
"""

STARTUP = """\
import sys
import traceback

import qgis.utils


def show(kind, value, trace, message, *args, **kwargs):
    print(message, file=sys.stderr)
    traceback.print_exception(kind, value, trace)


qgis.utils.showException = show
"""
"""Runs before plugins are loaded. QGIS shows their exceptions in dialogs that nobody is there to close."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run.

    Returns:
        What the script handed to ``finish``, CRASHED when it did not get that far, or TIMED_OUT.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code", type=Path, default=INSIDE, help="script to run in QGIS once its window is up")
    parser.add_argument("--interactive", action="store_true", help="no script: QGIS until its window is closed")
    parser.add_argument("--visible", choices=("auto", "never"), help="auto: use the display if there is one")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds after which QGIS is killed")
    parser.add_argument("arguments", nargs="*", help="handed to the script; with --interactive, files for QGIS")
    options = parser.parse_args(argv)
    visible = options.visible or ("auto" if options.interactive else "never")
    qgis = shutil.which("qgis")
    if qgis is None:
        print("QGIS is not installed: run `make setup`.", file=sys.stderr)
        return 1
    if options.interactive and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        print("There is no display to open QGIS's window on. `make demo` does without one.", file=sys.stderr)
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="samtune-qgis-", ignore_cleanup_errors=True) as folder,
        display(visible) as env,
    ):
        profile = Path(folder)
        make_profile(profile, "" if options.interactive else STARTUP)
        env.update(private_folders(profile))
        command = [qgis, "--nologo", "--noversioncheck", "--profiles-path", str(profile)]
        if options.interactive:
            return subprocess.call([*command, *options.arguments], env=env)
        outcome = profile / "outcome.json"
        job = {
            "root": str(ROOT),
            "code": str(options.code.resolve()),
            "arguments": options.arguments,
            "outcome": str(outcome),
        }
        env["SAMTUNE_QGIS_JOB"] = json.dumps(job)
        env["SAMTUNE_VISIBLE"] = "1" if env.get("DISPLAY") == os.environ.get("DISPLAY") else "0"
        status = run_guarded([*command, "--code", str(INSIDE)], env, options.timeout)
        return verdict(status, outcome)


def verdict(status: int, outcome: Path) -> int:
    """Say what came out.

    Args:
        status: QGIS's exit status; negative for a signal.
        outcome: file that ``finish`` writes.
    """
    if status == TIMED_OUT:
        return TIMED_OUT
    if not outcome.is_file():
        print(f"QGIS ended with status {status} before the script was done: it crashed or was closed.", file=sys.stderr)
        return CRASHED
    return int(json.loads(outcome.read_text(encoding="utf-8"))["status"])


def make_profile(folder: Path, startup: str) -> None:
    """Lay out a QGIS profile whose only plugin is this checkout, and that asks the network for nothing.

    Args:
        folder: empty folder for ``--profiles-path``.
        startup: Python for QGIS to run before it loads plugins.
    """
    home = folder / "profiles" / "default"
    (home / "QGIS").mkdir(parents=True)
    (home / "QGIS" / "QGIS3.ini").write_text(SETTINGS, encoding="utf-8")
    (home / "QGIS" / "QGIS4.ini").write_text(SETTINGS, encoding="utf-8")
    plugins = home / "python" / "plugins"
    plugins.mkdir(parents=True)
    for version in ("QGIS3", "QGIS4"):
        place = folder / "xdg_data_home" / "QGIS" / version
        place.mkdir(parents=True)
        (place / "startup.py").write_text(startup, encoding="utf-8")
    (plugins / "samtune").symlink_to(ROOT, target_is_directory=True)


def private_folders(folder: Path) -> dict[str, str]:
    """Return the variables that keep caches and settings of the run away from the user's own."""
    variables = {}
    for variable in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        place = folder / variable.lower()
        place.mkdir(mode=0o700, exist_ok=True)
        variables[variable] = str(place)
    return {
        **variables,
        "SAMTUNE_ENGINE_PYTHON": os.environ.get("SAMTUNE_ENGINE_PYTHON", str(ROOT / ".venv" / "bin" / "python")),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "QT_ACCESSIBILITY": "0",
    }


@contextlib.contextmanager
def display(visible: str) -> Iterator[dict[str, str]]:
    """Give an environment with a display: the user's, or a virtual one that goes away afterwards.

    Args:
        visible: ``auto`` uses the display there is, ``never`` does not.
    """
    if visible == "auto" and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        yield dict(os.environ)
        return
    env = {key: value for key, value in os.environ.items() if key != "WAYLAND_DISPLAY"}
    env["QT_QPA_PLATFORM"] = "xcb"
    env["LIBGL_ALWAYS_SOFTWARE"] = "1"
    read_end, write_end = os.pipe()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            child(
                ["Xvfb", "-displayfd", str(write_end), "-screen", "0", SCREEN, "-dpi", "96", "-nolisten", "tcp"],
                env,
                (write_end,),
            )
        )
        os.close(write_end)
        with os.fdopen(read_end, encoding="ascii") as pipe:
            number = pipe.readline().strip()
        if not number or server.poll() is not None:
            raise SystemExit("Xvfb did not start.")
        env["DISPLAY"] = f":{number}"
        if shutil.which("openbox"):
            stack.enter_context(child(["openbox"], env))
        yield env


@contextlib.contextmanager
def child(command: list[str], env: dict[str, str], keep: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """Run a helper program for the time of the block."""
    process = subprocess.Popen(
        command, env=env, pass_fds=keep, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def run_guarded(command: list[str], env: dict[str, str], timeout: float) -> int:
    """Run a program in a process group of its own, and end all of it when time is up or we are interrupted.

    Returns:
        The exit status, or TIMED_OUT.
    """
    process = subprocess.Popen(command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        print(f"QGIS was still busy after {timeout:.0f} s and is ended.", file=sys.stderr)
        return TIMED_OUT
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the process group: first a stack dump request, then SIGKILL."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGUSR1)  # inside_qgis.py answers with every thread's stack
            time.sleep(1.0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    # Being ended from outside goes the ordinary way out, so that QGIS and the virtual display end as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
