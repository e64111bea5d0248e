"""Nonsense must never be called learnt: ``python benchmarks/shuffled.py``. See methods/shuffled.py."""

from __future__ import annotations

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
    report = _local("report")
    args = report.arguments("Nonsense must be called not better.", argv)
    _local("methods").prepare()
    importlib.import_module("samtune_method_tables.shuffled").measure(args, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
