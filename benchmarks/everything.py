"""Which masks are worth keeping of everything: ``python benchmarks/everything.py``. See methods/everything.py."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent


def _local(name: str) -> ModuleType:
    """Import a module of this folder."""
    spec = importlib.util.spec_from_file_location(f"samtune_{name}", HERE / f"{name}.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"benchmarks/{name}.py is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(argv: list[str] | None = None) -> int:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description="What is found where everything is outlined, by what is kept.")
    parser.add_argument("--quick", action="store_true", help="one image, few points: to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--data", type=Path, help="folder with labelled images, see benchmarks/README.md")
    parser.add_argument("--images", type=int, default=12, help="labelled images at most (12)")
    parser.add_argument("--only", choices=("labelled", "samples"), help="only this part; labelled needs --data")
    args = parser.parse_args(argv)
    report = _local("report")
    _local("methods").prepare()
    importlib.import_module("samtune_method_tables.everything").measure(args, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
