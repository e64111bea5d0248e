"""A seam behind the mask decoder: what changes its three masks for one click, however it is called.

SAM's ``MaskDecoder`` is called as a module for one image, and by its inner modules for batches
(:mod:`.batch_decode`). A forward hook sees only the former, so changes are registered for both here.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import nn

from .sam_modules import MaskDecoder

CHOICES = 3
"""Masks that SAM answers one click with."""

AnswerChange = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(N, 3, h, w) logits and (N, 3) predicted IoU -> the logits that take their place."""

_changes: WeakKeyDictionary[nn.Module, list[AnswerChange]] = WeakKeyDictionary()


def change_answers(decoder: MaskDecoder, change: AnswerChange) -> Callable[[], None]:
    """Have the three masks for one click changed from now on; the single mask for several prompts stays as it is.

    Args:
        decoder: of any SAM.
        change: what to do; several are applied in the order in which they came.

    Returns:
        What takes it back.
    """

    def after(
        _module: nn.Module, _inputs: tuple[torch.Tensor, ...], output: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits, iou = output
        return (change(logits, iou) if logits.shape[1] == CHOICES else logits), iou

    handle = decoder.register_forward_hook(after)
    changes = _changes.setdefault(decoder, [])
    changes.append(change)

    def undo() -> None:
        handle.remove()
        changes.remove(change)

    return undo


def changed(decoder: MaskDecoder, logits: torch.Tensor, iou: torch.Tensor) -> torch.Tensor:
    """Apply what is registered for a decoder that was not called as a module.

    Args:
        decoder: whose answers they are.
        logits: (N, 4, h, w), the single-answer mask first.
        iou: (N, 4).

    Returns:
        (N, 4, h, w).
    """
    for change in _changes.get(decoder, ()):
        logits = torch.cat([logits[:, :1], change(logits[:, 1:], iou[:, 1:])], dim=1)
    return logits
