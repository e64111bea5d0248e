"""Page 3: how to learn, what that takes, and whether this machine can."""

from __future__ import annotations

from dataclasses import replace

from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import (
    QButtonGroup,
    QFormLayout,
    QGroupBox,
    QLabel,
    QProgressBar,
    QRadioButton,
    QVBoxLayout,
    QWidget,
    QWizard,
)

from ...engine.tune_messages import Rung
from ...plugin.adapter_state import AdapterState
from ...plugin.tune_controller import TuneController
from ...plugin.tune_texts import estimate_rows
from ..forms import text_label
from .expert_box import ExpertBox
from .learn_page import scrolled
from .page import TunePage


class HowPage(TunePage):
    """The rungs of the ladder, the estimate, and the expert's panel.

    Attributes:
        rung_group: a radio button for each rung.
        reason_label: why the recommended one is recommended.
        estimate: names and values.
        problem_label: why the run cannot be started.
        busy: shown while the engine measures.
        expert: everything else.
    """

    def __init__(self, controller: TuneController, adapters: AdapterState, parent: QWidget | None = None) -> None:
        """Build the widgets.

        Args:
            controller: the wizard's state.
            adapters: those that a run can go on with.
            parent: Qt parent.
        """
        super().__init__(parent)
        self._controller = controller
        self._rungs: tuple[Rung, ...] = ()
        self._recommended = ""
        self.setTitle(self.tr("How shall it learn?"))
        self.setSubTitle(
            self.tr("A few steps are tried out first, to tell what it takes. Usually the suggestion is right.")
        )
        self.setCommitPage(True)
        self.setButtonText(QWizard.WizardButton.CommitButton, self.tr("&Start"))
        self.rung_group = QButtonGroup(self)
        self.rung_group.idClicked.connect(self._take)
        self.reason_label, self.problem_label, self.notes_label = text_label(self), text_label(self), text_label(self)
        self.reason_label.setTextFormat(Qt.TextFormat.RichText)
        self.problem_label.setStyleSheet("color: #b00020; font-weight: bold;")
        self.busy = QProgressBar(self)
        self.busy.setRange(0, 0)
        self.busy.setFormat(self.tr("Trying out a few steps…"))
        self.busy_label = QLabel(self.tr("Trying out a few steps to see how long they take…"), self)
        self.rung_box = QGroupBox(self.tr("Ways of learning, the lightest first"), self)
        self._rung_rows = QVBoxLayout(self.rung_box)
        self.estimate_box = QGroupBox(self.tr("What it takes on this machine"), self)
        self.estimate = QFormLayout()
        inner = QVBoxLayout(self.estimate_box)
        for widget in (self.busy_label, self.busy):
            inner.addWidget(widget)
        inner.addLayout(self.estimate)
        inner.addWidget(self.problem_label)
        inner.addWidget(self.notes_label)
        self.expert = ExpertBox(controller.draft, adapters, self)
        content = QWidget(self)
        rows = QVBoxLayout(content)
        rows.setContentsMargins(0, 0, 4, 0)
        for widget in (self.reason_label, self.rung_box, self.estimate_box, self.expert):
            rows.addWidget(widget)
        rows.addStretch(1)
        QVBoxLayout(self).addWidget(scrolled(content, self))
        controller.preparer.planned.connect(self.refresh)
        controller.preparer.inspected.connect(self.refresh)
        self.refresh()

    def initializePage(self) -> None:
        """Called by Qt when the page is reached: have the run estimated."""
        self._controller.preparer.want_plan(True)

    def cleanupPage(self) -> None:
        """Called by Qt when the page is left backwards."""
        self._controller.preparer.want_plan(False)

    def isComplete(self) -> bool:
        """Called by Qt: a run that cannot fit is never started."""
        preparer = self._controller.preparer
        return preparer.ready and preparer.plan is not None and not preparer.planning and not preparer.plan.problem

    def validatePage(self) -> bool:
        """Called by Qt: what an expert is still typing counts, and needs an estimate first."""
        self.setFocus()
        return self.isComplete()

    def refresh(self) -> None:
        """Show the plan; the rungs of before while another is awaited."""
        preparer, plan = self._controller.preparer, self._controller.preparer.plan
        waiting = preparer.planning or (preparer.inspecting and plan is None)
        self.busy.setVisible(waiting)
        self.busy_label.setVisible(waiting)
        if plan is not None:
            self._show_rungs(plan.rungs, plan.recommended)
            names = [rung.name for rung in plan.rungs]
            self._check(names.index(plan.chosen) if plan.chosen in names else -1)
            title = next((rung.title for rung in plan.rungs if rung.name == plan.recommended), plan.recommended)
            text = self.tr("Suggested: <b>{title}</b>. {reason}")
            self.reason_label.setText(text.format(title=title, reason=plan.reason))
        self.reason_label.setVisible(plan is not None or bool(self._rungs))
        self.rung_box.setVisible(bool(self._rungs))
        self._show_estimate()
        problem = (
            preparer.problem or preparer.plan_problem or (plan.problem if plan is not None and not waiting else "")
        )
        self.problem_label.setText(problem)
        self.problem_label.setVisible(bool(problem))
        notes = "\n".join(plan.notes) if plan is not None and not waiting else ""
        self.notes_label.setText(notes)
        self.notes_label.setTextFormat(Qt.TextFormat.PlainText)
        self.notes_label.setVisible(bool(notes))
        self.tell_completeness()

    def _show_estimate(self) -> None:
        while self.estimate.rowCount():
            self.estimate.removeRow(0)
        preparer = self._controller.preparer
        if preparer.plan is not None and not preparer.planning:
            for name, value in estimate_rows(preparer.plan):
                shown = QLabel(value, self.estimate_box)
                shown.setWordWrap(True)
                self.estimate.addRow(f"{name}:", shown)

    def _show_rungs(self, rungs: tuple[Rung, ...], recommended: str) -> None:
        if (rungs, recommended) == (self._rungs, self._recommended):
            return
        self._rungs, self._recommended = rungs, recommended
        while self._rung_rows.count():
            widget = self._rung_rows.takeAt(0).widget()
            self.rung_group.removeButton(widget) if isinstance(widget, QRadioButton) else None
            widget.deleteLater()
        for index, rung in enumerate(rungs):
            title = self.tr("{title}  (suggested)").format(title=rung.title) if rung.name == recommended else rung.title
            radio = QRadioButton(title, self.rung_box)
            radio.setEnabled(rung.possible)
            radio.setToolTip(", ".join(rung.methods))
            reason = text_label(self)
            reason.setText(rung.reason)
            reason.setIndent(22)
            reason.setEnabled(rung.possible)
            self.rung_group.addButton(radio, index)
            self._rung_rows.addWidget(radio)
            self._rung_rows.addWidget(reason)

    def _check(self, index: int) -> None:
        self.rung_group.setExclusive(False)
        for button in self.rung_group.buttons():
            button.setChecked(self.rung_group.id(button) == index)
        self.rung_group.setExclusive(True)

    def _take(self, index: int) -> None:
        rung = self._rungs[index]
        draft = self._controller.draft
        methods = () if rung.name == self._recommended else rung.methods
        draft.set_method(replace(draft.method, methods=methods, steps=0))
