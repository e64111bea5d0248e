"""The embedding store as the user meets it: how much room it takes, and clearing it."""

from __future__ import annotations

from typing import cast

from qgis.PyQt.QtCore import QObject

from ..engine.messages import EngineInfo, Method, NoParams
from ..models.errors import SamTuneError
from .latest_request import LatestRequest, Service
from .session import NoticeLevel, Session


class StoreController(QObject):
    """Asks the engine about its store of encoded imagery."""

    def __init__(self, session: Session, service: Service, parent: QObject | None = None) -> None:
        """Keep what is needed; nothing is asked yet."""
        super().__init__(parent)
        self._session = session
        self._look = LatestRequest(service, session, "info")
        self._clear = LatestRequest(service, session, "clear", self.tr("Clearing the cache…"))

    def refresh(self) -> None:
        """Ask how large the store is now; the answer goes into the session."""
        self._look.send(Method.INFO, NoParams(), self._on_info, lambda _error: None)

    def clear(self) -> None:
        """Delete all encoded imagery. It comes back where it is needed, at the price of encoding it anew."""
        self._clear.send(Method.CLEAR_STORE, NoParams(), lambda _done: self._on_cleared(), self._report)

    def stop(self) -> None:
        """Drop all requests; for unloading."""
        self._look.cancel()
        self._clear.cancel()

    def _on_info(self, result: object) -> None:
        self._session.set_engine_info(cast("EngineInfo", result))

    def _on_cleared(self) -> None:
        self._session.notify(NoticeLevel.SUCCESS, self.tr("The cache of encoded imagery is empty now."))
        self.refresh()

    def _report(self, error: SamTuneError) -> None:
        self._session.notify(NoticeLevel.ERROR, error.user_text, f"{error.kind}: {error.details}")
