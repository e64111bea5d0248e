"""What to do when memory runs out in a step: less at once, then activations computed again, then a clear answer."""

from __future__ import annotations

import torch

from ...models.errors import DeviceError
from .checkpoint import State

_CPU_TEXTS = ("not enough memory", "can't allocate memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out: of a GPU, or of the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_TEXTS)


def fall_back(state: State, *, tunes_encoder: bool, fixed: bool, error: BaseException, device: torch.device) -> str:
    """Change how a step is computed so that it takes less memory. What is computed stays the same.

    Args:
        state: of the run; its ``part`` or ``recompute`` is changed.
        tunes_encoder: activations of the encoder are kept, so that computing them again would help.
        fixed: the user forbade that.
        error: what ran out.
        device: that it ran out on.

    Returns:
        What was done, a sentence for the user.

    Raises:
        DeviceError: nothing is left to try.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if state.part > 1:
        state.part = (state.part + 1) // 2
        return f"The memory did not suffice: {state.part} crops are now computed at once."
    if tunes_encoder and not state.recompute and not fixed:
        state.recompute = True
        return "The memory did not suffice: activations are now computed again instead of kept, which is slower."
    fits = (
        "Tune the decoder only, or the last quarter of the blocks (late LoRA), or choose a smaller model."
        if tunes_encoder
        else "Take fewer objects per crop, or choose a smaller model."
    )
    raise DeviceError(
        f"The memory of the device {device} does not suffice for one crop at a time. {fits}", str(error)
    ) from error
