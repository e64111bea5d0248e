"""What every tuning method is: a configuration, a plan, and a part that attaches to a SAM and comes off again.

A *part* holds its own tensors and never writes into the base's: it hooks into the base's modules, or puts its own
parameters in the place of the base's while it is attached. So several parts share one base, are attached and detached
without reloading it, and the base is bit for bit what it was. A merged part works the same way: the sums take the
places of the base's weights, and those come back on :meth:`Part.detach`.
"""

from __future__ import annotations

import dataclasses
import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import nn

from ..card import JsonValue
from ..errors import TuningError
from ..sam_modules import Sam
from .places import Undo, replace_parameters
from .plain import record_from, to_plain

__all__ = [
    "MethodConfig",
    "Part",
    "Plan",
    "Scope",
    "SideInputs",
    "TuningError",
    "Undo",
    "count",
    "replace_parameters",
]


class Scope(enum.Enum):
    """Which part of SAM a method tunes; embeddings stay valid unless it is the encoder."""

    ENCODER = "encoder"
    DECODER = "decoder"
    HEAD = "head"


@dataclass(frozen=True)
class Plan:
    """What a method is going to do to a certain SAM, checked before anything is done.

    Attributes:
        sites: dotted names of the modules it attaches to, in the order of the network.
        replaced: dotted names of the base's parameters that it puts its own in the place of.
        trainable: how many numbers it trains.
    """

    sites: tuple[str, ...]
    replaced: tuple[str, ...]
    trainable: int


@dataclass(frozen=True)
class MethodConfig(ABC):
    """The settings of one method. Subclasses are frozen dataclasses of plain values, enums and tuples of those.

    Attributes:
        method: short key, as on the command line and in adapter files.
        scope: which part of SAM it tunes.
        merges: the tuned weights can take the place of the base's, at no cost in use.
        scales: what it makes of a layer depends on that layer's weights, not only on its inputs: it comes before
            methods that add to the same layers, and does not go with those that change their weights.
    """

    method: ClassVar[str]
    scope: ClassVar[Scope]
    merges: ClassVar[bool] = False
    scales: ClassVar[bool] = False

    @abstractmethod
    def plan(self, sam: Sam) -> Plan:
        """Say what would be done, and check that it can be. Works on the meta device.

        Args:
            sam: the base.

        Raises:
            TuningError: the settings do not fit this base.
        """

    @abstractmethod
    def build(self, sam: Sam) -> Part:
        """Make the part, with the tensors it starts from, on the base's device; it is not attached yet.

        Attached, a new part changes nothing: the outputs are the base's.

        Args:
            sam: the base; read, not changed.

        Raises:
            TuningError: as for :meth:`plan`.
        """

    def to_json(self) -> dict[str, JsonValue]:
        """Return the settings as JSON values, with the method's name under ``method``."""
        values = {item.name: to_plain(getattr(self, item.name)) for item in dataclasses.fields(self)}
        return {"method": self.method, **values}

    @classmethod
    def from_json(cls, values: Mapping[str, JsonValue]) -> Self:
        """Rebuild from :meth:`to_json`; missing settings get their defaults.

        Raises:
            TuningError: a value or a name is not one of this method's.
        """
        given = {name: value for name, value in values.items() if name != "method"}
        try:
            return record_from(cls, given)
        except (TypeError, ValueError) as error:
            raise TuningError(
                f"A setting of the method {cls.method} cannot be used: {error}. Correct it, or update SamTune."
            ) from error


@dataclass(frozen=True)
class SideInputs:
    """What an image comes with besides its three channels, for the encoder parts that know what to do with it.

    Attributes:
        bands: (B, C, H, W) float32, standardised per band, on the ground of the image, NaN where there is no data; None
            where there are none.
        streams: how many images of one place lie one after the other in the batch: with 2, the first half of the
            batch are the images and the second half the same places in the second modality.
        published: what one part tells the parts after it about this batch: the band stem puts the (B, 32) mean spectral
            code under ``band_stem.CODE``.
    """

    bands: torch.Tensor | None = None
    streams: int = 1
    published: dict[str, torch.Tensor] = field(default_factory=dict, compare=False)


class Part(nn.Module, ABC):
    """What a method adds to one base.

    All parameters of this module are the method's own and trainable; its ``state_dict`` is what an adapter file holds.

    Attributes:
        config: the settings it was made with.
        side: what the present batch comes with, see :meth:`.adapter.Adapter.given`.
    """

    def __init__(self, config: MethodConfig) -> None:
        """Take the settings; subclasses make their tensors."""
        super().__init__()
        self.config = config
        self.side = SideInputs()
        self._undo: list[Undo] = []

    def __getstate__(self) -> dict[str, object]:
        """Return what a copy begins with: it is attached to nothing, and knows nothing of a pass that was made."""
        return {**vars(self), "side": SideInputs(), "_undo": []}

    @property
    def attached(self) -> bool:
        """Whether it takes part in what the base computes."""
        return bool(self._undo)

    def attach(self, sam: Sam) -> None:
        """Take part in what the base computes.

        While it does, the base must not be moved to another device nor be copied.

        Args:
            sam: the base it was built for, or one of the same architecture.

        Raises:
            TuningError: it is attached already.
        """
        self._attach_with(lambda: self._attach(sam))

    def attach_merged(self, sam: Sam) -> None:
        """Take part at no cost, by weights in the place of the base's; for use, not for training.

        The weights are made from those that are in place now, so whatever else took places there must outlast this.

        Raises:
            TuningError: it is attached already, or the method cannot be merged.
        """
        if not self.config.merges:
            raise TuningError(f"The method {self.config.method} cannot be merged into the base's weights.")
        self._attach_with(lambda: replace_parameters(sam, self.merged(sam)))

    def _attach_with(self, attach: Callable[[], Iterator[Undo]]) -> None:
        if self._undo:
            raise TuningError("This adapter is in use already.", type(self).__name__)
        try:
            for undo in attach():
                self._undo.append(undo)
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Leave the base as it was, bit for bit. Does nothing when it is not attached."""
        while self._undo:
            self._undo.pop()()

    @abstractmethod
    def _attach(self, sam: Sam) -> Iterator[Undo]:
        """Attach, yielding after every step how to take it back."""

    def merged(self, sam: Sam) -> dict[str, torch.Tensor]:
        """Return the base's tuned weights: dotted parameter name -> new tensor, of the base's dtype and device.

        Must not be called while attached.
        """
        raise TuningError(f"The method {self.config.method} cannot be merged into the base's weights.", str(sam))

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what an optimiser is to move, by name."""
        yield from ((name, value) for name, value in self.named_parameters() if value.requires_grad)

    @property
    def rate_factors(self) -> Mapping[str, float]:
        """Parameters that learn faster or slower than the rest: name -> multiple of the learning rate."""
        return {}

    def calibrate(self, sam: Sam, losses: Iterable[Callable[[], torch.Tensor]]) -> None:
        """Look at the data before training; call it before the optimiser takes the parameters.

        Args:
            sam: the base, with the adapter attached or not.
            losses: each makes a forward pass on one training sample and returns its loss (scalar, with its graph).

        Raises:
            TuningError: the samples teach nothing.
        """

    def penalty(self) -> torch.Tensor | None:
        """Return what the method adds to the loss of the forward pass just made (scalar), or None."""
        return None

    def begin_step(self, progress: float) -> None:
        """Prepare a training step, for methods with a schedule.

        Args:
            progress: share of the training that is done, 0 to below 1.
        """

    def finish(self) -> None:
        """End training: bring the part into the form in which it is used and saved."""

    def expect(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Bring a new part into the form in which a file's tensors were saved, before they are loaded.

        For methods whose :meth:`finish` changes the names or shapes of what ``state_dict`` holds; others keep this.

        Args:
            tensors: the file's, by the names that ``state_dict`` had; not checked yet.
        """


def count(parameters: Iterator[nn.Parameter] | Mapping[str, torch.Tensor]) -> int:
    """Return how many numbers tensors hold together."""
    tensors = parameters.values() if isinstance(parameters, Mapping) else parameters
    return sum(tensor.numel() for tensor in tensors)
