"""Show the plugin's main job in a real QGIS, with real mouse and keyboard events: run it with `make demo`.

It opens the sample project, opens the panel, takes up the map tool, clicks objects, corrects one, draws a box, keeps
the outlines in a new GeoPackage, does the same on another layer, and saves. It writes `build/demo/`: `polygons.gpkg`,
`*.png` and `summary.json`, and fails when any step does.

Under a virtual X server the events come from xdotool, as if from a mouse and a keyboard. On a visible display they are
given to the widgets by Qt, so that your own pointer stays yours.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from qgis.core import QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QEventLoop, Qt, QTimer
from qgis.PyQt.QtGui import QImage
from qgis.PyQt.QtWidgets import QAction, QApplication, QDockWidget, QFileDialog, QToolBar
from qgis.utils import iface, plugins

ROOT = Path.cwd()
OUT = ROOT / "build" / "demo"
SAMPLE = ROOT / "docs" / "sample" / "sample.qgs"
sys.path.insert(0, str(ROOT / "docs" / "demo"))

from driving import hand_for_this_display, on_screen, settle, wait_for  # noqa: E402 - beside this file, found by now
from measure import make_whole, measure  # noqa: E402 - likewise

LANDSAT = "landsat_raleigh"
NEON = "neon_osbs"
OUTPUT = OUT / "polygons.gpkg"
README_IMAGES = ROOT / "docs" / "images"
README_WIDTH = 1200
IMAGES = ("00-start", "01-hover", "02-click", "03-corrected", "04-box", "05-trees", "06-result")


class Demo:
    """The steps, in order. Each leaves a line in the summary; the first that fails ends the run."""

    def __init__(self) -> None:
        """Start with an empty output folder."""
        OUT.mkdir(parents=True, exist_ok=True)
        for old in (*OUT.glob("*.png"), *OUT.glob("polygons.gpkg*"), *OUT.glob("summary.json")):
            old.unlink()
        self.hand = hand_for_this_display()
        self.steps: list[dict[str, object]] = []
        self.images: list[str] = []
        self.started = time.monotonic()

    @property
    def bench(self):  # noqa: ANN201 - samtune.plugin.workbench.Workbench, which is not importable by that name here
        """Return what is behind the panel."""
        return plugins["samtune"].workbench

    def run(self) -> None:
        """Do everything."""
        self.step("open the sample project", self.open_project)
        self.step("open the panel", self.open_panel)
        self.step("start the engine and open the raster", self.wait_for_engine)
        self.step("take up the map tool", self.take_tool)
        self.step("rest the pointer on the lake", lambda: self.hover(57, 47))
        self.step("click the lake", lambda: self.click(57, 47, shot="02-click"))
        self.step("add its western arm with a second click", lambda: self.click(33, 38))
        self.step(
            "take away the woods south of it with a right click",
            lambda: self.click(70, 62, positive=False, shot="03-corrected"),
        )
        self.step("keep it, in a new GeoPackage", self.accept_into_new_file)
        self.step("click the pond", lambda: self.click(138, 209))
        self.step("keep it", self.accept)
        self.step("draw a box around the estate", lambda: self.box((188, 126), (218, 160), shot="04-box"))
        self.step("keep it", self.accept)
        self.step("go to the photograph of trees", lambda: self.change_layer(NEON))
        self.step("draw a box around a crown", lambda: self.box((57, 72), (88, 114)))
        self.step("add to it with a click", lambda: self.click(72, 93, shot="05-trees"))
        self.step("keep it", self.accept)
        self.step("draw a box around another", lambda: self.box((246, 92), (290, 142)))
        self.step("keep it", self.accept)
        self.step("save the layer's edits", self.save)

    def step(self, what: str, action: Callable[[], object]) -> None:
        """Do one step and write down how long it took."""
        print(f"  {what}", flush=True)
        begun = time.monotonic()
        found = action()
        entry: dict[str, object] = {"step": what, "seconds": round(time.monotonic() - begun, 2)}
        if isinstance(found, dict):
            entry.update(found)
        self.steps.append(entry)

    # --- steps ------------------------------------------------------------------------------------------------------

    def open_project(self) -> None:
        """Load the sample and wait until it is drawn."""
        if not iface.addProject(str(SAMPLE)):
            raise RuntimeError(f"{SAMPLE} cannot be opened")
        iface.messageBar().clearWidgets()
        browser = iface.mainWindow().findChild(QDockWidget, "Browser")
        if browser is not None:
            browser.hide()
        settle(1500)
        iface.zoomToActiveLayer()
        self.draw()

    def open_panel(self) -> None:
        """Press the plugin's button in the toolbar."""
        action = iface.mainWindow().findChild(QAction, "SamTuneDockAction")
        bars = [widget for widget in action.associatedWidgets() if isinstance(widget, QToolBar)]
        button = next((bar.widgetForAction(action) for bar in bars if bar.isVisible()), None)
        if button is None:
            raise RuntimeError("the plugin's button is in no visible toolbar")
        self.hand.click(button, button.rect().center())
        wait_for(lambda: self.bench is not None and self.bench.dock.isVisible(), 15, "the panel to open")
        settle(500)

    def wait_for_engine(self) -> dict[str, object]:
        """Wait until the engine is up and has opened the layer; says what runs it."""
        session = self.bench.session
        wait_for(lambda: session.raster is not None, 120, "the raster to be opened", lambda: session.engine_text)
        info = session.engine_info
        self.shot("00-start")
        return {"device": info.device, "engine": info.version} if info is not None else {}

    def take_tool(self) -> None:
        """Press the button of the map tool."""
        button = self.bench.dock.prompt_button
        self.hand.click(button, button.rect().center())
        wait_for(lambda: iface.mapCanvas().mapTool() is self.bench.tool, 10, "the map tool to be active")
        wait_for(lambda: self.bench.session.busy is None, 120, "the model to be loaded")

    def hover(self, column: float, row: float) -> dict[str, object]:
        """Rest the pointer, and wait for the preview."""
        self.hand.move(*on_screen(self.layer(), column, row))
        begun = time.monotonic()
        wait_for(lambda: self.bench.session.preview is not None, 30, "the preview under the pointer")
        self.shot("01-hover")
        return {"preview_after": round(time.monotonic() - begun, 2)}

    def click(self, column: float, row: float, *, positive: bool = True, shot: str = "") -> dict[str, object]:
        """Click a place of the raster and wait for the outline.

        Args:
            column: of the layer's pixels, from the left edge.
            row: likewise from the top.
            positive: left button; otherwise the right one.
            shot: name of the screenshot; empty for none.
        """
        button = Qt.MouseButton.LeftButton if positive else Qt.MouseButton.RightButton
        found = self.prompt(lambda: self.hand.click(*on_screen(self.layer(), column, row), button=button))
        if shot:
            self.shot(shot)
        return found

    def box(self, corner: tuple[float, float], opposite: tuple[float, float], shot: str = "") -> dict[str, object]:
        """Drag a box and wait for the outline."""
        widget, start = on_screen(self.layer(), *corner)
        _, end = on_screen(self.layer(), *opposite)
        found = self.prompt(lambda: self.hand.drag(widget, start, end))
        if shot:
            self.shot(shot)
        return found

    def prompt(self, action: Callable[[], None]) -> dict[str, object]:
        """Give a prompt and wait for what comes of it."""
        session = self.bench.session
        before, steps, begun = session.outline, len(session.steps), time.monotonic()
        action()
        wait_for(lambda: len(session.steps) > steps, 10, "the prompt to arrive")
        wait_for(
            lambda: (session.outline is not None and session.outline is not before) or bool(session.finding),
            60,
            "the outline",
            lambda: session.engine_text,
        )
        wait_for(lambda: session.busy is None, 60, "the outline to be final")
        if session.outline is None:
            raise RuntimeError(f"no outline: {session.finding}")
        result = session.outline.result
        return {
            "outline_after": round(time.monotonic() - begun, 2),
            "score": round(result.score, 3),
            "area": round(result.area, 2),
            "embedding_from": result.source,
        }

    def accept_into_new_file(self) -> None:
        """Press Enter, and answer the question for a file by typing its path."""
        timer = QTimer()
        timer.setInterval(300)

        def answer() -> None:
            dialog = QApplication.activeModalWidget()
            if isinstance(dialog, QFileDialog) and dialog.isActiveWindow():  # keys go to the window in front
                timer.stop()
                self.hand.type(dialog.focusWidget() or dialog, str(OUTPUT))

        timer.timeout.connect(answer)
        timer.start()
        self.accept()
        if not OUTPUT.is_file():
            raise RuntimeError(f"{OUTPUT} was not made")

    def accept(self) -> dict[str, object]:
        """Press Enter on the map and see that one polygon more is there."""
        before = self.count()
        self.hand.key(iface.mapCanvas(), Qt.Key.Key_Return)
        wait_for(lambda: self.count() == before + 1, 30, "the polygon in the layer")
        settle(200)
        return {"polygons": self.count()}

    def change_layer(self, name: str) -> None:
        """Choose another layer in the panel, with the map on it."""
        layer = self.layer(name)
        iface.setActiveLayer(layer)
        iface.zoomToActiveLayer()
        combo = self.bench.dock.raster_box.layer_combo
        self.hand.click(combo, combo.rect().center())
        settle(500)
        view = combo.view()
        rows = [row for row in range(combo.count()) if combo.layer(row) is layer]
        if view.isVisible() and rows:
            self.hand.click(view.viewport(), view.visualRect(combo.model().index(rows[0], 0)).center())
            settle(300)
        if self.bench.session.layer is not layer:
            raise RuntimeError("the layer could not be chosen in the panel")
        session = self.bench.session
        wait_for(lambda: session.raster is not None and session.busy is None, 60, "the raster to be opened")
        self.draw()

    def save(self) -> None:
        """Save the edits as the user does: with QGIS's own action on the active layer."""
        target = self.target()
        iface.setActiveLayer(target)
        settle(200)
        iface.actionSaveActiveLayerEdits().trigger()
        wait_for(lambda: not target.isModified(), 20, "the edits to be saved")
        iface.setActiveLayer(self.layer(LANDSAT))
        iface.zoomToActiveLayer()
        self.draw()
        self.shot("06-result")

    # --- helpers ----------------------------------------------------------------------------------------------------

    def layer(self, name: str | None = None) -> QgsRasterLayer:
        """Return the layer whose file has a name; by default the one chosen in the panel."""
        if name is None:
            return self.bench.session.layer
        found = [layer for layer in QgsProject.instance().mapLayers().values() if name in layer.source()]
        return found[0]

    def target(self) -> QgsVectorLayer | None:
        """Return the layer that takes the polygons."""
        return self.bench.session.target

    def count(self) -> int:
        """Return how many polygons were kept so far."""
        target = self.target()
        return target.featureCount() if target is not None else 0

    def draw(self) -> None:
        """Wait until the map is drawn."""
        canvas = iface.mapCanvas()
        loop = QEventLoop()
        canvas.mapCanvasRefreshed.connect(loop.quit)
        QTimer.singleShot(5000, loop.quit)
        canvas.refresh()
        loop.exec()
        canvas.mapCanvasRefreshed.disconnect(loop.quit)

    def shot(self, name: str) -> None:
        """Save a picture of the window."""
        settle(400)
        path = OUT / f"{name}.png"
        if not iface.mainWindow().grab().save(str(path)):
            raise RuntimeError(f"{path} cannot be written")
        self.images.append(name)


def update_readme_images() -> None:
    """Put this run's screenshots into docs/images, small and with a palette (``make demo ARGS=--update-images``)."""
    for name in IMAGES:
        picture = QImage(str(OUT / f"{name}.png")).scaledToWidth(
            README_WIDTH, Qt.TransformationMode.SmoothTransformation
        )
        few_colours = picture.convertToFormat(QImage.Format.Format_Indexed8, Qt.ImageConversionFlag.DiffuseDither)
        few_colours.save(str(README_IMAGES / f"{name}.png"))


def main() -> int:
    """Run the demonstration and say what was made.

    Returns:
        0 when every step succeeded and the file holds what it should.
    """
    print("SamTune demonstration", flush=True)
    demo = Demo()
    problem = ""
    try:
        demo.run()
    except Exception as error:  # whatever went wrong belongs in the summary, with a picture of it
        problem = f"{error}"
        traceback.print_exc()
        iface.mainWindow().grab().save(str(OUT / "failed.png"))
    QgsProject.instance().clear()
    polygons = measure(OUTPUT) if OUTPUT.is_file() else []
    make_whole(OUTPUT)
    if not problem and len(polygons) != 5:
        problem = f"{OUTPUT} holds {len(polygons)} polygons, not 5"
    missing = [name for name in IMAGES if not (OUT / f"{name}.png").is_file()]
    if not problem and missing:
        problem = f"screenshots are missing: {', '.join(missing)}"
    if not problem and not all(polygon["valid"] for polygon in polygons):
        problem = "a polygon is not valid"
    summary = {
        "ok": not problem,
        "problem": problem,
        "seconds": round(time.monotonic() - demo.started, 1),
        "steps": demo.steps,
        "polygons": polygons,
        "images": [f"{name}.png" for name in demo.images],
    }
    (OUT / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"\n{len(polygons)} polygons in {os.path.relpath(OUTPUT)}" if polygons else "\nno polygons")
    for polygon in polygons:
        print("  {prompt:9} {raster:22} {area_m2:12.1f} m2   predicted IoU {score:.2f}".format(**polygon))
    print(f"{len(demo.images)} screenshots and summary.json in {os.path.relpath(OUT)}/")
    if not problem and "--update-images" in sys.argv:
        update_readme_images()
    print(f"FAILED: {problem}" if problem else "All steps succeeded.")
    return int(bool(problem))


sys.exit(main())
