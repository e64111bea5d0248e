"""All settings of a run that a recommendation usually makes."""

from __future__ import annotations

from dataclasses import replace

from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt.QtCore import QSignalBlocker
from qgis.PyQt.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLineEdit, QSpinBox, QWidget

from ...plugin.adapter_state import AdapterState
from ...plugin.tune_draft import MethodChoice, TuneDraft
from ..forms import compact

LEVELS = range(-2, 7)


class ExpertBox(QgsCollapsibleGroupBox):
    """A view of the draft's method and level; collapsed at first.

    Attributes:
        methods_edit: names, as ``samtune tune --method`` takes them.
        options_edit: as ``--set`` takes them, parted by blanks.
        steps_spin: 0 for the way's own number.
        seed_spin: of all that is drawn by chance.
        hold_out_spin: per cent of the objects.
        general_check: also keep what the model outlines well elsewhere.
        level_combo: fixed level of detail.
        previous_combo: adapter to go on with.
    """

    def __init__(self, draft: TuneDraft, adapters: AdapterState, parent: QWidget | None = None) -> None:
        """Build the widgets and listen to the draft.

        Args:
            draft: the choices.
            adapters: those that a run can go on with.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.setTitle(self.tr("For experts"))
        self.setObjectName("samtune_expert_group")
        self.setCollapsed(True)
        self._draft = draft
        self._adapters = adapters
        self.methods_edit, self.options_edit = QLineEdit(self), QLineEdit(self)
        self.methods_edit.setPlaceholderText(self.tr("as chosen above; for instance late-lora,decoder"))
        self.options_edit.setPlaceholderText("lora.rank=8 schedule.rate=0.0005")
        self.steps_spin, self.seed_spin, self.hold_out_spin = QSpinBox(self), QSpinBox(self), QSpinBox(self)
        self.steps_spin.setRange(0, 1_000_000)
        self.steps_spin.setSpecialValueText(self.tr("as recommended"))
        self.seed_spin.setRange(0, 999_999)
        self.hold_out_spin.setRange(0, 50)
        self.hold_out_spin.setSuffix(" %")
        self.hold_out_spin.setToolTip(
            self.tr("Of the objects, to measure on. Fewer than ten prove little: then ten are held out, or a third")
        )
        for spin in (self.steps_spin, self.seed_spin, self.hold_out_spin):
            spin.setKeyboardTracking(False)
        self.general_check = QCheckBox(self.tr("also keep what it outlines well elsewhere (slower)"), self)
        self.level_combo, self.previous_combo = compact(QComboBox(self)), compact(QComboBox(self), 12)
        self.level_combo.addItem(self.tr("by the size of each object"), None)
        for level in LEVELS:
            self.level_combo.addItem(self.tr("level {n}").format(n=level), level)
        self._lay_out()
        self._connect()
        draft.method_changed.connect(self.refresh)
        draft.inputs_changed.connect(self.refresh)
        adapters.listed.connect(self.refresh)
        self.refresh()

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        form.addRow(self.tr("Methods"), self.methods_edit)
        form.addRow(self.tr("Settings"), self.options_edit)
        form.addRow(self.tr("Steps"), self.steps_spin)
        form.addRow(self.tr("Held out"), self.hold_out_spin)
        form.addRow(self.tr("Seed"), self.seed_spin)
        form.addRow(self.tr("Level of detail"), self.level_combo)
        form.addRow(self.tr("Continue from"), self.previous_combo)
        form.addRow(self.tr("Generality"), self.general_check)

    def _connect(self) -> None:
        self.methods_edit.editingFinished.connect(self._take)
        self.options_edit.editingFinished.connect(self._take)
        for spin in (self.steps_spin, self.seed_spin, self.hold_out_spin):
            spin.valueChanged.connect(lambda _value: self._take())
        self.general_check.clicked.connect(lambda _on: self._take())
        self.previous_combo.activated.connect(lambda _index: self._take())
        self.level_combo.activated.connect(lambda _index: self._draft.set_level(self.level_combo.currentData()))

    def refresh(self) -> None:
        """Show the draft."""
        method = self._draft.method
        widgets = (self.steps_spin, self.seed_spin, self.hold_out_spin, self.previous_combo, self.level_combo)
        blockers = [QSignalBlocker(widget) for widget in widgets]
        self.methods_edit.setText(",".join(method.methods))
        self.options_edit.setText(" ".join(method.options))
        self.steps_spin.setValue(method.steps)
        self.seed_spin.setValue(method.seed)
        self.hold_out_spin.setValue(round(100 * method.hold_out))
        self.general_check.setChecked(method.keep_general)
        self.level_combo.setCurrentIndex(max(0, self.level_combo.findData(self._draft.level)))
        self.previous_combo.clear()
        self.previous_combo.addItem(self.tr("nothing: a separate adapter"), "")
        for known in self._adapters.of_base(self._draft.model):
            self.previous_combo.addItem(known.name, str(known.path))
        self.previous_combo.setCurrentIndex(max(0, self.previous_combo.findData(method.previous)))
        del blockers

    def _take(self) -> None:
        names = self.methods_edit.text().replace(" ", "").split(",")
        self._draft.set_method(
            replace(
                self._draft.method,
                methods=tuple(name for name in names if name),
                options=tuple(self.options_edit.text().split()),
                steps=self.steps_spin.value(),
                seed=self.seed_spin.value(),
                hold_out=self._hold_out(),
                keep_general=self.general_check.isChecked(),
                previous=self.previous_combo.currentData() or "",
            )
        )

    def _hold_out(self) -> float:
        """Return the share as shown; one that was not changed stays as exact as it was."""
        before: MethodChoice = self._draft.method
        shown = self.hold_out_spin.value()
        return before.hold_out if round(100 * before.hold_out) == shown else shown / 100
