"""The work itself, wherever it is done: one process's model, and the stages that units of each raster go through."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from ...models.errors import RasterError
from ..adapters import AdapterService
from ..batch_messages import BatchTask
from ..device import apply_threads, choose
from ..messages import PrepareParams
from ..model_service import ModelService
from ..paths import chosen, default_folders
from ..segmenter import Segmenter
from ..store import open_store
from .items import Feature, Ground, JobHeader, JobRaster, Machine, Unit, UnitResult
from .pipeline import Stages, Work
from .planning import plan_of, tiles_of

KEPT_RASTERS = 4
"""Rasters whose stages are kept: a job goes through them one after the other."""


@dataclass(frozen=True)
class Setup:
    """What every worker of a job needs to know; small, and may travel.

    Attributes:
        header: of the job, paths as they are where the work is done.
        area: to which it is limited.
        machine: folders and device.
    """

    header: JobHeader
    area: Ground = Ground()  # noqa: RUF009 - frozen
    machine: Machine = Machine()  # noqa: RUF009 - frozen


@dataclass(frozen=True)
class Order:
    """A unit to be done.

    Attributes:
        unit: of the job.
        raster: that it is of; ``uri`` is where it lies now.
        features: prompts that belong to it.
    """

    unit: Unit
    raster: JobRaster
    features: tuple[Feature, ...] = ()


class Worker:
    """Does units of one job. Loads the model once."""

    def __init__(self, setup: Setup, models: ModelService | None = None, segmenter: Segmenter | None = None) -> None:
        """Prepare; the model is loaded when it is first needed.

        Args:
            setup: of the job.
            models: a service that is there already; None makes one.
            segmenter: likewise.

        Raises:
            DeviceError: the chosen device is absent.
        """
        machine, folders = setup.machine, default_folders()
        if models is None:
            device = choose(machine.device, machine.threads)
            apply_threads(device.threads)
            models = ModelService(chosen(machine.models_dir, folders.models), device)
        self.setup, self.models, self.adapters = setup, models, AdapterService()
        self._given = segmenter
        self._stages: OrderedDict[JobRaster, Stages] = OrderedDict()
        self._lock = threading.Lock()

    @functools.cached_property
    def segmenter(self) -> Segmenter:
        """The segmenter, with the embedding store of this machine."""
        if self._given is not None:
            return self._given
        machine = self.setup.machine
        store = open_store(machine.store_dir, default_folders().store, machine.store_bytes)
        return Segmenter(self.models, store, self.adapters)

    def work(self, order: Order) -> Work:
        """Take a unit apart into what goes through the stages.

        Args:
            order: the unit.

        Raises:
            SamTuneError: the model or the adapter cannot be loaded.
        """
        try:
            with self._lock:
                stages = self._of(order.raster)
        except RasterError as error:
            return Work(order.unit, Nothing(), [], problem=error.user_text)
        if order.features:
            return Work(order.unit, stages, list(order.features))
        plan = plan_of(self.setup.header, self.setup.area, order.raster, self.input_size, order.unit.coarser)
        return Work(order.unit, stages, list(tiles_of(plan, order.unit)))

    @property
    def input_size(self) -> int:
        """Side of the square that the model sees, pixels."""
        return self.models.get(self.setup.header.spec.model).card.input_size

    def _of(self, raster: JobRaster) -> Stages:
        if raster not in self._stages:
            self._stages[raster] = self._make(raster)
            while len(self._stages) > KEPT_RASTERS:
                self._stages.popitem(last=False)
        return self._stages[raster]

    def _make(self, raster: JobRaster) -> Stages:
        spec = self.setup.header.spec
        if raster.info is None:
            raise RasterError("The raster was not looked at yet. Resume the job.", raster.uri)
        info = replace(raster.info, spec=replace(raster.info.spec, uri=raster.uri))
        if spec.task is BatchTask.PROMPTS:
            from .prompt_stages import PromptStages

            return PromptStages(self.segmenter, self.setup.header, raster, info)
        if spec.task is BatchTask.EMBEDDINGS:
            from .embedding_stages import EmbeddingStages

            params = PrepareParams(info.spec, spec.model, 0, 0, 0, adapter=spec.adapter, second=raster.second)
            return EmbeddingStages(self.segmenter, params)
        from .tile_stages import tile_stages

        return tile_stages(self, replace(raster, info=info))


class Nothing:
    """Stages of a unit whose raster cannot be used."""

    batch = 1

    def read(self, part: object) -> None:
        """Read nothing."""

    def compute(self, parts: list[object]) -> list[object]:
        """Pass on."""
        return parts

    def shape(self, part: object, computed: object) -> object:  # noqa: ARG002 - the interface
        """Pass on."""
        return computed

    def finish(self, unit: Unit, shaped: list[object], skipped: int) -> UnitResult:  # noqa: ARG002 - likewise
        """Give nothing."""
        return UnitResult(unit.number)
