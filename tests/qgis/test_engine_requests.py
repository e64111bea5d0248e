"""Which way a request takes: long jobs stand in QGIS's task list, all else goes straight to the engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsApplication, QgsTask
from samtune.engine.messages import Done, Method, Prompt, RasterSpec, SegmentParams, SegmentResult, WarmUpParams
from samtune.models.errors import CancelledByUser, RasterError
from samtune.plugin.engine_requests import EngineRequests
from samtune.plugin.engine_service import EngineService
from samtune_test_engine_helpers import fake_config, wait_until


class Ends:
    """What came back from one request."""

    def __init__(self) -> None:
        self.results: list[object] = []
        self.errors: list[object] = []
        self.progress: list[tuple[float, str]] = []
        self.threads: set[threading.Thread] = set()

    def ask(self, requests: EngineRequests, method: Method, params: object) -> object:
        return requests.request_async(method, params, self._on_result, self.errors.append, self._on_progress)

    def _on_result(self, result: object) -> None:
        self.threads.add(threading.current_thread())
        self.results.append(result)

    def _on_progress(self, fraction: float, text: str) -> None:
        self.threads.add(threading.current_thread())
        self.progress.append((fraction, text))


@pytest.fixture
def requests(qgis_app: QgsApplication) -> Iterator[EngineRequests]:
    service = EngineService(fake_config())
    made = EngineRequests(service)
    yield made
    made.stop()
    service.shutdown()
    wait_until(lambda: not listed())


def listed() -> list[QgsTask]:
    return [task for task in QgsApplication.taskManager().activeTasks() if "SamTune" in task.description()]


def test_a_long_job_stands_in_the_task_list_and_reports(requests: EngineRequests) -> None:
    ends = Ends()
    ends.ask(requests, Method.WARM_UP, WarmUpParams("work:60"))
    assert [task.description() for task in listed()] == ["SamTune: get the model ready"]
    wait_until(lambda: ends.results)
    assert ends.results == [Done("work")]
    assert ends.progress[-1] == (1.0, "step 60")
    assert ends.threads == {threading.main_thread()}
    assert ends.errors == []


def test_a_long_job_is_cancelled_from_the_task_list(requests: EngineRequests) -> None:
    ends = Ends()
    ends.ask(requests, Method.WARM_UP, WarmUpParams("work:20000"))
    wait_until(lambda: ends.progress)
    (task,) = listed()
    task.cancel()
    wait_until(lambda: ends.errors)
    assert [type(error) for error in ends.errors] == [CancelledByUser]
    assert ends.results == []


def test_a_long_job_is_cancelled_by_its_handle(requests: EngineRequests) -> None:
    ends = Ends()
    handle = ends.ask(requests, Method.WARM_UP, WarmUpParams("work:20000"))
    wait_until(lambda: ends.progress)
    handle.cancel()  # type: ignore[attr-defined]
    wait_until(lambda: ends.errors)
    assert [type(error) for error in ends.errors] == [CancelledByUser]


def test_the_error_of_a_long_job_is_what_it_is(requests: EngineRequests) -> None:
    ends = Ends()
    ends.ask(requests, Method.WARM_UP, WarmUpParams("raster-error"))
    wait_until(lambda: ends.errors)
    assert isinstance(ends.errors[0], RasterError)


def test_a_click_does_not_wait_for_other_tasks(requests: EngineRequests) -> None:
    """QGIS's tasks share a few threads; here all of them are held by somebody else."""
    manager, release = QgsApplication.taskManager(), threading.Event()
    others = [
        QgsTask.fromFunction("other", lambda _task: release.wait(20))
        for _ in range(2 * QgsApplication.taskManager().threadPool().maxThreadCount())
    ]
    for other in others:
        manager.addTask(other)
    try:
        ends = Ends()
        ends.ask(requests, Method.SEGMENT, SegmentParams(RasterSpec("r.tif"), "tiny", 0, (Prompt(0.0, 0.0),)))
        assert listed() == []
        wait_until(lambda: ends.results)
        assert isinstance(ends.results[0], SegmentResult)
        assert not release.is_set()
    finally:
        release.set()
        wait_until(lambda: not [task for task in manager.activeTasks() if task.description() == "other"])
