"""Where the results of a batch job and its job file go."""

from __future__ import annotations

from pathlib import Path

from qgis.gui import QgsFileWidget
from qgis.PyQt.QtCore import QSignalBlocker, pyqtSignal
from qgis.PyQt.QtWidgets import QCheckBox, QWidget

from ..engine.batch_messages import BatchOutputs, BatchTask
from ..plugin.batch_book import JOB_SUFFIX
from .forms import column, wide_row

FORMATS = {".gpkg": "GeoPackage", ".fgb": "FlatGeobuf", ".parquet": "GeoParquet"}


class BatchOutputBox(QWidget):
    """The file of the polygons, the folder of maps, the job file beside them.

    Attributes:
        vector_file: GeoPackage, FlatGeobuf or GeoParquet, by its ending.
        vector_check: of maps: polygons as well.
        maps_folder: of maps: folder of the GeoTIFFs.
        confidence_check: of maps: how sure each pixel is.
        job_file: follows the other names until the user changes it.
        overwrite_check: replace what exists; only there when something does.
        show_check: put the results into the project.
    """

    changed = pyqtSignal()

    def __init__(self, folder: Path, parent: QWidget | None = None) -> None:
        """Build the widgets.

        Args:
            folder: first suggestion.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._folder = folder
        self._task = BatchTask.PROMPTS
        self.vector_file = self._chooser(
            self.tr("Polygons"), ";;".join(f"{name} (*{suffix})" for suffix, name in FORMATS.items())
        )
        self.vector_check = QCheckBox(self.tr("Polygons as well"), self)
        self.maps_folder = QgsFileWidget(self)
        self.maps_folder.setStorageMode(QgsFileWidget.StorageMode.GetDirectory)
        self.maps_folder.setDialogTitle(self.tr("Folder of class maps"))
        self.confidence_check = QCheckBox(self.tr("Also how sure each pixel is"), self)
        self.job_file = self._chooser(self.tr("Job file"), self.tr("Batch job (*{suffix})").format(suffix=JOB_SUFFIX))
        self.job_file.setToolTip(
            self.tr("Remembers what is done, so that the job can be stopped, moved and resumed. May grow large.")
        )
        self.overwrite_check = QCheckBox(self.tr("Replace what exists already"), self)
        self.show_check = QCheckBox(self.tr("Put the results into the project"), self)
        self.show_check.setChecked(True)
        self._suggested_job = ""
        self._taken: set[Path] = set()
        self._lay_out()
        self.vector_file.fileChanged.connect(lambda _path: self._on_path())
        self.maps_folder.fileChanged.connect(lambda _path: self._on_path())
        self.job_file.fileChanged.connect(lambda _path: self.changed.emit())
        for check in (self.vector_check, self.confidence_check, self.overwrite_check, self.show_check):
            check.toggled.connect(lambda _on: self._on_path())
        self.show_for(BatchTask.PROMPTS)

    @property
    def job(self) -> str:
        """Return the path of the job file; empty for none."""
        path = self.job_file.filePath().strip()
        return path if not path or path.endswith(JOB_SUFFIX) else f"{path}{JOB_SUFFIX}"

    def show_for(self, task: BatchTask) -> None:
        """Show what a task writes, and suggest names where there are none."""
        self._task = task
        maps, nothing = task is BatchTask.MAP, task is BatchTask.EMBEDDINGS
        self._maps_row.setVisible(maps)
        self._confidence_row.setVisible(maps)
        self._vector_check_row.setVisible(maps)
        self._show_row.setVisible(not nothing)
        with QSignalBlocker(self.vector_file), QSignalBlocker(self.maps_folder):
            if not self.vector_file.filePath():
                self.vector_file.setFilePath(str(self._free(self._folder / "objects.gpkg")))
            if maps and not self.maps_folder.filePath():
                self.maps_folder.setFilePath(str(self._free(self._folder / "class-maps")))
        self._on_path()

    def outputs(self) -> BatchOutputs:
        """Return what is chosen, without what the task does not write."""
        if self._task is BatchTask.EMBEDDINGS:
            return BatchOutputs()
        overwrite = self.overwrite_check.isChecked() and bool(self._existing())
        vector = self._vector()
        layer = Path(vector).stem if vector else BatchOutputs().layer
        confidence = bool(self._maps()) and self.confidence_check.isChecked()
        return BatchOutputs(vector, layer, self._maps(), confidence, overwrite)

    def problem(self) -> str:
        """Say what is missing; empty when nothing is."""
        return self._output_problem() or self._job_problem()

    def renew(self) -> None:
        """Suggest other names for the next job: those shown are this one's, though nothing is written yet."""
        named = (self._vector(), self._maps(), self.job)
        self._taken.update(Path(path) for path in named if path)
        with QSignalBlocker(self.vector_file), QSignalBlocker(self.maps_folder):
            for chooser, path in ((self.vector_file, self._vector()), (self.maps_folder, self._maps())):
                if path:
                    chooser.setFilePath(str(self._free(_unnumbered(Path(path)))))
        self._suggested_job = self.job_file.filePath()
        self.overwrite_check.setChecked(False)
        self._on_path()

    # --- paths ------------------------------------------------------------------------------------------------------

    def _vector(self) -> str:
        """Return the file of the polygons; empty where the task writes none."""
        maps_only = self._task is BatchTask.MAP and not self.vector_check.isChecked()
        path = self.vector_file.filePath().strip()
        if not path or maps_only or self._task is BatchTask.EMBEDDINGS:
            return ""
        return path if Path(path).suffix else f"{path}.gpkg"

    def _maps(self) -> str:
        """Return the folder of the maps; empty where the task writes none."""
        return str(self.maps_folder.filePath().strip()) if self._task is BatchTask.MAP else ""

    def _existing(self) -> list[Path]:
        """Return what the job would have to replace."""
        vector, maps = self._vector(), self._maps()
        existing = [Path(vector)] if vector and Path(vector).exists() else []
        if maps and any(Path(maps).glob("*.tif")):
            existing.append(Path(maps))
        return existing

    def _free(self, path: Path) -> Path:
        """Return a path, or the same with the first number, so that neither it nor a job file beside it is taken."""
        named, number = path, 2
        while any(taken.exists() or taken in self._taken for taken in (named, named.with_suffix(JOB_SUFFIX))):
            named, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
        return named

    def _output_problem(self) -> str:
        if self._task is BatchTask.EMBEDDINGS:
            return ""
        vector, maps = self._vector(), self._maps()
        if not vector and not maps:
            if self._task is BatchTask.MAP:
                return self.tr("Choose the folder of the class maps.")
            return self.tr("Choose the file that the polygons go to.")
        if vector and Path(vector).suffix.lower() not in FORMATS:
            return self.tr("Polygons go to files that end in {endings}.").format(endings=", ".join(FORMATS))
        for path in filter(None, (vector, maps)):
            if not Path(path).parent.is_dir():
                return self.tr("The folder {folder} is not there. Choose another.").format(folder=Path(path).parent)
        return self._existing_problem()

    def _existing_problem(self) -> str:
        existing = self._existing()
        if not existing or self.overwrite_check.isChecked():
            return ""
        text = self.tr("“{name}” exists already. Choose another name, or have it replaced.")
        return text.format(name=existing[0].name)

    def _job_problem(self) -> str:
        if not self.job:
            return self.tr("Choose where the job file goes.")
        if Path(self.job).exists():
            text = self.tr("The job file “{name}” exists already. Resume it in the job panel, or choose another name.")
            return text.format(name=Path(self.job).name)
        if not Path(self.job).parent.is_dir():
            text = self.tr("The folder {folder} of the job file is not there. Choose another.")
            return text.format(folder=Path(self.job).parent)
        return ""

    def _on_path(self) -> None:
        """Have the job file follow, unless the user has named it, and offer to replace what exists."""
        if self.job_file.filePath() in ("", self._suggested_job):
            named = self._maps() or self._vector()
            stem = Path(named) if named else self._folder / "warm-cache"
            self._suggested_job = str(self._free(stem.with_suffix(JOB_SUFFIX)))
            with QSignalBlocker(self.job_file):
                self.job_file.setFilePath(self._suggested_job)
        polygons = self.vector_check.isChecked() or self._task is not BatchTask.MAP
        self._vector_row.setVisible(polygons and self._task is not BatchTask.EMBEDDINGS)
        self._overwrite_row.setVisible(bool(self._existing()))
        self.changed.emit()

    def _chooser(self, title: str, kinds: str) -> QgsFileWidget:
        chooser = QgsFileWidget(self)
        chooser.setStorageMode(QgsFileWidget.StorageMode.SaveFile)
        chooser.setConfirmOverwrite(False)  # asked once, by a box below
        chooser.setDialogTitle(title)
        chooser.setFilter(kinds)
        return chooser

    def _lay_out(self) -> None:
        self._maps_row = wide_row(self, self.tr("Folder of &maps"), self.maps_folder)
        self._confidence_row = wide_row(self, "", self.confidence_check)
        self._vector_check_row = wide_row(self, "", self.vector_check)
        self._vector_row = wide_row(self, self.tr("Pol&ygons"), self.vector_file)
        self._overwrite_row = wide_row(self, "", self.overwrite_check)
        self._show_row = wide_row(self, "", self.show_check)
        rows = column(self)
        for row in (
            self._maps_row,
            self._confidence_row,
            self._vector_check_row,
            self._vector_row,
            self._overwrite_row,
            self._show_row,
            wide_row(self, self.tr("&Job file"), self.job_file),
        ):
            rows.addWidget(row)


def _unnumbered(path: Path) -> Path:
    """Return a path without the number that :meth:`BatchOutputBox._free` has put behind its name."""
    stem, _dash, number = path.stem.rpartition("-")
    return path.with_name(stem + path.suffix) if stem and number.isdigit() else path
