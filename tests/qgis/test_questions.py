"""What the user is asked, and that anything but a clear yes means no."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsVectorLayer
from qgis.PyQt.QtWidgets import QFileDialog, QMessageBox, QWidget
from samtune.plugin.settings import PluginSettings
from samtune.ui.questions import Questions
from samtune_test_support import model_info

Button = QMessageBox.StandardButton


class Boxes:
    """Answers message boxes and keeps what they said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer = Button.Yes
        self.texts: list[str] = []
        monkeypatch.setattr(QMessageBox, "question", self._question)

    def _question(self, parent: QWidget, title: str, text: str, buttons: object) -> QMessageBox.StandardButton:
        self.texts.append(text)
        return self.answer


class FileDialogs:
    """Chooses a file and keeps where it was looked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.choice = ""
        self.begun_at: list[Path] = []
        self.options: list[object] = []
        monkeypatch.setattr(QFileDialog, "getSaveFileName", self._save)

    def _save(self, parent: QWidget, title: str, path: str, kinds: str, *, options: object) -> tuple[str, str]:
        self.begun_at.append(Path(path))
        self.options.append(options)
        return self.choice, kinds


@pytest.fixture
def questions(settings: PluginSettings) -> Iterator[Questions]:
    window = QWidget()
    yield Questions(window, settings)
    window.deleteLater()


@pytest.mark.parametrize(
    ("answer", "may"), [(Button.Yes, True), (Button.No, False), (Button.Escape, False), (Button.NoButton, False)]
)
def test_only_yes_is_yes(
    questions: Questions, monkeypatch: pytest.MonkeyPatch, answer: QMessageBox.StandardButton, may: bool
) -> None:
    boxes = Boxes(monkeypatch)
    boxes.answer = answer
    assert questions.may_download(model_info()) is may
    assert questions.may_add_fields(QgsVectorLayer("Polygon", "fields", "memory"), ("class",)) is may


def test_a_download_names_its_size_address_and_licence(questions: Questions, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch)
    questions.may_download(model_info("vit_b"))
    for part in ("VIT_B", "16 MiB", "https://models.example/vit_b", "Apache-2.0"):
        assert part in boxes.texts[0]


def test_new_fields_are_named_with_their_layer(questions: Questions, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = Boxes(monkeypatch)
    questions.may_add_fields(QgsVectorLayer("Polygon", "parcels", "memory"), ("class", "score"))
    assert "“parcels”" in boxes.texts[0]
    assert "class, score" in boxes.texts[0]


def test_the_folder_of_the_last_geopackage_is_offered_again(
    questions: Questions, settings: PluginSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dialogs = FileDialogs(monkeypatch)
    assert questions.geopackage_path() == ""
    assert dialogs.begun_at[-1].parent == Path.home()
    assert settings.output_folder.value() == "", "a change of mind is not remembered"
    dialogs.choice = str(tmp_path / "été" / "roofs.gpkg")
    assert questions.geopackage_path() == dialogs.choice
    questions.geopackage_path()
    assert dialogs.begun_at[-1].parent == tmp_path / "été"


def test_the_dialog_does_not_offer_to_replace_a_file(questions: Questions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is there is refused later, with a reason; "replace it?" would be a lie."""
    dialogs = FileDialogs(monkeypatch)
    questions.geopackage_path()
    assert dialogs.options == [QFileDialog.Option.DontConfirmOverwrite]
