"""The size of the store of encoded imagery, and clearing it."""

from __future__ import annotations

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.PyQt.QtTest import QSignalSpy
from samtune.engine.messages import Done, Method
from samtune.models.errors import EngineDiedError
from samtune.plugin.session import NoticeLevel, Session
from samtune.plugin.store_controller import StoreController
from samtune_test_support import ScriptedService, engine_info


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


def test_the_size_goes_into_the_session(session: Session, service: ScriptedService) -> None:
    StoreController(session, service).refresh()
    service.last(Method.INFO).on_result(engine_info(store_bytes=3 << 30))
    assert session.engine_info.store_bytes == 3 << 30  # type: ignore[union-attr]


def test_clearing_is_told_and_the_size_is_asked_again(session: Session, service: ScriptedService) -> None:
    told = QSignalSpy(session.noticed)
    StoreController(session, service).clear()
    assert session.busy is not None
    assert service.of(Method.INFO) == []
    service.last(Method.CLEAR_STORE).on_result(Done())
    assert [notice.level for (notice,) in told] == [NoticeLevel.SUCCESS]
    service.last(Method.INFO).on_result(engine_info(store_bytes=0))
    assert session.engine_info.store_bytes == 0  # type: ignore[union-attr]
    assert session.busy is None


def test_a_failure_is_told(session: Session, service: ScriptedService) -> None:
    told = QSignalSpy(session.noticed)
    StoreController(session, service).clear()
    service.last(Method.CLEAR_STORE).on_error(EngineDiedError("The engine stopped."))
    assert [(notice.level, notice.text) for (notice,) in told] == [(NoticeLevel.ERROR, "The engine stopped.")]
    assert service.of(Method.INFO) == []


def test_nothing_comes_after_the_stop(session: Session, service: ScriptedService) -> None:
    controller = StoreController(session, service)
    controller.refresh()
    controller.stop()
    call = service.last(Method.INFO)
    assert call.cancelled
    call.on_result(engine_info(store_bytes=7))
    assert session.engine_info is None
