"""Texts and exceptions for what goes wrong between QGIS and the engine process. No Qt."""

from __future__ import annotations

import signal
import sys

from ..engine.messages import CANCELLED_CODE, Failure
from ..engine.wire import from_wire
from ..models.errors import CancelledByUser, ProtocolError, SamTuneError, error_classes

START_TEXT = (
    "The SamTune engine could not be started. Check its Python environment in the settings, or make it anew; "
    "the log has the details."
)
GARBLED_TEXT = (
    "The connection between QGIS and the SamTune engine is garbled. Try again: a new engine starts by itself."
)


def describe_exit(code: int) -> str:
    """Say in a few words how a process ended.

    Args:
        code: its exit code; negative for the number of the signal that ended it.
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    hint = "; often the machine ran out of memory" if name == "SIGKILL" and sys.platform.startswith("linux") else ""
    return f"signal {name}{hint}"


def error_from_wire(value: object) -> SamTuneError | CancelledByUser:
    """Rebuild what the engine raised.

    Args:
        value: the ``error`` of a JSON-RPC answer.
    """
    if not isinstance(value, dict):
        return ProtocolError(GARBLED_TEXT, f"malformed error {value!r}")
    if value.get("code") == CANCELLED_CODE:
        return CancelledByUser()
    text = str(value.get("message") or GARBLED_TEXT)
    try:
        failure = from_wire(Failure, value.get("data"))
    except ProtocolError:
        return SamTuneError(text, str(value.get("data")))
    return error_classes().get(failure.kind, SamTuneError)(text, failure.details)
