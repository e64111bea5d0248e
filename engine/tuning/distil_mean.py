"""A running mean of the adapter under way: the previous version of itself."""

from __future__ import annotations

import torch

from ...models.peft.adapter import Adapter
from ...models.sam_modules import Sam


class RunningMean:
    """A mean of an adapter over the steps, as an adapter of its own.

    Attributes:
        adapter: the mean; never attached but for a moment.
    """

    def __init__(self, sam: Sam, adapter: Adapter, decay: float) -> None:
        """Begin with the adapter as it is.

        Args:
            sam: the base; parts read their start from it, which is overwritten at once.
            adapter: whose mean.
            decay: share of the mean that stays in a step, less in the first steps.
        """
        attached = adapter.attached
        adapter.detach()
        with torch.random.fork_rng():
            self.adapter = Adapter(sam, adapter.configs)
        if attached:
            adapter.attach(sam)
        self._decay = decay
        self._last = -1
        self.recall(adapter.state_dict())

    def update(self, adapter: Adapter, step: int) -> None:
        """Move the mean towards the adapter as it is now; once in a step, however often that is tried."""
        if step == self._last:
            return
        self._last = step
        decay = min(self._decay, (1 + step) / (10 + step))
        now, mean = adapter.state_dict(), self.adapter.state_dict()
        if not _of_one_form(now, mean):  # a method has changed its form, as the gate does when it is hardened
            self.recall(now)
            return
        with torch.no_grad():
            for name, value in mean.items():
                if value.is_floating_point():
                    value.lerp_(now[name].detach(), 1 - decay)
                else:
                    value.copy_(now[name])

    def remembered(self) -> dict[str, torch.Tensor]:
        """Return a copy of the mean's tensors."""
        return {name: value.detach().clone() for name, value in self.adapter.state_dict().items()}

    def recall(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take tensors of the adapter's form, by their names, for the mean."""
        for name, part in self.adapter.parts.items():
            prefix = f"{name}."
            own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            part.expect(own)
        self.adapter.load_state_dict(tensors)
        self.adapter.eval().requires_grad_(requires_grad=False)


def _of_one_form(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Say whether two sets of tensors differ in numbers alone: names, shapes, types and choices are the same."""
    return first.keys() == second.keys() and all(
        value.shape == second[name].shape
        and value.dtype == second[name].dtype
        and (value.dtype is not torch.bool or torch.equal(value, second[name]))
        for name, value in first.items()
    )
