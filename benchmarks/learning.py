"""Measure the fine-tune wizard in a real QGIS: from opening it to the verdict, and whether QGIS stays usable.

    tests/qgis/run_in_qgis.py --timeout 1800 --code benchmarks/learning.py [-- --json FILE --quick --polygons N]

The lesson of ``docs/fine-tuning.md``, done by mouse: the first N of fifteen roofs of the Landsat sample are selected,
the suggested way of learning is taken. The main thread is watched from the button *Start* to the verdict, and before
that for a minute in which QGIS sits on the same page, which is what the machine and QGIS cost by themselves.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

import qgis.utils
from qgis.PyQt.QtWidgets import QWidget

HERE = Path(__file__).resolve().parent
IDLE = 60_000
"""Milliseconds."""

QUICK = ["steps=4"]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"samtune_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


report, blocks = _load(HERE / "report.py"), _load(HERE / "blocks.py")
teach, driving = _load(HERE.parent / "docs" / "demo" / "teach.py"), _load(HERE.parent / "docs" / "demo" / "driving.py")


class Watched(teach.Lesson):  # type: ignore[misc,name-defined]
    """The lesson without its pictures.

    Attributes:
        idle: the main thread before the run, and
        learning: during it.
        verdict: as the wizard says it.
    """

    def __init__(self, folder: Path, polygons: int, *, quick: bool) -> None:
        """Take the first polygons."""
        super().__init__(folder, QUICK if quick else [], teach.ROOFS[:polygons])
        self.idle, self.learning = blocks.Blocks(), blocks.Blocks()
        self.verdict = ""
        self._wait = 1000 if quick else IDLE

    def train(self) -> None:
        """Watch, press *Start*, and watch until the verdict is there."""
        waited = time.monotonic()
        with self.idle.watch():
            driving.settle(self._wait)
        self.began += time.monotonic() - waited  # which no user would have waited
        with self.learning.watch():
            super().train()

    def look(self) -> None:
        """Keep what the wizard says."""
        super().look()
        self.verdict = self.wizard.better.banner.text()

    def picture(self, name: str, widget: QWidget | None = None) -> None:
        """Take none: that blocks."""


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few steps: to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--polygons", type=int, default=10, help="to learn from, at most fifteen (10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lesson = Watched(Path(folder), options.polygons, quick=options.quick)
        lesson.run()
    ms, row = 1000.0, report.Row
    idle, learning = lesson.idle, lesson.learning
    rows = [
        row("from opening the wizard to the verdict", lesson.seconds[teach.WHOLE], "s", "<= 300", lesson.verdict),
        row("of that the estimate", lesson.seconds["estimate"], "s"),
        row("longest block of the main thread, learning", learning.longest * ms, "ms", "<= 50"),
        row("blocks of more than 50 ms, learning", learning.over, "", "<= 0"),
        row("longest block of the main thread, QGIS alone", idle.longest * ms, "ms", note=f"{IDLE // 1000} s"),
    ]
    report.publish(
        "Teaching in QGIS",
        rows,
        options.json,
        command="tests/qgis/run_in_qgis.py --code benchmarks/learning.py",
        polygons=options.polygons,
        qgis=qgis.utils.Qgis.version(),
    )


main()
