"""The house rules hold in every shipped module, and each rule is shown to notice a breach."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

_spec = importlib.util.spec_from_file_location("samtune_repo_rules", Path(__file__).parent / "rules.py")
if _spec is None or _spec.loader is None:
    raise ImportError("rules.py is missing")
rules = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = rules
_spec.loader.exec_module(rules)

MODULES = rules.read(ROOT)
Rule: TypeAlias = Callable[[object], Iterator[str]]


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule: Rule) -> None:
    breaches = [f"{module.name or '__init__'}:{breach}" for module in MODULES for breach in rule(module)]
    assert not breaches, "\n".join([rule.__doc__, *breaches])


def test_all_parts_are_looked_at() -> None:
    names = {module.name for module in MODULES}
    assert {"", "engine", "models", "plugin", "ui", *rules.SHARED} <= names


BAD = [
    ("import_directions", "ui/dock.py", "from ..engine.server import serve"),
    ("import_directions", "plugin/tasks.py", "from ..models import registry"),
    ("import_directions", "plugin/tasks.py", "from ..ui import dock"),
    ("import_directions", "models/tiny.py", "from ..engine import device"),
    ("import_directions", "engine/pretrain/run.py", "from ...plugin import tasks"),
    ("import_directions", "engine/server.py", "def f():\n    from ..ui.dock import Dock"),
    ("no_qt_in_engine", "engine/server.py", "import qgis.core"),
    ("no_qt_in_engine", "models/tiny.py", "def f():\n    from osgeo import gdal"),
    ("nothing_heavy_in_qgis", "plugin/layers.py", "import numpy as np"),
    ("nothing_heavy_in_qgis", "ui/dock.py", "def f():\n    from torch import nn"),
    ("shared_is_stdlib", "engine/messages.py", "import numpy"),
    ("shared_is_stdlib", "engine/messages.py", "from .device import choose"),
    ("shared_is_stdlib", "engine/__init__.py", "import torch"),
    ("shared_is_stdlib", "engine/provenance.py", "import shapely"),
    ("models_without_raster", "models/card.py", "import rasterio.windows"),
    ("relative_only", "plugin/tasks.py", "from plugin.session import Session"),
    ("relative_only", "engine/server.py", "import samtune.engine.messages"),
    ("iface_in_plugin_only", "plugin/session.py", "from qgis.utils import iface"),
    ("iface_in_plugin_only", "ui/dock.py", "class D:\n    def __init__(self, iface): ..."),
    ("iface_in_plugin_only", "ui/dock.py", "def f(self):\n    return self._iface.mapCanvas()"),
    ("no_assert", "engine/crops.py", "def f(x):\n    assert x"),
    ("nothing_swallowed", "engine/crops.py", "try:\n    f()\nexcept ValueError:\n    pass"),
    ("nothing_swallowed", "engine/crops.py", "try:\n    f()\nexcept:\n    raise"),
    (
        "nothing_swallowed",
        "engine/crops.py",
        "while x:\n    try:\n        f()\n    except Exception:\n        continue",
    ),
    ("scoped_enums", "plugin/map_tool.py", "b = Qt.LeftButton"),
    ("scoped_enums", "plugin/tasks.py", "QgsTask.__init__(self, d, QgsTask.CanCancel)"),
    ("scoped_enums", "plugin/layers.py", "t = QVariant.Double"),
    ("qt_through_qgis", "ui/dock.py", "from PyQt5.QtCore import Qt"),
    ("qt_through_qgis", "ui/dock.py", "from qgis._gui import QgsDockWidget"),
    ("qt_through_qgis", "ui/dock.py", "dialog.exec_()"),
    ("no_print", "engine/server.py", "print(1)"),
    ("module_size", "engine/server.py", "\n" * 500 + "x = 1"),
]


@pytest.mark.parametrize(("rule", "path", "source"), BAD)
def test_the_rule_notices(rule: str, path: str, source: str) -> None:
    assert list(getattr(rules, rule)(rules.parse(path, source)))


def test_every_rule_has_a_bad_example() -> None:
    assert {rule.__name__ for rule in rules.RULES} == {rule for rule, _, _ in BAD}


GOOD = [
    ("ui/dock.py", "from ..plugin.session import Session\nfrom ..engine.messages import Prompt"),
    ("ui/dock.py", "from ..models.errors import SamTuneError"),
    ("plugin/acceptor.py", "from ..engine.provenance import raster_name"),
    ("plugin/plugin.py", "from ..ui.dock import Dock\nfrom .session import Session\ndef f(iface): return iface"),
    ("plugin/tasks.py", "from ..engine import messages"),
    ("engine/server.py", "from ..models.registry import cards\nfrom .messages import Method\nimport torch"),
    ("engine/pretrain/__init__.py", "from ...models import tiny\nfrom .. import device"),
    ("plugin/map_tool.py", "b = Qt.MouseButton.LeftButton\nm = QMetaType.Type.Double\nd = QMessageBox(parent)"),
    ("plugin/tasks.py", "def f(flags: QgsTask.Flag) -> Qgis.MessageLevel:\n    return Qgis.MessageLevel.Info"),
    ("engine/crops.py", "try:\n    f()\nexcept OSError as error:\n    raise ValueError from error"),
    ("engine/crops.py", "for x in y:\n    try:\n        f()\n    except FileNotFoundError:\n        continue"),
    ("__init__.py", "if TYPE_CHECKING:\n    from .plugin.plugin import P\ndef f():\n    from .plugin.plugin import P"),
]


@pytest.mark.parametrize(("path", "source"), GOOD)
def test_ordinary_code_passes(path: str, source: str) -> None:
    module = rules.parse(path, source)
    assert [breach for rule in rules.RULES for breach in rule(module)] == []


@pytest.mark.parametrize("name", [*sorted(f"samtune.{name}" for name in rules.SHARED), "samtune"])
def test_the_shared_modules_load_without_any_package(name: str) -> None:
    """In a Python that sees the standard library only, whatever their own imports may pull in."""
    code = (
        "import importlib, importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('boot', {str(ROOT / 'engine' / 'bootstrap.py')!r})\n"
        "boot = importlib.util.module_from_spec(spec); spec.loader.exec_module(boot)\n"
        f"boot.make_importable(boot.Path({str(ROOT)!r}))\n"
        f"importlib.import_module({name!r})\n"
        "foreign = [n for n, m in sys.modules.items() if 'site-packages' in (getattr(m, '__file__', None) or '')]\n"
        "sys.exit(repr(foreign) if foreign else 0)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
