"""Everything a run needs before its first step: data, split, adapter, task and measure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ...models.card import JsonValue
from ...models.heads.contract import HeadConfig
from ...models.heads.instances import InstancesConfig
from ...models.heads.mfnet import MfnetHeadConfig
from ...models.heads.semantic import SemanticConfig
from ...models.loading import build
from ...models.peft.adapter import Adapter
from ...models.peft.contract import MethodConfig, Scope, TuningError
from ...models.promptable import PromptableModel
from .. import raster_facts as facts
from ..model_service import ModelService
from ..progress import Check, Progress, never_stops
from .dataset import Dataset, load_dataset
from .embedding_cache import EmbeddingCache
from .exam import Examiner
from .exam_found import FoundExaminer
from .exam_maps import ClassExaminer
from .exam_prompts import PromptExaminer
from .mapping import FindAll, Semantic
from .promptable import Promptable
from .reading import GroundReader
from .samples import Samples
from .settings import Bands, Task, TuneSettings
from .split import Split, split
from .task import Objective

PROMPTS = {"cuda": 8, "mps": 8, "cpu": 6}
OBJECTS = {"cuda": 25, "mps": 10, "cpu": 5}
"""Prompts of an object, and objects of a crop, in a step: micro-sam's, fewer where there is less power."""

_SMALL_OBJECT = 24.0
"""Input pixels; objects of this size and below are found on finer maps."""

_WITHOUT_EXTENT = (
    "Without an extent, what lies around an object, up to half its size, counts as none of the classes. Draw "
    "everything there, or say by an extent where everything is drawn."
)
_SAMPLES_ONLY = (
    "Without an extent, only the inside of polygons is learnt from, and a map gives every pixel one of their classes. "
    "Draw other ground as a class of its own, or everything within an extent."
)

_MOVABLE = ("output", "folder", "command", "notes")


@dataclass
class Prepared:
    """A run that is ready to begin.

    Attributes:
        settings: the run.
        model: the base, with weights shared but modules of its own, so that others may use theirs meanwhile.
        dataset: the labelled ground.
        parted: who learns and who measures.
        train: the crops to learn from.
        held_out: the crops to measure on; None without a hold-out.
        adapter: not attached yet.
        objective: what it is taught.
        examiner: measures; None without a hold-out.
        cache: of embeddings.
        reader: the open rasters.
        notes: what the user should know, as sentences.
    """

    settings: TuneSettings
    model: PromptableModel
    dataset: Dataset
    parted: Split
    train: Samples
    held_out: Samples | None
    adapter: Adapter
    objective: Objective
    examiner: Examiner | None
    cache: EmbeddingCache
    reader: GroundReader
    notes: list[str] = field(default_factory=list)

    def key(self) -> str:
        """Return a hash of all that decides what is learnt: settings, files, base."""
        settings = self.settings
        values = {name: value for name, value in settings.to_json().items() if name not in _MOVABLE}
        stamps = facts.stamps(files_of(settings))
        known: dict[str, JsonValue] = {"settings": values, "base": self.model.card.sha256}
        text = json.dumps([known, [list(stamp) for stamp in stamps]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def prepared(
    settings: TuneSettings,
    models: ModelService,
    progress: Progress,
    parted: Callable[[Dataset], Split] | None = None,
) -> Iterator[Prepared]:
    """Read the data and build the adapter; files are closed and the adapter is detached when the context ends.

    Args:
        settings: the run.
        models: gives the base.
        progress: told what is being done; may stop the work.
        parted: parts the objects; None for blocks of ground by the settings.

    Raises:
        SamTuneError: the data, the model or a method cannot be used.
    """
    settings, idle = used(settings)
    progress.report(-1.0, "Reading the labels")
    loaded = models.get(settings.model, progress)
    progress.check()
    reader = GroundReader(settings)
    with EmbeddingCache(folder=settings.work_folder) as cache:
        adapter: Adapter | None = None
        try:
            dataset = load_dataset(settings, reader, loaded.card.input_size, progress.check)
            sides = (parted or _by_blocks(settings, progress.check))(dataset)
            model = own_copy(loaded)
            configs = completed(settings, dataset, reader.channels)
            progress.check()
            torch.manual_seed(settings.seed)
            adapter = Adapter(model.network, configs)
            ready = assembled(settings, model, dataset, sides, adapter, cache, reader, progress.check)
            ready.train.refuse_nothing(progress.check)
            ready.notes.extend(idle)
            yield ready
        finally:
            if adapter is not None:
                adapter.detach()
            reader.close()


def _by_blocks(settings: TuneSettings, check: Check) -> Callable[[Dataset], Split]:
    return lambda dataset: split(dataset, settings.hold_out, settings.seed, check)


def assembled(
    settings: TuneSettings,
    model: PromptableModel,
    dataset: Dataset,
    sides: Split,
    adapter: Adapter,
    cache: EmbeddingCache,
    reader: GroundReader,
    check: Check = never_stops,
) -> Prepared:
    """Put a run together from what was read.

    Args:
        settings: the run.
        model: the base.
        dataset: the labelled ground.
        sides: who learns and who measures.
        adapter: not attached yet.
        cache: of embeddings.
        reader: the open rasters.
        check: called for every object and crop; may raise to stop.

    Raises:
        TuningError: nothing is large enough to learn from.
    """
    maps = settings.task is not Task.PROMPTABLE
    train = Samples(dataset, sides, reader, held_out=False, maps=maps, check=check)
    if not any(item.targets or maps for item in train.items):
        raise TuningError("No object is large enough to learn from. Choose a finer level, or draw larger objects.")
    held = None
    if sides.held_out:
        held = Samples(dataset, sides, reader, held_out=True, maps=maps, check=check)
    objective = _objective(settings, model, dataset, train)
    examiner = None if held is None else _examiner(settings, model, held, sides)
    notes = [*dataset.notes, *sides.notes]
    if maps and any(config.scope is Scope.DECODER for config in adapter.configs):
        notes.append("The mask decoder learns nothing from maps; tune it with the head promptable.")
    if maps and not dataset.extents:
        notes.append(_WITHOUT_EXTENT if dataset.around else _SAMPLES_ONLY)
    return Prepared(settings, model, dataset, sides, train, held, adapter, objective, examiner, cache, reader, notes)


def _objective(settings: TuneSettings, model: PromptableModel, dataset: Dataset, train: Samples) -> Objective:
    if settings.task is Task.SEMANTIC:
        return Semantic(train, len(dataset.classes) + 1)
    if settings.task is Task.INSTANCES:
        return FindAll(train, len(dataset.classes))
    kind = model.device.type
    prompts = settings.schedule.prompts or PROMPTS.get(kind, PROMPTS["cpu"])
    objects = settings.schedule.objects or OBJECTS.get(kind, OBJECTS["cpu"])
    return Promptable(train, prompts, objects, bumps=model.card.click_bumps, amp=settings.amp)


def _examiner(settings: TuneSettings, model: PromptableModel, held: Samples, sides: Split) -> Examiner:
    if settings.task is Task.SEMANTIC:
        return ClassExaminer(held, held.dataset.classes)
    if settings.task is Task.INSTANCES:
        return FoundExaminer(held, bumps=model.card.click_bumps)
    return PromptExaminer(held, sides.held_out, settings.seed)


def completed(settings: TuneSettings, dataset: Dataset, channels: int) -> tuple[MethodConfig, ...]:
    """Fill in what methods cannot know before the data is read: numbers of bands and classes; and the head.

    Args:
        settings: the run.
        dataset: its ground.
        channels: how many further bands and indices there are.

    Raises:
        TuningError: a method wants bands and there are none.
    """
    found = [_with_channels(config, channels) for config in settings.methods]
    if settings.task is Task.PROMPTABLE:
        return tuple(found)
    classes = len(dataset.classes) + (settings.task is Task.SEMANTIC)
    heads = [place for place, config in enumerate(found) if isinstance(config, HeadConfig)]
    if not heads:
        found.append(SemanticConfig() if settings.task is Task.SEMANTIC else InstancesConfig(stride=_stride(dataset)))
        heads = [len(found) - 1]
    for place in heads:
        head = found[place]
        if isinstance(head, SemanticConfig | InstancesConfig | MfnetHeadConfig):
            found[place] = dataclasses.replace(head, classes=classes)
    return tuple(found)


def used(settings: TuneSettings) -> tuple[TuneSettings, list[str]]:
    """Leave out inputs that no method takes: an adapter that recorded them would ask for them in use.

    Args:
        settings: the run.

    Returns:
        The settings without them, and sentences that say so.
    """
    idle = []
    if settings.wants_bands and not any(_takes_channels(config) for config in settings.methods):
        settings = dataclasses.replace(settings, bands=Bands.RGB, indices=())
        idle.append("None of the methods takes further bands, so they were left out; band_stem and patch_embed do.")
    encodes = settings.task is not Task.PROMPTABLE or any(c.scope is Scope.ENCODER for c in settings.methods)
    if settings.second is not None and not encodes:
        settings = dataclasses.replace(settings, second=None)
        idle.append("None of the methods takes a second raster, so it was left out; mm_adapter and mm_lora do.")
    return settings, idle


def _takes_channels(config: MethodConfig) -> bool:
    return any(item.name == "channels" for item in dataclasses.fields(config))


def _with_channels(config: MethodConfig, channels: int) -> MethodConfig:
    if not _takes_channels(config):
        return config
    if not channels:
        raise TuningError(f"The method {config.method} takes further bands: say which, for example all of them.")
    changed: MethodConfig = dataclasses.replace(config, channels=channels)  # type: ignore[call-arg]
    return changed


def _stride(dataset: Dataset) -> int:
    scale = 2.0 ** dataset.common_level()
    return 4 if float(np.median([item.extent / scale for item in dataset.objects])) <= _SMALL_OBJECT else 8


def own_copy(model: PromptableModel) -> PromptableModel:
    """Return a model with the same weights, not copied, but modules of its own.

    What is attached to it is not attached to the original, which stays in use for clicks meanwhile.

    Args:
        model: a loaded model.
    """
    with model.using(None):
        state = dict(model.network.state_dict())
    with torch.device("meta"):
        network = build(model.card.architecture)
    network.load_state_dict(state, strict=True, assign=True)
    return PromptableModel(model.card, network.requires_grad_(requires_grad=False).eval(), model.device)


def files_of(settings: TuneSettings) -> tuple[Path, ...]:
    """Return the files that a run reads."""
    found = (*settings.rasters, settings.labels.path, settings.second, settings.extent, settings.previous)
    return tuple(path for path in found if path is not None)
