"""Learning to outline by prompts: click or box, then corrections, as SAM was trained.

The first prompt of an object is a click in it or its box, by chance (Kirillov et al., Segment Anything, appendix A);
then come clicks where the answer was wrong, with the answer before as mask prompt for every other one (micro-sam). The
loss of every answer is 20 focal + dice for 50 and more objects, dice alone for fewer, plus the squared error of the IoU
it predicts; of three answers to one click the best one counts. All of it on cells that are known, and only there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...models.batch_decode import decode_batch
from ...models.losses import dice, focal, true_iou
from ...models.prompt_mask import draw_prompts
from ..pretrain.prompting import correction_clicks
from ..pretrain.sampling import first_click, noisy_box, quarter_share
from .encoding import Laid, training_precision
from .samples import CropSample, Samples
from .task import Figures, Moment, Work

FOCAL_WEIGHT = 20.0
MANY_OBJECTS = 50
MASK_CHANCE = 0.5
"""Of the answer before being given as mask prompt."""

_SURE = 8.0
_IOUS = ("first", "point", "box", "corrected")
"""In every step's figures, also where no object began that way: the log's columns are those of the first step."""


class Promptable:
    """Draws objects and teaches their outlines.

    Attributes:
        samples: the crops to learn from.
    """

    def __init__(self, samples: Samples, prompts: int, objects: int, *, bumps: bool, amp: bool) -> None:
        """Take the crops to learn from.

        Args:
            samples: of the training side.
            prompts: of an object in a step, the first one included.
            objects: of a crop in a step, at most.
            bumps: the model wants prompts drawn into the mask prompt (the card's ``click_bumps``).
            amp: half precision where that helps.
        """
        self.samples, self._prompts, self._most = samples, prompts, objects
        self._bumps, self._amp = bumps, amp
        # An object has its turn in the crop that was laid around it; in others it comes along.
        place = samples.dataset.place
        self._homes = [
            (item, number)
            for item in samples.items
            for number in item.targets
            if place(number) == (item.raster, item.crop)
        ]
        self.focal_weight = FOCAL_WEIGHT if len(self._homes) >= MANY_OBJECTS else 0.0

    @property
    def population(self) -> int:
        """How many objects there are."""
        return len(self._homes)

    def by_crop(self) -> dict[CropSample, list[int]]:
        """Return the objects crop by crop, each in the crop that was laid around it."""
        found: dict[CropSample, list[int]] = {}
        for item, number in self._homes:
            found.setdefault(item, []).append(number)
        return found

    def draw(self, number: int, way: int, rng: np.random.Generator) -> Work:
        """Return an object with others of its crop: see :class:`.task.Objective`."""
        item, own = self._homes[number]
        others = [target for target in item.targets if target != own]
        picked = rng.permutation(len(others))[: self._most - 1]
        return Work(Laid(item, way), (own, *(others[int(place)] for place in picked)))

    def weight(self, work: Work) -> int:
        """Return the number of objects."""
        return len(work.objects)

    def learn(self, works: Sequence[Work], moment: Moment) -> Figures:
        """Prompt the objects: see :class:`.task.Objective`.

        The answers are computed one prompt after the other, each with its own backward pass to the embeddings, so that
        memory does not grow with the number of prompts; then one backward pass goes through the encoder.
        """
        encoding = moment.encoding
        batch = [work.laid for work in works]
        figures = Figures(dict.fromkeys(_IOUS, 0.0), dict.fromkeys(_IOUS, 0))
        if encoding.frozen:
            self._prompt(works, encoding.embeddings(self.samples, batch, moment.check), moment, figures)
            _backward([(moment.penalty(), None)])
            return figures
        given = encoding.see(self.samples, batch, moment.check, int(moment.rng(0).integers(2**31)))
        moment.check()
        with encoding.encoded(given, moment.check) as features:
            embedded = features.embedding[: len(works)]
            leaf = embedded.detach().float().requires_grad_()
            self._prompt(works, leaf, moment, figures)
            moment.check()
            onward = None if leaf.grad is None else leaf.grad.to(embedded.dtype)
            _backward([(embedded if onward is not None else None, onward), (moment.penalty(), None)])
        return figures

    def probe(self, work: Work, moment: Moment) -> torch.Tensor:
        """Return the mean loss of the first answers to the objects of a crop: see :class:`.task.Objective`."""
        given = moment.encoding.see(self.samples, [work.laid], moment.check)
        with moment.encoding.encoded(given, moment.check) as features:
            groups = self._groups([work], features.embedding[:1].float(), moment)
            losses = [group.ask(Figures()) for group in groups]
        return torch.stack(losses).sum() / self.weight(work)

    def _prompt(self, works: Sequence[Work], leaf: torch.Tensor, moment: Moment, figures: Figures) -> None:
        """Go through the prompts; leave gradients in the decoder's parameters and in the embeddings."""
        for group in self._groups(works, leaf, moment):
            for _ in range(self._prompts):
                moment.check()
                loss = group.ask(figures)
                if loss.requires_grad:  # what tunes the answers to clicks only has no part in those to boxes
                    (loss * (moment.scale / self._prompts)).backward()  # type: ignore[no-untyped-call]

    def _groups(self, works: Sequence[Work], leaf: torch.Tensor, moment: Moment) -> list[_Asked]:
        """Return the objects that begin with a click, and those that begin with a box."""
        labels = [self.samples.labels(work.item, moment.check).laid(work.laid.way) for work in works]
        clicked: list[_Target] = []
        boxed: list[_Target] = []
        for row, (work, known) in enumerate(zip(works, labels, strict=True)):
            for number in work.objects:
                rng = moment.rng(1, number, work.item.crop.col, work.item.crop.row, work.laid.way)
                target = _Target(row, known.masks[work.item.targets.index(number)], known.known, rng)
                if target.empty:
                    continue
                (clicked if rng.random() < 0.5 else boxed).append(target)
        groups = ((clicked, False), (boxed, True))
        return [_Asked(self, moment, leaf, found, boxed=kind) for found, kind in groups if found]

    def planes(
        self,
        size: tuple[int, int],
        points: torch.Tensor,
        labels: torch.Tensor,
        boxes: torch.Tensor | None,
        previous: torch.Tensor | None,
        seen: torch.Tensor,
    ) -> torch.Tensor | None:
        """Return the mask prompts (N, 1, h, w) as the model wants them; NaN or None where it is to have none."""
        if self._bumps:
            return draw_prompts(size, points, labels, boxes, previous, seen)
        return None if previous is None else previous[:, None]

    @property
    def amp(self) -> bool:
        """Half precision where that helps."""
        return self._amp


class _Target:
    """An object in its crop, with the prompts that it may begin with."""

    def __init__(self, row: int, mask: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> None:
        self.row, self.rng = row, rng
        share = quarter_share(mask[None])[0]
        cells = known.reshape(known.shape[0] // 4, 4, known.shape[1] // 4, 4)
        # A cell of which a part is unknown has no say at all.
        self.known = np.asarray(cells.all(axis=(1, 3)))
        self.share = np.where(self.known, share, np.float32(0))
        inside = mask & known
        self.empty = not inside.any()
        if not self.empty:
            self.click = first_click(inside, quarter_share(inside[None])[0], rng)
            self.box = noisy_box(inside, rng)


class _Asked:
    """Objects that begin with the same kind of prompt, through their prompts."""

    def __init__(
        self, task: Promptable, moment: Moment, leaf: torch.Tensor, found: Sequence[_Target], *, boxed: bool
    ) -> None:
        device = leaf.device
        self._task, self._network = task, moment.encoding.model.network
        self._boxed = boxed
        self._found = found
        self._leaf = leaf
        self._rows = torch.tensor([target.row for target in found], device=device)
        self._targets = torch.from_numpy(np.stack([target.share for target in found])).to(device)
        self._known = torch.from_numpy(np.stack([target.known for target in found])).to(device)
        self._boxes = torch.tensor([target.box for target in found], device=device) if boxed else None
        clicks = [target.click for target in found]
        self._points = torch.tensor(clicks, dtype=torch.float32, device=device)[:, None]
        self._labels = torch.ones(len(found), 1, dtype=torch.int64, device=device)
        if boxed:
            self._points, self._labels = self._points[:, :0], self._labels[:, :0]
        self._previous: torch.Tensor | None = None
        self._asked = 0

    def ask(self, figures: Figures) -> torch.Tensor:
        """Decode with the prompts so far; return the sum of the losses, and add a correction for the next time."""
        seen = self._leaf[self._rows]
        size = (self._targets.shape[-2], self._targets.shape[-1])
        planes = self._task.planes(size, self._points, self._labels, self._boxes, self._previous, seen)
        with training_precision(self._leaf.device, amp=self._task.amp):
            logits, predicted = decode_batch(self._network, seen, self._points, self._labels, self._boxes, planes)
        ambiguous = self._points.shape[1] == 1 and self._boxes is None
        answers = slice(1, 4) if ambiguous else slice(0, 1)
        loss, answer = self._score(logits[:, answers].float(), predicted[:, answers].float(), figures)
        self._asked += 1
        self._correct(answer)
        return loss

    def _score(
        self, logits: torch.Tensor, predicted: torch.Tensor, figures: Figures
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed loss of (N, K, h, w) answers, and each object's answer of the highest predicted IoU."""
        targets = self._targets[:, None].expand_as(logits)
        known = self._known[:, None].expand_as(logits)
        outline = dice(logits, targets, known)
        if self._task.focal_weight:
            outline = outline + self._task.focal_weight * focal(logits, targets, known)
        truth = true_iou(logits.detach(), targets, known)
        each = outline.min(dim=1).values + ((predicted - truth) ** 2).mean(dim=1)
        chosen = predicted.argmax(dim=1)
        rows = torch.arange(len(chosen), device=chosen.device)
        ious = truth[rows, chosen]
        figures.add("loss", each)
        if self._asked == 0:
            figures.add("box" if self._boxed else "point", ious)
        figures.add("corrected" if self._asked else "first", ious)
        return each.sum(), logits.detach()[rows, chosen]

    def _correct(self, answer: torch.Tensor) -> None:
        """Add a click where the known part of (N, h, w) answers is wrong."""
        agreeing = torch.where(self._targets > 0.5, _SURE, -_SURE)
        visible = torch.where(self._known, answer, agreeing)
        clicks = [
            correction_clicks(visible[row : row + 1], self._targets[row : row + 1], target.rng)
            for row, target in enumerate(self._found)
        ]
        self._points = torch.cat([self._points, torch.cat([points for points, _ in clicks])], dim=1)
        self._labels = torch.cat([self._labels, torch.cat([labels for _, labels in clicks])], dim=1)
        given = torch.tensor([target.rng.random() < MASK_CHANCE for target in self._found], device=answer.device)
        kept = torch.where(given[:, None, None], answer, torch.full_like(answer, torch.nan))
        self._previous = kept if bool(given.any()) else None


def _backward(roots: Sequence[tuple[torch.Tensor | None, torch.Tensor | None]]) -> None:
    """Go backward from several tensors at once, each with its gradient (None: 1); those without a graph are left."""
    found = [(root, gradient) for root, gradient in roots if root is not None and root.requires_grad]
    if found:
        torch.autograd.backward([root for root, _ in found], [gradient for _, gradient in found])
