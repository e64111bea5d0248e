"""The engine's distribution: a wheel built from a folder of any name holds the package ``samtune`` and runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds an unpacked wheel, built from a copy of the checkout with an awkward name."""
    place = tmp_path_factory.mktemp("wheel")
    copy = place / "sam-tune 2"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if name.startswith(("tests/", "docs/")) or not (ROOT / name).is_file():
            continue
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-qq",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        str(place),
        str(copy),
    ]
    subprocess.run(command, check=True, timeout=100)
    (wheel,) = place.glob("samtune-*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(place / "site")
    return place / "site"


def run(installed: Path, code: str) -> str:
    """Run Python that sees the wheel's content first, and not the checkout."""
    lines = f"import sys; sys.path.insert(0, {str(installed)!r})\n{code}"
    done = subprocess.run([sys.executable, "-I", "-c", lines], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_is_the_wheels(installed: Path) -> None:
    assert run(installed, "import samtune; print(samtune.__path__[0])").strip() == str(installed / "samtune")


def test_it_brings_its_data(installed: Path) -> None:
    for name in ("metadata.txt", "LICENSE", "engine/requirements.txt", "models/cards/vit_b.json"):
        assert (installed / "samtune" / name).is_file(), name
    listed = subprocess.run(["git", "ls-files", "models"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    data = {name for name in listed.splitlines() if not name.endswith(".py")}
    assert data
    assert {name for name in data if not (installed / "samtune" / name).is_file()} == set()


def test_it_leaves_the_qgis_side_and_the_tests_out(installed: Path) -> None:
    assert not (installed / "samtune" / "ui").exists()
    assert not (installed / "samtune" / "tests").exists()


def test_the_command_is_there_and_runs(installed: Path) -> None:
    (entry_points,) = installed.glob("samtune-*.dist-info/entry_points.txt")
    assert "samtune = samtune.engine.cli:main" in entry_points.read_text()
    code = (
        "import contextlib\nfrom samtune.engine.cli import main\nwith contextlib.suppress(SystemExit): main(['--help'])"
    )
    assert "segment" in run(installed, code)
