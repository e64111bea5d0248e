"""The panel of batch jobs, and the desk that connects it with the dialog, the jobs and the project."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtTest import QSignalSpy
from qgis.PyQt.QtWidgets import QApplication, QFileDialog, QMessageBox
from samtune.engine.batch_messages import (
    BatchOutputs,
    BatchResult,
    BatchState,
    BatchStatus,
    BatchTask,
    RasterProgress,
)
from samtune.engine.messages import Method
from samtune.models.errors import CancelledByUser
from samtune.plugin.batch_book import JobBook, JobRecord
from samtune.plugin.batch_controller import BatchController
from samtune.plugin.batch_desk import BatchDesk, FreeEngine
from samtune.plugin.engine_service import EngineService
from samtune.plugin.session import NoticeLevel, Session
from samtune.plugin.settings import PluginSettings
from samtune.ui.job_panel import JobPanel
from samtune.ui.job_rasters import NAME, OBJECTS, PROGRESS, REMARK
from samtune.ui.progress_delegate import SHARE_ROLE
from samtune_test_engine_helpers import fake_config, wait_until
from samtune_test_support import ScriptedService, Window, spin

RASTERS = (
    RasterProgress("a.tif", BatchState.FINISHED, 40, 40, skipped=3, objects=12),
    RasterProgress("b.tif", BatchState.RUNNING, 40, 10, objects=4),
    RasterProgress("c.tif", BatchState.FAILED, problem="it has no CRS"),
)


def status(job: Path, state: BatchState = BatchState.RUNNING, **changes: object) -> BatchStatus:
    made = BatchStatus(str(job), BatchTask.FIND, state, 9, 5, 80, 50, 16, 2.5, 240.0, RASTERS, notes=("Mind the sea.",))
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def controller(service: ScriptedService, settings: PluginSettings, session: Session) -> Iterator[BatchController]:
    made = BatchController(session, service, JobBook(settings))
    yield made
    made.stop()


@pytest.fixture
def panel(controller: BatchController) -> Iterator[JobPanel]:
    made = JobPanel(controller)
    made.resize(900, 300)
    made.show()
    spin(5)
    yield made
    made.deleteLater()
    spin(5)


def add(controller: BatchController, job: Path, **values: object) -> str:
    """Put a job with a file into the list."""
    job.write_text("x")
    controller._book.add(JobRecord(str(job), BatchTask.FIND, **values))  # type: ignore[arg-type]
    controller.listed.emit()
    return str(job)


def buttons(panel: JobPanel) -> tuple[bool, bool, bool]:
    return panel.pause_button.isEnabled(), panel.resume_button.isEnabled(), panel.open_button.isEnabled()


def cells(panel: JobPanel) -> list[list[str]]:
    model = panel.table.model()
    return [
        [str(model.index(row, column).data() or "") for column in range(REMARK + 1)] for row in range(model.rowCount())
    ]


def test_without_jobs_it_says_what_to_do(panel: JobPanel) -> None:
    assert "“New…” makes one" in panel.state_label.text()
    assert buttons(panel) == (False, False, False)
    new = QSignalSpy(panel.new_wanted)
    panel.new_button.click()
    assert len(new) == 1


def test_a_running_job_raster_by_raster(
    panel: JobPanel, controller: BatchController, service: ScriptedService, tmp_path: Path
) -> None:
    path = add(controller, tmp_path / "east.samjob")
    controller.resume(path)
    controller._learn(path, status(tmp_path / "east.samjob"))
    text = panel.state_label.text()
    assert "east — Find all objects: running" in text
    assert "50 of 80 tiles · 16 objects · 2.5 tiles/s · 4 min left" in text
    assert "Mind the sea." in text
    assert cells(panel) == [
        ["c.tif", "failed", "", "it has no CRS"],
        ["b.tif", "10 / 40", "4", ""],
        ["a.tif", "40 / 40", "12", "3 without data"],
    ]
    assert panel.table.model().index(1, PROGRESS).data(SHARE_ROLE) == pytest.approx(0.25)
    assert panel.list.topLevelItem(0).text(2) == "running"
    assert panel.list.topLevelItem(0).data(1, SHARE_ROLE) == pytest.approx(50 / 80)
    assert buttons(panel) == (True, False, False)
    service.last(Method.BATCH_RUN).on_progress(0.5, "Encoding b.tif")
    assert panel.state_label.text().endswith("\nEncoding b.tif")
    further = replace(RASTERS[1], done=20, objects=9)
    controller._learn(path, replace(status(tmp_path / "east.samjob"), rasters=(RASTERS[0], further, RASTERS[2])))
    assert cells(panel)[1] == ["b.tif", "20 / 40", "9", ""]
    panel.table.sortByColumn(OBJECTS, panel.table.horizontalHeader().sortIndicatorOrder())
    assert [row[NAME] for row in cells(panel)] == ["c.tif", "b.tif", "a.tif"]


def test_a_finished_job_is_summed_up(panel: JobPanel, controller: BatchController, tmp_path: Path) -> None:
    path = add(controller, tmp_path / "east.samjob")
    controller._learn(path, status(tmp_path / "east.samjob", BatchState.FINISHED, outputs=("/x/east.gpkg",)))
    assert "16 objects in 2 rasters; 1 could not be used, see the table." in panel.state_label.text()
    assert cells(panel)[0] == ["c.tif", "failed", "", "it has no CRS"]
    assert buttons(panel) == (False, False, True)


def test_interrupted_stopped_and_missing_jobs_say_what_to_do(
    panel: JobPanel, controller: BatchController, tmp_path: Path
) -> None:
    interrupted = add(controller, tmp_path / "i.samjob", state=BatchState.RUNNING)
    stopped = add(controller, tmp_path / "s.samjob", problem="The disk is full. Make room.")
    missing = add(controller, tmp_path / "m.samjob")
    Path(missing).unlink()
    panel.select(interrupted)
    assert "Nothing that was done is lost" in panel.problem_label.text()
    assert buttons(panel) == (False, True, False)
    panel.select(stopped)
    assert panel.problem_label.text() == "⚠ The disk is full. Make room."
    assert buttons(panel) == (False, True, False)
    panel.select(missing)
    controller.listed.emit()
    assert panel.path == missing, "the selected one stays selected"
    assert "open it where it is now" in panel.problem_label.text()
    assert buttons(panel) == (False, False, False)


def test_buttons_name_the_selected_job(panel: JobPanel, controller: BatchController, tmp_path: Path) -> None:
    add(controller, tmp_path / "a.samjob")
    second = add(controller, tmp_path / "b.samjob")
    panel.select(second)
    resumed, forgotten = QSignalSpy(panel.resume_wanted), QSignalSpy(panel.forget_wanted)
    panel.resume_button.click()
    panel.forget_action.trigger()
    assert (list(resumed), list(forgotten)) == ([[second]], [[second]])


def test_a_high_dock_has_the_list_above_the_table(panel: JobPanel) -> None:
    from qgis.PyQt.QtCore import Qt

    panel.dockLocationChanged.emit(Qt.DockWidgetArea.RightDockWidgetArea)
    assert panel._halves.orientation() == Qt.Orientation.Vertical
    panel.dockLocationChanged.emit(Qt.DockWidgetArea.BottomDockWidgetArea)
    assert panel._halves.orientation() == Qt.Orientation.Horizontal


# --- the desk ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(
    ready_session: Session, settings: PluginSettings, window: Window, project: QgsProject, tmp_path: Path
) -> Iterator[BatchDesk]:
    settings.output_folder.setValue(str(tmp_path))
    made = BatchDesk(
        ready_session, EngineService(fake_config()), ScriptedService(), settings, window.surroundings(project)
    )
    yield made
    made.stop()
    made.deleteLater()
    spin(5)


def notices(session: Session) -> list[tuple[NoticeLevel, str]]:
    told: list[tuple[NoticeLevel, str]] = []
    session.noticed.connect(lambda notice: told.append((notice.level, notice.text)))
    return told


def test_from_the_dialog_to_a_finished_job_with_an_estimate_on_the_way(
    desk: BatchDesk, raster_layer: QgsRasterLayer, tmp_path: Path
) -> None:
    dialog = desk.open_dialog()
    dialog.task_box.set_task(BatchTask.EMBEDDINGS)
    wait_until(lambda: dict(dialog.estimate_box.figures).get("Time") == "60 s on fake")
    job = dialog.order().job
    dialog.start_button.click()
    assert desk.panel is not None
    assert desk.panel.isVisible()
    assert desk.panel.path == job
    wait_until(lambda: "1 raster done" in desk.panel.state_label.text())
    assert Path(job).exists()
    assert desk.panel.list.topLevelItem(0).text(1) == "100 %"
    assert dialog.order().job != job, "the next one gets another name"


def test_results_go_into_the_project_if_wanted(desk: BatchDesk, project: QgsProject, tmp_path: Path) -> None:
    controller = desk.controller
    for name, show in (("shown", True), ("quiet", False)):
        path = add(controller, tmp_path / f"{name}.samjob", show=show)
        output = tmp_path / f"{name}.geojson"
        output.write_text('{"type": "FeatureCollection", "features": []}')
        done = status(tmp_path / f"{name}.samjob", BatchState.FINISHED, outputs=(str(output),))
        controller._learn(path, done)
        controller.finished.emit(path)
    assert sorted(layer.name() for layer in project.mapLayers().values()) == ["scene", "shown"]
    desk.open_panel().select(str(tmp_path / "quiet.samjob"))
    desk.panel.open_button.click()
    assert sorted(layer.name() for layer in project.mapLayers().values()) == ["quiet", "scene", "shown"]


def test_interrupted_jobs_are_offered_at_the_start(desk: BatchDesk, ready_session: Session, tmp_path: Path) -> None:
    told = notices(ready_session)
    desk.restore()
    assert told == []
    add(desk.controller, tmp_path / "east.samjob", state=BatchState.WRITING)
    desk.restore()
    assert told[0][0] is NoticeLevel.WARNING
    assert "“east”" in told[0][1]


def test_a_job_of_a_former_session_is_asked_about_when_it_is_looked_at(desk: BatchDesk, tmp_path: Path) -> None:
    path = add(desk.controller, tmp_path / "a.samjob")
    Path(path).write_text('{"done": 4, "kind": "", "task": "find", "failed": true, "output": ""}')
    assert desk.service.pid is None, "a list is no reason to start an engine"
    desk.open_panel()
    wait_until(lambda: desk.controller.status(path) is not None)
    assert "4 of 10 tiles" in desk.panel.state_label.text()


@pytest.mark.parametrize(("text", "left", "exists"), [("Keep", 0, True), ("Delete", 0, False), ("Cancel", 1, True)])
def test_forgetting_asks(desk: BatchDesk, tmp_path: Path, text: str, left: int, exists: bool) -> None:
    path = add(desk.controller, tmp_path / "a.samjob")
    panel = desk.open_panel()

    def answer() -> None:
        box = QApplication.activeModalWidget()
        assert isinstance(box, QMessageBox)
        next(button for button in box.buttons() if text in button.text().replace("&", "")).click()

    QTimer.singleShot(200, answer)
    panel.forget_action.trigger()
    assert len(desk.controller.jobs) == left
    assert Path(path).exists() is exists


def test_results_elsewhere(desk: BatchDesk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = add(desk.controller, tmp_path / "a.samjob", outputs=BatchOutputs(str(tmp_path / "a.gpkg"), "a"))
    panel = desk.open_panel()
    asked: list[tuple[str, BatchOutputs | None]] = []
    monkeypatch.setattr(desk.controller, "resume", lambda path, outputs=None: asked.append((path, outputs)))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_a: ("", ""))
    panel.elsewhere_action.trigger()
    assert asked == []
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_a: (str(tmp_path / "b.fgb"), ""))
    panel.elsewhere_action.trigger()
    assert asked == [(path, BatchOutputs(str(tmp_path / "b.fgb"), "b"))]


def test_rasters_in_another_folder(desk: BatchDesk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = add(desk.controller, tmp_path / "a.samjob")
    panel = desk.open_panel()
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(desk.controller, "resume", lambda path, root="": asked.append((path, root)))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_a: "/moved")
    panel.root_action.trigger()
    assert asked == [(path, "/moved")]


def test_a_job_from_elsewhere_is_opened(desk: BatchDesk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = tmp_path / "theirs.samjob"
    job.write_text('{"done": 10, "kind": "", "task": "map", "failed": true, "output": ""}')
    panel = desk.open_panel()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_a: (str(job), ""))
    panel.add_button.click()
    assert panel.path == str(job)
    wait_until(lambda: "theirs — Class map: finished" in panel.state_label.text())


def test_log_and_folder(
    desk: BatchDesk, ready_session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add(desk.controller, tmp_path / "a.samjob")
    told, opened = notices(ready_session), []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    panel = desk.open_panel()
    panel.folder_action.trigger()
    assert opened == [str(tmp_path)]
    desk.service.last_info = None
    panel.log_action.trigger()
    assert "no log" in told[-1][1]


def test_estimates_do_not_wait_behind_a_job(
    controller: BatchController, service: ScriptedService, tmp_path: Path
) -> None:
    other = ScriptedService()
    free = FreeEngine(controller, service, other)
    free.request_async(Method.BATCH_ESTIMATE, None, print, print)
    assert len(service.of(Method.BATCH_ESTIMATE)) == 1
    controller.resume(add(controller, tmp_path / "a.samjob"))
    free.request_async(Method.BATCH_ESTIMATE, None, print, print)
    assert len(other.calls) == 1
    (run,) = service.of(Method.BATCH_RUN)
    run.on_result(BatchResult(status(tmp_path / "a.samjob", BatchState.FINISHED), 1.0, ""))
    free.request_async(Method.BATCH_ESTIMATE, None, print, print)
    assert len(service.of(Method.BATCH_ESTIMATE)) == 2


def test_an_engine_without_work_gives_its_memory_back(desk: BatchDesk, tmp_path: Path) -> None:
    desk._idle.setInterval(50)
    dialog = desk.open_dialog()
    dialog.task_box.set_task(BatchTask.EMBEDDINGS)
    wait_until(lambda: desk.service.pid is not None)
    desk._rest()
    assert desk.service.pid is not None, "the dialog is open"
    dialog.hide()
    wait_until(lambda: desk.service.pid is None)


def test_a_run_that_was_cancelled_before_it_began_is_paused(
    controller: BatchController, service: ScriptedService, tmp_path: Path
) -> None:
    path = add(controller, tmp_path / "a.samjob")
    controller.resume(path)
    controller.pause(path)
    (run,) = service.of(Method.BATCH_RUN)
    assert run.cancelled
    run.on_error(CancelledByUser())
    assert not controller.busy
    assert service.last(Method.BATCH_STATUS).params.job == path
