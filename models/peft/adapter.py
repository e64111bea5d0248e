"""An adapter: the parts that were tuned together, used and saved as one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from ..sam_modules import Sam
from .contract import MethodConfig, Part, Plan, Scope, SideInputs, TuningError
from .places import taken


class Adapter(nn.Module):
    """Parts that belong together, such as LoRA in the encoder and a tuned decoder.

    Its ``state_dict`` has the parts' names (their methods) as prefixes. Several adapters share one base; they are
    attached and detached in any order.

    Attributes:
        parts: the parts by their methods' names, in the order in which they attach: first those that put their own
            weights in the places of the base's, so that others merge with those, then those that scale weights.
    """

    def __init__(self, sam: Sam, configs: Sequence[MethodConfig]) -> None:
        """Check all plans, then build the parts; nothing is attached.

        Args:
            sam: the base.
            configs: the methods, each at most once.

        Raises:
            TuningError: a plan does not fit the base, or two parts want the same.
        """
        super().__init__()
        self.parts: dict[str, Part] = {config.method: config.build(sam) for config in _ordered(sam, configs)}
        for name, part in self.parts.items():
            self.add_module(name, part)

    @property
    def configs(self) -> tuple[MethodConfig, ...]:
        """The settings of the parts."""
        return tuple(part.config for part in self.parts.values())

    @property
    def tunes_encoder(self) -> bool:
        """Whether embeddings made without this adapter are none for it."""
        return any(config.scope is Scope.ENCODER for config in self.configs)

    @property
    def attached(self) -> bool:
        """Whether it takes part in what the base computes."""
        return any(part.attached for part in self.parts.values())

    def attach(self, sam: Sam, *, merged: bool = False) -> None:
        """Take part in what the base computes; all parts, or none where one fails.

        Args:
            sam: the base it was built for.
            merged: put weights in the place of the base's where the method can, which costs nothing in use. Not for
                training. Where another adapter has weights in the base at that time, nothing is merged, so that the
                two can be detached in any order.

        Raises:
            TuningError: it is attached already.
        """
        merging = merged and not taken(sam)
        try:
            for part in self.parts.values():
                if merging and part.config.merges:
                    part.attach_merged(sam)
                else:
                    part.attach(sam)
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Leave the base as it was. Does nothing when it is not attached."""
        for part in reversed(self.parts.values()):
            part.detach()

    @contextlib.contextmanager
    def given(self, side: SideInputs) -> Iterator[None]:
        """Let the parts know what a batch comes with, while the context lasts.

        Where activations are computed again for the backward pass, that must see the same: see ``again`` of
        :func:`..encoder.encode`.
        """
        before = {name: part.side for name, part in self.parts.items()}
        for part in self.parts.values():
            part.side = side
        try:
            yield
        finally:
            for name, part in self.parts.items():
                part.side = before[name]

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what an optimiser is to move, by name."""
        for name, part in self.parts.items():
            yield from ((f"{name}.{own}", value) for own, value in part.trainable_parameters())

    @property
    def rate_factors(self) -> dict[str, float]:
        """Parameters that learn faster or slower than the rest: name -> multiple of the learning rate."""
        return {
            f"{name}.{own}": factor for name, part in self.parts.items() for own, factor in part.rate_factors.items()
        }

    def calibrate(self, sam: Sam, losses: Sequence[Callable[[], torch.Tensor]]) -> None:
        """Let the parts look at the data before training: see :meth:`.contract.Part.calibrate`."""
        for part in self.parts.values():
            part.calibrate(sam, losses)

    def penalty(self) -> torch.Tensor | None:
        """Return the sum of the parts' penalties, or None where no part has one."""
        found = [value for part in self.parts.values() if (value := part.penalty()) is not None]
        return torch.stack(found).sum() if found else None

    def begin_step(self, progress: float) -> None:
        """Prepare a training step; ``progress`` is the share of the training that is done."""
        for part in self.parts.values():
            part.begin_step(progress)

    def finish(self) -> None:
        """End training: bring the parts into the form in which they are used and saved."""
        for part in self.parts.values():
            part.finish()


def _ordered(sam: Sam, configs: Sequence[MethodConfig]) -> list[MethodConfig]:
    """Check that methods go together, and return those that replace parameters first, then those that scale them."""
    if not configs:
        raise TuningError("Choose at least one method to tune with.")
    owners: dict[str, str] = {}
    plans: dict[str, Plan] = {}
    for config in configs:
        if config.method in plans:
            raise TuningError(f"The method {config.method} is given twice.")
        plans[config.method] = config.plan(sam)
        for name in plans[config.method].replaced:
            _claim(owners, name, config.method)
    for config in configs:
        for site in plans[config.method].sites if config.scales else ():
            _claim(owners, f"{site}.weight", config.method)
    return sorted(configs, key=lambda config: (not plans[config.method].replaced, not config.scales))


def _claim(owners: dict[str, str], name: str, method: str) -> None:
    """Note that a method tunes a parameter."""
    if name in owners:
        raise TuningError(f"The methods {owners[name]} and {method} both tune the same weights. Leave one out.", name)
    owners[name] = method


def freeze(sam: Sam) -> None:
    """Stop gradients to everything of the base; parts bring their own parameters. To be called before attaching."""
    for parameter in sam.parameters():
        parameter.requires_grad_(requires_grad=False)
