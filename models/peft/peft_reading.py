"""Reading LoRA and DoRA from the folder layout of the ``peft`` library: see :mod:`.peft_layout`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..card import JsonValue
from ..errors import TuningError
from ..sam_modules import Sam
from .adapter import Adapter
from .dora import Decomposed, DoraConfig
from .lora import Lora, LoraConfig, Update
from .sites import Layer, block_name

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"

ENCODER = "image_encoder."
_NAME = re.compile(
    r"(?:base_model\.model\.)?(?:image_encoder\.)?blocks\.(?P<block>\d+)\."
    r"(?P<layer>attn\.qkv|attn\.proj|mlp\.lin1|mlp\.lin2)"
    r"\.lora_(?P<what>A|B|magnitude_vector)(?:\.default)?(?:\.weight)?"
)
_WHAT = {"A": "lora_A", "B": "lora_B", "magnitude_vector": "magnitude"}

_PLAIN: Mapping[str, tuple[JsonValue, ...]] = {
    "bias": ("none",),
    "lora_bias": (False,),
    "modules_to_save": (None, []),
    "layer_replication": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "use_qalora": (False,),
    "use_bdlora": (None, False),
    "alora_invocation_tokens": (None,),
    "arrow_config": (None,),
    # Others (pissa, olora, corda, loftq) change the base's weights as well, and those are not in the file.
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
}
"""Settings of ``peft`` and the values with which LoRA is plain LoRA; a missing one is plain too."""


@dataclass(frozen=True)
class _Piece:
    """One layer's update in a file.

    Attributes:
        block: its index.
        layer: of the block.
        tensors: ``lora_A``, ``lora_B`` and, for DoRA, ``magnitude``.
        scale: of B A.
    """

    block: int
    layer: Layer
    tensors: Mapping[str, torch.Tensor]
    scale: float

    @property
    def rank(self) -> int:
        """Return the rank of B A."""
        return len(self.tensors["lora_A"])


def read_peft(folder: Path, sam: Sam) -> Adapter:
    """Read a LoRA or DoRA that was written in the layout of the ``peft`` library; it is not attached yet.

    Layers with smaller ranks, and layers that have no update while others of their kind do, get one that adds nothing.

    Args:
        folder: with ``adapter_config.json`` and ``adapter_model.safetensors``.
        sam: the base that it was tuned on, which the layout does not say; only shapes can be checked.

    Returns:
        An adapter with one part, on the base's device.

    Raises:
        TuningError: files are missing or damaged, or it is no plain LoRA or DoRA of SAM's encoder blocks.
    """
    settings, tensors = _read(folder)
    _check_plain(settings)
    pieces = _pieces(settings, tensors)
    config = _config(settings, pieces, len(sam.image_encoder.blocks))
    adapter = Adapter(sam, [config])
    part = adapter.parts[config.method]
    if not isinstance(part, Lora):
        raise TuningError("The adapter is no LoRA.", config.method)
    for piece in pieces:
        (update,) = part.of(f"{block_name(piece.block)}.{piece.layer.value}")
        _fill(update, piece)
    return adapter.eval()


def _read(folder: Path) -> tuple[dict[str, JsonValue], dict[str, torch.Tensor]]:
    try:
        settings: object = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS, device="cpu")
    except FileNotFoundError as error:
        raise TuningError(
            f"{folder.name} is no adapter in the layout of the peft library: it needs {CONFIG} and {TENSORS}.",
            str(error),
        ) from error
    except (SafetensorError, OSError, ValueError, LookupError, RecursionError) as error:
        raise TuningError(f"The adapter in {folder.name} is damaged. Copy it again.", f"{folder}: {error!r}") from error
    if not isinstance(settings, dict):
        raise TuningError(f"The adapter in {folder.name} is damaged. Copy it again.", f"{CONFIG} holds no JSON object")
    return settings, tensors


def _check_plain(settings: Mapping[str, JsonValue]) -> None:
    if settings.get("peft_type") != "LORA":
        raise TuningError(
            "Of the peft library's methods only LoRA and DoRA can be read.", str(settings.get("peft_type"))
        )
    for name, values in _PLAIN.items():
        if name in settings and settings[name] not in values:
            raise TuningError(
                "This LoRA uses a setting of the peft library that SamTune does not have.",
                f"{name} = {settings[name]!r}",
            )


def _pieces(settings: Mapping[str, JsonValue], tensors: Mapping[str, torch.Tensor]) -> list[_Piece]:
    dora = bool(settings.get("use_dora"))
    found: dict[tuple[int, Layer], dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None or (match["what"] == "magnitude_vector" and not dora):
            raise TuningError("This adapter tunes something else than the linear layers of SAM's encoder blocks.", name)
        found.setdefault((int(match["block"]), Layer(match["layer"])), {})[_WHAT[match["what"]]] = tensor.float()
    wanted = {"lora_A", "lora_B", "magnitude"} if dora else {"lora_A", "lora_B"}
    pieces: list[_Piece] = []
    for (block, layer), own in sorted(found.items(), key=lambda item: (item[0][0], list(Layer).index(item[0][1]))):
        if set(own) != wanted or own["lora_A"].dim() != 2 or own["lora_B"].shape[1:] != own["lora_A"].shape[:1]:
            raise TuningError("The adapter is damaged: A and B do not go together.", f"block {block}, {layer.value}")
        pieces.append(_Piece(block, layer, own, _scale(settings, f"blocks.{block}.{layer.value}", len(own["lora_A"]))))
    if not pieces:
        raise TuningError("The adapter holds nothing that tunes SAM's encoder blocks.")
    return pieces


def _scale(settings: Mapping[str, JsonValue], name: str, rank: int) -> float:
    """Return alpha / rank, or alpha / sqrt(rank) with rank stabilisation, for a layer by its name in the encoder."""
    alpha = settings.get("lora_alpha", 8)
    patterns = settings.get("alpha_pattern")
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        own = pattern.removeprefix(ENCODER)
        # The library takes regular expressions, and writes names; an expression from a file is not to be run.
        if set(own) & set("*^$|()[]?+\\"):
            raise TuningError("The adapter's scales are given by expressions, which are not read.", pattern)
        if f".{name}".endswith(f".{own}"):
            alpha = value
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or rank < 1:
        raise TuningError("The adapter's settings are damaged.", f"lora_alpha {alpha!r}, rank {rank}")
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _config(settings: Mapping[str, JsonValue], pieces: list[_Piece], depth: int) -> LoraConfig:
    rank = max(piece.rank for piece in pieces)
    scale = next(piece.scale for piece in pieces if piece.rank == rank)
    blocks = {piece.block for piece in pieces}
    if max(blocks) >= depth:
        raise TuningError("This adapter is for another base model.", f"block {max(blocks)} of {depth}")
    kind = DoraConfig if settings.get("use_dora") else LoraConfig
    return kind(
        rank=rank,
        alpha=scale * rank,
        layers=tuple(layer for layer in Layer if any(piece.layer is layer for piece in pieces)),
        projections=(),
        start=min(blocks) / depth,
        stop=(max(blocks) + 1) / depth,
    )


@torch.no_grad()
def _fill(update: Update, piece: _Piece) -> None:
    own = piece.tensors
    if own["lora_A"].shape[1] != update.lora_A.shape[1] or len(own["lora_B"]) != len(update.lora_B):
        raise TuningError(
            "This adapter is for another base model.", f"block {piece.block}, {piece.layer.value}: widths"
        )
    update.lora_A[: piece.rank] = own["lora_A"]
    update.lora_B[:, : piece.rank] = own["lora_B"] * (piece.scale / update.scale)
    if isinstance(update, Decomposed):
        update.magnitude.copy_(own["magnitude"].reshape(-1))
