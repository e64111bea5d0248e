"""Measure the tuning methods: ``python benchmarks/methods.py few-shot|bands|modalities|forgetting``.

One table per question, on ``tiny``, on one processor thread. See benchmarks/README.md for the data and the figures.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUESTIONS = {"few-shot": "few_shot", "bands": "bands", "modalities": "modalities", "forgetting": "forgetting"}
_PACKAGE = "samtune_method_tables"


def prepare() -> None:
    """Make ``samtune`` and the modules of this benchmark importable, under names of their own."""
    # Python puts this folder first, where click.py would be taken for the package of that name.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
    bootstrap = _load("samtune_bootstrap", HERE.parent / "engine" / "bootstrap.py")
    bootstrap.make_importable(HERE.parent)
    if _PACKAGE not in sys.modules:
        _load(_PACKAGE, HERE / "methods" / "__init__.py")


def _load(name: str, path: Path) -> object:
    folders = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main(argv: list[str] | None = None) -> int:
    """Run one question and print its table."""
    parser = argparse.ArgumentParser(description="Measure the tuning methods: one table per question.")
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--data", type=Path, help="folder with the data, see benchmarks/README.md")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything: to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file; go on with what is in it")
    parser.add_argument("--minutes", type=float, help="begin nothing new after so much processor time")
    parser.add_argument("--only-seed", type=int, help="run one of the seeds, for several processes at once")
    args = parser.parse_args(argv)
    prepare()
    import torch

    torch.set_num_threads(1)
    module = importlib.import_module(f"{_PACKAGE}.{QUESTIONS[args.question]}")
    words = ["python benchmarks/methods.py", args.question, *(["--data DATA"] if args.data else [])]
    command = " ".join([*words, *(["--quick"] if args.quick else [])])
    options = importlib.import_module(f"{_PACKAGE}.base").Options
    report = module.run(options(args.data, args.quick, command, args.json, args.minutes, args.only_seed))
    report.publish()
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
