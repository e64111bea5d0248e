"""The house rules that a parse of the source can check. Each rule takes a module and yields what breaks it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PARTS = ("engine", "models", "plugin", "ui")
SHARED = frozenset(
    {"engine.messages", "engine.tune_messages", "engine.area_messages", "engine.batch_messages",
     "engine.change_messages", "engine.wire", "engine.framing", "engine.provenance", "models.errors"}
)  # fmt: skip
"""What both processes import: the wire, the attributes of what is written, the errors. Standard library only, and only
each other."""

HEAVY = frozenset(
    {"torch", "torchvision", "rasterio", "shapely", "numpy", "contourpy", "safetensors", "segment_anything", "pyogrio",
     "pyproj", "scipy", "skimage", "urllib3"}
)  # fmt: skip
QT = frozenset({"qgis", "PyQt5", "PyQt6", "PySide2", "PySide6", "osgeo"})
ALLOWED = {
    "models": ("models",),
    "engine": ("engine", "models"),
    "plugin": ("plugin",),
    "ui": ("ui", "plugin"),
}
"""Which parts a part may import, besides the shared modules."""
COMPOSERS = frozenset({"plugin.plugin", "plugin.workbench", "plugin.area_desk", "plugin.batch_desk", "plugin.teaching"})
"""The modules that put controllers and widgets together, and so know both sides of the arrow ui -> plugin."""


@dataclass(frozen=True)
class Module:
    """One parsed source file.

    Attributes:
        name: dotted, without the package's own name: ``engine.messages``; the root's ``__init__`` is the empty string.
        tree: its syntax tree.
        is_package: the file is an ``__init__.py``.
    """

    name: str
    tree: ast.Module
    is_package: bool = False

    @property
    def part(self) -> str:
        """Return the folder directly under the root: engine, models, plugin, ui, or the empty string."""
        return self.name.split(".", 1)[0]


def read(root: Path) -> list[Module]:
    """Parse every shipped module below a root."""
    files = [root / "__init__.py", *(file for part in PARTS for file in sorted((root / part).rglob("*.py")))]
    return [parse(file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")) for file in files]


def parse(path: str, source: str) -> Module:
    """Parse one file.

    Args:
        path: relative to the root, with slashes.
        source: its text.
    """
    names = path.removesuffix(".py").split("/")
    is_package = names[-1] == "__init__"
    return Module(".".join(names[:-1] if is_package else names), ast.parse(source), is_package)


@dataclass(frozen=True)
class Import:
    """One imported name: inside the package (``engine.messages``) or outside (``torch``)."""

    target: str
    inside: bool
    line: int


def imports(module: Module) -> Iterator[Import]:
    """Yield every import of a module, those inside functions too, but not those for the type checker only."""
    skipped = {
        id(node)
        for branch in ast.walk(module.tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING")
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(module.tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, inside=False, line=node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield Import(node.module or "", inside=False, line=node.lineno)
        elif isinstance(node, ast.ImportFrom):
            names = module.name.split(".") if module.name else []
            up = node.level - (1 if module.is_package else 0)
            base = names[: len(names) - up]
            stem = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                # "from ..models import card" may name a module or an attribute; the part is the same either way.
                yield Import(".".join([*stem, alias.name]), inside=True, line=node.lineno)


def is_shared(target: str) -> bool:
    """Tell whether an import's target is one of the shared modules, or a name in one."""
    return target in SHARED or target.rpartition(".")[0] in SHARED


def import_directions(module: Module) -> Iterator[str]:
    """Arrows: ui -> plugin -> messages <- engine -> models, and nothing else."""
    if not module.part:
        return
    allowed = ALLOWED[module.part] + (("ui",) if module.name in COMPOSERS else ())
    for found in imports(module):
        if found.inside and found.target.split(".")[0] not in allowed and not is_shared(found.target):
            yield f"{found.line}: {module.part} may not import {found.target}"


def no_qt_in_engine(module: Module) -> Iterator[str]:
    """The engine's side runs where there is no QGIS."""
    for found in imports(module):
        if module.part in {"engine", "models"} and not found.inside and found.target.split(".")[0] in QT:
            yield f"{found.line}: imports {found.target}"


def nothing_heavy_in_qgis(module: Module) -> Iterator[str]:
    """QGIS's process stays free of the engine's packages, numpy included."""
    for found in imports(module):
        if module.part in {"plugin", "ui", ""} and not found.inside and found.target.split(".")[0] in HEAVY:
            yield f"{found.line}: imports {found.target}"


def shared_is_stdlib(module: Module) -> Iterator[str]:
    """What both processes import needs nothing but Python."""
    if module.name not in SHARED | {"engine", "models", ""}:
        return
    for found in imports(module):
        outside = not found.inside and found.target.split(".")[0] not in sys.stdlib_module_names
        if outside or (found.inside and module.name in SHARED and not is_shared(found.target)):
            yield f"{found.line}: imports {found.target}"


def models_without_raster(module: Module) -> Iterator[str]:
    """Networks know arrays, not rasters or polygons."""
    for found in imports(module):
        if module.part == "models" and found.target.split(".")[0] in {"rasterio", "shapely", "pyogrio", "pyproj"}:
            yield f"{found.line}: imports {found.target}"


def relative_only(module: Module) -> Iterator[str]:
    """Inside QGIS the package lies beside other plugins: absolute imports of generic names would be theirs."""
    for found in imports(module):
        own = found.target.split(".")[0] in {*PARTS, "samtune"}
        if own and not found.inside and module.name != "engine.bootstrap":
            yield f"{found.line}: imports {found.target} absolutely"


def iface_in_plugin_only(module: Module) -> Iterator[str]:
    """Only plugin/plugin.py knows QGIS's interface object; everything else gets the narrow thing that it needs."""
    if module.name in {"plugin.plugin", ""}:
        return
    for node in ast.walk(module.tree):
        named = isinstance(node, ast.Name) and node.id == "iface"
        parameter = isinstance(node, ast.arg) and node.arg == "iface"
        attribute = isinstance(node, ast.Attribute) and node.attr in {"iface", "_iface"}
        imported = isinstance(node, ast.alias) and node.name == "iface"
        if named or parameter or attribute or imported:
            yield f"{getattr(node, 'lineno', 0)}: uses iface"


def no_assert(module: Module) -> Iterator[str]:
    """Python may be run without asserts, and a failed one says nothing to the user."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assert):
            yield f"{node.lineno}: assert"


def nothing_swallowed(module: Module) -> Iterator[str]:
    """No bare except, no handler that does nothing; going on with the next item only after a narrow error."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield f"{node.lineno}: bare except"
        wide = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
        idle = (ast.Pass, ast.Continue) if wide else (ast.Pass,)
        if all(
            isinstance(s, idle) or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)) for s in node.body
        ):
            yield f"{node.lineno}: handler does nothing"


QT_ENUM_HOLDERS = frozenset(
    {"Qt", "QgsTask", "Qgis", "QMetaType", "QVariant", "QFrame", "QSizePolicy", "QEvent", "QDialogButtonBox",
     "QMessageBox", "QProcess", "QgsMapLayerProxyModel", "QgsWkbTypes", "QIODevice", "QStyle", "QAbstractItemView",
     "QToolButton", "QPalette", "QgsVectorFileWriter", "QgsRubberBand", "QgsVertexMarker", "QFont", "QPainter",
     "QDockWidget", "QFormLayout", "QLineEdit"}
)  # fmt: skip


def scoped_enums(module: Module) -> Iterator[str]:
    """Qt 6 has only ``Qt.MouseButton.LeftButton``: ``Holder.Member`` with a bare capitalised member is the old form.

    A scoped enum is read as ``Holder.Enum.Member``, so a two-part name is wrong unless its member names a class: those
    are followed by a further attribute, used as a type, or called.
    """
    scopes = {id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
    called = {id(node.func) for node in ast.walk(module.tree) if isinstance(node, ast.Call)}
    annotations = {
        id(inner)
        for node in ast.walk(module.tree)
        for hint in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if isinstance(hint, ast.AST)
        for inner in ast.walk(hint)
    }
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            continue
        if node.value.id not in QT_ENUM_HOLDERS or not node.attr[0].isupper():
            continue
        if id(node) in scopes | called | annotations or node.attr.isupper():
            continue
        yield f"{node.lineno}: unscoped enum {node.value.id}.{node.attr}"


def qt_through_qgis(module: Module) -> Iterator[str]:
    """Qt comes from qgis.PyQt, which is Qt 5 or Qt 6, and ``exec`` has no underscore."""
    for found in imports(module):
        if found.target.split(".")[0] in {"PyQt5", "PyQt6", "PySide2", "PySide6", "sip"} or found.target.startswith(
            "qgis._"
        ):
            yield f"{found.line}: imports {found.target}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr == "exec_":
            yield f"{node.lineno}: exec_"


def no_print(module: Module) -> Iterator[str]:
    """The engine's stdout is the wire, and QGIS's goes nowhere."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{node.lineno}: print"


LONGEST_MODULE = 450
LONGER = {"engine.messages": 500, "engine.tune_messages": 500}
"""Messages of one subject stay together: they are the contract between the processes, each field with a line."""


def module_size(module: Module) -> Iterator[str]:
    """A module that long is two modules."""
    last = max((getattr(node, "end_lineno", 0) or 0 for node in module.tree.body), default=0)
    if last > LONGER.get(module.name, LONGEST_MODULE):
        yield f"{last} lines"


RULES: tuple[Callable[[Module], Iterator[str]], ...] = (
    import_directions,
    no_qt_in_engine,
    nothing_heavy_in_qgis,
    shared_is_stdlib,
    models_without_raster,
    relative_only,
    iface_in_plugin_only,
    no_assert,
    nothing_swallowed,
    scoped_enums,
    qt_through_qgis,
    no_print,
    module_size,
)
