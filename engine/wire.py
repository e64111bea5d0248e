"""What each request takes and gives, and how messages become JSON and come back. Standard library only, Python 3.9.

The messages themselves: :mod:`.messages` (rasters, clicks, models), :mod:`.tune_messages`, :mod:`.area_messages`,
:mod:`.batch_messages`, :mod:`.change_messages`.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from ..models.errors import ProtocolError
from .area_messages import (
    CompareParams,
    CompareResult,
    FindParams,
    FindResult,
    MapParams,
    MapResult,
    SuggestParams,
    SuggestResult,
)
from .batch_messages import (
    BatchEstimate,
    BatchResult,
    BatchRunParams,
    BatchStatus,
    BatchStatusParams,
    EstimateParams,
)
from .change_messages import ChangeParams, ChangeResult
from .messages import (
    AdapterReport,
    AddAdapterParams,
    CheckAdapterParams,
    DeadlineClass,
    Done,
    DownloadParams,
    EngineInfo,
    ImportParams,
    InitializeParams,
    Method,
    ModelInfo,
    ModelList,
    NoParams,
    PrepareParams,
    PrepareResult,
    RasterInfo,
    RasterSpec,
    SegmentParams,
    SegmentResult,
    WarmUpParams,
)
from .tune_messages import (
    ControlParams,
    DescribeAdapterParams,
    Inspection,
    InspectParams,
    KeepAdapterParams,
    PlanParams,
    TunePlan,
    TuneReport,
    TuneRunParams,
    TuneWatch,
    WatchParams,
)

MessageT = TypeVar("MessageT")


@dataclass(frozen=True)
class RequestType:
    """What belongs to a request's name."""

    params: type
    result: type
    deadline: DeadlineClass


REQUESTS: dict[Method, RequestType] = {
    Method.INITIALIZE: RequestType(InitializeParams, EngineInfo, DeadlineClass.LONG),
    Method.INFO: RequestType(NoParams, EngineInfo, DeadlineClass.INTERACTIVE),
    Method.MODELS: RequestType(NoParams, ModelList, DeadlineClass.INTERACTIVE),
    Method.DOWNLOAD: RequestType(DownloadParams, ModelInfo, DeadlineClass.LONG),
    Method.IMPORT: RequestType(ImportParams, ModelInfo, DeadlineClass.LONG),
    Method.WARM_UP: RequestType(WarmUpParams, Done, DeadlineClass.LONG),
    Method.OPEN: RequestType(RasterSpec, RasterInfo, DeadlineClass.LONG),
    Method.PREPARE: RequestType(PrepareParams, PrepareResult, DeadlineClass.LONG),
    Method.SEGMENT: RequestType(SegmentParams, SegmentResult, DeadlineClass.LONG),
    Method.CLEAR_STORE: RequestType(NoParams, Done, DeadlineClass.LONG),
    Method.CHECK_ADAPTER: RequestType(CheckAdapterParams, AdapterReport, DeadlineClass.LONG),
    Method.ADD_ADAPTER: RequestType(AddAdapterParams, AdapterReport, DeadlineClass.LONG),
    Method.KEEP_ADAPTER: RequestType(KeepAdapterParams, AdapterReport, DeadlineClass.LONG),
    Method.DESCRIBE_ADAPTER: RequestType(DescribeAdapterParams, AdapterReport, DeadlineClass.LONG),
    Method.COMPARE_ADAPTERS: RequestType(CompareParams, CompareResult, DeadlineClass.LONG),
    Method.TUNE_INSPECT: RequestType(InspectParams, Inspection, DeadlineClass.LONG),
    Method.TUNE_PLAN: RequestType(PlanParams, TunePlan, DeadlineClass.LONG),
    Method.TUNE_RUN: RequestType(TuneRunParams, TuneReport, DeadlineClass.LONG),
    Method.TUNE_WATCH: RequestType(WatchParams, TuneWatch, DeadlineClass.INTERACTIVE),
    Method.TUNE_CONTROL: RequestType(ControlParams, Done, DeadlineClass.INTERACTIVE),
    Method.FIND: RequestType(FindParams, FindResult, DeadlineClass.LONG),
    Method.MAP: RequestType(MapParams, MapResult, DeadlineClass.LONG),
    Method.SUGGEST: RequestType(SuggestParams, SuggestResult, DeadlineClass.LONG),
    Method.BATCH_ESTIMATE: RequestType(EstimateParams, BatchEstimate, DeadlineClass.LONG),
    Method.BATCH_RUN: RequestType(BatchRunParams, BatchResult, DeadlineClass.LONG),
    Method.BATCH_STATUS: RequestType(BatchStatusParams, BatchStatus, DeadlineClass.INTERACTIVE),
    Method.CHANGE: RequestType(ChangeParams, ChangeResult, DeadlineClass.LONG),
}


def to_wire(message: object) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """Turn a message dataclass into what :func:`json.dumps` takes.

    Args:
        message: a dataclass instance of this module, or a value found in one.

    Returns:
        Dicts, lists, strings, numbers, booleans and None only.
    """
    if dataclasses.is_dataclass(message) and not isinstance(message, type):
        return {field.name: to_wire(getattr(message, field.name)) for field in dataclasses.fields(message)}
    if isinstance(message, Enum):
        return message.value
    if isinstance(message, (tuple, list)):
        return [to_wire(item) for item in message]
    if isinstance(message, dict):
        return {str(key): to_wire(value) for key, value in message.items()}
    return message


def from_wire(expected: type[MessageT], value: object) -> MessageT:
    """Build a message from parsed JSON, checking every field's type.

    Args:
        expected: the dataclass that the value should be.
        value: what :func:`json.loads` gave.

    Returns:
        The message.

    Raises:
        ProtocolError: a field is missing, unknown or of another type.
    """
    return typing.cast("MessageT", _decode(expected, value, expected.__name__))


def _decode(expected: Any, value: object, where: str) -> object:  # noqa: ANN401 - a type expression
    origin = typing.get_origin(expected)
    if origin is typing.Union:  # Optional[...] is the only kind there is
        return None if value is None else _decode(typing.get_args(expected)[0], value, where)
    if dataclasses.is_dataclass(expected):
        return _decode_dataclass(typing.cast("type", expected), value, where)
    if origin is tuple:
        return _decode_tuple(typing.get_args(expected), value, where)
    if origin is dict and isinstance(value, dict):
        value_type = typing.get_args(expected)[1]
        return {str(key): _decode(value_type, item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(expected, type) and issubclass(expected, Enum):
        try:
            return expected(value)
        except ValueError as error:
            raise _malformed(where, expected, value) from error
    return _decode_plain(expected, value, where)


def _decode_plain(expected: Any, value: object, where: str) -> object:  # noqa: ANN401 - a type expression
    if expected is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    plain = isinstance(expected, type) and not (expected is int and isinstance(value, bool))
    if plain and typing.get_origin(expected) is None and isinstance(value, expected):
        return value
    raise _malformed(where, expected, value)


@functools.cache
def _hints(message: type) -> dict[str, Any]:
    return typing.get_type_hints(message)


def _decode_dataclass(expected: type, value: object, where: str) -> object:
    if not isinstance(value, dict):
        raise _malformed(where, expected, value)
    hints = _hints(expected)
    unknown = set(value) - set(hints)
    if unknown:
        raise _malformed(where, expected, sorted(unknown))
    arguments = {name: _decode(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    try:
        return expected(**arguments)
    except TypeError as error:
        raise _malformed(where, expected, value) from error


def _decode_tuple(item_types: tuple[Any, ...], value: object, where: str) -> tuple[object, ...]:
    if not isinstance(value, (list, tuple)):
        raise _malformed(where, tuple, value)
    if len(item_types) == 2 and item_types[1] is Ellipsis:
        item_types = (item_types[0],) * len(value)
    if len(item_types) != len(value):
        raise _malformed(where, tuple, value)
    pairs = zip(item_types, value)
    return tuple(_decode(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(pairs))


def _malformed(where: str, expected: Any, value: object) -> ProtocolError:  # noqa: ANN401 - a type expression
    return ProtocolError(
        "QGIS and the SamTune engine do not understand each other. Update the engine environment in the settings.",
        f"{where}: expected {expected}, got {value!r}",
    )
