"""Make the checkout importable as ``samtune`` before any test module is read."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_spec = importlib.util.spec_from_file_location("samtune_bootstrap", ROOT / "engine" / "bootstrap.py")
if _spec is None or _spec.loader is None:
    raise ImportError("engine/bootstrap.py is missing")
_bootstrap = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_bootstrap)
_bootstrap.make_importable(ROOT)
