"""Finding, checking and making engine environments, with a make-believe uv and the real pip on wheels made here."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from samtune.models.errors import CancelledByUser, EnvironmentMissingError
from samtune.plugin import environment, environment_plan
from samtune.plugin.environment import (
    MARKER,
    PYTHON_VARIABLE,
    REQUIRED,
    EngineLocation,
    Origin,
    check_interpreter,
    engine_command,
    find_interpreter,
    python_in,
)
from samtune.plugin.environment_builder import EnvironmentBuilder
from samtune.plugin.environment_plan import (
    SPACE,
    EnvironmentOptions,
    EnvironmentPlan,
    Tool,
    TorchBuild,
    base_pythons,
    make_plan,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the make-believe programs are scripts of POSIX")

FAKE_UV = """\
#!{python}
import os, pathlib, sys, time
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(" ".join(arguments) + "\\n")
if arguments[0] == "venv":
    folder = pathlib.Path(arguments[-1])
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to({interpreter!r})
    sys.exit(0)
behave = {behave!r}
print("Resolved 3 packages", flush=True)
if behave == "no-cpu-build" and "--torch-backend" in arguments:
    print("error: torch is not on offer there", flush=True)
    sys.exit(1)
if behave == "fail":
    print("error: no such host: files.example", flush=True)
    sys.exit(2)
if behave == "hang":
    time.sleep(60)
print(" + torch==2.0", flush=True)
"""

FAKE_PYTHON = """\
#!/bin/sh
# An interpreter that has every module, or says what it lacks.
case "$*" in
  *find_spec*) echo '{answer}';;
  *import_module*) {trial};;
esac
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def fake_python(path: Path, missing: tuple[str, ...] = (), version: str = "[3, 12, 1]", trial: str = "exit 0") -> Path:
    answer = f'{{"version": {version}, "missing": {json.dumps(missing)}}}'
    return script(path, FAKE_PYTHON.format(answer=answer, trial=trial))


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    environment.forget_checks()


@pytest.fixture
def where(tmp_path: Path) -> EngineLocation:
    location = EngineLocation("", tmp_path / "data", tmp_path / "plugin")
    location.requirements.parent.mkdir(parents=True)
    location.requirements.write_text("# pinned\ntorch==2.0\nnumpy==2.0\n", encoding="utf-8")
    return location


def make_environment(where: EngineLocation, name: str, marker: str | None = "") -> Path:
    folder = where.managed_folder / f"env-{name}"
    fake_python(python_in(folder))
    if marker is not None:
        text = json.dumps({"requirements": marker or environment.requirements_hash(where.requirements)})
        (folder / MARKER).write_text(text, encoding="utf-8")
    return folder


# ---- which one


def test_with_nothing_there_the_error_says_what_to_do(where: EngineLocation) -> None:
    with pytest.raises(EnvironmentMissingError, match="Let SamTune make one"):
        find_interpreter(where)


def test_the_order_is_setting_variable_managed_checkout(
    where: EngineLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = fake_python(python_in(where.plugin_folder / ".venv"))
    assert find_interpreter(where).python == checkout
    assert find_interpreter(where).origin is Origin.CHECKOUT
    managed = make_environment(where, "1")
    assert find_interpreter(where).python == python_in(managed)
    assert find_interpreter(where).origin is Origin.MANAGED
    variable = fake_python(tmp_path / "variable" / "python")
    monkeypatch.setenv(PYTHON_VARIABLE, str(variable))
    assert find_interpreter(where).python == variable
    setting = fake_python(tmp_path / "setting" / "python")
    found = find_interpreter(replace(where, setting=str(setting)))
    assert (found.python, found.origin) == (setting, Origin.SETTING)


def test_a_setting_that_names_nothing_is_an_error_and_not_skipped(where: EngineLocation) -> None:
    make_environment(where, "1")
    with pytest.raises(EnvironmentMissingError, match="Correct or clear it"):
        find_interpreter(replace(where, setting="/nowhere/python"))


def test_a_setting_may_name_the_environment(where: EngineLocation, tmp_path: Path) -> None:
    python = fake_python(python_in(tmp_path / "mine"))
    assert find_interpreter(replace(where, setting=str(tmp_path / "mine"))).python == python


def test_the_newest_finished_environment_is_taken(where: EngineLocation) -> None:
    make_environment(where, "20260101-000000-00")
    newer = make_environment(where, "20260301-000000-00")
    make_environment(where, "20260401-000000-00", marker=None)  # half-made
    gone = make_environment(where, "20260501-000000-00")
    python_in(gone).unlink()
    assert find_interpreter(where).python == python_in(newer)


def test_an_environment_made_for_other_requirements_is_known_as_outdated(where: EngineLocation) -> None:
    folder = make_environment(where, "1")
    assert not find_interpreter(where).outdated
    where.requirements.write_bytes(where.requirements.read_bytes().replace(b"\n", b"\r\n"))
    assert not find_interpreter(where).outdated
    where.requirements.write_text("torch==3.0\n", encoding="utf-8")
    assert find_interpreter(where).outdated
    (folder / MARKER).write_text("not json", encoding="utf-8")
    assert find_interpreter(where).outdated


# ---- does it serve


def test_a_good_interpreter_is_asked_once(tmp_path: Path) -> None:
    python = fake_python(tmp_path / "python")
    assert check_interpreter(python) == (3, 12, 1)
    kept = python.stat()
    fake_python(python, missing=("torch",))
    os.utime(python, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert check_interpreter(python) == (3, 12, 1)
    os.utime(python, ns=(kept.st_atime_ns, kept.st_mtime_ns + 1))
    with pytest.raises(EnvironmentMissingError, match="lacks torch"):
        check_interpreter(python)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: fake_python(path, missing=("rasterio", "shapely")), "lacks rasterio, shapely"),
        (lambda path: fake_python(path, version="[3, 9, 5]"), r"is Python 3\.9\.5; the engine needs 3\.11"),
        (lambda path: script(path, "#!/bin/sh\necho hello\n"), "does not work as a Python"),
        (lambda path: script(path, "#!/bin/sh\nexit 1\n"), "does not work as a Python"),
        (lambda path: script(path, "#!/nowhere/shell\n"), "cannot be started"),
        (lambda path: path, "is not there any more"),
    ],
)
def test_one_that_does_not_serve_says_why(tmp_path: Path, make: Callable[[Path], Path], text: str) -> None:
    with pytest.raises(EnvironmentMissingError, match=text):
        check_interpreter(make(tmp_path / "python"))


def test_a_real_python_is_found_out() -> None:
    assert check_interpreter(Path(sys.executable), ("json", "venv")) == tuple(sys.version_info[:3])
    with pytest.raises(EnvironmentMissingError, match="lacks no_such_module"):
        check_interpreter(Path(sys.executable), ("json", "no_such_module"))


def test_the_command_is_isolated_and_starts_the_bootstrap(where: EngineLocation) -> None:
    folder = make_environment(where, "1")
    command = engine_command(where)()
    assert command[0] == str(python_in(folder))
    assert "-I" in command
    assert command[-2:] == [str(where.plugin_folder / "engine" / "bootstrap.py"), "serve"]


def test_the_command_of_an_unusable_environment_is_an_error(where: EngineLocation) -> None:
    fake_python(python_in(make_environment(where, "1")), missing=("torch",))
    with pytest.raises(EnvironmentMissingError, match="lacks torch"):
        engine_command(where)()


# ---- the plan


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with nothing on its path, lots of disk, and this Python as its only one."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(environment_plan, "free_bytes", lambda _folder: 100 * 1024**3)
    monkeypatch.setattr(environment_plan, "_candidates", lambda: iter([Path(sys.executable)]))
    return programs


def test_without_uv_and_gpu_the_plan_is_pip_and_cpu(where: EngineLocation, bare: Path) -> None:
    plan = make_plan(where)
    assert (plan.tool, plan.torch, plan.gpu) == (Tool.PIP, TorchBuild.CPU, "")
    assert plan.base_python == Path(sys.executable)
    assert any("No NVIDIA GPU" in note for note in plan.notes)


def test_with_uv_and_gpu_the_plan_is_both(where: EngineLocation, bare: Path) -> None:
    script(bare / "uv", "#!/bin/sh\n")
    script(bare / "nvidia-smi", "#!/bin/sh\necho 'Some Card, 8192 MiB'\n")
    plan = make_plan(where)
    assert (plan.tool, plan.torch, plan.gpu) == (Tool.UV, TorchBuild.GPU, "Some Card, 8192 MiB")
    assert make_plan(where, EnvironmentOptions(torch=TorchBuild.CPU)).torch is TorchBuild.CPU


def test_a_driver_tool_that_fails_is_no_gpu(where: EngineLocation, bare: Path) -> None:
    script(bare / "nvidia-smi", "#!/bin/sh\necho 'no devices were found'\nexit 6\n")
    assert make_plan(where).gpu == ""


def test_too_little_disk_is_told_before_anything_is_done(
    where: EngineLocation, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment_plan, "free_bytes", lambda _folder: SPACE[TorchBuild.CPU] - 1)
    with pytest.raises(EnvironmentMissingError, match="Free some"):
        make_plan(where)
    assert not where.managed_folder.exists()


def test_no_python_and_no_uv_says_what_to_install(
    where: EngineLocation, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment_plan, "_candidates", lambda: iter([Path("/nowhere")]))
    with pytest.raises(EnvironmentMissingError, match="python3-venv"):
        make_plan(where)
    script(bare / "uv", "#!/bin/sh\n")
    assert make_plan(where).base_python is None


def test_an_empty_wheel_folder_is_no_wheel_folder(where: EngineLocation, bare: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissingError, match=r"no wheels"):
        make_plan(where, EnvironmentOptions(wheel_folder=tmp_path))


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert environment_plan.free_bytes(tmp_path / "a" / "b") > 0


def test_unusable_pythons_are_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = fake_python(tmp_path / "old", version="[3, 8, 0]")
    bare_debian = fake_python(tmp_path / "bare", missing=("ensurepip",))
    good = fake_python(tmp_path / "good")
    monkeypatch.setattr(
        environment_plan, "_candidates", lambda: iter([tmp_path / "none", old, bare_debian, good, good])
    )
    assert list(base_pythons()) == [good]


# ---- the making


class Ear:
    """Hears progress; cancels when told to."""

    def __init__(self, cancel_at: str = "") -> None:
        self.heard: list[tuple[float, str]] = []
        self._cancel_at = cancel_at

    def report(self, fraction: float, text: str) -> None:
        self.heard.append((fraction, text))

    def is_cancelled(self) -> bool:
        return bool(self._cancel_at) and any(self._cancel_at in text for _, text in self.heard)


@pytest.fixture
def uv_plan(where: EngineLocation, tmp_path: Path) -> Callable[..., EnvironmentPlan]:
    """Return a function that makes a plan with a make-believe uv that behaves as told."""

    def _plan(behave: str = "", options: EnvironmentOptions | None = None, trial: str = "exit 0") -> EnvironmentPlan:
        interpreter = fake_python(tmp_path / "base" / "python", trial=trial)
        text = FAKE_UV.format(
            python=sys.executable, log=str(tmp_path / "uv.log"), interpreter=str(interpreter), behave=behave
        )
        uv = script(tmp_path / "uv", text)
        chosen = options or EnvironmentOptions()
        return EnvironmentPlan(
            Tool.UV, uv, None, "", TorchBuild.CPU, where.managed_folder, where.requirements, 0, chosen, ()
        )

    return _plan


def test_an_environment_is_made_marked_and_found(
    where: EngineLocation, uv_plan: Callable[..., EnvironmentPlan], tmp_path: Path
) -> None:
    ear = Ear()
    python = EnvironmentBuilder(uv_plan(), ear.report, ear.is_cancelled).build()
    found = find_interpreter(where)
    assert (found.python, found.origin, found.outdated) == (python, Origin.MANAGED, False)
    fractions = [fraction for fraction, _ in ear.heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any("torch==2.0" in text for _, text in ear.heard)
    calls = (tmp_path / "uv.log").read_text(encoding="utf-8").splitlines()
    assert calls[0].startswith("venv ")
    assert calls[1].endswith("--torch-backend cpu torch==2.0")
    assert calls[2].endswith(f"-r {where.requirements}")
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("options", "torch", "expected"),
    [
        (EnvironmentOptions(wheel_folder=Path("/wheels")), TorchBuild.CPU, ["--no-index --find-links /wheels -r R"]),
        (EnvironmentOptions(extra_options=("-i", "x")), TorchBuild.CPU, ["-i x torch==2.0+cpu", "-i x -r R"]),
        (EnvironmentOptions(extra_options=("-i", "x")), TorchBuild.GPU, ["-i x -r R"]),
        (
            EnvironmentOptions(extra_options=("--native-tls",)),
            TorchBuild.GPU,
            ["--native-tls --torch-backend auto torch==2.0", "--native-tls -r R"],
        ),
    ],
)
def test_options_and_the_build_of_torch_reach_the_installer(
    where: EngineLocation,
    uv_plan: Callable[..., EnvironmentPlan],
    tmp_path: Path,
    options: EnvironmentOptions,
    torch: TorchBuild,
    expected: list[str],
) -> None:
    ear = Ear()
    EnvironmentBuilder(replace(uv_plan(options=options), torch=torch), ear.report, ear.is_cancelled).build()
    calls = (tmp_path / "uv.log").read_text(encoding="utf-8").replace(str(where.requirements), "R").splitlines()[1:]
    assert [call.partition("bin/python ")[2] for call in calls] == expected


def test_the_standard_build_of_torch_is_taken_where_the_small_one_is_not_on_offer(
    where: EngineLocation, uv_plan: Callable[..., EnvironmentPlan], tmp_path: Path
) -> None:
    ear = Ear()
    EnvironmentBuilder(uv_plan("no-cpu-build"), ear.report, ear.is_cancelled).build()
    assert any("standard build" in text for _, text in ear.heard)
    assert find_interpreter(where).origin is Origin.MANAGED


def test_a_failed_installation_says_why_and_leaves_nothing(
    where: EngineLocation, uv_plan: Callable[..., EnvironmentPlan]
) -> None:
    older = make_environment(where, "20200101-000000-00")
    ear = Ear()
    with pytest.raises(EnvironmentMissingError, match="no such host") as caught:
        EnvironmentBuilder(uv_plan("fail"), ear.report, ear.is_cancelled).build()
    assert "Resolved 3 packages" in caught.value.details
    assert list(where.managed_folder.iterdir()) == [older]
    assert find_interpreter(where).python == python_in(older)


def test_a_library_that_does_not_load_is_found_out_before_the_environment_is_used(
    where: EngineLocation, uv_plan: Callable[..., EnvironmentPlan]
) -> None:
    ear = Ear()
    plan = uv_plan(trial="echo 'DLL load failed'; exit 1")
    with pytest.raises(EnvironmentMissingError, match="DLL load failed"):
        EnvironmentBuilder(plan, ear.report, ear.is_cancelled).build()
    assert list(where.managed_folder.iterdir()) == []


@pytest.mark.parametrize("moment", ["Making a Python", "Resolved", "Trying it out"])
def test_cancelling_at_any_moment_leaves_nothing(
    where: EngineLocation, uv_plan: Callable[..., EnvironmentPlan], moment: str
) -> None:
    ear = Ear(cancel_at=moment)
    plan = uv_plan("hang" if moment == "Resolved" else "")
    began = time.monotonic()
    with pytest.raises(CancelledByUser):
        EnvironmentBuilder(plan, ear.report, ear.is_cancelled).build()
    assert time.monotonic() - began < 10
    assert list(where.managed_folder.iterdir()) == []
    with pytest.raises(EnvironmentMissingError):
        find_interpreter(where)


def test_older_and_abandoned_environments_go_and_the_one_before_and_one_just_being_made_stay(
    where: EngineLocation, uv_plan: Callable[..., EnvironmentPlan]
) -> None:
    older = make_environment(where, "20191231-000000-00")
    before = make_environment(where, "20200101-000000-00")
    abandoned = make_environment(where, "20200102-000000-00", marker=None)
    os.utime(abandoned, (0, 0))
    being_made = make_environment(where, "20200103-000000-00", marker=None)
    ear = Ear()
    python = EnvironmentBuilder(uv_plan(), ear.report, ear.is_cancelled).build()
    assert not older.exists()
    assert find_interpreter(where).python == python
    assert before.exists(), "another QGIS's engine may be running from it"
    assert not abandoned.exists()
    assert being_made.exists()
    assert python.exists()


def test_a_folder_that_cannot_be_written_is_told(uv_plan: Callable[..., EnvironmentPlan], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    ear = Ear()
    plan = replace(uv_plan(), folder=tmp_path / "file" / "engine")
    with pytest.raises(EnvironmentMissingError, match="cannot be written"):
        EnvironmentBuilder(plan, ear.report, ear.is_cancelled).build()


def test_pip_makes_one_from_wheels_without_any_network(where: EngineLocation, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    info = "everything-1.0.dist-info"
    with zipfile.ZipFile(wheels / "everything-1.0-py3-none-any.whl", "w") as wheel:
        for name in REQUIRED:
            wheel.writestr(f"{name}/__init__.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: everything\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    where.requirements.write_text("everything==1.0\n", encoding="utf-8")
    try:
        check_interpreter(Path(sys.executable), ("venv", "ensurepip"))
    except EnvironmentMissingError as error:
        pytest.skip(f"this Python cannot make environments: {error}")
    options = EnvironmentOptions(wheel_folder=wheels)
    plan = EnvironmentPlan(
        Tool.PIP,
        None,
        Path(sys.executable),
        "",
        TorchBuild.CPU,
        where.managed_folder,
        where.requirements,
        0,
        options,
        (),
    )
    ear = Ear()
    python = EnvironmentBuilder(plan, ear.report, ear.is_cancelled).build()
    assert check_interpreter(python) >= (3, 11)
    assert find_interpreter(where).python == python
    assert engine_command(where)()[0] == str(python)
