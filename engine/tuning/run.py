"""A tuning run from settings to an adapter file."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from ...models.card import JsonValue
from ...models.errors import OutputError
from ...models.peft.adapter_file import save_adapter
from ...models.peft.contract import TuningError
from ...models.peft.plain import to_plain
from ..model_service import ModelService
from ..progress import Progress
from ..tune_messages import FigureRow, Parting, Picture, RunState
from .cards import Outcome, card_of
from .checkpoint import read_checkpoint
from .dataset import Dataset
from .distil_hook import ExtraLoss
from .distil_run import keeping, remember
from .distributed import Group, joined
from .encoding import Encoding
from .estimate import estimate
from .exam import Exam, Judgement, judge
from .figures import figure_rows
from .folds import Folded, hold_each_out
from .gains import largest
from .general import Generality, generality
from .loop import CHECKPOINT, Trainer
from .observe import Nobody, Observer, Wish
from .prepare import Prepared, prepared
from .preview import Preview
from .records import write_end, write_start
from .report import report_of, write_report
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
    observer: Observer | None = None,
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
        observer: told what happens, and asked what the user wants; None for nobody.

    Raises:
        SamTuneError: the data cannot be used, the loss is no number any more, or the memory does not suffice.
        CancelledByUser: from ``progress.check``.
    """
    together = group or joined()
    if not settings.output.parent.is_dir():
        raise OutputError(f"There is no folder {settings.output.parent}. Make it, or choose another output.")
    try:
        with prepared(settings, models, progress, parted) as ready:
            if resume:
                _refuse_another(ready)
            if together.first:
                write_start(settings.work_folder, settings, ready.dataset, ready.parted)
            return _Run(ready, together, added, progress, observer).done()
    finally:
        gc.collect()  # trainers, samples and encodings refer to each other, and hold hundreds of megabytes


class _Run:
    """The way from what was prepared to the result."""

    def __init__(
        self,
        ready: Prepared,
        together: Group,
        added: Callable[[Prepared], ExtraLoss] | None,
        progress: Progress,
        observer: Observer | None,
    ) -> None:
        self._ready, self._together, self._added, self._progress = ready, together, added, progress
        self._observer: Observer = Nobody() if observer is None else observer
        self._looked_on = observer is not None
        self._trainings = 1

    def done(self) -> TuneResult:
        """Measure, train, measure, write."""
        ready, settings = self._ready, self._ready.settings
        folded: Folded | None = None
        if ready.parted.parting is Parting.EACH_BLOCK:
            folded = self._folded()
        base = Encoding(ready.model, None, ready.cache, amp=settings.amp)
        before = self._measured(base, "Measuring the base")
        ready.adapter.attach(ready.model.network)
        tuned = Encoding(ready.model, ready.adapter, ready.cache, amp=settings.amp)
        trainer = self._trainer(ready, tuned, settings.work_folder, ready.key(), self._trainings)
        trainer.run(self._progress, None if folded is None or trainer.scheduled else folded.step)
        trainer.finish()
        self._observer.entered(RunState.MEASURING)
        if self._together.first:
            remember(ready, self._progress.check)
        after = self._measured(tuned, "Measuring the adapter")
        ready.adapter.detach()
        if folded is not None:
            before, after = folded.before, folded.after
            trainer.state.seconds += folded.seconds
        return _concluded(ready, trainer, before, after, self._progress)

    def _folded(self) -> Folded | None:
        if self._together.size > 1:
            raise TuningError("With so few objects several processes are of no use. Start the run without torchrun.")

        def learn(ground: Prepared, tuned: Encoding, folder: Path, number: int, of: int) -> Trainer:
            self._trainings = of + 1
            return self._trainer(ground, tuned, folder, f"{self._ready.key()} {number} {of}", number)

        return hold_each_out(self._ready, learn, self._progress, lambda: self._observer.wish is not Wish.FINISH)

    def _trainer(self, ready: Prepared, tuned: Encoding, folder: Path, key: str, number: int) -> Trainer:
        return Trainer(
            ready.settings,
            tuned,
            ready.adapter,
            ready.objective,
            ready.examiner,
            folder,
            key,
            self._together,
            keeping(ready, self._progress.check) if self._added is None else self._added(ready),
            self._observer,
            Preview(ready) if self._looked_on else None,
            number,
            self._trainings,
            self._progress.check,
        )

    def _measured(self, encoding: Encoding, text: str) -> Exam | None:
        if self._ready.examiner is None or not self._together.first:
            return None
        self._progress.report(-1.0, text)
        exam = self._ready.examiner.examine(encoding, self._progress.check)
        return exam if exam.units else None


def _refuse_another(ready: Prepared) -> None:
    path = ready.settings.work_folder / CHECKPOINT
    if path.is_file() and read_checkpoint(path, ready.key(), torch.device("cpu")) is None:
        raise TuningError(
            f"The run kept in {path.parent} was begun with other settings or data, so it cannot be gone on with. Give "
            "the same ones (its command.txt has the command), or begin anew with --overwrite."
        )


def _concluded(
    ready: Prepared, trainer: Trainer, before: Exam | None, after: Exam | None, progress: Progress
) -> TuneResult:
    """Compare, write the adapter and the records, and let the checkpoint go."""
    settings, folder = ready.settings, ready.settings.work_folder
    judged = Judgement(Verdict.NOT_MEASURED)
    figures: tuple[FigureRow, ...] = ()
    pictures: tuple[Picture, ...] = ()
    if before is not None and after is not None:
        judged = judge(before, after, settings.seed)
        progress.check()
        figures = figure_rows(before, after, settings.seed, progress.check)
        pictures = largest(before, after, ready.held_out or ready.train, progress.check)
    progress.report(-1.0, "Checking on other imagery")
    checked = generality(ready, progress.check) if trainer.group.first else Generality()
    scores = []
    for exam in (before, after):
        progress.check()
        scores.append(None if exam is None else exam.score(settings.seed))
    notes = (*ready.notes, *trainer.notes)
    outcome = Outcome(trainer.state.step, trainer.state.seconds, scores[0], scores[1], judged.verdict, notes)
    card = card_of(ready, outcome)
    if trainer.group.first:
        card = save_adapter(settings.output, ready.adapter, card)
    plain = to_plain(card)
    result = TuneResult(
        path=settings.output,
        card=plain if isinstance(plain, dict) else {},
        before=scores[0],
        after=scores[1],
        verdict=judged.verdict,
        gain=judged.gain,
        steps=trainer.state.step,
        seconds=trainer.state.seconds,
        folder=folder,
        notes=notes,
        follows=judged.follows,
        parting=ready.parted.parting,
        figures=(*figures, *checked.figures),
        pictures=pictures,
        general=checked.sentence,
    )
    if trainer.group.first:
        write_end(folder, _as_json(outcome, judged.gain))
        write_report(report_of(settings, result), settings, ready.dataset, ready.parted)
        with contextlib.suppress(OSError):  # it is of no use any more, and harmless
            trainer.path.unlink(missing_ok=True)
    return result


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
