"""The picture of exactly what the model sees, asked for only where somebody looks at it."""

from __future__ import annotations

import base64
from typing import cast

from qgis.PyQt.QtCore import QObject

from ..engine.messages import Method, PrepareParams, PrepareResult
from .latest_request import LatestRequest, Service
from .session import Session

THUMBNAIL_SIDE = 192


class Thumbnail(QObject):
    """Keeps the session's thumbnail to the session's crop. Nothing is encoded for it."""

    def __init__(self, session: Session, service: Service, parent: QObject | None = None) -> None:
        """Listen to the session.

        Args:
            session: the state; gets the picture.
            service: sends requests to the engine.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._request = LatestRequest(service, session, "thumbnail")
        session.thumbnail_wanted_changed.connect(self.refresh)

    def refresh(self) -> None:
        """Ask for the picture of the session's crop, unless it is there or nobody looks."""
        session = self._session
        crop, raster = session.crop, session.raster
        if not session.thumbnail_wanted or not crop or crop == session.thumbnail_crop or raster is None:
            return
        x = sum(corner[0] for corner in crop) / len(crop)
        y = sum(corner[1] for corner in crop) / len(crop)
        level = session.used_level or 0
        params = PrepareParams(raster.spec, session.model, level, x, y, THUMBNAIL_SIDE, cached_only=True)

        def show(result: object) -> None:
            session.set_thumbnail(base64.b64decode(cast("PrepareResult", result).thumbnail_png), crop)

        self._request.send(Method.PREPARE, params, show, lambda _error: None)

    def cancel(self) -> None:
        """Stop asking: what is under way shows another layer, or holds up a click."""
        self._request.cancel()
