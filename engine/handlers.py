"""What the engine process answers: each method of the wire joined to the service behind it.

Importing this module is cheap; :func:`build` imports torch and rasterio.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ..models.errors import ProtocolError
from .area_messages import CompareParams, FindParams, MapParams, SuggestParams
from .batch_messages import BatchRunParams, BatchStatusParams, EstimateParams
from .change_messages import ChangeParams
from .messages import (
    AddAdapterParams,
    CheckAdapterParams,
    DownloadParams,
    EngineSettings,
    ImportParams,
    Method,
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

if TYPE_CHECKING:
    from .services import Services

ParamsT = TypeVar("ParamsT")


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
    import torch  # noqa: F401 - takes longest; it is told what is being loaded

    progress.check()
    progress.report(0.6, "Loading the raster library")
    from .services import make_services

    progress.check()
    progress.report(0.9, "Choosing the device")
    return _table(make_services(settings, log_file))


def _table(services: Services) -> Handlers:
    return {
        Method.INFO: _typed(NoParams, services.info),
        Method.MODELS: _typed(NoParams, services.list_models),
        Method.DOWNLOAD: _typed(DownloadParams, services.models.download),
        Method.IMPORT: _typed(ImportParams, services.models.import_file),
        Method.WARM_UP: _typed(WarmUpParams, services.warm_up),
        Method.OPEN: _typed(RasterSpec, services.segmenter.open),
        Method.PREPARE: _typed(PrepareParams, services.segmenter.prepare),
        Method.SEGMENT: _typed(SegmentParams, services.segmenter.segment),
        Method.CLEAR_STORE: _typed(NoParams, services.clear_store),
        Method.CHECK_ADAPTER: _typed(CheckAdapterParams, services.adapters.check),
        Method.ADD_ADAPTER: _typed(AddAdapterParams, services.adapters.add),
        Method.CHANGE: _typed(ChangeParams, services.changes.detect),
        Method.FIND: _typed(FindParams, services.areas.find),
        Method.MAP: _typed(MapParams, services.areas.map),
        Method.SUGGEST: _typed(SuggestParams, services.areas.suggest),
        Method.TUNE_INSPECT: _typed(InspectParams, services.tuning.inspect),
        Method.TUNE_PLAN: _typed(PlanParams, services.tuning.plan),
        Method.TUNE_RUN: _typed(TuneRunParams, services.tuning.run),
        Method.TUNE_WATCH: _typed(WatchParams, services.tuning.watch),
        Method.TUNE_CONTROL: _typed(ControlParams, services.tuning.control),
        Method.KEEP_ADAPTER: _typed(KeepAdapterParams, services.adapters.keep),
        Method.DESCRIBE_ADAPTER: _typed(DescribeAdapterParams, services.adapters.describe),
        Method.COMPARE_ADAPTERS: _typed(CompareParams, services.comparing.compare),
        Method.BATCH_ESTIMATE: _typed(EstimateParams, services.batch.estimate),
        Method.BATCH_RUN: _typed(BatchRunParams, services.batch.run),
        Method.BATCH_STATUS: _typed(BatchStatusParams, services.batch.status),
    }


def _typed(expected: type[ParamsT], function: Callable[[ParamsT, Progress], object]) -> Handler:
    def handle(params: object, progress: Progress) -> object:
        if not isinstance(params, expected):
            raise ProtocolError("The SamTune engine was asked in a way it does not know.", f"{expected}: {params!r}")
        return function(params, progress)

    return handle
