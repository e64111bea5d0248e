"""The real ``qgis_process``, without a display, with the real engine: what a server or a scheduled job runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import QgsVectorLayer
from samtune_test_engine_helpers import python

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = ROOT / "docs" / "sample" / "landsat_raleigh.tif"
WEIGHTS = ROOT / "models" / "weights" / "tiny.safetensors"
LAKE = {"type": "Point", "coordinates": [-78.7123, 35.7609]}
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


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("qgis_process") or ""
    return subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=200
    )


def prompts(folder: Path) -> str:
    path = folder / "prompts.geojson"
    lake = {"type": "Feature", "properties": {"kind": "lake", "note": "west"}, "geometry": LAKE}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [lake]}), encoding="utf-8")
    return str(path)


def test_segment_from_prompts(environment: dict[str, str], tmp_path: Path) -> None:
    if not WEIGHTS.is_file():
        pytest.skip("the tiny model's weights are not in this checkout")
    if subprocess.run([python(), "-c", "import torch"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no engine environment: set SAMTUNE_ENGINE_PYTHON or run `make setup-engine`")
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
