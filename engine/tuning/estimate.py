"""What a run is going to take, from a few real steps done before it: time and memory."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from ...models.heads.contract import HeadConfig
from ...models.peft.contract import count
from ..memory import resident_bytes
from ..model_service import ModelService
from ..progress import Progress
from ..tune_messages import Parting
from .distil_run import keeping
from .embedding_cache import DEFAULT_BYTES
from .encoding import EMBEDDED, Encoding, Laid
from .folds import part_settings, without
from .loop import CHECKED, Trainer
from .mixing import fit, mixing_of
from .prepare import Prepared, prepared
from .result import Estimate
from .settings import Task, TuneSettings
from .split import folds

_TIMED = 3
_MIXED = 8
_POLL = 0.005
_UNITS = 3
_FILE_BYTES = 16_384
"""Of an adapter's file besides its tensors: the card."""

_CHECKPOINTS = 8
"""Times the adapter's tensors in a checkpoint: they, the best ones, two moments; the old file and the new one."""

_GROWTH = 1.6
"""On the processor every number of objects and prompts leaves behind pieces of memory of its own: measured 1.3 to 1.8
times what the first steps take."""


@dataclass
class _Peak:
    """The most memory that was in use: of the process, or of the GPU."""

    bytes: int = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[_Peak]:
    """Watch the memory while the context lasts: CUDA's own count, or the process's size every few milliseconds."""
    peak = _Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = int(torch.cuda.max_memory_reserved(device))
        return
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak.bytes = max(peak.bytes, resident_bytes())
            done.wait(_POLL)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def estimate(settings: TuneSettings, models: ModelService, progress: Progress) -> Estimate:
    """Say what a run would take, by preparing a little of it and timing real steps (some seconds).

    Args:
        settings: the run.
        models: gives the base, on the device to train on.
        progress: asked whether to stop.

    Raises:
        SamTuneError: the data cannot be used, or not even the smallest step fits into memory.
        CancelledByUser: from ``progress.check``.
    """
    started = time.monotonic()
    with prepared(settings, models, progress) as ready:
        reading = time.monotonic() - started
        progress.report(-1.0, "Timing a few steps")
        before = resident_bytes()
        with peak_memory(ready.model.device) as peak:
            timed = _timed(ready, progress.check)
        return _concluded(ready, timed, reading, _grown(before, peak.bytes, ready.model.device))


def _grown(before: int, peak: int, device: torch.device) -> int:
    """Return what a peak in the first steps comes to in a long run; a GPU's allocator tells it at once."""
    return peak if device.type == "cuda" else before + round(_GROWTH * max(peak - before, 0))


@dataclass(frozen=True)
class _Timed:
    """Seconds: of encoding a crop, of a step on kept embeddings (or of a whole one), and of measuring a unit."""

    encode: float
    step: float
    unit: float
    notes: tuple[str, ...]


def _timed(ready: Prepared, check: Callable[[], None]) -> _Timed:
    settings = ready.settings
    base = Encoding(ready.model, None, ready.cache, amp=settings.amp)
    encode = _encoding_time(ready, base, check)  # before anything is attached
    ready.adapter.attach(ready.model.network)
    tuned = Encoding(ready.model, ready.adapter, ready.cache, amp=settings.amp)
    # Without a head there is no map, and nothing to be timed.
    unit = _unit_time(ready, base if settings.task is Task.PROMPTABLE and tuned.frozen else tuned, check)
    with TemporaryDirectory() as folder:
        added = keeping(ready, check)
        trainer = Trainer(settings, tuned, ready.adapter, ready.objective, None, Path(folder), "", added=added)
        seconds = _mixing_times(ready, tuned, check) if mixing_of(ready.adapter) and added is None else []
        for _ in range(0 if seconds else _TIMED):
            check()
            _encode_ahead(trainer, tuned, ready, check)
            begun = time.monotonic()
            trainer.step(check)
            seconds.append(time.monotonic() - begun)
            trainer.state.step += 1
    # The first step pays for what happens once; its share is small in a real run.
    return _Timed(encode, float(np.median(seconds[1:])), unit, tuple(trainer.notes))


def _mixing_times(ready: Prepared, tuned: Encoding, check: Callable[[], None]) -> list[float]:
    """Return how long a few steps of mixing masks take."""
    settings = dataclasses.replace(ready.settings, schedule=dataclasses.replace(ready.settings.schedule, steps=_MIXED))
    times: list[float] = []

    def each(_step: int, _loss: float) -> None:
        times.append(time.monotonic())
        check()

    fit(settings, tuned, ready.adapter, ready.objective, check, each)
    return np.diff(times).tolist()


def _encoding_time(ready: Prepared, base: Encoding, check: Callable[[], None]) -> float:
    items = ready.train.items
    seconds = []
    for way in range(2):
        begun = time.monotonic()
        base.kept(ready.train, Laid(items[0], way), check)
        seconds.append(time.monotonic() - begun)
    return min(seconds)


def _unit_time(ready: Prepared, base: Encoding, check: Callable[[], None]) -> float:
    examiner = ready.examiner
    if _parts(ready):
        examiner = without(ready, folds(ready.dataset, ready.settings.seed)[0], check).examiner
    if examiner is None:
        return 0.0
    examiner.examine(base, check, 1)
    begun = time.monotonic()
    exam = examiner.examine(base, check, _UNITS)
    return (time.monotonic() - begun) / max(exam.units, 1)


def _encode_ahead(trainer: Trainer, tuned: Encoding, ready: Prepared, check: Callable[[], None]) -> None:
    """Make what a step finds kept but for the first time: that is told by itself."""
    if not _keeps(ready):
        return
    made = tuned.kept if ready.settings.task is Task.PROMPTABLE else tuned.kept_features
    for work in trainer.works(trainer.state.step, trainer.settings.schedule.batch):
        made(ready.train, work.laid, check)


def _keeps(ready: Prepared) -> bool:
    """Say whether what the encoder makes of a crop is made once."""
    prompted = ready.settings.task is Task.PROMPTABLE
    return not ready.adapter.tunes_encoder and (prompted or ready.settings.second is None)


def _concluded(ready: Prepared, timed: _Timed, reading: float, peak: int) -> Estimate:
    schedule = ready.settings.schedule
    # Mixing sees every crop once, as it lies.
    ways = (1 if mixing_of(ready.adapter) else schedule.ways) * len(ready.train.items)
    trainings = 1 + _parts(ready)
    draws = trainings * schedule.steps * schedule.batch
    # Crops are drawn with their lay by chance, so some come twice: that many different ones are encoded.
    crops = ways * (1 - (1 - 1 / ways) ** draws) if _keeps(ready) else 0.0
    size = 2 * _channels(ready) * (ready.dataset.size // 16) ** 2
    written = sum(value.nbytes for value in ready.adapter.state_dict().values())
    disk = max(0, round(crops) * size - DEFAULT_BYTES) + _CHECKPOINTS * written
    kept = sum(samples.most_kept() for samples in (ready.train, ready.held_out) if samples is not None)
    on_host = min(round(crops) * size, DEFAULT_BYTES) + kept
    # What is kept lies in the machine's memory; of a GPU's the step alone is told.
    memory = peak if ready.model.device.type == "cuda" else peak + on_host
    return Estimate(
        seconds=reading + crops * timed.encode + trainings * schedule.steps * timed.step + _units(ready) * timed.unit,
        per_step=timed.step,
        preparing=reading,
        memory=memory,
        available=available_bytes(ready.model.device),
        disk=disk,
        trainable=count(value for _, value in ready.adapter.trainable_parameters()),
        notes=(*ready.notes, *timed.notes),
        file_bytes=_FILE_BYTES + written,
    )


def _channels(ready: Prepared) -> int:
    """Return how many channels are kept of a crop: of the embedding, and of the blocks that the head looks at."""
    sam = ready.model.network
    tokens = int(sam.image_encoder.blocks[0].norm1.normalized_shape[0])
    heads = [config for config in ready.adapter.configs if isinstance(config, HeadConfig)]
    return EMBEDDED + tokens * len({block for head in heads for block in head.collect(sam)})


def _parts(ready: Prepared) -> int:
    """Return how many trainings there are besides the last one, each without a part of the ground."""
    each = ready.parted.parting is Parting.EACH_BLOCK
    return len(folds(ready.dataset, ready.settings.seed)) if each else 0


def _units(ready: Prepared) -> int:
    """Return how often an object (or a crop, for maps) is measured."""
    prompted = ready.settings.task is Task.PROMPTABLE
    by_base = 1 if prompted else 0  # which draws no maps
    if _parts(ready):
        whole = len(ready.dataset.objects) if prompted else len(ready.train.items)
        return (by_base + part_settings(ready.settings).schedule.checks) * whole
    if ready.held_out is None:
        return 0
    whole = len(ready.parted.held_out) if prompted else len(ready.held_out.items)
    return (by_base + 1) * whole + ready.settings.schedule.checks * min(whole, CHECKED)


def available_bytes(device: torch.device) -> int:
    """Return how much memory a device has left for this process, what it holds already included; 0 where unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + int(torch.cuda.memory_reserved(device))
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 + resident_bytes() if found else 0
