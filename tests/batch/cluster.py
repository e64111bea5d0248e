"""What Dask's workers load before they begin (``--preload``): this checkout as ``samtune``, and the fake model."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def prepare() -> None:
    """Make the checkout importable and put the fake model in the place of loaded ones."""
    spec = importlib.util.spec_from_file_location("samtune_bootstrap", ROOT / "engine" / "bootstrap.py")
    if spec is None or spec.loader is None:
        raise ImportError("engine/bootstrap.py is missing")
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    bootstrap.make_importable(ROOT)
    sys.path.insert(0, str(ROOT))
    from samtune.engine.batch import worker

    from tests.engine.fakes import FakeModel, FakeModels

    worker.ModelService = lambda *_: FakeModels(FakeModel(512, "tiny"))


def dask_setup(worker: object) -> None:
    """Called by Dask in a worker that begins."""
    prepare()
