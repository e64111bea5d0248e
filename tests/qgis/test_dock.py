"""The panel: what it shows in every state, what its widgets send, how narrow it gets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QBuffer, QIODevice, Qt
from qgis.PyQt.QtGui import QImage
from qgis.PyQt.QtTest import QSignalSpy, QTest
from qgis.PyQt.QtWidgets import QAction, QFileDialog, QLabel, QWidget
from samtune.engine.messages import EngineInfo, Prompt
from samtune.plugin.session import Busy, EngineState, NoticeLevel, Outline, Session, StretchMode
from samtune.plugin.status import Action
from samtune.ui.dock import SamTuneDock
from samtune.ui.model_box import device_name
from samtune.ui.outline_box import area_text
from samtune_test_support import CROP, engine_info, found, model_info, sent, spin, square


@pytest.fixture
def dock(session: Session, project: QgsProject) -> Iterator[SamTuneDock]:
    action = QAction("Click objects")
    action.setCheckable(True)
    made = SamTuneDock(session, project, action)
    made.resize(300, 700)
    made.show()
    spin(20)
    yield made
    made.deleteLater()
    spin()


def test_the_menu_tells_the_size_of_the_cache_and_clears_it(dock: SamTuneDock, session: Session) -> None:
    asked, cleared = QSignalSpy(dock.store_size_wanted), QSignalSpy(dock.clear_store_wanted)
    assert not dock.clear_store_action.isEnabled(), "there is nobody to ask"
    session.set_engine_info(engine_info(store_bytes=3 << 29))
    session.set_engine(EngineState.READY)
    dock.menu_button.menu().aboutToShow.emit()
    assert len(asked) == 1
    assert dock.clear_store_action.text() == "Clear cache (1.5 GiB)"
    dock.clear_store_action.trigger()
    assert len(cleared) == 1
    session.set_engine_info(engine_info(store_bytes=0))
    assert dock.clear_store_action.text() == "Clear cache (empty)"


def with_outline(session: Session) -> None:
    session.add_step(Prompt(0.0, 0.0))
    session.set_outline(Outline(square(), found(None), sent()))


def test_no_raster_layer(dock: SamTuneDock) -> None:
    assert "raster layer" in dock.status_box.label.text()
    assert not dock.prompt_button.isEnabled()
    assert not dock.accept_button.isEnabled()
    assert not dock.status_box.action_button.isVisible()
    assert not dock.raster_box.source_group.isEnabled()


def test_ready(dock: SamTuneDock, ready_session: Session, raster_layer: QgsRasterLayer) -> None:
    assert dock.prompt_button.isEnabled()
    assert dock.raster_box.layer_combo.currentLayer() == raster_layer
    assert dock.model_box.model_combo.currentData() == "tiny"
    assert dock.outline_box.level_combo.count() == 8  # Auto and -2 to 4
    assert dock.outline_box.level_combo.itemText(3) == "2 m per pixel"


@pytest.mark.parametrize(
    ("state", "action", "clickable"),
    [
        (EngineState.ENVIRONMENT_MISSING, Action.SET_UP, False),
        (EngineState.FAILED, Action.RETRY, True),
        (EngineState.STARTING, Action.NONE, True),
    ],
)
def test_engine_states(
    dock: SamTuneDock, ready_session: Session, state: EngineState, action: Action, clickable: bool
) -> None:
    wanted = QSignalSpy(dock.status_box.action_wanted)
    ready_session.set_engine(state, "")
    assert dock.status_box.status.action is action
    assert dock.status_box.action_button.isVisible() is (action is not Action.NONE)
    assert dock.prompt_button.isEnabled() is clickable
    if action is not Action.NONE:
        QTest.mouseClick(dock.status_box.action_button, Qt.MouseButton.LeftButton)
        assert wanted[0][0] is action


def test_missing_model_can_be_downloaded_or_loaded(dock: SamTuneDock, ready_session: Session) -> None:
    wanted = QSignalSpy(dock.model_box.download_wanted)
    ready_session.set_model("vit_b")
    assert "download 16 MiB" in dock.model_box.model_combo.currentText()
    assert dock.status_box.status.action is Action.DOWNLOAD
    assert not dock.prompt_button.isEnabled()
    dock.model_box.download_action.trigger()
    assert wanted[0][0] == "vit_b"
    ready_session.set_models((model_info(), model_info("vit_b")))
    assert dock.prompt_button.isEnabled()
    assert not dock.model_box.download_action.isEnabled()


def test_a_weight_file_is_chosen_for_the_model_shown(
    dock: SamTuneDock, ready_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = iter(["", "/media/usb/sam.pth"])
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_arguments: (next(chosen), ""))
    wanted = QSignalSpy(dock.model_box.import_wanted)
    ready_session.set_model("vit_b")
    dock.model_box.import_action.trigger()
    assert len(wanted) == 0, "a change of mind"
    dock.model_box.import_action.trigger()
    assert wanted[0] == ["vit_b", "/media/usb/sam.pth"]


@pytest.mark.parametrize(
    ("device", "text"),
    [
        ("cpu", "the processor (CPU)"),
        ("cuda:1", "the graphics card (CUDA) 1"),
        ("mps", "the Apple graphics unit (MPS)"),
        ("xpu", "xpu"),
    ],
)
def test_device_name(device: str, text: str) -> None:
    assert device_name(device) == text


def test_opening_the_group_asks_for_the_thumbnail(dock: SamTuneDock, ready_session: Session) -> None:
    wanted = QSignalSpy(dock.raster_box.thumbnail_wanted)
    dock.raster_box.source_group.setCollapsed(False)
    dock.raster_box.source_group.setCollapsed(True)
    assert [list(arguments) for arguments in wanted] == [[True], [False]]


def test_encoding_shows_progress_after_a_moment_and_can_be_cancelled(dock: SamTuneDock, ready_session: Session) -> None:
    cancel = QSignalSpy(dock.status_box.cancel_wanted)
    ready_session.set_busy("prepare", Busy("Preparing", -1.0))
    assert not dock.status_box.progress.isVisible(), "what is quick does not flicker"
    spin(300)
    assert dock.status_box.progress.isVisible()
    assert dock.status_box.progress.maximum() == 0
    ready_session.set_busy("prepare", Busy("Preparing", 0.25))
    assert dock.status_box.progress.value() / dock.status_box.progress.maximum() == pytest.approx(0.25)
    QTest.mouseClick(dock.status_box.cancel_button, Qt.MouseButton.LeftButton)
    assert len(cancel) == 1
    ready_session.set_busy("prepare", None)
    assert not dock.status_box.progress.isVisible()
    assert not dock.status_box.cancel_button.isVisible()


def test_a_notice_is_shown_until_the_next_prompt(dock: SamTuneDock, ready_session: Session) -> None:
    ready_session.notify(NoticeLevel.INFO, "This raster has no CRS.")
    assert dock.status_box.label.text() == "This raster has no CRS."
    ready_session.add_step(Prompt(0.0, 0.0))
    assert dock.status_box.label.text() != "This raster has no CRS."
    ready_session.notify(NoticeLevel.ERROR, "The engine stopped.")
    assert dock.status_box.label.text() != "The engine stopped.", "errors are for the message bar"


def test_buttons(dock: SamTuneDock, ready_session: Session) -> None:
    spies = [QSignalSpy(signal) for signal in (dock.accept_wanted, dock.undo_wanted, dock.clear_wanted)]
    with_outline(ready_session)
    for button in (dock.accept_button, dock.undo_button, dock.clear_button):
        assert button.isEnabled()
        button.setFocus()
        QTest.keyClick(button, Qt.Key.Key_Space)
    assert [len(spy) for spy in spies] == [1, 1, 1]
    ready_session.reset_object()
    assert not any(button.isEnabled() for button in (dock.accept_button, dock.undo_button, dock.clear_button))


def test_device_line_says_where_and_why(dock: SamTuneDock, ready_session: Session) -> None:
    info = EngineInfo(1, "0.1.0", "3.11", 1, "cpu", "No graphics card was found.", 1, {}, "", "", 0)
    ready_session.set_engine_info(info)
    assert "CPU" in dock.model_box.device_label.text()
    assert dock.model_box.device_label.toolTip() == "No graphics card was found."
    ready_session.set_engine(EngineState.FAILED)
    assert "not running" in dock.model_box.device_label.text()


def test_bands_and_stretch_are_sent(dock: SamTuneDock, ready_session: Session) -> None:
    chosen = QSignalSpy(dock.raster_box.source_chosen)
    dock.raster_box._band_combos[0].setBand(3)
    assert chosen[-1] == [(3, 2, 3), StretchMode.AS_DRAWN]
    for combo in dock.raster_box._band_combos:
        combo.setBand(2)
    assert chosen[-1][0] == (2,), "the same band three times is one band"
    dock.raster_box.stretch_combo.setCurrentIndex(1)
    assert chosen[-1][1] is StretchMode.ROBUST


def test_showing_the_session_sends_nothing(
    dock: SamTuneDock, ready_session: Session, polygon_layer: QgsVectorLayer
) -> None:
    spies = [
        QSignalSpy(signal)
        for signal in (
            dock.raster_box.layer_chosen,
            dock.raster_box.source_chosen,
            dock.model_box.model_chosen,
            dock.outline_box.options_chosen,
            dock.outline_box.level_chosen,
            dock.target_box.target_chosen,
            dock.target_box.class_chosen,
        )
    ]
    ready_session.set_source((2, 1, 3), StretchMode.ROBUST)
    ready_session.set_outline_options(2.0, 10.0)
    ready_session.set_fixed_level(2)
    ready_session.set_model("vit_b")
    ready_session.set_target(polygon_layer, "class")
    ready_session.set_class_value("roof")
    assert [len(spy) for spy in spies] == [0] * len(spies)
    assert dock.outline_box.simplify_slider.value() == 8
    assert dock.outline_box.level_combo.currentData() == 2
    assert dock.target_box.class_combo.currentText() == "roof"
    assert dock.target_box.field_combo.currentField() == "class"


def test_sliders_act_live_and_show_ground_units(dock: SamTuneDock, ready_session: Session) -> None:
    chosen = QSignalSpy(dock.outline_box.options_chosen)
    dock.outline_box.options_chosen.connect(ready_session.set_outline_options)
    dock.outline_box.simplify_slider.setValue(4)
    assert chosen[-1] == [1.0, 8.0]
    assert dock.outline_box.simplify_label.text() == "2 m"
    dock.outline_box.hole_slider.setValue(5)
    assert dock.outline_box.hole_label.text() == "400 m²"
    dock.outline_box.hole_slider.setValue(0)
    assert dock.outline_box.hole_label.text() == "off"


def test_detail_follows_the_level_used(dock: SamTuneDock, ready_session: Session) -> None:
    ready_session.set_crop(CROP, 2)
    assert dock.outline_box.level_combo.currentText() == "Auto: 8 m per pixel"
    ready_session.set_fixed_level(1)
    assert dock.outline_box.level_combo.currentText() == "4 m per pixel"


def test_choosing_a_target_finds_its_class_field(
    dock: SamTuneDock, ready_session: Session, polygon_layer: QgsVectorLayer
) -> None:
    chosen = QSignalSpy(dock.target_box.target_chosen)
    dock.target_box.layer_combo.setLayer(polygon_layer)
    assert chosen[-1] == [polygon_layer, "class"]


def test_classes_used_are_offered_again(dock: SamTuneDock, session: Session) -> None:
    session.set_class_value("roof")
    dock.target_box.remember_class()
    dock.target_box.remember_class()
    session.set_class_value("road")
    dock.target_box.remember_class()
    assert [dock.target_box.class_combo.itemText(i) for i in range(dock.target_box.class_combo.count())] == [
        "road",
        "roof",
    ]
    assert dock.target_box.class_combo.currentText() == "road"


def test_thumbnail_shows_the_picture(dock: SamTuneDock, ready_session: Session) -> None:
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image = QImage(32, 32, QImage.Format.Format_RGB32)
    image.fill(Qt.GlobalColor.red)
    image.save(buffer, "PNG")
    ready_session.set_thumbnail(bytes(buffer.data()))
    shown = dock.raster_box.thumbnail.pixmap()
    assert shown is not None
    assert shown.toImage().pixelColor(5, 5).red() == 255
    ready_session.set_thumbnail(b"")
    assert "pointer" in dock.raster_box.thumbnail.text()


def test_it_fits_a_narrow_panel(dock: SamTuneDock, ready_session: Session) -> None:
    dock.raster_box.source_group.setCollapsed(False)
    with_outline(ready_session)
    ready_session.set_model("vit_b")
    spin(20)
    content = dock.widget().widget()
    assert content.minimumSizeHint().width() <= 300


def test_every_control_is_reachable_and_explained(dock: SamTuneDock) -> None:
    controls = [
        dock.prompt_button,
        dock.accept_button,
        dock.undo_button,
        dock.clear_button,
        dock.raster_box.layer_combo,
        dock.model_box.model_combo,
        dock.outline_box.level_combo,
        dock.outline_box.simplify_slider,
        dock.outline_box.hole_slider,
        dock.target_box.layer_combo,
        dock.target_box.class_combo,
        dock.target_box.new_button,
        dock.status_box.cancel_button,
    ]
    for control in controls:
        assert control.focusPolicy() != Qt.FocusPolicy.NoFocus, control
        assert control.toolTip(), control
    buddies = {label.buddy() for label in dock.findChildren(QLabel) if label.buddy() is not None}
    wanted: set[QWidget] = {dock.raster_box.layer_combo, dock.model_box.model_combo, dock.target_box.class_combo}
    assert wanted <= buddies


@pytest.mark.parametrize(
    ("area", "text"), [(0.16, "0.16 m²"), (42.4, "42 m²"), (400.0, "400 m²"), (25_000.0, "2.5 ha"), (3e6, "3 km²")]
)
def test_area_text(area: float, text: str) -> None:
    assert area_text(area) == text
