"""Everything about batch jobs: an engine of their own, the controller, the dialog, the panel. Made by the workbench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qgis.PyQt.QtCore import QObject, Qt, QTimer, QUrl
from qgis.PyQt.QtGui import QDesktopServices

from ..engine.messages import Method
from ..models.errors import OutputError
from ..ui.batch_dialog import BatchDialog
from ..ui.batch_questions import BatchQuestions
from ..ui.job_panel import AT_WORK, JobPanel
from .batch_book import JobBook
from .batch_controller import BatchController
from .batch_order import BatchOrder
from .batch_planner import BatchPlanner
from .batch_results import show_results
from .engine_requests import EngineRequests
from .engine_service import EngineConfig, EngineService
from .latest_request import Handle, OnProgress, OnResult, OnServiceError, Service
from .session import NoticeLevel, Session
from .settings import PluginSettings

if TYPE_CHECKING:
    from .workbench import Surroundings

IDLE_MS = 60_000
"""So long an engine without a job keeps its memory."""


class FreeEngine:
    """Estimates go to the engine of the jobs while that is free, which then has the model ready for the job."""

    def __init__(self, controller: BatchController, own: Service, other: Service) -> None:
        """Keep the engines.

        Args:
            controller: knows whether a job runs.
            own: the engine of the jobs.
            other: the one for other long work.
        """
        self._controller = controller
        self._own = own
        self._other = other

    def request_async(
        self,
        method: Method,
        params: object,
        on_result: OnResult,
        on_error: OnServiceError,
        on_progress: OnProgress | None = None,
    ) -> Handle:
        """Send a request to the engine that is free."""
        service = self._other if self._controller.busy else self._own
        return service.request_async(method, params, on_result, on_error, on_progress)


class BatchDesk(QObject):
    """Made with the workbench; the dialog, the panel and the engine when they are first needed.

    Attributes:
        service: the engine of batch jobs: a job runs beside clicks and tuning, and its end is not theirs.
        controller: the jobs.
        planner: estimates.
        dialog: None until it is first opened.
        panel: None until it is first opened.
    """

    def __init__(
        self,
        session: Session,
        service: EngineService,
        other: Service,
        settings: PluginSettings,
        around: Surroundings,
        parent: QObject | None = None,
    ) -> None:
        """Take the records of former sessions.

        Args:
            session: the panel's choices, and notices.
            service: an engine that nobody else uses.
            other: sends requests to the engine for other long work.
            settings: the plugin's.
            around: what QGIS offers.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._settings = settings
        self._around = around
        self.service = service
        self._requests = EngineRequests(service, self)
        self.controller = BatchController(session, self._requests, JobBook(settings), self)
        self.planner = BatchPlanner(FreeEngine(self.controller, self._requests, other), self)
        self._questions = BatchQuestions(around.window, self)
        self.dialog: BatchDialog | None = None
        self.panel: JobPanel | None = None
        self._idle = QTimer(self)
        self._idle.setSingleShot(True)
        self._idle.setInterval(IDLE_MS)
        self._idle.timeout.connect(self._rest)
        self.controller.rested.connect(self._idle.start)
        self.controller.finished.connect(self._on_finished)

    def restore(self) -> None:
        """Offer the jobs that were interrupted, by a notice."""
        names = ", ".join(f"“{record.name}”" for record in self.controller.interrupted())
        if names:
            text = self.tr(
                "Batch jobs were interrupted: {names}. Resume them in the panel of batch jobs (menu SamTune)."
            )
            self._session.notify(NoticeLevel.WARNING, text.format(names=names))

    def open_dialog(self) -> BatchDialog:
        """Show the dialog, making it first if need be."""
        if self.dialog is None:
            around = self._around
            folder = Path(self._settings.output_folder.value() or around.project.homePath() or Path.home())
            self.dialog = BatchDialog(self._session, around.project, around.canvas, folder, around.window)
            self.dialog.ordered.connect(self._start)
            self.dialog.estimate_wanted.connect(self._on_estimate_wanted)
            self.dialog.panel_wanted.connect(self.open_panel)
            self.planner.estimated.connect(self.dialog.show_estimate)
            self.planner.failed.connect(self.dialog.show_failure)
        self.dialog.show()
        self.dialog.raise_()
        self.dialog.activateWindow()
        return self.dialog

    def open_panel(self) -> JobPanel:
        """Show the panel of jobs, making it first if need be."""
        if self.panel is None:
            self.panel = self._make_panel()
            self._around.add_dock(Qt.DockWidgetArea.BottomDockWidgetArea, self.panel)
        self.panel.setUserVisible(True)
        self._look(self.panel.path)
        return self.panel

    def configure(self, config: EngineConfig) -> None:
        """Take over changed settings. A job under way stops where they are others, and can be resumed."""
        self.service.configure(config)

    def stop(self) -> None:
        """Take everything down; for unloading. Jobs under way can be resumed in the next session."""
        self._idle.stop()
        self.planner.stop()
        self.controller.stop()
        self._requests.stop()
        self.service.shutdown()
        if self.dialog is not None:
            self.dialog.stop()
            self.dialog.deleteLater()
        if self.panel is not None:
            self._around.remove_dock(self.panel)
            self.panel.deleteLater()

    # --- wiring -----------------------------------------------------------------------------------------------------

    def _make_panel(self) -> JobPanel:
        panel, controller = JobPanel(self.controller, self._around.window), self.controller
        panel.new_wanted.connect(self.open_dialog)
        panel.add_wanted.connect(controller.add)
        panel.selected.connect(self._look)
        panel.pause_wanted.connect(controller.pause)
        panel.resume_wanted.connect(controller.resume)
        panel.resume_from_wanted.connect(lambda path, folder: controller.resume(path, root=folder))
        panel.elsewhere_wanted.connect(self._write_elsewhere)
        panel.forget_wanted.connect(self._forget)
        panel.open_wanted.connect(self._show)
        panel.log_wanted.connect(self._open_log)
        panel.folder_wanted.connect(lambda path: self._open_path(Path(path).parent))
        return panel

    def _start(self, order: BatchOrder) -> None:
        try:
            self.controller.start(order)
        except OutputError as error:
            self._session.notify(NoticeLevel.ERROR, error.user_text, error.details)
            return
        self._idle.stop()
        outputs = order.spec.outputs
        if outputs.vector or outputs.maps:
            self._settings.output_folder.setValue(str(Path(outputs.vector or outputs.maps).parent))
        if self.dialog is not None:
            self.dialog.ordered_well()
        self.open_panel().select(order.job)

    def _on_estimate_wanted(self, order: BatchOrder | None) -> None:
        if order is None:
            self.planner.cancel()
            self._idle.start()
        else:
            self._idle.stop()
            self.planner.ask(order)

    def _look(self, path: str) -> None:
        """Ask how a job stands that was not asked about in this session."""
        controller = self.controller
        record = controller.job(path)
        known = controller.status(path) is not None
        if record is not None and not known and controller.standing(record) not in AT_WORK:
            controller.look(path)
            self._idle.start()

    def _on_finished(self, path: str) -> None:
        record = self.controller.job(path)
        if record is not None and record.show:
            self._show(path)

    def _show(self, path: str) -> None:
        record, status = self.controller.job(path), self.controller.status(path)
        if record is None or status is None:
            return
        try:
            show_results(record, status, self._around.project)
        except OutputError as error:
            self._session.notify(NoticeLevel.WARNING, error.user_text, error.details)

    def _write_elsewhere(self, path: str) -> None:
        record = self.controller.job(path)
        outputs = self._questions.elsewhere(record) if record is not None else None
        if outputs is not None:
            self.controller.resume(path, outputs=outputs)

    def _forget(self, path: str) -> None:
        record = self.controller.job(path)
        if record is None:
            return
        yes, delete = self._questions.forget(record, running=self.controller.standing(record) in AT_WORK)
        if yes:
            self.controller.forget(path, delete=delete)

    def _open_log(self) -> None:
        info = self.service.last_info or self._session.engine_info
        if info is None or not info.log_file:
            self._session.notify(NoticeLevel.WARNING, self.tr("There is no log yet: the engine has not run."))
        else:
            self._open_path(Path(info.log_file))

    def _open_path(self, path: Path) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))

    def _rest(self) -> None:
        """Give back the memory of an engine that has nothing to do."""
        dialog = self.dialog
        if not self.controller.busy and (dialog is None or not dialog.isVisible()):
            self.service.stop()
