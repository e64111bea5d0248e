"""Methods that tune weights of the base itself: the decoder, biases, norms, or everything.

The part holds copies; they take the places of the base's parameters while it is attached, so the base stays untouched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from ..sam_modules import Sam
from .contract import MethodConfig, Part, Plan, Scope, TuningError, Undo, count, replace_parameters
from .places import own_parameter

_SEPARATOR = "/"
"""Stands for the dots of a parameter's name, which torch does not allow in the names of a module's own."""

_BLOCK = "image_encoder.blocks."


class SelectedWeights(Part):
    """Copies of some of the base's parameters, to be tuned in their places."""

    def __init__(self, config: MethodConfig, sam: Sam, names: tuple[str, ...]) -> None:
        """Copy parameters.

        Args:
            config: the method.
            sam: the base.
            names: dotted names of its parameters.
        """
        super().__init__(config)
        self._names = names
        for name in names:
            copied = own_parameter(sam, name).detach().clone(memory_format=torch.preserve_format)
            self.register_parameter(name.replace(".", _SEPARATOR), nn.Parameter(copied))

    def _attach(self, sam: Sam) -> Iterator[Undo]:
        return replace_parameters(sam, self._own())

    def merged(self, sam: Sam) -> dict[str, torch.Tensor]:
        """Return the tuned tensors: see :meth:`.contract.Part.merged`."""
        own = self._own()
        return {name: own[name].detach().to(sam.get_parameter(name).dtype) for name in self._names}

    def _own(self) -> dict[str, nn.Parameter]:
        return {name: self.get_parameter(name.replace(".", _SEPARATOR)) for name in self._names}


@dataclass(frozen=True)
class _SelectiveConfig(MethodConfig):
    merges: ClassVar[bool] = True

    def plan(self, sam: Sam) -> Plan:
        """Say which parameters would be tuned: see :meth:`.contract.MethodConfig.plan`."""
        names = tuple(name for name, _ in sam.named_parameters() if self._takes(name))
        if not names:
            raise TuningError(f"This model has nothing that the method {self.method} tunes.")
        sites = tuple(dict.fromkeys(name.rpartition(".")[0] for name in names))
        return Plan(sites, names, count(sam.get_parameter(name) for name in names))

    def build(self, sam: Sam) -> Part:
        """Copy what the plan names: see :meth:`.contract.MethodConfig.build`."""
        return SelectedWeights(self, sam, self.plan(sam).replaced)

    def _takes(self, name: str) -> bool:
        raise NotImplementedError(name)


@dataclass(frozen=True)
class DecoderConfig(_SelectiveConfig):
    """The mask decoder alone, which leaves embeddings as they are: training needs only those."""

    method: ClassVar[str] = "decoder"
    scope: ClassVar[Scope] = Scope.DECODER

    def _takes(self, name: str) -> bool:
        return name.startswith("mask_decoder.")


@dataclass(frozen=True)
class BitFitConfig(_SelectiveConfig):
    """The biases of the encoder blocks' linear layers (Ben Zaken et al., BitFit, ACL 2022)."""

    method: ClassVar[str] = "bitfit"
    scope: ClassVar[Scope] = Scope.ENCODER

    def _takes(self, name: str) -> bool:
        return name.startswith(_BLOCK) and name.endswith(".bias") and (".attn." in name or ".mlp." in name)


@dataclass(frozen=True)
class NormConfig(_SelectiveConfig):
    """Weights and biases of the encoder blocks' layer norms."""

    method: ClassVar[str] = "norm"
    scope: ClassVar[Scope] = Scope.ENCODER

    def _takes(self, name: str) -> bool:
        return name.startswith(_BLOCK) and (".norm1." in name or ".norm2." in name)


@dataclass(frozen=True)
class FullConfig(_SelectiveConfig):
    """All weights of the image encoder: the costly end of the scale that the other methods are measured on."""

    method: ClassVar[str] = "full"
    scope: ClassVar[Scope] = Scope.ENCODER

    def _takes(self, name: str) -> bool:
        return name.startswith("image_encoder.")
