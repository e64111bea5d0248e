"""Which tuning method suits how many labelled objects, on which machine: a ladder, each rung with its reason.

The rungs are those of the few-sample studies (micro-sam's peft-sam for 16 objects and more, PerSAM-F for fewer than 5):
what is tuned grows with what there is to learn from, and with what the machine can compute.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..models.heads.mfnet import MfnetHeadConfig
from ..models.heads.semantic import SemanticConfig
from ..models.peft.band_stem import BandStemConfig
from ..models.peft.contract import MethodConfig
from ..models.peft.lora import LoraConfig
from ..models.peft.mm_adapter import MmAdapterConfig
from ..models.peft.persam import MaskMixConfig
from ..models.peft.selective import DecoderConfig
from .tuning.settings import Task

FEW, SOME, MANY = 5, 16, 51
"""Numbers of objects at which the next rung begins."""


@dataclass(frozen=True)
class Rung:
    """A recommendation.

    Attributes:
        methods: to tune with; none to tune the task's head alone.
        reason: why, a sentence for the user.
    """

    methods: tuple[MethodConfig, ...]
    reason: str


@dataclass(frozen=True)
class Situation:
    """What a recommendation depends on.

    Attributes:
        objects: labelled ones.
        task: what the adapter is to do.
        cheap_encoder: the encoder can be trained on this machine in minutes: a graphics card, or the model ``tiny``.
        bands: further bands are given.
        second: a second raster is given.
    """

    objects: int
    task: Task = Task.PROMPTABLE
    cheap_encoder: bool = True
    bands: bool = False
    second: bool = False


def recommended(given: Situation) -> Rung:
    """Choose methods.

    Args:
        given: the situation.
    """
    head = _head(given)
    if given.second:
        return Rung((MmAdapterConfig(), *head), "A second raster needs a second stream through the encoder.")
    if given.bands:
        return Rung((BandStemConfig(), *head), "Further bands need a stem of their own.")
    return _by_number(given, head)


def _head(given: Situation) -> tuple[MethodConfig, ...]:
    """Return what is tuned behind the encoder."""
    if given.task is Task.SEMANTIC:
        return (MfnetHeadConfig() if given.second else SemanticConfig(),)
    return () if given.task is Task.INSTANCES else (DecoderConfig(),)  # that head depends on the objects' sizes


def _by_number(given: Situation, head: tuple[MethodConfig, ...]) -> Rung:
    count = f"{given.objects} object{'s' if given.objects != 1 else ''}"
    if given.objects < FEW and given.task is Task.PROMPTABLE:
        return Rung((MaskMixConfig(),), f"With {count}, only how the model's three answers are mixed can be learnt.")
    if given.objects < SOME:
        return Rung(head, f"With {count}, the image encoder stays as it is: its embeddings are made once.")
    if not given.cheap_encoder:
        return Rung(head, "Without a graphics card, tuning this model's image encoder would take hours.")
    if given.objects < MANY:
        return Rung((LoraConfig(start=0.5), *head), f"With {count}, the second half of the image encoder learns too.")
    return Rung((LoraConfig(rank=8, alpha=8.0), *head), f"With {count}, the whole image encoder can learn.")
