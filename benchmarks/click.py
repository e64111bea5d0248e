"""Measure clicking in a real QGIS against the bare network, timed in the same run. Run it with ``make bench``.

In QGIS, with real mouse events on the map: the first click into a crop that was never encoded, clicks into an encoded
one, outlines that follow the pointer, how long the main thread was blocked by any of it, and what the plugin adds to
QGIS's start. The reference is ``benchmarks/bare_model.py``: the same network on as many threads and in the same
precision, timed before and after. The engine sleeps meanwhile.

The raster is the sample tile, mirrored side by side into a mosaic large enough for many crops.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import qgis.utils
from osgeo import gdal
from qgis.core import QgsPointXY, QgsProject, QgsRasterLayer, QgsRectangle
from qgis.PyQt.QtCore import QEventLoop, QPoint, Qt, QTimer
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QWidget

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "docs" / "sample" / "neon_osbs.tif"
TILES = 12
PLUGIN = "samtune"


def load(name: str) -> ModuleType:
    """Load a module that lies beside this file and on no path."""
    spec = importlib.util.spec_from_file_location(f"samtune_benchmark_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise SystemExit(f"benchmarks/{name}.py is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


report, blocks = load("report"), load("blocks")

# No type of the plugin is imported here: its modules are made anew when its start is timed. Hence Any below.


def wait(until: Callable[[], bool], seconds: float, what: str) -> None:
    """Let QGIS live until something is so.

    Raises:
        SystemExit: it is not so in time.
    """
    loop = QEventLoop()
    poll = QTimer()
    poll.setInterval(1)
    poll.timeout.connect(lambda: loop.quit() if until() else None)
    poll.start()
    limit = QTimer()
    limit.setSingleShot(True)
    limit.timeout.connect(loop.quit)
    limit.start(round(seconds * 1000))
    if not until():
        loop.exec()
    poll.stop()
    if not until():
        raise SystemExit(f"No {what} after {seconds:.0f} s.")


def pause(milliseconds: int) -> None:
    """Let QGIS live for a while."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def make_mosaic(folder: Path) -> Path:
    """Write the sample, mirrored so that its borders meet, as a mosaic of TILES x TILES."""
    source = gdal.Open(str(SAMPLE))
    tile = source.ReadAsArray()[:3]
    pair = np.concatenate([tile, tile[:, :, ::-1]], axis=2)
    block = np.concatenate([pair, pair[:, ::-1]], axis=1)
    mosaic = np.tile(block, (1, TILES // 2, TILES // 2))
    path = folder / "mosaic.tif"
    options = ["TILED=YES", "COMPRESS=DEFLATE"]
    out = gdal.GetDriverByName("GTiff").Create(str(path), mosaic.shape[2], mosaic.shape[1], 3, gdal.GDT_Byte, options)
    out.SetGeoTransform(source.GetGeoTransform())
    out.SetProjection(source.GetProjection())
    out.WriteArray(mosaic)
    out.BuildOverviews("AVERAGE", [2, 4, 8])
    return path


class Bench:
    """One run in one QGIS."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        """Time the plugin's start, then load a raster and take up the tool."""
        self.quick = quick
        self.blocks = blocks.Blocks()
        self.start_seconds = self._restart_plugin(2 if quick else 6)
        self.canvas = qgis.utils.iface.mapCanvas()
        self.layer = QgsRasterLayer(str(make_mosaic(folder)), "mosaic")
        QgsProject.instance().addMapLayer(self.layer)
        self.workbench = qgis.utils.plugins[PLUGIN].open_dock()
        self.session = self.workbench.session
        self.answer: Any = None
        self.steps: dict[str, dict[str, list[float]]] = {"cold": {}, "cached": {}}
        self._listen(self.workbench.service)
        self.workbench.choose_layer(self.layer)
        self.session.set_fixed_level(0)
        self.workbench.dock.prompt_button.defaultAction().trigger()
        wait(lambda: self.session.raster is not None, 120, "raster in the engine")
        wait(lambda: self.session.busy is None, 120, "loaded model")
        self.raster = self.session.raster
        self.model = next(model for model in self.session.models if model.name == self.session.model)
        self.side = self.model.input_size

    def _listen(self, service: Any) -> None:
        """Keep what the engine answers to clicks: when it finds nothing, the session does not hold it."""
        request = service.request_async

        def listening(method: Any, params: object, on_result: Callable[[object], None], *rest: object) -> object:
            def keep(result: object) -> None:
                if method.value == "segment":
                    self.answer = result
                on_result(result)

            return request(method, params, keep, *rest)

        service.request_async = listening

    @property
    def viewport(self) -> QWidget:
        """Where the mouse goes."""
        return self.canvas.viewport()

    def _restart_plugin(self, times: int) -> list[float]:
        """Unload the plugin, forget its modules, and time what QGIS does at its start."""
        seconds = []
        sys.dont_write_bytecode = False  # as in a user's QGIS: compiled once, not at every start
        for _ in range(times + 1):
            qgis.utils.unloadPlugin(PLUGIN)
            for name in [name for name in sys.modules if name.split(".")[0] == PLUGIN]:
                del sys.modules[name]
            begin = time.perf_counter()
            loaded = qgis.utils.loadPlugin(PLUGIN) and qgis.utils.startPlugin(PLUGIN)
            seconds.append(time.perf_counter() - begin)
            if not loaded:
                raise SystemExit("The plugin does not load.")
        return seconds[1:]

    def go_to(self, column: float, row: float) -> None:
        """Show one crop's surroundings, one raster pixel per screen pixel, and wait until the map is drawn."""
        x0, size, _, y0, _, negative = self.raster.transform
        centre = QgsPointXY(x0 + column * size, y0 + row * negative)
        half_width, half_height = self.canvas.width() * size / 2, self.canvas.height() * size / 2
        self.canvas.setExtent(
            QgsRectangle(
                centre.x() - half_width, centre.y() - half_height, centre.x() + half_width, centre.y() + half_height
            )
        )
        self.canvas.refresh()
        pause(50)
        wait(lambda: not self.canvas.isDrawing(), 30, "drawn map")

    def on_screen(self, column: float, row: float) -> QPoint:
        """Return the canvas pixel of a raster position."""
        x0, size, _, y0, _, negative = self.raster.transform
        return (
            self.canvas.getCoordinateTransform()
            .transform(QgsPointXY(x0 + column * size, y0 + row * negative))
            .toQPointF()
            .toPoint()
        )

    def click(self, at: QPoint) -> tuple[float, str]:
        """Click and wait for the outline on the map.

        Returns:
            Seconds from the mouse button to the drawn outline (or "nothing here"), and where the embedding came from.
        """
        answers: list[float] = []
        self.answer = None
        changed = self.session.outline_changed
        notice = self.session.noticed

        def answered(*_: object) -> None:
            self.canvas.viewport().repaint()
            answers.append(time.perf_counter())

        changed.connect(answered)
        notice.connect(answered)
        begin = time.perf_counter()
        QTest.mouseClick(self.viewport, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, at)
        wait(lambda: bool(answers), 120, "answer to a click")
        changed.disconnect(answered)
        notice.disconnect(answered)
        source = self.answer.source if self.answer else "none"
        wait(lambda: self.session.busy is None, 30, "end of the request")
        pause(20)
        QTest.keyClick(self.canvas, Qt.Key.Key_Escape)
        pause(20)
        return answers[0] - begin, source

    def _note_steps(self, kind: str) -> None:
        for step, seconds in self.answer.seconds.items():
            self.steps[kind].setdefault(step, []).append(seconds)

    def cold_clicks(self) -> list[float]:
        """Click once into each of many crops."""
        seconds: list[float] = []
        wanted = 4 if self.quick else 20
        step = self.side
        places = [
            (c, r)
            for r in range(step, self.raster.height - step, step)
            for c in range(step, self.raster.width - step, step)
        ]
        for column, row in places:
            if len(seconds) >= wanted:
                break
            self.go_to(column, row)
            with self.blocks.watch():
                elapsed, source = self.click(self.on_screen(column, row))
            if source == "encoder":
                seconds.append(elapsed)
                self._note_steps("cold")
        return seconds

    def cached_clicks(self) -> list[float]:
        """Click often into one encoded crop, never twice at a place."""
        column, row = float(self.side), float(self.side)
        self.go_to(column, row)
        self.click(self.on_screen(column, row))
        seconds = []
        rng = np.random.default_rng(0)
        for _ in range(8 if self.quick else 60):
            offset = rng.uniform(-self.side / 5, self.side / 5, 2)
            with self.blocks.watch():
                elapsed, source = self.click(self.on_screen(column + offset[0], row + offset[1]))
            if source == "memory":
                seconds.append(elapsed)
                self._note_steps("cached")
        return seconds

    def hover(self) -> float:
        """Move the mouse 100 times a second over an encoded crop; return previews a second."""
        column, row = float(self.side), float(self.side)
        self.go_to(column, row)
        self.click(self.on_screen(column, row))
        previews: list[float] = []
        count = previews.append
        self.session.preview_changed.connect(lambda: count(time.perf_counter()))
        moves = 0
        seconds = 2.0 if self.quick else 6.0

        def move() -> None:
            nonlocal moves
            moves += 1
            angle = moves / 25.0
            radius = self.side / 6
            at = self.on_screen(column + radius * np.cos(angle), row + radius * np.sin(angle))
            QTest.mouseMove(self.viewport, at)

        timer = QTimer()
        timer.setTimerType(Qt.TimerType.PreciseTimer)
        timer.setInterval(10)
        timer.timeout.connect(move)
        with self.blocks.watch():
            timer.start()
            pause(round(seconds * 1000))
            timer.stop()
        return len(previews) / seconds


def bare(model: str, path: str, threads: int, runs: int) -> dict[str, list[float]]:
    """Run the reference in the engine's environment."""
    python = os.environ["SAMTUNE_ENGINE_PYTHON"]
    command = [python, str(ROOT / "benchmarks" / "bare_model.py"), path, "--model", model]
    done = subprocess.run(
        [*command, "--runs", str(runs), "--threads", str(threads)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"The reference failed:\n{done.stderr}")
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def idle_blocks(bench: Bench) -> float:
    """Return the longest block of QGIS moving its mouse with the plugin's tool laid down: what QGIS itself costs."""
    canvas = bench.canvas
    tool = canvas.mapTool()
    canvas.unsetMapTool(tool)
    watch = blocks.Blocks()
    with watch.watch():
        for step in range(150):
            QTest.mouseMove(bench.viewport, QPoint(100 + step, 100 + step % 40))
            pause(10)
    canvas.setMapTool(tool)
    return watch.longest


def main() -> None:
    """Measure and publish."""
    options = report.arguments(__doc__.splitlines()[0])
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), quick=options.quick)
        threads = bench.workbench.service.last_info.threads
        runs = 6 if options.quick else 25
        before = bare(bench.model.name, bench.model.path, threads, runs)
        cold = bench.cold_clicks()
        cold_block, bench.blocks.longest = bench.blocks.longest, 0.0
        cached = bench.cached_clicks()
        cached_block, bench.blocks.longest = bench.blocks.longest, 0.0
        rate = bench.hover()
        hover_block = bench.blocks.longest
        idle = idle_blocks(bench)
        after = bare(bench.model.name, bench.model.path, threads, runs)
        encode, decode = before["encode"] + after["encode"], before["decode"] + after["decode"]
        ms = 1000.0
        median, spread, row = report.median, report.spread, report.Row
        rows = [
            row("bare encoder forward", median(encode) * ms, "ms", note=spread([s * ms for s in encode])),
            row("bare decoder forward", median(decode) * ms, "ms", note=spread([s * ms for s in decode])),
            row("first click (cold crop)", median(cold) * ms, "ms", note=spread([s * ms for s in cold])),
            row("cached click to drawn outline", median(cached) * ms, "ms", note=spread([s * ms for s in cached])),
            row("first click / encoder forward", median(cold) / median(encode), "x", "<= 1.15"),
            row("cached click / decoder forward", median(cached) / median(decode), "x", "<= 1.5"),
            row("hover previews a second", rate, "1/s", ">= 15", "mouse moved 100 times a second"),
            row("longest block, cold clicks", cold_block * ms, "ms", "<= 50"),
            row("longest block, cached clicks", cached_block * ms, "ms", "<= 50"),
            row("longest block, hovering", hover_block * ms, "ms", "<= 50"),
            row("longest block, QGIS alone", idle * ms, "ms", note="mouse moved, another tool"),
            row(
                "plugin's share of QGIS start",
                median(bench.start_seconds) * ms,
                "ms",
                "<= 100",
                spread([s * ms for s in bench.start_seconds]),
            ),
        ]
        for kind, steps in bench.steps.items():
            rows += [row(f"engine, {kind}: {name}", median(found) * ms, "ms") for name, found in steps.items()]
        report.publish(
            "Clicking in QGIS",
            rows,
            options.json,
            model=bench.model.name,
            input_size=bench.side,
            threads=threads,
            qgis=qgis.utils.Qgis.version(),
        )


main()
