"""A tuning run from settings to an adapter file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict

import torch

from ...models.card import JsonValue
from ...models.errors import OutputError
from ...models.peft.adapter_file import save_adapter
from ...models.peft.contract import TuningError
from ...models.peft.plain import to_plain
from ..model_service import ModelService
from ..progress import Progress
from .cards import Outcome, card_of
from .checkpoint import read_checkpoint
from .dataset import Dataset
from .distil_hook import ExtraLoss
from .distil_run import keeping, remember
from .distributed import Group, joined
from .encoding import Encoding
from .estimate import estimate
from .exam import Exam, gain
from .loop import CHECKPOINT, Trainer
from .prepare import Prepared, prepared
from .records import write_end, write_start
from .result import TuneResult, Verdict
from .settings import TuneSettings
from .split import Split

__all__ = ["estimate", "tune"]


def tune(
    settings: TuneSettings,
    models: ModelService,
    progress: Progress,
    *,
    added: Callable[[Prepared], ExtraLoss] | None = None,
    parted: Callable[[Dataset], Split] | None = None,
    group: Group | None = None,
    resume: bool = False,
) -> TuneResult:
    """Tune a model. Goes on from the run folder's checkpoint where settings and data are the same.

    Args:
        settings: the run.
        models: gives the base, on the device to train on.
        progress: told about every step; asked between prompts whether to stop, which leaves a checkpoint.
        added: makes a loss that is added to the task's; None: distillation where the settings ask for it.
        parted: parts the objects into those to learn from and those to measure on; None: by blocks of ground.
        group: the processes that train together; None: those that ``torchrun`` started, or this one alone.
        resume: refuse to begin anew in the place of an interrupted run of other settings or data.

    Raises:
        SamTuneError: the data cannot be used, the loss is no number any more, or the memory does not suffice.
        CancelledByUser: from ``progress.check``.
    """
    together = group or joined()
    if not settings.output.parent.is_dir():
        raise OutputError(f"There is no folder {settings.output.parent}. Make it, or choose another output.")
    with prepared(settings, models, progress, parted) as ready:
        folder = settings.work_folder
        if resume:
            _refuse_another(ready)
        if together.first:
            write_start(folder, settings, ready.dataset, ready.parted)
        base = Encoding(ready.model, None, ready.cache, amp=settings.amp)
        before = _measured(ready, base, progress, "Measuring the base") if together.first else None
        ready.adapter.attach(ready.model.network)
        tuned = Encoding(ready.model, ready.adapter, ready.cache, amp=settings.amp)
        trainer = Trainer(
            settings,
            tuned,
            ready.adapter,
            ready.objective,
            ready.examiner,
            folder,
            ready.key(),
            together,
            keeping(ready, progress.check) if added is None else added(ready),
        )
        trainer.run(progress)
        trainer.finish()
        if together.first:
            remember(ready, progress.check)
        after = _measured(ready, tuned, progress, "Measuring the adapter") if together.first else None
        ready.adapter.detach()
        return _concluded(ready, trainer, before, after)


def _refuse_another(ready: Prepared) -> None:
    path = ready.settings.work_folder / CHECKPOINT
    if path.is_file() and read_checkpoint(path, ready.key(), torch.device("cpu")) is None:
        raise TuningError(
            f"The run kept in {path.parent} was begun with other settings or data, so it cannot be gone on with. Give "
            "the same ones (its command.txt has the command), or begin anew with --overwrite."
        )


def _measured(ready: Prepared, encoding: Encoding, progress: Progress, text: str) -> Exam | None:
    if ready.examiner is None:
        return None
    progress.report(-1.0, text)
    exam = ready.examiner.examine(encoding, progress.check)
    return exam if exam.units else None


def _concluded(ready: Prepared, trainer: Trainer, before: Exam | None, after: Exam | None) -> TuneResult:
    """Compare, write the adapter and the records, and let the checkpoint go."""
    settings, folder = ready.settings, ready.settings.work_folder
    difference, verdict = None, Verdict.NOT_MEASURED
    if before is not None and after is not None:
        difference, verdict = gain(before, after, settings.seed)
    scores = [None if exam is None else exam.score(settings.seed) for exam in (before, after)]
    notes = (*ready.notes, *trainer.notes)
    outcome = Outcome(trainer.state.step, trainer.state.seconds, scores[0], scores[1], verdict, notes)
    card = card_of(ready, outcome)
    if trainer.group.first:
        card = save_adapter(settings.output, ready.adapter, card)
        write_end(folder, _as_json(outcome, difference))
        with contextlib.suppress(OSError):  # it is of no use any more, and harmless
            trainer.path.unlink(missing_ok=True)
    plain = to_plain(card)
    return TuneResult(
        path=settings.output,
        card=plain if isinstance(plain, dict) else {},
        before=scores[0],
        after=scores[1],
        verdict=verdict,
        gain=difference,
        steps=trainer.state.step,
        seconds=trainer.state.seconds,
        folder=folder,
        notes=notes,
    )


def _as_json(outcome: Outcome, difference: tuple[float, float, float] | None) -> dict[str, JsonValue]:
    values = {
        "verdict": outcome.verdict.value,
        "gain": difference,
        "before": None if outcome.before is None else asdict(outcome.before),
        "after": None if outcome.after is None else asdict(outcome.after),
        "steps": outcome.steps,
        "seconds": outcome.seconds,
        "notes": list(outcome.notes),
    }
    plain = to_plain(values)
    return plain if isinstance(plain, dict) else {}
