"""What the engine process answers: each method of the wire joined to the service behind it.

Importing this module is cheap; :func:`build` imports torch and rasterio.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from ..models.errors import ProtocolError
from .area_messages import CompareParams, FindParams, MapParams, SuggestParams
from .batch_messages import BatchRunParams, BatchStatusParams, EstimateParams
from .change_messages import ChangeParams
from .messages import (
    AddAdapterParams,
    CheckAdapterParams,
    Done,
    DownloadParams,
    EngineInfo,
    EngineSettings,
    ImportParams,
    Method,
    ModelList,
    NoParams,
    PrepareParams,
    RasterSpec,
    SegmentParams,
    WarmUpParams,
)
from .progress import Progress
from .server import Handler, Handlers
from .tune_messages import (
    ControlParams,
    DescribeAdapterParams,
    InspectParams,
    KeepAdapterParams,
    PlanParams,
    TuneRunParams,
    WatchParams,
)

ParamsT = TypeVar("ParamsT")

_log = logging.getLogger(__name__)


def build(settings: EngineSettings, progress: Progress, log_file: str = "") -> Handlers:
    """Load the libraries and make the services.

    Args:
        settings: from the handshake.
        progress: told what is being loaded; may stop it.
        log_file: for the engine's description of itself.

    Raises:
        DeviceError: the chosen device is absent.
        StoreError: the folder chosen for the store cannot be used.
        CancelledByUser: from ``progress.check``.
    """
    progress.report(0.0, "Loading PyTorch")
    import torch

    progress.check()
    progress.report(0.6, "Loading the raster library")
    from .about import Places, engine_info
    from .adapter_compare import Comparing
    from .adapter_requests import AdapterRequests
    from .adapters import AdapterService
    from .areas.service import AreaService
    from .batch.items import Machine
    from .batch.service import BatchService
    from .change.service import ChangeService
    from .device import apply_threads, choose, give_way
    from .model_service import ModelService
    from .paths import chosen, default_folders
    from .segmenter import Segmenter
    from .store import open_store
    from .tune_service import TuneService

    progress.check()
    progress.report(0.9, "Choosing the device")
    device = choose(settings.device, settings.threads)
    apply_threads(device.threads)
    if settings.background:
        give_way()
    folders = default_folders()
    places = Places(chosen(settings.models_dir, folders.models), chosen(settings.store_dir, folders.store), log_file)
    models = ModelService(places.models, device)
    store = open_store(settings.store_dir, folders.store, settings.store_bytes)
    loaded = AdapterService()
    segmenter = Segmenter(models, store, loaded)
    machine = Machine(str(places.models), str(places.store), settings.device, settings.threads, settings.store_bytes)
    batch = BatchService(machine, models, segmenter)
    adapters = AdapterRequests(models, loaded, segmenter.open)
    changes = ChangeService(models)
    areas = AreaService(models, store, loaded)
    tuning = TuneService(models)
    comparing = Comparing(models, loaded)
    _log.info("torch %s on %s, %d threads: %s", torch.__version__, device.name, device.threads, device.reason)

    def info(_params: NoParams, _progress: Progress) -> EngineInfo:
        return engine_info(device, places, (store.warning,) if store.warning else ())

    def list_models(_params: NoParams, _progress: Progress) -> ModelList:
        return models.info()

    def warm_up(params: WarmUpParams, listener: Progress) -> Done:
        return models.warm_up(params.model, listener)

    def clear_store(_params: NoParams, _progress: Progress) -> Done:
        segmenter.forget()
        freed = store.clear()
        return Done(f"{freed / 1e6:.0f} MB of disk space are free again.")

    return {
        Method.INFO: _typed(NoParams, info),
        Method.MODELS: _typed(NoParams, list_models),
        Method.DOWNLOAD: _typed(DownloadParams, models.download),
        Method.IMPORT: _typed(ImportParams, models.import_file),
        Method.WARM_UP: _typed(WarmUpParams, warm_up),
        Method.OPEN: _typed(RasterSpec, segmenter.open),
        Method.PREPARE: _typed(PrepareParams, segmenter.prepare),
        Method.SEGMENT: _typed(SegmentParams, segmenter.segment),
        Method.CLEAR_STORE: _typed(NoParams, clear_store),
        Method.CHECK_ADAPTER: _typed(CheckAdapterParams, adapters.check),
        Method.ADD_ADAPTER: _typed(AddAdapterParams, adapters.add),
        Method.CHANGE: _typed(ChangeParams, changes.detect),
        Method.FIND: _typed(FindParams, areas.find),
        Method.MAP: _typed(MapParams, areas.map),
        Method.SUGGEST: _typed(SuggestParams, areas.suggest),
        Method.TUNE_INSPECT: _typed(InspectParams, tuning.inspect),
        Method.TUNE_PLAN: _typed(PlanParams, tuning.plan),
        Method.TUNE_RUN: _typed(TuneRunParams, tuning.run),
        Method.TUNE_WATCH: _typed(WatchParams, tuning.watch),
        Method.TUNE_CONTROL: _typed(ControlParams, tuning.control),
        Method.KEEP_ADAPTER: _typed(KeepAdapterParams, adapters.keep),
        Method.DESCRIBE_ADAPTER: _typed(DescribeAdapterParams, adapters.describe),
        Method.COMPARE_ADAPTERS: _typed(CompareParams, comparing.compare),
        Method.BATCH_ESTIMATE: _typed(EstimateParams, batch.estimate),
        Method.BATCH_RUN: _typed(BatchRunParams, batch.run),
        Method.BATCH_STATUS: _typed(BatchStatusParams, batch.status),
    }


def _typed(expected: type[ParamsT], function: Callable[[ParamsT, Progress], object]) -> Handler:
    def handle(params: object, progress: Progress) -> object:
        if not isinstance(params, expected):
            raise ProtocolError("The SamTune engine was asked in a way it does not know.", f"{expected}: {params!r}")
        return function(params, progress)

    return handle
