"""Which tuning method suits how many labelled objects, on which machine: a ladder, each rung with its reason.

The rungs are those of the few-sample studies (micro-sam's peft-sam for 16 objects and more, PerSAM-F for fewer than 5):
what is tuned grows with what there is to learn from, and with what the machine can compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..models.peft.contract import MethodConfig
from .tune_options import HEAD, methods_from
from .tuning.settings import Schedule, Task

FEW, SOME, MANY = 5, 16, 51
"""Numbers of objects at which the next rung begins."""

INSTANT, DECODER, LATE, WHOLE = "instant", "decoder", "late-lora", "lora"
BANDS, STREAMS, ALONE, TUNED = "bands", "streams", "head", "head-lora"

_MIX = Schedule(steps=40, batch=1, checks=1)
_PROCESSOR = {
    INSTANT: _MIX,
    DECODER: Schedule(steps=60, batch=1, objects=3, prompts=3, checks=4, ways=4),
    LATE: Schedule(steps=100, batch=1, objects=4, prompts=3, checks=5),
    WHOLE: Schedule(steps=160, batch=1, objects=4, prompts=3),
    BANDS: Schedule(steps=60, batch=1, objects=3, prompts=3, checks=3),
    STREAMS: Schedule(steps=60, batch=1, objects=3, prompts=3, checks=3),
    ALONE: Schedule(steps=160, batch=2, checks=4, ways=4),
    TUNED: Schedule(steps=120, batch=2, checks=5),
}
_GRAPHICS = {
    INSTANT: _MIX,
    DECODER: Schedule(steps=200),
    LATE: Schedule(steps=300),
    WHOLE: Schedule(steps=600),
    BANDS: Schedule(steps=400),
    STREAMS: Schedule(steps=400),
    ALONE: Schedule(steps=300),
    TUNED: Schedule(steps=400),
}
"""What a rung takes by itself. On a processor a run of ten objects, trained once for every part of the ground that is
held out in turn, is to end within minutes."""

_TITLES = {
    INSTANT: "Instant: mix the model's own answers",
    DECODER: "Decoder: how outlines are drawn",
    LATE: "Late layers: how things are seen, and outlines",
    WHOLE: "All layers: how things are seen, and outlines",
    BANDS: "Further bands",
    STREAMS: "Second raster",
    ALONE: "Head alone: what is where",
    TUNED: "Head and late layers",
}
_REASONS = {
    INSTANT: "For 1 to 4 objects: only how the model's three answers are mixed is learnt, within seconds.",
    DECODER: "For 5 to 15 objects, and on slow machines: the image encoder stays as it is, and runs once.",
    LATE: "For 16 to 50 objects: the second half of the image encoder learns too.",
    WHOLE: "For more than 50 objects: the whole image encoder can learn.",
    BANDS: "For further bands, which need a stem of their own.",
    STREAMS: "For a second raster, which needs a second stream through the encoder.",
    ALONE: "For fewer than 16 objects, and without a graphics card: the image encoder stays as it is.",
    TUNED: "For 16 objects and more, with a graphics card: the second half of the image encoder learns too.",
}


@dataclass(frozen=True)
class Situation:
    """What a recommendation depends on.

    Attributes:
        objects: labelled ones.
        task: what the adapter is to do.
        cheap_encoder: the encoder can be trained on this machine in minutes: a graphics card, or the model ``tiny``.
        bands: further bands are given.
        second: a second raster is given.
        processor: there is no graphics card.
    """

    objects: int
    task: Task = Task.PROMPTABLE
    cheap_encoder: bool = True
    bands: bool = False
    second: bool = False
    processor: bool = True


@dataclass(frozen=True)
class Rung:
    """One rung.

    Attributes:
        name: its key.
        title: for the user.
        names: of the methods, as they are typed.
        reason: for whom it is, or why it is recommended; a sentence for the user.
        schedule: its own.
        possible: whether the inputs are there that it takes.
    """

    name: str
    title: str
    names: tuple[str, ...]
    reason: str
    schedule: Schedule = field(default_factory=Schedule)
    possible: bool = True

    @property
    def methods(self) -> tuple[MethodConfig, ...]:
        """To tune with; none to tune the task's head alone."""
        return methods_from(",".join(self.names), ())


def rungs(given: Situation) -> tuple[Rung, ...]:
    """Return the ladder for a task, the lightest rung first.

    Args:
        given: the situation.
    """
    head = _head(given)
    if given.task is Task.PROMPTABLE:
        first = {
            INSTANT: ("mask_mix",),
            DECODER: (head,),
            LATE: ("late-lora", head),
            WHOLE: ("wide-lora", head),
        }
    else:
        first = {ALONE: (head,), TUNED: ("late-lora", head)}
    found = {**first, BANDS: ("band_stem", head), STREAMS: ("mm_adapter", head)}
    schedules = _PROCESSOR if given.processor else _GRAPHICS
    able = {BANDS: given.bands, STREAMS: given.second}
    return tuple(
        Rung(name, _TITLES[name], names, _REASONS[name], schedules[name], able.get(name, True))
        for name, names in found.items()
    )


def recommended(given: Situation) -> Rung:
    """Choose a rung, and say why.

    Args:
        given: the situation.
    """
    name, reason = _choice(given)
    rung = next(rung for rung in rungs(given) if rung.name == name)
    return Rung(rung.name, rung.title, rung.names, reason, rung.schedule)


def rung_of(names: Sequence[str], given: Situation) -> Rung | None:
    """Return the rung that methods are, as they are typed; None where they are none.

    Args:
        names: of the methods.
        given: the situation.
    """
    wanted = methods_from(",".join(names), ())
    return next((rung for rung in rungs(given) if rung.methods == wanted), None)


def _head(given: Situation) -> str:
    """Return what is tuned behind the encoder."""
    if given.task is Task.SEMANTIC:
        return "mfnet_head" if given.second else "semantic"
    return HEAD if given.task is Task.INSTANCES else "decoder"


def _choice(given: Situation) -> tuple[str, str]:
    if given.second:
        return STREAMS, "A second raster needs a second stream through the encoder."
    if given.bands:
        return BANDS, "Further bands need a stem of their own."
    return _by_number(given, f"{given.objects} object{'s' if given.objects != 1 else ''}")


def _by_number(given: Situation, count: str) -> tuple[str, str]:
    clicks = given.task is Task.PROMPTABLE
    light, late, whole = (DECODER, LATE, WHOLE) if clicks else (ALONE, TUNED, TUNED)
    if given.objects < FEW and clicks:
        return INSTANT, f"With {count}, only how the model's three answers are mixed can be learnt."
    if given.objects < SOME:
        return light, f"With {count}, the image encoder stays as it is: its embeddings are made once."
    if not given.cheap_encoder:
        return light, "Without a graphics card, tuning this model's image encoder would take hours."
    if given.processor and not clicks:
        return light, f"With {count} and no graphics card, the image encoder stays as it is: what it sees is kept."
    if given.objects < MANY or not clicks:
        return late, f"With {count}, the second half of the image encoder learns too."
    return whole, f"With {count}, the whole image encoder can learn."
