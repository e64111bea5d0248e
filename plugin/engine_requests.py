"""How the controllers reach the engine: long jobs as QGIS's tasks, all that somebody waits for straight."""

from __future__ import annotations

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QObject

from ..engine.messages import Method
from ..models.errors import CancelledByUser
from .engine_service import EngineService
from .latest_request import Handle, OnProgress, OnResult, OnServiceError
from .tasks import EngineTask, TaskController


class EngineRequests(QObject):
    """Sends requests by the way that suits them.

    Downloads, imports, handling adapters, warming up, tuning and work on whole areas run as
    :class:`~samtune.plugin.tasks.EngineTask`: they stand in QGIS's task list, can be cancelled there, and may wait
    their turn. Opening, preparing and segmenting answer a hand on the mouse. They go out at once, for QGIS's tasks
    share a few threads, and somebody else's tasks may hold all of them for minutes; their progress and cancel are in
    the panel.
    """

    def __init__(self, service: EngineService, parent: QObject | None = None) -> None:
        """Keep the engine.

        Args:
            service: the engine.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._service = service
        self._tasks = TaskController(QgsApplication.taskManager(), self)
        self._titles = {
            Method.DOWNLOAD: self.tr("SamTune: download a model"),
            Method.IMPORT: self.tr("SamTune: load a model from a file"),
            Method.WARM_UP: self.tr("SamTune: get the model ready"),
            Method.ADD_ADAPTER: self.tr("SamTune: add an adapter"),
            Method.KEEP_ADAPTER: self.tr("SamTune: keep an adapter"),
            Method.COMPARE_ADAPTERS: self.tr("SamTune: compare adapters"),
            Method.TUNE_INSPECT: self.tr("SamTune: look at the labels"),
            Method.TUNE_PLAN: self.tr("SamTune: estimate a tuning run"),
            Method.TUNE_RUN: self.tr("SamTune: tune a model"),
            Method.FIND: self.tr("SamTune: find all objects"),
            Method.MAP: self.tr("SamTune: make a class map"),
            Method.SUGGEST: self.tr("SamTune: look for places to label"),
            Method.BATCH_RUN: self.tr("SamTune: batch job"),
        }

    def request_async(
        self,
        method: Method,
        params: object,
        on_result: OnResult,
        on_error: OnServiceError,
        on_progress: OnProgress | None = None,
    ) -> Handle:
        """Ask for something and be called on the main thread; see :meth:`EngineService.request_async`.

        Args:
            method: what.
            params: the method's message.
            on_result: gets the method's result message.
            on_error: gets a SamTuneError or CancelledByUser. Exactly one of the two is called, once.
            on_progress: gets a fraction and a text.

        Returns:
            A handle to cancel with.
        """
        title = self._titles.get(method)
        if title is None:
            return self._service.request_async(method, params, on_result, on_error, on_progress)
        task = EngineTask(title, self._service, method, params)
        task.succeeded.connect(on_result)
        task.failed.connect(on_error)
        task.cancelled.connect(lambda: on_error(CancelledByUser()))
        if on_progress is not None:
            task.reported.connect(on_progress)
        return self._tasks.submit(task)

    def stop(self) -> None:
        """Cancel the tasks; for unloading."""
        self._tasks.cancel_all()
