"""Asks the engine what a job would take while the user still makes it up: first counted, then measured."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import cast

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from ..engine.batch_messages import BatchEstimate, EstimateParams, VectorSource
from ..engine.messages import Method
from ..models.errors import CancelledByUser, SamTuneError
from .batch_features import WriteFeaturesTask
from .batch_order import BatchOrder
from .feature_file import FeatureSnapshot
from .latest_request import Handle, Service
from .tasks import TaskController

SETTLE_MS = 700


class BatchPlanner(QObject):
    """One estimate at a time: the newest.

    The features of layers are written to a folder of its own for that, and only again when they are others.

    Signals:
        asked: an estimate is under way; what was said before holds no more.
        estimated: a :class:`BatchEstimate`; a second one follows where the first was only counted.
        failed: a sentence for the user.
    """

    asked = pyqtSignal()
    estimated = pyqtSignal(object)
    failed = pyqtSignal(str)

    def __init__(self, service: Service, parent: QObject | None = None) -> None:
        """Keep the engine.

        Args:
            service: sends requests.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._service = service
        self._tasks = TaskController(QgsApplication.taskManager(), self)
        self._folder = tempfile.TemporaryDirectory(prefix="samtune-batch-", ignore_cleanup_errors=True)
        self._order: BatchOrder | None = None
        self._written: tuple[tuple[FeatureSnapshot | None, FeatureSnapshot | None], tuple[VectorSource, ...]] | None
        self._written = None
        self._files = 0
        self._handle: Handle | None = None
        self._number = 0
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self._begin)

    def ask(self, order: BatchOrder) -> None:
        """Have a job estimated as soon as the user pauses; what was asked before is dropped.

        Args:
            order: the job, complete.
        """
        self.cancel()
        self._order = order
        self.asked.emit()
        self._settle.start()

    def cancel(self) -> None:
        """Drop what is asked."""
        self._settle.stop()
        self._number += 1
        self._tasks.cancel_all()
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()

    def stop(self) -> None:
        """Drop what is asked, and the files; for unloading."""
        self.cancel()
        self._folder.cleanup()

    def _begin(self) -> None:
        order = self._order
        if order is None:
            return
        key = (order.prompts, order.area)
        if self._written is not None and all(old is new for old, new in zip(self._written[0], key)):
            self._estimate(order, self._written[1])
            return
        self._files += 1
        wanted = order.files(Path(self._folder.name), f"estimate{self._files}")
        if not wanted:
            self._estimate(order, ())
            return
        number = self._number
        task = WriteFeaturesTask(self.tr("SamTune: read the features of a batch job"), wanted)

        def written(result: object) -> None:
            if number == self._number:
                files = cast("tuple[VectorSource, ...]", result)
                self._written = (key, files)
                self._estimate(order, files)

        task.succeeded.connect(written)
        task.failed.connect(lambda error: self._fail(number, error))
        self._tasks.submit(task)

    def _estimate(self, order: BatchOrder, files: tuple[VectorSource, ...], *, measure: bool = False) -> None:
        number, params = self._number, EstimateParams(order.with_files(files), measure)

        def deliver(result: object) -> None:
            if number != self._number:
                return
            self._handle = None
            estimate = cast("BatchEstimate", result)
            self.estimated.emit(estimate if measure else replace(estimate, seconds=-1.0))
            if not measure and not estimate.problem and number == self._number:
                self._estimate(order, files, measure=True)

        def fail(error: SamTuneError | CancelledByUser) -> None:
            self._fail(number, error)

        handle = self._service.request_async(Method.BATCH_ESTIMATE, params, deliver, fail)
        if number == self._number:
            self._handle = handle

    def _fail(self, number: int, error: SamTuneError | CancelledByUser) -> None:
        if number == self._number and isinstance(error, SamTuneError):
            self._handle = None
            self.failed.emit(error.user_text)
