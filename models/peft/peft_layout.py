"""LoRA and DoRA in the folder layout of the ``peft`` library (0.21): ``adapter_config.json`` beside safetensors.

For exchange with other programs; the library itself is not needed. What the layout cannot say stays behind: card, hash
of the base, decoder and heads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from ..card import JsonValue
from ..errors import OutputError, TuningError
from .adapter import Adapter
from .atomic_file import write_file, write_tensors
from .dora import Decomposed, DoraConfig
from .lora import Lora, LoraConfig, Projection, Update
from .peft_reading import CONFIG, ENCODER, TENSORS, read_peft
from .sites import Layer

__all__ = ["read_peft", "write_peft"]

_PREFIX = "base_model.model."


def write_peft(folder: Path, adapter: Adapter) -> tuple[str, ...]:
    """Write an adapter's LoRA or DoRA.

    Updates of q, k and v by themselves become one of the whole qkv layer: their A below one another, their B in a
    block structure. That is exact, with the sum of the ranks as rank.

    Args:
        folder: made if it is not there; files of these names in it are replaced.
        adapter: attached or not; with a LoRA or a DoRA part.

    Returns:
        Sentences for the user on what is different in the files.

    Raises:
        TuningError: there is no such part, or it is a DoRA of separate projections.
        OutputError: the files cannot be written.
    """
    part = next((part for part in adapter.parts.values() if isinstance(part, Lora)), None)
    if part is None:
        raise TuningError("Only LoRA and DoRA can be written in the layout of the peft library; this adapter has none.")
    tensors: dict[str, torch.Tensor] = {}
    for name in part.sites:
        whole = _whole(part.of(name)) if _separate(part.config, name) else _single(part.of(name)[0])
        tensors.update({f"{_PREFIX}{name.removeprefix(ENCODER)}.{key}": value for key, value in whole.items()})
    settings = json.dumps(_settings(part), indent=2, sort_keys=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made. Choose another one.", str(error)) from error
    write_tensors(folder / TENSORS, tensors, {"format": "pt"})
    write_file(folder / CONFIG, lambda path: path.write_text(settings, encoding="utf-8"))
    return tuple(_notes(adapter, part))


def _separate(config: LoraConfig, name: str) -> bool:
    return bool(config.projections) and name.endswith(Layer.QKV.value)


def _single(update: Update) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {"lora_A.weight": update.lora_A, "lora_B.weight": update.lora_B}
    return found | ({"lora_magnitude_vector": update.magnitude} if isinstance(update, Decomposed) else {})


def _whole(updates: tuple[Update, ...]) -> dict[str, torch.Tensor]:
    """Return the one A and B of the qkv layer that do what updates of its thirds do together."""
    if any(isinstance(update, Decomposed) for update in updates):
        raise TuningError(
            "A DoRA of q, k or v by themselves cannot be written in the layout of the peft library, which has lengths "
            "for whole layers only. Tune with DoRA on whole layers for that."
        )
    lower = torch.cat([update.lora_A.detach() for update in updates])
    upper = lower.new_zeros(len(Projection) * (updates[0].stop - updates[0].start), len(lower))
    column = 0
    for update in updates:
        rank = len(update.lora_A)
        upper[update.start : update.stop, column : column + rank] = update.lora_B.detach()
        column += rank
    return {"lora_A.weight": lower, "lora_B.weight": upper}


def _settings(part: Lora) -> dict[str, JsonValue]:
    config = part.config
    names = [name.removeprefix(ENCODER) for name in part.sites]
    blocks = sorted({int(name.split(".")[1]) for name in names})
    layers = [layer.value for layer in Layer if layer in config.layers]
    grown: dict[str, JsonValue] = {}
    louder: dict[str, JsonValue] = {}
    times = len(config.projections)
    if Layer.QKV in config.layers and times > 1:
        grown, louder = {Layer.QKV.value: config.rank * times}, {Layer.QKV.value: config.alpha * times}
    alternatives = "|".join(re.escape(layer) for layer in layers)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "auto_mapping": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "rank_pattern": grown,
        "alpha_pattern": louder,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_rslora": False,
        "use_dora": isinstance(config, DoraConfig),
        "target_modules": rf"(.*\.)?blocks\.({'|'.join(str(block) for block in blocks)})\.({alternatives})",
    }


def _notes(adapter: Adapter, part: Lora) -> Iterator[str]:
    times = len(part.config.projections)
    if Layer.QKV in part.config.layers and times > 1:
        yield (
            f"The updates of q, k and v became one of the whole qkv layer: its rank is {part.config.rank * times} "
            f"instead of {part.config.rank}. It computes the same."
        )
    others = [name for name, other in adapter.parts.items() if other is not part]
    if others:
        yield f"The layout has no place for {', '.join(others)}: left out."
    yield "The layout does not say which base weights the adapter belongs to: keep SamTune's own file as well."
