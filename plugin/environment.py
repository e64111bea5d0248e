"""Which Python runs the engine. No Qt.

In this order: the interpreter named in the settings, the one in the variable ``SAMTUNE_ENGINE_PYTHON`` (for
administrators and tests), the environment that the plugin manages in the user's data folder, ``.venv`` in the plugin
folder (a developer's checkout). The first that is named is taken; if it is of no use, that is an error and not a reason
to take another.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..models.errors import CancelledByUser, EnvironmentMissingError
from .child import run

PYTHON_VARIABLE = "SAMTUNE_ENGINE_PYTHON"
MARKER = "samtune-environment.json"
"""Written last into an environment that the plugin makes. A folder without it is half-made and never used."""

PREFIX = "env-"
MINIMUM_PYTHON = (3, 11)
REQUIRED = (
    *("torch", "segment_anything", "numpy", "rasterio", "shapely"),
    *("contourpy", "safetensors", "pyproj", "pyogrio", "urllib3", "certifi"),
)
"""Modules that the engine cannot do without."""

_CHECK_TIMEOUT = 60.0
_CHECK = (
    "import sys, json, importlib.util as u; "
    "print(json.dumps({'version': list(sys.version_info[:3]), "
    "'missing': [n for n in sys.argv[1:] if u.find_spec(n) is None]}))"
)
_MAKE_ONE = "Let SamTune make one (settings, engine environment), or name a Python that has what is needed there."


class Origin(Enum):
    """Who decided for an interpreter."""

    SETTING = "setting"
    VARIABLE = "variable"
    MANAGED = "managed"
    CHECKOUT = "checkout"


@dataclass(frozen=True)
class EngineLocation:
    """Where to look for an interpreter.

    Attributes:
        setting: the one the user named; empty for none.
        data_folder: the plugin's folder in the user's data, outside the plugin's own folder.
        plugin_folder: the folder that holds ``metadata.txt``.
    """

    setting: str
    data_folder: Path
    plugin_folder: Path

    @property
    def managed_folder(self) -> Path:
        """Return the folder of the environments that the plugin makes."""
        return self.data_folder / "engine"

    @property
    def requirements(self) -> Path:
        """Return the pinned requirements of the engine."""
        return self.plugin_folder / "engine" / "requirements.txt"


@dataclass(frozen=True)
class Interpreter:
    """An interpreter that exists; whether it serves is for :func:`check_interpreter` to say.

    Attributes:
        outdated: the plugin made it for other requirements than those of today.
    """

    python: Path
    origin: Origin
    outdated: bool = False


def find_interpreter(where: EngineLocation) -> Interpreter:
    """Find the interpreter. Reads a few folders; quick enough for any thread.

    Args:
        where: to look.

    Raises:
        EnvironmentMissingError: there is none, or the one that is named is no file.
    """
    for origin, named in ((Origin.SETTING, where.setting), (Origin.VARIABLE, os.environ.get(PYTHON_VARIABLE, ""))):
        if named:
            return Interpreter(_existing(named, origin), origin)
    for folder in ready_environments(where.managed_folder):
        outdated = _marked_requirements(folder) != requirements_hash(where.requirements)
        return Interpreter(python_in(folder), Origin.MANAGED, outdated)
    checkout = python_in(where.plugin_folder / ".venv")
    if checkout.is_file():
        return Interpreter(checkout, Origin.CHECKOUT)
    raise EnvironmentMissingError(
        f"SamTune needs a Python environment of its own for its models, and there is none yet. {_MAKE_ONE}",
        f"looked in {where.managed_folder} and {checkout}",
    )


def _existing(named: str, origin: Origin) -> Path:
    path = Path(named).expanduser()
    if path.is_dir():  # somebody named the environment rather than its interpreter
        path = python_in(path)
    if not path.is_file():
        place = "the settings" if origin is Origin.SETTING else f"the variable {PYTHON_VARIABLE}"
        raise EnvironmentMissingError(
            f"The Python for the engine that {place} name, {path}, does not exist. Correct or clear it; "
            "with none named, SamTune uses the environment it makes itself."
        )
    return path


def python_in(environment: Path) -> Path:
    """Return where the interpreter of an environment lies.

    Args:
        environment: its folder.
    """
    return environment / "Scripts" / "python.exe" if sys.platform == "win32" else environment / "bin" / "python"


def ready_environments(managed_folder: Path) -> Iterator[Path]:
    """Yield the finished environments that the plugin has made, the newest first.

    Args:
        managed_folder: of :class:`EngineLocation`.
    """
    if not managed_folder.is_dir():
        return
    for folder in sorted(managed_folder.glob(f"{PREFIX}*"), reverse=True):
        if (folder / MARKER).is_file() and python_in(folder).is_file():
            yield folder


def requirements_hash(requirements: Path) -> str:
    """Return what tells one set of pinned requirements from another; empty if the file cannot be read.

    Args:
        requirements: a pip requirements file.
    """
    try:
        return hashlib.sha256(requirements.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    except OSError:
        return ""


def _marked_requirements(folder: Path) -> str:
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(marker.get("requirements", "")) if isinstance(marker, dict) else ""


_checked: dict[tuple[Path, int], tuple[int, ...]] = {}
_checked_lock = threading.Lock()


def check_interpreter(
    python: Path, required: tuple[str, ...] = REQUIRED, should_stop: Callable[[], bool] = lambda: False
) -> tuple[int, ...]:
    """Run an interpreter to see whether it serves. Blocks the first time, then remembers; never on the main thread.

    Args:
        python: the interpreter.
        required: modules that must be there. They are looked for, not imported.
        should_stop: asked while it runs.

    Returns:
        Its version.

    Raises:
        EnvironmentMissingError: it does not run, is too old or lacks modules.
        CancelledByUser: ``should_stop`` said so.
    """
    try:
        key = (python, python.stat().st_mtime_ns)
    except OSError as error:
        raise EnvironmentMissingError(f"{python} is not there any more. {_MAKE_ONE}", str(error)) from error
    with _checked_lock:
        if key in _checked:
            return _checked[key]
    version = _probe(python, required, should_stop)
    if required == REQUIRED:
        with _checked_lock:
            _checked[key] = version
    return version


def forget_checks() -> None:
    """Forget what was remembered, after something was installed."""
    with _checked_lock:
        _checked.clear()


def _probe(python: Path, required: tuple[str, ...], should_stop: Callable[[], bool]) -> tuple[int, ...]:
    lines: list[str] = []
    try:
        code = run([str(python), "-I", "-B", "-c", _CHECK, *required], lines.append, should_stop, _CHECK_TIMEOUT)
        found = json.loads(lines[-1]) if code == 0 and lines else None
    except OSError as error:
        raise EnvironmentMissingError(f"{python} cannot be started ({error}). {_MAKE_ONE}", str(error)) from error
    except ValueError:
        found = None
    if code is None and should_stop():
        raise CancelledByUser
    if not isinstance(found, dict):
        raise EnvironmentMissingError(f"{python} does not work as a Python. {_MAKE_ONE}", "\n".join(lines[-20:]))
    version = tuple(int(part) for part in found["version"])
    if version < MINIMUM_PYTHON:
        have, need = (".".join(map(str, numbers)) for numbers in (version, MINIMUM_PYTHON))
        raise EnvironmentMissingError(f"{python} is Python {have}; the engine needs {need} or newer. {_MAKE_ONE}")
    if found["missing"]:
        raise EnvironmentMissingError(f"{python} lacks {', '.join(found['missing'])}. {_MAKE_ONE}")
    return version


def engine_command(where: EngineLocation) -> Callable[[], list[str]]:
    """Return what finds and checks the interpreter, and gives the command that starts the engine with it.

    Args:
        where: to look for the interpreter.

    Returns:
        A function for a thread other than the main one; it raises EnvironmentMissingError.
    """

    def command() -> list[str]:
        python = find_interpreter(where).python
        check_interpreter(python)
        bootstrap = where.plugin_folder / "engine" / "bootstrap.py"
        return [str(python), "-I", "-B", "-X", "utf8", str(bootstrap), "serve"]

    return command
