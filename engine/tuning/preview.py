"""Pictures of what the adapter answers while it learns: two crops of the hold-out, or of the training without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ...models.batch_decode import decode_batch
from ...models.heads.contract import SemanticHead
from ...models.heads.find import FindOptions, find
from ...models.heads.instances import Instances
from ...models.heads.semantic import class_map
from ...models.prompt_mask import draw_prompts
from ..evaluate.clicks import pole
from ..tune_messages import Picture, PictureKind
from .encoding import Encoding, Laid
from .exam import spread
from .mapping import head_of
from .objects import Mask
from .pictures import Outlined, colour_of, picture_of
from .prepare import Prepared
from .samples import CropLabels, CropSample, Samples
from .settings import Task

CROPS = 2
MOST = 6
"""Objects of a crop that are clicked."""

_LABEL = (255, 255, 255)


class Preview:
    """Draws the same crops again and again; see :data:`.loop.Show`."""

    def __init__(self, ready: Prepared) -> None:
        """Choose the crops.

        Args:
            ready: the run.
        """
        self._prompted = ready.settings.task is Task.PROMPTABLE
        self._samples: Samples = ready.train if ready.held_out is None else ready.held_out
        self._learnt = ready.held_out is None
        items = [item for item in self._samples.items if item.targets] or list(self._samples.items)
        self._items = [items[place] for place in spread(len(items), CROPS)]

    def __call__(self, encoding: Encoding, check: Callable[[], None]) -> Sequence[Picture]:
        """Draw.

        Args:
            encoding: of the model with its adapter.
            check: called between pieces of work; may raise to stop.
        """
        return tuple(self._drawn(item, encoding, check) for item in self._items)

    def _drawn(self, item: CropSample, encoding: Encoding, check: Callable[[], None]) -> Picture:
        check()
        labels = self._samples.labels(item, check)
        if self._prompted:
            answers = self._clicked(item, labels, encoding, check)
        else:
            answers = self._mapped(item, encoding, check)
        drawn = [Outlined(_whole(mask, item.crop.size), colour_of(place), filled=True) for mask, place in answers]
        drawn += [Outlined(mask, _LABEL) for mask in labels.masks]
        image = self._samples.inputs(item, check).image
        title = "Of what was learnt from" if self._learnt else "Of what was held out"
        return Picture(PictureKind.PREDICTION, title, picture_of(image, drawn, ~labels.known, check=check))

    def _clicked(
        self, item: CropSample, labels: CropLabels, encoding: Encoding, check: Callable[[], None]
    ) -> list[tuple[Mask, int]]:
        """Return the answers (S / 4, S / 4) to a click in the middle of each object, with the objects' classes."""
        seen = [number for number, mask in enumerate(labels.masks) if mask.any()][:MOST]
        if not seen:
            return []
        embedded = encoding.embeddings(self._samples, [Laid(item)], check)
        check()
        device = embedded.device
        clicks = torch.tensor([pole(labels.masks[number]) for number in seen], dtype=torch.float32, device=device)
        points, kinds = clicks[:, None], torch.ones(len(seen), 1, dtype=torch.int64, device=device)
        size = (4 * embedded.shape[2], 4 * embedded.shape[3])
        planes = None
        if encoding.model.card.click_bumps:
            planes = draw_prompts(size, points, kinds, None, None, embedded.expand(len(seen), -1, -1, -1))
        with torch.no_grad():
            logits, predicted = decode_batch(encoding.model.network, embedded, points, kinds, None, planes)
        best = predicted[:, 1:].argmax(dim=1)
        masks = (logits[torch.arange(len(seen), device=device), 1 + best] > 0).cpu().numpy()
        return [(mask, int(labels.labels[number])) for mask, number in zip(masks, seen, strict=True)]

    def _mapped(self, item: CropSample, encoding: Encoding, check: Callable[[], None]) -> list[tuple[Mask, int]]:
        """Return what the head finds, with its class; masks of a quarter of the crop's side, or of all of it."""
        if encoding.adapter is None:
            return []
        head = head_of(encoding.adapter)
        with torch.no_grad(), encoding.features(self._samples, [Laid(item)], check) as features:
            if isinstance(head, SemanticHead):
                classes = class_map(head(features), (item.crop.size, item.crop.size)).classes[0].cpu().numpy()
                return [(classes == place + 1, place) for place in range(len(self._samples.dataset.classes))]
            if not isinstance(head, Instances):
                return []
            bumps = FindOptions(bumps=encoding.model.card.click_bumps)
            found = find(encoding.model.network, head, features, bumps)[0]
        masks: NDArray[np.bool_] = (found.logits > 0).cpu().numpy()
        return list(zip(masks, found.classes.cpu().tolist(), strict=True))


def _whole(mask: Mask, side: int) -> Mask:
    """Return a mask at the crop's own side, where it is of a part of that."""
    times = side // len(mask)
    return np.asarray(mask.repeat(times, axis=0).repeat(times, axis=1), np.bool_)
