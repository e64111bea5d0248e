"""Adapters in the panel: the list, the choice and what follows from it, with a scripted engine."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsGeometry, QgsPointXY, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QSignalSpy, QTest
from qgis.PyQt.QtWidgets import QAction, QFileDialog
from samtune.engine.messages import AdapterReport, AddAdapterParams, CheckAdapterParams, Method
from samtune.models.errors import EngineDiedError, ModelMissingError, TuningError
from samtune.plugin.acceptor import Acceptor
from samtune.plugin.adapter_controller import LAYER_PROPERTY, AdapterController
from samtune.plugin.adapter_files import AdapterSummary
from samtune.plugin.adapter_texts import NO_BREAK, headline, needs, tooltip
from samtune.plugin.click_controller import ClickController
from samtune.plugin.diagnostics import diagnostics_text
from samtune.plugin.engine_config import adapters_folder
from samtune.plugin.map_frame import MapFrame
from samtune.plugin.session import EngineState, NoticeLevel, Session
from samtune.plugin.settings import PluginSettings
from samtune.plugin.status import State, status_of
from samtune.ui.dock import SamTuneDock
from samtune.ui.options_page import OptionsPage
from samtune_test_engine_helpers import wait_until
from samtune_test_support import (
    LEFT,
    TOP,
    ScriptedService,
    found,
    raster_info,
    show_layer,
    spin,
    write_raster,
)


def write(folder: Path, name: str = "ponds", **card: object) -> Path:
    """Write an adapter file without tensors."""
    whole = {"schema": 1, "name": name, "base": {"name": "tiny"}, "head": "promptable", **card}
    text = json.dumps({"__metadata__": {"format": "samtune-adapter", "card": json.dumps(whole)}}).encode()
    path = folder / f"{name}.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "adapters"
    made.mkdir()
    write(made, inputs={"rgb": [1, 2, 3]}, classes=[{"name": "pond", "objects": 12}])
    write(made, "roofs", inputs={"rgb": [3, 2, 1]})
    write(made, "maps", head="semantic")
    write(made, "other", base={"name": "vit_b"})
    return made


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def adapters(
    ready_session: Session, service: ScriptedService, settings: PluginSettings, folder: Path, project: QgsProject
) -> Iterator[AdapterController]:
    made = AdapterController(ready_session, service, settings, lambda: folder, lambda: 2, project)
    made.restore()
    yield made
    made.stop()


@pytest.fixture
def clicks(
    adapters: AdapterController,
    ready_session: Session,
    service: ScriptedService,
    frame: MapFrame,
    canvas: QgsMapCanvas,
    raster_layer: QgsRasterLayer,
) -> ClickController:
    show_layer(canvas, raster_layer)
    return ClickController(ready_session, service, frame)


@pytest.fixture
def dock(ready_session: Session, project: QgsProject, adapters: AdapterController) -> Iterator[SamTuneDock]:
    made = SamTuneDock(ready_session, project, QAction("Click objects"))
    made.adapter_box.adapter_chosen.connect(adapters.choose)
    made.adapter_box.add_wanted.connect(adapters.add)
    made.adapter_box.list_wanted.connect(adapters.refresh)
    made.adapter_box.second_chosen.connect(adapters.choose_second)
    made.resize(300, 700)
    made.show()
    spin(20)
    yield made
    made.deleteLater()
    spin()


def notices(session: Session) -> list[tuple[NoticeLevel, str]]:
    told: list[tuple[NoticeLevel, str]] = []
    session.noticed.connect(lambda notice: told.append((notice.level, notice.text)))
    return told


def place(frame: MapFrame, layer: QgsRasterLayer, right: float = 40, down: float = 40) -> QgsPointXY:
    shown = frame.to_map(QgsGeometry.fromPointXY(QgsPointXY(LEFT + right, TOP - down)), layer.crs())
    if shown is None:
        raise ValueError(right, down)
    return shown.asPoint()


# --- the list ---------------------------------------------------------------------------------------------------------


def test_the_list_holds_the_model_s_adapters(dock: SamTuneDock, ready_session: Session) -> None:
    combo = dock.adapter_box.adapter_combo
    assert [combo.itemText(i) for i in range(combo.count())] == ["None", "maps", "ponds", "roofs"]
    assert combo.model().item(1).isEnabled(), "class maps are for whole areas"
    assert "class maps" in combo.itemData(1, Qt.ItemDataRole.ToolTipRole)
    assert combo.currentText() == "None"
    ready_session.set_model("vit_b")
    assert [combo.itemText(i) for i in range(combo.count())] == ["None", "other"]


def test_choosing_in_the_panel(dock: SamTuneDock, ready_session: Session, folder: Path) -> None:
    combo = dock.adapter_box.adapter_combo
    combo.setFocus()
    QTest.keyClicks(combo, "p")
    assert ready_session.adapters.path == str(folder / "ponds.safetensors")
    assert combo.currentText() == "ponds"
    assert dock.adapter_box.info_label.isVisible()
    assert dock.adapter_box.info_label.text().replace(NO_BREAK, " ") == "pond · 12 objects"
    assert "Bands: 1, 2, 3" in combo.toolTip()
    QTest.keyClick(combo, Qt.Key.Key_Home)
    assert ready_session.adapters.chosen is None
    assert not dock.adapter_box.info_label.isVisible()


def test_beside_a_class_map_adapter_the_model_answers_clicks(
    dock: SamTuneDock, ready_session: Session, folder: Path
) -> None:
    dock.adapter_box.adapter_chosen.emit(str(folder / "maps.safetensors"))
    state = ready_session.adapters
    assert state.file == str(folder / "maps.safetensors")
    assert state.path == "", "clicks go without it"
    assert not state.problem
    assert "model as it is" in dock.adapter_box.warning_label.text()
    assert dock.prompt_button.defaultAction().isEnabled()


def test_new_files_appear_by_themselves(adapters: AdapterController, ready_session: Session, folder: Path) -> None:
    write(folder, "fresh")
    wait_until(lambda: "fresh" in {summary.name for summary in ready_session.adapters.known})


def test_a_file_taken_away_is_given_up_and_said(
    adapters: AdapterController, ready_session: Session, folder: Path
) -> None:
    told = notices(ready_session)
    adapters.choose(str(folder / "ponds.safetensors"))
    (folder / "ponds.safetensors").unlink()
    wait_until(lambda: ready_session.adapters.chosen is None)
    assert [level for level, text in told if "not in its folder" in text] == [NoticeLevel.WARNING]


def test_a_changed_file_is_taken_anew(adapters: AdapterController, ready_session: Session, folder: Path) -> None:
    adapters.choose(str(folder / "ponds.safetensors"))
    changed = QSignalSpy(ready_session.adapters.changed)
    write(folder, notes=["Trained longer."])
    os.utime(folder / "ponds.safetensors", ns=(1, 1))
    adapters.refresh()
    assert len(changed) == 1
    assert ready_session.adapters.chosen.notes == ("Trained longer.",)  # type: ignore[union-attr]


def test_no_folder_is_no_adapters(
    session: Session, service: ScriptedService, settings: PluginSettings, project: QgsProject, tmp_path: Path
) -> None:
    made = AdapterController(session, service, settings, lambda: tmp_path / "none", lambda: 0, project)
    made.restore()
    assert session.adapters.known == ()
    assert service.calls == []


def test_the_default_folder_lies_beside_the_models(settings: PluginSettings, tmp_path: Path) -> None:
    assert adapters_folder(settings).parts[-2:] == ("samtune", "adapters")
    settings.adapters_folder.setValue(str(tmp_path))
    assert adapters_folder(settings) == tmp_path


def test_the_folder_is_set_on_the_options_page(qgis_app: object, settings: PluginSettings, tmp_path: Path) -> None:
    applied: list[int] = []
    page = OptionsPage(settings, lambda: applied.append(1))
    page.adapters_folder.setFilePath(str(tmp_path))
    page.apply()
    assert adapters_folder(settings) == tmp_path
    assert applied == [1]
    page.deleteLater()


def test_another_folder_is_no_loss_to_tell(
    session: Session, service: ScriptedService, settings: PluginSettings, project: QgsProject, folder: Path
) -> None:
    told, folders = notices(session), [folder]
    made = AdapterController(session, service, settings, lambda: folders[-1], lambda: 0, project)
    made.refresh()
    made.choose(str(folder / "ponds.safetensors"))
    folders.append(folder.parent)
    made.refresh()
    assert session.adapters.chosen is None
    assert told == []
    made.stop()


def test_diagnostics_name_it(adapters: AdapterController, ready_session: Session, settings: PluginSettings) -> None:
    assert "adapter: none of 4" in diagnostics_text(ready_session, settings, "1.2.3", "")
    ready_session.adapters.choose(ready_session.adapters.known[2])
    ready_session.adapters.set_notes(("Other bands.",))
    text = diagnostics_text(ready_session, settings, "1.2.3", "")
    assert "adapter: ponds.safetensors for tiny." in text
    assert "Other bands." in text


# --- remembering ------------------------------------------------------------------------------------------------------


def test_the_choice_outlives_the_session(
    adapters: AdapterController,
    service: ScriptedService,
    settings: PluginSettings,
    folder: Path,
    project: QgsProject,
) -> None:
    adapters.choose(str(folder / "roofs.safetensors"))
    later = Session()
    AdapterController(later, service, settings, lambda: folder, lambda: 0, project).restore()
    assert later.adapters.chosen.name == "roofs"  # type: ignore[union-attr]


def test_each_layer_keeps_its_own(
    adapters: AdapterController, ready_session: Session, folder: Path, project: QgsProject, tmp_path: Path
) -> None:
    first = ready_session.layer
    second = QgsRasterLayer(str(write_raster(tmp_path / "second.tif")), "second")
    project.addMapLayer(second)
    adapters.choose(str(folder / "ponds.safetensors"))
    ready_session.set_layer(second, (1, 2, 3))
    assert ready_session.adapters.chosen.name == "ponds", "nothing was chosen for it: go on"  # type: ignore[union-attr]
    adapters.choose("")
    ready_session.set_layer(first, (1, 2, 3))
    assert ready_session.adapters.chosen.name == "ponds"  # type: ignore[union-attr]
    ready_session.set_layer(second, (1, 2, 3))
    assert ready_session.adapters.chosen is None
    assert first.customProperty(LAYER_PROPERTY) == "ponds.safetensors", "no path of this machine in the project"


def test_what_a_layer_had_and_is_not_there_is_said(adapters: AdapterController, ready_session: Session) -> None:
    told = notices(ready_session)
    layer = ready_session.layer
    layer.setCustomProperty(LAYER_PROPERTY, "gone.safetensors")
    ready_session.set_layer(None)
    ready_session.set_layer(layer, (1, 2, 3))
    assert ready_session.adapters.chosen is None
    assert any("gone.safetensors" in text for _level, text in told)


def test_another_model_leaves_the_adapter(adapters: AdapterController, ready_session: Session, folder: Path) -> None:
    adapters.choose(str(folder / "ponds.safetensors"))
    ready_session.set_model("vit_b")
    assert ready_session.adapters.chosen is None


# --- in use -----------------------------------------------------------------------------------------------------------


def test_clicks_and_hover_use_it_and_answers_of_the_old_one_are_dropped(
    adapters: AdapterController,
    clicks: ClickController,
    ready_session: Session,
    service: ScriptedService,
    frame: MapFrame,
    raster_layer: QgsRasterLayer,
    folder: Path,
) -> None:
    at = place(frame, raster_layer)
    clicks.add_point(at, True)
    old = service.segments()[-1]
    assert old.params.adapter == ""  # type: ignore[attr-defined]
    adapters.choose(str(folder / "ponds.safetensors"))
    assert old.cancelled
    new = service.segments()[-1]
    assert new.params.adapter == str(folder / "ponds.safetensors")  # type: ignore[attr-defined]
    assert new.params.points == old.params.points  # type: ignore[attr-defined]
    old.on_result(found(old.params))
    assert ready_session.outline is None, "the answer of the model without it"
    new.on_result(found(new.params, adapter="ponds", notes=("Other bands.",)))
    assert ready_session.outline.result.adapter == "ponds"  # type: ignore[union-attr]
    assert ready_session.adapters.notes == ("Other bands.",)
    clicks.clear()
    clicks.hover.move(at)
    wait_until(lambda: service.segments(hover=True))
    hovered = service.segments(hover=True)[-1]
    assert hovered.params.adapter.endswith("ponds.safetensors")  # type: ignore[attr-defined]
    adapters.choose("")
    hovered.on_result(found(hovered.params))
    assert ready_session.preview is None
    clicks.hover.prepare(at)
    assert service.last(Method.PREPARE).params.adapter == ""  # type: ignore[attr-defined]
    adapters.choose(str(folder / "roofs.safetensors"))
    assert service.last(Method.PREPARE).cancelled
    clicks.stop()


def test_the_polygon_says_which(
    clicks: ClickController,
    adapters: AdapterController,
    ready_session: Session,
    service: ScriptedService,
    project: QgsProject,
    polygon_layer: QgsVectorLayer,
    frame: MapFrame,
    raster_layer: QgsRasterLayer,
    folder: Path,
) -> None:
    acceptor = Acceptor(ready_session, project, lambda layer, names: False, str)
    clicks.set_accept(acceptor.accept)
    ready_session.set_target(polygon_layer, "class")
    adapters.choose(str(folder / "ponds.safetensors"))
    clicks.add_point(place(frame, raster_layer), True)
    call = service.segments()[-1]
    call.on_result(found(call.params, adapter="ponds"))
    assert clicks.accept()
    (feature,) = polygon_layer.getFeatures()
    assert feature["adapter"] == "ponds"
    clicks.stop()


def test_the_bands_it_was_tuned_on_are_shown_to_the_model(
    adapters: AdapterController, ready_session: Session, folder: Path
) -> None:
    told = notices(ready_session)
    adapters.choose(str(folder / "roofs.safetensors"))
    assert ready_session.bands == (3, 2, 1)
    assert any("bands 3, 2, 1" in text for _level, text in told)
    adapters.choose("")
    assert ready_session.bands == (1, 2, 3), "as before"
    adapters.choose(str(folder / "roofs.safetensors"))
    ready_session.set_source((2, 2, 1), ready_session.stretch)
    adapters.choose("")
    assert ready_session.bands == (2, 2, 1), "the user's own choice stays"


def test_bands_that_the_layer_has_not_are_left_alone(
    adapters: AdapterController, ready_session: Session, folder: Path
) -> None:
    adapters.choose(str(write(folder, "wide", inputs={"rgb": [5, 4, 3]})))
    adapters.refresh()
    adapters.choose(str(folder / "wide.safetensors"))
    assert ready_session.bands == (1, 2, 3)
    assert ready_session.adapters.problem == "", "the engine warns of it"


# --- does it suit -----------------------------------------------------------------------------------------------------


def test_the_engine_is_asked_and_its_notes_are_shown(
    dock: SamTuneDock, adapters: AdapterController, ready_session: Session, service: ScriptedService, folder: Path
) -> None:
    path = str(folder / "ponds.safetensors")
    adapters.choose(path)
    call = service.last(Method.CHECK_ADAPTER)
    assert call.params == CheckAdapterParams(path, "tiny", ready_session.raster.spec, 2)
    assert not dock.adapter_box.warning_label.isVisible()
    call.on_result(AdapterReport("ponds", path, ("Much <b>coarser</b>.",)))
    assert dock.adapter_box.warning_label.isVisible()
    assert dock.adapter_box.warning_label.text() == "⚠ Much <b>coarser</b>."
    ready_session.set_fixed_level(0)
    assert service.last(Method.CHECK_ADAPTER).params.level == 0  # type: ignore[attr-defined]
    service.last(Method.CHECK_ADAPTER).on_result(AdapterReport("ponds", path))
    assert not dock.adapter_box.warning_label.isVisible()


def test_without_an_engine_it_is_asked_later(
    adapters: AdapterController, ready_session: Session, service: ScriptedService, folder: Path
) -> None:
    ready_session.set_raster(None)
    ready_session.set_engine(EngineState.OFF)
    adapters.choose(str(folder / "ponds.safetensors"))
    assert service.calls == []
    assert ready_session.adapters.chosen is not None
    ready_session.set_engine(EngineState.READY)
    ready_session.set_raster(raster_info())
    assert len(service.of(Method.CHECK_ADAPTER)) == 1


def test_an_unfit_one_stops_clicks_with_a_sentence(
    dock: SamTuneDock,
    clicks: ClickController,
    adapters: AdapterController,
    ready_session: Session,
    service: ScriptedService,
    frame: MapFrame,
    raster_layer: QgsRasterLayer,
    folder: Path,
) -> None:
    told = notices(ready_session)
    adapters.choose(str(folder / "ponds.safetensors"))
    service.last(Method.CHECK_ADAPTER).on_error(TuningError("It was tuned on another base."))
    assert dock.adapter_box.warning_label.text() == "⚠ It was tuned on another base."
    assert status_of(ready_session).state is State.ADAPTER_UNUSABLE
    assert not dock.prompt_button.isEnabled()
    before = len(service.calls)
    clicks.add_point(place(frame, raster_layer), True)
    clicks.hover.move(place(frame, raster_layer))
    spin(100)
    assert len(service.calls) == before
    assert ready_session.steps == ()
    assert told[-1] == (NoticeLevel.INFO, "It was tuned on another base.")
    adapters.choose("")
    assert dock.prompt_button.isEnabled()
    assert not dock.adapter_box.warning_label.isVisible()
    clicks.stop()


def test_other_errors_are_no_fault_of_the_adapter(
    adapters: AdapterController, ready_session: Session, service: ScriptedService, folder: Path
) -> None:
    told = notices(ready_session)
    adapters.choose(str(folder / "ponds.safetensors"))
    call = service.last(Method.CHECK_ADAPTER)
    call.on_error(ModelMissingError("Download it."))
    adapters.choose("")
    adapters.choose(str(folder / "ponds.safetensors"))
    service.last(Method.CHECK_ADAPTER).on_error(EngineDiedError("It died."))
    assert ready_session.adapters.problem == ""
    assert told == [(NoticeLevel.ERROR, "It died.")]


def test_a_click_that_finds_the_file_gone_gives_it_up(
    clicks: ClickController,
    adapters: AdapterController,
    ready_session: Session,
    service: ScriptedService,
    frame: MapFrame,
    raster_layer: QgsRasterLayer,
    folder: Path,
) -> None:
    adapters.choose(str(folder / "ponds.safetensors"))
    clicks.add_point(place(frame, raster_layer), True)
    (folder / "ponds.safetensors").unlink()
    service.segments()[-1].on_error(TuningError("There is no such file."))
    assert ready_session.adapters.chosen is None
    assert ready_session.steps == ()
    clicks.stop()


def test_further_bands_are_the_layer_s_or_asked_for(
    adapters: AdapterController, ready_session: Session, service: ScriptedService, folder: Path
) -> None:
    write(folder, "has", inputs={"rgb": [1, 2, 3], "bands": [{"number": 3}, {"number": 0}]})
    write(folder, "lacks", inputs={"rgb": [1, 2, 3], "bands": [{"number": 4}, {"number": 5}]})
    adapters.refresh()
    adapters.choose(str(folder / "has.safetensors"))
    assert ready_session.adapters.problem == ""
    asked = len(service.calls)
    adapters.choose(str(folder / "lacks.safetensors"))
    assert "needs the bands 4, 5; this layer has 3" in ready_session.adapters.problem
    assert len(service.calls) == asked


def test_a_second_raster_is_asked_for_and_sent(
    dock: SamTuneDock,
    adapters: AdapterController,
    clicks: ClickController,
    ready_session: Session,
    service: ScriptedService,
    frame: MapFrame,
    raster_layer: QgsRasterLayer,
    project: QgsProject,
    folder: Path,
    tmp_path: Path,
) -> None:
    path = str(write(folder, "two", inputs={"rgb": [1, 2, 3], "second": {"name": "height"}}))
    adapters.refresh()
    assert not dock.adapter_box.second_combo.isVisible()
    adapters.choose(path)
    assert dock.adapter_box.second_combo.isVisible()
    assert dock.adapter_box.second_combo.currentText() == "Choose the second raster"
    assert "(height)" in ready_session.adapters.problem
    height = QgsRasterLayer(str(write_raster(tmp_path / "dsm.tif", bands=1)), "dsm")
    project.addMapLayer(height)
    dock.adapter_box.second_combo.setLayer(height)
    assert ready_session.adapters.problem == ""
    assert service.last(Method.CHECK_ADAPTER).params.second == height.source()  # type: ignore[attr-defined]
    clicks.add_point(place(frame, raster_layer), True)
    assert service.segments()[-1].params.second == height.source()  # type: ignore[attr-defined]
    adapters.choose("")
    assert service.segments()[-1].params.second == "", "only for the adapter that needs it"  # type: ignore[attr-defined]
    adapters.choose(path)
    project.removeMapLayer(height)
    spin(20)
    assert ready_session.adapters.second is None
    assert "(height)" in ready_session.adapters.problem
    clicks.stop()


def test_a_layer_of_the_second_raster_s_name_is_taken(
    adapters: AdapterController, ready_session: Session, project: QgsProject, folder: Path, tmp_path: Path
) -> None:
    height = QgsRasterLayer(str(write_raster(tmp_path / "dsm.tif", bands=1)), "height")
    project.addMapLayer(height)
    write(folder, "two", inputs={"rgb": [1, 2, 3], "second": {"name": "height"}})
    adapters.refresh()
    adapters.choose(str(folder / "two.safetensors"))
    assert ready_session.adapters.second is height
    assert ready_session.adapters.problem == ""


# --- adding -----------------------------------------------------------------------------------------------------------


def test_a_file_is_added_by_the_engine_and_used(
    dock: SamTuneDock,
    ready_session: Session,
    service: ScriptedService,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = write(tmp_path, "lakes")
    chosen = iter(["", str(source)])
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_arguments: (next(chosen), ""))
    dock.adapter_box.add_action.trigger()
    assert service.of(Method.ADD_ADAPTER) == [], "a change of mind"
    dock.adapter_box.add_action.trigger()
    call = service.last(Method.ADD_ADAPTER)
    assert call.params == AddAdapterParams(str(source), "tiny", str(folder))
    assert ready_session.adapters.chosen is None, "not before it is checked"
    copied = write(folder, "lakes")
    call.on_result(AdapterReport("lakes", str(copied)))
    assert ready_session.adapters.path == str(copied)
    assert dock.adapter_box.adapter_combo.currentText() == "lakes"


def test_what_cannot_be_added_is_said(
    adapters: AdapterController, ready_session: Session, service: ScriptedService, tmp_path: Path
) -> None:
    told = notices(ready_session)
    (tmp_path / "photo.safetensors").write_bytes(b"no adapter")
    adapters.add(str(tmp_path / "photo.safetensors"))
    adapters.add(str(write(tmp_path, "later", schema=9)))
    adapters.add(str(write(tmp_path, "foreign", base={"name": "vit_h"})))
    assert service.calls == [], "nothing to start an engine for"
    adapters.add(str(write(tmp_path, "bad")))
    service.last(Method.ADD_ADAPTER).on_error(TuningError("The adapter file is damaged."))
    says = ("no adapter", "later version", "tuned on the model vit_h", "damaged")
    assert [word in text for word, (_level, text) in zip(says, told, strict=True)] == [True] * len(says)
    assert ready_session.adapters.chosen is None


# --- texts ------------------------------------------------------------------------------------------------------------


def summary(**changes: object) -> AdapterSummary:
    return AdapterSummary(Path("a.safetensors"), (0, 0), "a", "tiny", **changes)  # type: ignore[arg-type]


def test_headline_and_tooltip() -> None:
    made = summary(
        classes=(("roof", 9), ("road", 3), ("other", 0)),
        metrics=(("iou_1_click", 0.4, 0.6), ("iou", 0.412, 0.58), ("ap", None, 0.3)),
        rgb=(4, 3, 2),
        further=(5,),
        second="height",
        gsd=(0.5, 1.0),
        held_out=4,
        notes=("<img src='x'>",),
    )
    assert headline(made).replace(NO_BREAK, " ") == "roof, road · 12 objects · IoU 0.41 → 0.58"
    shown = tooltip(made)
    for text in ("tiny", "roof (9), road (3)", "4, 3, 2", "Further bands: 5", "height", "0.5 to 1 m", "ap 0.30"):
        assert text in shown
    assert "<img" not in shown, "what a file says is no markup"
    assert headline(summary()) == ""
    assert needs(summary(), 1, second=False) == ""


def test_fields_are_reachable_and_narrow(dock: SamTuneDock, ready_session: Session, folder: Path) -> None:
    box = dock.adapter_box
    for control in (box.adapter_combo, box.second_combo):
        assert control.focusPolicy() != Qt.FocusPolicy.NoFocus
        assert control.toolTip()
    ready_session.adapters.choose(
        summary(second="height", classes=(("a class with a name that is rather long", 12),), notes=())
    )
    ready_session.adapters.set_fit("", ("A warning of some length that has to wrap in a narrow panel like this.",))
    spin(20)
    assert dock.widget().widget().minimumSizeHint().width() <= 300
