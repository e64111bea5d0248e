"""Learning rates: how fast each part of an adapter is moved, and when."""

from __future__ import annotations

import math

from torch import nn

from ...models.card import Architecture
from ...models.peft.adapter import Adapter
from ...models.peft.contract import Scope
from .settings import Schedule

_BY_SCOPE = {Scope.DECODER: 1e-4, Scope.ENCODER: 5e-5, Scope.HEAD: 1e-3}
"""Peak rates for the published models: the decoder's as the plugin's presets have it, the encoder's at the upper end of
1e-5 to 5e-5 (above 1e-4 iterative prompting suffers, peft-sam), heads' as they start from nothing."""

_TINY = {Scope.DECODER: 3e-4, Scope.ENCODER: 3e-4, Scope.HEAD: 1e-3}
"""``tiny`` is narrower and was trained at higher rates. Its decoder, 25 steps on 64 outlines of buildings on a height
raster, measured on 16 others (mean of the IoU after one and three clicks and for the box; frozen 0.429): 0.468 at 1e-4,
0.506 at 3e-4, 0.517 at 1e-3, which is no more than chance above 3e-4 and the riskier one in long runs."""

_SMALL_INIT = {"full": 0.2}
"""Moving all weights wants smaller steps than moving few."""

FLOOR = 0.01
"""Share of the peak rate that the cosine ends at."""


def default_rate(method: str, scope: Scope, architecture: Architecture) -> float:
    """Return the peak learning rate of a method where none is given.

    Args:
        method: its name.
        scope: what it tunes.
        architecture: of the base.
    """
    table = _TINY if architecture is Architecture.TINY else _BY_SCOPE
    return table[scope] * _SMALL_INIT.get(method, 1.0)


def parameter_groups(adapter: Adapter, schedule: Schedule, architecture: Architecture) -> list[dict[str, object]]:
    """Sort an adapter's parameters into groups for AdamW, each with its peak rate under ``peak``.

    Args:
        adapter: what is tuned.
        schedule: with the rate that was asked for, if any.
        architecture: of the base.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for part in adapter.parts.values():
        config = part.config
        rate = schedule.rate or default_rate(config.method, config.scope, architecture)
        factors = part.rate_factors
        for name, value in part.trainable_parameters():
            decay = schedule.decay if value.ndim > 1 else 0.0
            groups.setdefault((rate * factors.get(name, 1.0), decay), []).append(value)
    return [
        {"params": found, "lr": rate, "peak": rate, "weight_decay": decay} for (rate, decay), found in groups.items()
    ]


def factor(step: int, schedule: Schedule) -> float:
    """Return the share of the peak rate at a step: a linear rise, then half a cosine.

    Args:
        step: from 0.
        schedule: number of steps and share of the rise.
    """
    rise = max(1, round(schedule.warm_up * schedule.steps))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, schedule.steps - rise)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
