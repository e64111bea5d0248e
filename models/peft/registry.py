"""All methods by name, and configurations from their JSON."""

from __future__ import annotations

from collections.abc import Mapping

from ..card import JsonValue
from ..heads.instances import InstancesConfig
from ..heads.mfnet import MfnetHeadConfig
from ..heads.semantic import SemanticConfig
from .adaptformer import AdaptFormerConfig
from .band_stem import BandStemConfig
from .contract import MethodConfig, TuningError
from .conv_lora import ConvLoraConfig
from .dora import DoraConfig
from .gate_config import GateConfig
from .hybrid import HybridConfig
from .lora import LoraConfig
from .mm_adapter import MmAdapterConfig
from .mm_lora import MmLoraConfig
from .new_patch_embed import NewPatchEmbedConfig
from .persam import MaskMixConfig
from .selective import BitFitConfig, DecoderConfig, FullConfig, NormConfig

_CLASSES: tuple[type[MethodConfig], ...] = (
    DecoderConfig,
    BitFitConfig,
    NormConfig,
    FullConfig,
    LoraConfig,
    DoraConfig,
    AdaptFormerConfig,
    ConvLoraConfig,
    HybridConfig,
    GateConfig,
    BandStemConfig,
    NewPatchEmbedConfig,
    MmAdapterConfig,
    MmLoraConfig,
    MaskMixConfig,
    SemanticConfig,
    InstancesConfig,
    MfnetHeadConfig,
)

METHODS: Mapping[str, type[MethodConfig]] = {found.method: found for found in _CLASSES}


def config_from_json(values: Mapping[str, JsonValue]) -> MethodConfig:
    """Rebuild the configuration that an adapter's card holds.

    Args:
        values: as :meth:`.contract.MethodConfig.to_json` gave it.

    Raises:
        TuningError: the method is unknown here, or a setting is.
    """
    name = values.get("method")
    if not isinstance(name, str) or name not in METHODS:
        raise TuningError(f"The tuning method {name!r} is unknown. Update SamTune.", f"known: {sorted(METHODS)}")
    return METHODS[name].from_json(values)
