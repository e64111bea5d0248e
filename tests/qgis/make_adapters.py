"""Write adapter files that do something, for the tests in QGIS; the engine's Python runs this.

make_adapters.py ROOT FOLDER
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def module(name: str, path: Path) -> ModuleType:
    """Load a module from its file."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(str(path))
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def main(root: Path, folder: Path) -> None:
    """Write ``crowns``, which fits the sample, and ``foreign``, which was tuned on other weights."""
    module("bootstrap", root / "engine" / "bootstrap.py").make_importable(root)
    files = module("adapter_files", root / "tests" / "engine" / "adapter_files.py")
    from samtune.models import registry
    from samtune.models.peft.card_records import BaseRecord, ClassRecord, GroundRecord, InputRecord
    from samtune.models.tiny import build_tiny

    card, network = registry.card("tiny"), build_tiny()
    seen = {"inputs": InputRecord((1, 2, 3)), "ground": GroundRecord((100.0, 100.0))}
    crowns = (ClassRecord(1, "crown", objects=7),)
    files.write_adapter(folder / "crowns.safetensors", card, network, by=0.05, classes=crowns, **seen)
    other = BaseRecord(card.name, card.architecture, "0" * 64, card.licence)
    files.write_adapter(folder / "foreign.safetensors", card, network, base=other, **seen)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
