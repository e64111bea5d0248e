"""What the workers of Dask load before they begin (``--preload``): this checkout as ``samtune``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]


def _prepare() -> None:
    spec = importlib.util.spec_from_file_location("samtune_bootstrap", _ROOT / "engine" / "bootstrap.py")
    if spec is None or spec.loader is None:
        raise ImportError("engine/bootstrap.py is missing")
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    bootstrap.make_importable(_ROOT)


_prepare()
