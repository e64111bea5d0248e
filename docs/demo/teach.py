"""Go through the fine-tune wizard in a real QGIS with the real engine, and take a picture of every page.

    tests/qgis/run_in_qgis.py --timeout 1800 --code docs/demo/teach.py -- FOLDER [SETTING ...]

Fifteen roofs of the Landsat sample, selected among its labelled polygons, teach `tiny` to outline roofs with clicks.
Pictures and a summary go into FOLDER. Settings are typed into the expert panel: `steps=60`, `methods=decoder`, and what
its line of settings takes, for instance `schedule.batch=1 schedule.prompts=2`.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QPoint, Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QAbstractButton, QCheckBox, QWidget, QWizard
from qgis.utils import iface, plugins

ROOT = Path.cwd()
SAMPLE = ROOT / "docs" / "sample"
sys.path.insert(0, str(ROOT / "docs" / "demo"))

from driving import settle, wait_for  # noqa: E402 - beside this file, found by now

ROOFS = (18, 19, 21, 23, 24, 25, 26, 27, 34, 35, 36, 37, 40, 41, 44)
"""Features to learn from, fifteen drawn by chance."""

LEARN, TASK, HOW, TRAINING, BETTER, KEEP = range(6)
PATIENCE = 1200.0
WHOLE = "from opening the wizard to the verdict"
CURVE = 9
"""Looks at what is held out after which the curves are pictured, where there are so many."""


class Lesson:
    """The wizard's pages, in order."""

    def __init__(self, out: Path, settings: list[str], polygons: Sequence[int] = ROOFS) -> None:
        """Keep where pictures go, what to type into the expert panel, and which polygons to learn from."""
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.settings, self.polygons = out, settings, polygons
        self.images: list[str] = []
        self.seconds: dict[str, float] = {}
        self.began = 0.0

    @property
    def teaching(self):  # noqa: ANN201 - samtune.plugin.teaching.Teaching, which is not importable by that name here
        """Return what is behind the wizard."""
        return plugins["samtune"].workbench.teaching

    @property
    def wizard(self):  # noqa: ANN201 - samtune.ui.tune.wizard.TuneWizard, likewise
        """Return the wizard's window."""
        return self.teaching.wizard

    def run(self) -> None:
        """Do everything."""
        self.open_layers()
        self.learn()
        self.choose_task()
        self.choose_how()
        self.train()
        self.look()
        self.keep()

    def open_layers(self) -> None:
        """Open the scene and its polygons, and the panel."""
        project = QgsProject.instance()
        project.setCrs(QgsCoordinateReferenceSystem("EPSG:32617"))
        scene = QgsRasterLayer(str(SAMPLE / "landsat_raleigh.tif"), "Landsat")
        for renderer_band, band in (("setRedBand", 4), ("setGreenBand", 3), ("setBlueBand", 2)):
            getattr(scene.renderer(), renderer_band)(band)
        labels = QgsVectorLayer(str(SAMPLE / "landsat_labels.geojson"), "Lakes and roofs", "ogr")
        labels.selectByIds(list(self.polygons))
        project.addMapLayers([scene, labels])
        iface.setActiveLayer(scene)
        iface.zoomToActiveLayer()
        bench = plugins["samtune"].open_dock()
        bench.choose_layer(scene)
        wait_for(lambda: bench.session.raster is not None, 90, "the raster to open", lambda: bench.session.engine_text)
        settle(1500)
        self.picture("00-panel", iface.mainWindow())

    def learn(self) -> None:
        """Page 1: press the panel's button, take the selected polygons, and look at what there is."""
        self.began = time.monotonic()
        self.press(plugins["samtune"].workbench.dock.adapter_box.teach_button)
        self.press(self.wizard.learn.labels.selected_check)
        wait_for(self.wizard.learn.isComplete, 120, "the polygons to be looked at", self.why)
        self.picture("01-learn")
        self.next()

    def choose_task(self) -> None:
        """Page 2: better clicks."""
        settle(200)
        self.picture("02-task")
        self.next()

    def choose_how(self) -> None:
        """Page 3: wait for the estimate, and take the suggestion."""
        began = time.monotonic()
        settle(300)
        self.picture("03-measuring")
        wait_for(lambda: not self.teaching.controller.preparer.planning, PATIENCE, "the estimate", self.why)
        self.seconds["estimate"] = time.monotonic() - began
        self.picture("03-how")
        expert = self.wizard.how.expert
        expert.setCollapsed(False)
        settle(200)
        fields = {"steps": expert.steps_spin.lineEdit(), "methods": expert.methods_edit}
        for field in dict.fromkeys(fields.get(text.partition("=")[0], expert.options_edit) for text in self.settings):
            texts = [t for t in self.settings if fields.get(t.partition("=")[0], expert.options_edit) is field]
            field.setFocus()
            field.selectAll()
            QTest.keyClicks(field, " ".join(texts) if field is expert.options_edit else texts[0].partition("=")[2])
            QTest.keyClick(field, Qt.Key.Key_Return)
            settle(50)
        wait_for(lambda: not self.teaching.controller.preparer.planning, PATIENCE, "the estimate", self.why)
        self.picture("03-expert")
        wait_for(self.wizard.how.isComplete, 5, "a run that can be started", self.why)

    def train(self) -> None:
        """Page 4: watch, pause for a moment, and wait for the end."""
        began = time.monotonic()
        self.next()
        runner = self.teaching.controller.runner
        settle(1000)
        self.picture("04-preparing")
        wait_for(
            lambda: bool(runner.held_out and runner.watch.pictures) or not runner.active, PATIENCE, "curves", self.why
        )
        wait_for(lambda: len(runner.held_out) >= CURVE or not runner.active, PATIENCE, "longer curves", self.why)
        if runner.active:
            self.picture("04-training")
        wait_for(lambda: not runner.active, PATIENCE, "the end of the run", self.why)
        self.seconds["run"] = time.monotonic() - began
        wait_for(lambda: self.wizard.currentId() == BETTER, 10, "the report", self.why)

    def look(self) -> None:
        """Page 5: whether it is better."""
        self.seconds[WHOLE] = time.monotonic() - self.began
        settle(500)
        command = self.wizard.better.command_edit  # its options are worth a picture, not where files lie here
        command.setCursorPosition(len(command.text()))
        command.setCursorPosition(command.text().index("--class-field"))
        self.picture("05-better")
        self.next()

    def keep(self) -> None:
        """Page 6: a name, and into the list."""
        self.wizard.keep.name_edit.setText("Bright roofs")
        settle(300)
        self.picture("06-keep")
        self.press(self.wizard.button(QWizard.WizardButton.FinishButton))
        wait_for(lambda: not self.wizard.isVisible(), 60, "the adapter to be kept", self.why)
        settle(1000)
        self.picture("07-kept", iface.mainWindow())

    # --- a hand -----------------------------------------------------------------------------------------------------

    def next(self) -> None:
        """Press the button that goes on."""
        commit = self.wizard.currentId() in (HOW, TRAINING)
        kind = QWizard.WizardButton.CommitButton if commit else QWizard.WizardButton.NextButton
        self.press(self.wizard.button(kind))

    def press(self, button: QAbstractButton) -> None:
        """Press a button that can be pressed.

        Raises:
            RuntimeError: it cannot be.
        """
        if not (button.isVisible() and button.isEnabled()):
            raise RuntimeError(f"“{button.text()}” cannot be pressed. {self.why()}")
        # A check box may be wider than its text, and takes clicks on that only.
        at = QPoint(8, button.height() // 2) if isinstance(button, QCheckBox) else button.rect().center()
        QTest.mouseClick(button, Qt.MouseButton.LeftButton, pos=at)
        settle(200)

    def picture(self, name: str, widget: QWidget | None = None) -> None:
        """Save a picture of the wizard, or of another window."""
        settle(300)  # for layouts
        (widget or self.wizard).grab().save(str(self.out / f"{name}.png"))
        self.images.append(name)

    def why(self) -> str:
        """Return what the wizard says, for errors."""
        controller = self.teaching.controller
        if controller is None:
            return ""
        said = [controller.preparer.problem, controller.preparer.plan_problem, controller.runner.message]
        if controller.preparer.plan is not None:
            said.append(controller.preparer.plan.problem)
        if controller.runner.error is not None:
            said += [controller.runner.error.user_text, controller.runner.error.details]
        return " ".join(text for text in said if text)


def main() -> int:
    """Run the lesson and write its summary.

    Returns:
        The exit status.
    """
    lesson = Lesson(Path(sys.argv[1]), sys.argv[2:])
    problem = ""
    try:
        lesson.run()
    except Exception as error:  # whatever went wrong belongs in the summary, with a picture of it
        problem = f"{error}"
        traceback.print_exc()
        (lesson.wizard or iface.mainWindow()).grab().save(str(lesson.out / "failed.png"))
    summary = {"ok": not problem, "problem": problem, "seconds": lesson.seconds, "images": lesson.images}
    (lesson.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"FAILED: {problem}" if problem else f"{len(lesson.images)} pictures in {lesson.out}")
    return int(bool(problem))


if __name__ == "__main__":
    sys.exit(main())
