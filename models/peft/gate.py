"""The gate: tune a fixed small share of the encoder's single weights, and learn which.

In the line of diff pruning (Guo, Rush and Kim, ACL 2021), SPT (He et al., ICCV 2023) and GPS (Zhang et al., CVPR 2024):

1. Score: squared gradients over some samples (:mod:`.gate_score`); the highest few times the budget are candidates.
2. Gate: every candidate learns a change ``delta`` and the logit of a hard-concrete gate z; W = W0 + delta * z.
3. Harden: the budget's worth of candidates with the highest |delta| P(z > 0) stay, without gates, and learn on.

Diff pruning holds the number of open gates down by a penalty, whose weight must be found; with dual ascent on it the
number overshot in trials (from 3.9 to 0.28 of the budget), because the multiplier goes on growing while the logits
follow at the pace of their learning rate. Here the number is no matter of a penalty: before every step all logits are
shifted by one amount, such that the expected number of open gates is what the ramp from the candidates down to the
budget says. The task's gradient decides alone which gates are open, the shift how many; nothing can overshoot or stall.

What is saved is sparse: an index and a change for each weight, 6 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import accumulate, islice, pairwise

import torch
from torch import nn
from torch.nn import functional

from ..sam_modules import Sam
from .contract import Part, TuningError, Undo
from .gate_config import GateConfig, Selection
from .gate_score import choose, score
from .hard_concrete import logistic_noise
from .hooks import hook_pass, replace_forward
from .sites import device_of, linear

_NONE = -1
"""The index of a weight that is not chosen yet."""

_State = Mapping[str, torch.Tensor]


class Gate(Part):
    """The changes of the chosen weights; none are chosen, and nothing is changed, before :meth:`calibrate`.

    While gates are open or shut there are as many entries as candidates, so that an optimiser keeps its parameters;
    :meth:`finish` leaves the budget's.

    Attributes:
        index: (n,) int32, ascending, into the concatenated, flattened weights of all layers.
        delta: (n,) float32 changes.
        logits: (n,) float32 of the gates; None where there are no gates.
        kept: (n,) bool, what hardening kept; all before it; None where there are no gates.
    """

    config: GateConfig
    index: torch.Tensor
    delta: nn.Parameter
    logits: nn.Parameter | None
    kept: torch.Tensor | None

    def __init__(self, config: GateConfig, sam: Sam) -> None:
        """Make an empty choice on the base's device."""
        super().__init__(config)
        self._sites = config.plan(sam).sites
        sizes = (linear(sam, name).weight.numel() for name in self._sites)
        self._starts = list(accumulate(sizes, initial=0))
        self._budget = config.budget(sam)
        self._candidates = config.candidates_of(sam)
        self._bounds: list[int] | None = None
        self._hardened = False
        self._at_rest = True
        self._noise: torch.Tensor | None = None
        self._changes: tuple[torch.Tensor, ...] | None = None
        index = torch.full((self._budget,), _NONE, dtype=torch.int32, device=device_of(sam))
        self._hold(index, gated=False)

    def __getstate__(self) -> dict[str, object]:
        """See :meth:`.contract.Part.__getstate__`."""
        return {**super().__getstate__(), "_changes": None}

    @property
    def chosen(self) -> bool:
        """Whether it is known which weights are tuned, or may be."""
        return self._bounds is not None

    @property
    def rate_factors(self) -> dict[str, float]:
        """See :attr:`.contract.Part.rate_factors`: the gates' logits learn faster."""
        return {} if self.logits is None else {"logits": self.config.gate_rate}

    def expected_open(self) -> float:
        """Return how many weights are expected to be changed: of the gates while there are, else of all entries."""
        if self.logits is None or self._hardened:
            return float(self._budget if self.chosen else 0)
        return self.config.gates.expected(self.logits.detach())

    def calibrate(self, sam: Sam, losses: Iterable[Callable[[], torch.Tensor]]) -> None:
        """Choose the candidates by the data: see :meth:`.contract.Part.calibrate`.

        Does nothing where they are chosen, so that tuning goes on with what was loaded.
        """
        self._at_rest = False
        if self.chosen:
            return
        gated = self.config.selection is Selection.GATED
        number = self._candidates if gated else self._budget
        if self.index.is_meta:
            self._suppose(number, gated=gated)
            return
        weights = [linear(sam, name).weight for name in self._sites]
        scores = score(weights, islice(losses, self.config.samples))
        self._hold(choose(scores, number, self.config.largest_share), gated=gated)

    def begin_step(self, progress: float) -> None:
        """Bring the gates to the ramp, or harden them: see :meth:`.contract.Part.begin_step`.

        Raises:
            TuningError: it was not calibrated.
        """
        if not self.chosen:
            raise TuningError("The gate does not know yet which weights to tune. Calibrate it on the samples first.")
        self._at_rest = False
        self._changes = None
        if self.logits is None or self._hardened or self.logits.is_meta:
            return
        if progress >= self.config.harden_at:
            self.harden()
            return
        with torch.no_grad():
            gates = self.config.gates
            target = self.config.target(progress, self.index.numel(), self._budget)
            self.logits.add_(gates.shift_to(self.logits, target))
            self._noise = logistic_noise(self.logits)

    def harden(self) -> None:
        """Keep the budget's worth of candidates and drop the gates. Does nothing where that is done."""
        if self.logits is None or self._hardened:
            return
        self.kept = self._strongest()
        with torch.no_grad():
            self.delta.mul_(self.kept)
        self.logits.grad = None
        self._hardened, self._noise, self._changes = True, None, None

    def finish(self) -> None:
        """Harden, leave out what was not kept, and round to what is saved: see :meth:`.contract.Part.finish`."""
        self.harden()
        delta, index = self.delta.detach(), self.index
        if self.kept is not None:
            delta, index = delta[self.kept], index[self.kept]
            self._hold(index, gated=False)
        with torch.no_grad():
            self.delta.copy_(delta.half() if self.config.half else delta)
        self._at_rest = True
        self._changes = None

    def _hold(self, index: torch.Tensor, *, gated: bool) -> None:
        """Begin anew with other weights, unchanged."""
        self.register_buffer("index", index)
        self.delta = nn.Parameter(torch.zeros(index.shape, device=index.device))
        logits = nn.Parameter(torch.full_like(self.delta, self.config.initial)) if gated else None
        self.register_parameter("logits", logits)
        self.register_buffer("kept", torch.ones_like(index, dtype=torch.bool) if gated else None)
        self._note()

    def _note(self) -> None:
        """Derive from the tensors where each layer's entries begin, and what phase this is."""
        self._noise, self._changes, self._bounds = None, None, None
        if self.index.is_meta or int(self.index[0]) == _NONE:
            return
        starts = torch.tensor(self._starts, dtype=self.index.dtype, device=self.index.device)
        self._bounds = [int(bound) for bound in torch.searchsorted(self.index, starts)]
        self._hardened = self.kept is not None and not bool(self.kept.all())

    def _suppose(self, number: int, *, gated: bool) -> None:
        """Take a choice for granted that is spread evenly: for counting memory on the meta device."""
        self._hold(torch.empty(number, dtype=torch.int32, device="meta"), gated=gated)
        self._bounds = [start * number // self._starts[-1] for start in self._starts]

    def _strongest(self) -> torch.Tensor:
        """Return (n,) bool: the candidates that hardening keeps."""
        if self.logits is None or self._hardened:
            return torch.ones_like(self.index, dtype=torch.bool) if self.kept is None else self.kept
        strength = self.delta.detach().abs() * self.config.gates.open(self.logits.detach())
        best = torch.topk(strength, self._budget).indices
        return torch.zeros_like(self.index, dtype=torch.bool).index_fill_(0, best, value=True)

    def _weighted(self) -> torch.Tensor:
        """Return (n,) changes as they count now; while not training, as they would after hardening."""
        if self.logits is None:
            return self.delta
        if self._hardened or not self.training:
            return self.delta * self._strongest()
        if self._noise is None:
            return self.delta * self.config.gates.settled(self.logits)
        return self.delta * self.config.gates.sample(self.logits, self._noise)

    def _attach(self, sam: Sam) -> Iterator[Undo]:
        yield from hook_pass(sam, self._begin_pass, _nothing)
        for number, name in enumerate(self._sites):
            layer = linear(sam, name)
            yield from replace_forward(layer, partial(self._linear, number, layer))

    def _begin_pass(self) -> None:
        # Once per pass, and outside of what is computed again for the backward pass. That may be an earlier pass's, so
        # there is a graph while training even if this pass needs none.
        with torch.set_grad_enabled(self.training or torch.is_grad_enabled()):
            self._changes = None if self._bounds is None else self._by_layer(self._weighted())

    def _linear(self, number: int, layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        """Do what a layer does, with its changed weight."""
        if self._bounds is None:
            return functional.linear(x, layer.weight, layer.bias)
        if self._changes is None:
            self._changes = self._by_layer(self._weighted())
        return functional.linear(x, self._changed(number, layer.weight, self._changes[number]), layer.bias)

    def _by_layer(self, changes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        bounds = self._bounds or []
        return torch.split(changes, [stop - start for start, stop in pairwise(bounds)])

    def _changed(self, number: int, weight: torch.Tensor, changes: torch.Tensor) -> torch.Tensor:
        """Return a layer's weight with its changes; the gradient goes to the changes only."""
        if self._bounds is None or not changes.numel():
            return weight
        own = self.index[self._bounds[number] : self._bounds[number + 1]] - self._starts[number]
        return weight.detach().reshape(-1).index_add(0, own, changes.to(weight.dtype)).reshape(weight.shape)

    def merged(self, sam: Sam) -> dict[str, torch.Tensor]:
        """Return the weights with their changes: see :meth:`.contract.Part.merged`."""
        if self._bounds is None:
            return {}
        changes = self._by_layer(self.delta.detach() * self._strongest())
        return {
            f"{name}.weight": self._changed(number, linear(sam, name).weight, changes[number])
            for number, name in enumerate(self._sites)
            if changes[number].numel()
        }

    def expect(self, tensors: _State) -> None:
        """Make room for the entries of a file: see :meth:`.contract.Part.expect`."""
        index, gated = tensors.get("index"), "logits" in tensors
        number = self._candidates if gated else self._budget
        if index is None or index.shape != (number,) or (index.shape == self.index.shape and gated == self.gated):
            return
        self._hold(torch.full((number,), _NONE, dtype=torch.int32, device=self.index.device), gated=gated)

    @property
    def gated(self) -> bool:
        """Whether there are gates, shut for good or not."""
        return self.logits is not None

    def _save_to_state_dict(self, destination: dict[str, torch.Tensor], prefix: str, keep_vars: bool) -> None:  # noqa: FBT001 - torch's
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._at_rest and self.config.half:
            destination[f"{prefix}delta"] = destination[f"{prefix}delta"].half()

    def _load_from_state_dict(self, state_dict: dict[str, torch.Tensor], prefix: str, *others: object) -> None:
        own = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
        self.expect(own)
        index = own.get("index")
        if index is not None and not self._possible(index):
            raise TuningError("The adapter is damaged: it changes weights that there are not. Tune again.")
        super()._load_from_state_dict(state_dict, prefix, *others)
        self._at_rest = "delta" not in own or own["delta"].dtype == torch.float16
        self._note()

    def _possible(self, index: torch.Tensor) -> bool:
        """Say whether indices are ascending and within the weights, or all of nothing."""
        if bool((index == _NONE).all()):
            return True
        return int(index[0]) >= 0 and int(index[-1]) < self._starts[-1] and bool((index.diff() > 0).all())


def _nothing() -> None:
    """Do nothing at the end of a pass."""
