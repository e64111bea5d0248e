"""The adapter manager: what it shows, and rename, export, delete with undo, compare."""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from unittest import mock

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsProject
from qgis.PyQt.QtCore import QBuffer, QIODevice, Qt
from qgis.PyQt.QtGui import QPixmap
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QFileDialog
from samtune.engine.area_messages import CompareParams, CompareResult
from samtune.engine.messages import AdapterReport, Method
from samtune.engine.tune_messages import DescribeAdapterParams, FigureRow, Picture, PictureKind
from samtune.models.errors import OutputError, TuningError
from samtune.plugin.adapter_controller import AdapterController
from samtune.plugin.adapter_shelf import AdapterShelf, Comparison
from samtune.plugin.adapter_trash import TRASH, export_copy, move_back, move_to_trash, remove_old
from samtune.plugin.session import Notice, NoticeLevel, Session
from samtune.plugin.settings import PluginSettings
from samtune.ui.adapter_manager import AdapterManager
from samtune.ui.compare_dialog import CompareDialog
from samtune.ui.rename_dialog import RenameDialog
from samtune_test_area_support import layer_of
from samtune_test_engine_helpers import wait_until
from samtune_test_support import ScriptedService, spin


def write(folder: Path, name: str, **card: object) -> Path:
    whole = {"schema": 1, "name": name, "base": {"name": "tiny"}, "head": "promptable", **card}
    text = json.dumps({"__metadata__": {"format": "samtune-adapter", "card": json.dumps(whole)}}).encode()
    path = folder / f"{name}.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


PONDS = {
    "inputs": {"rgb": [4, 3, 2]},
    "ground": {"gsd": [0.25, 0.5]},
    "classes": [{"name": "pond", "objects": 12}],
    "metrics": [{"name": "iou", "frozen": 0.5, "tuned": 0.75}],
    "notes": ["Better than the base.", "Note: seen <b>in</b> spring"],
    "created": "2026-05-01T10:00:00Z",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "adapters"
    made.mkdir()
    write(made, "ponds", **PONDS)
    write(made, "roofs", head="instances", inputs={"rgb": [1, 2, 3]})
    write(made, "other", base={"name": "vit_b"})
    return made


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def told(ready_session: Session) -> list[Notice]:
    heard: list[Notice] = []
    ready_session.noticed.connect(heard.append)
    return heard


@pytest.fixture
def adapters(
    ready_session: Session, service: ScriptedService, settings: PluginSettings, folder: Path, project: QgsProject
) -> Iterator[AdapterController]:
    made = AdapterController(ready_session, service, settings, lambda: folder, lambda: 0, project)
    made.restore()
    yield made
    made.stop()


@pytest.fixture
def shelf(
    ready_session: Session, service: ScriptedService, adapters: AdapterController, folder: Path, told: object
) -> Iterator[AdapterShelf]:
    made = AdapterShelf(ready_session, service, adapters, lambda: folder)
    yield made
    made.stop()


@pytest.fixture
def manager(ready_session: Session, project: QgsProject, shelf: AdapterShelf) -> Iterator[AdapterManager]:
    made = AdapterManager(ready_session, project, lambda: shelf.can_undo)
    made.delete_wanted.connect(shelf.delete)
    made.undo_wanted.connect(shelf.undo_delete)
    made.describe_wanted.connect(shelf.describe)
    made.export_wanted.connect(shelf.export)
    shelf.changed.connect(made.refresh)
    made.show()
    spin(10)
    yield made
    made.close()
    spin(5)


def choose(manager: AdapterManager, *names: str) -> None:
    manager.table.clearSelection()
    for row in range(manager.table.rowCount()):
        if manager.table.item(row, 0).text() in names:
            manager._select_row(row)


def names(manager: AdapterManager) -> list[str]:
    return [manager.table.item(row, 0).text() for row in range(manager.table.rowCount())]


def click(button: object) -> None:
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    spin()


def test_the_list_and_the_card(manager: AdapterManager) -> None:
    assert names(manager) == ["other", "ponds", "roofs"]
    row = [manager.table.item(1, column).text() for column in range(manager.table.columnCount())]
    assert row[:7] == ["ponds", "tiny", "clicks", "pond", "12", "0.50 → 0.75", "0.25 to 0.5 m"]
    assert row[8] == "2026-05-01"
    choose(manager, "ponds")
    page = manager.page.toPlainText()
    assert "seen <b>in</b> spring" in page, "what a file says is shown, not obeyed"
    assert "The whole card" in page
    assert "gsd" in page
    assert "It learned from the bands 4, 3, 2; “scene” has 3" in page
    assert "coarser (2 m per pixel)" in page
    choose(manager, "other")
    assert "tuned on the model vit_b" in manager.page.toPlainText()
    assert not manager.activate_button.isEnabled(), "that model is not on this machine"
    choose(manager)
    assert not manager.delete_button.isEnabled()
    choose(manager, "ponds", "roofs")
    assert manager.compare_button.isEnabled()
    assert not manager.export_button.isEnabled()


def test_activate(manager: AdapterManager, ready_session: Session, adapters: AdapterController) -> None:
    manager.activate_wanted.connect(lambda summary: adapters.choose(str(summary.path)))
    choose(manager, "roofs")
    click(manager.activate_button)
    assert ready_session.adapters.chosen.name == "roofs"
    assert manager.table.item(2, 0).font().bold()
    assert not manager.activate_button.isEnabled()


def test_delete_and_undo(
    manager: AdapterManager, ready_session: Session, adapters: AdapterController, folder: Path, told: list[Notice]
) -> None:
    adapters.choose(str(folder / "ponds.safetensors"))
    before = (folder / "ponds.safetensors").read_bytes()
    choose(manager, "ponds")
    click(manager.delete_button)
    assert names(manager) == ["other", "roofs"]
    assert ready_session.adapters.chosen is None
    assert not (folder / "ponds.safetensors").exists()
    deleted = told[-1]
    assert deleted.undo is not None
    assert manager.undo_button.isEnabled()
    click(manager.undo_button)
    assert (folder / "ponds.safetensors").read_bytes() == before
    assert names(manager) == ["other", "ponds", "roofs"]
    assert not manager.undo_button.isEnabled()
    deleted.undo()  # the message is still there: nothing more to undo
    assert names(manager) == ["other", "ponds", "roofs"]


def test_undo_beside_a_new_file_of_that_name(shelf: AdapterShelf, ready_session: Session, folder: Path) -> None:
    (ponds,) = [summary for summary in ready_session.adapters.known if summary.name == "ponds"]
    old = ponds.path.read_bytes()
    shelf.delete(ponds)
    write(folder, "ponds", notes=["another"])
    shelf.undo_delete()
    assert (folder / "ponds-2.safetensors").read_bytes() == old
    assert b"another" in (folder / "ponds.safetensors").read_bytes()


def test_what_cannot_be_deleted_stays(
    shelf: AdapterShelf, ready_session: Session, folder: Path, told: list[Notice]
) -> None:
    (ponds,) = [summary for summary in ready_session.adapters.known if summary.name == "ponds"]
    (folder / TRASH).write_text("a file where the folder should be")
    shelf.delete(ponds)
    assert ponds.path.exists()
    assert told[-1].level is NoticeLevel.ERROR
    assert not shelf.can_undo


def test_the_trash_is_kept_for_a_while(tmp_path: Path) -> None:
    today = date(2026, 6, 1)
    new, old = write(tmp_path, "new"), write(tmp_path, "old")
    kept = move_to_trash(new, today - timedelta(days=30))
    gone = move_to_trash(old, today - timedelta(days=31))
    mine = tmp_path / TRASH / "mine"
    mine.mkdir()
    write(mine, "important")
    assert remove_old(tmp_path, today) == 1
    assert kept.now.exists()
    assert not gone.now.parent.exists()
    assert (mine / "important.safetensors").exists(), "only folders of days are cleaned"
    assert move_back(kept) == new
    assert remove_old(tmp_path / "not there", today) == 0


def test_export_never_replaces(manager: AdapterManager, tmp_path: Path, folder: Path, told: list[Notice]) -> None:
    choose(manager, "ponds")
    with mock.patch.object(QFileDialog, "getSaveFileName", return_value=(str(tmp_path / "copy"), "")):
        click(manager.export_button)
        copy = tmp_path / "copy.safetensors"
        assert copy.read_bytes() == (folder / "ponds.safetensors").read_bytes()
        copy.write_bytes(b"mine")
        click(manager.export_button)
    assert copy.read_bytes() == b"mine"
    assert told[-1].level is NoticeLevel.ERROR
    assert "exists already" in told[-1].text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_export_into_a_folder_that_cannot_be_written(tmp_path: Path, folder: Path) -> None:
    tmp_path.joinpath("locked").mkdir(mode=0o500)
    with pytest.raises(OutputError):
        export_copy(folder / "ponds.safetensors", tmp_path / "locked" / "x.safetensors")


def test_rename(
    manager: AdapterManager,
    service: ScriptedService,
    ready_session: Session,
    adapters: AdapterController,
    folder: Path,
    told: list[Notice],
) -> None:
    adapters.choose(str(folder / "ponds.safetensors"))
    choose(manager, "ponds")

    def fill(dialog: RenameDialog) -> int:
        assert (dialog.name, dialog.notes) == ("ponds", "seen <b>in</b> spring")
        dialog.name_edit.setText("")
        assert not dialog.buttons.button(dialog.buttons.StandardButton.Ok).isEnabled()
        dialog.name_edit.setText("lakes")
        dialog.notes_edit.setPlainText("in autumn")
        return 1

    with mock.patch.object(RenameDialog, "exec", fill):
        click(manager.rename_button)
    path = str(folder / "ponds.safetensors")
    assert service.last(Method.DESCRIBE_ADAPTER).params == DescribeAdapterParams(path, "lakes", "in autumn")
    write(folder, "lakes", **PONDS).replace(path)
    service.last(Method.DESCRIBE_ADAPTER).on_result(AdapterReport("lakes", path))
    assert ready_session.adapters.chosen.name == "lakes", "it stays in use"
    assert "lakes" in names(manager)
    assert told[-1].level is NoticeLevel.SUCCESS


def png() -> str:
    pixmap = QPixmap(60, 60)
    pixmap.fill(Qt.GlobalColor.darkGreen)
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    pixmap.save(buffer, "PNG")
    return base64.b64encode(bytes(buffer.data())).decode()


@pytest.fixture
def compare(ready_session: Session, shelf: AdapterShelf, project: QgsProject) -> Iterator[CompareDialog]:
    project.addMapLayer(layer_of([0.5, 0.6]))
    (ponds,) = [summary for summary in ready_session.adapters.known if summary.name == "ponds"]
    made = CompareDialog(ready_session, shelf, (ponds,))
    made.compare_wanted.connect(shelf.compare)
    made.cancel_wanted.connect(shelf.cancel_compare)
    made.show()
    spin(10)
    yield made
    made.close()
    spin(5)


def test_compare(compare: CompareDialog, service: ScriptedService, folder: Path) -> None:
    assert compare.first_combo.currentText() == "The model as it is"
    compare.field_combo.setField("class")
    click(compare.run_button)
    wait_until(lambda: service.of(Method.COMPARE_ADAPTERS))
    params = service.last(Method.COMPARE_ADAPTERS).params
    assert isinstance(params, CompareParams)
    assert (params.first, params.second_adapter) == ("", str(folder / "ponds.safetensors"))
    assert Path(params.labels.path).exists()
    assert compare.run_button.text() == "Stop"
    rows = (FigureRow("iou", "IoU", 0.4, 0.6, 0.1, 0.3), FigureRow("f1", "F1", -1.0, 0.5, group="pond"))
    pictures = (Picture(PictureKind.GAIN, "0.2 → 0.8", png()),)
    service.last(Method.COMPARE_ADAPTERS).on_result(CompareResult(rows, "ponds is better.", 2, pictures))
    assert compare.sentence_label.text() == "ponds is better."
    shown = [[compare.table.item(row, column).text() for column in range(4)] for row in range(2)]
    assert shown[0] == ["IoU", "0.400", "0.600", "+0.200 (95 %: +0.100 to +0.300)"]
    assert shown[1] == ["F1 (pond)", "", "0.500", ""]
    assert not Path(params.labels.path).exists()
    assert compare.run_button.text() == "Compare"


def test_compare_fails_or_is_stopped(compare: CompareDialog, service: ScriptedService) -> None:
    click(compare.run_button)
    wait_until(lambda: service.of(Method.COMPARE_ADAPTERS))
    service.last(Method.COMPARE_ADAPTERS).on_error(TuningError("It does not fit."))
    assert compare.sentence_label.text() == "It does not fit."
    click(compare.run_button)
    wait_until(lambda: len(service.of(Method.COMPARE_ADAPTERS)) == 2)
    click(compare.run_button)
    assert service.last(Method.COMPARE_ADAPTERS).cancelled
    assert compare.run_button.text() == "Compare"


def test_what_cannot_be_compared(compare: CompareDialog, ready_session: Session, shelf: AdapterShelf) -> None:
    compare.second_combo.setCurrentIndex(0)
    assert not compare.run_button.isEnabled()
    assert "two different" in compare.sentence_label.text()
    ready_session.set_layer(None)
    assert "raster layer" in compare.sentence_label.text()
    failed: list[str] = []
    shelf.compare_failed.connect(failed.append)
    shelf.compare(Comparison("", "x", layer_of([0.5])))
    assert failed
