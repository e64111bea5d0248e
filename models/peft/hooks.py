"""Hooks on the base's modules, as parts attach by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from .contract import Undo

Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(a module's input, its output) -> what takes the output's place."""


def hook_output(module: nn.Module, change: Change) -> Iterator[Undo]:
    """Let a function change what a module with one input puts out.

    Args:
        module: where.
        change: gets the module's first input and its output.
    """

    def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return change(inputs[0], output)

    yield module.register_forward_hook(hook).remove


def hook_input(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[Undo]:
    """Let a function change what a module with one input takes in."""

    def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (change(inputs[0]), *inputs[1:])

    yield module.register_forward_pre_hook(hook).remove
