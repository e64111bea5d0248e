"""An adapter's weights put into its base for good, as a model file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..models.errors import TuningError
from .adapters import AdapterService
from .model_service import ModelService
from .progress import Progress

if TYPE_CHECKING:
    from ..models.peft.adapter import Adapter


def merge_adapter(path: Path, models: ModelService, model: str, output: Path, progress: Progress) -> int:
    """Write the base's weights with an adapter merged into them: all tensors of the network, in full precision.

    Args:
        path: of the adapter.
        models: gives the base.
        model: name of the base.
        output: safetensors file; replaced if it exists.
        progress: told what is being done.

    Returns:
        The number of tensors that differ from the base's.

    Raises:
        TuningError: a part of the adapter is no change of weights, or the adapter does not fit.
        OutputError: the file cannot be written.
        ModelMissingError: the base is not on this machine.
    """
    from ..models.peft.atomic_file import write_tensors  # torch

    base = models.get(model, progress)
    loaded = AdapterService().get(str(path), base, progress)
    refuse_unmergeable(loaded.adapter, loaded.card.name)
    with base.using(None):
        before = base.network.state_dict()
    with base.using(loaded.adapter):
        merged = base.network.state_dict()
    progress.report(-1.0, f"Writing {output.name}")
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in merged.items()}
    facts = {"format": "pt", "base": loaded.card.base.sha256, "adapter": loaded.card.to_json()}
    write_tensors(output, tensors, facts)
    return sum(merged[name].data_ptr() != before[name].data_ptr() for name in merged)


def refuse_unmergeable(adapter: Adapter, name: str) -> None:
    """Refuse an adapter that is more than other weights for the base.

    Args:
        adapter: the adapter.
        name: for the text.

    Raises:
        TuningError: a part computes something beside the base.
    """
    beside = [method for method, part in adapter.parts.items() if not part.config.merges]
    if beside:
        raise TuningError(
            f"The adapter {name} cannot be merged: {' and '.join(beside)} is computed beside the base's weights, not "
            "by them. Use the adapter file as it is."
        )
