"""What state the plugin is in, as one sentence with one thing to do about it. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from qgis.PyQt.QtCore import QCoreApplication

from .session import EngineState, Session

translate = QCoreApplication.translate


class State(Enum):
    """Everything that can keep the user from clicking, and READY."""

    ENVIRONMENT_MISSING = "environment-missing"
    ENGINE_FAILED = "engine-failed"
    NO_LAYER = "no-layer"
    LAYER_UNUSABLE = "layer-unusable"
    ENGINE_STARTING = "engine-starting"
    MODEL_MISSING = "model-missing"
    ADAPTER_UNUSABLE = "adapter-unusable"
    NOT_OPEN = "not-open"
    READY = "ready"


class Action(Enum):
    """What the button beside the sentence does."""

    NONE = "none"
    SET_UP = "set-up"
    RETRY = "retry"
    DOWNLOAD = "download"


@dataclass(frozen=True)
class Status:
    """A state, one sentence for the user, and what the button beside it does."""

    state: State
    text: str
    action: Action = Action.NONE


def status_of(session: Session) -> Status:
    """Tell the state that the user should hear about first."""
    problem = _engine_problem(session) or _layer_problem(session) or _not_ready(session)
    return problem or Status(State.READY, _ready_text(session))


def _engine_problem(session: Session) -> Status | None:
    if session.engine_state is EngineState.ENVIRONMENT_MISSING:
        text = translate("Status", "SamTune needs a Python environment of its own; it has not been set up yet.")
        return Status(State.ENVIRONMENT_MISSING, session.engine_text or text, Action.SET_UP)
    if session.engine_state is EngineState.FAILED:
        text = translate("Status", "The engine stopped. Start it again, or copy the diagnostics for a report.")
        return Status(State.ENGINE_FAILED, session.engine_text or text, Action.RETRY)
    return None


def _layer_problem(session: Session) -> Status | None:
    if session.layer is None:
        return Status(State.NO_LAYER, translate("Status", "Add a raster layer to the project and choose it above."))
    if session.layer_problem:
        return Status(State.LAYER_UNUSABLE, session.layer_problem)
    return None


def _not_ready(session: Session) -> Status | None:
    if session.engine_state is EngineState.STARTING:
        text = translate("Status", "The engine is starting…")
        return Status(State.ENGINE_STARTING, f"{text} {_kept(session)}".rstrip())
    info = session.model_info
    if info is not None and not info.present:
        text = translate("Status", "{model} is not on this machine ({size}). Download it, or choose a model that is.")
        shown = text.format(model=info.title, size=size_text(info.size_bytes))
        return Status(State.MODEL_MISSING, shown, Action.DOWNLOAD)
    if session.adapters.problem:
        return Status(
            State.ADAPTER_UNUSABLE, translate("Status", "Choose another adapter above, or give it what it needs.")
        )
    return _not_open(session) if session.raster is None else None


def _not_open(session: Session) -> Status:
    if session.busy is not None:
        text = translate("Status", "The raster is being opened…")
        return Status(State.NOT_OPEN, f"{text} {_kept(session)}".rstrip())
    text = translate("Status", "The raster is not open. Click on it to have it opened, or try again here.")
    if session.open_failed:
        text = translate("Status", "The raster could not be opened. Repair or replace its file, then try again.")
    return Status(State.NOT_OPEN, text, Action.RETRY)


def _kept(session: Session) -> str:
    return str(translate("Status", "What you clicked on is outlined as soon as it is ready.")) if session.steps else ""


def _ready_text(session: Session) -> str:
    if session.outline is not None:
        return str(
            translate("Status", "Score {score:.2f}. Enter keeps it; right click takes away, left click adds.").format(
                score=session.outline.result.score
            )
        )
    if session.steps and session.finding:
        return session.finding
    if session.steps:
        return str(translate("Status", "Backspace takes back the last click, Esc gives up."))
    return str(translate("Status", "Click on an object, or drag a box around it."))


def size_text(size: int) -> str:
    """Say a number of bytes for people."""
    if size >= 1 << 30:
        return f"{size / (1 << 30):.1f} GiB"
    return f"{max(1, round(size / (1 << 20)))} MiB"
