"""Batch jobs from start to end with a make-believe engine process: whatever ends it, nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsProject, QgsVectorLayer
from samtune.engine.batch_messages import BatchOutputs, BatchRasters, BatchSpec, BatchState, BatchTask
from samtune.models.errors import OutputError
from samtune.plugin.batch_book import MOST_JOBS, JobBook, JobRecord
from samtune.plugin.batch_controller import BatchController
from samtune.plugin.batch_order import BatchOrder
from samtune.plugin.batch_texts import Standing
from samtune.plugin.engine_requests import EngineRequests
from samtune.plugin.engine_service import EngineService
from samtune.plugin.feature_file import features_of
from samtune.plugin.session import NoticeLevel, Session
from samtune.plugin.settings import PluginSettings
from samtune_test_engine_helpers import fake_config, let_run, wait_until


class Desk:
    """A controller with its engine, and what it said."""

    def __init__(self, settings: PluginSettings) -> None:
        self.session = Session()
        self.notices: list[tuple[NoticeLevel, str]] = []
        self.session.noticed.connect(lambda notice: self.notices.append((notice.level, notice.text)))
        self.service = EngineService(fake_config())
        self.requests = EngineRequests(self.service)
        self.controller = BatchController(self.session, self.requests, JobBook(settings))
        self.controller._poll.setInterval(50)
        self.finished: list[str] = []
        self.controller.finished.connect(self.finished.append)

    def standing(self, path: Path) -> Standing:
        record = self.controller.job(str(path))
        assert record is not None
        return self.controller.standing(record)

    def wait(self, path: Path, standing: Standing) -> None:
        wait_until(lambda: self.standing(path) is standing)

    def done(self, path: Path) -> int:
        status = self.controller.status(str(path))
        return status.done if status is not None else -1

    def close(self) -> None:
        self.controller.stop()
        self.requests.stop()
        self.service.shutdown()
        let_run(0.05)


@pytest.fixture
def desk(settings: PluginSettings) -> Iterator[Desk]:
    made = Desk(settings)
    yield made
    made.close()


def order(job: Path, kind: str = "", task: BatchTask = BatchTask.AUTOMATIC) -> BatchOrder:
    outputs = BatchOutputs(str(job.with_suffix(".gpkg")))
    return BatchOrder(BatchSpec(task, BatchRasters(("a.tif",)), class_name=kind, outputs=outputs), str(job))


def test_a_job_runs_to_its_end_and_says_what_came_of_it(desk: Desk, tmp_path: Path) -> None:
    job = tmp_path / "east.samjob"
    desk.controller.start(order(job))
    assert desk.standing(job) is Standing.RUNNING or desk.standing(job) is Standing.PREPARING
    wait_until(lambda: desk.finished)
    assert desk.finished == [str(job)]
    assert desk.standing(job) is Standing.FINISHED
    assert desk.done(job) == 10
    level, text = desk.notices[-1]
    assert level is NoticeLevel.SUCCESS
    assert "east" in text
    assert "30 objects in 1 raster; 1 could not be used" in text


def test_progress_is_asked_for_while_it_runs(desk: Desk, tmp_path: Path) -> None:
    job = tmp_path / "a.samjob"
    desk.controller.start(order(job, "slow"))
    wait_until(lambda: 1 <= desk.done(job) < 10)
    desk.controller.pause(str(job))
    desk.wait(job, Standing.PAUSED)


def test_pause_and_resume(desk: Desk, tmp_path: Path) -> None:
    job = tmp_path / "a.samjob"
    desk.controller.start(order(job, "slow"))
    wait_until(lambda: desk.done(job) >= 2)
    desk.controller.pause(str(job))
    desk.wait(job, Standing.PAUSED)
    wait_until(lambda: not desk.controller.busy)
    before = desk.done(job)
    assert 2 <= before < 10
    assert desk.notices == [], "pausing is no error"
    desk.controller.resume(str(job))
    wait_until(lambda: desk.done(job) == 10)


def test_an_engine_that_dies_leaves_a_job_to_resume(desk: Desk, tmp_path: Path) -> None:
    job = tmp_path / "a.samjob"
    desk.controller.start(order(job, "die"))
    desk.wait(job, Standing.INTERRUPTED)
    level, text = desk.notices[-1]
    assert level is NoticeLevel.ERROR
    assert "resume it" in text
    assert desk.controller.interrupted()
    desk.controller.resume(str(job))
    desk.wait(job, Standing.FINISHED)
    assert desk.done(job) == 10
    assert desk.controller.job(str(job)).problem == ""


def test_an_error_of_the_engine_is_said_with_the_job_and_the_next_one_goes_on(desk: Desk, tmp_path: Path) -> None:
    first, second = tmp_path / "first.samjob", tmp_path / "second.samjob"
    desk.controller.start(order(first, "full"))
    desk.controller.start(order(second))
    desk.wait(first, Standing.STOPPED)
    assert desk.controller.job(str(first)).problem.startswith("The disk is full. Make room.")
    desk.wait(second, Standing.FINISHED)
    desk.controller.resume(str(first))
    desk.wait(first, Standing.FINISHED)


def test_one_job_at_a_time_and_a_waiting_one_can_be_withdrawn(desk: Desk, tmp_path: Path) -> None:
    first, second = tmp_path / "first.samjob", tmp_path / "second.samjob"
    desk.controller.start(order(first, "slow"))
    desk.controller.start(order(second))
    wait_until(lambda: desk.done(first) >= 1)
    assert desk.standing(second) is Standing.PREPARING
    assert not second.exists()
    desk.controller.pause(str(second))
    assert desk.standing(second) is Standing.PAUSED, "it was never made, but is not forgotten"
    desk.controller.pause(str(first))
    desk.wait(first, Standing.PAUSED)
    desk.controller.resume(str(second))
    desk.wait(second, Standing.FINISHED)


def test_prompts_of_a_layer_are_written_beside_the_job_file(desk: Desk, project: QgsProject, tmp_path: Path) -> None:
    layer = QgsVectorLayer("Point?crs=EPSG:4326", "points", "memory")
    from qgis.core import QgsFeature, QgsGeometry

    point = QgsFeature()
    point.setGeometry(QgsGeometry.fromWkt("Point (1 2)"))
    layer.dataProvider().addFeature(point)
    project.addMapLayer(layer)
    job = tmp_path / "a.samjob"
    wanted = order(job, task=BatchTask.PROMPTS)
    desk.controller.start(BatchOrder(wanted.spec, wanted.job, features_of(layer, selected=False)))
    assert desk.standing(job) is Standing.PREPARING
    desk.wait(job, Standing.FINISHED)
    assert QgsVectorLayer(str(tmp_path / "a.prompts.gpkg"), "", "ogr").featureCount() == 1


def test_a_job_whose_features_cannot_be_written_says_so(desk: Desk, project: QgsProject, tmp_path: Path) -> None:
    layer = QgsVectorLayer("Point?crs=EPSG:4326", "points", "memory")
    project.addMapLayer(layer)
    job = tmp_path / "a.samjob"
    wanted = order(job, task=BatchTask.PROMPTS)
    desk.controller.start(BatchOrder(wanted.spec, wanted.job, features_of(layer, selected=False)))
    wait_until(lambda: desk.notices)
    assert desk.notices[-1][0] is NoticeLevel.ERROR
    assert "“points” has no features" in desk.notices[-1][1]
    assert not desk.controller.busy


def test_an_existing_job_file_is_never_begun_anew(desk: Desk, tmp_path: Path) -> None:
    job = tmp_path / "a.samjob"
    job.write_text("precious")
    with pytest.raises(OutputError, match="Resume it"):
        desk.controller.start(order(job))
    assert job.read_text() == "precious"
    assert desk.controller.jobs == ()


def test_a_job_running_when_qgis_ends_is_offered_in_the_next_session(
    desk: Desk, settings: PluginSettings, tmp_path: Path
) -> None:
    job = tmp_path / "a.samjob"
    desk.controller.start(order(job, "slow"))
    wait_until(lambda: desk.done(job) >= 1)
    desk.close()
    later = Desk(settings)
    try:
        assert [record.path for record in later.controller.interrupted()] == [str(job)]
        later.controller.resume(str(job))
        later.wait(job, Standing.FINISHED)
        assert later.done(job) == 10
    finally:
        later.close()


def test_a_job_file_that_was_moved_is_found_again_by_opening_it(desk: Desk, tmp_path: Path) -> None:
    job, moved = tmp_path / "a.samjob", tmp_path / "other" / "a.samjob"
    desk.controller.start(order(job, "full"))
    desk.wait(job, Standing.STOPPED)
    moved.parent.mkdir()
    job.rename(moved)
    assert desk.standing(job) is Standing.MISSING
    desk.controller.add(str(moved))
    assert [record.path for record in desk.controller.jobs] == [str(moved)]
    desk.controller.resume(str(moved))
    desk.wait(moved, Standing.FINISHED)


def test_forgetting_keeps_the_file_unless_told_otherwise(desk: Desk, tmp_path: Path) -> None:
    kept, deleted = tmp_path / "kept.samjob", tmp_path / "deleted.samjob"
    for job in (kept, deleted):
        desk.controller.start(order(job))
        desk.wait(job, Standing.FINISHED)
    desk.controller.forget(str(kept))
    desk.controller.forget(str(deleted), delete=True)
    assert desk.controller.jobs == ()
    assert kept.exists()
    assert not deleted.exists()


def test_forgetting_a_running_job_stops_it_first(desk: Desk, tmp_path: Path) -> None:
    job = tmp_path / "a.samjob"
    desk.controller.start(order(job, "slow"))
    wait_until(lambda: desk.done(job) >= 1)
    desk.controller.forget(str(job), delete=True)
    wait_until(lambda: not desk.controller.busy)
    assert not job.exists()
    assert desk.notices == []


def test_results_can_be_written_elsewhere(desk: Desk, tmp_path: Path) -> None:
    job = tmp_path / "a.samjob"
    desk.controller.start(order(job))
    desk.wait(job, Standing.FINISHED)
    desk.controller.resume(str(job), outputs=BatchOutputs("/elsewhere/x.fgb"))
    wait_until(lambda: len(desk.finished) == 2)
    assert desk.controller.status(str(job)).outputs == ("/elsewhere/x.fgb",)
    assert desk.controller.job(str(job)).outputs.vector == "/elsewhere/x.fgb"


def test_a_damaged_job_file_is_said_and_kept(desk: Desk, tmp_path: Path) -> None:
    job = tmp_path / "a.samjob"
    job.write_text("no JSON")
    desk.controller.add(str(job))
    desk.wait(job, Standing.STOPPED)
    assert desk.controller.job(str(job)).problem
    assert job.read_text() == "no JSON"


def test_records_survive_in_the_settings(settings: PluginSettings) -> None:
    book = JobBook(settings)
    record = JobRecord(
        "/x/a.samjob", BatchTask.MAP, BatchState.RUNNING, 9, 4, "/a.safetensors", BatchOutputs(maps="/m")
    )
    book.add(record)
    assert JobBook(settings).records == (record,)
    for number in range(MOST_JOBS):
        book.add(JobRecord(f"/x/{number}.samjob", BatchTask.FIND))
    assert len(JobBook(settings).records) == MOST_JOBS
    assert JobBook(settings).records[0].name == str(MOST_JOBS - 1)
    assert JobBook(settings).find("/x/a.samjob") is None


@pytest.mark.parametrize("text", ["", "nonsense", "{}", '[1, {"path": "x"}, {"path": "y", "task": "dance"}]'])
def test_settings_that_are_no_records_are_none(settings: PluginSettings, text: str) -> None:
    settings.batch_jobs.setValue(text)
    assert JobBook(settings).records == ()
