"""The services of the engine process, made and joined. Importing this loads torch and the raster library."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from . import paths
from .about import Places, engine_info
from .adapter_compare import Comparing
from .adapter_requests import AdapterRequests
from .adapters import AdapterService
from .areas.service import AreaService
from .batch.items import Machine
from .batch.service import BatchService
from .change.service import ChangeService
from .device import apply_threads, choose, give_way
from .messages import Done, EngineInfo, EngineSettings, ModelList, NoParams, WarmUpParams
from .model_service import ModelService
from .progress import Progress
from .segmenter import Segmenter
from .store import EmbeddingStore, open_store
from .tune_service import TuneService

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Services:
    """What answers requests; attributes are named after what they are about."""

    places: Places
    models: ModelService
    store: EmbeddingStore
    segmenter: Segmenter
    adapters: AdapterRequests
    comparing: Comparing
    changes: ChangeService
    areas: AreaService
    tuning: TuneService
    batch: BatchService

    def info(self, _params: NoParams, _progress: Progress) -> EngineInfo:
        """Describe the engine."""
        return engine_info(self.models.device, self.places, (self.store.warning,) if self.store.warning else ())

    def list_models(self, _params: NoParams, _progress: Progress) -> ModelList:
        """List the base models."""
        return self.models.info()

    def warm_up(self, params: WarmUpParams, progress: Progress) -> Done:
        """Load a model and run it once."""
        return self.models.warm_up(params.model, progress)

    def clear_store(self, _params: NoParams, _progress: Progress) -> Done:
        """Empty the embedding store."""
        self.segmenter.forget()
        return Done(f"{self.store.clear() / 1e6:.0f} MB of disk space are free again.")


def make_services(settings: EngineSettings, log_file: str) -> Services:
    """Choose the device, and make the services.

    Args:
        settings: from the handshake.
        log_file: for the engine's description of itself.

    Raises:
        DeviceError: the chosen device is absent.
        StoreError: the folder chosen for the store cannot be used.
    """
    gives_way = settings.background and give_way()
    device = choose(settings.device, settings.threads, spare=not gives_way)
    apply_threads(device.threads)
    folders = paths.default_folders()
    places = Places(
        paths.chosen(settings.models_dir, folders.models), paths.chosen(settings.store_dir, folders.store), log_file
    )
    models = ModelService(places.models, device)
    store = open_store(settings.store_dir, folders.store, settings.store_bytes)
    loaded = AdapterService()
    segmenter = Segmenter(models, store, loaded)
    machine = Machine(str(places.models), str(places.store), settings.device, settings.threads, settings.store_bytes)
    _log.info("torch %s on %s, %d threads: %s", torch.__version__, device.name, device.threads, device.reason)
    return Services(
        places,
        models,
        store,
        segmenter,
        AdapterRequests(models, loaded, segmenter.open),
        Comparing(models, loaded),
        ChangeService(models),
        AreaService(models, store, loaded),
        TuneService(models),
        BatchService(machine, models, segmenter),
    )
