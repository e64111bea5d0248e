"""The client against real engine processes with make-believe services."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotYet
from typing import Any

import pytest
from samtune.engine.messages import (
    Done,
    DownloadParams,
    EngineInfo,
    Method,
    ModelList,
    Prompt,
    RasterSpec,
    SegmentParams,
    SegmentResult,
    WarmUpParams,
)
from samtune.models.errors import (
    CancelledByUser,
    DeadlineError,
    DeviceError,
    EngineDiedError,
    EngineStartError,
    ProtocolError,
    RasterError,
    SamTuneError,
)
from samtune.plugin.engine_process import Limits
from samtune.plugin.pending import PendingRequest

Start = Callable[..., Any]
posix_only = pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")


def segment(milliseconds: int = 0, mark: float = 0.0) -> SegmentParams:
    return SegmentParams(RasterSpec("r.tif"), "tiny", milliseconds, (Prompt(mark, 0.0),))


def begin(engine: Any, model: str) -> Any:
    """Ask the make-believe model to behave in some way, and wait until it has begun to."""
    begun = threading.Event()
    request = engine.request(Method.WARM_UP, WarmUpParams(model), lambda *_: begun.set())
    assert begun.wait(5)
    return request


def soon(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_handshake_tells_who_answers(start: Start) -> None:
    engine = start()
    info = engine.ready.result(10)
    assert isinstance(info, EngineInfo)
    assert info.pid == engine.pid
    assert engine.alive()
    assert not engine.busy()


def test_requests_made_before_the_engine_is_up_are_answered_after(start: Start) -> None:
    engine = start(behave="slow-start:0.5")
    answers = [engine.request(Method.SEGMENT, segment(0, mark)) for mark in range(5)]
    assert not engine.ready.done()
    assert [answer.result(10).score for answer in answers] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert engine.ready.done()


def test_an_answer_is_the_message_it_should_be(start: Start) -> None:
    engine = start()
    assert isinstance(engine.request(Method.SEGMENT, segment()).result(10), SegmentResult)
    models = engine.request(Method.MODELS).result(10)
    assert isinstance(models, ModelList)
    assert models.models[0].name == "tiny"


def test_stray_output_does_not_reach_the_wire(start: Start) -> None:
    engine = start()
    assert engine.request(Method.WARM_UP, WarmUpParams("print")).result(10) == Done("print")
    assert engine.request(Method.WARM_UP, WarmUpParams("after")).result(10) == Done("after")
    engine.close()
    assert engine.wait(5)
    assert "stray python output" in engine.log_tail
    assert "stray C output" in engine.log_tail
    assert "stray child output" in engine.log_tail


def test_output_before_the_server_takes_over_is_skipped(start: Start) -> None:
    engine = start("noisy-start")
    assert isinstance(engine.ready.result(10), EngineInfo)
    assert "Welcome to a noisy Python" in engine.log_tail


def test_progress_is_thinned_out_and_ends_at_one(start: Start) -> None:
    engine = start()
    seen: list[tuple[float, str]] = []
    began = time.monotonic()
    work = engine.request(Method.WARM_UP, WarmUpParams("work:200"), lambda part, text: seen.append((part, text)))
    assert work.result(20) == Done("work")
    elapsed = time.monotonic() - began
    parts = [part for part, _ in seen]
    assert parts == sorted(parts)
    assert seen[-1] == (1.0, "step 200")
    assert 3 <= len(seen) <= elapsed / 0.1 + 3


def test_progress_goes_to_its_own_request(start: Start) -> None:
    engine = start()
    engine.ready.result(10)
    seen: dict[str, list[str]] = {"model": [], "transfer": []}
    first = engine.request(Method.WARM_UP, WarmUpParams("work:40"), lambda _, text: seen["model"].append(text))
    second = engine.request(Method.DOWNLOAD, DownloadParams("x"), lambda _, text: seen["transfer"].append(text))
    first.result(10)
    second.result(10)
    assert seen["model"][-1] == "step 40"
    assert seen["transfer"][-1] == "step 20"


def test_a_raising_progress_callback_costs_the_connection_not_the_answer_for_ever(start: Start) -> None:
    engine = start()

    def explode(_part: float, _text: str) -> None:
        raise ValueError("a bug in the caller")

    with pytest.raises(ProtocolError) as caught:
        engine.request(Method.WARM_UP, WarmUpParams("work:100"), explode).result(10)
    assert "a bug in the caller" in caught.value.details


@pytest.mark.parametrize(
    ("kind", "expected", "text", "details"),
    [
        ("raster-error", RasterError, "Choose another", "details of it"),
        ("bug", SamTuneError, "ValueError: a bug", "Traceback"),
        ("exit", SamTuneError, "SystemExit", "Traceback"),
        ("memory", DeviceError, "not enough memory", "MemoryError"),
        ("torch-memory", DeviceError, "not enough memory", "CUDA out of memory"),
        ("nan", SamTuneError, "ValueError", "Traceback"),
    ],
)
def test_errors_keep_their_kind_and_the_engine_its_life(
    start: Start, kind: str, expected: type[SamTuneError], text: str, details: str
) -> None:
    engine = start()
    with pytest.raises(expected) as caught:
        engine.request(Method.WARM_UP, WarmUpParams(kind)).result(10)
    assert type(caught.value) is expected
    assert text in caught.value.user_text
    assert details in caught.value.details
    assert engine.request(Method.WARM_UP, WarmUpParams("after")).result(10) == Done("after")


def test_a_method_the_engine_lacks_is_an_error(start: Start) -> None:
    engine = start()
    with pytest.raises(ProtocolError, match="do not understand"):
        engine.request(Method.CLEAR_STORE).result(10)
    assert engine.alive()


def test_questions_are_answered_while_the_model_is_busy(start: Start) -> None:
    engine = start()
    busy = engine.request(Method.WARM_UP, WarmUpParams("work:2000"))
    began = time.monotonic()
    assert isinstance(engine.request(Method.INFO).result(10), EngineInfo)
    assert isinstance(engine.request(Method.MODELS).result(10), ModelList)
    engine.ready.result(10)
    assert not busy.done()
    assert time.monotonic() - began < 5
    busy.cancel()


def test_a_download_does_not_hold_up_clicks(start: Start) -> None:
    engine = start()
    engine.ready.result(10)
    download = engine.request(Method.DOWNLOAD, DownloadParams("x"))
    assert isinstance(engine.request(Method.SEGMENT, segment()).result(10), SegmentResult)
    assert not download.done()
    assert download.result(10).name == "tiny"


def test_a_click_overtakes_waiting_long_work(start: Start) -> None:
    engine = start()
    engine.ready.result(10)
    order: list[str] = []
    pending = [begin(engine, "work:60")]
    pending.append(engine.request(Method.WARM_UP, WarmUpParams("work:60")))
    pending.append(engine.request(Method.SEGMENT, segment(1)))
    for name, request in zip(("first", "second", "click"), pending, strict=True):
        request.add_done_callback(lambda _, name=name: order.append(name))
    for request in pending:
        request.result(10)
    assert order == ["first", "click", "second"]


def test_cancelling_what_runs_takes_less_than_200_ms(start: Start) -> None:
    engine = start()
    engine.ready.result(10)
    delays = []
    for _ in range(10):
        running = engine.request(Method.SEGMENT, segment(5000))
        time.sleep(0.05)
        began = time.monotonic()
        running.cancel()
        with pytest.raises(CancelledByUser):
            running.result(5)
        delays.append(time.monotonic() - began)
    assert max(delays) < 0.2


def test_cancelling_what_waits_is_answered_at_once_even_if_the_model_cannot_stop(start: Start) -> None:
    engine = start()
    engine.ready.result(10)
    stuck = begin(engine, "sleep:1")
    waiting = [engine.request(Method.SEGMENT, segment(1)) for _ in range(20)]
    began = time.monotonic()
    for request in waiting:
        request.cancel()
    for request in waiting:
        with pytest.raises(CancelledByUser):
            request.result(5)
    assert time.monotonic() - began < 0.5
    assert not stuck.done()
    assert stuck.result(5) == Done("sleep")


def test_what_was_cancelled_but_ended_is_cancelled(start: Start) -> None:
    engine = start()
    engine.ready.result(10)
    running = begin(engine, "sleep:0.3")
    running.cancel()
    running.cancel()
    with pytest.raises(CancelledByUser):
        running.result(5)
    running.cancel()  # too late to matter


def test_a_thousand_hovers_at_random_each_end_exactly_once(start: Start) -> None:
    engine = start()
    chance = random.Random(7)
    engine.ready.result(10)
    ends: dict[int, int] = {}
    lock = threading.Lock()

    def count(request: Any) -> None:
        with lock:
            ends[request.request] = ends.get(request.request, 0) + 1

    everything = []
    for number in range(1000):
        request = engine.request(Method.SEGMENT, segment(chance.choice([0, 1, 3]), float(number)))
        request.add_done_callback(count)
        everything.append((number, request))
        if chance.random() < 0.7:  # superseded by the next, as the hover preview does
            everything[chance.randrange(max(0, number - 3), number + 1)][1].cancel()
        if chance.random() < 0.05:
            time.sleep(0.005)
    answered = cancelled = 0
    for number, request in everything:
        try:
            assert request.result(30).score == number
            answered += 1
        except CancelledByUser:
            assert request.cancel_asked
            cancelled += 1
    assert answered + cancelled == 1000
    assert answered > 100
    assert cancelled > 100
    assert sorted(ends.values()) == [1] * 1000
    assert not engine.busy()


@posix_only
def test_a_killed_engine_gives_each_request_one_clear_error(start: Start) -> None:
    engine = start()
    engine.ready.result(10)
    running = engine.request(Method.SEGMENT, segment(5000))
    waiting = engine.request(Method.SEGMENT, segment(0))
    time.sleep(0.1)
    os.kill(engine.pid, signal.SIGKILL)
    for request in (running, waiting):
        with pytest.raises(EngineDiedError) as caught:
            request.result(5)
        assert "SIGKILL" in caught.value.user_text
        assert "starts by itself" in caught.value.user_text
    assert not engine.alive()
    with pytest.raises(EngineDiedError):
        engine.request(Method.INFO).result(5)


@posix_only
def test_killing_at_any_moment_always_ends_the_request_and_a_new_engine_answers(start: Start) -> None:
    chance = random.Random(3)
    for attempt in range(12):
        engine = start(behave="slow-start:0.05")
        request = engine.request(Method.SEGMENT, segment(3000))
        while engine.pid is None:
            time.sleep(0.001)
        time.sleep(chance.random() * (0.02 if attempt % 3 == 0 else 0.4))
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises((EngineDiedError, EngineStartError)):
            request.result(5)
        assert engine.wait(5)
    assert start().request(Method.SEGMENT, segment(0, 4.0)).result(10).score == 4.0


def test_an_engine_that_ends_itself_leaves_its_last_words(start: Start) -> None:
    engine = start()
    with pytest.raises(EngineDiedError) as caught:
        engine.request(Method.WARM_UP, WarmUpParams("die")).result(10)
    assert "exit code 7" in caught.value.user_text
    assert "these were my last words" in caught.value.details
    assert engine.end_error is caught.value


def test_an_engine_that_never_comes_up_is_a_start_error(start: Start) -> None:
    engine = start("no-start")
    with pytest.raises(EngineStartError) as caught:
        engine.request(Method.INFO).result(10)
    assert "exit code 4" in caught.value.user_text
    assert "there is no engine in here" in caught.value.details
    with pytest.raises(EngineStartError):
        engine.ready.result(1)


def test_an_interpreter_that_is_no_program_is_a_start_error(start: Start) -> None:
    engine = start(command=lambda: ["/nowhere/python", "x"])
    with pytest.raises(EngineStartError) as caught:
        engine.ready.result(10)
    assert "/nowhere/python" in caught.value.details
    assert engine.wait(1)


def test_a_missing_environment_reaches_the_request_as_it_is(start: Start) -> None:
    from samtune.models.errors import EnvironmentMissingError

    def command() -> list[str]:
        raise EnvironmentMissingError("Make one.")

    engine = start(command=command)
    with pytest.raises(EnvironmentMissingError, match="Make one"):
        engine.request(Method.INFO).result(10)


def test_an_engine_whose_parts_do_not_load_says_so(start: Start) -> None:
    engine = start(behave="fail-start")
    with pytest.raises(EngineStartError) as caught:
        engine.ready.result(10)
    assert "no torch here" in caught.value.user_text
    assert engine.wait(5)
    with pytest.raises(EngineStartError):
        engine.request(Method.INFO).result(1)


def test_heartbeats_tell_what_is_done_and_the_memory(start: Start) -> None:
    engine = start()
    engine.ready.result(10)
    running = engine.request(Method.SEGMENT, segment(1500))
    deadline = time.monotonic() + 5
    while engine.last_heartbeat is None or engine.last_heartbeat.busy != running.request:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert 1e6 < engine.last_heartbeat.rss_bytes < 1e10
    running.cancel()


def test_long_work_may_take_longer_than_the_silence_while_hearts_beat(start: Start) -> None:
    engine = start(limits=Limits(silence=1.6, interactive=0.5))
    engine.ready.result(10)
    assert engine.request(Method.WARM_UP, WarmUpParams("sleep:2.5")).result(10) == Done("sleep")


def test_a_silent_engine_is_ended_with_a_deadline_error(start: Start) -> None:
    engine = start(limits=Limits(silence=1.5))
    engine.ready.result(10)
    began = time.monotonic()
    with pytest.raises(DeadlineError) as caught:
        engine.request(Method.WARM_UP, WarmUpParams("hold:60")).result(10)
    assert time.monotonic() - began < 4
    assert "stopped responding" in caught.value.user_text
    assert engine.wait(2)
    with pytest.raises(DeadlineError):
        engine.request(Method.INFO).result(1)


@posix_only
def test_a_stopped_process_counts_as_silent_even_while_starting(start: Start) -> None:
    engine = start(behave="slow-start:30", limits=Limits(start_silence=1.5, silence=1.0))
    while engine.last_heartbeat is None:
        time.sleep(0.01)
    os.kill(engine.pid, signal.SIGSTOP)
    with pytest.raises(DeadlineError):
        engine.ready.result(5)
    assert engine.wait(2)


def test_an_idle_engine_is_left_alone(start: Start) -> None:
    engine = start(limits=Limits(silence=0.3))
    engine.ready.result(10)
    time.sleep(1.2)
    assert engine.alive()


def test_a_question_has_an_absolute_limit_and_the_engine_survives_it(start: Start) -> None:
    from samtune.engine.messages import DeadlineClass
    from samtune.engine.wire import REQUESTS

    assert REQUESTS[Method.MODELS].deadline is DeadlineClass.INTERACTIVE
    engine = start(limits=Limits(interactive=0.4), behave="slow-models:1.0")
    engine.ready.result(10)
    busy = begin(engine, "work:300")
    began = time.monotonic()
    with pytest.raises(DeadlineError, match="busy"):
        engine.request(Method.MODELS).result(10)
    assert 0.3 < time.monotonic() - began < 1.5
    assert engine.alive()
    assert busy.result(10) == Done("work")


def test_closing_ends_the_process_even_in_the_middle_of_work(start: Start) -> None:
    engine = start(limits=Limits(shutdown=5.0))
    engine.ready.result(10)
    running = begin(engine, "sleep:60")
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < 0.02
    with pytest.raises(CancelledByUser):
        running.result(1)
    assert engine.wait(4)  # before it would be killed: the end of stdin was enough
    assert engine.end_error is None
    with pytest.raises(CancelledByUser):
        engine.request(Method.INFO).result(1)


def test_closing_kills_what_does_not_end_by_itself(start: Start) -> None:
    engine = start(limits=Limits(shutdown=0.3))
    engine.ready.result(10)
    begin(engine, "hold:60")
    engine.close()
    assert engine.wait(2)


def test_closing_while_starting_leaves_nothing(start: Start) -> None:
    engine = start(behave="slow-start:60")
    while engine.pid is None:
        time.sleep(0.001)
    engine.close()
    assert engine.wait(3)


def test_asking_takes_no_time_even_when_the_engine_does_not_read(start: Start) -> None:
    engine = start()
    engine.ready.result(10)
    begin(engine, "hold:2")
    spec = RasterSpec("x" * 200_000)
    longest = 0.0
    for _ in range(20):
        began = time.monotonic()
        engine.request(Method.SEGMENT, SegmentParams(spec, "tiny", 0))
        longest = max(longest, time.monotonic() - began)
    assert longest < 0.05


def test_waiting_with_a_timeout_leaves_the_request_under_way(start: Start) -> None:
    engine = start()
    engine.ready.result(10)
    request = engine.request(Method.WARM_UP, WarmUpParams("sleep:0.4"))
    with pytest.raises(NotYet):
        request.result(0.05)
    assert request.result(5) == Done("sleep")


def test_changes_are_told(start: Start) -> None:
    states: list[tuple[bool, bool]] = []
    box: list[Any] = []

    def changed() -> None:
        if box:
            states.append((box[0].alive(), box[0].busy()))

    engine = start(on_change=changed)
    box.append(engine)
    engine.ready.result(10)
    engine.request(Method.SEGMENT, segment(20)).result(10)
    engine.close()
    engine.wait(5)
    time.sleep(0.05)
    assert (True, True) in states
    assert (True, False) in states
    assert states[-1] == (False, False)


def test_an_answer_that_comes_with_the_deadline_wins(start: Start) -> None:
    """Looking at the deadlines and failing a request are two steps: the answer may come in between."""
    engine = start(limits=Limits(interactive=60.0))
    engine.ready.result(10)
    late = engine.request(Method.MODELS)
    assert isinstance(late.result(10), ModelList)
    told: list[PendingRequest] = []
    engine._send_cancel = told.append  # type: ignore[method-assign]
    engine._expire(late)
    assert told == [], "the engine is not asked to stop what it has done"
    assert isinstance(late.result(0), ModelList)


def test_the_engine_counts_as_idle_after_its_only_request_expired(start: Start) -> None:
    changes: list[bool] = []
    box: list[Any] = []
    engine = start(
        limits=Limits(interactive=0.3),
        behave="slow-models:1.5",
        on_change=lambda: changes.extend(one.busy() for one in box),
    )
    engine.ready.result(10)
    box.append(engine)
    with pytest.raises(DeadlineError):
        engine.request(Method.MODELS).result(10)
    soon(lambda: changes[-1:] == [False])


def test_what_the_engine_says_last_holds_no_secrets(start: Start) -> None:
    engine = start(behave="say:https://user:hush@host/a.tif?sig=hush")
    engine.ready.result(10)
    soon(lambda: engine.log_tail.count("a.tif") >= 2)
    assert "hush" not in engine.log_tail


def test_errors_reach_qgis_without_logins(start: Start) -> None:
    engine = start()
    with pytest.raises(RasterError) as caught:
        engine.request(Method.WARM_UP, WarmUpParams("login:https://me:hush@host/a.tif?sig=hush")).result(10)
    assert caught.value.user_text == "https://***@host/a.tif?*** cannot be opened."
    assert "403" in caught.value.details
    assert "hush" not in caught.value.details + engine.log_tail
