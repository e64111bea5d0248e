"""A run under way, as those see it who ask for it: its curves, its pictures, and its record in the run's folder."""

from __future__ import annotations

import csv
import json
import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..models.card import JsonValue
from ..models.errors import OutputError
from ..models.peft.atomic_file import write_file
from .tune_messages import (
    OFFER,
    CurvePoint,
    Picture,
    RunState,
    TuneAction,
    TuneParams,
    TuneReport,
    TuneWatch,
    WatchParams,
)
from .tuning.observe import Training, Wish
from .wire import to_wire

RECORD = "run.json"
"""The file in a run's folder that says what the run is and how far it got."""

_MAIN = ("iou", "f1", "miou")
_WISHES = {TuneAction.PAUSE: Wish.PAUSE, TuneAction.RESUME: Wish.GO_ON, TuneAction.FINISH: Wish.FINISH}

_log = logging.getLogger(__name__)


class Live:
    """An :class:`.tuning.observe.Observer` that remembers what it is told. For several threads."""

    def __init__(self, params: TuneParams) -> None:
        """Begin with nothing known.

        Args:
            params: the run.
        """
        self._params, self._folder = params, Path(params.folder)
        self._lock = threading.Lock()
        self._state = RunState.PREPARING
        self._wish = Wish.GO_ON
        self._before, self._step, self._steps, self._best = 0, 0, 0, 0
        self._training: dict[int, CurvePoint] = {}
        self._held_out: dict[int, CurvePoint] = {}
        self._pictures: tuple[Picture, ...] = ()
        self._pictures_step = -1
        self._notes: list[str] = []
        self._pace = _Pace()

    @property
    def wish(self) -> Wish:
        """What the user wants."""
        with self._lock:
            return self._wish

    @property
    def over(self) -> bool:
        """Whether the run has ended, in whatever way."""
        with self._lock:
            return self._state in {RunState.FINISHED, RunState.CANCELLED, RunState.FAILED}

    def act(self, action: TuneAction) -> None:
        """Take down what the user wants."""
        with self._lock:
            self._wish = _WISHES[action]

    def entered(self, state: RunState) -> None:
        """The run is at another stage: see :class:`.tuning.observe.Observer`."""
        with self._lock:
            self._state = state
            self._pace.rests(state is not RunState.RUNNING)
        self._write()

    def begins(self, training: Training) -> None:
        """A training begins, or goes on: see :class:`.tuning.observe.Observer`."""
        with self._lock:
            self._state = RunState.RUNNING
            if self._wish is Wish.FINISH and training.number > 1:
                self._wish = Wish.GO_ON  # it was the training before that was to end
            # Those before it have as many steps; those after it are taken to have.
            self._before = (training.number - 1) * max(training.steps, self._steps // training.of)
            self._steps = self._before + (training.of - training.number + 1) * training.steps
            self._step = self._before + training.done
            self._best = self._before
            self._pace.starts(self._step)
            self._recall(training)
        self._write()

    def stepped(self, step: int, figures: Mapping[str, float]) -> None:
        """A step was done: see :class:`.tuning.observe.Observer`."""
        with self._lock:
            self._step = self._before + step
            self._training[self._step] = _point(self._step, figures)
            self._pace.did(self._step)

    def looked(self, step: int, figures: Mapping[str, float], value: float, best_step: int) -> None:
        """The hold-out was measured: see :class:`.tuning.observe.Observer`."""
        with self._lock:
            place = self._before + step
            self._held_out[place] = _point(place, {**figures, "value": value})
            self._best = self._before + best_step

    def shows(self, step: int, pictures: Sequence[Picture]) -> None:
        """Take pictures: see :class:`.tuning.observe.Observer`."""
        with self._lock:
            self._pictures, self._pictures_step = tuple(pictures), self._before + step

    def noted(self, text: str) -> None:
        """Take a note: see :class:`.tuning.observe.Observer`."""
        with self._lock:
            self._notes.append(text)

    def saved(self, step: int) -> None:
        """A checkpoint was written: see :class:`.tuning.observe.Observer`."""
        del step
        self._write()

    def watch(self, params: WatchParams) -> TuneWatch:
        """Say how the run is doing.

        Args:
            params: what is known already.
        """
        with self._lock:
            fresh = self._pictures_step > params.pictures_after
            return TuneWatch(
                state=self._state,
                step=self._step,
                steps=self._steps,
                seconds_left=self._pace.left(self._steps - self._step),
                training=tuple(point for step, point in self._training.items() if step > params.steps_after),
                held_out=tuple(self._held_out.values()),
                best_step=self._best,
                pictures=self._pictures if fresh else (),
                pictures_step=self._pictures_step,
                notes=tuple(self._notes),
            )

    def finishes(self, report: TuneReport) -> None:
        """The run is over, and its adapter is there to be kept, by whoever opens the wizard next."""
        try:
            self._put(OFFER, to_wire(report))
        except OutputError as error:
            _log.warning("%s %s", error.user_text, error.details)
        self.ends(RunState.FINISHED)

    def ends(self, state: RunState) -> None:
        """The run is over. A folder that takes no record does not hide what the run ended with."""
        try:
            self.entered(state)
        except OutputError as error:
            _log.warning("%s %s", error.user_text, error.details)

    def _write(self) -> None:
        with self._lock:
            record = {
                "params": to_wire(self._params),
                "state": self._state.value,
                "step": self._step,
                "steps": self._steps,
                "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        self._put(RECORD, record)

    def _put(self, name: str, values: JsonValue) -> None:
        text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The folder {self._folder} of the run cannot be made. Choose another place.", str(error)
            ) from error
        write_file(self._folder / name, lambda path: path.write_text(text, encoding="utf-8"))

    def _recall(self, training: Training) -> None:
        """Take the curves of a training that goes on from the files that it left."""
        for name, into in (("training.csv", self._training), ("validation.csv", self._held_out)):
            path = training.folder / name
            if not training.done or not path.is_file():
                continue
            with path.open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    figures = {key: float(value or "nan") for key, value in row.items() if key != "step"}
                    main = next((figures[key] for key in _MAIN if key in figures), math.nan)
                    place = self._before + int(float(row["step"]))
                    into[place] = _point(place, figures if into is self._training else {**figures, "value": main})


class _Pace:
    """How fast steps are done, with the looks between them and without the pauses."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._done = 0
        self._seconds = 0.0
        self._since: float | None = None

    def starts(self, step: int) -> None:
        """Begin to count, where that has not begun."""
        if self._first is None:
            self._first, self._done = step, step
        self._since = time.monotonic()

    def rests(self, resting: bool) -> None:  # noqa: FBT001 - what it is told is whether
        """Stop or go on counting."""
        self._since = None if resting else time.monotonic()

    def did(self, step: int) -> None:
        """Count a step."""
        now = time.monotonic()
        self._seconds += 0.0 if self._since is None else now - self._since
        self._since, self._done = now, step

    def left(self, steps: int) -> float:
        """Return the seconds that some more steps take; negative where that is not known."""
        count = 0 if self._first is None else self._done - self._first
        return steps * self._seconds / count if count else -1.0


def _point(step: int, figures: Mapping[str, float]) -> CurvePoint:
    """Return a point without the figures that are no numbers, which the wire does not take."""
    return CurvePoint(step, {name: float(value) for name, value in figures.items() if math.isfinite(value)})
