"""The one mechanism that makes a plugin folder importable as ``samtune``, whatever the folder is called.

A checkout may lie in ``main`` or ``samtune-0.1``; QGIS's plugin folder is ``samtune`` beside other people's packages,
so putting its parent on ``sys.path`` would let those shadow ours. Instead the folder itself is registered as the
package.
Standard library only. Used by the tests, by the engine process (this file is what QGIS starts) and by workers; a pip
install of the distribution gives the same package name by ordinary means.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PACKAGE = "samtune"


def make_importable(root: Path) -> ModuleType:
    """Register a folder as the package ``samtune``.

    Args:
        root: the folder that holds ``metadata.txt``, ``engine/`` and the rest.

    Returns:
        The package. If one is registered already, that one.

    Raises:
        ImportError: the folder has no ``__init__.py``.
    """
    if PACKAGE in sys.modules:
        return sys.modules[PACKAGE]
    location = root / "__init__.py"
    spec = importlib.util.spec_from_file_location(PACKAGE, location, submodule_search_locations=[str(root)])
    if spec is None or spec.loader is None or not location.is_file():
        raise ImportError(f"{root} is no SamTune folder: {location} is missing.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Run the command line from this folder, as QGIS does to start the engine."""
    make_importable(Path(__file__).resolve().parent.parent)
    from samtune.engine.cli import main as run  # the package exists only from here on

    return run()


if __name__ == "__main__":
    sys.exit(main())
