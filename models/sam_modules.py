"""The one place that imports ``segment_anything``'s network modules.

``import segment_anything`` runs its package file, which imports the predictor and with it torchvision, a large package
that nothing here uses. The network itself (``segment_anything.modeling``) needs torch alone, so a bare package of that
name is registered just long enough to import it; afterwards the name is as free as before.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from .errors import EnvironmentMissingError

_PACKAGE = "segment_anything"
_MODELING = f"{_PACKAGE}.modeling"


def import_modeling() -> ModuleType:
    """Return ``segment_anything.modeling`` without running the package's own ``__init__``.

    Raises:
        EnvironmentMissingError: ``segment_anything`` is not installed in this Python.
    """
    if _MODELING in sys.modules:
        return sys.modules[_MODELING]
    if _PACKAGE in sys.modules:
        return importlib.import_module(_MODELING)
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise EnvironmentMissingError(
            "The package segment_anything is not installed in the engine's Python. Set up the engine again from "
            "SamTune's settings.",
            f"{sys.executable}: no module named {_PACKAGE}",
        )
    bare = ModuleType(_PACKAGE)
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules[_PACKAGE] = bare
    try:
        return importlib.import_module(_MODELING)
    finally:
        # A later ``import segment_anything`` by anyone else must find the real package, not this shell.
        del sys.modules[_PACKAGE]


_modeling = import_modeling()

Attention = _modeling.image_encoder.Attention
Block = _modeling.image_encoder.Block
Sam = _modeling.Sam
ImageEncoderViT = _modeling.ImageEncoderViT
LayerNorm2d = _modeling.image_encoder.LayerNorm2d
MaskDecoder = _modeling.MaskDecoder
PromptEncoder = _modeling.PromptEncoder
TwoWayTransformer = _modeling.TwoWayTransformer
get_rel_pos = _modeling.image_encoder.get_rel_pos
window_partition = _modeling.image_encoder.window_partition
window_unpartition = _modeling.image_encoder.window_unpartition

__all__ = [
    "Attention",
    "Block",
    "ImageEncoderViT",
    "LayerNorm2d",
    "MaskDecoder",
    "PromptEncoder",
    "Sam",
    "TwoWayTransformer",
    "get_rel_pos",
    "import_modeling",
    "window_partition",
    "window_unpartition",
]
