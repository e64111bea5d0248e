"""Keeps the session's picture of the engine true, and asks again for what an engine must know after it has started."""

from __future__ import annotations

from qgis.PyQt.QtCore import QObject

from ..engine.messages import EngineInfo
from .engine_service import EngineService, ServiceState
from .model_controller import ModelController
from .session import Busy, EngineState, NoticeLevel, Session

STATES = {
    ServiceState.ABSENT: EngineState.OFF,
    ServiceState.STARTING: EngineState.STARTING,
    ServiceState.READY: EngineState.READY,
    ServiceState.BUSY: EngineState.READY,
    ServiceState.FAILED: EngineState.FAILED,
}


class EngineLink(QObject):
    """Passes the service's states and greetings on to the session."""

    def __init__(
        self, session: Session, service: EngineService, models: ModelController, parent: QObject | None = None
    ) -> None:
        """Listen to the service.

        Args:
            session: told about the engine.
            service: the engine.
            models: refreshed whenever an engine has come up.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._service = service
        self._models = models
        self._warned: set[str] = set()
        service.starting.connect(self._on_starting)
        service.state_changed.connect(self._on_state)
        service.info.connect(self._on_info)

    def _on_state(self, state: ServiceState, text: str) -> None:
        shown = STATES[state]
        if shown is EngineState.FAILED and self._service.environment_missing():
            shown = EngineState.ENVIRONMENT_MISSING
        self._session.set_engine(shown, text)
        if shown is not EngineState.STARTING:
            self._session.set_busy("engine", None)

    def _on_starting(self, fraction: float, text: str) -> None:
        if self._session.engine_state is EngineState.STARTING:
            self._session.set_busy("engine", Busy(text or self.tr("Starting the engine…"), fraction))

    def _on_info(self, info: EngineInfo) -> None:
        self._session.set_engine_info(info)
        for warning in info.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                self._session.notify(NoticeLevel.WARNING, warning)
        self._models.refresh()
