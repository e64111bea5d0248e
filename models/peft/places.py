"""Tensors in the places of a network's parameters, taken back in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..errors import TuningError

Undo = Callable[[], None]
"""Takes back one thing that attaching did."""

_STACKS: WeakKeyDictionary[nn.Module, dict[str, list[nn.Parameter]]] = WeakKeyDictionary()
"""Module -> name of a parameter -> the base's own, then those that took its place, in order; the last one counts."""


def replace_parameters(sam: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Iterator[Undo]:
    """Put tensors in the place of a network's parameters, yielding after each how to give the place back.

    Places may be taken several times and given back in any order: the last taker left counts, in the end the network's
    own parameter.

    Args:
        sam: the network.
        tensors: dotted name -> the tensor or parameter that takes the place; a plain tensor becomes a parameter
            without gradient.

    Raises:
        TuningError: there is no such parameter, or it has another shape.
    """
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        try:
            module = sam.get_submodule(path)
            old = module._parameters[leaf]
        except (AttributeError, KeyError) as error:
            raise TuningError("This adapter is for another base model.", f"no parameter {name}") from error
        if old is None or old.shape != tensor.shape:
            raise TuningError("This adapter is for another base model.", f"{name}: {old} against {tensor.shape}")
        given = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False)
        _STACKS.setdefault(module, {}).setdefault(leaf, [old]).append(given)
        module._parameters[leaf] = given
        yield partial(_give_back, module, leaf, given)


def taken(sam: nn.Module) -> bool:
    """Say whether anything is in the place of one of a network's parameters."""
    return any(_STACKS.get(module) for module in sam.modules())


def own_parameter(sam: nn.Module, name: str) -> nn.Parameter:
    """Return a network's own parameter, whatever is in its place.

    Args:
        sam: the network.
        name: dotted.

    Raises:
        AttributeError: there is none.
    """
    path, _, leaf = name.rpartition(".")
    stack = _STACKS.get(sam.get_submodule(path), {}).get(leaf)
    return stack[0] if stack else sam.get_parameter(name)


def _give_back(module: nn.Module, leaf: str, given: nn.Parameter) -> None:
    stack = _STACKS[module][leaf]
    del stack[max(index for index, held in enumerate(stack) if held is given)]
    module._parameters[leaf] = stack[-1]
    if len(stack) == 1:
        del _STACKS[module][leaf]
