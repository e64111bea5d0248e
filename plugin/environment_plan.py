"""What making an engine environment would take on this machine, to show to the user before anything is done."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..models.errors import EnvironmentMissingError
from .child import run
from .environment import MINIMUM_PYTHON, EngineLocation, check_interpreter

GIB = 1024**3
_QUERY_TIMEOUT = 20.0


class Tool(Enum):
    """What makes the environment."""

    UV = "uv"
    PIP = "pip"


class TorchBuild(Enum):
    """Which build of PyTorch: CPU is small and works anywhere, GPU brings what an NVIDIA card needs."""

    CPU = "cpu"
    GPU = "gpu"


SPACE: dict[TorchBuild, int] = {TorchBuild.CPU: 4 * GIB, TorchBuild.GPU: 12 * GIB}
"""Disk space to ask for: downloads and what is unpacked, with room to spare. Measured for CPU on Linux: 1.6 GiB."""


@dataclass(frozen=True)
class EnvironmentOptions:
    """What the user may decide.

    Attributes:
        wheel_folder: a folder of wheels for a machine without internet; None to download.
        extra_options: added to the install command: a mirror, a proxy, a certificate.
        torch: the build of PyTorch; None to choose by whether there is a GPU.
    """

    wheel_folder: Path | None = None
    extra_options: tuple[str, ...] = ()
    torch: TorchBuild | None = None


@dataclass(frozen=True)
class EnvironmentPlan:
    """What would be done.

    Attributes:
        tool_path: of uv; None for pip.
        base_python: interpreter to make the environment from; None where uv is to find or fetch one.
        gpu: name and memory of the NVIDIA card; empty without one.
        folder: where the environment goes; a new folder in there.
        free_bytes: on that disk.
        notes: sentences for the user.
    """

    tool: Tool
    tool_path: Path | None
    base_python: Path | None
    gpu: str
    torch: TorchBuild
    folder: Path
    requirements: Path
    free_bytes: int
    options: EnvironmentOptions
    notes: tuple[str, ...]


def make_plan(
    where: EngineLocation, options: EnvironmentOptions | None = None, should_stop: Callable[[], bool] = lambda: False
) -> EnvironmentPlan:
    """Look at this machine. Runs a few programs: blocks for up to some seconds, never on the main thread.

    Args:
        where: gives the folder and the requirements.
        options: what the user has decided; None for nothing.
        should_stop: asked while programs run.

    Raises:
        EnvironmentMissingError: it is not possible here; the text says what is lacking.
    """
    chosen = options or EnvironmentOptions()
    if not where.requirements.is_file():
        raise EnvironmentMissingError("The plugin is incomplete: install it again.", f"{where.requirements} is missing")
    if chosen.wheel_folder is not None and not any(chosen.wheel_folder.glob("*.whl")):
        raise EnvironmentMissingError(
            f"There are no wheels (*.whl) in {chosen.wheel_folder}. Choose the folder that has them."
        )
    gpu = find_gpu(should_stop)
    build = chosen.torch or (TorchBuild.GPU if gpu else TorchBuild.CPU)
    uv = find_uv()
    base = next(base_pythons(should_stop), None)
    if base is None and (uv is None or chosen.wheel_folder is not None):
        raise EnvironmentMissingError(
            f"No Python {MINIMUM_PYTHON[0]}.{MINIMUM_PYTHON[1]} or newer with the modules venv and ensurepip was "
            "found. Install uv, or Python (on Debian and Ubuntu: the package python3-venv), and try again."
        )
    free = free_bytes(where.managed_folder)
    if free < SPACE[build]:
        raise EnvironmentMissingError(
            f"The engine environment needs {SPACE[build] / GIB:.0f} GB of free disk space in {where.managed_folder}; "
            f"there are {free / GIB:.1f} GB. Free some, or choose the CPU build if you chose the GPU one."
        )
    return EnvironmentPlan(
        tool=Tool.PIP if uv is None else Tool.UV,
        tool_path=uv,
        base_python=base,
        gpu=gpu,
        torch=build,
        folder=where.managed_folder,
        requirements=where.requirements,
        free_bytes=free,
        options=chosen,
        notes=_notes(gpu, build, uv, chosen),
    )


def find_uv() -> Path | None:
    """Return the program uv if it is on the path or where its installer puts it."""
    found = shutil.which("uv")
    places = [Path(found)] if found else []
    name = "uv.exe" if sys.platform == "win32" else "uv"
    places += [Path.home() / ".local" / "bin" / name, Path.home() / ".cargo" / "bin" / name]
    return next((place for place in places if place.is_file()), None)


def base_pythons(should_stop: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """Yield interpreters that can make an environment with pip: QGIS's own first, then those on the path.

    Args:
        should_stop: asked while they are tried.
    """
    seen: set[Path] = set()
    for candidate in _candidates():
        if candidate in seen or not candidate.is_file():
            continue
        seen.add(candidate)
        try:
            check_interpreter(candidate, ("venv", "ensurepip"), should_stop)
        except EnvironmentMissingError:
            continue
        yield candidate


def _candidates() -> Iterator[Path]:
    """Yield places of interpreters. ``sys.executable`` is none of them: inside QGIS it may be QGIS."""
    prefix = Path(sys.base_prefix)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if sys.platform == "win32":
        yield prefix / "python.exe"
    else:
        yield prefix / "bin" / f"python{version}"
        yield prefix / "bin" / "python3"
    for name in ("python3.13", "python3.12", "python3.11", "python3", "python"):
        found = shutil.which(name)
        if found and "WindowsApps" not in found:  # those are links to a shop
            yield Path(found)


def find_gpu(should_stop: Callable[[], bool] = lambda: False) -> str:
    """Return name and memory of the first NVIDIA card that its driver knows; empty if there is none.

    Args:
        should_stop: asked while the driver's tool runs.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    lines: list[str] = []
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        code = run(query, lines.append, should_stop, _QUERY_TIMEOUT)
    except OSError:
        return ""
    return lines[0] if code == 0 and lines else ""


def free_bytes(folder: Path) -> int:
    """Return the free space on the disk that a folder, which need not exist yet, would be on.

    Args:
        folder: absolute.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(existing).free


def _notes(gpu: str, build: TorchBuild, uv: Path | None, options: EnvironmentOptions) -> tuple[str, ...]:
    notes = [f"NVIDIA GPU found: {gpu}." if gpu else "No NVIDIA GPU was found: models will run on the processor."]
    if options.wheel_folder is not None:
        notes.append(f"Nothing is downloaded: packages come from {options.wheel_folder}.")
    elif build is TorchBuild.GPU and uv is None and sys.platform == "win32":
        notes.append(
            "With pip the GPU build of PyTorch needs an index of such builds among the extra options; without one, "
            "models will run on the processor. With the tool uv installed, nothing more is needed."
        )
    elif build is TorchBuild.CPU and uv is None and sys.platform.startswith("linux"):
        notes.append(
            "With pip the CPU build of PyTorch may not be on offer; then the standard build is taken, a download of "
            "about 3 GB. With the tool uv installed, or an index of CPU builds among the extra options, it is smaller."
        )
    else:
        notes.append(f"The download is about {'3 GB' if build is TorchBuild.GPU else '300 MB'}.")
    return tuple(notes)
