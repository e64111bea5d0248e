"""The zip of ``make package`` is what the plugin site takes: its form, metadata and security scan; and it imports."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LARGEST = 25 * 1024**2
REQUIRED = [
    "name",
    "description",
    "version",
    "qgisMinimumVersion",
    "author",
    "email",
    "about",
    "tracker",
    "repository",
    "homepage",
]
BINARIES = {".so", ".dll", ".dylib", ".exe", ".pyd", ".sh", ".bat", ".pyc", ".pt", ".pth", ".whl", ".zip"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package") / "samtune.zip"
    subprocess.run(["bash", str(ROOT / ".ci" / "package"), str(out)], check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def names(archive: Path) -> list[PurePosixPath]:
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        return [PurePosixPath(info.filename) for info in opened.infolist() if not info.is_dir()]


@pytest.fixture(scope="module")
def folder(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(place)
    return place / "samtune"


@pytest.fixture(scope="module")
def metadata(folder: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(folder / "metadata.txt", encoding="utf-8")
    return dict(parser["general"])


def test_size(archive: Path) -> None:
    assert archive.stat().st_size < LARGEST


def test_one_top_folder_with_what_the_site_wants(names: list[PurePosixPath]) -> None:
    assert {name.parts[0] for name in names} == {"samtune"}
    assert {"__init__.py", "metadata.txt", "LICENSE", "icon.png"} <= {
        name.name for name in names if len(name.parts) == 2
    }


def test_no_stray_names(names: list[PurePosixPath]) -> None:
    for name in names:
        assert "\\" not in str(name)
        assert not {"..", "__pycache__", ".git", "__MACOSX", ".ci", "tests", "benchmarks"} & set(name.parts), name
        assert not name.name.startswith(".") or name.name in {".bandit", ".secrets.baseline"}, name


def test_no_binaries_but_the_weights(names: list[PurePosixPath]) -> None:
    assert not [name for name in names if name.suffix in BINARIES]
    weights = [name for name in names if name.suffix == ".safetensors"]
    assert all(name.parts[1:3] == ("models", "weights") for name in weights)


def test_what_a_user_needs_is_there(names: list[PurePosixPath]) -> None:
    present = {"/".join(name.parts[1:]) for name in names}
    assert {"engine/requirements.txt", "engine/bootstrap.py", "README.md", "CHANGELOG.md"} <= present
    assert {"docs/sample/sample.qgs", "docs/sample/README.md", "docs/sample/neon_osbs.tif"} <= present


def test_metadata_fields(metadata: dict[str, str]) -> None:
    missing = [key for key in REQUIRED if not metadata.get(key, "").strip()]
    assert not missing
    assert re.fullmatch(r"\d+\.\d+\.\d+", metadata["version"])
    assert metadata["qgisMinimumVersion"] == "3.40"
    assert metadata["qgisMaximumVersion"] == "4.99"
    assert metadata["category"] in {"Raster", "Vector", "Database", "Mesh", "Web"}
    for key in ("description", "about", "changelog"):
        assert not re.search(r"<[a-zA-Z/]", metadata[key]), f"HTML in {key}"
    for key in ("homepage", "tracker", "repository"):
        assert re.match(r"https://\S+$", metadata[key])
    assert "plugin" not in metadata["name"].lower()


def test_about_names_every_external_package(metadata: dict[str, str]) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.S | re.M).group(1)
    packages = re.findall(r'"([\w-]+)', listed)
    assert packages
    about = metadata["about"].lower()
    assert not [name for name in packages if name not in about]


def test_icon_is_a_picture(folder: Path, metadata: dict[str, str]) -> None:
    assert (folder / metadata["icon"]).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_version_is_the_head_of_the_changelog(folder: Path, metadata: dict[str, str]) -> None:
    head = re.search(r"^## \[([\d.]+)\]", (folder / "CHANGELOG.md").read_text(), re.M).group(1)
    assert head == metadata["version"]
    assert metadata["changelog"].startswith(head)


def test_licence_is_the_whole_gpl(folder: Path) -> None:
    text = (folder / "LICENSE").read_text()
    assert "GNU GENERAL PUBLIC LICENSE" in text
    assert "Version 2, June 1991" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_bandit_finds_nothing(folder: Path) -> None:
    """Every rule of bandit, which is more than the site's list; what is excused says so in its line."""
    done = subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-r", str(folder), "-f", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert not report["errors"]
    assert [f"{r['filename']}:{r['line_number']} {r['test_id']} {r['issue_text']}" for r in report["results"]] == []


def test_detect_secrets_finds_nothing_beyond_the_baseline(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "detect_secrets", "scan", "--all-files", "."],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    found = secrets(json.loads(done.stdout))
    known = secrets(json.loads((folder / ".secrets.baseline").read_text()))
    assert {name for name, _ in known} <= {f"models/cards/{card.name}" for card in (folder / "models/cards").iterdir()}
    assert found <= known, "if these are checksums of model cards, run .ci/secrets-baseline and commit what it writes"


def secrets(report: dict[str, dict[str, list[dict[str, str]]]]) -> set[tuple[str, str]]:
    """Return file and hash of what a report of detect-secrets lists, its own baseline aside."""
    listed = {(name, item["hashed_secret"]) for name, items in report["results"].items() for item in items}
    return {(name, found) for name, found in listed if name != ".secrets.baseline"}


def test_bandit_would_notice(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import pickle\n\n\ndef f(x):\n    assert x\n    return pickle.loads(x)\n")
    done = subprocess.run([sys.executable, "-m", "bandit", "-q", "-r", str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == 1


def test_the_folder_imports_as_samtune(folder: Path) -> None:
    """As QGIS's plugin folder has it: the parent is on the path, nothing else of ours is."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import samtune, samtune.engine.messages\n"
        "assert samtune.__file__.startswith(sys.argv[1]), samtune.__file__\n"
        "assert callable(samtune.classFactory)\n"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code, str(folder.parent)], check=True, timeout=60)


def test_the_engine_starts_from_the_folder(folder: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("no torch in this interpreter")
    done = subprocess.run(
        [sys.executable, str(folder / "engine" / "bootstrap.py"), "info", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        cwd=folder.parent,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
