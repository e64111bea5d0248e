"""The fine-tune wizard's own state: choices, preparation, run, and what is kept of it. Pages are views of this."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

from qgis.core import QgsApplication, QgsFeedback, QgsProject
from qgis.PyQt.QtCore import QCoreApplication, QObject, QTimer, pyqtSignal

from ..engine.messages import AdapterReport, Method
from ..engine.tune_messages import KeepAdapterParams, TuneTask
from ..models.errors import OutputError, SamTuneError
from .latest_request import LatestRequest, Service
from .session import NoticeLevel, Session
from .tasks import BaseTask, TaskController
from .tune_draft import TuneDraft
from .tune_preparer import TunePreparer
from .tune_runner import RunStage, TuneRunner
from .tune_runs import LIVE_SECONDS, RECORD, KeptRun, discard, kept_runs, new_run_folder, run_title, was_kept

BETTER = "better"


class TuneController(QObject):
    """Puts the parts together, gives each run a folder, and offers those that were interrupted or not kept.

    Attributes:
        draft: the choices.
        preparer: what there is to learn from, and what it would take.
        runner: the run.
        use_anyway: the user wants an adapter in use that is not shown to be better.
        keeping: whether the adapter is being put into its folder.
        keep_problem: why it could not be.

    Signals:
        runs_changed: there are others to offer.
        keep_changed: the last three have changed.
        kept: an AdapterReport; the adapter is in the list.
    """

    runs_changed = pyqtSignal()
    keep_changed = pyqtSignal()
    kept = pyqtSignal(object)

    def __init__(
        self,
        session: Session,
        work: Service,
        project: QgsProject,
        adapters: Callable[[], Path],
        use_adapter: Callable[[str], None],
        parent: QObject | None = None,
    ) -> None:
        """Begin with nothing chosen.

        Args:
            session: the panel's state.
            work: sends requests to the engine for long work.
            project: where the layers are.
            adapters: gives the folder of adapters, as the settings are now; runs lie beside it.
            use_adapter: lists the folder of adapters anew, and uses the one of this path; of an empty one, none.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self._adapters = adapters
        self._use_adapter = use_adapter
        self._folder: Path | None = None
        self._put_off: set[Path] = set()
        self._begun: set[Path] = set()
        self._look_again = QTimer(self)
        self._look_again.setSingleShot(True)
        self._look_again.setInterval(LIVE_SECONDS * 1000)
        self._look_again.timeout.connect(self.runs_changed)
        self._tasks = TaskController(QgsApplication.taskManager(), self)
        self._keep = LatestRequest(work, session, "tune-keep")
        self.draft = TuneDraft(project, self)
        self.preparer = TunePreparer(session, work, self.draft, self.folder, project, self)
        self.runner = TuneRunner(work, self)
        self.use_anyway = self.keeping = False
        self.keep_problem = ""
        self.runner.stage_changed.connect(self._on_stage)

    @property
    def runs_folder(self) -> Path:
        """Return the folder of all runs."""
        return self._adapters().parent / "runs"

    def folder(self) -> Path:
        """Return the folder of the run to come."""
        if self._folder is None:
            self._folder = new_run_folder(self.runs_folder, self.name())
        return self._folder

    def name(self) -> str:
        """Return a name for what is being learnt: its class, or the layer that the polygons come from."""
        names = [choice.class_name for choice in self.draft.labels if not choice.class_field]
        layers = [self.draft.polygon_layer(choice.layer) for choice in self.draft.labels]
        return next((name for name in [*names, *(layer.name() for layer in layers if layer is not None)] if name), "")

    def begin(self) -> None:
        """Start choosing: take over what the panel works on, and look at it."""
        session, draft = self._session, self.draft
        draft.set_model(session.model)
        raster = session.layer if not session.layer_problem else None
        draft.start_with(raster, session.bands if raster is not None else (), session.target)
        self.preparer.begin()
        self.runs_changed.emit()

    # --- runs -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the run as it is chosen, in a folder of its own.

        Raises:
            SamTuneError: there is nothing to learn from.
        """
        params = self.preparer.params()
        self.preparer.pause()
        self.use_anyway, self.keep_problem = False, ""
        self._begun.add(Path(params.folder))
        self.runner.start(params)

    def resume(self, run: KeptRun) -> None:
        """Go on with a run that was interrupted; of one that is finished, with what came of it."""
        self.preparer.pause()
        self.use_anyway, self.keep_problem = False, ""
        self._begun.add(run.folder)
        if run.report is None:
            self.runner.start(run.params, resume=True)
        else:
            self.runner.take(run.params, run.report)

    def choose_anew(self) -> None:
        """Go back to the choices after a run; the next one gets another folder."""
        if self.runner.params is not None and self.runner.report is not None:
            self._put_off.add(Path(self.runner.params.folder))
        self._folder = None
        self._keep.cancel()
        self.keeping, self.keep_problem = False, ""
        self.runner.clear()
        self.preparer.begin()
        self.runs_changed.emit()

    def offered(self) -> tuple[KeptRun, ...]:
        """Return the runs that can be gone on with or kept, newest first; but that in the wizard and those put off.

        A run that was not begun here and whose record is fresh is taken to be under way in another QGIS; should it have
        died, :attr:`runs_changed` tells of it once the record is older.
        """
        own = self.runner.params.folder if self.runner.params is not None else ""
        runs = [
            run for run in kept_runs(self.runs_folder) if str(run.folder) != own and run.folder not in self._put_off
        ]
        elsewhere = {run.folder for run in runs if run.live and run.folder not in self._begun}
        if elsewhere and not self._look_again.isActive():
            self._look_again.start()
        return tuple(run for run in runs if run.folder not in elsewhere)

    def put_off(self, run: KeptRun) -> None:
        """Offer a run no more before QGIS is started anew."""
        self._put_off.add(run.folder)
        self.runs_changed.emit()

    def discard(self, run: KeptRun) -> None:
        """Delete what a run has left."""
        self._put_off.add(run.folder)
        task = _DiscardTask(run.folder, self.runs_folder)
        task.failed.connect(lambda error: self._session.notify(NoticeLevel.WARNING, error.user_text, error.details))
        self._tasks.submit(task)
        self.runs_changed.emit()

    def _on_stage(self) -> None:
        runner, session = self.runner, self._session
        if runner.stage is RunStage.DONE and runner.report is not None:
            text = self.tr("Teaching “{name}” is done: {sentence}")
            session.notify(NoticeLevel.SUCCESS, text.format(name=self.run_name(), sentence=runner.report.sentence))
        elif runner.stage is RunStage.BROKEN and runner.error is not None:
            text = self.tr("Teaching “{name}” was interrupted: {reason}")
            reason = runner.error.user_text
            session.notify(NoticeLevel.ERROR, text.format(name=self.run_name(), reason=reason), runner.error.details)

    def run_name(self) -> str:
        """Return the name of the run under way."""
        if self.runner.params is None:
            return self.name()
        return run_title(Path(self.runner.params.folder))

    # --- keeping ----------------------------------------------------------------------------------------------------

    @property
    def in_use(self) -> bool:
        """Return whether the adapter is taken into use when it is kept."""
        report = self.runner.report
        return report is not None and (report.verdict == BETTER or self.use_anyway)

    def set_use_anyway(self, wanted: bool) -> None:  # noqa: FBT001 - also a signal's slot
        """Say whether an adapter that is not shown to be better is to be used."""
        self.use_anyway = wanted
        self.keep_changed.emit()

    def is_taken(self, name: str) -> bool:
        """Tell whether an adapter of the list has a name already."""
        return any(known.name == name.strip() for known in self._session.adapters.of_base(self._model))

    @property
    def _model(self) -> str:
        return self.runner.params.inputs.model if self.runner.params is not None else self.draft.model

    def keep(self, name: str, notes: str) -> None:
        """Put the adapter into the folder of adapters; :attr:`kept` tells when it is there.

        Args:
            name: for its card and its file.
            notes: for its card.
        """
        report = self.runner.report
        if report is None or self.keeping:
            return
        self.keeping, self.keep_problem = True, ""
        params = KeepAdapterParams(report.adapter, name.strip(), notes.strip(), str(self._adapters()), self._model)
        self._keep.send(Method.KEEP_ADAPTER, params, self._on_kept, self._on_not_kept)
        self.keep_changed.emit()

    def _on_kept(self, result: object) -> None:
        report = cast("AdapterReport", result)
        self.keeping = False
        if self.in_use:
            self._session.set_model(self._model)
        self._use_adapter(report.path if self.in_use else "")
        text = self.tr("The adapter “{name}” is in your list. {next}")
        self._session.notify(NoticeLevel.SUCCESS, text.format(name=report.name, next=self.next_step()).strip())
        self._offer_no_more()
        self._folder = None
        self.runner.clear()
        self.keep_changed.emit()
        self.kept.emit(report)

    def _offer_no_more(self) -> None:
        if self.runner.report is None:
            return
        folder = Path(self.runner.report.folder)
        self._put_off.add(folder)
        try:
            was_kept(folder)
        except OutputError as error:
            self._session.notify(NoticeLevel.WARNING, error.user_text, error.details)

    def _on_not_kept(self, error: SamTuneError) -> None:
        self.keeping, self.keep_problem = False, error.user_text
        self.keep_changed.emit()

    def next_step(self) -> str:
        """Say what to do with the adapter next."""
        task = self.runner.params.task if self.runner.params is not None else self.draft.task
        if task is TuneTask.INSTANCES:
            return self.tr("Use “Find all…” of the SamTune panel to find them on the whole map or in an area.")
        if task is TuneTask.SEMANTIC:
            return self.tr("Use “Class map…” of the SamTune panel to map the whole raster or an area.")
        return self.tr("Click objects with it as before.") if self.in_use else ""

    # --- the end ----------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """The wizard is closed: look at nothing any more. A run under way goes on."""
        self.preparer.pause()
        folder = self._folder
        own = self.runner.params.folder if self.runner.params is not None else ""
        if folder is not None and str(folder) != own and not (folder / RECORD).exists():
            self._folder = None
            shutil.rmtree(folder, ignore_errors=True)  # a few polygons; what is still open is left lying

    def stop(self) -> None:
        """Listen no more; for unloading."""
        self._look_again.stop()
        self.leave()
        self._keep.cancel()
        self.runner.stop()
        self.draft.stop()


class _DiscardTask(BaseTask):
    """Delete a run's folder, which may be large."""

    def __init__(self, run: Path, runs: Path) -> None:
        super().__init__(QCoreApplication.translate("TuneController", "SamTune: delete a run"))
        self._run_folder = run
        self._runs = runs

    def _run(self, _feedback: QgsFeedback) -> object:
        discard(self._run_folder, self._runs)
        return None
