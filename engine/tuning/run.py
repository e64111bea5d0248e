"""A tuning run from settings to an adapter file."""

from __future__ import annotations

from ...models.peft.contract import TuningError
from ..model_service import ModelService
from ..progress import Progress
from .result import Estimate, TuneResult
from .settings import TuneSettings


def tune(settings: TuneSettings, models: ModelService, progress: Progress) -> TuneResult:
    """Tune a model. Goes on from the run folder's checkpoint where the settings are the same.

    Args:
        settings: the run.
        models: gives the base, on the device to train on.
        progress: told about every step; asked between prompts whether to stop, which leaves a checkpoint.

    Raises:
        SamTuneError: the data cannot be used, the loss is no number any more, or the memory does not suffice.
        CancelledByUser: from ``progress.check``.
    """
    raise TuningError("Tuning is not available yet.", f"{settings} {models} {progress}")


def estimate(settings: TuneSettings, models: ModelService, progress: Progress) -> Estimate:
    """Say what a run would take, by preparing a little of it and timing real steps (some seconds).

    Args:
        settings: the run.
        models: gives the base, on the device to train on.
        progress: asked whether to stop.

    Raises:
        SamTuneError: the data cannot be used, or not even the smallest step fits into memory.
        CancelledByUser: from ``progress.check``.
    """
    raise TuningError("Tuning is not available yet.", f"{settings} {models} {progress}")
