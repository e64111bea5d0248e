"""The real ``qgis_process``, without a display, with the real engine: what a server or a scheduled job runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import Qgis, QgsApplication, QgsVectorLayer
from samtune_test_engine_helpers import python

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = ROOT / "docs" / "sample" / "landsat_raleigh.tif"
WEIGHTS = ROOT / "models" / "weights" / "tiny.safetensors"
LAKE = {"type": "Point", "coordinates": [-78.7123, 35.7609]}
DOCUMENT = ROOT / "docs" / "batch.md"
PROFILE = "[PythonPlugins]\nsamtune=true\n"

pytestmark = [
    pytest.mark.skipif(shutil.which("qgis_process") is None, reason="there is no qgis_process (package qgis)"),
    pytest.mark.timeout(240),
]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A profile of its own that has the checkout as its plugin; no display."""
    home = tmp_path / "profiles" / "default"
    for name in ("QGIS3.ini", "QGIS4.ini"):
        (home / "QGIS").mkdir(parents=True, exist_ok=True)
        (home / "QGIS" / name).write_text(PROFILE, encoding="utf-8")
    (home / "python" / "plugins").mkdir(parents=True)
    (home / "python" / "plugins" / "samtune").symlink_to(ROOT, target_is_directory=True)
    kept = {name: value for name, value in os.environ.items() if name not in {"DISPLAY", "WAYLAND_DISPLAY"}}
    return {
        **kept,
        "QT_QPA_PLATFORM": "offscreen",
        "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "SAMTUNE_ENGINE_PYTHON": python(),
    }


def run(environment: dict[str, str], *arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = shutil.which("qgis_process") or ""
    return subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=200, cwd=folder
    )


def prompts(folder: Path) -> str:
    path = folder / "prompts.geojson"
    lake = {"type": "Feature", "properties": {"kind": "lake", "note": "west"}, "geometry": LAKE}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [lake]}), encoding="utf-8")
    return str(path)


def skip_without_engine() -> None:
    if not WEIGHTS.is_file():
        pytest.skip("the tiny model's weights are not in this checkout")
    if subprocess.run([python(), "-c", "import torch"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no engine environment: set SAMTUNE_ENGINE_PYTHON or run `make setup-engine`")


def documented() -> list[list[list[str]]]:
    """The arguments of ``qgis_process run``, example by example, block by block."""
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [block.replace("\\\n", " ").splitlines() for block in blocks]
    return [[shlex.split(line)[1:] for line in block if line.startswith("qgis_process run ")] for block in lines]


def test_the_documentation_has_an_example_of_every_algorithm() -> None:
    named = {arguments[1] for block in documented() for arguments in block}
    provider = QgsApplication.processingRegistry().providerById("samtune")
    assert named == {algorithm.id() for algorithm in provider.algorithms()}


@pytest.mark.parametrize("arguments", [example for block in documented() for example in block], ids=lambda e: e[1][8:])
def test_the_parameters_in_the_documentation_are_the_algorithms_own(arguments: list[str]) -> None:
    algorithm = QgsApplication.processingRegistry().algorithmById(arguments[1])
    assert arguments[2] == "--"
    values = dict(argument.split("=", 1) for argument in arguments[3:])
    definitions = {definition.name(): definition for definition in algorithm.parameterDefinitions()}
    assert set(values) <= set(definitions)
    for name, value in values.items():
        assert definitions[name].checkValueIsAcceptable(value), f"{name}={value}"
        assert not value.startswith("docs/") or (ROOT / value).is_file(), value
    for name, definition in definitions.items():
        optional = definition.flags() & Qgis.ProcessingParameterFlag.Optional
        assert name in values or optional or definition.defaultValue() is not None, f"{name} is missing"


@pytest.mark.timeout(600)
def test_the_examples_in_the_documentation_run(environment: dict[str, str], tmp_path: Path) -> None:
    skip_without_engine()
    work = tmp_path / "work"
    work.mkdir()
    (work / "docs").symlink_to(ROOT / "docs", target_is_directory=True)
    made = {}
    for arguments in documented()[0]:
        done = run(environment, *arguments, folder=work)
        assert done.returncode == 0, done.stdout + done.stderr
        output = next(argument for argument in arguments if argument.startswith("OUTPUT=")).partition("=")[2]
        made[output] = QgsVectorLayer(str(work / output))
        assert made[output].isValid(), output
    assert made["outlines.gpkg"].featureCount() == made["again.gpkg"].featureCount() > 30
    assert (
        made["boxes.gpkg"].featureCount() == made["upright.gpkg"].featureCount() == made["outlines.gpkg"].featureCount()
    )
    counted = [feature["objects"] for feature in made["counts.gpkg"].getFeatures()]
    assert 0 < sum(counted) <= made["outlines.gpkg"].featureCount()


def test_segment_from_prompts(environment: dict[str, str], tmp_path: Path) -> None:
    skip_without_engine()
    out = tmp_path / "out.gpkg"
    given = [f"RASTER={SAMPLE}", "BANDS=4,3,2", f"PROMPTS={prompts(tmp_path)}", "CLASS_FIELD=kind", f"OUTPUT={out}"]
    done = run(environment, "--json", "run", "samtune:segmentprompts", "--", *given)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout[done.stdout.index("{") :])["results"]
    assert results["COUNT"] == 1
    (feature,) = QgsVectorLayer(str(out)).getFeatures()
    assert (feature["class"], feature["note"], feature["model"]) == ("lake", "west", "tiny")
    assert (feature["prompt"], feature["bands"], feature["raster"]) == ("point", "4,3,2", "landsat_raleigh.tif")
    assert feature["area"] > 10_000
    assert feature.geometry().isGeosValid()


def test_a_failure_ends_with_a_sentence_and_a_status(environment: dict[str, str], tmp_path: Path) -> None:
    environment["SAMTUNE_ENGINE_PYTHON"] = str(tmp_path / "no-python")
    given = [f"RASTER={SAMPLE}", f"PROMPTS={prompts(tmp_path)}", f"OUTPUT={tmp_path / 'out.gpkg'}"]
    done = run(environment, "run", "samtune:segmentprompts", "--", *given)
    assert done.returncode != 0
    assert "does not exist" in done.stderr + done.stdout
    assert "SAMTUNE_ENGINE_PYTHON" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout


def test_boxes_need_no_engine(environment: dict[str, str], tmp_path: Path) -> None:
    environment["SAMTUNE_ENGINE_PYTHON"] = str(tmp_path / "no-python")
    labels, out = SAMPLE.with_name("landsat_labels.geojson"), tmp_path / "out.gpkg"
    done = run(environment, "run", "samtune:orientedboxes", "--", f"INPUT={labels}", f"OUTPUT={out}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert QgsVectorLayer(str(out)).featureCount() == QgsVectorLayer(str(labels)).featureCount() > 0
