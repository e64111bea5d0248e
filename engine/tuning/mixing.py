"""The instant way to learn: how the model's three masks are mixed, from masks that are computed once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ...models.peft.adapter import Adapter
from ...models.peft.persam import MaskMix, MaskMixConfig, MixExample, fit_mask_mix
from ..pretrain.sampling import first_click, quarter_share
from .draws import Draw
from .encoding import Encoding, Laid
from .promptable import Promptable
from .settings import TuneSettings
from .task import Objective

_CLICKS = 2
"""In every object, each at another place of it: of one, its middle, a mixture learns too little."""

_REACH = 0.5
"""How far the weights can get from thirds: half of the number of steps times the rate (the schedule is a cosine)."""


def mixing_of(adapter: Adapter) -> MaskMix | None:
    """Return the mixing that is all that an adapter tunes; None for any other."""
    parts = list(adapter.parts.values())
    if len(parts) == 1 and isinstance(parts[0].config, MaskMixConfig) and isinstance(parts[0], MaskMix):
        return parts[0]
    return None


def fit(
    settings: TuneSettings,
    encoding: Encoding,
    adapter: Adapter,
    objective: Objective,
    check: Callable[[], None],
    each: Callable[[int, float], None],
) -> None:
    """Learn the mixing of an adapter that is nothing else. Stopped, it is left as it was.

    Args:
        settings: the run; its steps and rate count.
        encoding: of the model, with the adapter attached; it is again when this ends.
        adapter: see :func:`mixing_of`.
        objective: with the objects to learn from.
        check: called between crops; may raise to stop.
        each: called with the number of every step done, and its loss; may raise to stop.
    """
    part = mixing_of(adapter)
    if part is None or not isinstance(objective, Promptable):
        return
    found = examples(settings, encoding, objective, check)
    steps = settings.schedule.steps
    rate = settings.schedule.rate or 2 * _REACH / steps
    begun = part.shift.detach().clone()
    network = encoding.model.network
    adapter.detach()
    try:
        bumps = encoding.model.card.click_bumps
        fit_mask_mix(network, part, found, bumps=bumps, steps=steps, rate=rate, each=each, check=check)
    except BaseException:
        with torch.no_grad():
            part.shift.copy_(begun)
        raise
    finally:
        adapter.attach(network)


def examples(
    settings: TuneSettings, encoding: Encoding, objective: Promptable, check: Callable[[], None]
) -> list[MixExample]:
    """Return the objects to learn from, crop by crop, each with several clicks.

    Args:
        settings: the run, whose seed decides where the clicks are.
        encoding: of the model.
        objective: with the objects.
        check: called between crops; may raise to stop.
    """
    samples, device = objective.samples, encoding.model.device
    found = []
    for item, members in objective.by_crop().items():
        labels = samples.labels(item, check)
        points, targets = [], []
        for number in members:
            check()
            inside = labels.masks[item.targets.index(number)] & labels.known
            if not inside.any():
                continue
            share = quarter_share(inside[None])[0]
            rng = np.random.default_rng([settings.seed, Draw.WORK, number])
            points += [first_click(inside, share, rng) for _ in range(_CLICKS)]
            targets += [share] * _CLICKS
        if not points:
            continue
        side = len(labels.known) // 4
        known = labels.known.reshape(side, 4, side, 4).all(axis=(1, 3))
        found.append(
            MixExample(
                encoding.embeddings(samples, [Laid(item)], check)[0],
                torch.tensor(points, dtype=torch.float32, device=device),
                torch.from_numpy(np.stack(targets)).to(device),
                torch.from_numpy(known).to(device),
            )
        )
    return found
