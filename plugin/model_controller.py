"""Which models there are, and getting those that are missing: by download after consent, or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from qgis.PyQt.QtCore import QObject

from ..engine.messages import DownloadParams, ImportParams, Method, ModelInfo, ModelList, NoParams
from ..models.errors import SamTuneError
from .latest_request import LatestRequest, Service
from .network import proxy_url
from .session import NoticeLevel, Session
from .settings import PluginSettings


class ModelController(QObject):
    """Keeps the session's list of models true."""

    def __init__(
        self, session: Session, service: Service, settings: PluginSettings, parent: QObject | None = None
    ) -> None:
        """Keep what is needed; nothing is asked yet."""
        super().__init__(parent)
        self._session = session
        self._settings = settings
        self._list = LatestRequest(service, session, "models")
        self._fetch = LatestRequest(service, session, "fetch", self.tr("Downloading the model…"))

    def refresh(self) -> None:
        """Ask the engine which models there are."""
        self._list.send(Method.MODELS, NoParams(), self._on_list, self._report)

    def download(self, name: str) -> None:
        """Download a model. The caller has asked the user.

        Args:
            name: of the model.
        """
        mirror = self._settings.download_mirror.value()
        address = next((model.url for model in self._session.models if model.name == name), "")
        params = DownloadParams(name, mirror, proxy_url(mirror or address))
        self._fetch.send(Method.DOWNLOAD, params, self._on_fetched, self._report)

    def import_file(self, name: str, path: str) -> None:
        """Take a model's weights from a file.

        Args:
            name: of the model.
            path: the file.
        """
        self._fetch.send(Method.IMPORT, ImportParams(name, str(Path(path))), self._on_fetched, self._report)

    def cancel(self) -> None:
        """Stop a download; what has arrived stays for a resume."""
        self._fetch.cancel()

    def stop(self) -> None:
        """Drop all requests; for unloading."""
        for request in (self._list, self._fetch):
            request.cancel()

    def _on_list(self, result: object) -> None:
        self._session.set_models(cast("ModelList", result).models)

    def _on_fetched(self, result: object) -> None:
        info = cast("ModelInfo", result)
        self._session.notify(NoticeLevel.SUCCESS, self.tr("{model} is ready.").format(model=info.title))
        self.refresh()

    def _report(self, error: SamTuneError) -> None:
        self._session.notify(NoticeLevel.ERROR, error.user_text, f"{error.kind}: {error.details}")
