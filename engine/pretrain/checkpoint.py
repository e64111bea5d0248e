"""Checkpoints: model, averaged weights, optimiser state and step, replaced atomically."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def write_checkpoint(
    path: Path, step: int, model: nn.Module, average: dict[str, torch.Tensor], optimiser: torch.optim.Optimizer
) -> None:
    """Write a checkpoint; whoever reads or is interrupted meanwhile finds the old one or the new one, never a part.

    Args:
        path: the file.
        step: steps done.
        model: weights being trained.
        average: their moving average.
        optimiser: its state is kept for an exact resume.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    torch.save(
        {"step": step, "model": model.state_dict(), "average": average, "optimiser": optimiser.state_dict()}, partial
    )
    partial.replace(path)


def read_checkpoint(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[int, dict[str, torch.Tensor]]:
    """Load a checkpoint into a model and its optimiser.

    The optimiser keeps its own peak rates and weight decay: a resumed run may change them in its configuration.

    Returns:
        Steps done, and the averaged weights.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    fresh = [{key: value for key, value in group.items() if key != "params"} for group in optimiser.param_groups]
    optimiser.load_state_dict(state["optimiser"])
    for group, settings in zip(optimiser.param_groups, fresh, strict=True):
        group.update(settings)
    device = next(model.parameters()).device
    return int(state["step"]), {name: tensor.to(device) for name, tensor in state["average"].items()}
