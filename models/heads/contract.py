"""What every head is: a part that hooks into nothing and turns the encoder's features into classes or instances."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..encoder import Features
from ..peft.contract import MethodConfig, Part, Scope, Undo
from ..sam_modules import Sam

IGNORE = -1
"""The class of a pixel that nobody labelled: it takes no part in any loss."""


@dataclass(frozen=True)
class HeadConfig(MethodConfig):
    """Settings of a head."""

    scope: ClassVar[Scope] = Scope.HEAD

    def collect(self, sam: Sam) -> tuple[int, ...]:  # noqa: ARG002 - heads of several blocks look at it
        """Return the indices of the blocks whose tokens the head wants; none for the embedding alone."""
        return ()


class Head(Part):
    """A head. It is not attached to anything: whoever encodes hands it the features."""

    def _attach(self, sam: Sam) -> Iterator[Undo]:  # noqa: ARG002 - nothing of the base is touched
        yield from ()


class SemanticHead(Head):
    """A head for class maps."""

    @abstractmethod
    def forward(self, features: Features) -> torch.Tensor:
        """Say how much each place is like each class.

        Args:
            features: of (B, 3, H, W) images; of twice as many where :attr:`side` says that there are two streams.

        Returns:
            (B, K, H / 4, W / 4) float32 logits of the K classes.
        """
