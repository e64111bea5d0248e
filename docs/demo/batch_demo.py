"""Do batch jobs in a real QGIS with the real engine, and take the pictures of docs/batch.md.

    tests/qgis/run_in_qgis.py --timeout 1200 --code docs/demo/batch_demo.py -- FOLDER [--update-images]

Two halves of the Landsat sample and a file that was cut short are a folder of scenes; the sample's polygons are the
prompts. Then everything is outlined in the quarters of the photograph of trees, with a pause between. Pictures and a
summary go into FOLDER, with --update-images small ones into docs/images/batch as well.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from osgeo import gdal
from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QImage
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QAbstractButton, QComboBox, QDockWidget, QWidget
from qgis.utils import iface, plugins

ROOT = Path.cwd()
SAMPLE = ROOT / "docs" / "sample"
IMAGES = ROOT / "docs" / "images" / "batch"
sys.path.insert(0, str(ROOT / "docs" / "demo"))

from driving import settle, wait_for  # noqa: E402 - beside this file, found by now

WIDTH = 960
PATIENCE = 600.0
WINDOW = (1200, 780)
"""Size of QGIS's window, pixels."""
POINTS = 8
"""Points per side of the grid for everything: few, for a job that is done soon."""


class BatchDay:
    """From a folder of scenes to outlines in the project, then a job that is paused, and one from Processing."""

    def __init__(self, out: Path, work: Path) -> None:
        """Keep where pictures go.

        Args:
            out: folder for pictures and summary.
            work: folder for scenes and results.
        """
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.work = out, work
        self.images: list[str] = []
        self.seconds: dict[str, float] = {}

    @property
    def desk(self):  # noqa: ANN201 - samtune.plugin.batch_desk.BatchDesk, which is not importable by that name here
        """Return what is behind dialog and panel."""
        return plugins["samtune"].workbench.batch

    def run(self) -> None:
        """Do everything."""
        make_scenes(self.work / "scenes")
        self.open_layers()
        self.order_prompts()
        self.watch_prompts()
        self.pause_and_resume()
        self.show_processing()

    # --- steps ------------------------------------------------------------------------------------------------------

    def open_layers(self) -> None:
        """Open the scene and its polygons, and the panel."""
        project = QgsProject.instance()
        project.setCrs(QgsCoordinateReferenceSystem("EPSG:32617"))
        for name in ("landsat_raleigh.tif", "landsat_labels.geojson", "neon_osbs.tif"):
            shutil.copy(SAMPLE / name, self.work)
        scene = QgsRasterLayer(str(self.work / "landsat_raleigh.tif"), "Landsat")
        for renderer_band, band in (("setRedBand", 4), ("setGreenBand", 3), ("setBlueBand", 2)):
            getattr(scene.renderer(), renderer_band)(band)
        labels = QgsVectorLayer(str(self.work / "landsat_labels.geojson"), "Lakes and buildings", "ogr")
        project.addMapLayers([scene, labels])
        tidy()
        iface.setActiveLayer(scene)
        iface.zoomToActiveLayer()
        bench = plugins["samtune"].open_dock()
        bench.choose_layer(scene)
        wait_for(
            lambda: bench.session.raster is not None, PATIENCE, "the raster to open", lambda: bench.session.engine_text
        )
        self.desk._settings.output_folder.setValue(str(self.work))

    def order_prompts(self) -> None:
        """Choose folder, task and prompts; wait for the estimate."""
        self.press(plugins["samtune"].workbench.dock.work_box.batch_button)
        dialog = self.desk.dialog
        wait_for(dialog.isVisible, 10, "the dialog")
        for item in dialog.rasters_box._items():
            item.setCheckState(0, Qt.CheckState.Unchecked)
        dialog.rasters_box.add_paths([str(self.work / "scenes")])
        dialog.rasters_box.bands_check.setChecked(True)
        labels = QgsProject.instance().mapLayersByName("Lakes and buildings")[0]
        dialog.task_box.prompts.layer_combo.setLayer(labels)
        choose(dialog.task_box.field_combo, "kind")
        self.estimated("prompts")
        self.picture("dialog", dialog)

    def watch_prompts(self) -> None:
        """Start, wait for the end, look at the results."""
        self.finish("prompts")
        plugins["samtune"].workbench.dock.hide()
        labels = QgsProject.instance().mapLayersByName("Lakes and buildings")[0]
        QgsProject.instance().layerTreeRoot().findLayer(labels).setItemVisibilityChecked(False)
        iface.zoomToActiveLayer()
        settle(2500)
        self.picture("results", iface.mainWindow())

    def pause_and_resume(self) -> None:
        """Outline everything in the photographs; pause in between, and go on."""
        make_photographs(self.work / "photographs")
        trees = QgsRasterLayer(str(self.work / "neon_osbs.tif"), "Trees")
        QgsProject.instance().addMapLayer(trees)
        iface.setActiveLayer(trees)
        iface.zoomToActiveLayer()
        dialog = self.desk.open_dialog()
        for item in dialog.rasters_box._items():
            item.setCheckState(0, Qt.CheckState.Unchecked)
        dialog.rasters_box.add_paths([str(self.work / "photographs")])
        dialog.rasters_box.bands_check.setChecked(False)
        choose(dialog.task_box.task_combo, "Segment everything")
        dialog.task_box.options.points_spin.setValue(POINTS)
        self.estimated("everything")
        self.press(dialog.start_button)
        panel, job = self.desk.panel, self.desk.controller.jobs[0].path
        wait_for(lambda: self.done(job) > 0, PATIENCE, "the first unit", self.why)
        self.press(panel.pause_button)
        wait_for(lambda: not self.desk.controller.busy, PATIENCE, "the pause", self.why)
        settle(1500)
        self.picture("paused", iface.mainWindow())
        self.press(panel.resume_button)
        began = time.monotonic()
        wait_for(lambda: not self.desk.controller.busy, PATIENCE, "the end of the job", self.why)
        self.seconds["resumed"] = time.monotonic() - began

    def show_processing(self) -> None:
        """Open the dialog of an algorithm."""
        import processing

        scene = QgsProject.instance().mapLayersByName("Landsat")[0]
        labels = QgsProject.instance().mapLayersByName("Lakes and buildings")[0]
        given = {"RASTER": scene, "PROMPTS": labels, "CLASS_FIELD": "kind", "BANDS": [4, 3, 2]}
        dialog = processing.createAlgorithmDialog("samtune:segmentprompts", given)
        dialog.resize(WIDTH, 620)
        dialog.show()
        settle(1000)
        self.picture("processing", dialog)
        dialog.close()

    # --- a hand -----------------------------------------------------------------------------------------------------

    def estimated(self, what: str) -> None:
        """Wait for the estimate of what is set in the dialog."""
        box, began = self.desk.dialog.estimate_box, time.monotonic()
        wait_for(lambda: measured(dict(box.figures).get("Time", "")), PATIENCE, "the estimate", self.why)
        self.seconds[f"estimate of {what}"] = time.monotonic() - began
        settle(300)

    def finish(self, what: str) -> None:
        """Start the job in the dialog and wait for its end."""
        began = time.monotonic()
        self.press(self.desk.dialog.start_button)
        wait_for(lambda: bool(self.desk.controller.jobs), 10, "the job", self.why)
        wait_for(lambda: not self.desk.controller.busy, PATIENCE, "the end of the job", self.why)
        self.seconds[what] = time.monotonic() - began

    def done(self, job: str) -> int:
        """Return how many tiles of a job are in its file."""
        status = self.desk.controller.status(job)
        return status.done if status is not None else 0

    def press(self, button: QAbstractButton) -> None:
        """Press a button that can be pressed.

        Raises:
            RuntimeError: it cannot be.
        """
        if not (button.isVisible() and button.isEnabled()):
            raise RuntimeError(f"“{button.text()}” cannot be pressed. {self.why()}")
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        settle(200)

    def picture(self, name: str, widget: QWidget) -> None:
        """Save a picture of a window."""
        settle(400)  # for layouts
        widget.grab().save(str(self.out / f"{name}.png"))
        self.images.append(name)

    def why(self) -> str:
        """Return what dialog and jobs say, for errors."""
        dialog = self.desk.dialog
        said = [dialog.estimate_box.text_label.text(), dialog.problem()] if dialog is not None else []
        return " ".join([*said, *(record.problem for record in self.desk.controller.jobs)]).strip()


def make_scenes(folder: Path) -> None:
    """Write two halves of the Landsat sample, and a file that was cut short."""
    folder.mkdir()
    source = SAMPLE / "landsat_raleigh.tif"
    for name, left in (("west", 0), ("east", 128)):
        gdal.Translate(str(folder / f"{name}.tif"), str(source), srcWin=[left, 0, 128, 256])
    whole = source.read_bytes()
    (folder / "north.tif").write_bytes(whole[: len(whole) // 16])


def make_photographs(folder: Path) -> None:
    """Write the quarters of the photograph of trees."""
    folder.mkdir()
    for number in range(4):
        window = [200 * (number % 2), 200 * (number // 2), 200, 200]
        gdal.Translate(str(folder / f"trees-{number + 1}.tif"), str(SAMPLE / "neon_osbs.tif"), srcWin=window)


def tidy() -> None:
    """Make the window small enough for a picture, and close what has no part in it."""
    window = iface.mainWindow()
    window.showNormal()
    window.resize(*WINDOW)
    iface.messageBar().clearWidgets()
    browser = window.findChild(QDockWidget, "Browser")
    if browser is not None:
        browser.hide()


def measured(text: str) -> bool:
    """Tell whether an estimate says how long it takes, and not that this is being measured."""
    return " on " in text and "measured" not in text


def choose(combo: QComboBox, text: str) -> None:
    """Choose an entry of a list.

    Raises:
        RuntimeError: it has none of this text.
    """
    found = combo.findText(text)
    if found < 0:
        raise RuntimeError(f"there is no “{text}” among {[combo.itemText(i) for i in range(combo.count())]}")
    combo.setCurrentIndex(found)
    settle(200)


def update_images(out: Path, names: list[str]) -> None:
    """Put the pictures into the documentation, small and with a palette."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in names:
        picture = QImage(str(out / f"{name}.png"))
        if picture.width() > WIDTH:
            picture = picture.scaledToWidth(WIDTH, Qt.TransformationMode.SmoothTransformation)
        few_colours(picture).save(str(IMAGES / f"{name}.png"), None, 0)


def few_colours(picture: QImage) -> QImage:
    """Return a picture with a palette of its own: its most frequent colours, none of them close to another."""
    pixels = picture.convertToFormat(QImage.Format.Format_RGB32)
    bits = pixels.constBits()
    bits.setsize(pixels.sizeInBytes())
    counted = Counter(memoryview(bytes(bits)).cast("I"))
    told_apart = {colour & 0xFFF0F0F0: colour for colour, _ in reversed(counted.most_common())}
    palette = sorted(told_apart.values(), key=lambda colour: -counted[colour])[:256]
    return pixels.convertToFormat(QImage.Format.Format_Indexed8, palette, Qt.ImageConversionFlag.ThresholdDither)


def main() -> int:
    """Do it and write a summary.

    Returns:
        The exit status.
    """
    out, work = Path(sys.argv[1]).absolute(), Path(tempfile.mkdtemp(prefix="survey-"))
    day, problem = BatchDay(out, work), ""
    try:
        day.run()
        if "--update-images" in sys.argv[2:]:
            update_images(out, day.images)
    except Exception as error:  # whatever went wrong belongs in the summary, with a picture of it
        problem = f"{error}"
        traceback.print_exc()
        iface.mainWindow().grab().save(str(out / "failed.png"))
    finally:
        shutil.rmtree(work, ignore_errors=True)  # QGIS may have results open still
    summary = {"ok": not problem, "problem": problem, "seconds": day.seconds, "images": day.images}
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"FAILED: {problem}" if problem else f"{len(day.images)} pictures in {out}")
    return int(bool(problem))


sys.exit(main())
