"""The fine-tune wizard, page by page, with real buttons, layers and tasks; behind them an engine process that plays."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsFeature, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import Qt, QTimer
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QAction, QApplication, QGroupBox, QMessageBox, QWidget, QWizard
from samtune.engine.tune_messages import OFFER, RunState, TuneTask
from samtune.engine.wire import to_wire
from samtune.plugin.adapter_controller import AdapterController
from samtune.plugin.engine_requests import EngineRequests
from samtune.plugin.engine_service import EngineService
from samtune.plugin.session import NoticeLevel, Session
from samtune.plugin.settings import PluginSettings
from samtune.plugin.teaching import Teaching, TeachingTools
from samtune.plugin.tune_draft import ExtentKind
from samtune.plugin.tune_runner import RunStage
from samtune.plugin.tune_runs import LIVE_SECONDS
from samtune.ui.tune.wizard import PageId, TuneWizard
from samtune_test_engine_helpers import fake_config, wait_until
from samtune_test_support import drag, show_layer, spin
from samtune_test_tune_support import box, end_of_run, go_next, go_to, label_layer, press, type_options


@pytest.fixture
def service(qgis_app: object) -> Iterator[EngineService]:
    made = EngineService(fake_config())
    yield made
    made.shutdown()


@pytest.fixture
def adapters_folder(tmp_path: Path) -> Path:
    return tmp_path / "samtune" / "adapters"


@pytest.fixture
def teaching(
    service: EngineService,
    ready_session: Session,
    settings: PluginSettings,
    project: QgsProject,
    canvas: QgsMapCanvas,
    adapters_folder: Path,
) -> Iterator[Teaching]:
    work = EngineRequests(service)
    adapters = AdapterController(ready_session, work, settings, lambda: adapters_folder, lambda: 0, project)
    adapters.restore()
    window = QWidget()
    tools = TeachingTools(
        canvas, project, window, QAction("click", window, checkable=True), ready_session.set_layer, lambda: False,
        lambda: adapters_folder,
    )  # fmt: skip
    made = Teaching(ready_session, work, adapters, tools)
    yield made
    made.stop()
    work.stop()
    adapters.stop()
    window.deleteLater()
    spin(20)


@pytest.fixture
def roofs(project: QgsProject, raster_layer: QgsRasterLayer) -> QgsVectorLayer:
    return label_layer(project, 12)


@pytest.fixture
def wizard(teaching: Teaching, roofs: QgsVectorLayer) -> TuneWizard:
    made = teaching.open()
    wait_until(made.learn.isComplete)
    return made


def told(session: Session) -> list[tuple[NoticeLevel, str]]:
    found: list[tuple[NoticeLevel, str]] = []
    session.noticed.connect(lambda notice: found.append((notice.level, notice.text)))
    return found


def test_from_polygons_to_an_adapter_in_use(
    wizard: TuneWizard, teaching: Teaching, ready_session: Session, adapters_folder: Path
) -> None:
    learn = wizard.learn.inspection
    lines = [learn.classes.topLevelItem(i) for i in range(learn.classes.topLevelItemCount())]
    assert [(line.text(0), line.text(1)) for line in lines] == [("grey", "6"), ("red", "6")]
    assert learn.strip.count() == 8
    assert sum(one.objects for one in learn.histogram.bins) == 12
    go_to(wizard, PageId.HOW)
    wait_until(wizard.how.isComplete)
    checked = wizard.how.rung_group.checkedButton()
    assert "Decoder" in checked.text()
    assert "suggested" in checked.text()
    assert not wizard.how.rung_group.button(3).isEnabled(), "needs bands that were not given"
    shown = [wizard.how.estimate.itemAt(i).widget().text() for i in range(wizard.how.estimate.count())]
    assert any("1 min" in text for text in shown)
    assert any("12 MiB" in text for text in shown)
    go_to(wizard, PageId.BETTER)
    assert "Better than the base" in wizard.better.banner.text()
    assert wizard.better.anyway_check.isHidden()
    titles = [wizard.better.table.topLevelItem(i).text(0) for i in range(wizard.better.table.topLevelItemCount())]
    assert {"grey", "red", "Other imagery, to see that nothing was unlearnt"} < set(titles)
    assert wizard.better.strip.count() == 3
    press(wizard.better.copy_button)
    go_next(wizard)
    assert wizard.keep.name_edit.text() == "roofs"
    wizard.keep.notes_edit.setPlainText("from the north")
    press(wizard.button(QWizard.WizardButton.FinishButton))
    wait_until(lambda: not wizard.isVisible())
    assert (adapters_folder / "roofs.safetensors").is_file()
    assert ready_session.adapters.chosen is not None
    assert ready_session.adapters.chosen.name == "roofs"


def test_the_curves_and_pictures_are_live(wizard: TuneWizard, teaching: Teaching) -> None:
    go_to(wizard, PageId.HOW)
    go_to(wizard, PageId.TRAINING, "fake.steps=60 fake.pace=0.04")
    page = wizard.training
    wait_until(lambda: page.loss_chart.curves and len(page.loss_chart.curves[0].points) > 12)
    wait_until(lambda: page.pictures.count() == 2)
    assert teaching.controller.runner.active
    steps = [step for step, _loss in page.loss_chart.curves[0].points]
    assert steps == list(range(1, len(steps) + 1)), "each step once"
    assert page.value_chart.curves[0].points
    assert "left" in page.state_label.text()
    assert not wizard.button(QWizard.WizardButton.CommitButton).isEnabled()
    press(page.pause_button)
    wait_until(lambda: teaching.controller.runner.paused)
    assert page.pause_button.text() == "&Resume"
    reached = page.progress.value()
    QTest.qWait(700)
    assert page.progress.value() <= reached + 1
    press(page.pause_button)
    wait_until(lambda: page.progress.value() > reached + 3)
    press(page.finish_button)
    wait_until(lambda: wizard.currentId() == PageId.BETTER)
    assert teaching.controller.runner.report.steps < 60


def test_no_polygons(teaching: Teaching, raster_layer: QgsRasterLayer) -> None:
    wizard = teaching.open()
    wait_until(lambda: not teaching.controller.preparer.inspecting)
    assert "polygon layer" in wizard.learn.inspection.problem_label.text()
    assert not wizard.button(QWizard.WizardButton.NextButton).isEnabled()


def test_an_empty_layer(teaching: Teaching, project: QgsProject, raster_layer: QgsRasterLayer) -> None:
    layer = label_layer(project, 0)
    wizard = teaching.open()
    item = wizard.learn.labels.list.item(0)
    item.setCheckState(Qt.CheckState.Checked)
    wait_until(lambda: not teaching.controller.preparer.inspecting)
    assert "None of the chosen polygons remain" in wizard.learn.inspection.problem_label.text()
    layer.startEditing()
    feature = QgsFeature(layer.fields())
    feature.setGeometry(box(3))
    feature.setAttributes(["red", 1])
    layer.addFeature(feature)
    wait_until(wizard.learn.isComplete)
    assert "<b>One object</b>" in wizard.learn.inspection.count_label.text()
    assert wizard.learn.inspection.count_label.textFormat() == Qt.TextFormat.RichText, "tags are not read aloud"
    layer.rollBack()


def test_one_polygon_can_be_learnt_but_not_measured(
    teaching: Teaching, project: QgsProject, raster_layer: QgsRasterLayer, ready_session: Session
) -> None:
    label_layer(project, 1)
    wizard = teaching.open()
    wait_until(wizard.learn.isComplete)
    assert "too few to measure" in wizard.learn.inspection.count_label.text()
    go_to(wizard, PageId.HOW)
    wait_until(wizard.how.isComplete)
    assert "Instant" in wizard.how.rung_group.checkedButton().text()
    type_options(wizard, "fake.verdict=not-measured")
    go_to(wizard, PageId.BETTER)
    assert wizard.better.anyway_check.isVisible()
    assert not wizard.better.anyway_check.isChecked()


def test_not_better_is_kept_but_not_used_unless_asked(
    wizard: TuneWizard, ready_session: Session, adapters_folder: Path
) -> None:
    go_to(wizard, PageId.HOW)
    go_to(wizard, PageId.BETTER, "fake.verdict=not-better")
    assert "Not better" in wizard.better.banner.text()
    assert wizard.better.anyway_check.isVisible()
    assert not wizard.better.anyway_check.isChecked()
    go_next(wizard)
    assert "not used" in wizard.keep.use_label.text()
    press(wizard.button(QWizard.WizardButton.FinishButton))
    wait_until(lambda: not wizard.isVisible())
    assert (adapters_folder / "roofs.safetensors").is_file()
    assert [known.name for known in ready_session.adapters.known] == ["roofs"]
    assert ready_session.adapters.chosen is None


def test_not_better_but_asked_for(wizard: TuneWizard, ready_session: Session) -> None:
    go_to(wizard, PageId.HOW)
    go_to(wizard, PageId.BETTER, "fake.verdict=not-better")
    wizard.better.anyway_check.setChecked(True)
    go_next(wizard)
    assert "from now on" in wizard.keep.use_label.text()
    press(wizard.button(QWizard.WizardButton.FinishButton))
    wait_until(lambda: not wizard.isVisible())
    assert ready_session.adapters.chosen is not None


def test_what_was_asked_for_one_run_does_not_hold_for_the_next(wizard: TuneWizard) -> None:
    go_to(wizard, PageId.HOW)
    go_to(wizard, PageId.BETTER, "fake.verdict=not-better")
    wizard.better.anyway_check.setChecked(True)
    press(wizard.better.anew_button)
    assert wizard.currentId() == PageId.LEARN
    go_to(wizard, PageId.BETTER)
    assert "Not better" in wizard.better.banner.text(), "the settings are as they were"
    assert not wizard.better.anyway_check.isChecked()


def test_a_name_that_is_taken(wizard: TuneWizard, ready_session: Session, adapters_folder: Path) -> None:
    for name in ("roofs", "roofs 2"):
        go_to(wizard, PageId.KEEP)
        assert wizard.keep.taken_label.isVisible() is (name != "roofs")
        press(wizard.button(QWizard.WizardButton.FinishButton))
        wait_until(lambda shown=wizard: not shown.isVisible())
        assert ready_session.adapters.chosen.name == name
        _reopen(wizard)
    assert len(list(adapters_folder.glob("*.safetensors"))) == 2


def _reopen(wizard: TuneWizard) -> None:
    wizard._controller.begin()
    wizard.begin()
    wizard.show()
    wait_until(wizard.learn.isComplete)


def test_a_keep_that_fails_says_so_and_can_be_tried_again(wizard: TuneWizard, ready_session: Session) -> None:
    go_to(wizard, PageId.KEEP)
    wizard.keep.name_edit.setText("full disk")
    press(wizard.button(QWizard.WizardButton.FinishButton))
    wait_until(wizard.keep.problem_label.isVisible)
    assert "Make room" in wizard.keep.problem_label.text()
    assert wizard.isVisible()
    wizard.keep.name_edit.setText("ponds")
    press(wizard.button(QWizard.WizardButton.FinishButton))
    wait_until(lambda: not wizard.isVisible())
    assert ready_session.adapters.chosen.name == "ponds"


@pytest.mark.parametrize("page", [PageId.LEARN, PageId.TASK, PageId.HOW, PageId.BETTER, PageId.KEEP])
def test_closing_at_each_page(
    wizard: TuneWizard, teaching: Teaching, page: PageId, adapters_folder: Path, ready_session: Session
) -> None:
    go_to(wizard, page)
    press(wizard.button(QWizard.WizardButton.CancelButton))
    wait_until(lambda: not wizard.isVisible())
    assert ready_session.adapters.chosen is None
    assert not adapters_folder.exists()
    runs = adapters_folder.parent / "runs"
    left = [path for path in runs.glob("*") if path.is_dir()]
    if page < PageId.TRAINING:
        assert not left, "what was never started leaves nothing"
    again = teaching.open()
    assert again.currentId() == (PageId.BETTER if page > PageId.TRAINING else PageId.LEARN)
    assert not teaching.controller.offered()


def answer(text: str) -> None:
    """Press a button of the question that is about to be asked."""

    def choose() -> None:
        (asked,) = _top_boxes()
        press(next(button for button in asked.buttons() if button.text().replace("&", "") == text))

    QTimer.singleShot(300, choose)


def _top_boxes() -> list[QMessageBox]:
    return [w for w in QApplication.topLevelWidgets() if isinstance(w, QMessageBox) and w.isVisible()]


def test_closing_while_training(wizard: TuneWizard, teaching: Teaching) -> None:
    go_to(wizard, PageId.HOW)
    go_to(wizard, PageId.TRAINING, "fake.steps=400 fake.pace=0.02")
    runner = teaching.controller.runner
    wait_until(lambda: runner.training)
    answer("Cancel")
    press(wizard.button(QWizard.WizardButton.CancelButton))
    assert wizard.isVisible()
    answer("Keep it running")
    press(wizard.button(QWizard.WizardButton.CancelButton))
    assert not wizard.isVisible()
    assert runner.active
    assert teaching.open() is wizard
    assert wizard.currentId() == PageId.TRAINING
    answer("Stop it")
    began = time.monotonic()
    press(wizard.button(QWizard.WizardButton.CancelButton))
    end_of_run(wizard, RunStage.STOPPED)
    assert time.monotonic() - began < 2.5, "the question takes 0.3 s of it"
    assert not wizard.isVisible()


def test_cancelled_in_training_and_gone_on_with(wizard: TuneWizard, teaching: Teaching) -> None:
    go_to(wizard, PageId.HOW)
    go_to(wizard, PageId.TRAINING, "fake.steps=60 fake.pace=0.02")
    runner = teaching.controller.runner
    wait_until(lambda: runner.watch.step >= 20)
    press(wizard.training.cancel_button)
    end_of_run(wizard, RunStage.STOPPED)
    assert wizard.training.go_on_button.isVisible()
    assert wizard.training.error_label.isHidden()
    assert not wizard.button(QWizard.WizardButton.CommitButton).isEnabled()
    press(wizard.training.go_on_button)
    wait_until(lambda: wizard.currentId() == PageId.BETTER)
    assert runner.report.steps == 60


def test_a_new_run_after_a_cancelled_one_has_a_folder_of_its_own(wizard: TuneWizard, teaching: Teaching) -> None:
    go_to(wizard, PageId.HOW)
    go_to(wizard, PageId.TRAINING, "fake.steps=60 fake.pace=0.02")
    runner = teaching.controller.runner
    wait_until(lambda: runner.watch.step >= 20)
    first = runner.params.folder
    press(wizard.training.cancel_button)
    end_of_run(wizard, RunStage.STOPPED)
    press(wizard.training.back_button)
    assert wizard.currentId() == PageId.LEARN
    go_to(wizard, PageId.BETTER)
    assert runner.report.folder != first


def test_the_engine_dies_and_the_run_goes_on(wizard: TuneWizard, teaching: Teaching, ready_session: Session) -> None:
    notices = told(ready_session)
    go_to(wizard, PageId.HOW)
    go_to(wizard, PageId.TRAINING, "fake.steps=40 fake.pace=0.02 fake.die=25")
    runner = teaching.controller.runner
    end_of_run(wizard, RunStage.BROKEN)
    page = wizard.training
    assert page.error_label.isVisible()
    assert page.error_label.text()
    assert [level for level, _text in notices] == [NoticeLevel.ERROR]
    assert json.loads(Path(runner.params.folder, "run.json").read_text())["state"] == "running"
    press(page.go_on_button)
    wait_until(lambda: wizard.currentId() == PageId.BETTER)
    wait_until(lambda: runner.training)
    assert runner.training[0].step == 21, "from the checkpoint, not from the start"


def test_the_engine_is_killed_from_outside(wizard: TuneWizard, teaching: Teaching, service: EngineService) -> None:
    go_to(wizard, PageId.HOW)
    go_to(wizard, PageId.TRAINING, "fake.steps=400 fake.pace=0.02")
    wait_until(lambda: teaching.controller.runner.watch.step >= 12)
    os.kill(service.pid, signal.SIGKILL)
    end_of_run(wizard, RunStage.BROKEN)
    assert wizard.training.go_on_button.isVisible()


def test_an_error_of_the_run(wizard: TuneWizard) -> None:
    go_to(wizard, PageId.HOW)
    go_to(wizard, PageId.TRAINING, "fake.steps=40 fake.fail=15")
    end_of_run(wizard, RunStage.BROKEN)
    assert "Make room" in wizard.training.error_label.text()
    press(wizard.training.go_on_button)
    wait_until(lambda: wizard.currentId() == PageId.BETTER)


def test_what_does_not_fit_is_never_started(wizard: TuneWizard) -> None:
    go_to(wizard, PageId.HOW)
    wait_until(wizard.how.isComplete)
    type_options(wizard, "fake.problem=memory")
    assert "not enough memory" in wizard.how.problem_label.text()
    assert wizard.how.problem_label.isVisible()
    assert not wizard.button(QWizard.WizardButton.CommitButton).isEnabled()


def _interrupted_run(
    adapters_folder: Path, wizard: TuneWizard, state: RunState = RunState.RUNNING, updated: str = "2026-01-01T00:00:00Z"
) -> Path:
    """Leave behind what a run of the fake engine leaves that was killed at step 20."""
    params = wizard._controller.preparer.params()
    folder = adapters_folder.parent / "runs" / "20260101-120000-ponds"
    folder.mkdir(parents=True)
    labels = folder / "labels-1.gpkg"
    labels.write_bytes(Path(params.inputs.labels.path).read_bytes())
    record = to_wire(params)
    record["folder"], record["output"] = str(folder), str(folder / "adapter.safetensors")
    record["inputs"]["labels"]["path"] = str(labels)
    whole = {"params": record, "state": state.value, "step": 20, "steps": 40, "updated": updated}
    (folder / "run.json").write_text(json.dumps(whole))
    (folder / "checkpoint.txt").write_text("20")
    return folder


def test_reopening_offers_an_interrupted_run(wizard: TuneWizard, teaching: Teaching, adapters_folder: Path) -> None:
    folder = _interrupted_run(adapters_folder, wizard)
    wizard.reject()
    wizard = teaching.open()
    banner = wizard.learn.banner
    assert "“ponds”" in banner.label.text()
    assert "step 20 of 40" in banner.label.text()
    press(banner.go_on_button)
    assert wizard.currentId() in (PageId.TRAINING, PageId.BETTER)
    wait_until(lambda: wizard.currentId() == PageId.BETTER)
    runner = teaching.controller.runner
    wait_until(lambda: runner.training)
    assert runner.training[0].step == 21
    assert runner.report.folder == str(folder)
    go_next(wizard)
    assert wizard.keep.name_edit.text() == "ponds"


def test_a_run_under_way_in_another_qgis_is_not_offered_until_it_has_died(
    wizard: TuneWizard, teaching: Teaching, adapters_folder: Path
) -> None:
    now = datetime.now(UTC)
    folder = _interrupted_run(adapters_folder, wizard, updated=now.isoformat(timespec="seconds"))
    controller = teaching.controller
    controller._look_again.setInterval(300)
    wizard.reject()
    wizard = teaching.open()
    assert not wizard.learn.banner.isVisible()
    record = json.loads((folder / "run.json").read_text())
    record["updated"] = (now - timedelta(seconds=LIVE_SECONDS)).isoformat(timespec="seconds")
    (folder / "run.json").write_text(json.dumps(record))
    wait_until(wizard.learn.banner.isVisible)
    assert "“ponds”" in wizard.learn.banner.label.text()


def test_a_finished_run_that_was_not_kept_is_offered_after_a_restart(
    wizard: TuneWizard, teaching: Teaching, adapters_folder: Path, ready_session: Session
) -> None:
    go_to(wizard, PageId.BETTER)
    report = teaching.controller.runner.report
    params = teaching.controller.runner.params
    folder = Path(report.folder)
    record = {"params": to_wire(params), "state": "finished", "step": 40, "steps": 40}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / OFFER).write_text(json.dumps(to_wire(report)))
    wizard.reject()
    teaching.stop()
    wizard = teaching.open()
    banner = wizard.learn.banner
    assert "is not in your list yet" in banner.label.text()
    assert "Better than the base" in banner.label.text()
    press(banner.go_on_button)
    assert wizard.currentId() == PageId.BETTER
    assert "Better than the base" in wizard.better.banner.text()
    assert wizard.better.table.topLevelItemCount() > 0
    go_next(wizard)
    press(wizard.button(QWizard.WizardButton.FinishButton))
    wait_until(lambda: not wizard.isVisible())
    assert len(ready_session.adapters.known) == 1
    assert not (folder / OFFER).exists()
    teaching.stop()
    assert teaching.open().learn.banner.isHidden()
    assert folder.exists()


def test_an_interrupted_run_can_be_discarded_or_put_off(
    wizard: TuneWizard, teaching: Teaching, adapters_folder: Path
) -> None:
    folder = _interrupted_run(adapters_folder, wizard)
    teaching.controller.runs_changed.emit()
    press(wizard.learn.banner.later_button)
    assert wizard.learn.banner.isHidden()
    assert folder.exists()
    teaching.controller._put_off.clear()
    teaching.controller.runs_changed.emit()
    press(wizard.learn.banner.discard_button)
    assert wizard.learn.banner.isHidden()
    wait_until(lambda: not folder.exists())


def test_find_all_says_what_to_do_next(wizard: TuneWizard, ready_session: Session) -> None:
    go_next(wizard)
    card = wizard.task.cards[TuneTask.INSTANCES]
    QTest.mouseClick(card, Qt.MouseButton.LeftButton)
    assert card.radio.isChecked()
    assert not wizard.task.cards[TuneTask.PROMPTABLE].radio.isChecked()
    go_to(wizard, PageId.KEEP)
    assert "Find all" in wizard.keep.use_label.text()
    press(wizard.button(QWizard.WizardButton.FinishButton))
    wait_until(lambda: not wizard.isVisible())
    assert [known.head for known in ready_session.adapters.known] == ["instances"]
    assert ready_session.adapters.chosen is not None, "it answers clicks as well"


def test_an_adapter_for_class_maps_is_there_for_the_button_that_makes_them(
    wizard: TuneWizard, ready_session: Session
) -> None:
    go_next(wizard)
    press(wizard.task.cards[TuneTask.SEMANTIC].radio)
    go_to(wizard, PageId.KEEP)
    assert "“Class map…”" in wizard.keep.use_label.text()
    press(wizard.button(QWizard.WizardButton.FinishButton))
    wait_until(lambda: not wizard.isVisible())
    assert [known.head for known in ready_session.adapters.known] == ["semantic"]
    assert ready_session.adapters.chosen is not None, "“Class map…” takes the chosen one"


def test_too_small_objects_and_the_button_that_takes_the_fitting_level(wizard: TuneWizard, teaching: Teaching) -> None:
    view = wizard.learn.inspection
    assert "4 objects are too small" in view.small_label.text()
    press(view.level_button)
    assert teaching.controller.draft.level == -1
    wait_until(wizard.learn.isComplete)
    assert view.small_label.isHidden()


def test_choosing_another_rung(wizard: TuneWizard, teaching: Teaching) -> None:
    go_to(wizard, PageId.HOW)
    wait_until(wizard.how.isComplete)
    press(wizard.how.rung_group.button(2))
    wait_until(wizard.how.isComplete)
    assert teaching.controller.preparer.plan.chosen == "late-lora"
    assert teaching.controller.draft.method.methods == ("late-lora", "decoder")
    press(wizard.how.rung_group.button(1))
    wait_until(wizard.how.isComplete)
    assert teaching.controller.draft.method.methods == (), "the suggested one is left to the engine"


def test_drawing_the_extent_on_the_map(
    wizard: TuneWizard, teaching: Teaching, canvas: QgsMapCanvas, raster_layer: QgsRasterLayer
) -> None:
    show_layer(canvas, raster_layer)
    before = canvas.mapTool()
    press(wizard.learn.extent.draw_button)
    assert not wizard.isVisible()
    assert teaching.bar.isVisible()
    middle = canvas.viewport().rect().center()
    drag(canvas, middle - middle / 3, middle + middle / 3)
    wait_until(wizard.isVisible)
    assert not teaching.bar.isVisible()
    assert canvas.mapTool() is before
    draft = teaching.controller.draft
    assert draft.extent.kind is ExtentKind.DRAWN
    assert len(draft.extent.drawn) == 1
    wait_until(wizard.learn.isComplete)
    assert teaching.controller.preparer.labels.extent.endswith(".gpkg")
    press(wizard.learn.extent.clear_button)
    assert draft.extent.kind is ExtentKind.AROUND


def test_drawing_more_with_the_click_tool(
    wizard: TuneWizard, teaching: Teaching, ready_session: Session, roofs: QgsVectorLayer, project: QgsProject
) -> None:
    press(wizard.learn.labels.draw_button)
    assert not wizard.isVisible()
    assert teaching.bar.isVisible()
    assert "12 polygons" in teaching.bar.label.text()
    assert ready_session.target is roofs
    assert ready_session.class_field == "kind"
    assert ready_session.class_value == "grey", "without a class the polygon would be left out"
    assert teaching._tools.prompt_action.isChecked()
    roofs.startEditing()
    feature = QgsFeature(roofs.fields())
    feature.setGeometry(box(30))
    feature.setAttributes(["grey", 30])
    roofs.addFeature(feature)
    wait_until(lambda: "13 polygons" in teaching.bar.label.text())
    press(teaching.bar.back_button)
    assert wizard.isVisible()
    assert not teaching._tools.prompt_action.isChecked()
    wait_until(wizard.learn.isComplete)
    assert "13 objects" in wizard.learn.inspection.count_label.text(), "before they are saved"
    roofs.rollBack()


def test_links_show_polygons_on_the_map(wizard: TuneWizard, canvas: QgsMapCanvas, roofs: QgsVectorLayer) -> None:
    with (
        mock.patch.object(QgsMapCanvas, "zoomToFeatureIds") as zoom,
        mock.patch.object(QgsMapCanvas, "flashFeatureIds"),
    ):
        wizard.learn.inspection.issues_label.linkActivated.emit("left_out")
    (called,) = zoom.call_args_list
    assert called.args[0] is roofs
    assert called.args[1] == [1]


def test_a_layer_that_is_removed_leaves_the_wizard(
    wizard: TuneWizard, teaching: Teaching, project: QgsProject, roofs: QgsVectorLayer
) -> None:
    project.removeMapLayer(roofs.id())
    wait_until(lambda: not teaching.controller.preparer.inspecting)
    assert wizard.learn.inspection.problem_label.isVisible()
    assert not wizard.learn.isComplete()
    assert wizard.learn.labels.list.count() == 0


def test_nothing_blocks_the_main_thread_while_training(wizard: TuneWizard, teaching: Teaching) -> None:
    go_to(wizard, PageId.HOW)
    go_to(wizard, PageId.TRAINING, "fake.steps=150 fake.pace=0.01")
    gaps, last = [], time.monotonic()
    clock = QTimer()

    def tick() -> None:
        nonlocal last
        now = time.monotonic()
        gaps.append(now - last)
        last = now

    clock.timeout.connect(tick)
    clock.start(2)
    wait_until(lambda: teaching.controller.runner.watch.step > 100)
    clock.stop()
    assert sorted(gaps)[-3] < 0.05, "two hiccups of a loaded machine are forgiven"


def test_everything_fits_into_the_window(wizard: TuneWizard) -> None:
    for _page in range(3):
        assert wizard.width() <= 1000
        assert wizard.height() <= 700
        for group in wizard.currentPage().findChildren(QGroupBox):
            if group.isVisible():
                assert group.minimumSizeHint().width() <= group.width()
        if wizard.currentId() < PageId.HOW:
            go_next(wizard)


def test_the_panel_s_bands_are_taken_over(
    teaching: Teaching, roofs: QgsVectorLayer, ready_session: Session, raster_layer: QgsRasterLayer
) -> None:
    ready_session.set_source((3, 2, 1), ready_session.stretch)
    wizard = teaching.open()
    draft = teaching.controller.draft
    assert draft.rgb == (3, 2, 1)
    assert [combo.currentBand() for combo in wizard.learn.rasters.band_combos] == [3, 2, 1]
    wizard.learn.rasters.band_combos[0].setBand(1)
    assert draft.rgb == (1, 2, 1)


def test_several_further_bands_are_chosen_without_opening_the_list_again(
    wizard: TuneWizard, teaching: Teaching
) -> None:
    combo, draft = wizard.learn.rasters.further_combo, teaching.controller.draft
    combo.showPopup()
    wait_until(combo.view().isVisible)
    for index in (0, 2):
        place = combo.view().visualRect(combo.model().index(index, 0)).center()
        QTest.mouseClick(combo.view().viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
        spin(100)
        assert combo.view().isVisible()
    assert draft.further == ()
    QTest.keyClick(combo.view(), Qt.Key.Key_Escape)
    wait_until(lambda: draft.further == (1, 3))
    assert combo.checkedItems() == ["Band 1", "Band 3"]


def test_a_list_stays_open_when_the_polygons_have_been_looked_at(teaching: Teaching, roofs: QgsVectorLayer) -> None:
    wizard = teaching.open()
    combo, button = wizard.learn.rasters.further_combo, wizard.button(QWizard.WizardButton.NextButton)
    combo.showPopup()
    assert not wizard.learn.isComplete()
    wait_until(wizard.learn.isComplete)
    spin(300)
    assert combo.view().isVisible()
    combo.hidePopup()
    wait_until(button.isEnabled)
    teaching.controller.draft.set_labels(())
    wait_until(lambda: not button.isEnabled())


def test_filter_selection_and_class_in_the_page(wizard: TuneWizard, teaching: Teaching, roofs: QgsVectorLayer) -> None:
    labels = wizard.learn.labels
    labels.filter_edit.setExpression('"size" < 5')
    wait_until(lambda: teaching.controller.draft.labels[0].expression == '"size" < 5')
    wait_until(wizard.learn.isComplete)
    assert "5 objects" in wizard.learn.inspection.count_label.text()
    roofs.selectByIds([1, 2, 9])
    assert labels.selected_check.text() == "Only selected features (3 are)"
    labels.selected_check.click()
    wait_until(wizard.learn.isComplete)
    assert "2 objects" in wizard.learn.inspection.count_label.text()
    labels.class_combo.setField("")
    assert labels.name_edit.isVisible()
    labels.name_edit.setText("")
    QTest.keyClicks(labels.name_edit, "roof")
    wait_until(wizard.learn.isComplete)
    assert wizard.learn.inspection.classes.topLevelItem(0).text(0) == "roof"
    labels.filter_edit.setExpression('"size" <')
    wait_until(lambda: "no usable expression" in wizard.learn.inspection.problem_label.text())
    assert not wizard.learn.isComplete()


def test_answers_to_former_choices_are_dropped(wizard: TuneWizard, teaching: Teaching) -> None:
    draft, preparer = teaching.controller.draft, teaching.controller.preparer
    name = draft.labels[0].layer
    for expression in ('"size" < 3', '"size" < 4', '"size" < 5'):
        draft.change_labels(name, expression=expression)
        QTest.qWait(430)
    wait_until(lambda: not preparer.inspecting)
    assert sum(one.objects for one in preparer.inspection.classes) == 5
    folder = Path(preparer.labels.source.path).parent
    assert list(folder.glob("labels-*.gpkg")) == [Path(preparer.labels.source.path)]
