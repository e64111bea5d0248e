"""Long work as QGIS shows it: a task with progress and cancel whose result comes on the main thread."""

from __future__ import annotations

import traceback
from concurrent.futures import TimeoutError as NotYetError

from qgis.core import QgsFeedback, QgsTask, QgsTaskManager
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..engine.messages import Method
from ..models.errors import CancelledByUser, SamTuneError
from .engine_service import EngineService

_POLL_SECONDS = 0.05


class BaseTask(QgsTask):
    """A task that ends in exactly one of three ways, told by a signal on the main thread.

    Subclasses write :meth:`_run` and nothing else. Never touch layers, the project or widgets in there.

    Signals:
        succeeded: what :meth:`_run` returned.
        failed: a :class:`~samtune.models.errors.SamTuneError`.
        cancelled: nothing.
        message: what is being done, for the user.
        reported: fraction (0 to 1, or negative when unknown) and text, as they were reported.
    """

    succeeded = pyqtSignal(object)
    failed = pyqtSignal(object)
    cancelled = pyqtSignal()
    message = pyqtSignal(str)
    reported = pyqtSignal(float, str)

    def __init__(self, description: str) -> None:
        """Describe the task.

        Args:
            description: for QGIS's task list.
        """
        # The plugin says itself how work ended; QGIS would call a cancelled task a failed one.
        super().__init__(description, QgsTask.Flag.CanCancel | QgsTask.Flag.Silent)
        self._feedback = QgsFeedback()
        self._result: object = None
        self._error: SamTuneError | CancelledByUser | None = None
        self._told = False

    def _run(self, feedback: QgsFeedback) -> object:
        """Do the work, in a thread of QGIS's task manager.

        Args:
            feedback: ask ``isCanceled()`` often.

        Returns:
            The result.

        Raises:
            SamTuneError: it failed.
            CancelledByUser: it was cancelled.
        """
        raise NotImplementedError

    def run(self) -> bool:
        """Run :meth:`_run` and keep what came of it. Called by QGIS; closed to subclasses."""
        try:
            if self.isCanceled():
                raise CancelledByUser  # noqa: TRY301 - same end as a cancel from inside
            self._result = self._run(self._feedback)
        except (SamTuneError, CancelledByUser) as error:
            self._error = error
        except Exception as error:  # the task boundary: QGIS would lose it
            text = self.tr("Something unexpected happened ({error}). The log has the details.")
            self._error = SamTuneError(text.format(error=repr(error)[:200]), traceback.format_exc())
        return self._error is None

    def cancel(self) -> None:
        """Ask the work to stop. Called by QGIS and by anybody."""
        self._feedback.cancel()
        super().cancel()

    def finished(self, result: bool) -> None:  # noqa: FBT001 - QGIS's signature
        """Tell the outcome, on the main thread. Called by QGIS.

        Args:
            result: what :meth:`run` returned; False as well for a task cancelled before it ran.
        """
        if self._told:
            return
        self._told = True
        if result and not self.isCanceled():
            self.succeeded.emit(self._result)
        elif isinstance(self._error, SamTuneError):
            self.failed.emit(self._error)
        else:
            self.cancelled.emit()

    def report(self, fraction: float, text: str) -> None:
        """Show progress; may be called from any thread.

        Args:
            fraction: 0 to 1, or negative when unknown.
            text: what is being done.
        """
        if fraction >= 0:
            self.setProgress(100.0 * min(fraction, 1.0))
        if text:
            self.message.emit(text)
        self.reported.emit(fraction, text)


class EngineTask(BaseTask):
    """One long request to the engine that may wait its turn. The result is the method's result message.

    What answers a hand on the mouse does not come through here: QGIS's tasks share a few threads, and somebody else's
    may hold all of them for minutes (see :class:`~samtune.plugin.engine_requests.EngineRequests`).
    """

    def __init__(self, description: str, service: EngineService, method: Method, params: object = None) -> None:
        """Describe the request; it is sent when QGIS runs the task.

        Args:
            description: for QGIS's task list.
            service: the engine.
            method: what to ask.
            params: the method's message; None where it has none.
        """
        super().__init__(description)
        self._service = service
        self._method = method
        self._params = params

    def _run(self, feedback: QgsFeedback) -> object:
        pending = self._service.request(self._method, self._params, self.report)
        while True:
            if feedback.isCanceled():
                pending.cancel()
            try:
                return pending.result(_POLL_SECONDS)
            except NotYetError:
                continue


class TaskController(QObject):
    """Runs tasks and keeps them alive until they have ended: QGIS does not (QGIS #38583)."""

    def __init__(self, manager: QgsTaskManager, parent: QObject | None = None) -> None:
        """Take a task manager.

        Args:
            manager: normally ``QgsApplication.taskManager()``.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._manager = manager
        self._running: list[BaseTask] = []

    @property
    def running(self) -> tuple[BaseTask, ...]:
        """Return the tasks that have not ended."""
        return tuple(self._running)

    def submit(self, task: BaseTask) -> BaseTask:
        """Run a task. Connect to its signals before.

        Args:
            task: fresh.

        Returns:
            The same task.
        """
        self._running.append(task)
        for signal in (task.succeeded, task.failed, task.cancelled):
            signal.connect(lambda *_, done=task: self._forget(done))
        self._manager.addTask(task)
        return task

    def cancel_all(self) -> None:
        """Cancel what runs or waits."""
        for task in self.running:
            task.cancel()

    def _forget(self, task: BaseTask) -> None:
        if task in self._running:
            self._running.remove(task)
