"""Measure batch jobs: ``python benchmarks/batch.py``. What each section does is said in ``batch/SECTION.py``.

    python benchmarks/batch.py [--json FILE] [--quick] [--only speed,memory,kills,workers,left,seams] [--kills N]
        [--data FOLDER] [--picture PNG]

With ``--only``, rows of other sections that are in the JSON file stay.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
SECTIONS = {
    "speed": "speed",
    "memory": "memory",
    "kills": "kills",
    "workers": "dask",
    "left": "time left",
    "seams": "seams",
}
"""Modules, and how their rows' names begin."""

_PACKAGE = "samtune_batch_tables"


def _load(name: str, path: Path) -> ModuleType:
    """Import a file under a name of its own."""
    folders = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def prepare() -> None:
    """Make ``samtune`` and the sections importable."""
    # Python puts this folder first, where click.py would be taken for the package of that name.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
    _load("samtune_bootstrap", HERE.parent / "engine" / "bootstrap.py").make_importable(HERE.parent)
    _load(_PACKAGE, HERE / "batch" / "__init__.py")


def section(name: str) -> ModuleType:
    """Return a section's module."""
    return importlib.import_module(f"{_PACKAGE}.{name}")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few tiles: to see that it runs; figures mean little")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(SECTIONS), help="sections, by commas")
    parser.add_argument("--kills", type=int, help="how often something is killed; 50, or 4 with --quick")
    parser.add_argument("--data", type=Path, help="folder of square GeoTIFFs of one size for the seams")
    parser.add_argument("--picture", type=Path, help="PNG of outlines and the tiles' borders, drawn with the seams")
    parser.add_argument("--child", nargs="+", default=[], help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if unknown := set(args.only) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    return args


def child(words: list[str]) -> None:
    """Do what a section wants done in a process of its own."""
    kind, first, second, *rest = words
    if kind == "job":
        section("kills").child(Path(first), Path(second), rest[0])
    else:
        task = importlib.import_module("samtune.engine.batch_messages").BatchTask(rest[0])
        section("memory").child(Path(first), Path(second), task, int(rest[1]))


def kept(file: Path | None, only: list[str], report: ModuleType) -> list[Any]:
    """Return the rows of a JSON file that are of other sections."""
    if file is None or not file.exists():
        return []
    starts = tuple(SECTIONS[name] for name in only)
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return [
        report.Row(**{name: value for name, value in row.items() if name != "met"})
        for row in rows
        if not row["name"].startswith(starts)
    ]


def command_of(args: argparse.Namespace) -> str:
    """Return the command, without paths of this machine."""
    words = ["python benchmarks/batch.py", *(["--quick"] if args.quick else [])]
    return " ".join([*words, *(["--data DATA"] if args.data else []), *(["--picture PNG"] if args.picture else [])])


def main(argv: list[str] | None = None) -> int:
    """Measure and tell."""
    args = arguments(argv)
    prepare()
    if args.child:
        child(args.child)
        return 0
    report = _load("samtune_report", HERE / "report.py")
    base, scenes = section("base"), section("scenes")
    begun, rows = time.monotonic(), []
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            kills = args.kills or (4 if args.quick else 50)
            options = base.Options(Path(folder), report, args.quick, kills, args.data, args.picture)
            rows += section(name).measure(options)
    data = f"{base.SAMPLE.name}, SHA-256 {scenes.digest([base.SAMPLE])}"
    if args.data:
        data += f"; DATA, SHA-256 {scenes.digest(sorted(args.data.glob('*.tif')))}"
    report.publish(
        "Batch jobs, tiny, one thread where nothing else is said",
        [*kept(args.json, args.only, report), *rows],
        args.json,
        command=command_of(args),
        data=data,
        seed=base.SEED,
        torch=importlib.import_module("torch").__version__,
        cores=len(os.sched_getaffinity(0)),
        minutes=round((time.monotonic() - begun) / 60, 1),
    )
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
