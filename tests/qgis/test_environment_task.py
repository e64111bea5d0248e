"""Planning and making the engine environment as QGIS tasks, with a make-believe uv."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QEventLoop, QTimer
from samtune.models.errors import EnvironmentMissingError
from samtune.plugin import environment_plan
from samtune.plugin.environment import EngineLocation, find_interpreter, forget_checks
from samtune.plugin.environment_plan import EnvironmentOptions, EnvironmentPlan, Tool
from samtune.plugin.environment_task import CreateEnvironmentTask, PlanEnvironmentTask
from samtune.plugin.tasks import BaseTask, TaskController

PYTHON = """\
#!/bin/sh
case "$*" in
  *find_spec*) echo '{"version": [3, 12, 1], "missing": []}';;
esac
"""
UV = """\
#!/bin/sh
case "$1" in
  venv) for folder in "$@"; do :; done; mkdir "$folder/bin"; cp "$(dirname "$0")/base" "$folder/bin/python";;
  pip) echo "Resolved packages"; [ -e "$(dirname "$0")/hang" ] && sleep 60; echo " + torch";;
esac
"""


def script(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineLocation:
    """A location without an environment, on a machine whose uv and Python are make-believe."""
    location = EngineLocation("", tmp_path / "data", tmp_path / "plugin")
    location.requirements.parent.mkdir(parents=True)
    location.requirements.write_text("torch==2.0\n", encoding="utf-8")
    programs = tmp_path / "programs"
    programs.mkdir()
    script(programs / "base", PYTHON)
    script(programs / "uv", UV)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setattr(environment_plan, "_candidates", lambda: iter([programs / "base"]))
    monkeypatch.setattr(environment_plan, "free_bytes", lambda _folder: 100 * 1024**3)
    monkeypatch.delenv("SAMTUNE_ENGINE_PYTHON", raising=False)
    forget_checks()
    return location


@pytest.fixture
def controller(qgis_app: QgsApplication) -> Iterator[TaskController]:
    made = TaskController(QgsApplication.taskManager())
    yield made
    made.cancel_all()


def run(controller: TaskController, task: BaseTask, cancel_at: str = "") -> list[tuple[str, Any]]:
    """Run a task to its end, cancelling it at a line of its output; return how it ended."""
    ends: list[tuple[str, Any]] = []
    loop = QEventLoop()

    def end(kind: str, value: object) -> None:
        ends.append((kind, value))
        loop.quit()

    def hear(text: str) -> None:
        if cancel_at and cancel_at in text:
            task.cancel()

    task.succeeded.connect(lambda result: end("succeeded", result))
    task.failed.connect(lambda error: end("failed", error))
    task.cancelled.connect(lambda: end("cancelled", None))
    task.message.connect(hear)
    controller.submit(task)
    QTimer.singleShot(20_000, loop.quit)
    loop.exec()
    return ends


@pytest.mark.skipif(sys.platform == "win32", reason="the make-believe programs are scripts of POSIX")
def test_a_plan_and_then_the_work(controller: TaskController, where: EngineLocation) -> None:
    [(kind, plan)] = run(controller, PlanEnvironmentTask(where, EnvironmentOptions()))
    assert kind == "succeeded"
    assert isinstance(plan, EnvironmentPlan)
    assert plan.tool is Tool.UV
    assert not where.managed_folder.exists()
    [(kind, python)] = run(controller, CreateEnvironmentTask(plan))
    assert kind == "succeeded"
    assert find_interpreter(where).python == python


@pytest.mark.skipif(sys.platform == "win32", reason="the make-believe programs are scripts of POSIX")
def test_cancelling_the_installation_leaves_nothing(
    controller: TaskController, where: EngineLocation, tmp_path: Path
) -> None:
    (tmp_path / "programs" / "hang").touch()
    [(_, plan)] = run(controller, PlanEnvironmentTask(where, EnvironmentOptions()))
    assert run(controller, CreateEnvironmentTask(plan), cancel_at="Resolved") == [("cancelled", None)]
    assert list(where.managed_folder.iterdir()) == []


def test_a_plan_that_is_not_possible_fails_with_its_reason(controller: TaskController, where: EngineLocation) -> None:
    where.requirements.unlink()
    [(kind, error)] = run(controller, PlanEnvironmentTask(where, EnvironmentOptions()))
    assert kind == "failed"
    assert isinstance(error, EnvironmentMissingError)
