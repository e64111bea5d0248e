"""The engine service in QGIS's Python, with engines that have make-believe services."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

import samtune_test_engine_helpers as helpers
from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QObject, QTimer
from samtune.engine.messages import Done, EngineInfo, Method, Prompt, RasterSpec, SegmentParams, WarmUpParams
from samtune.models.errors import (
    CancelledByUser,
    EngineDiedError,
    EngineStartError,
    EnvironmentMissingError,
    RasterError,
    SamTuneError,
)
from samtune.plugin.engine_service import EngineConfig, EngineService, ServiceState

wait_until = helpers.wait_until
Make = Callable[..., EngineService]


@pytest.fixture
def make(qgis_app: QgsApplication) -> Iterator[Make]:
    """Return a function that makes a service; all are shut down after the test."""
    made: list[EngineService] = []

    def _make(*arguments: str, behave: str = "", **options: Any) -> EngineService:
        service = EngineService(helpers.fake_config(*arguments, behave=behave), **options)
        made.append(service)
        return service

    yield _make
    for service in made:
        service.shutdown()


class Outcome:
    """Takes the callbacks of one request, and in which thread they came."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.errors: list[SamTuneError | CancelledByUser] = []
        self.progress: list[tuple[float, str]] = []
        self.threads: set[threading.Thread] = set()

    @property
    def ends(self) -> int:
        return len(self.results) + len(self.errors)

    def on_result(self, result: object) -> None:
        self.threads.add(threading.current_thread())
        self.results.append(result)

    def on_error(self, error: SamTuneError | CancelledByUser) -> None:
        self.threads.add(threading.current_thread())
        self.errors.append(error)

    def on_progress(self, fraction: float, text: str) -> None:
        self.threads.add(threading.current_thread())
        assert not self.ends
        self.progress.append((fraction, text))

    def ask(self, service: EngineService, method: Method, params: object = None) -> Any:
        return service.request_async(method, params, self.on_result, self.on_error, self.on_progress)


def segment(milliseconds: int = 0, mark: float = 0.0) -> SegmentParams:
    return SegmentParams(RasterSpec("r.tif"), "tiny", milliseconds, (Prompt(mark, 0.0),))


def test_nothing_runs_before_the_first_request(make: Make) -> None:
    service = make()
    assert service.state is ServiceState.ABSENT
    assert service.pid is None


def test_a_request_starts_the_engine_and_comes_back_on_the_main_thread(make: Make) -> None:
    service = make()
    states: list[ServiceState] = []
    infos: list[EngineInfo] = []
    announced: list[str] = []
    service.starting.connect(lambda _fraction, text: announced.append(text))
    service.state_changed.connect(lambda state, _text: states.append(state))
    service.info.connect(infos.append)
    outcome = Outcome()
    outcome.ask(service, Method.WARM_UP, WarmUpParams("work:60"))
    wait_until(lambda: outcome.ends)
    assert outcome.results == [Done("work")]
    assert outcome.progress[-1] == (1.0, "step 60")
    assert outcome.threads == {threading.main_thread()}
    wait_until(lambda: service.state is ServiceState.READY)
    assert states == [ServiceState.STARTING, ServiceState.BUSY, ServiceState.READY]
    assert [info.pid for info in infos] == [service.pid]
    assert announced == ["loaded"], "progress of a request is for whoever made it"


def test_the_memory_of_a_running_engine_is_known(make: Make) -> None:
    service = make()
    assert service.memory_bytes == 0
    outcome = Outcome()
    outcome.ask(service, Method.WARM_UP, WarmUpParams("work:20000"))
    wait_until(lambda: service.memory_bytes)
    assert 1e6 < service.memory_bytes < 1e11
    service.stop()
    assert service.memory_bytes == 0


def test_errors_arrive_as_what_they_are(make: Make) -> None:
    service = make()
    outcome = Outcome()
    outcome.ask(service, Method.WARM_UP, WarmUpParams("raster-error"))
    wait_until(lambda: outcome.ends)
    assert isinstance(outcome.errors[0], RasterError)
    assert outcome.errors[0].details == "details of it"
    wait_until(lambda: service.state is ServiceState.READY)


def test_a_cancelled_request_is_no_error(make: Make) -> None:
    service = make()
    outcome = Outcome()
    handle = outcome.ask(service, Method.SEGMENT, segment(5000))
    wait_until(lambda: service.state is ServiceState.BUSY)
    handle.cancel()
    wait_until(lambda: outcome.ends)
    assert isinstance(outcome.errors[0], CancelledByUser)
    assert not isinstance(outcome.errors[0], SamTuneError)
    assert handle.done


def test_a_killed_engine_is_one_message_per_request_and_the_next_starts_another(make: Make) -> None:
    service = make()
    outcome = Outcome()
    outcome.ask(service, Method.SEGMENT, segment(5000))
    wait_until(lambda: service.state is ServiceState.BUSY)
    first = service.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: outcome.ends)
    wait_until(lambda: service.state is ServiceState.FAILED)
    assert len(outcome.errors) == 1
    assert isinstance(outcome.errors[0], EngineDiedError)
    assert service.last_error is outcome.errors[0]
    assert service.pid is None
    second = Outcome()
    second.ask(service, Method.SEGMENT, segment(0, 3.0))
    wait_until(lambda: second.ends)
    assert second.results[0].score == 3.0
    assert service.pid not in (None, first)
    helpers.let_run(0.3)
    assert outcome.ends == 1
    assert service.last_error is None


def test_an_engine_that_does_not_come_up_fails_with_its_reason_and_may_be_tried_again(make: Make) -> None:
    service = make("no-start")
    texts: list[tuple[ServiceState, str]] = []
    service.state_changed.connect(lambda state, text: texts.append((state, text)))
    outcome = Outcome()
    outcome.ask(service, Method.INFO)
    wait_until(lambda: service.state is ServiceState.FAILED)
    wait_until(lambda: outcome.ends)
    assert isinstance(outcome.errors[0], EngineStartError)
    assert "exit code 4" in texts[-1][1]
    assert "there is no engine in here" in service.log_tail
    service.configure(helpers.fake_config(key="other"))
    again = Outcome()
    again.ask(service, Method.INFO)
    wait_until(lambda: again.ends)
    assert isinstance(again.results[0], EngineInfo)


def test_a_missing_environment_is_known_as_such(make: Make) -> None:
    def command() -> list[str]:
        raise EnvironmentMissingError("Make one in the settings.")

    service = make()
    service.configure(EngineConfig(command, helpers.fake_config().settings, "missing"))
    outcome = Outcome()
    outcome.ask(service, Method.INFO)
    wait_until(lambda: service.state is ServiceState.FAILED)
    assert service.environment_missing()
    wait_until(lambda: outcome.ends)
    assert isinstance(outcome.errors[0], EnvironmentMissingError)


def test_the_same_settings_keep_the_engine_and_others_replace_it(make: Make) -> None:
    service = make()
    service.start()
    wait_until(lambda: service.state is ServiceState.READY)
    first = service.pid
    service.configure(helpers.fake_config())
    assert service.pid == first
    outcome = Outcome()
    outcome.ask(service, Method.SEGMENT, segment(5000))
    service.configure(helpers.fake_config(behave="other"))
    wait_until(lambda: outcome.ends)
    assert isinstance(outcome.errors[0], CancelledByUser)
    wait_until(lambda: service.state is ServiceState.ABSENT)
    service.start()
    wait_until(lambda: service.state is ServiceState.READY)
    assert service.pid not in (None, first)


def test_requests_may_come_from_any_thread(make: Make) -> None:
    service = make()
    scores: list[float] = []

    def work(mark: float) -> None:
        scores.append(service.request(Method.SEGMENT, segment(1, mark)).result(10).score)  # type: ignore[attr-defined]

    threads = [threading.Thread(target=work, args=(float(mark),)) for mark in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(scores) == 8)
    for thread in threads:
        thread.join()
    assert sorted(scores) == [float(mark) for mark in range(8)]


def test_the_main_thread_is_never_held_up(make: Make, qgis_app: QgsApplication) -> None:
    service = make(behave="slow-start:0.3")
    longest = [0.0]
    last = [time.monotonic()]

    def tick() -> None:
        now = time.monotonic()
        longest[0] = max(longest[0], now - last[0])
        last[0] = now

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(1)
    helpers.let_run(0.1)
    longest[0] = 0.0
    outcomes = [Outcome() for _ in range(200)]
    calls: list[float] = []
    for number, outcome in enumerate(outcomes):
        began = time.monotonic()
        handle = outcome.ask(service, Method.SEGMENT, segment(1, float(number)))
        if number % 3 == 0:
            handle.cancel()
        calls.append(time.monotonic() - began)
        if number % 10 == 0:
            helpers.let_run(0.005)
    wait_until(lambda: all(outcome.ends for outcome in outcomes))
    began = time.monotonic()
    service.stop()
    calls.append(time.monotonic() - began)
    helpers.let_run(0.2)
    timer.stop()
    assert max(calls) < 0.05
    assert longest[0] < 0.15  # 50 ms is the aim; leave room for a shared machine
    assert all(outcome.ends == 1 for outcome in outcomes)


def test_shutting_down_ends_the_process_without_waiting_and_nothing_is_called_after(make: Make) -> None:
    service = make()
    outcome = Outcome()
    outcome.ask(service, Method.WARM_UP, WarmUpParams("sleep:60"))
    wait_until(lambda: service.state is ServiceState.BUSY)
    process_id = service.pid
    began = time.monotonic()
    service.shutdown()
    assert time.monotonic() - began < 0.05
    end = time.monotonic() + 5
    while Path(f"/proc/{process_id}/cmdline").exists() and Path(f"/proc/{process_id}/cmdline").read_bytes():
        assert time.monotonic() < end
        time.sleep(0.01)
    helpers.let_run(0.2)
    assert outcome.ends == 0
    late = service.request(Method.INFO)
    with pytest.raises(CancelledByUser):
        late.result(1)
    assert service.pid is None


def test_a_service_deleted_with_its_parent_drops_what_comes_late(make: Make) -> None:
    parent = QObject()
    service = make(parent=parent)
    pending = service.request(Method.SEGMENT, segment(300))
    parent.deleteLater()
    del parent
    helpers.let_run(0.05)
    assert pending.result(10).level == 300  # type: ignore[attr-defined]
