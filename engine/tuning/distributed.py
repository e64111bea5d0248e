"""Several processes that train one adapter together, started by ``torchrun``.

Each process computes the gradients of its share of every step's crops; before the optimiser steps they are added up.
``DistributedDataParallel`` is not used: it wraps a module's forward pass, but an adapter's parameters are no part of
the base that runs forward. The gradients of an adapter are small, so adding them up at the end of a step costs little.
All processes draw the same numbers and so know the whole step; only the first one writes files and measures.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import distributed as dist
from torch import nn


class Group:
    """The processes of a run; alone, one process.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        """Take the numbers; see :func:`joined` for a real group."""
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this process writes and measures."""
        return self.rank == 0

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum over all processes, in one exchange.

        Args:
            parameters: the same ones, in the same order, in every process. Where no process has a gradient there is
                none afterwards; the others count as 0.
        """
        if self.size == 1:
            return
        listed = list(parameters)
        if not listed:
            return
        present = torch.tensor([float(p.grad is not None) for p in listed], device=listed[0].device)
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).detach().float().flatten() for p in listed]
        )
        dist.all_reduce(present)
        dist.all_reduce(flat)
        at = 0
        for parameter, anyone in zip(listed, present.tolist(), strict=True):
            piece = flat[at : at + parameter.numel()].view_as(parameter)
            parameter.grad = piece.to(parameter.dtype).clone() if anyone else None
            at += parameter.numel()

    def agree(self, value: float, device: torch.device) -> float:
        """Return what the first process says."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device="cpu" if device.type != "cuda" else device)
        dist.broadcast(told, 0)
        return float(told)

    def any(self, *, happened: bool, device: torch.device) -> bool:
        """Say whether something happened in any process."""
        if self.size == 1:
            return happened
        told = torch.tensor([float(happened)], device="cpu" if device.type != "cuda" else device)
        dist.all_reduce(told)
        return float(told) > 0

    def copy_first(self, parameters: Iterable[torch.Tensor]) -> None:
        """Give every process the first one's numbers: all begin with the same random ones."""
        if self.size == 1:
            return
        with torch.no_grad():
            for parameter in parameters:
                dist.broadcast(parameter.data, 0)


def joined() -> Group:
    """Join the processes that ``torchrun`` started, or return a group of one where it did not.

    With CUDA each process should see one GPU: the one of its local rank is made the current one.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or not dist.is_available():
        return Group()
    if not dist.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if cuda else "gloo")
    return Group(dist.get_rank(), dist.get_world_size())
