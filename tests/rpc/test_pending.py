"""The client's side of one request, and errors on their way back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import pytest
from samtune.engine.messages import CANCELLED_CODE, FAILED_CODE, DeadlineClass, Failure, Method
from samtune.engine.wire import to_wire
from samtune.models.errors import (
    CancelledByUser,
    DeviceError,
    EngineDiedError,
    ProtocolError,
    RasterError,
    SamTuneError,
    error_classes,
)
from samtune.plugin.engine_errors import describe_exit, error_from_wire
from samtune.plugin.pending import PendingRequest, cancelled_request


def make_pending(told: list[object] | None = None) -> PendingRequest:
    def show(fraction: float, text: str) -> None:
        if told is not None:
            told.append((fraction, text))

    def cancel(pending: PendingRequest) -> None:
        if told is not None:
            told.append(pending.request)

    return PendingRequest(5, Method.SEGMENT, show, cancel)


def test_it_ends_once_and_the_first_end_counts() -> None:
    pending = make_pending()
    ends: list[PendingRequest] = []
    pending.add_done_callback(ends.append)
    pending.succeed("first")
    pending.fail(RasterError("late"))
    pending.succeed("later")
    assert pending.result(0) == "first"
    assert pending.succeeded()
    assert ends == [pending]


def test_a_callback_added_after_the_end_is_called_at_once() -> None:
    pending = make_pending()
    pending.fail(RasterError("gone"))
    ends: list[PendingRequest] = []
    pending.add_done_callback(ends.append)
    assert ends == [pending]
    assert pending.done()
    assert not pending.succeeded()
    with pytest.raises(RasterError, match="gone"):
        pending.result(0)


def test_cancelling_tells_the_engine_once_and_ends_nothing_by_itself() -> None:
    told: list[object] = []
    pending = make_pending(told)
    pending.cancel()
    pending.cancel()
    assert told == [5]
    assert not pending.done()
    with pytest.raises(NotYet):
        pending.result(0.01)
    pending.fail(CancelledByUser())
    with pytest.raises(CancelledByUser):
        pending.result(0)


def test_cancelling_what_has_ended_tells_nobody() -> None:
    told: list[object] = []
    pending = make_pending(told)
    pending.succeed(1)
    pending.cancel()
    assert told == []


def test_progress_after_the_end_is_dropped() -> None:
    told: list[object] = []
    pending = make_pending(told)
    pending.progress(0.5, "half")
    pending.succeed(1)
    pending.progress(0.6, "late")
    assert told == [(0.5, "half")]


def test_waiting_in_a_thread_is_woken_by_the_end() -> None:
    pending = make_pending()
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(pending.result(10)))
    thread.start()
    pending.succeed("answer")
    thread.join(5)
    assert found == ["answer"]


def test_the_deadline_is_the_method_s() -> None:
    assert make_pending().deadline is DeadlineClass.LONG
    assert cancelled_request(Method.INFO).deadline is DeadlineClass.INTERACTIVE


def test_a_request_that_nobody_will_answer_has_ended_as_cancelled() -> None:
    pending = cancelled_request(Method.INFO)
    pending.cancel()
    with pytest.raises(CancelledByUser):
        pending.result(0)


@pytest.mark.parametrize("name", sorted(error_classes()))
def test_every_error_comes_back_as_itself(name: str) -> None:
    data = to_wire(Failure(name, "details"))
    error = error_from_wire({"code": FAILED_CODE, "message": "What to do.", "data": data})
    assert type(error) is error_classes()[name]
    assert isinstance(error, SamTuneError)
    assert (error.user_text, error.details) == ("What to do.", "details")


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({"code": CANCELLED_CODE, "message": "Cancelled."}, CancelledByUser),
        ({"code": FAILED_CODE, "message": "x", "data": {"kind": "FromAnotherVersion", "details": ""}}, SamTuneError),
        ({"code": -1, "message": "x", "data": "no failure"}, SamTuneError),
        ({}, SamTuneError),
        ("a word", ProtocolError),
        (None, ProtocolError),
    ],
)
def test_odd_errors_are_still_errors_with_a_text(wire: object, expected: type[Exception]) -> None:
    error = error_from_wire(wire)
    assert type(error) is expected
    if isinstance(error, SamTuneError):
        assert error.user_text


@pytest.mark.parametrize(
    ("code", "text"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "SIGKILL"), (-11, "SIGSEGV"), (-77, "signal 77")]
)
def test_how_a_process_ended_in_words(code: int, text: str) -> None:
    assert text in describe_exit(code)


def test_errors_know_their_own_kind() -> None:
    assert DeviceError("x").kind == "DeviceError"
    assert EngineDiedError("x").kind == "EngineDiedError"


def test_of_many_threads_ending_it_one_succeeds_and_none_fails() -> None:
    for _ in range(200):
        pending, gate = make_pending(), threading.Barrier(4)
        with ThreadPoolExecutor(4) as pool:
            ends = [pool.submit(end_together, pending, gate, number) for number in range(4)]
        assert [end.exception() for end in ends] == [None] * 4
        assert pending.done()


def end_together(pending: PendingRequest, gate: threading.Barrier, number: int) -> None:
    gate.wait()
    if number % 2:
        pending.succeed(number)
    else:
        pending.fail(RasterError("gone"))


def test_an_end_between_looking_and_setting_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pending = make_pending()
    pending.succeed("first")
    monkeypatch.setattr(pending._future, "done", lambda: False)
    pending.succeed("second")
    pending.fail(RasterError("late"))
    assert pending.result(0) == "first"
