"""One request of a kind: replaced ones stay silent, whatever the order of events."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from samtune.engine.messages import Method, NoParams
from samtune.models.errors import CancelledByUser, DeadlineError
from samtune.plugin.latest_request import LatestRequest
from samtune.plugin.session import Busy, Session
from samtune_test_support import Call, ScriptedService


class Heard(list[object]):
    """Collects results and errors."""

    def send(self, request: LatestRequest, params: object = NoParams()) -> None:
        request.send(Method.INFO, params, self.append, self.append)


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def request_(service: ScriptedService, session: Session) -> LatestRequest:
    return LatestRequest(service, session, "info", "Asking…")


def test_answer_is_delivered_once(request_: LatestRequest, service: ScriptedService, session: Session) -> None:
    heard = Heard()
    heard.send(request_)
    assert request_.busy
    assert session.busy == Busy("Asking…")
    service.calls[0].on_result("answer")
    service.calls[0].on_result("again")
    assert heard == ["answer"]
    assert not request_.busy
    assert session.busy is None


def test_a_newer_request_replaces_an_older(request_: LatestRequest, service: ScriptedService) -> None:
    heard = Heard()
    heard.send(request_)
    heard.send(request_)
    first, second = service.calls
    assert first.cancelled
    second.on_result("second")
    first.on_result("first")
    first.on_error(DeadlineError("Too late."))
    assert heard == ["second"]


def test_error_is_delivered_and_a_cancel_is_not(request_: LatestRequest, service: ScriptedService) -> None:
    heard = Heard()
    heard.send(request_)
    error = DeadlineError("Too late.")
    service.calls[0].on_error(error)
    heard.send(request_)
    service.calls[1].on_error(CancelledByUser())
    assert heard == [error]
    assert not request_.busy


def test_cancel_is_passed_on_once(request_: LatestRequest, service: ScriptedService, session: Session) -> None:
    heard = Heard()
    heard.send(request_)
    request_.cancel()
    request_.cancel()
    service.calls[0].on_result("late")
    assert service.calls[0].cancelled
    assert heard == []
    assert session.busy is None


def test_an_answer_within_the_call_is_an_answer(session: Session) -> None:
    class Prompt(ScriptedService):
        def request_async(self, method, params, on_result, on_error, on_progress=None) -> Call:  # type: ignore[no-untyped-def]  # noqa: ANN001
            call = super().request_async(method, params, on_result, on_error, on_progress)
            on_result("at once")
            return call

    heard = Heard()
    request = LatestRequest(Prompt(), session, "info")
    heard.send(request)
    assert heard == ["at once"]
    assert not request.busy
    request.cancel()


def test_an_answer_may_send_the_next(request_: LatestRequest, service: ScriptedService) -> None:
    heard = Heard()
    request_.send(Method.INFO, NoParams(), lambda result: heard.send(request_), heard.append)
    service.calls[0].on_result("first")
    assert request_.busy
    service.calls[1].on_result("second")
    assert heard == ["second"]
