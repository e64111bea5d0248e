"""A batch job with the real engine and the model that ships, from the dialog to the layer in the project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsCategorizedSymbolRenderer, QgsFeature, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import Qt
from samtune.engine.batch_messages import BatchState, BatchTask
from samtune.plugin.batch_desk import BatchDesk
from samtune.plugin.batch_texts import Standing
from samtune.plugin.engine_config import engine_config
from samtune.plugin.engine_service import EngineService
from samtune.plugin.session import Session
from samtune.plugin.settings import PluginSettings
from samtune_test_engine_helpers import wait_until
from samtune_test_support import LEFT, TOP, UTM17, ScriptedService, Window, spin, square, write_raster


@pytest.fixture
def desk(
    ready_session: Session, settings: PluginSettings, window: Window, project: QgsProject, tmp_path: Path
) -> Iterator[BatchDesk]:
    (tmp_path / "results").mkdir()
    settings.output_folder.setValue(str(tmp_path / "results"))
    settings.store_folder.setValue(str(tmp_path / "store"))
    service = EngineService(engine_config(settings, background=True))
    made = BatchDesk(ready_session, service, ScriptedService(), settings, window.surroundings(project))
    yield made
    made.stop()
    made.deleteLater()
    spin(5)


@pytest.mark.timeout(300)
def test_polygons_of_a_layer_being_edited_over_a_folder_with_a_bad_raster(
    desk: BatchDesk, raster_layer: QgsRasterLayer, project: QgsProject, tmp_path: Path
) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    write_raster(folder / "good.tif")
    (folder / "bad.tif").write_text("no raster")
    layer = QgsVectorLayer(f"Polygon?crs={UTM17}&field=class:string&field=no:int", "ponds", "memory")
    project.addMapLayer(layer)
    layer.startEditing()
    for number, name in enumerate(("pond", "lake")):
        made = QgsFeature(layer.fields())
        made.setAttributes([name, number])
        made.setGeometry(square(LEFT + 20 + 80 * number, TOP - 20, 40.0).coerceToType(layer.wkbType())[0])
        layer.addFeature(made)

    dialog = desk.open_dialog()
    (own,) = dialog.rasters_box.list.findItems(raster_layer.name(), Qt.MatchFlag.MatchExactly)
    own.setCheckState(0, Qt.CheckState.Unchecked)
    dialog.rasters_box.add_paths([str(folder)])
    dialog.task_box.set_task(BatchTask.PROMPTS)
    dialog.task_box.prompts.layer_combo.setLayer(layer)
    figures = dialog.estimate_box
    wait_until(lambda: dict(figures.figures).get("Objects") == "2", 120.0)
    assert "bad.tif" in figures.text_label.text()
    order = dialog.order()
    dialog.start_button.click()
    dialog.hide()
    wait_until(lambda: not desk.controller.busy, 120.0)
    record, status = desk.controller.job(order.job), desk.controller.status(order.job)
    assert desk.controller.standing(record) is Standing.FINISHED, record.problem
    states = {raster.name: raster.state for raster in status.rasters}
    assert states["bad.tif"] is BatchState.FAILED
    assert states["good.tif"] is BatchState.FINISHED
    (group,) = project.layerTreeRoot().findGroups()
    (found,) = [node.layer() for node in group.findLayers()]
    assert sorted((feature["class"], feature["no"]) for feature in found.getFeatures()) == [("lake", 1), ("pond", 0)]
    assert isinstance(found.renderer(), QgsCategorizedSymbolRenderer)
    assert found.crs().authid() == UTM17
    layer.rollBack()
