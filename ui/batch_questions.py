"""What is asked about batch jobs: forget one, and write its results elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qgis.PyQt.QtCore import QObject
from qgis.PyQt.QtWidgets import QFileDialog, QMessageBox, QWidget

from ..engine.batch_messages import BatchOutputs, BatchTask
from ..plugin.batch_book import JobRecord
from .batch_output_box import FORMATS


class BatchQuestions(QObject):
    """Asks the user. A closed window means no."""

    def __init__(self, window: QWidget, parent: QObject | None = None) -> None:
        """Keep the parent of the dialogs."""
        super().__init__(parent)
        self._window = window

    def forget(self, record: JobRecord, *, running: bool) -> tuple[bool, bool]:
        """Ask whether a job may be forgotten.

        Args:
            record: the job.
            running: something works on it.

        Returns:
            Whether it may, and whether its job file may be deleted.
        """
        box = QMessageBox(self._window)
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle(self.tr("Forget a batch job?"))
        first = (
            self.tr("“{name}” is stopped and taken off the list.")
            if running
            else self.tr("Take “{name}” off the list?")
        )
        box.setText(first.format(name=record.name))
        box.setInformativeText(
            self.tr(
                "With its job file it can be taken up again later. Without that, what it has done so far is lost. "
                "Results already written stay where they are."
            )
        )
        keep = box.addButton(self.tr("Keep the job file"), QMessageBox.ButtonRole.AcceptRole)
        delete = box.addButton(self.tr("Delete it too"), QMessageBox.ButtonRole.DestructiveRole)
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(keep)
        box.exec()
        chosen = box.clickedButton()
        box.deleteLater()
        return chosen in (keep, delete), chosen is delete

    def elsewhere(self, record: JobRecord) -> BatchOutputs | None:
        """Ask where the results of a job go instead.

        Returns:
            Other outputs; None for a change of mind.
        """
        before = record.outputs
        if record.task is BatchTask.MAP:
            folder = QFileDialog.getExistingDirectory(self._window, self.tr("Folder of class maps"), before.maps)
            if not folder:
                return None
            vector = str(Path(folder) / Path(before.vector).name) if before.vector else ""
            return replace(before, maps=folder, vector=vector, overwrite=False)
        kinds = ";;".join(f"{name} (*{suffix})" for suffix, name in FORMATS.items())
        path, _kind = QFileDialog.getSaveFileName(self._window, self.tr("Polygons"), before.vector, kinds)
        if not path:
            return None
        # Replacing was agreed to in the file dialog, of this file.
        return replace(before, vector=path, layer=Path(path).stem, overwrite=Path(path).exists())
