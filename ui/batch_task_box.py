"""What a batch job does with every raster: the task, model and adapter, and what the task needs besides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qgis.core import Qgis, QgsProject, QgsVectorLayer
from qgis.gui import QgsFieldComboBox, QgsFileWidget
from qgis.PyQt.QtCore import QSignalBlocker, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QLineEdit, QWidget

from ..engine.batch_messages import BatchOptions, BatchTask
from ..plugin.adapter_files import INSTANCES, PROMPTABLE, SEMANTIC, AdapterSummary
from ..plugin.adapter_texts import headline, tooltip
from ..plugin.batch_texts import task_name, task_text
from ..plugin.feature_file import FeatureSnapshot
from ..plugin.session import Session
from .batch_area_box import FeaturesChooser
from .batch_options_box import BatchOptionsBox
from .forms import column, text_label, wide_row

HEADS = {BatchTask.FIND: INSTANCES, BatchTask.MAP: SEMANTIC}
"""What the adapter of a task must answer with; of the other tasks ``promptable``, or there is none."""


@dataclass(frozen=True)
class TaskChoice:
    """What is done with every raster, in the words of :class:`~samtune.engine.batch_messages.BatchSpec`."""

    task: BatchTask
    model: str
    adapter: str
    second: str
    prompts: FeatureSnapshot | None
    class_field: str
    class_name: str
    options: BatchOptions


class BatchTaskBox(QWidget):
    """Shows what the chosen task needs, and nothing else.

    Attributes:
        task_combo: the task.
        prompts: the layer whose features become objects.
        field_combo: its field with the class.
        class_edit: class of all objects where nothing else says it.
        model_combo: models on this machine.
        adapter_combo: adapters of that model that fit the task.
        second_file: the second raster, or folder of them, for adapters that need one.
        options: numbers.
    """

    changed = pyqtSignal()

    def __init__(self, session: Session, project: QgsProject, parent: QWidget | None = None) -> None:
        """Build the widgets; they begin with what the panel has.

        Args:
            session: models, adapters, class and outline options.
            project: whose layers can be prompts.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._session = session
        self.task_combo = QComboBox(self)
        for task in BatchTask:
            self.task_combo.addItem(task_name(task), task)
        self.about_label, self.adapter_label = text_label(self), text_label(self)
        vectors = Qgis.LayerFilter.PointLayer | Qgis.LayerFilter.PolygonLayer
        self.prompts = FeaturesChooser(
            self.tr("&Objects of layer"), self.tr("Choose a layer of points or polygons"), vectors, project, self
        )
        self.field_combo = QgsFieldComboBox(self)
        self.field_combo.setAllowEmptyFieldName(True)
        self.class_edit = QLineEdit(session.class_value, self)
        self.class_edit.setPlaceholderText(self.tr("none"))
        self.class_edit.setToolTip(self.tr("Of the objects that get none from a field or from the adapter"))
        self.model_combo, self.adapter_combo = QComboBox(self), QComboBox(self)
        self.second_file = QgsFileWidget(self)
        self.second_file.setDialogTitle(self.tr("Second raster"))
        self.options = BatchOptionsBox(session, project, self)
        self._lay_out()
        self.task_combo.currentIndexChanged.connect(self._on_task)
        self.prompts.changed.connect(self._on_prompts)
        self.field_combo.fieldChanged.connect(lambda _field: self.changed.emit())
        self.class_edit.textChanged.connect(lambda _text: self.changed.emit())
        self.model_combo.currentIndexChanged.connect(lambda _index: self._list_adapters())
        self.adapter_combo.currentIndexChanged.connect(lambda _index: self._on_adapter())
        self.second_file.fileChanged.connect(lambda _path: self.changed.emit())
        self.options.changed.connect(self.changed)
        session.models_changed.connect(self._list_models)
        session.adapters.listed.connect(self._list_adapters)
        self._list_models()
        self._on_task()

    @property
    def task(self) -> BatchTask:
        """Return the task chosen."""
        return BatchTask(self.task_combo.currentData())

    @property
    def adapter(self) -> AdapterSummary | None:
        """Return the adapter chosen."""
        path = self.adapter_combo.currentData()
        return next((known for known in self._session.adapters.known if str(known.path) == path), None)

    def set_task(self, task: BatchTask) -> None:
        """Choose a task."""
        self.task_combo.setCurrentIndex(self.task_combo.findData(task))

    def choice(self) -> TaskChoice:
        """Return what is chosen, without what the task does not use."""
        task, adapter = self.task, self.adapter
        prompts = task is BatchTask.PROMPTS
        return TaskChoice(
            task=task,
            model=str(self.model_combo.currentData() or self._session.model),
            adapter=str(adapter.path) if adapter is not None else "",
            second=self.second_file.filePath() if adapter is not None and adapter.second else "",
            prompts=self.prompts.snapshot() if prompts else None,
            class_field=self.field_combo.currentField() if prompts else "",
            class_name=self.class_edit.text().strip() if task in (BatchTask.PROMPTS, BatchTask.AUTOMATIC) else "",
            options=self.options.options(task),
        )

    def problem(self) -> str:
        """Say what is missing; empty when nothing is."""
        if self.task is BatchTask.PROMPTS:
            missing = self.prompts.problem(self.tr("Choose the layer whose features become objects."))
            if missing:
                return missing
        if self.task in HEADS and self.adapter is None:
            return self._no_adapter_text()
        if self.adapter is not None and self.adapter.second:
            path = self.second_file.filePath()
            if not path:
                text = self.tr("The adapter “{name}” needs a second raster ({second}): choose it, or a folder of them.")
                return text.format(name=self.adapter.name, second=self.adapter.second)
            if not Path(path).exists():
                return self.tr("The second raster is not there: {path}. Choose another one.").format(path=path)
        return ""

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _on_task(self, _index: int = 0) -> None:
        task = self.task
        self.about_label.setText(task_text(task))
        self.prompts.setVisible(task is BatchTask.PROMPTS)
        self._field_row.setVisible(task is BatchTask.PROMPTS)
        self._class_row.setVisible(task in (BatchTask.PROMPTS, BatchTask.AUTOMATIC))
        self.options.show_for(task)
        self._list_adapters()

    def _on_prompts(self) -> None:
        layer = self.prompts.layer
        if self.field_combo.layer() is not layer:
            self.field_combo.setLayer(layer)
            self.field_combo.setField(_class_field(layer))
        if self.task is BatchTask.PROMPTS:
            self.changed.emit()

    def _list_models(self) -> None:
        session = self._session
        before = self.model_combo.currentData() or session.model
        present = [(model.title, model.name) for model in session.models if model.present]
        with QSignalBlocker(self.model_combo):
            self.model_combo.clear()
            for title, name in present or [(session.model, session.model)]:
                self.model_combo.addItem(title, name)
            self.model_combo.setCurrentIndex(max(0, self.model_combo.findData(before)))
        self._list_adapters()

    def _list_adapters(self) -> None:
        """List the adapters that fit model and task; the panel's one is taken first."""
        state, combo = self._session.adapters, self.adapter_combo
        head = HEADS.get(self.task, PROMPTABLE)
        model = str(self.model_combo.currentData() or self._session.model)
        fitting = [summary for summary in state.of_base(model) if summary.head == head]
        before = combo.currentData() or (str(state.chosen.path) if state.chosen is not None else "")
        with QSignalBlocker(combo):
            combo.clear()
            if self.task not in HEADS:
                combo.addItem(self.tr("None: the model as it is"), "")
            for summary in fitting:
                combo.addItem(summary.name, str(summary.path))
                combo.setItemData(combo.count() - 1, tooltip(summary), Qt.ItemDataRole.ToolTipRole)
            combo.setCurrentIndex(max(0, combo.findData(before)))
        self._on_adapter()

    def _on_adapter(self) -> None:
        adapter = self.adapter
        missing = self.task in HEADS and adapter is None
        text = self._no_adapter_text() if missing else headline(adapter) if adapter is not None else ""
        self.adapter_label.setText(text)
        self._adapter_info.setVisible(bool(text))
        self._second_row.setVisible(adapter is not None and bool(adapter.second))
        self.adapter_combo.setEnabled(bool(self.adapter_combo.count()))
        self.changed.emit()

    def _no_adapter_text(self) -> str:
        if self.task is BatchTask.MAP:
            return self.tr("There is no adapter of this model that makes class maps. Tune one first.")
        return self.tr("There is no adapter of this model that finds objects. Tune one first.")

    def _lay_out(self) -> None:
        rows = column(self)
        self._field_row = wide_row(self, self.tr("Class from &field"), self.field_combo)
        self._class_row = wide_row(self, self.tr("&Class"), self.class_edit)
        self._adapter_info = wide_row(self, "", self.adapter_label)
        self._second_row = wide_row(self, self.tr("Second raster"), self.second_file)
        rows.addWidget(wide_row(self, self.tr("&Task"), self.task_combo))
        rows.addWidget(wide_row(self, "", self.about_label))
        rows.addWidget(self.prompts)
        rows.addWidget(self._field_row)
        rows.addWidget(self._class_row)
        rows.addWidget(wide_row(self, self.tr("&Model"), self.model_combo))
        rows.addWidget(wide_row(self, self.tr("Ada&pter"), self.adapter_combo))
        for widget in (self._adapter_info, self._second_row, self.options):
            rows.addWidget(widget)


def _class_field(layer: QgsVectorLayer | None) -> str:
    """Return the field of a layer that is called ``class``, whatever its case; empty for none."""
    names = [field.name() for field in layer.fields()] if layer is not None else []
    return next((name for name in names if name.casefold() == "class"), "")
