"""The fine-tune wizard with the real engine: four drawn crowns, learnt at once, kept and in use."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsFeature, QgsGeometry, QgsPointXY, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtWidgets import QWizard
from samtune import classFactory
from samtune.engine.messages import EngineSettings
from samtune.models.errors import EnvironmentMissingError
from samtune.plugin.engine_config import PLUGIN_FOLDER, engine_location
from samtune.plugin.environment import find_interpreter
from samtune.plugin.settings import PluginSettings
from samtune.plugin.tune_runner import RunStage
from samtune.plugin.workbench import Workbench
from samtune.ui.adapter_manager import AdapterManager
from samtune.ui.compare_dialog import CompareDialog
from samtune.ui.rename_dialog import RenameDialog
from samtune.ui.tune.wizard import PageId
from samtune_test_engine_helpers import wait_until
from samtune_test_support import Window, show_layer, spin
from samtune_test_tune_support import go_next, press

SAMPLE = PLUGIN_FOLDER / "docs" / "sample" / "neon_osbs.tif"
WEIGHTS = PLUGIN_FOLDER / "models" / "weights" / "tiny.safetensors"
CROWNS = ((72, 93, 20), (268, 117, 25), (150, 300, 18), (330, 250, 22))
"""Column, row and radius in pixels of the sample."""


@pytest.fixture
def bench(
    window: Window, without_plugin: None, project: QgsProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workbench]:
    settings = PluginSettings()
    try:
        find_interpreter(engine_location(settings))
    except EnvironmentMissingError:
        pytest.skip("no engine environment: set SAMTUNE_ENGINE_PYTHON or run `make setup-engine`")
    finally:
        settings.unload()
    if not WEIGHTS.is_file():
        pytest.skip("the tiny model's weights are not in this checkout")
    layer = QgsRasterLayer(str(SAMPLE), "sample")
    crowns = QgsVectorLayer(f"Polygon?crs={layer.crs().authid()}", "crowns", "memory")
    extent, pixel = layer.extent(), layer.rasterUnitsPerPixelX()
    for column, row, radius in CROWNS:
        feature = QgsFeature()
        middle = QgsPointXY(extent.xMinimum() + column * pixel, extent.yMaximum() - row * pixel)
        feature.setGeometry(QgsGeometry.fromPointXY(middle).buffer(radius * pixel, 8))
        crowns.dataProvider().addFeatures([feature])
    project.addMapLayers([layer, crowns])
    show_layer(window.canvas, layer)
    own_store = EngineSettings(threads=1, store_dir=str(tmp_path / "store"))
    monkeypatch.setattr(PluginSettings, "engine_settings", lambda self: own_store)
    plugin = classFactory(window)
    plugin.initGui()
    plugin._settings.adapters_folder.setValue(str(tmp_path / "adapters"))
    made = plugin.open_dock()
    made.session.set_model("tiny")
    yield made
    for entry in plugin._settings.node.childrenSettings():
        entry.remove()
    plugin.unload()
    spin(20)


@pytest.mark.timeout(600)
def test_from_four_crowns_to_an_adapter(bench: Workbench, tmp_path: Path) -> None:
    wizard = bench.teaching.open()
    controller = bench.teaching.controller
    wait_until(wizard.learn.isComplete, 120)
    assert "4 objects" in wizard.learn.inspection.count_label.text()
    assert wizard.learn.inspection.strip.count() > 0
    go_next(wizard)
    go_next(wizard)
    wait_until(wizard.how.isComplete, 240)
    assert controller.preparer.plan.recommended == "instant"
    go_next(wizard)
    wait_until(lambda: not controller.runner.active, 240)
    assert controller.runner.stage is RunStage.DONE, controller.runner.error
    wait_until(lambda: wizard.currentId() == PageId.BETTER)
    report = controller.runner.report
    assert wizard.better.banner.text() == report.sentence
    assert Path(report.report).is_file()
    wizard.better.anyway_check.setChecked(True)
    go_next(wizard)
    wizard.keep.name_edit.setText("crowns")
    press(wizard.button(QWizard.WizardButton.FinishButton))
    wait_until(lambda: not wizard.isVisible(), 60)
    assert (tmp_path / "adapters" / "crowns.safetensors").is_file()
    assert bench.session.adapters.chosen.name == "crowns"
    wait_until(lambda: not bench.session.adapters.problem)


@pytest.mark.timeout(300)
def test_an_adapter_is_renamed_and_compared(bench: Workbench, project: QgsProject, tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    folder.mkdir(exist_ok=True)
    maker = Path(__file__).with_name("make_adapters.py")
    python = find_interpreter(engine_location(bench._settings)).python
    subprocess.run([str(python), str(maker), str(PLUGIN_FOLDER), str(folder)], check=True, timeout=120)
    told: list[str] = []
    bench.session.noticed.connect(lambda notice: told.append(notice.text))
    bench.adapters.refresh()
    bench.areas.show_manager()
    manager = bench.areas.dialogs["manager"]
    assert isinstance(manager, AdapterManager)
    row = next(row for row in range(manager.table.rowCount()) if manager.table.item(row, 0).text() == "crowns")
    manager.table.selectRow(row)

    def fill(dialog: RenameDialog) -> bool:
        dialog.name_edit.setText("tree crowns")
        dialog.notes_edit.setPlainText("Seen in <spring>.")
        return True

    with mock.patch.object(RenameDialog, "exec", fill):
        press(manager.rename_button)
    wait_until(lambda: any("tree crowns" in text for text in told), 120)
    wait_until(lambda: "tree crowns" in {known.name for known in bench.session.adapters.known})
    row = next(row for row in range(manager.table.rowCount()) if manager.table.item(row, 0).text() == "tree crowns")
    manager.table.selectRow(row)
    assert "Seen in <spring>." in manager.page.toPlainText()
    press(manager.compare_button)
    dialog = bench.areas.dialogs["compare"]
    assert isinstance(dialog, CompareDialog)
    wait_until(dialog.run_button.isEnabled, 120)
    press(dialog.run_button)
    wait_until(lambda: not dialog.table.isHidden(), 240)
    assert "tree crowns" in dialog.sentence_label.text()
    assert dialog.table.item(0, 0).text() == "IoU"
    assert 0 < float(dialog.table.item(0, 1).text()) < 1
    dialog.close()
    manager.close()
