"""What "Find all" and "Class map" ask before they start: where, how sure, and where to put it."""

from __future__ import annotations

from pathlib import Path

from qgis.core import Qgis, QgsVectorLayer
from qgis.gui import QgsFileWidget, QgsMapLayerComboBox
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from ..plugin.area_choice import AreaChoice, AreaKind
from .forms import compact

LEAST_SCORE = 0.3


class AreaDialog(QDialog):
    """Not modal: the map can be moved to the right place while it is open.

    Attributes:
        area_combo: the map's view, the whole layer, or polygons.
        polygon_combo: the layer of those.
        message_label: what is wrong with the choices, for the user.
    """

    start_wanted = pyqtSignal()

    def __init__(self, title: str, intro: str, parent: QWidget | None = None) -> None:
        """Build what both have in common.

        Args:
            title: of the window.
            intro: what will be done, with which adapter.
            parent: Qt parent.
        """
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.intro_label = QLabel(intro, self)
        self.intro_label.setTextFormat(Qt.TextFormat.PlainText)  # names come from files
        self.intro_label.setWordWrap(True)
        self.area_combo = compact(QComboBox(self))
        self.area_combo.addItem(self.tr("What the map shows"), AreaKind.VIEW)
        self.area_combo.addItem(self.tr("The whole layer"), AreaKind.LAYER)
        self.area_combo.addItem(self.tr("Polygons of a layer"), AreaKind.POLYGONS)
        self.polygon_combo = compact(QgsMapLayerComboBox(self))
        self.polygon_combo.setFilters(Qgis.LayerFilter.PolygonLayer)
        self.polygon_combo.setToolTip(self.tr("Its selected polygons; all of them where none is selected"))
        self.message_label = QLabel(self)
        self.message_label.setWordWrap(True)
        self.message_label.setTextFormat(Qt.TextFormat.PlainText)
        self.message_label.hide()
        self.form = QFormLayout()
        self.form.addRow(self.tr("&Where"), self.area_combo)
        self.form.addRow(self.tr("&Polygons"), self.polygon_combo)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel, self)
        self.start_button = self.buttons.addButton(self.tr("Start"), QDialogButtonBox.ButtonRole.AcceptRole)
        layout = QVBoxLayout(self)
        layout.addWidget(self.intro_label)
        layout.addLayout(self.form)
        layout.addWidget(self.message_label)
        layout.addStretch(1)
        layout.addWidget(self.buttons)
        self.setMinimumWidth(380)
        self.area_combo.currentIndexChanged.connect(self._show_polygons)
        self.start_button.clicked.connect(self.start_wanted)
        self.buttons.rejected.connect(self.close)
        self._show_polygons()

    @property
    def area(self) -> AreaChoice:
        """Return the area chosen."""
        return AreaChoice(self.area_combo.currentData(), self.polygon_combo.currentLayer())

    def show_message(self, text: str) -> None:
        """Say what is wrong; the dialog stays."""
        self.message_label.setText(text)
        self.message_label.setVisible(bool(text))

    def _show_polygons(self) -> None:
        polygons = self.area_combo.currentData() is AreaKind.POLYGONS
        self.polygon_combo.setVisible(polygons)
        self.form.labelForField(self.polygon_combo).setVisible(polygons)
        self.show_message("")


class FindDialog(AreaDialog):
    """Asks for the least score and the layer besides.

    Attributes:
        threshold_spin: least score.
        target_combo: the layer that takes the objects; empty for a new GeoPackage.
    """

    def __init__(self, adapter: str, target: QgsVectorLayer | None, parent: QWidget | None = None) -> None:
        """Build the dialog.

        Args:
            adapter: name of the adapter.
            target: layer to begin with.
            parent: Qt parent.
        """
        super().__init__("", "", parent)
        self.setWindowTitle(self.tr("Find all objects"))
        intro = self.tr("“{adapter}” looks for all its objects. They are added as polygons to be reviewed; one Undo "
                        "takes them all back.")  # fmt: skip
        self.intro_label.setText(intro.format(adapter=adapter))
        self.threshold_spin = QDoubleSpinBox(self)
        self.threshold_spin.setRange(0.05, 0.95)
        self.threshold_spin.setSingleStep(0.05)
        self.threshold_spin.setValue(LEAST_SCORE)
        self.threshold_spin.setToolTip(self.tr("Lower finds more, and more that is none"))
        self.target_combo = compact(QgsMapLayerComboBox(self))
        writable = Qgis.LayerFilter.PolygonLayer | Qgis.LayerFilter.WritableLayer
        self.target_combo.setFilters(Qgis.LayerFilters(writable))
        self.target_combo.setAllowEmptyLayer(True, self.tr("New GeoPackage…"))
        self.target_combo.setLayer(target)
        self.form.addRow(self.tr("Least &score"), self.threshold_spin)
        self.form.addRow(self.tr("&Into"), self.target_combo)


class MapDialog(AreaDialog):
    """Asks for the files besides.

    Attributes:
        output_widget: the GeoTIFF to write.
        confidence_box: write a second one.
    """

    def __init__(self, adapter: str, folder: str, parent: QWidget | None = None) -> None:
        """Build the dialog.

        Args:
            adapter: name of the adapter.
            folder: where the file dialog begins.
            parent: Qt parent.
        """
        super().__init__("", "", parent)
        self.setWindowTitle(self.tr("Make a class map"))
        intro = self.tr("“{adapter}” gives every pixel its class. The map is a raster file, added to the project.")
        self.intro_label.setText(intro.format(adapter=adapter))
        self.output_widget = QgsFileWidget(self)
        self.output_widget.setStorageMode(QgsFileWidget.StorageMode.SaveFile)
        self.output_widget.setFilter(self.tr("GeoTIFF (*.tif)"))
        self.output_widget.setConfirmOverwrite(False)  # nothing is overwritten
        self.output_widget.setDefaultRoot(folder)
        self.confidence_box = QCheckBox(self.tr("Also write how sure each pixel is"), self)
        self.form.addRow(self.tr("&File"), self.output_widget)
        self.form.addRow("", self.confidence_box)

    @property
    def output(self) -> Path | None:
        """Return the file to write; None where none is named."""
        text = self.output_widget.filePath().strip()
        return Path(text).expanduser() if text else None
