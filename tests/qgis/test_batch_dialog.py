"""The batch dialog: what can be chosen, what is missing, what is ordered, what the estimate says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsFeature, QgsGeometry, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QTreeWidgetItem
from samtune.engine.batch_messages import BatchEstimate, BatchOutputs, BatchTask
from samtune.engine.messages import Method
from samtune.models.errors import CancelledByUser, RasterError
from samtune.plugin.adapter_files import INSTANCES, SEMANTIC, AdapterSummary
from samtune.plugin.batch_order import BatchOrder
from samtune.plugin.batch_planner import BatchPlanner
from samtune.plugin.session import Session
from samtune.ui.batch_area_box import AreaKind
from samtune.ui.batch_dialog import BatchDialog
from samtune_test_engine_helpers import let_run, wait_until
from samtune_test_support import ScriptedService, show_layer, spin, write_raster

ESTIMATE = BatchEstimate(2, (), 3, 1234, -1.0, 5 << 20, 8 << 30, "cpu", "", ("Mind the sea.",))


class Machine:
    """A dialog and what it asked for."""

    def __init__(self, dialog: BatchDialog) -> None:
        self.dialog = dialog
        self.orders: list[BatchOrder] = []
        self.asked: list[BatchOrder | None] = []
        dialog.ordered.connect(self.orders.append)
        dialog.estimate_wanted.connect(self.asked.append)

    def said(self) -> str:
        return str(self.dialog.estimate_box.text_label.text())

    def choose(self, task: BatchTask) -> None:
        self.dialog.task_box.set_task(task)

    def row(self, name: str) -> QTreeWidgetItem:
        (found,) = self.dialog.rasters_box.list.findItems(name, Qt.MatchFlag.MatchExactly)
        return found


@pytest.fixture
def points(project: QgsProject) -> QgsVectorLayer:
    layer = QgsVectorLayer("Point?crs=EPSG:4326&field=Class:string&field=no:int", "points", "memory")
    for x in (1, 2, 3):
        made = QgsFeature(layer.fields())
        made.setGeometry(QgsGeometry.fromWkt(f"Point ({x} 1)"))
        layer.dataProvider().addFeature(made)
    project.addMapLayer(layer)
    return layer


@pytest.fixture
def machine(
    ready_session: Session, project: QgsProject, canvas: QgsMapCanvas, tmp_path: Path, points: QgsVectorLayer
) -> Iterator[Machine]:
    folder = tmp_path / "results"
    folder.mkdir()
    dialog = BatchDialog(ready_session, project, canvas, folder)
    made = Machine(dialog)
    dialog.show()
    spin(5)
    yield made
    dialog.stop()
    dialog.deleteLater()
    spin(5)


def adapter(folder: Path, name: str, head: str = "promptable", base: str = "tiny", second: str = "") -> AdapterSummary:
    return AdapterSummary(folder / f"{name}.safetensors", (0, 0), name, base, head, second=second)


def test_begins_with_the_panels_raster_and_says_what_is_missing(machine: Machine, raster_layer: QgsRasterLayer) -> None:
    assert machine.dialog.order().spec.rasters.paths == (raster_layer.source(),)
    assert machine.said() == "Choose the layer whose features become objects."
    assert not machine.dialog.start_button.isEnabled()
    assert machine.dialog.start_button.toolTip() == machine.said()
    assert machine.asked[-1] is None


def test_layers_that_only_qgis_can_read_are_greyed_with_the_reason(machine: Machine, project: QgsProject) -> None:
    project.addMapLayer(QgsRasterLayer("type=xyz&url=file:///x/{z}/{x}/{y}.png", "tiles", "wms"))
    spin(5)
    row = machine.row("tiles")
    assert not row.flags() & Qt.ItemFlag.ItemIsEnabled
    assert "comes from a service" in row.toolTip(0)
    assert "tiles" not in str(machine.dialog.order().spec.rasters.paths)


def test_layers_come_and_go_and_checks_stay(machine: Machine, project: QgsProject, tmp_path: Path) -> None:
    other = QgsRasterLayer(str(write_raster(tmp_path / "other.tif")), "other")
    project.addMapLayer(other)
    spin(5)
    assert machine.row("other").checkState(0) == Qt.CheckState.Unchecked
    machine.row("other").setCheckState(0, Qt.CheckState.Checked)
    third = QgsRasterLayer(str(write_raster(tmp_path / "third.tif")), "third")
    project.addMapLayer(third)
    spin(5)
    assert len(machine.dialog.order().spec.rasters.paths) == 2
    project.removeMapLayer(other.id())
    spin(5)
    assert len(machine.dialog.order().spec.rasters.paths) == 1


def test_folders_with_a_filter(machine: Machine, tmp_path: Path) -> None:
    machine.choose(BatchTask.AUTOMATIC)
    machine.row("scene").setCheckState(0, Qt.CheckState.Unchecked)
    assert "Check a layer" in machine.said()
    machine.dialog.rasters_box.add_paths([str(tmp_path)])
    machine.dialog.rasters_box.pattern_edit.setText("*.tif; *.vrt")
    rasters = machine.dialog.order().spec.rasters
    assert (rasters.paths, rasters.pattern) == ((str(tmp_path),), "*.tif,*.vrt")
    machine.dialog.rasters_box.pattern_edit.setText(" ")
    assert "Say which files" in machine.said()
    machine.dialog.rasters_box.pattern_edit.setText("*.tif")
    assert machine.dialog.start_button.isEnabled()


def test_bands_and_stretch_of_the_panel(machine: Machine, ready_session: Session) -> None:
    assert machine.dialog.order().spec.rasters.bands == ()
    machine.dialog.rasters_box.bands_check.setChecked(True)
    rasters = machine.dialog.order().spec.rasters
    assert rasters.bands == (1, 2, 3)
    assert len(rasters.stretch) == 3
    ready_session.set_source((3, 2, 1), ready_session.stretch)
    assert "3, 2, 1" in machine.dialog.rasters_box.bands_check.text()
    assert machine.dialog.order().spec.rasters.bands == (3, 2, 1)


def test_prompts_of_a_layer(machine: Machine, points: QgsVectorLayer) -> None:
    box = machine.dialog.task_box
    box.prompts.layer_combo.setLayer(points)
    order = machine.dialog.order()
    assert order.prompts is not None
    assert order.prompts.count == 3
    assert order.spec.class_field == "Class", "a field of that name is taken, whatever its case"
    assert machine.dialog.order().prompts is order.prompts, "unchanged features are not read again"
    assert machine.dialog.start_button.isEnabled()
    points.selectByIds([1])
    box.prompts.selected_check.setChecked(True)
    assert machine.dialog.order().prompts.count == 1
    points.removeSelection()
    assert machine.said() == "Select features of “points”, or take all of them."
    box.prompts.selected_check.setChecked(False)
    before = machine.dialog.order().prompts
    points.startEditing()
    points.deleteFeature(2)
    assert machine.dialog.order().prompts is not before, "edits count before they are saved"
    assert machine.dialog.order().prompts.count == 2
    points.rollBack()


def test_a_prompt_layer_that_is_removed_is_missing(
    machine: Machine, points: QgsVectorLayer, project: QgsProject
) -> None:
    machine.dialog.task_box.prompts.layer_combo.setLayer(points)
    assert machine.dialog.start_button.isEnabled()
    project.removeMapLayer(points.id())
    spin(5)
    assert not machine.dialog.start_button.isEnabled()
    assert machine.said() == "Choose the layer whose features become objects."


def test_area_of_the_map_and_of_polygons(
    machine: Machine, polygon_layer: QgsVectorLayer, canvas: QgsMapCanvas, raster_layer: QgsRasterLayer
) -> None:
    machine.choose(BatchTask.AUTOMATIC)
    box = machine.dialog.area_box
    assert machine.dialog.order().area is None
    box.kind_combo.setCurrentIndex(box.kind_combo.findData(AreaKind.VIEW))
    assert machine.said() == "The map shows nothing yet. Zoom to the area."
    show_layer(canvas, raster_layer)
    view = machine.dialog.order().area
    assert view is not None
    assert view.crs.authid() == "EPSG:3857"
    assert view.drawn.boundingBox().width() == pytest.approx(canvas.extent().width(), rel=0.01)
    canvas.zoomByFactor(0.5)
    assert machine.dialog.order().area is not view, "what the map shows now"
    box.kind_combo.setCurrentIndex(box.kind_combo.findData(AreaKind.POLYGONS))
    assert "polygons of the area" in machine.said()
    box.polygons.layer_combo.setLayer(polygon_layer)
    assert machine.said() == "“objects” has no features. Choose another layer."


def test_adapters_that_fit_model_and_task(machine: Machine, ready_session: Session, tmp_path: Path) -> None:
    ready_session.adapters.set_known(
        (
            adapter(tmp_path, "clicks"),
            adapter(tmp_path, "finds", INSTANCES),
            adapter(tmp_path, "maps", SEMANTIC),
            adapter(tmp_path, "other", base="vit_b"),
        )
    )
    combo = machine.dialog.task_box.adapter_combo
    listed = {}
    for task in BatchTask:
        machine.choose(task)
        listed[task] = [combo.itemText(number) for number in range(combo.count())]
    none = "None: the model as it is"
    assert listed == {
        BatchTask.PROMPTS: [none, "clicks"],
        BatchTask.AUTOMATIC: [none, "clicks"],
        BatchTask.FIND: ["finds"],
        BatchTask.MAP: ["maps"],
        BatchTask.EMBEDDINGS: [none, "clicks"],
    }
    machine.choose(BatchTask.FIND)
    assert machine.dialog.order().spec.adapter == str(tmp_path / "finds.safetensors")
    assert machine.dialog.start_button.isEnabled()


def test_no_adapter_for_the_task_is_said(machine: Machine) -> None:
    machine.choose(BatchTask.FIND)
    assert machine.said() == "There is no adapter of this model that finds objects. Tune one first."
    assert not machine.dialog.start_button.isEnabled()


def test_an_adapter_with_a_second_raster_asks_for_it(machine: Machine, ready_session: Session, tmp_path: Path) -> None:
    ready_session.adapters.set_known((adapter(tmp_path, "two", INSTANCES, second="heights"),))
    machine.choose(BatchTask.FIND)
    assert "needs a second raster (heights)" in machine.said()
    machine.dialog.task_box.second_file.setFilePath("/not/there.tif")
    assert "is not there" in machine.said()
    machine.dialog.task_box.second_file.setFilePath(str(tmp_path))
    assert machine.dialog.order().spec.rasters.second == str(tmp_path)
    assert machine.dialog.start_button.isEnabled()


def test_only_what_the_task_uses_is_shown_and_sent(machine: Machine) -> None:
    options = machine.dialog.task_box.options
    options.threshold_spin.setValue(0.7)
    options.points_spin.setValue(32)
    options.group.setCollapsed(False)
    machine.choose(BatchTask.FIND)
    assert options.threshold_spin.isVisible()
    assert not options.points_spin.isVisible()
    sent = machine.dialog.order().spec.options
    assert (sent.threshold, sent.points) == (0.7, 16)
    machine.choose(BatchTask.AUTOMATIC)
    assert options.points_spin.isVisible()
    assert not options.threshold_spin.isVisible()
    options.level_combo.setCurrentIndex(options.level_combo.findData(2))
    sent = machine.dialog.order().spec.options
    assert (sent.threshold, sent.points, sent.level) == (0.3, 32, 2)


def test_outline_options_begin_as_in_the_panel_in_metres(machine: Machine) -> None:
    sent = machine.dialog.task_box.options.options(BatchTask.AUTOMATIC)
    assert sent.simplify == pytest.approx(1.0), "half a pixel of 2 m"
    assert sent.min_hole == pytest.approx(256.0), "8 pixels of 2 m, squared"


def test_outputs_follow_the_task(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    machine.choose(BatchTask.AUTOMATIC)
    assert machine.dialog.order().spec.outputs == BatchOutputs(str(folder / "objects.gpkg"), "objects")
    assert machine.dialog.order().job == str(folder / "objects.samjob")
    machine.choose(BatchTask.MAP)
    assert machine.dialog.order().spec.outputs == BatchOutputs(maps=str(folder / "class-maps"))
    assert machine.dialog.order().job == str(folder / "class-maps.samjob")
    machine.dialog.output_box.vector_check.setChecked(True)
    machine.dialog.output_box.confidence_check.setChecked(True)
    assert machine.dialog.order().spec.outputs == BatchOutputs(
        str(folder / "objects.gpkg"), "objects", str(folder / "class-maps"), confidence=True
    )
    machine.choose(BatchTask.EMBEDDINGS)
    assert machine.dialog.order().spec.outputs == BatchOutputs()
    assert machine.dialog.order().job == str(folder / "warm-cache.samjob")


def test_existing_outputs_are_not_replaced_unasked(machine: Machine, tmp_path: Path) -> None:
    machine.choose(BatchTask.AUTOMATIC)
    box = machine.dialog.output_box
    taken = tmp_path / "results" / "taken.fgb"
    taken.write_text("x")
    assert not box.overwrite_check.isVisible()
    box.vector_file.setFilePath(str(taken))
    assert machine.said() == "“taken.fgb” exists already. Choose another name, or have it replaced."
    assert not machine.dialog.start_button.isEnabled()
    assert box.overwrite_check.isVisible()
    box.overwrite_check.setChecked(True)
    assert machine.dialog.start_button.isEnabled()
    assert machine.dialog.order().spec.outputs.overwrite
    box.vector_file.setFilePath(str(tmp_path / "results" / "free.fgb"))
    assert not machine.dialog.order().spec.outputs.overwrite


@pytest.mark.parametrize(
    ("vector", "said"),
    [("", "Choose the file"), ("/x/a.shp", "end in .gpkg, .fgb, .parquet"), ("/not/there/a.gpkg", "is not there")],
)
def test_outputs_that_cannot_be(machine: Machine, vector: str, said: str) -> None:
    machine.choose(BatchTask.AUTOMATIC)
    machine.dialog.output_box.vector_file.setFilePath(vector)
    assert said in machine.said()


def test_a_job_file_that_exists_is_to_be_resumed(machine: Machine, tmp_path: Path) -> None:
    machine.choose(BatchTask.AUTOMATIC)
    (tmp_path / "old.samjob").write_text("x")
    machine.dialog.output_box.job_file.setFilePath(str(tmp_path / "old"))
    assert machine.said().startswith("The job file “old.samjob” exists already. Resume it in the job panel")
    machine.dialog.output_box.vector_file.setFilePath(str(tmp_path / "results" / "b.gpkg"))
    assert machine.dialog.order().job == str(tmp_path / "old.samjob"), "a name of the user's own stays"


def test_the_estimate_is_shown_and_its_problem_keeps_from_starting(machine: Machine) -> None:
    machine.choose(BatchTask.AUTOMATIC)
    assert machine.asked[-1] == machine.dialog.order()
    machine.dialog.show_estimate(ESTIMATE)
    figures = dict(machine.dialog.estimate_box.figures)
    assert figures["Tiles"].replace("\N{NARROW NO-BREAK SPACE}", " ") == "1 234"
    assert figures["Time"] == "being measured… on cpu"
    assert figures["Disk"] == "5 MiB of 8.0 GiB free"
    assert machine.said() == "Mind the sea."
    machine.dialog.show_estimate(replace(ESTIMATE, seconds=7200.0, failed=("a.tif: no CRS",)))
    assert dict(machine.dialog.estimate_box.figures)["Time"] == "2.0 h on cpu"
    assert "a.tif: no CRS" in machine.said()
    assert machine.dialog.start_button.isEnabled()
    machine.dialog.show_estimate(replace(ESTIMATE, problem="No raster can be used. Choose others."))
    assert "No raster can be used" in machine.said()
    assert not machine.dialog.start_button.isEnabled()
    machine.dialog.task_box.options.points_spin.setValue(9)
    assert machine.dialog.start_button.isEnabled(), "another job, of which nothing bad is known"
    assert machine.asked[-1].spec.options.points == 9


def test_start_orders_what_is_shown_and_the_next_job_gets_other_names(machine: Machine, tmp_path: Path) -> None:
    machine.choose(BatchTask.AUTOMATIC)
    shown = machine.dialog.order()
    machine.dialog.start_button.click()
    assert machine.orders == [shown]
    machine.dialog.ordered_well()
    assert machine.dialog.order().job == str(tmp_path / "results" / "objects-2.samjob")
    assert machine.dialog.order().spec.outputs.vector == str(tmp_path / "results" / "objects-2.gpkg")
    assert machine.dialog.start_button.isEnabled()
    machine.dialog.ordered_well()
    assert machine.dialog.order().job == str(tmp_path / "results" / "objects-3.samjob")


# --- the planner ------------------------------------------------------------------------------------------------------


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def planner(qgis_app: object, service: ScriptedService) -> Iterator[BatchPlanner]:
    made = BatchPlanner(service)
    made._settle.setInterval(20)
    yield made
    made.stop()


def listening(planner: BatchPlanner) -> list[object]:
    told: list[object] = []
    planner.estimated.connect(told.append)
    planner.failed.connect(told.append)
    return told


def test_an_estimate_is_counted_then_measured(
    machine: Machine, planner: BatchPlanner, service: ScriptedService
) -> None:
    told = listening(planner)
    machine.choose(BatchTask.AUTOMATIC)
    for points in (9, 10, 11):
        machine.dialog.task_box.options.points_spin.setValue(points)
        planner.ask(machine.dialog.order())
    wait_until(lambda: service.calls)
    let_run(0.1)
    (call,) = service.of(Method.BATCH_ESTIMATE)
    assert call.params.spec.options.points == 11, "one request, the last one"
    assert not call.params.measure
    call.on_result(ESTIMATE)
    assert service.last(Method.BATCH_ESTIMATE).params.measure
    service.last(Method.BATCH_ESTIMATE).on_result(replace(ESTIMATE, seconds=60.0))
    assert told == [ESTIMATE, replace(ESTIMATE, seconds=60.0)]


def test_a_job_that_cannot_be_is_not_measured(
    machine: Machine, planner: BatchPlanner, service: ScriptedService
) -> None:
    machine.choose(BatchTask.AUTOMATIC)
    planner.ask(machine.dialog.order())
    wait_until(lambda: service.calls)
    service.calls[0].on_result(replace(ESTIMATE, problem="No."))
    assert len(service.calls) == 1


def test_features_are_written_once_for_several_estimates(
    machine: Machine, planner: BatchPlanner, service: ScriptedService, points: QgsVectorLayer
) -> None:
    machine.dialog.task_box.prompts.layer_combo.setLayer(points)
    planner.ask(machine.dialog.order())
    wait_until(lambda: service.calls)
    first = service.calls[-1].params.spec.prompts.path
    assert QgsVectorLayer(first, "", "ogr").featureCount() == 3
    machine.dialog.task_box.class_edit.setText("tree")
    planner.ask(machine.dialog.order())
    wait_until(lambda: len(service.calls) == 2)
    assert service.calls[-1].params.spec.prompts.path == first
    points.selectByIds([1])
    machine.dialog.task_box.prompts.selected_check.setChecked(True)
    planner.ask(machine.dialog.order())
    wait_until(lambda: len(service.calls) == 3)
    assert QgsVectorLayer(service.calls[-1].params.spec.prompts.path, "", "ogr").featureCount() == 1


def test_what_was_asked_before_is_dropped(machine: Machine, planner: BatchPlanner, service: ScriptedService) -> None:
    told = listening(planner)
    machine.choose(BatchTask.AUTOMATIC)
    planner.ask(machine.dialog.order())
    wait_until(lambda: service.calls)
    old = service.calls[0]
    planner.ask(machine.dialog.order())
    assert old.cancelled
    old.on_error(CancelledByUser())
    old.on_result(ESTIMATE)
    assert told == []


def test_why_there_is_no_estimate_is_said(machine: Machine, planner: BatchPlanner, service: ScriptedService) -> None:
    told = listening(planner)
    planner.failed.connect(machine.dialog.show_failure)
    machine.choose(BatchTask.AUTOMATIC)
    planner.ask(machine.dialog.order())
    wait_until(lambda: service.calls)
    service.calls[0].on_error(RasterError("The raster is gone. Choose another."))
    assert told == ["The raster is gone. Choose another."]
    assert machine.said() == "There is no estimate: The raster is gone. Choose another."
    assert machine.dialog.start_button.isEnabled()


def test_a_closed_dialog_wants_no_estimates(machine: Machine) -> None:
    machine.choose(BatchTask.AUTOMATIC)
    machine.dialog.hide()
    assert machine.asked[-1] is None
    count = len(machine.asked)
    machine.dialog.task_box.options.points_spin.setValue(5)
    assert len(machine.asked) == count
    machine.dialog.show()
    assert machine.asked[-1] is not None
