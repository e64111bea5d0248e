"""What run_in_qgis.py has QGIS execute: wait for the window, run a script or pytest, report, and end the process.

QGIS executes this text without a file name, so the job is described in the environment. A script given with ``--code``
is run as a main program, with ``sys.argv`` as usual, and may call the global ``finish(status)`` or raise SystemExit.
"""

from __future__ import annotations

import faulthandler
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path

from qgis.PyQt.QtCore import QTimer
from qgis.utils import active_plugins, iface

JOB = json.loads(os.environ["SAMTUNE_QGIS_JOB"])
SETTLE_MS = 300


def finish(status: int) -> None:
    """Report and end QGIS at once: its orderly way out can ask questions, or crash after all is said and done."""
    Path(JOB["outcome"]).write_text(json.dumps({"status": status}), encoding="utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


def run_pytest(arguments: list[str]) -> int:
    """Run the tests in this process and return pytest's exit status.

    A test that hangs does so in Qt's event loop, where no signal handler of Python runs: its time limit is watched by a
    thread, which prints all stacks and ends QGIS.
    """
    import pytest

    options = ["--rootdir", JOB["root"], "-p", "no:cacheprovider", "-o", "timeout_method=thread"]
    return int(pytest.main([*options, *arguments]))


def run_script(code: str, arguments: list[str]) -> int:
    """Run a script as a main program and return its exit status."""
    sys.argv = [code, *arguments]
    try:
        runpy.run_path(code, {"iface": iface, "finish": finish}, run_name="__main__")
    except SystemExit as done:
        if isinstance(done.code, str):
            print(done.code, file=sys.stderr)
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0


def run() -> None:
    """Run the job, whatever it is, and end QGIS."""
    os.chdir(JOB["root"])
    if "samtune" not in active_plugins:
        print("QGIS could not load the plugin; see above.", file=sys.stderr)
    try:
        if Path(JOB["code"]).name == "inside_qgis.py":
            status = run_pytest(JOB["arguments"])
        else:
            status = run_script(JOB["code"], JOB["arguments"])
    except BaseException:  # the last stop: nothing may keep QGIS open
        traceback.print_exc()
        status = 1
    finish(status)


def start() -> None:
    """Wait for the main window to be up, then run."""
    if iface is None or not iface.mainWindow().isVisible():
        QTimer.singleShot(SETTLE_MS, start)
        return
    iface.mainWindow().showMaximized()
    QTimer.singleShot(SETTLE_MS, run)


# A copy of stderr, because pytest captures the original.
dumps = os.fdopen(os.dup(2), "w")
faulthandler.enable(dumps)
faulthandler.register(signal.SIGUSR1, dumps, all_threads=True)
QTimer.singleShot(0, start)
