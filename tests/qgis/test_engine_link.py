"""What the session hears of the engine: states, the start's progress, greetings and warnings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.PyQt.QtCore import QObject, pyqtSignal
from qgis.PyQt.QtTest import QSignalSpy
from samtune.engine.messages import Method
from samtune.plugin.engine_link import EngineLink
from samtune.plugin.engine_service import ServiceState
from samtune.plugin.model_controller import ModelController
from samtune.plugin.session import EngineState, NoticeLevel, Session
from samtune.plugin.settings import PluginSettings
from samtune_test_support import ScriptedService, engine_info


class Service(QObject, ScriptedService):
    """A scripted engine with the signals of the real service."""

    state_changed = pyqtSignal(object, str)
    starting = pyqtSignal(float, str)
    info = pyqtSignal(object)

    def __init__(self) -> None:
        QObject.__init__(self)
        ScriptedService.__init__(self)
        self.missing = False

    def environment_missing(self) -> bool:
        return self.missing


@pytest.fixture
def service(session: Session, settings: PluginSettings) -> Iterator[Service]:
    made = Service()
    models = ModelController(session, made, settings)
    link = EngineLink(session, made, models)
    yield made
    models.stop()
    link.deleteLater()


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (ServiceState.STARTING, EngineState.STARTING),
        (ServiceState.READY, EngineState.READY),
        (ServiceState.BUSY, EngineState.READY),
        (ServiceState.FAILED, EngineState.FAILED),
    ],
)
def test_states(session: Session, service: Service, state: ServiceState, shown: EngineState) -> None:
    service.state_changed.emit(state, "why")
    assert (session.engine_state, session.engine_text) == (shown, "why")


def test_a_missing_environment_is_a_state_of_its_own(session: Session, service: Service) -> None:
    service.missing = True
    service.state_changed.emit(ServiceState.FAILED, "There is no Python for it.")
    assert session.engine_state is EngineState.ENVIRONMENT_MISSING


@pytest.mark.parametrize("end", [ServiceState.READY, ServiceState.FAILED, ServiceState.ABSENT])
def test_the_start_is_shown_while_it_lasts(session: Session, service: Service, end: ServiceState) -> None:
    service.state_changed.emit(ServiceState.STARTING, "")
    service.starting.emit(0.25, "Loading PyTorch")
    assert session.busy is not None
    assert (session.busy.text, session.busy.fraction) == ("Loading PyTorch", 0.25)
    service.state_changed.emit(end, "")
    assert session.busy is None
    service.starting.emit(0.9, "late")
    assert session.busy is None


def test_a_greeting_brings_the_models(session: Session, service: Service) -> None:
    service.info.emit(engine_info())
    assert session.engine_info == engine_info()
    assert len(service.of(Method.MODELS)) == 1


def test_each_warning_of_the_engine_is_told_once(session: Session, service: Service) -> None:
    told = QSignalSpy(session.noticed)
    service.info.emit(engine_info(warnings=("The cache folder cannot be used.",)))
    service.info.emit(engine_info(warnings=("The cache folder cannot be used.", "The disk is full.")))
    assert [(notice.level, notice.text) for (notice,) in told] == [
        (NoticeLevel.WARNING, "The cache folder cannot be used."),
        (NoticeLevel.WARNING, "The disk is full."),
    ]
