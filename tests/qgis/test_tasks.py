"""Tasks through QGIS's real task manager."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

import samtune_test_engine_helpers as helpers
from qgis.core import QgsApplication, QgsFeedback, QgsTask
from qgis.PyQt.QtCore import QObject
from samtune.engine.messages import Done, Method, WarmUpParams
from samtune.models.errors import CancelledByUser, EngineDiedError, RasterError, SamTuneError
from samtune.plugin.engine_service import EngineService, ServiceState
from samtune.plugin.tasks import BaseTask, EngineTask, TaskController

wait_until = helpers.wait_until


class Work(BaseTask):
    """A task whose work is given."""

    def __init__(self, work: Callable[[Work, QgsFeedback], object]) -> None:
        super().__init__("test work")
        self.thread: threading.Thread | None = None
        self._work = work

    def _run(self, feedback: QgsFeedback) -> object:
        self.thread = threading.current_thread()
        return self._work(self, feedback)


class Outcome:
    """Takes a task's three signals."""

    def __init__(self, task: BaseTask) -> None:
        self.ends: list[tuple[str, object]] = []
        self.threads: set[threading.Thread] = set()
        task.succeeded.connect(lambda result: self._end("succeeded", result))
        task.failed.connect(lambda error: self._end("failed", error))
        task.cancelled.connect(lambda: self._end("cancelled", None))

    def _end(self, kind: str, value: object) -> None:
        self.threads.add(threading.current_thread())
        self.ends.append((kind, value))


@pytest.fixture
def controller(qgis_app: QgsApplication) -> Iterator[TaskController]:
    made = TaskController(QgsApplication.taskManager())
    yield made
    made.cancel_all()
    wait_until(lambda: not made.running)


@pytest.fixture
def service(qgis_app: QgsApplication) -> Iterator[EngineService]:
    made = EngineService(helpers.fake_config())
    yield made
    made.shutdown()


def submit(controller: TaskController, task: BaseTask) -> Outcome:
    outcome = Outcome(task)
    controller.submit(task)
    return outcome


def until_cancelled(_task: Work, feedback: QgsFeedback) -> object:
    while not feedback.isCanceled():
        time.sleep(0.005)
    raise CancelledByUser


def test_a_result_comes_on_the_main_thread(controller: TaskController) -> None:
    task = Work(lambda task, feedback: {"answer": 42})
    outcome = submit(controller, task)
    wait_until(lambda: outcome.ends)
    assert outcome.ends == [("succeeded", {"answer": 42})]
    assert outcome.threads == {threading.main_thread()}
    assert task.thread is not threading.main_thread()
    assert not controller.running


def test_a_task_needs_no_reference_of_the_caller(controller: TaskController) -> None:
    ends: list[object] = []
    for number in range(5):
        task = Work(lambda task, feedback, number=number: number)
        task.succeeded.connect(ends.append)
        controller.submit(task)
        del task
    wait_until(lambda: len(ends) == 5)
    assert sorted(ends) == [0, 1, 2, 3, 4]


def test_a_task_outlives_its_controller(qgis_app: QgsApplication) -> None:
    parent = QObject()
    controller = TaskController(QgsApplication.taskManager(), parent)
    go_on = threading.Event()
    ends: list[object] = []
    task = Work(lambda task, feedback: go_on.wait(5))
    task.succeeded.connect(ends.append)
    controller.submit(task)
    parent.deleteLater()
    del parent, controller, task
    helpers.let_run(0.1)
    gc.collect()
    go_on.set()
    wait_until(lambda: ends)
    assert ends == [True]


def test_an_error_keeps_its_kind_and_texts(controller: TaskController) -> None:
    def work(_task: Work, _feedback: QgsFeedback) -> object:
        raise RasterError("Choose another raster.", "details")

    outcome = submit(controller, Work(work))
    wait_until(lambda: outcome.ends)
    (kind, error), *rest = outcome.ends
    assert (kind, rest) == ("failed", [])
    assert isinstance(error, RasterError)
    assert error.details == "details"


def test_a_bug_becomes_an_error_with_its_traceback(controller: TaskController) -> None:
    def work(_task: Work, _feedback: QgsFeedback) -> object:
        raise KeyError("a bug")

    outcome = submit(controller, Work(work))
    wait_until(lambda: outcome.ends)
    kind, error = outcome.ends[0]
    assert kind == "failed"
    assert isinstance(error, SamTuneError)
    assert "a bug" in error.user_text
    assert "Traceback" in error.details


def test_cancelling_midway_is_an_end_of_its_own(controller: TaskController) -> None:
    task = Work(until_cancelled)
    outcome = submit(controller, task)
    wait_until(lambda: task.thread is not None)
    task.cancel()
    wait_until(lambda: outcome.ends)
    assert outcome.ends == [("cancelled", None)]


def test_cancelling_before_the_start_runs_nothing(controller: TaskController) -> None:
    task = Work(lambda task, feedback: "must not run")
    task.hold()
    outcome = submit(controller, task)
    task.cancel()
    wait_until(lambda: outcome.ends)
    assert outcome.ends == [("cancelled", None)]
    assert task.thread is None


def test_a_result_that_crosses_a_cancel_is_cancelled(controller: TaskController) -> None:
    def work(task: Work, feedback: QgsFeedback) -> object:
        while not feedback.isCanceled():
            time.sleep(0.005)
        return "too late"

    task = Work(work)
    outcome = submit(controller, task)
    wait_until(lambda: task.thread is not None)
    task.cancel()
    wait_until(lambda: outcome.ends)
    assert outcome.ends == [("cancelled", None)]


def test_all_are_cancelled_together(controller: TaskController) -> None:
    outcomes = [submit(controller, Work(until_cancelled)) for _ in range(4)]
    helpers.let_run(0.05)
    controller.cancel_all()
    wait_until(lambda: all(outcome.ends for outcome in outcomes))
    assert [outcome.ends for outcome in outcomes] == [[("cancelled", None)]] * 4
    assert not controller.running


def test_progress_and_message_reach_the_main_thread(controller: TaskController) -> None:
    go_on = threading.Event()

    def work(task: Work, feedback: QgsFeedback) -> object:
        task.report(0.25, "a quarter")
        task.report(-1.0, "who knows")
        go_on.wait(5)
        return None

    task = Work(work)
    messages: list[tuple[str, threading.Thread]] = []
    task.message.connect(lambda text: messages.append((text, threading.current_thread())))
    outcome = submit(controller, task)
    wait_until(lambda: len(messages) == 2)
    assert task.progress() == 25.0
    go_on.set()
    wait_until(lambda: outcome.ends)
    assert messages == [("a quarter", threading.main_thread()), ("who knows", threading.main_thread())]


def test_a_request_through_the_engine_gives_its_message(controller: TaskController, service: EngineService) -> None:
    task = EngineTask("warm up", service, Method.WARM_UP, WarmUpParams("work:60"))
    messages: list[str] = []
    task.message.connect(messages.append)
    outcome = submit(controller, task)
    wait_until(lambda: outcome.ends)
    assert outcome.ends == [("succeeded", Done("work"))]
    assert messages[-1] == "step 60"


def test_cancelling_reaches_the_engine(controller: TaskController, service: EngineService) -> None:
    task = EngineTask("warm up", service, Method.WARM_UP, WarmUpParams("work:20000"))
    outcome = submit(controller, task)
    wait_until(lambda: service.state is ServiceState.BUSY)
    began = time.monotonic()
    task.cancel()
    wait_until(lambda: outcome.ends)
    assert time.monotonic() - began < 1.0
    assert outcome.ends == [("cancelled", None)]
    wait_until(lambda: service.state is ServiceState.READY)


def test_a_killed_engine_fails_the_task_and_the_next_task_works(
    controller: TaskController, service: EngineService
) -> None:
    outcome = submit(controller, EngineTask("warm up", service, Method.WARM_UP, WarmUpParams("work:20000")))
    wait_until(lambda: service.state is ServiceState.BUSY)
    os.kill(service.pid, signal.SIGKILL)
    wait_until(lambda: outcome.ends)
    kind, error = outcome.ends[0]
    assert kind == "failed"
    assert isinstance(error, EngineDiedError)
    again = submit(controller, EngineTask("warm up", service, Method.WARM_UP, WarmUpParams("again")))
    wait_until(lambda: again.ends)
    assert again.ends == [("succeeded", Done("again"))]


def test_the_flag_says_that_it_can_be_cancelled(qgis_app: QgsApplication) -> None:
    assert Work(until_cancelled).canCancel()
    assert Work(until_cancelled).flags() & QgsTask.Flag.CanCancel
    assert Work(until_cancelled).flags() & QgsTask.Flag.Silent, "QGIS would call a cancelled task a failed one"
