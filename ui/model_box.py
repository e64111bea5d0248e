"""Which model, on which device and why."""

from __future__ import annotations

from qgis.PyQt.QtCore import QSignalBlocker, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QFileDialog, QLabel, QMenu, QToolButton, QWidget

from ..plugin.session import EngineState, Session
from ..plugin.status import size_text
from .forms import add_row, column, compact


class ModelBox(QWidget):
    """Shows the session's models and the engine's device.

    Attributes:
        model_combo: the models; missing ones say so, with their size.
        more_button: download, load from a file.
        device_label: the device, with the reason in the tooltip.
    """

    model_chosen = pyqtSignal(str)
    download_wanted = pyqtSignal(str)
    import_wanted = pyqtSignal(str, str)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        """Build the widgets and listen to the session."""
        super().__init__(parent)
        self._session = session
        self.model_combo = compact(QComboBox(self), 8)
        self.more_button = QToolButton(self)
        self.more_button.setText("…")
        self.more_button.setToolTip(self.tr("Download the model, or load it from a file"))
        self.more_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self.more_button)
        self.download_action = menu.addAction(self.tr("Download…"))
        self.import_action = menu.addAction(self.tr("Load from file…"))
        self.more_button.setMenu(menu)
        self.device_label = QLabel(self)
        self.device_label.setWordWrap(True)
        rows = column(self)
        add_row(rows, self.tr("&Model"), self.model_combo, self.more_button)
        add_row(rows, "", self.device_label)
        self.model_combo.activated.connect(lambda _index: self.model_chosen.emit(self.model_combo.currentData()))
        self.download_action.triggered.connect(lambda: self.download_wanted.emit(session.model))
        self.import_action.triggered.connect(self._choose_file)
        session.models_changed.connect(self._show_models)
        session.model_changed.connect(self._show_models)
        session.engine_changed.connect(self._show_device)
        self._show_models()
        self._show_device()

    def _show_models(self) -> None:
        session = self._session
        with QSignalBlocker(self.model_combo):
            self.model_combo.clear()
            for model in session.models:
                missing = self.tr("{title} – download {size}").format(
                    title=model.title, size=size_text(model.size_bytes)
                )
                self.model_combo.addItem(model.title if model.present else missing, model.name)
            if not session.models:
                self.model_combo.addItem(session.model, session.model)
            self.model_combo.setCurrentIndex(self.model_combo.findData(session.model))
        info = session.model_info
        self.model_combo.setToolTip(f"{info.description}\n{info.licence}" if info else self.tr("The model"))
        self.download_action.setEnabled(info is not None and not info.present and bool(info.url))
        self.import_action.setEnabled(info is not None)

    def _show_device(self) -> None:
        session = self._session
        info = session.engine_info
        known = info is not None and session.engine_state is EngineState.READY
        if info is not None and known:
            self.device_label.setText(self.tr("Runs on {device}").format(device=device_name(info.device)))
            self.device_label.setToolTip(info.device_reason)
        else:
            self.device_label.setText(self.tr("The engine is not running"))
            self.device_label.setToolTip(self.tr("It starts with the first request"))

    def _choose_file(self) -> None:
        path, _chosen = QFileDialog.getOpenFileName(
            self,
            self.tr("Weights of {model}").format(model=self._session.model),
            "",
            self.tr("Weights (*.pth *.pt *.safetensors)"),
        )
        if path:
            self.import_wanted.emit(self._session.model, path)


def device_name(device: str) -> str:
    """Say a torch device as people say it."""
    kind, _, number = device.partition(":")
    names = {"cpu": "the processor (CPU)", "cuda": "the graphics card (CUDA)", "mps": "the Apple graphics unit (MPS)"}
    return f"{names.get(kind, kind)} {number}".strip()
