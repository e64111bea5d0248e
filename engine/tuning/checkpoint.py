"""Checkpoints of a tuning run: one file, replaced atomically, from which the run goes on as if nothing had happened."""

from __future__ import annotations

import os

# For its exception only: weights_only=True unpickles nothing.
import pickle  # nosec B403
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ...models.errors import OutputError
from ...models.peft.contract import TuningError

Tensors = dict[str, torch.Tensor]


@dataclass
class State:
    """Where a run is, besides the weights and the optimiser.

    Attributes:
        step: steps done.
        best: the best figure on the hold-out so far; None before the first.
        best_step: at which it was.
        best_weights: the adapter's tensors then.
        stale: checks of the hold-out since without a gain.
        part: crops that are computed at once; less than the batch after memory ran out.
        recompute: activations are computed again.
        seconds: that the run took so far.
        looked: the step at which the hold-out was measured last.
        remembered: what an added loss needs to go on, see :class:`.distil_hook.Remembering`.
    """

    step: int = 0
    best: float | None = None
    best_step: int = 0
    best_weights: Tensors | None = None
    stale: int = 0
    part: int = 1
    recompute: bool = False
    seconds: float = 0.0
    looked: int = 0
    remembered: Tensors = field(default_factory=dict)


def write_checkpoint(path: Path, key: str, state: State, weights: Tensors, optimiser: torch.optim.Optimizer) -> None:
    """Write a checkpoint; whoever reads or is interrupted meanwhile finds the old one or the new one, never a part.

    Args:
        path: the file.
        key: identifies settings and data; a run of others does not go on from it.
        state: where the run is.
        weights: the adapter's tensors.
        optimiser: its state is kept.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    partial = path.with_suffix(".part")
    content = {"key": key, "state": vars(state), "weights": weights, "optimiser": optimiser.state_dict()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # which is what torch makes of a full disk
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"The run's checkpoint could not be written to {path.parent}. Make room there and go on with the run; what "
            "was kept before is whole.",
            str(error),
        ) from error


def read_checkpoint(path: Path, key: str, device: torch.device) -> tuple[State, Tensors, dict[str, object]] | None:
    """Read a checkpoint.

    Args:
        path: the file.
        key: of the run's settings and data.
        device: that tensors go to.

    Returns:
        Where the run was, the adapter's tensors and the optimiser's state; None where there is no checkpoint, or one of
        another run.

    Raises:
        TuningError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        found = torch.load(path, map_location=device, weights_only=True)
        if found["key"] != key:
            return None
        return State(**found["state"]), found["weights"], found["optimiser"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError) as error:
        raise TuningError(f"The checkpoint {path} is damaged. Delete it to start the run anew.", repr(error)) from error
