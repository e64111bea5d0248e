"""What keeps the user from work on whole areas, and what to do about it. Changes nothing."""

from __future__ import annotations

from enum import Enum

from qgis.PyQt.QtCore import QCoreApplication

from .adapter_files import INSTANCES, SEMANTIC
from .adapter_texts import needs
from .session import EngineState, Session

translate = QCoreApplication.translate


class AreaWork(Enum):
    """What can be done with whole areas."""

    FIND = "find"
    MAP = "map"
    SUGGEST = "suggest"
    REVIEW = "review"


_HEADS = {AreaWork.FIND: INSTANCES, AreaWork.MAP: SEMANTIC}


def purpose_text(work: AreaWork) -> str:
    """Say what a kind of work does."""
    texts = {
        AreaWork.FIND: translate("AreaTexts", "Find all objects in an area, without clicks"),
        AreaWork.MAP: translate("AreaTexts", "Give every pixel of an area its class"),
        AreaWork.SUGGEST: translate("AreaTexts", "Show where labelling would teach the model the most"),
        AreaWork.REVIEW: translate(
            "AreaTexts", "Go through the polygons that nobody has looked at, the unsure ones first"
        ),
    }
    return str(texts[work])


def reason_against(work: AreaWork, session: Session) -> str:
    """Say why something cannot be done now, and what to do; empty when it can."""
    if work is AreaWork.REVIEW:
        text = translate("AreaTexts", "Choose the layer whose polygons you want to review as “Into”.")
        return "" if session.target is not None else str(text)
    return _engine_reason(session) or _adapter_reason(work, session)


def _engine_reason(session: Session) -> str:
    if session.engine_state is EngineState.ENVIRONMENT_MISSING:
        return str(translate("AreaTexts", "Set up SamTune's Python environment first."))
    if session.layer is None:
        return str(translate("AreaTexts", "Choose a raster layer first."))
    if session.layer_problem:
        return session.layer_problem
    info = session.model_info
    if info is not None and not info.present:
        return str(translate("AreaTexts", "Download the model first, or choose one that is on this machine."))
    if session.raster is None:
        return str(translate("AreaTexts", "The raster is not open yet."))
    return ""


def _adapter_reason(work: AreaWork, session: Session) -> str:
    chosen, head = session.adapters.chosen, _HEADS.get(work)
    if head is not None and (chosen is None or chosen.head != head):
        texts = {
            AreaWork.FIND: translate("AreaTexts", "This takes an adapter that was tuned to find all objects."),
            AreaWork.MAP: translate("AreaTexts", "This takes an adapter that was tuned to make class maps."),
        }
        remedy = translate("AreaTexts", "Choose one as “Adapter”, or tune one on polygons of yours.")
        return f"{texts[work]} {remedy}"
    if chosen is None or session.layer is None:
        return ""
    missing = needs(chosen, session.layer.bandCount(), second=bool(session.adapters.second_uri))
    return missing or session.adapters.problem
