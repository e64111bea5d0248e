"""Batch jobs: starts, pauses, resumes and forgets them, and keeps what is known of each.

One job runs at a time, the others wait for their turn here: QGIS's tasks share a few threads, and the model computes
one thing at a time anyway. The job file is the truth; the records only say where the files are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from ..engine.batch_messages import (
    BatchOutputs,
    BatchResult,
    BatchRunParams,
    BatchSpec,
    BatchState,
    BatchStatus,
    BatchStatusParams,
    BatchTask,
    VectorSource,
)
from ..engine.messages import Method
from ..models.errors import (
    CancelledByUser,
    DeadlineError,
    EngineDiedError,
    EngineStartError,
    EnvironmentMissingError,
    OutputError,
    SamTuneError,
)
from .batch_book import JobBook, JobRecord
from .batch_features import WriteFeaturesTask
from .batch_order import BatchOrder
from .batch_texts import Standing, summary_sentence
from .latest_request import Handle, Service
from .session import NoticeLevel, Session
from .tasks import TaskController

POLL_MS = 2000

AT_WORK = (BatchState.RUNNING, BatchState.WRITING)
ENGINE_GONE = (DeadlineError, EngineDiedError, EngineStartError, EnvironmentMissingError)
"""Errors after which there is no engine to ask how the job is doing."""


@dataclass
class Run:
    """A job that runs, or waits for its turn.

    Attributes:
        params: what is asked of the engine; None while features are written for it.
        handle: to cancel with; None while it waits.
        text: what the engine says it is at.
    """

    path: str
    params: BatchRunParams | None = None
    handle: Handle | None = None
    text: str = ""


class BatchController(QObject):
    """All jobs known, and what is done with them.

    Signals:
        listed: jobs were added or removed.
        changed: something is new about a job, by its path.
        finished: a job ended well, by its path; its status has the outputs.
        rested: nothing runs or waits any more.
    """

    listed = pyqtSignal()
    changed = pyqtSignal(str)
    finished = pyqtSignal(str)
    rested = pyqtSignal()

    def __init__(self, session: Session, service: Service, book: JobBook, parent: QObject | None = None) -> None:
        """Take the records.

        Args:
            session: gets notices.
            service: sends requests to the engine of batch jobs.
            book: the records.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._service = service
        self._book = book
        self._statuses: dict[str, BatchStatus] = {}
        self._unmade: dict[str, BatchRunParams] = {}
        self._doomed: set[str] = set()
        self._runs: list[Run] = []
        self._asking = False
        self._tasks = TaskController(QgsApplication.taskManager(), self)
        self._poll = QTimer(self)
        self._poll.setInterval(POLL_MS)
        self._poll.timeout.connect(self._look_at_running)

    # --- what is known ----------------------------------------------------------------------------------------------

    @property
    def jobs(self) -> tuple[JobRecord, ...]:
        """Return all jobs, the newest first."""
        return self._book.records

    @property
    def busy(self) -> bool:
        """Return whether a job runs or waits for its turn."""
        return bool(self._runs)

    def job(self, path: str) -> JobRecord | None:
        """Return what is remembered of a job."""
        return self._book.find(path)

    def status(self, path: str) -> BatchStatus | None:
        """Return what the engine last said of a job; None where it was not asked in this session."""
        return self._statuses.get(path)

    def doing(self, path: str) -> str:
        """Return what the engine says it is at with a running job; empty for others."""
        run = self._run_of(path)
        return run.text if run is not None else ""

    def standing(self, record: JobRecord) -> Standing:
        """Return where a job is."""
        run = self._run_of(record.path)
        if run is not None:
            if run.handle is None or record.state not in AT_WORK:
                return Standing.PREPARING
            return Standing.WRITING if record.state is BatchState.WRITING else Standing.RUNNING
        if not Path(record.path).exists() and record.path not in self._unmade:
            return Standing.MISSING
        if record.state in AT_WORK:
            return Standing.INTERRUPTED
        if record.problem:
            return Standing.STOPPED
        return Standing.FINISHED if record.state is BatchState.FINISHED else Standing.PAUSED

    def interrupted(self) -> tuple[JobRecord, ...]:
        """Return the jobs that were running when QGIS or its engine ended."""
        return tuple(record for record in self.jobs if self.standing(record) is Standing.INTERRUPTED)

    # --- what is done -----------------------------------------------------------------------------------------------

    def start(self, order: BatchOrder) -> None:
        """Make a job and begin with it, or have it wait for its turn.

        Args:
            order: the job.

        Raises:
            OutputError: there is such a job file already.
        """
        if Path(order.job).exists() or self._run_of(order.job) is not None:
            text = self.tr("The job file {name} exists already. Resume it in the job panel, or choose another name.")
            raise OutputError(text.format(name=Path(order.job).name), order.job)
        spec = order.spec
        self._statuses.pop(order.job, None)
        self._book.add(JobRecord(order.job, spec.task, adapter=spec.adapter, outputs=spec.outputs, show=order.show))
        run = Run(order.job)
        self._runs.append(run)
        self.listed.emit()
        wanted = order.files(Path(order.job).parent, Path(order.job).stem)
        if not wanted:
            self._queue(run, BatchRunParams(order.job, order.with_files(())))
            return
        task = WriteFeaturesTask(self.tr("SamTune: write the features of a batch job"), wanted)
        task.succeeded.connect(lambda files: self._queue(run, BatchRunParams(order.job, _spec(order, files))))
        task.failed.connect(lambda error: self._on_error(run, error))
        task.cancelled.connect(lambda: self._on_error(run, CancelledByUser()))
        run.handle = task
        self._tasks.submit(task)

    def resume(self, path: str, outputs: BatchOutputs | None = None, root: str = "") -> None:
        """Go on with a job; of a finished one the outputs are made again.

        Args:
            path: of the job file.
            outputs: to write in place of the ones that the job names.
            root: folder where the rasters are now.
        """
        record = self._book.find(path)
        if record is None or self._run_of(path) is not None:
            return
        again = self._unmade.get(path)
        params = BatchRunParams(path, None, outputs, root)
        if again is not None and again.spec is not None and not Path(path).exists():
            params = replace(again, spec=replace(again.spec, outputs=outputs or again.spec.outputs))
        if outputs is not None:
            self._book.update(replace(record, outputs=outputs))
        run = Run(path)
        self._runs.append(run)
        self._queue(run, params)

    def pause(self, path: str) -> None:
        """Stop a job after what it is at; it can be resumed."""
        run = self._run_of(path)
        if run is not None and run.handle is not None:
            run.handle.cancel()
        elif run is not None:
            self._on_error(run, CancelledByUser())

    def add(self, path: str) -> None:
        """Take a job file into the list, for instance one that was moved here; a record of its old place goes.

        Args:
            path: of the job file.
        """
        if self._book.find(path) is None:
            self._book.add(JobRecord(path, BatchTask.PROMPTS))
            for record in self.jobs:
                if Path(record.path).name == Path(path).name and self.standing(record) is Standing.MISSING:
                    self._book.remove(record.path)
                    self._book.update(replace(record, path=path))
            self.listed.emit()
        self.look(path)

    def forget(self, path: str, *, delete: bool = False) -> None:
        """Take a job out of the list, pausing it first.

        Args:
            path: of the job file.
            delete: delete that too, with all that the job has done; the outputs written stay.
        """
        if delete:
            self._doomed.add(path)  # once nothing works on it
        self._book.remove(path)
        self._statuses.pop(path, None)
        self._unmade.pop(path, None)
        self.pause(path)
        self.listed.emit()
        if self._run_of(path) is None:
            self._delete_doomed(path)

    def look(self, path: str) -> None:
        """Ask the engine how a job is doing that does not run here."""
        if not Path(path).exists():
            self.changed.emit(path)
            return

        def fail(error: SamTuneError | CancelledByUser) -> None:
            record = self._book.find(path)
            if isinstance(error, SamTuneError) and record is not None and not record.problem:
                self._book.update(replace(record, problem=error.user_text))
                self.changed.emit(path)

        self._ask(path, fail)

    def stop(self) -> None:
        """Stop what runs; for unloading. What is done is in the job files, and the jobs are offered next time."""
        self._poll.stop()
        runs, self._runs = self._runs, []
        for run in runs:
            if run.handle is not None:
                run.handle.cancel()
        self._tasks.cancel_all()

    # --- the queue --------------------------------------------------------------------------------------------------

    def _run_of(self, path: str) -> Run | None:
        return next((run for run in self._runs if run.path == path), None)

    def _queue(self, run: Run, params: BatchRunParams) -> None:
        run.params, run.handle = params, None
        record = self._book.find(run.path)
        if record is not None:
            self._book.update(replace(record, problem=""))
        if params.spec is not None:
            self._unmade[run.path] = params
        self._advance()
        self.changed.emit(run.path)

    def _advance(self) -> None:
        """Begin with the first job that is ready, where none runs."""
        ready = [run for run in self._runs if run.params is not None]
        if not ready:
            self._poll.stop()
            if not self._runs:
                self.rested.emit()
            return
        run = ready[0]
        if run.handle is None:
            self._mark(run.path, BatchState.RUNNING)
            run.handle = self._service.request_async(
                Method.BATCH_RUN,
                run.params,
                lambda result: self._on_result(run, cast("BatchResult", result)),
                lambda error: self._on_error(run, error),
                lambda _share, text: self._on_progress(run, text),
            )
            self._poll.start()

    def _on_progress(self, run: Run, text: str) -> None:
        if text and text != run.text and run in self._runs:
            run.text = text
            self.changed.emit(run.path)

    def _on_result(self, run: Run, result: BatchResult) -> None:
        self._end(run)
        self._learn(run.path, result.status)
        record = self._book.find(run.path)
        if record is not None:
            text = self.tr("Batch job “{name}”: {summary}")
            self._session.notify(
                NoticeLevel.SUCCESS, text.format(name=record.name, summary=summary_sentence(result.status))
            )
            self.finished.emit(run.path)

    def _on_error(self, run: Run, error: SamTuneError | CancelledByUser) -> None:
        if run not in self._runs:
            return
        self._end(run)
        record = self._book.find(run.path)
        if record is None:
            return
        if isinstance(error, SamTuneError):
            self._tell(record, error)
        else:
            self._mark(run.path, BatchState.WAITING)
        if not isinstance(error, ENGINE_GONE):
            self.look(run.path)

    def _tell(self, record: JobRecord, error: SamTuneError) -> None:
        """Say why a job ended early, and that nothing is lost."""
        lines = [error.user_text]
        if Path(record.path).exists():
            lines.append(self.tr("What was done is kept in the job file; resume it when the cause is gone."))
        text = " ".join(lines)
        state = record.state if isinstance(error, ENGINE_GONE) else BatchState.WAITING
        self._book.update(replace(record, problem=text, state=state))
        shown = self.tr("Batch job “{name}”: {problem}").format(name=record.name, problem=text)
        self._session.notify(NoticeLevel.ERROR, shown, f"{error.kind}: {error.details}")
        self.changed.emit(record.path)

    def _end(self, run: Run) -> None:
        if run in self._runs:
            self._runs.remove(run)
        if Path(run.path).exists():
            self._unmade.pop(run.path, None)
        status = self._statuses.get(run.path)
        if status is not None:
            self._statuses[run.path] = replace(status, rate=0.0, seconds_left=-1.0)
        self._delete_doomed(run.path)
        self._advance()

    # --- how it is doing --------------------------------------------------------------------------------------------

    def _look_at_running(self) -> None:
        run = next((run for run in self._runs if run.params is not None and run.handle is not None), None)
        if run is not None and not self._asking and Path(run.path).exists():
            self._asking = True
            self._ask(run.path, lambda _error: None)  # what keeps it from answering ends the run, which says so

    def _ask(self, path: str, on_error: Callable[[SamTuneError | CancelledByUser], None]) -> None:
        def deliver(result: object) -> None:
            self._asking = False
            self._learn(path, cast("BatchStatus", result))

        def fail(error: SamTuneError | CancelledByUser) -> None:
            self._asking = False
            on_error(error)

        self._service.request_async(Method.BATCH_STATUS, BatchStatusParams(path), deliver, fail)

    def _learn(self, path: str, status: BatchStatus) -> None:
        record = self._book.find(path)
        if record is not None:
            self._statuses[path] = status
            self._book.update(record.with_status(status))
            self.changed.emit(path)

    def _mark(self, path: str, state: BatchState) -> None:
        record = self._book.find(path)
        if record is not None and record.state is not state:
            self._book.update(replace(record, state=state))
            self.changed.emit(path)

    def _delete_doomed(self, job: str) -> None:
        """Delete a job file and the features that were written for it, where the user has said so."""
        if job not in self._doomed:
            return
        self._doomed.discard(job)
        path = Path(job)
        files = [path, *(path.with_name(f"{path.stem}.{name}.gpkg") for name in ("prompts", "area"))]
        try:
            for file in files:
                file.unlink(missing_ok=True)
        except OSError as error:
            text = self.tr("{name} cannot be deleted: {reason}. Delete it yourself.")
            self._session.notify(
                NoticeLevel.WARNING, text.format(name=path.name, reason=error.strerror or error), str(path)
            )


def _spec(order: BatchOrder, files: object) -> BatchSpec:
    return order.with_files(cast("tuple[VectorSource, ...]", files))
