"""Learning maps of whole areas: classes of ground, and objects to be found without prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from ...models.heads.centres import InstanceTargets, instance_targets, together
from ...models.heads.contract import IGNORE, SemanticHead
from ...models.heads.instances import Instances, instance_loss
from ...models.heads.semantic import class_weights, semantic_loss
from ...models.peft.adapter import Adapter
from ...models.peft.contract import Part, TuningError
from .encoding import Laid
from .keep import Keep
from .samples import Samples
from .task import Figures, Moment, Work

_KEPT_BYTES = 256 * 1024**2


def head_of(adapter: Adapter) -> Part:
    """Return an adapter's head.

    Raises:
        TuningError: it has none.
    """
    for part in adapter.parts.values():
        if isinstance(part, SemanticHead | Instances):
            return part
    raise TuningError("The adapter has no head for maps. Choose one with --head.")


class _Mapped:
    """Draws crops; what they are taught is for subclasses to say."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    @property
    def population(self) -> int:
        """How many crops there are."""
        return len(self._samples.items)

    def draw(self, number: int, way: int, rng: np.random.Generator) -> Work:
        """Return a crop: see :class:`.task.Objective`."""
        del rng
        return Work(Laid(self._samples.items[number], way))

    def weight(self, work: Work) -> int:
        """Return 1: losses are means over crops."""
        del work
        return 1

    def learn(self, works: Sequence[Work], moment: Moment) -> Figures:
        """Encode, answer, compare: see :class:`.task.Objective`."""
        figures = Figures()
        loss = self._mean_loss(works, moment, int(moment.rng(0).integers(2**31)), learn=True)
        figures.add("loss", loss.expand(len(works)))
        return figures

    def probe(self, work: Work, moment: Moment) -> torch.Tensor:
        """Return the loss of one crop, with its graph: see :class:`.task.Objective`."""
        return self._mean_loss([work], moment, None, learn=False)

    def _mean_loss(self, works: Sequence[Work], moment: Moment, seed: int | None, *, learn: bool) -> torch.Tensor:
        encoding = moment.encoding
        if encoding.adapter is None:
            raise TuningError("There is nothing to train. Choose a method and a head.")
        moment.check()
        with encoding.features(self._samples, [work.laid for work in works], moment.check, seed) as features:
            loss = self._loss(head_of(encoding.adapter), features, works, moment.check)
            if learn:
                moment.check()
                penalty = moment.penalty()
                total = loss * (len(works) * moment.scale)
                total = total if penalty is None else total + penalty
                if total.requires_grad:
                    total.backward()  # type: ignore[no-untyped-call]
        return loss

    def _loss(self, head: Part, features: object, works: Sequence[Work], check: Callable[[], None]) -> torch.Tensor:
        """Return the mean loss of some crops."""
        raise NotImplementedError


class Semantic(_Mapped):
    """Class maps: every known pixel has a class, 0 where it is none of the labelled ones."""

    def __init__(self, samples: Samples, classes: int) -> None:
        """Take the crops to learn from, and weigh the classes by how rare they are in them.

        Args:
            samples: of the training side.
            classes: how many, "anything else" included.
        """
        super().__init__(samples)
        maps = (torch.from_numpy(samples.labels(item, _never).classes).long() for item in samples.items)
        self.weights = class_weights(maps, classes)

    def _loss(self, head: Part, features: object, works: Sequence[Work], check: Callable[[], None]) -> torch.Tensor:
        logits = head(features)
        labels = [self._samples.labels(work.item, check).laid(work.laid.way) for work in works]
        known = torch.from_numpy(np.stack([label.classes for label in labels])).long().to(logits.device)
        return semantic_loss(logits, known, self.weights.to(logits.device))


class FindAll(_Mapped):
    """Objects without prompts: where their centres are, and how far they reach."""

    def __init__(self, samples: Samples, classes: int) -> None:
        """Take the crops to learn from.

        Args:
            samples: of the training side.
            classes: kinds of objects.
        """
        super().__init__(samples)
        self._classes = classes
        self._drawn: Keep[InstanceTargets] = Keep(_target_bytes, _KEPT_BYTES)

    def _loss(self, head: Part, features: object, works: Sequence[Work], check: Callable[[], None]) -> torch.Tensor:
        maps = head(features)
        drawn = [self._drawn.get(work.laid, partial(self._draw, work.laid, maps.stride, check)) for work in works]
        return instance_loss(maps, together(drawn).to(maps.heat.device))

    def _draw(self, laid: Laid, stride: int, check: Callable[[], None]) -> InstanceTargets:
        """Draw what the maps of a crop should be: object by object, which takes as long as the head itself."""
        label = self._samples.labels(laid.item, check).laid(laid.way)
        # An object of which too little is in the crop has its centre elsewhere: nobody knows what to say there.
        known = label.known & ~(label.partial & ~label.masks.any(0))
        kinds = np.where(label.labels < self._classes, label.labels, IGNORE)
        return instance_targets(
            [torch.from_numpy(label.masks)],
            [torch.from_numpy(kinds)],
            torch.from_numpy(known)[None],
            kinds=self._classes,
            stride=stride,
        )


def _target_bytes(targets: InstanceTargets) -> int:
    return sum(part.nbytes for part in (targets.heat, targets.boxes, targets.weight, targets.known))


def _never() -> None:
    """Nobody stops the counting of classes."""
