"""Setting up the engine from QGIS: nothing without consent, errors said, choices handed on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsFeedback
from qgis.PyQt.QtTest import QSignalSpy, QTest
from qgis.PyQt.QtWidgets import QDialog
from samtune.models.errors import CancelledByUser, EnvironmentMissingError
from samtune.plugin.environment import EngineLocation
from samtune.plugin.environment_plan import EnvironmentOptions, EnvironmentPlan, Tool, TorchBuild
from samtune.plugin.tasks import BaseTask
from samtune.ui import environment_dialog
from samtune.ui.environment_dialog import EnvironmentDialog
from samtune_test_support import spin


class Machine:
    """Make-believe planning and making, with a record of what was asked."""

    def __init__(self) -> None:
        self.asked: list[EnvironmentOptions] = []
        self.made: list[EnvironmentPlan] = []
        self.plan_error: EnvironmentMissingError | None = None
        self.make: Callable[[QgsFeedback], object] = lambda feedback: Path("/made/bin/python")

    def plan_task(self, where: EngineLocation, options: EnvironmentOptions) -> BaseTask:
        self.asked.append(options)
        machine = self

        class Task(BaseTask):
            def _run(self, feedback: QgsFeedback) -> object:
                if machine.plan_error is not None:
                    raise machine.plan_error
                return EnvironmentPlan(
                    Tool.UV, None, None, "", TorchBuild.CPU, Path("/data/engine"), Path("r.txt"), 9 << 30, options,
                    ("The download is about 300 MB.",),
                )  # fmt: skip

        return Task("plan")

    def create_task(self, plan: EnvironmentPlan) -> BaseTask:
        self.made.append(plan)
        machine = self

        class Task(BaseTask):
            def _run(self, feedback: QgsFeedback) -> object:
                self.report(0.5, "Installing torch")
                return machine.make(feedback)

        return Task("create")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(environment_dialog, "PlanEnvironmentTask", made.plan_task)
    monkeypatch.setattr(environment_dialog, "CreateEnvironmentTask", made.create_task)
    return made


@pytest.fixture
def make_dialog(qgis_app: object, tmp_path: Path, machine: Machine) -> Iterator[Callable[[], EnvironmentDialog]]:
    dialogs: list[EnvironmentDialog] = []

    def make() -> EnvironmentDialog:
        dialogs.append(EnvironmentDialog(EngineLocation("", tmp_path, tmp_path)))
        dialogs[-1].show()
        return dialogs[-1]

    yield make
    for dialog in dialogs:
        dialog.reject()
        dialog.deleteLater()
    spin(5)


def wait(condition: Callable[[], object]) -> None:
    for _ in range(500):
        if condition():
            return
        QTest.qWait(10)
    raise AssertionError("it did not happen")


def test_says_what_would_be_done_and_does_nothing_yet(
    make_dialog: Callable[[], EnvironmentDialog], machine: Machine
) -> None:
    dialog = make_dialog()
    assert not dialog.set_up_button.isEnabled()
    wait(dialog.set_up_button.isEnabled)
    assert "300 MB" in dialog.label.text()
    assert "/data/engine" in dialog.label.text()
    assert "9.0 GiB" in dialog.label.text()
    assert machine.made == []


def test_consent_makes_it_and_closes(make_dialog: Callable[[], EnvironmentDialog], machine: Machine) -> None:
    dialog = make_dialog()
    wait(dialog.set_up_button.isEnabled)
    finished = QSignalSpy(dialog.finished)
    dialog.set_up_button.click()
    assert not dialog.set_up_button.isEnabled(), "once is enough"
    wait(lambda: len(finished))
    assert dialog.result() == QDialog.DialogCode.Accepted
    assert len(machine.made) == 1
    assert "Installing torch" in dialog.log.toPlainText()


def test_failure_is_said_with_details_and_can_be_tried_again(
    make_dialog: Callable[[], EnvironmentDialog], machine: Machine
) -> None:
    def fail(feedback: QgsFeedback) -> object:
        raise EnvironmentMissingError("The download broke off. Try again.", "connection reset")

    machine.make = fail
    dialog = make_dialog()
    wait(dialog.set_up_button.isEnabled)
    dialog.set_up_button.click()
    wait(dialog.set_up_button.isEnabled)
    assert dialog.label.text() == "The download broke off. Try again."
    assert "connection reset" in dialog.log.toPlainText()
    assert dialog.isVisible()


def test_machine_that_cannot_is_told_so(make_dialog: Callable[[], EnvironmentDialog], machine: Machine) -> None:
    machine.plan_error = EnvironmentMissingError("No Python 3.11 was found. Install it.")
    dialog = make_dialog()
    wait(lambda: "3.11" in dialog.label.text())
    assert not dialog.set_up_button.isEnabled()


def test_choices_are_handed_on(make_dialog: Callable[[], EnvironmentDialog], machine: Machine) -> None:
    dialog = make_dialog()
    wait(dialog.set_up_button.isEnabled)
    dialog.build.setCurrentIndex(1)
    dialog.build.activated.emit(1)
    wait(dialog.set_up_button.isEnabled)
    dialog.extra.setText('--index-url "https://mirror.example/simple"')
    dialog.extra.editingFinished.emit()
    wait(dialog.set_up_button.isEnabled)
    assert machine.asked[-1] == EnvironmentOptions(
        None, ("--index-url", "https://mirror.example/simple"), TorchBuild.CPU
    )
    asked = len(machine.asked)
    dialog.extra.editingFinished.emit()
    assert len(machine.asked) == asked, "unchanged options need no second look"


def test_an_unfinished_quote_is_no_crash(make_dialog: Callable[[], EnvironmentDialog], machine: Machine) -> None:
    dialog = make_dialog()
    wait(dialog.set_up_button.isEnabled)
    dialog.extra.setText('--index-url "https://mirror')
    dialog.extra.editingFinished.emit()
    assert "quot" in dialog.label.text().lower()
    assert not dialog.set_up_button.isEnabled()
    dialog.extra.setText("")
    dialog.extra.editingFinished.emit()
    wait(dialog.set_up_button.isEnabled)


def test_closing_cancels_what_runs(make_dialog: Callable[[], EnvironmentDialog], machine: Machine) -> None:
    ended: list[bool] = []

    def slow(feedback: QgsFeedback) -> object:
        import time

        for _ in range(500):
            if feedback.isCanceled():
                ended.append(True)
                raise CancelledByUser
            time.sleep(0.01)
        return Path("/made")

    machine.make = slow
    dialog = make_dialog()
    wait(dialog.set_up_button.isEnabled)
    dialog.set_up_button.click()
    QTest.qWait(50)
    dialog.reject()
    wait(lambda: ended)
    assert dialog.result() == QDialog.DialogCode.Rejected
