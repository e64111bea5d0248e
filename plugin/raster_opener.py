"""Opens the session's layer in the engine and has the model loaded, so that the first click need not wait."""

from __future__ import annotations

from typing import cast

from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..engine.messages import Method, RasterInfo, RasterSpec, WarmUpParams
from ..models.errors import EnvironmentMissingError, ModelMissingError, RasterError, SamTuneError
from .latest_request import LatestRequest, Service
from .layers import raster_spec
from .session import EngineState, NoticeLevel, Session


class RasterOpener(QObject):
    """Fills the session's ``raster``.

    Signals:
        opened: the session has a raster now.
        failed: it could not be opened; the user has been told.
    """

    opened = pyqtSignal()
    failed = pyqtSignal()

    def __init__(self, session: Session, service: Service, parent: QObject | None = None) -> None:
        """Keep what is needed; nothing is opened yet."""
        super().__init__(parent)
        self._session = session
        self._open = LatestRequest(service, session, "open", self.tr("Opening the raster…"))
        self._warm_up = LatestRequest(service, session, "warm-up", self.tr("Loading the model…"))
        self._asked: RasterSpec | None = None
        session.model_changed.connect(self._on_model_changed)

    @property
    def busy(self) -> bool:
        """Return whether a raster is being opened."""
        return self._open.busy

    def open(self) -> None:
        """Open the session's layer, with its bands and stretch, in place of what is being opened."""
        session = self._session
        self._open.cancel()
        if session.layer is None or session.layer_problem:
            session.set_raster(None)
            return
        spec = self._spec()
        if spec is not None:
            self._asked = spec
            session.set_raster(session.raster)  # whether an earlier attempt failed does not matter any more
            self._open.send(Method.OPEN, spec, self._on_opened, self._on_failed)
        else:
            session.set_raster(None, failed=True)
            self.failed.emit()

    def is_outdated(self) -> bool:
        """Return whether the layer's style now shows it otherwise than it was opened, and that matters to the model."""
        session = self._session
        if session.layer is None or session.layer_problem:
            return False
        spec = self._spec()
        return spec is not None and spec != self._asked

    def cancel(self) -> None:
        """Stop opening and loading."""
        self._open.cancel()
        self._warm_up.cancel()

    def stop_warming(self) -> None:
        """Let a click or encoding ahead have the engine: they load the model themselves, and do more with it."""
        self._warm_up.cancel()

    def _spec(self) -> RasterSpec | None:
        session = self._session
        if session.layer is None:
            return None
        try:
            return raster_spec(session.layer, session.bands, session.stretch)
        except RasterError as error:
            self._report(error)
            return None

    def _on_opened(self, result: object) -> None:
        raster = cast("RasterInfo", result)
        self._session.set_raster(raster)
        for note in raster.notes:
            self._session.notify(NoticeLevel.INFO, note)
        if not self._session.steps:
            self._warm()
        self.opened.emit()

    def _on_failed(self, error: SamTuneError) -> None:
        self._session.set_raster(None, failed=True)
        self._report(error)
        self.failed.emit()

    def _on_model_changed(self) -> None:
        if self._session.engine_state is EngineState.READY and not self._session.steps:
            self._warm()

    def _warm(self) -> None:
        session = self._session
        info = session.model_info
        if session.raster is not None and (info is None or info.present):
            params = WarmUpParams(session.model)
            self._warm_up.send(Method.WARM_UP, params, lambda _done: None, self._on_warm_up_failed)

    def _on_warm_up_failed(self, error: SamTuneError) -> None:
        if not isinstance(error, ModelMissingError):  # the panel shows that as a state, with what to do
            self._report(error)

    def _report(self, error: SamTuneError) -> None:
        # Without an environment is how everybody begins: the panel says so and offers to make one.
        level = NoticeLevel.INFO if isinstance(error, EnvironmentMissingError) else NoticeLevel.ERROR
        self._session.notify(level, error.user_text, f"{error.kind}: {error.details}")
