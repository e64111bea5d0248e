"""Keeping what is known, as part of a tuning run: unlabelled crops of its rasters, and the adapter before it.

The two ways to go on after a first task are an adapter of its own for each (the default: nothing can be forgotten), or
to go on with the previous adapter (``TuneSettings.previous``), whose answers on this ground and on exemplars of its
task are then protected. With either, ``TuneSettings.keep_general`` protects what the base knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...models.distillation import DistillationConfig
from ...models.peft.adapter import Adapter
from ...models.peft.adapter_file import load_adapter
from ...models.peft.contract import TuningError
from ..crops import Crop, crop_at
from ..pretrain.sampling import quarter_share
from .distil import Distiller
from .distil_exemplars import Exemplar, choose, read_exemplars, write_exemplars
from .distil_hook import ExtraLoss
from .distil_streams import Unlabelled
from .encoding import Encoding
from .objects import Mask, burn
from .prepare import Prepared
from .reading import CropInputs
from .settings import run_folder

TILES = 32
GENERAL = DistillationConfig(mask=2.0, old=5.0, least_iou=0.6)
"""The starting values of the design kept next to nothing with ``tiny``, which hardly ever expects an IoU of 0.8: see
the table on forgetting in benchmarks/README.md."""
_TRIES = 8
_COVERED = 0.3
_DRAW, _REMEMBER = 71, 72
_MOST_BYTES = 32 * 1024**2

Check = Callable[[], None]


def keeping(ready: Prepared, check: Check) -> ExtraLoss | None:
    """Make the loss that keeps what is known, and begin with the previous adapter's weights where one is named.

    Args:
        ready: the run, before its first step.
        check: called between crops; may raise to stop.

    Returns:
        The loss; None where the settings ask for nothing of the kind.

    Raises:
        TuningError: the previous adapter has other methods, or does not fit the base.
        SamTuneError: there is no ground to keep anything on.
    """
    settings = ready.settings
    if settings.previous is None and not settings.keep_general:
        return None
    previous = None if settings.previous is None else _go_on_from(ready, settings.previous)
    exemplars = () if settings.previous is None else read_exemplars(run_folder(settings.previous))
    tiles = unlabelled(ready, check)
    return Distiller(
        ready.model.network,
        ready.adapter,
        tiles,
        previous=previous,
        exemplars=exemplars,
        config=GENERAL if settings.keep_general else DistillationConfig(feature=0.0, mask=0.0),
        bumps=ready.model.card.click_bumps,
        running_mean=False,
    )


def _go_on_from(ready: Prepared, path: Path) -> Adapter:
    """Give the new adapter the previous one's weights; return the previous one."""
    network = ready.model.network
    attached = ready.adapter.attached
    ready.adapter.detach()
    previous, card = load_adapter(path, network, ready.model.card.sha256)
    if attached:
        ready.adapter.attach(network)
    if previous.configs != ready.adapter.configs:
        names = ", ".join(config.method for config in previous.configs)
        raise TuningError(
            f"The adapter {card.name} was made with other methods or settings ({names}), and a run can only go on with "
            "the same. Choose those, or tune a separate adapter.",
            f"{[c.to_json() for c in previous.configs]} against {[c.to_json() for c in ready.adapter.configs]}",
        )
    form = {name: (value.shape, value.dtype) for name, value in ready.adapter.state_dict().items()}
    tensors = previous.state_dict()
    if form != {name: (value.shape, value.dtype) for name, value in tensors.items()}:
        raise TuningError(
            "An adapter that chooses its weights anew in every run cannot be gone on with. Tune a separate adapter."
        )
    ready.adapter.load_state_dict(tensors)
    return previous


def unlabelled(ready: Prepared, check: Check, most: int = TILES) -> list[Unlabelled]:
    """Read crops at random places of the run's rasters; ground that is held out looks in them as if it had no data.

    Args:
        ready: the run.
        check: called before each crop is read; may raise to stop.
        most: how many at most.
    """
    dataset = ready.dataset
    rng = np.random.default_rng([ready.settings.seed, _DRAW])
    encoding = Encoding(ready.model, ready.adapter, ready.cache, amp=ready.settings.amp)
    hidden = [dataset.to_raster(ready.parted.forbidden, raster) for raster in range(len(dataset.frames))]
    found: dict[tuple[int, Crop], Unlabelled] = {}
    for _ in range(_TRIES * most):
        raster = int(rng.integers(len(dataset.frames)))
        frame = dataset.frames[raster]
        where = (float(rng.uniform(0, frame.width)), float(rng.uniform(0, frame.height)))
        crop = crop_at(frame, dataset.size, dataset.common_level(), where)
        if (raster, crop) in found:
            continue
        check()
        inputs = _without(ready.reader.read(raster, crop, check), burn([hidden[raster]], crop))
        if inputs.valid.mean() < _COVERED:
            continue
        given = encoding.inputs([inputs])
        bands = None if given.side.bands is None else given.side.bands[0].cpu()
        second = given.images[1].cpu() if given.side.streams > 1 else None
        found[raster, crop] = Unlabelled(given.images[0].cpu(), bands, second)
        if len(found) == most:
            break
    return list(found.values())


def _without(inputs: CropInputs, hidden: Mask) -> CropInputs:
    """Take ground out of a crop."""
    if not hidden.any():
        return inputs
    bands, second_valid = inputs.bands, inputs.second_valid
    return replace(
        inputs,
        valid=inputs.valid & ~hidden,
        bands=None if bands is None else np.where(hidden, np.float32(np.nan), bands),
        second_valid=None if second_valid is None else second_valid & ~hidden,
    )


def remember(ready: Prepared, check: Check) -> None:
    """Keep exemplars of what was learnt in the run's folder, so that a later run can protect it.

    Args:
        ready: the run, at its end.
        check: called before each crop is read; may raise to stop.
    """
    encoding = Encoding(ready.model, None, ready.cache, amp=ready.settings.amp)
    samples = ready.train
    rng = np.random.default_rng([ready.settings.seed, _REMEMBER])
    size = ready.dataset.size
    most = max(1, min(TILES, _MOST_BYTES // (3 * size * size)))
    places = [(item, row) for item in samples.items for row in range(len(item.targets))]
    found: list[Exemplar] = []
    for index in rng.permutation(len(places)):
        item, row = places[int(index)]
        check()
        share = quarter_share(samples.labels(item, check).masks[row][None])[0] > 0.5
        if share.any():
            image = encoding.inputs([samples.inputs(item, check)]).images[0].cpu()
            found.append(Exemplar.of(image, share))
        if len(found) == most:
            break
    if found:
        write_exemplars(ready.settings.work_folder, choose(found, rng))
