"""What the wizard's pages have in common."""

from __future__ import annotations

from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QApplication, QWizard, QWizardPage

_LATER = 200
"""Milliseconds."""

_ONWARD = (QWizard.WizardButton.NextButton, QWizard.WizardButton.CommitButton, QWizard.WizardButton.FinishButton)


class TunePage(QWizardPage):
    """A page that tells its wizard when it has become complete, or is so no more."""

    def tell_completeness(self) -> None:
        """Emit ``completeChanged``, but only where the wizard has to know.

        A wizard hides all of its pages for a moment then, which closes every open list and flickers. So it is told
        changes only, not before open lists are closed, and nothing about pages that it does not show: those it asks
        when it shows them.
        """
        wizard = self.wizard()
        if wizard is None or wizard.currentPage() is not self:
            return
        if any(wizard.button(kind).isEnabled() for kind in _ONWARD) == self.isComplete():
            return
        if QApplication.activePopupWidget() is not None:
            QTimer.singleShot(_LATER, self.tell_completeness)
            return
        self.completeChanged.emit()
