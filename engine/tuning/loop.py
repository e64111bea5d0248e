"""The training loop: seeded, resumable to the bit, sparing with memory, and ending with the best weights."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from ...models.errors import CancelledByUser, DeviceError, OutputError, SamTuneError
from ...models.peft.adapter import Adapter
from ...models.peft.contract import Part
from ..pretrain.curves import Curves
from ..progress import Progress
from ..tune_messages import Picture, RunState
from .checkpoint import State, read_checkpoint, write_checkpoint
from .distil_hook import ExtraLoss, Remembering, StepContext
from .distributed import Group
from .draws import Draw, seed_torch, works_of
from .encoding import Encoding
from .exam import Examiner
from .fallback import fall_back, is_out_of_memory
from .mixing import fit, mixing_of
from .observe import Nobody, Observer, Training, Wish
from .rates import factor, parameter_groups
from .settings import TuneSettings
from .task import Figures, Moment, Objective, Work

CHECKED = 24
"""Units of the hold-out that are measured during the run, at most."""

CHECKPOINT = "checkpoint.pt"
"""The file in a run's folder that it goes on from."""

_GAIN = 1e-4
_CALIBRATION = 8
_SAVE_SECONDS = 10.0
"""Between checkpoints, at most, besides the schedule's own: what a killed process loses."""

_SAVE_SHARE = 0.05
"""Of the time that saving large adapters may take."""

_POLL = 0.05

Show = Callable[[Encoding, Callable[[], None]], Sequence[Picture]]
"""Draws what a model answers."""

_Done = TypeVar("_Done")


@dataclass
class Trainer:
    """A run's training.

    Attributes:
        settings: the run.
        encoding: of the model, with the adapter attached.
        adapter: what is tuned.
        objective: what it is taught.
        examiner: measures the hold-out during the run; None without one.
        folder: of curves and checkpoint.
        key: identifies settings and data.
        group: the processes that train together.
        added: a loss added to the task's, see :mod:`.distil_hook`.
        observer: told what happens, and asked what the user wants.
        show: draws what the adapter answers, for the observer; None for no pictures.
        number: of this training among those of the run, from 1, and
        of: how many there are.
        check: called while the methods are calibrated; may raise to stop.
        state: where the run is.
        notes: what happened, as sentences.
    """

    settings: TuneSettings
    encoding: Encoding
    adapter: Adapter
    objective: Objective
    examiner: Examiner | None
    folder: Path
    key: str
    group: Group = field(default_factory=Group)
    added: ExtraLoss | None = None
    observer: Observer = field(default_factory=Nobody)
    show: Show | None = None
    number: int = 1
    of: int = 1
    check: Callable[[], None] = lambda: None
    state: State = field(default_factory=State)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Set the state up, calibrate the methods, and make the optimiser; or take all of it from the checkpoint."""
        schedule = self.settings.schedule
        self.state.part = -(-schedule.batch // schedule.accumulate)
        self.state.recompute = bool(self.settings.recompute)
        self.group.copy_first(self.adapter.state_dict().values())
        self._curves = Curves(self.folder) if self.group.first else None
        card = self.encoding.model.card
        found = read_checkpoint(self.path, self.key, self.encoding.model.device)
        if found is None:
            self._calibrate()
            self._share_calibrated()
        else:
            for name, part in self.adapter.parts.items():
                start = f"{name}."
                part.expect({key.removeprefix(start): v for key, v in found[1].items() if key.startswith(start)})
            self.adapter.load_state_dict(found[1])
        self.optimiser = torch.optim.AdamW(parameter_groups(self.adapter, schedule, card.architecture))
        if found is not None:
            self.state = found[0]
            self.optimiser.load_state_dict(found[2])
            if self._memory is not None:
                self._memory.recall(self.state.remembered)
        if self._curves is not None:
            self._curves.cut(self.state.step)
        self._saved, self._saving = time.monotonic(), 0.0

    @property
    def path(self) -> Path:
        """The checkpoint."""
        return self.folder / CHECKPOINT

    @property
    def _memory(self) -> Remembering | None:
        added: object = self.added
        return added if isinstance(added, Remembering) else None

    @property
    def scheduled(self) -> bool:
        """Whether a method has a schedule of its own: then only the end of the run is of use."""
        return any(type(part).begin_step is not Part.begin_step for part in self.adapter.parts.values())

    def run(self, progress: Progress, stop_at: int | None = None) -> None:
        """Train to the end, or until there is no gain any more.

        Args:
            progress: told about every step; asked between prompts whether to stop, which leaves a checkpoint.
            stop_at: step to stop at, with a checkpoint; None for the end.

        Raises:
            SamTuneError: the loss is no number any more, or the memory does not suffice.
            CancelledByUser: from ``progress.check``.
        """
        schedule = self.settings.schedule
        last = min(schedule.steps, stop_at or schedule.steps)
        self.observer.begins(Training(last, self.state.step, self.folder, self.number, self.of))
        self.adapter.train()
        try:
            if self.state.step:
                self._look(progress.check)  # which stopping may have cut short
            if mixing_of(self.adapter) is not None and self.added is None:
                self._mix(progress)
            while self.state.step < last and not self._given_up() and not self._ended(progress):
                self._one(progress)
        except (CancelledByUser, DeviceError):
            self.save()
            raise
        self.save()

    def finish(self) -> None:
        """Take the best weights, bring the methods into their final form, and leave training mode."""
        if self.state.best_weights is not None and not self.scheduled:
            self.adapter.load_state_dict(self.state.best_weights)
        self.adapter.finish()
        self.adapter.eval()

    def save(self) -> None:
        """Write the checkpoint."""
        if self.group.first:
            begun = time.monotonic()
            weights = _copied(self.adapter.state_dict())
            if self._memory is not None:
                self.state.remembered = self._memory.remembered()
            write_checkpoint(self.path, self.key, self.state, weights, self.optimiser)
            self._saved = time.monotonic()
            self._saving = self._saved - begun
            self.observer.saved(self.state.step)

    def _one(self, progress: Progress) -> None:
        schedule, state = self.settings.schedule, self.state
        progress.check()
        progress.report(state.step / schedule.steps, f"Training, step {state.step + 1} of {schedule.steps}")
        started = time.monotonic()
        figures = self.step(progress.check)
        state.step += 1
        state.seconds += time.monotonic() - started
        self._log(figures | {"seconds": time.monotonic() - started})
        self._look(progress.check)
        waited = time.monotonic() - self._saved
        if state.step % schedule.save_every == 0 or waited > max(_SAVE_SECONDS, self._saving / _SAVE_SHARE):
            self.save()

    def _log(self, figures: Mapping[str, float]) -> None:
        """Tell of the step that was just done."""
        if self._curves is not None:
            with _written(self.folder):
                self._curves.add(self.state.step, dict(figures))
        self.observer.stepped(self.state.step, figures)

    def _ended(self, progress: Progress) -> bool:
        """Wait while the run is held; say whether the user wants it to end here."""
        if self._wished(Wish.PAUSE):
            self.save()
            self.observer.entered(RunState.PAUSED)
            while self._wished(Wish.PAUSE):
                progress.check()
                time.sleep(_POLL)
            self.observer.entered(RunState.RUNNING)
        # The first step is done in any case: weights that learnt nothing are no result.
        if not self._wished(Wish.FINISH) or not self.state.step:
            return False
        self._note(f"Training was ended by hand at step {self.state.step} of {self.settings.schedule.steps}.")
        return True

    def _wished(self, wish: Wish) -> bool:
        return self.observer.wish is wish

    def _mix(self, progress: Progress) -> None:
        """Learn how to mix the model's three masks, in place of the steps: the masks are computed once."""
        if self.state.step >= self.settings.schedule.steps:
            return
        started = time.monotonic()
        steps = self.settings.schedule.steps

        def each(step: int, loss: float) -> None:
            progress.check()
            progress.report(step / steps, f"Training, step {step} of {steps}")
            self.state.step = step
            self._log({"loss": loss})

        try:
            fit(self.settings, self.encoding, self.adapter, self.objective, progress.check, each)
        except BaseException:
            self.state.step = 0  # what was begun is of no use: it takes seconds
            raise
        self.state.seconds += time.monotonic() - started
        self._look(progress.check)

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.observer.noted(text)

    def step(self, check: Callable[[], None]) -> dict[str, float]:
        """Do one step of the optimiser, and return its figures.

        Args:
            check: called between prompts; may raise to stop, which leaves the weights as they were.

        Raises:
            SamTuneError: the loss is no number any more, or the memory does not suffice.
        """
        state, schedule = self.state, self.settings.schedule
        share = factor(state.step, schedule)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * share
        seed_torch(self.settings.seed, self.state.step)
        self.adapter.begin_step(state.step / schedule.steps)
        figures = self._gradients(check)
        parameters = [value for _, value in self.adapter.trainable_parameters()]
        self.group.add_gradients(parameters)
        means = {"loss": 0.0} | figures.means()  # no loss where none of the objects has a known pixel to be judged by
        norm = float(nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], schedule.clip))
        self._refuse_nonsense(means["loss"], norm)
        self.optimiser.step()
        return means | {"norm": norm, "rate": share}

    def _gradients(self, check: Callable[[], None]) -> Figures:
        """Leave the step's gradients in the adapter's parameters; with less memory where it does not suffice."""
        return self._sparing(lambda: self._attempt(check))

    def _sparing(self, work: Callable[[], _Done]) -> _Done:
        """Do something, again with less memory where it does not suffice."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                ran_out = error
            # Out of the handler, so that the failed attempt's tensors are let go first.
            self.adapter.zero_grad(set_to_none=True)
            text = fall_back(
                self.state,
                tunes_encoder=not self.encoding.frozen,
                fixed=self.settings.recompute is False,
                error=ran_out.with_traceback(None),
                device=self.encoding.model.device,
            )
            self.encoding.recompute = self.state.recompute
            self._note(text)
            del ran_out

    def _attempt(self, check: Callable[[], None]) -> Figures:
        state, settings = self.state, self.settings
        self.encoding.recompute = state.recompute
        self.optimiser.zero_grad(set_to_none=True)
        seed_torch(self.settings.seed, self.state.step)
        batch = settings.schedule.batch
        everyone = self.works(state.step, batch * self.group.size)
        total = max(sum(self.objective.weight(work) for work in everyone), 1)
        own = everyone[self.group.rank * batch : (self.group.rank + 1) * batch]
        figures = Figures()
        for start in range(0, len(own), state.part):
            works = own[start : start + state.part]
            share = len(works) / len(everyone)
            moment = Moment(
                self.encoding,
                check,
                (settings.seed, Draw.WORK, state.step),
                1.0 / total,
                partial(self._penalty, share),
            )
            figures.merge(self.objective.learn(works, moment))
        self._go_on()
        return figures

    def works(self, step: int, count: int) -> list[Work]:
        """Return the crops of a step, see :func:`.draws.works_of`."""
        return works_of(self.objective, self.settings.seed, step, count, self.settings.schedule.ways)

    def _penalty(self, share: float) -> torch.Tensor | None:
        value = self.adapter.penalty()
        return None if value is None else value * share

    def _go_on(self) -> None:
        if self.added is None:
            return
        state, settings = self.state, self.settings
        rng = np.random.default_rng([settings.seed, Draw.EXTRA, state.step, self.group.rank])
        steps = settings.schedule.steps
        network = self.encoding.model.network
        loss = self.added(StepContext(network, self.adapter, state.step, steps, rng, amp=settings.amp))
        if loss is not None and loss.requires_grad:
            (loss / self.group.size).backward()  # type: ignore[no-untyped-call]

    def _look(self, check: Callable[[], None]) -> None:
        """When it is time, measure the hold-out, keep the weights if they are the best so far, and draw answers."""
        schedule, state = self.settings.schedule, self.state
        every = max(1, schedule.steps // schedule.checks)
        due = state.step % every == 0 or state.step == schedule.steps
        if not due or state.looked == state.step:
            return
        if self.examiner is not None:
            self._measure(self.examiner, check)
        if self.show is not None and self.group.first:
            with self._resting():
                self.observer.shows(state.step, self.show(self.encoding, check))
        state.looked = state.step

    def _measure(self, examiner: Examiner, check: Callable[[], None]) -> None:
        state = self.state
        value, figures = math.nan, dict[str, float]()
        if self.group.first:
            with self._resting():
                exam = examiner.examine(self.encoding, check, CHECKED)
            value = exam.value if exam.units else 0.0
            figures = dict(exam.figures(np.arange(exam.units)))
            if self._curves is not None:
                with _written(self.folder):
                    self._curves.add_validation(state.step, figures)
        value = self.group.agree(value, self.encoding.model.device)
        if state.best is None or value > state.best + _GAIN:
            state.best, state.best_step, state.stale = value, state.step, 0
            state.best_weights = _copied(self.adapter.state_dict())
        else:
            state.stale += 1
        self.observer.looked(state.step, figures, value, state.best_step)

    def _given_up(self) -> bool:
        patience = self.settings.schedule.patience
        if not patience or self.scheduled or self.state.stale < patience:
            return False
        self._note(f"Training ended at step {self.state.step}: the hold-out gained nothing any more.")
        return True

    @contextlib.contextmanager
    def _resting(self) -> Iterator[None]:
        """Measure in evaluation mode."""
        self.adapter.eval()
        try:
            yield
        finally:
            self.adapter.train()

    def _calibrate(self) -> None:
        seed_torch(self.settings.seed, self.state.step)
        count = min(_CALIBRATION, self.objective.population)
        works = self.works(0, count)

        def probe(work: Work, place: int) -> Callable[[], torch.Tensor]:
            moment = Moment(self.encoding, self.check, (self.settings.seed, Draw.CALIBRATE, place), 1.0)
            return lambda: self.objective.probe(work, moment)

        losses = [probe(work, place) for place, work in enumerate(works)]
        self.encoding.recompute = self.state.recompute
        self._sparing(lambda: self.adapter.calibrate(self.encoding.model.network, losses))
        self.adapter.zero_grad(set_to_none=True)

    def _share_calibrated(self) -> None:
        """Take the first process's choices: scores that differ in their last bit would choose other weights."""
        if self.group.size > 1:
            chosen = self.adapter.state_dict()
            self.group.copy_first(chosen.values())
            self.adapter.load_state_dict(chosen)

    def _refuse_nonsense(self, loss: float, norm: float) -> None:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise SamTuneError(
                f"The loss became {loss} (gradient {norm}) at step {self.state.step + 1}, so training was stopped. "
                "Lower the learning rate, or train in full precision.",
                f"last checkpoint: {self.path}",
            )


def _copied(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Tell of a disk that takes no more."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"The run's curves could not be written to {folder}. Make room there, and go on with the run.", str(error)
        ) from error
