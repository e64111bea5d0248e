"""Hooks on the base's modules, as parts attach by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from ..sam_modules import Sam
from .contract import TuningError, Undo

Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(a module's input, its output) -> what takes the output's place."""


def hook_output(module: nn.Module, change: Change) -> Iterator[Undo]:
    """Let a function change what a module with one input puts out.

    Args:
        module: where.
        change: gets the module's first input and its output, both in float32 where a base is kept and run in less.
    """

    def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return change(_wide(inputs[0]), _wide(output)).to(output.dtype)

    yield module.register_forward_hook(hook).remove


def _wide(x: torch.Tensor) -> torch.Tensor:
    """Return a tensor in float32, as parts compute, unless autocast chooses for every operation."""
    half = x.dtype in (torch.float16, torch.bfloat16)
    return x.float() if half and not (x.is_meta or torch.is_autocast_enabled(x.device.type)) else x


def hook_input(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[Undo]:
    """Let a function change what a module with one input takes in."""

    def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (change(inputs[0]), *inputs[1:])

    yield module.register_forward_pre_hook(hook).remove


def hook_pass(sam: Sam, begin: Callable[[], None], end: Callable[[], None]) -> Iterator[Undo]:
    """Have functions called where a pass through the image encoder begins and ends.

    Blocks that are computed again for the backward pass are no pass of their own.

    Args:
        sam: whose encoder.
        begin: called before the patch embedding.
        end: called after the neck.
    """
    encoder = sam.image_encoder
    yield encoder.patch_embed.register_forward_pre_hook(lambda _module, _inputs: begin()).remove
    yield encoder.neck.register_forward_hook(lambda _module, _inputs, _output: end()).remove


def replace_forward(module: nn.Module, forward: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[Undo]:
    """Let a function do what a module with one input does; hooks on the module stay in force.

    Args:
        module: where.
        forward: gets the module's input.

    Raises:
        TuningError: something else stands for the module already.
    """
    own = vars(module)
    if "forward" in own:
        raise TuningError("Two adapters that select single weights cannot be in use at once.", str(module))
    own["forward"] = forward

    def undo() -> None:
        del own["forward"]

    yield undo
