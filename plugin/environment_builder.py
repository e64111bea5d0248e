"""Making the engine environment: a new folder, filled and tried out, and marked as usable by the last thing written."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ..models.errors import CancelledByUser, EnvironmentMissingError
from .child import run
from .environment import (
    MARKER,
    MINIMUM_PYTHON,
    PREFIX,
    REQUIRED,
    check_interpreter,
    forget_checks,
    python_in,
    ready_environments,
    requirements_hash,
)
from .environment_plan import EnvironmentPlan, TorchBuild

_ABANDONED_SECONDS = 24 * 3600
_TRIAL_TIMEOUT = 300.0
_TAIL = 40
_INDEX = ("--index", "-i", "--default-index", "--no-index", "--extra-index", "--find-links", "-f", "--torch-backend")
_PACKAGE_LINES = ("Collecting ", "Processing ", "Downloading ", " + ")


class EnvironmentBuilder:
    """Makes one environment from a plan."""

    def __init__(
        self, plan: EnvironmentPlan, report: Callable[[float, str], None], is_cancelled: Callable[[], bool]
    ) -> None:
        """Prepare; nothing is done yet.

        Args:
            plan: from :func:`~samtune.plugin.environment_plan.make_plan`.
            report: gets 0 to 1 and a line of output.
            is_cancelled: says whether to stop; asked some ten times a second.
        """
        self._plan = plan
        self._report = report
        self._is_cancelled = is_cancelled
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._fraction = 0.0

    def build(self) -> Path:
        """Make it. Takes minutes; never on the main thread.

        Returns:
            Its interpreter. Older environments of the plugin are gone, as far as they are not in use.

        Raises:
            EnvironmentMissingError: it failed; what was begun is removed, an older environment stays.
            CancelledByUser: likewise.
        """
        folder = self._new_folder()
        try:
            self._fill(folder)
            self._try_out(folder)
            self._mark(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed has no marker, and goes next time
            raise
        forget_checks()
        self._remove_others(folder)
        self._say(1.0, "The engine environment is ready.")
        return python_in(folder)

    def _new_folder(self) -> Path:
        stem = f"{PREFIX}{time.strftime('%Y%m%d-%H%M%S')}"
        names = (f"{stem}-{number:02}" for number in itertools.count())
        try:
            self._plan.folder.mkdir(parents=True, exist_ok=True)
            folder = next(self._plan.folder / name for name in names if not (self._plan.folder / name).exists())
            folder.mkdir()
        except OSError as error:
            text = f"The folder {self._plan.folder} cannot be written ({error}). Check its permissions and try again."
            raise EnvironmentMissingError(text, repr(error)) from error
        return folder

    def _fill(self, folder: Path) -> None:
        self._say(0.0, "Making a Python environment")
        self._command(self._venv(folder), 0.05)
        self._prefer_torch_build(folder)
        self._say(0.2, "Installing packages")
        self._command(self._install(folder, "-r", str(self._plan.requirements)), 0.9)

    def _venv(self, folder: Path) -> list[str]:
        plan = self._plan
        if plan.tool_path is None:
            return [str(plan.base_python), "-I", "-m", "venv", str(folder)]
        wanted = str(plan.base_python) if plan.base_python else f">={MINIMUM_PYTHON[0]}.{MINIMUM_PYTHON[1]},<3.15"
        return [str(plan.tool_path), "venv", "--allow-existing", "--python", wanted, str(folder)]

    def _install(self, folder: Path, *what: str) -> list[str]:
        plan = self._plan
        python = str(python_in(folder))
        if plan.tool_path is not None:
            # The engine runs without writing byte code; uncompiled, torch would take seconds longer at every start.
            command = [str(plan.tool_path), "pip", "install", "--compile-bytecode", "--python", python]
        else:
            command = [python, "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
            command += ["--progress-bar", "off"]
        if plan.options.wheel_folder is not None:
            command += ["--no-index", "--find-links", str(plan.options.wheel_folder)]
        return [*command, *plan.options.extra_options, *what]

    def _index_is_chosen(self) -> bool:
        """Return whether the user decided where packages come from; uv must not go elsewhere for torch then."""
        options = self._plan.options
        return options.wheel_folder is not None or any(option.startswith(_INDEX) for option in options.extra_options)

    def _prefer_torch_build(self, folder: Path) -> None:
        """Install the build of torch that fits this machine, if it is on offer.

        Where it is not, the next step takes the standard build, which works on a processor as well. uv knows where the
        builds are; for pip the one without CUDA carries the local version ``+cpu``.
        """
        plan, pin = self._plan, _torch_pin(self._plan.requirements)
        if not pin or plan.options.wheel_folder is not None:
            return
        if plan.tool_path is not None and not self._index_is_chosen():
            what = ["--torch-backend", "cpu" if plan.torch is TorchBuild.CPU else "auto", pin]
        elif plan.torch is TorchBuild.CPU:
            what = [f"{pin}+cpu"]
        else:
            return
        self._say(0.06, "Looking for the build of PyTorch that fits this machine")
        if self._run(self._install(folder, *what), 0.5) != 0:
            self._say(self._fraction, "It is not on offer: taking the standard build")

    def _command(self, command: list[str], until: float) -> None:
        code = self._run(command, until)
        if code != 0:
            raise EnvironmentMissingError(
                "The engine environment could not be made. Check the internet connection (or the wheel folder), the "
                f"proxy and the extra options, and try again. Last message: {self._last_message()}",
                "\n".join([" ".join(command), *self._tail]),
            )

    def _run(self, command: list[str], until: float) -> int:
        def hear(line: str) -> None:
            self._tail.append(line)
            if line.startswith(_PACKAGE_LINES):
                self._fraction += (until - self._fraction) / 20  # nobody knows how many are to come
            self._say(self._fraction, line)

        try:
            code = run(command, hear, self._is_cancelled)
        except OSError as error:
            raise EnvironmentMissingError(f"{command[0]} cannot be started ({error}).", repr(error)) from error
        if code is None:
            raise CancelledByUser
        return code

    def _try_out(self, folder: Path) -> None:
        """Import everything once: a library that does not load must show now and not at the first click."""
        self._say(0.92, "Trying it out")
        modules = [name for name in REQUIRED if name != "segment_anything"]  # its own __init__ wants torchvision
        lines: list[str] = []
        python = python_in(folder)
        check_interpreter(python, REQUIRED, self._is_cancelled)
        code = "import sys, importlib; [importlib.import_module(n) for n in sys.argv[1:]]"
        command = [str(python), "-I", "-c", code, *modules]
        status = run(command, lines.append, self._is_cancelled, _TRIAL_TIMEOUT)
        if self._is_cancelled():
            raise CancelledByUser
        if status != 0:
            last = lines[-1] if lines else "no answer"
            text = (
                f"The new engine environment does not work on this machine: {last[:200]}. Send this to the developers."
            )
            raise EnvironmentMissingError(text, "\n".join(lines))

    def _mark(self, folder: Path) -> None:
        marker = {
            "requirements": requirements_hash(self._plan.requirements),
            "torch": self._plan.torch.value,
            "made": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        temporary = folder / f"{MARKER}.tmp"
        temporary.write_text(json.dumps(marker), encoding="utf-8")
        temporary.replace(folder / MARKER)

    def _remove_others(self, keep: Path) -> None:
        """Remove older environments, and half-made ones that nobody can be working on any more.

        The one before stays until the next is made: another QGIS's engine may be running from it.
        """
        ready = [folder for folder in ready_environments(self._plan.folder) if folder != keep]
        for folder in self._plan.folder.glob(f"{PREFIX}*"):
            if folder not in (keep, *ready[:1]) and (folder in ready or _is_abandoned(folder)):
                # The marker goes first, so that a folder of which something is in use (Windows) is not taken for whole.
                (folder / MARKER).unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)

    def _say(self, fraction: float, text: str) -> None:
        if self._is_cancelled():
            raise CancelledByUser
        self._fraction = max(self._fraction, fraction)
        self._report(self._fraction, text)

    def _last_message(self) -> str:
        errors = [line for line in self._tail if "error" in line.lower()]
        return (errors or list(self._tail) or ["none"])[-1].strip()[:300]


def _is_abandoned(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS
    except FileNotFoundError:  # another QGIS was faster
        return False


def _torch_pin(requirements: Path) -> str:
    for line in requirements.read_text(encoding="utf-8").splitlines():
        if line.startswith("torch=="):
            return line.split("#")[0].strip()
    return ""
