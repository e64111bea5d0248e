"""Before a run: what there is to learn from, and what learning it would take. Asked anew whenever a choice changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from qgis.core import QgsApplication, QgsProject
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from ..engine.messages import Method
from ..engine.tune_messages import Inspection, InspectParams, PlanParams, TuneInputs, TuneParams, TunePlan
from ..models.errors import SamTuneError, TuningError
from .latest_request import LatestRequest, Service
from .layers import source_uri, unusable_reason
from .session import Session
from .tasks import TaskController
from .tune_draft import TuneDraft
from .tune_labels import WriteLabelsTask, WrittenLabels, plan_labels

SETTLE_MS = 400
ADAPTER_FILE = "adapter.safetensors"


class TunePreparer(QObject):
    """Keeps inspection and plan to the draft: writes the polygons, has the engine look at them, has a run estimated.

    Attributes:
        labels: what was written last; None while there is nothing that holds.
        inspection: what there is to learn from; of before while ``inspecting``.
        problem: why there is nothing to learn from, for the user; empty when there is.
        inspecting: whether an answer is awaited.
        plan: what a run would take; None while that is not known.
        plan_problem: why it could not be found out.
        planning: whether an answer is awaited.

    Signals:
        inspected: the first four have changed.
        planned: the others have.
    """

    inspected = pyqtSignal()
    planned = pyqtSignal()

    def __init__(
        self,
        session: Session,
        work: Service,
        draft: TuneDraft,
        folder: Callable[[], Path],
        project: QgsProject,
        parent: QObject | None = None,
    ) -> None:
        """Listen to the draft; nothing is asked before :meth:`begin`.

        Args:
            session: the state; nothing of it is changed.
            work: sends requests to the engine for long work.
            draft: the choices.
            folder: gives the folder of the run to come.
            project: gives the datum transformations.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._draft = draft
        self._folder = folder
        self._project = project
        self._inspect = LatestRequest(work, session, "tune-inspect")
        self._plan = LatestRequest(work, session, "tune-plan")
        self._tasks = TaskController(QgsApplication.taskManager(), self)
        self._number = 0
        self._active = self._plan_wanted = False
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self._write)
        self._settle_plan = QTimer(self)
        self._settle_plan.setSingleShot(True)
        self._settle_plan.setInterval(SETTLE_MS)
        self._settle_plan.timeout.connect(self._send_plan)
        self._clear()
        draft.inputs_changed.connect(self._on_inputs)
        draft.method_changed.connect(self._on_method)

    def _clear(self) -> None:
        self.labels: WrittenLabels | None = None
        self.inspection: Inspection | None = None
        self.problem, self.inspecting = "", False
        self.plan: TunePlan | None = None
        self.plan_problem, self.planning = "", False

    @property
    def ready(self) -> bool:
        """Return whether there is something to learn from, as the choices are now."""
        return self.labels is not None and self.inspection is not None and not self.inspecting and not self.problem

    def begin(self) -> None:
        """Look, and from now on after each change."""
        self._active = True
        self._on_inputs()

    def pause(self) -> None:
        """Look no more until :meth:`begin`: a run is under way, or nobody is there to see it."""
        self._active = self._plan_wanted = False
        self._settle.stop()
        self._settle_plan.stop()
        self._tasks.cancel_all()
        self._number += 1
        self._inspect.cancel()
        self._plan.cancel()
        self.inspecting = self.planning = False

    def want_plan(self, wanted: bool) -> None:  # noqa: FBT001 - as Qt's setters
        """Have runs estimated, or not; that takes seconds of the engine's time."""
        self._plan_wanted = wanted
        if wanted and self.plan is None and not self.planning:
            self._on_method()

    def params(self) -> TuneParams:
        """Return the run as it is chosen.

        Raises:
            TuningError: there is nothing to learn from.
        """
        if self.labels is None:
            raise TuningError(self.tr("The polygons have not been looked at yet. Wait a moment."))
        draft, method, folder = self._draft, self._draft.method, self._folder()
        return TuneParams(
            inputs=self._inputs(self.labels),
            task=draft.task,
            output=str(folder / ADAPTER_FILE),
            folder=str(folder),
            methods=method.methods,
            options=method.options,
            steps=method.steps,
            hold_out=method.hold_out,
            seed=method.seed,
            keep_general=method.keep_general,
            previous=method.previous,
        )

    def _inputs(self, labels: WrittenLabels) -> TuneInputs:
        draft, second = self._draft, self._draft.second_layer()
        layers = draft.raster_layers()
        if not layers:
            raise TuningError(self.tr("Choose the raster layer that shows your objects."))
        for layer in layers if second is None else [*layers, second]:
            reason = unusable_reason(layer)
            if reason:
                raise TuningError(reason)
        return TuneInputs(
            rasters=tuple(source_uri(layer) for layer in layers),
            labels=labels.source,
            rgb=draft.rgb,
            further=draft.further,
            second=source_uri(second) if second is not None else "",
            extent=labels.extent,
            level=draft.level,
            model=draft.model,
        )

    # --- what there is ----------------------------------------------------------------------------------------------

    def _on_inputs(self) -> None:
        if not self._active:
            return
        self._number += 1
        self._inspect.cancel()
        self._forget_plan()
        self.inspecting = True
        self._settle.start()
        self.inspected.emit()

    def _write(self) -> None:
        self._number += 1
        number, folder = self._number, self._folder()
        files = folder / f"labels-{number}.gpkg", folder / f"extent-{number}.gpkg"
        try:
            plan = plan_labels(self._draft, self._project, *files)
        except SamTuneError as error:
            self._on_problem(error)
            return
        self._tasks.cancel_all()
        task = WriteLabelsTask(plan)
        task.succeeded.connect(lambda written: self._ask(written) if number == self._number else None)
        task.failed.connect(lambda error: self._on_problem(error) if number == self._number else None)
        self._tasks.submit(task)

    def _ask(self, written: WrittenLabels) -> None:
        method = self._draft.method
        try:
            inputs = self._inputs(written)
        except SamTuneError as error:
            self._on_problem(error)
            return
        params = InspectParams(inputs, self._draft.task, method.hold_out, method.seed)

        def show(result: object) -> None:
            self.labels, self.inspection = written, cast("Inspection", result)
            self.problem, self.inspecting = self.inspection.problem, False
            self._remove_older(written)
            self.inspected.emit()
            if self._plan_wanted:
                self._on_method()

        self._inspect.send(Method.TUNE_INSPECT, params, show, self._on_problem)

    def _on_problem(self, error: SamTuneError) -> None:
        self.labels, self.inspection = None, None
        self.problem, self.inspecting = error.user_text, False
        self.inspected.emit()

    def _remove_older(self, written: WrittenLabels) -> None:
        """Delete what was written before; a file that is still open somewhere goes with the next one, or the folder."""
        kept = {Path(written.source.path), Path(written.extent)}
        for path in [*self._folder().glob("labels-*.gpkg*"), *self._folder().glob("extent-*.gpkg*")]:
            if path not in kept:
                try:
                    path.unlink()
                except OSError:
                    continue

    # --- what it would take -----------------------------------------------------------------------------------------

    def _forget_plan(self) -> None:
        self._settle_plan.stop()
        self._plan.cancel()
        if self.plan is not None or self.planning or self.plan_problem:
            self.plan, self.plan_problem, self.planning = None, "", False
            self.planned.emit()

    def _on_method(self) -> None:
        """The plan known is of other choices; its rungs are shown until there is a new one."""
        self._plan.cancel()
        self.plan_problem = ""
        if not (self._active and self._plan_wanted and self.ready):
            self._forget_plan()
            return
        self.planning = True
        self._settle_plan.start()
        self.planned.emit()

    def _send_plan(self) -> None:
        """Ask for the ways that there are, which is answered at once; then for what the chosen one takes."""
        try:
            run = self.params()
        except SamTuneError as error:
            self._on_no_plan(error)
            return

        def show(result: object) -> None:
            self.plan, self.planning = cast("TunePlan", result), False
            self.planned.emit()

        def measure(result: object) -> None:
            self.plan = cast("TunePlan", result)
            if self.plan.problem:
                show(result)
                return
            self.planned.emit()
            self._plan.send(Method.TUNE_PLAN, PlanParams(run), show, self._on_no_plan)

        self._plan.send(Method.TUNE_PLAN, PlanParams(run, measure=False), measure, self._on_no_plan)

    def _on_no_plan(self, error: SamTuneError) -> None:
        self.plan, self.planning, self.plan_problem = None, False, error.user_text
        self.planned.emit()
