"""Measuring with few objects: every block of ground is held out once, and an adapter learns on the rest.

Each of these adapters is measured at every look, and all of that is kept in the run's folder. The state of an adapter
that counts is the one at the step that served the *other* parts best, so that no object helps to choose what it is
measured by. The adapter that is written in the end learns from all objects, for as many steps as served the parts best.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ...models.errors import OutputError
from ...models.peft.adapter import Adapter
from ..progress import Check, Progress
from .encoding import Encoding
from .exam import Exam, Examiner
from .loop import Trainer
from .prepare import Prepared, assembled
from .settings import TuneSettings
from .split import Split, folds

CHECKS = 4
"""Looks at each part while its adapter learns, at most: they cost as much as the steps."""

_KEY, _END = "key.txt", "end.json"
_LOOK = re.compile(r"look-(\d+)\.npz")

Learn = Callable[[Prepared, Encoding, Path, int, int], Trainer]
"""Makes the trainer of one part: what it takes, the encoding, its folder, its number from 1, and how many there are."""


@dataclass(frozen=True)
class Folded:
    """What came of holding out every part once.

    Attributes:
        before: the base on all objects.
        after: each object by an adapter that did not learn from its ground.
        step: that the final training should end at.
        seconds: of training.
        parts: how many parts were held out.
    """

    before: Exam
    after: Exam
    step: int
    seconds: float
    parts: int


def hold_each_out(ready: Prepared, learn: Learn, progress: Progress, go_on: Callable[[], bool]) -> Folded | None:
    """Hold every part out once. What is finished of it is taken from the run's folder.

    Args:
        ready: the run; nothing is attached when this begins and ends.
        learn: makes a part's trainer.
        progress: told about every step; may stop the work, which leaves a checkpoint.
        go_on: asked before every part but the first whether to begin it.

    Returns:
        None where nothing could be held out.

    Raises:
        SamTuneError: as :meth:`.loop.Trainer.run`.
        CancelledByUser: from ``progress.check``.
    """
    parts = folds(ready.dataset, ready.settings.seed)
    base = Encoding(ready.model, None, ready.cache, amp=ready.settings.amp)
    before: list[Exam] = []
    looks: list[dict[int, Exam]] = []
    seconds = 0.0
    for number, sides in enumerate(parts, start=1):
        if looks and not go_on():
            break
        ground = without(ready, sides, progress.check)
        if ground.examiner is None:
            continue
        folder = ready.settings.work_folder / f"part-{number}"
        _claim(folder, f"{ready.key()} {number} {len(parts)}")
        end = _finished(folder)
        if end is None:
            end = _learnt(ground, learn, folder, progress, (number, len(parts)))
        progress.report(-1.0, "Measuring the base")
        before.append(ground.examiner.examine(base, progress.check))
        looks.append(_read(folder, type(before[-1])))
        seconds += end
    return _chosen(before, looks, seconds)


def part_settings(settings: TuneSettings) -> TuneSettings:
    """Return how a part's adapter learns: as the run's, but to the end, and looked at more rarely."""
    schedule = replace(settings.schedule, patience=0, checks=min(CHECKS, settings.schedule.checks))
    return replace(settings, schedule=schedule)


def without(ready: Prepared, sides: Split, check: Check) -> Prepared:
    """Return the run as it is when one part of the ground is held out, with an adapter of its own.

    Args:
        ready: the run.
        sides: one of :func:`.split.folds`.
        check: called for every object and crop; may raise to stop.
    """
    settings = part_settings(ready.settings)
    torch.manual_seed(settings.seed)
    adapter = Adapter(ready.model.network, ready.adapter.configs)
    return assembled(settings, ready.model, ready.dataset, sides, adapter, ready.cache, ready.reader, check)


def _claim(folder: Path, key: str) -> None:
    """Empty a part's folder unless it holds something of this very run."""
    try:
        path = folder / _KEY
        if path.is_file() and path.read_text(encoding="utf-8") == key:
            return
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        path.write_text(key, encoding="utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from error


def _finished(folder: Path) -> float | None:
    """Return how long a part's training took; None where it is not finished."""
    path = folder / _END
    return float(json.loads(path.read_text(encoding="utf-8"))["seconds"]) if path.is_file() else None


def _learnt(ground: Prepared, learn: Learn, folder: Path, progress: Progress, place: tuple[int, int]) -> float:
    """Train a part's adapter to the end, and keep every look at what it was not shown."""
    if ground.examiner is None:
        return 0.0
    ground.adapter.attach(ground.model.network)
    try:
        tuned = Encoding(ground.model, ground.adapter, ground.cache, amp=ground.settings.amp)
        looks = _Looks(ground.examiner, folder)
        trainer = learn(replace(ground, examiner=looks), tuned, folder, *place)
        looks.step = lambda: trainer.state.step
        trainer.run(_Part(progress, *place))
        if trainer.scheduled:  # only the end of such a training is of use
            for path in _steps(folder).values():
                path.unlink()
            trainer.finish()
        ground.adapter.eval()
        if trainer.state.step not in _steps(folder):
            looks.examine(tuned, progress.check)
        partial = folder / f"{_END}.part"
        partial.write_text(json.dumps({"seconds": trainer.state.seconds}), encoding="utf-8")
        partial.replace(folder / _END)
        trainer.path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        ground.adapter.detach()
    return trainer.state.seconds


class _Looks(Examiner):
    """Measures everything at each look, and keeps it.

    Attributes:
        step: tells where the training is.
    """

    def __init__(self, examiner: Examiner, folder: Path) -> None:
        self._examiner, self._folder = examiner, folder
        self.step: Callable[[], int] = lambda: 0

    def examine(self, encoding: Encoding, check: Callable[[], None], most: int | None = None) -> Exam:
        """Measure: see :class:`.exam.Examiner`."""
        del most
        exam = self._examiner.examine(encoding, check)
        path = self._folder / f"look-{self.step()}.npz"
        partial = path.with_suffix(".part")
        try:
            with partial.open("wb") as stream:
                np.savez_compressed(stream, **exam.arrays())  # type: ignore[arg-type]
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _unwritable(self._folder, error) from error
        return exam


class _Part:
    """A :class:`..progress.Progress` of one of several trainings."""

    def __init__(self, progress: Progress, number: int, of: int) -> None:
        self._progress, self._number, self._of = progress, number, of

    def report(self, fraction: float, message: str) -> None:
        """Pass on, as a share of all trainings; the final one is the last of them."""
        share = fraction if fraction < 0 else (self._number - 1 + fraction) / (self._of + 1)
        self._progress.report(share, f"{message} (part {self._number} of {self._of} held out)")

    def check(self) -> None:
        """Pass on."""
        self._progress.check()


def _steps(folder: Path) -> dict[int, Path]:
    found = ((_LOOK.fullmatch(path.name), path) for path in folder.glob("look-*.npz"))
    return {int(match.group(1)): path for match, path in found if match}


def _read(folder: Path, kind: type[Exam]) -> dict[int, Exam]:
    looks = {}
    for step, path in sorted(_steps(folder).items()):
        with np.load(path, allow_pickle=False) as arrays:
            looks[step] = kind.of(dict(arrays))
    return looks


def _chosen(before: Sequence[Exam], looks: Sequence[Mapping[int, Exam]], seconds: float) -> Folded | None:
    """Take of each part the look at the step that served the others best."""
    measured = [number for number, exam in enumerate(before) if exam.units]
    if not measured:
        return None
    best = {number: max(looks[number], key=lambda step: looks[number][step].value) for number in measured}
    kind = type(before[measured[0]])
    after = []
    for number in measured:
        others = [step for other, step in best.items() if other != number] or [max(looks[number])]
        after.append(looks[number][_nearest(looks[number], float(np.median(others)))])
    step = _nearest(looks[measured[0]], float(np.median(list(best.values()))))
    return Folded(kind.joined([before[n] for n in measured]), kind.joined(after), step, seconds, len(measured))


def _nearest(steps: Mapping[int, Exam], wanted: float) -> int:
    return min(steps, key=lambda step: (abs(step - wanted), step))


def _unwritable(folder: Path, error: OSError) -> OutputError:
    text = f"What was measured could not be written to {folder}. Make room there, or choose another output."
    return OutputError(text, str(error))
