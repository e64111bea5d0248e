"""QGIS 3.40 brings Python 3.9 on some platforms: everything that QGIS imports keeps to it.

A parser alone does not tell: ``zip(strict=True)`` parses anywhere and fails when it runs. So each newer thing is looked
for by name, and shown to be found.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = (
    "engine/__init__.py",
    "engine/area_messages.py",
    "engine/batch_messages.py",
    "engine/change_messages.py",
    "engine/framing.py",
    "engine/messages.py",
    "engine/provenance.py",
    "engine/tune_messages.py",
    "engine/wire.py",
)
MODELS = ("models/__init__.py", "models/errors.py")
QGIS_SIDE = sorted(
    [ROOT / "__init__.py"]
    + [ROOT / name for name in (*SHARED, *MODELS) if (ROOT / name).exists()]
    + [file for part in ("plugin", "ui") for file in (ROOT / part).rglob("*.py")]
)

NEW_MODULES = {"tomllib"}
NEW_NAMES = {
    "typing": {
        *("TypeAlias", "ParamSpec", "Concatenate", "TypeGuard", "Self", "Never", "LiteralString", "assert_never"),
        *("assert_type", "reveal_type", "Required", "NotRequired", "Unpack", "override", "dataclass_transform"),
    },
    "types": {"NoneType", "EllipsisType", "UnionType"},
    "enum": {"StrEnum", "verify", "member", "nonmember", "ReprEnum", "EnumType"},
    "datetime": {"UTC"},
    "itertools": {"pairwise", "batched"},
    "contextlib": {"aclosing", "chdir"},
    "dataclasses": {"KW_ONLY"},
    "hashlib": {"file_digest"},
    "inspect": {"get_annotations"},
    "sys": {"stdlib_module_names", "orig_argv", "exception"},
    "asyncio": {"TaskGroup", "timeout", "Runner"},
    "math": {"cbrt", "exp2", "sumprod"},
}
NEW_BUILTINS = {"aiter", "anext", "ExceptionGroup", "BaseExceptionGroup", "EncodingWarning"}
NEW_ARGUMENTS = {
    "zip": {"strict"},
    "dataclass": {"slots", "kw_only", "weakref_slot"},
    "field": {"kw_only"},
    "bisect_left": {"key"},
    "bisect_right": {"key"},
    "insort": {"key"},
    "NamedTemporaryFile": {"delete_on_close"},
    "TemporaryDirectory": {"delete"},
}
TYPES = {"int", "str", "float", "bool", "bytes", "dict", "list", "tuple", "set", "Callable", "Sequence", "Mapping"}
NEW_METHODS = {"add_note", "bit_count", "hardlink_to", "walk", "is_junction"}


def too_new(tree: ast.Module) -> Iterator[str]:
    """Yield what Python 3.9 cannot run. Annotations are left out: they are never evaluated here."""
    future = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
    hints = {id(inner) for hint in _annotations(tree) for inner in ast.walk(hint)} if future else set()
    methods = {name.name for name in ast.walk(tree) if isinstance(name, ast.FunctionDef)}
    for node in ast.walk(tree):
        if id(node) in hints:
            continue
        line = f"{getattr(node, 'lineno', 0)}: "
        if isinstance(node, (ast.Match, ast.TryStar)):
            yield line + type(node).__name__
        elif isinstance(node, ast.ImportFrom) and not node.level:
            taken = {alias.name for alias in node.names} & NEW_NAMES.get(node.module or "", set())
            yield from (f"{line}{node.module}.{name}" for name in taken)
            if node.module in NEW_MODULES:
                yield line + node.module
        elif isinstance(node, ast.Import):
            yield from (line + alias.name for alias in node.names if alias.name in NEW_MODULES)
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield from (f"{line}{name}({k.arg}=)" for k in node.keywords if k.arg in NEW_ARGUMENTS.get(name, set()))
            if name == "isinstance" and isinstance(node.args[-1], ast.BinOp):
                yield line + "isinstance with |"
        elif isinstance(node, ast.Attribute):
            of = node.value.id if isinstance(node.value, ast.Name) else ""
            method = node.attr in NEW_METHODS and node.attr not in methods and of not in {"ast", "os"}
            if method or node.attr in NEW_NAMES.get(of, set()):
                yield f"{line}{of}.{node.attr}"
        elif isinstance(node, ast.Name) and node.id in NEW_BUILTINS:
            yield line + node.id
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and _is_type_union(node):
            yield line + f"a union of types at run time: {ast.unparse(node)}"


def _annotations(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        for hint in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(hint, ast.expr):
                yield hint


def _is_type_union(node: ast.BinOp) -> bool:
    def is_type(side: ast.expr) -> bool:
        if isinstance(side, ast.Constant):
            return side.value is None
        if isinstance(side, ast.Subscript):
            return is_type(side.value)
        return isinstance(side, ast.Name) and side.id in TYPES

    return is_type(node.left) or is_type(node.right)


@pytest.mark.parametrize("file", QGIS_SIDE, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_python_39_can_run_it(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))
    assert list(too_new(tree)) == []


def test_ruff_looks_at_the_same_files() -> None:
    """Ruff would otherwise rewrite them to what its target, the engine's Python, can do."""
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["ruff"]["per-file-target-version"]
    assert set(patterns.values()) == {"py39"}
    named = {name for name in (*SHARED, *MODELS) if not name.endswith("__init__.py")} | {"__init__.py"}
    assert named | {"plugin/**", "ui/**"} == set(patterns)


BAD = [
    "from typing import TypeAlias",
    "import typing\nx: typing.Any = typing.Self",
    "from datetime import UTC",
    "import itertools\nitertools.pairwise(x)",
    "import tomllib",
    "zip(a, b, strict=True)",
    "@dataclass(frozen=True, slots=True)\nclass A: ...",
    "match x:\n    case 1: ...",
    "Text = str | None",
    "Handlers = dict[str, int] | None",
    "isinstance(x, A | B)",
    "def f(x: int | None): ...",
    "x = (1).bit_count()",
    "raise ExceptionGroup('', [])",
]


@pytest.mark.parametrize("source", BAD)
def test_what_is_too_new_is_found(source: str) -> None:
    assert list(too_new(ast.parse(source)))


GOOD = [
    "from __future__ import annotations\ndef f(x: int | None = None) -> str | None: ...",
    "from __future__ import annotations\nx: dict[str, int] | None = None",
    "Wire = dict[str, object]",
    "zip(a, b)",
    "flags = Qt.ItemFlag.A | Qt.ItemFlag.B",
    "found = {1} | {2}",
    "if (n := f()) > 1: ...",
]


@pytest.mark.parametrize("source", GOOD)
def test_what_python_39_has_is_not(source: str) -> None:
    assert not list(too_new(ast.parse(source)))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the engine's Python has the newer things to compare with")
def test_the_list_names_things_that_exist() -> None:
    """A misspelt name would never be found."""
    import importlib

    later = {"override", "batched", "exception", "sumprod"}  # newer than the engine's Python may be
    for module, names in NEW_NAMES.items():
        loaded = importlib.import_module(module)
        assert all(hasattr(loaded, name) for name in names - later), module
