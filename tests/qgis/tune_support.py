"""What the tests of the fine-tune wizard share: label layers, and driving its pages."""

from __future__ import annotations

from qgis.core import QgsFeature, QgsGeometry, QgsProject, QgsRectangle, QgsVectorLayer
from qgis.PyQt.QtCore import QPoint, Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QAbstractButton, QRadioButton, QWizard
from samtune.plugin.tune_runner import RunStage
from samtune.ui.tune.wizard import PageId, TuneWizard
from samtune_test_engine_helpers import wait_until
from samtune_test_support import LEFT, TOP, spin

UTM17 = "EPSG:32617"


def box(index: int, side: float = 8.0) -> QgsGeometry:
    """A square on the raster of the tests, in its CRS, each index elsewhere."""
    x, y = LEFT + 10 + 18 * (index % 10), TOP - 10 - 18 * (index // 10)
    return QgsGeometry.fromRect(QgsRectangle(x, y - side, x + side, y))


def label_layer(project: QgsProject, count: int, name: str = "roofs", *, crs: str = UTM17) -> QgsVectorLayer:
    """Add a memory layer with squares, alternately of kind ``red`` and ``grey``, sizes 0, 1, 2 ..."""
    layer = QgsVectorLayer(f"Polygon?crs={crs}&field=kind:string&field=size:integer", name, "memory")
    project.addMapLayer(layer)
    features = []
    for index in range(count):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(box(index))
        feature.setAttributes([("red", "grey")[index % 2], index])
        features.append(feature)
    layer.dataProvider().addFeatures(features)
    layer.updateExtents()
    return layer


def press(button: QAbstractButton) -> None:
    """Click a button as a mouse does; it must be there and ready."""
    assert button.isVisible(), f"{button.text()} is hidden"
    assert button.isEnabled(), f"{button.text()} is disabled"
    place = QPoint(8, button.height() // 2) if isinstance(button, QRadioButton) else button.rect().center()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
    spin()


def go_next(wizard: TuneWizard) -> None:
    """Press Next, or Start, when it can be pressed."""
    commit = wizard.currentId() in (PageId.HOW, PageId.TRAINING)
    button = wizard.button(QWizard.WizardButton.CommitButton if commit else QWizard.WizardButton.NextButton)
    wait_until(button.isEnabled)
    press(button)


def go_to(wizard: TuneWizard, page: PageId, options: str = "") -> None:
    """Go on from the first page by the buttons; options are typed into the expert panel."""
    while wizard.currentId() < page:
        if wizard.currentId() == PageId.HOW and options:
            wait_until(wizard.how.isComplete)
            type_options(wizard, options)
        if wizard.currentId() == PageId.TRAINING:
            wait_until(lambda: wizard.currentId() != PageId.TRAINING)  # it goes on by itself
        else:
            go_next(wizard)


def type_options(wizard: TuneWizard, options: str) -> None:
    """Type settings into the expert panel, and wait for the estimate that follows."""
    expert = wizard.how.expert
    expert.setCollapsed(False)
    spin()
    expert.options_edit.setFocus()
    expert.options_edit.setText("")
    QTest.keyClicks(expert.options_edit, options)
    QTest.keyClick(expert.options_edit, Qt.Key.Key_Return)
    wait_until(lambda: not wizard._controller.preparer.planning)


def end_of_run(wizard: TuneWizard, stage: RunStage) -> None:
    """Wait for a run to end as it should."""
    wait_until(lambda: not wizard._controller.runner.active)
    assert wizard._controller.runner.stage is stage
