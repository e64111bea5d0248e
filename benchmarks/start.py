"""What the benchmarks beside this file that run one table of ``methods`` share: how that is found and started.

Python puts this folder first when one of them is run, so ``import start`` needs nothing else.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent


def local(name: str) -> ModuleType:
    """Import a module of this folder, under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"samtune_{name}", HERE / f"{name}.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"benchmarks/{name}.py is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def measure(table: str, args: object) -> int:
    """Run a table of ``methods`` and print it.

    Args:
        table: name of its module.
        args: what its ``measure`` takes first: parsed options, or the words of the command line.

    Returns:
        The exit status.
    """
    report = local("report")
    local("methods").prepare()
    importlib.import_module(f"samtune_method_tables.{table}").measure(args, report)
    return 0
