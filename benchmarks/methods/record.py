"""Figures of many runs: one line per run, tables of means and spreads, and both as JSON."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One training run, or one measurement without training.

    Attributes:
        arm: what was compared.
        case: under which conditions (number of objects, data set).
        seed: of everything drawn.
        scores: by name, 0 to 1.
        trainable: numbers trained in the encoder and in what else is tuned, the head of a class map left out.
        seconds: processor seconds of a training step, one thread.
        memory: MiB of memory above what the process held before the first step; None where it cannot be told.
    """

    arm: str
    case: str
    seed: int
    scores: dict[str, float]
    trainable: int = 0
    seconds: float = 0.0
    memory: float | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: head of the column.
        case: which runs.
        score: which of their scores.
    """

    title: str
    case: str
    score: str


@dataclass
class Report:
    """The answer to one question.

    Attributes:
        question: in words.
        facts: what the figures depend on: data and its hash, model, command, steps.
        columns: of the table.
        runs: all runs.
        findings: sentences computed from the runs, such as whether an aim is met.
        file: where all is written after every run; what is there from the same facts is not run again. None for
            nowhere.
        minutes: of processor time after which nothing new is begun; None for no limit.
        only: the one seed that is run in this call; None for all.
    """

    question: str
    facts: dict[str, object]
    columns: list[Column]
    runs: list[Run] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    file: Path | None = None
    minutes: float | None = None
    only: int | None = None

    def go_on(self) -> None:
        """Take over the runs of an earlier call that was stopped, if it was about the same."""
        if self.file is None or not self.file.is_file():
            return
        document = json.loads(self.file.read_text(encoding="utf-8"))
        if document["facts"] == self._facts():
            self.runs = [Run(**run) for run in document["runs"]]
            print(f"Going on after {len(self.runs)} runs of {self.file}.")

    def needs(self, arm: str, case: str, seed: int) -> bool:
        """Say whether a run is still to be made, and there is time for it."""
        if any((run.arm, run.case, run.seed) == (arm, case, seed) for run in self.runs):
            return False
        if self.only is not None and seed != self.only:
            return False
        return self.minutes is None or time.process_time() < 60 * self.minutes

    def conclude(self, find: Callable[[Report], list[str]]) -> None:
        """Put the runs into words, as far as they are there."""
        try:
            self.findings = find(self)
        except ValueError as missing:
            self.findings = [f"Not all runs were made: {missing}."]

    def add(self, run: Run) -> None:
        """Keep a run, show it, and write it down, because a table takes minutes."""
        self.runs.append(run)
        self.write()
        scores = ", ".join(f"{name} {value:.3f}" for name, value in run.scores.items())
        print(f"  {run.case:24} {run.arm:28} seed {run.seed}  {scores}  ({run.seconds:.2f} s a step)", flush=True)

    def values(self, arm: str, case: str, score: str) -> list[float]:
        """Return a score of all seeds, in their order."""
        found = [run for run in self.runs if run.arm == arm and run.case == case and score in run.scores]
        return [run.scores[score] for run in sorted(found, key=lambda run: run.seed)]

    def mean(self, arm: str, case: str, score: str) -> float:
        """Return a score's mean over the seeds.

        Raises:
            ValueError: nothing was measured.
        """
        values = self.values(arm, case, score)
        if not values:
            raise ValueError(f"no run of {arm} in {case} has {score}")
        return statistics.fmean(values)

    def markdown(self) -> str:
        """Return the table as Markdown: mean and, where there are several seeds, the standard deviation over them."""
        arms = list(dict.fromkeys(run.arm for run in self.runs))
        heads = ["arm", *(column.title for column in self.columns), "trained", "s a step", "MiB"]
        lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
        for arm in arms:
            cells = [self._cell(self.values(arm, column.case, column.score)) for column in self.columns]
            lines.append("| " + " | ".join([arm, *cells, *self._costs(arm)]) + " |")
        return "\n".join(lines)

    def _cell(self, values: Sequence[float]) -> str:
        if not values:
            return ""
        mean = statistics.fmean(values)
        text = f"{mean:.3f}" if len(values) == 1 else f"{mean:.3f} ± {statistics.stdev(values):.3f}"
        seeds = self.facts.get("seeds", ())
        missing = isinstance(seeds, Sequence) and len(values) < len(seeds)
        return f"{text} (seeds: {len(values)})" if missing else text

    def gain(self, higher: str, lower: str, case: str, score: str) -> float | None:
        """Return how far one arm's mean is above another's, over the seeds that both have; None without any."""
        both = [
            {run.seed: run.scores[score] for run in self.runs if (run.arm, run.case) == (arm, case)}
            for arm in (higher, lower)
        ]
        seeds = both[0].keys() & both[1].keys()
        return statistics.fmean(both[0][seed] - both[1][seed] for seed in seeds) if seeds else None

    def _costs(self, arm: str) -> list[str]:
        runs = [run for run in self.runs if run.arm == arm and run.trainable]
        if not runs:
            return ["", "", ""]
        memory = [run.memory for run in runs if run.memory is not None]
        trained = sorted({run.trainable for run in runs})
        counts = f"{trained[0]:,}" if len(trained) == 1 else f"{trained[0]:,} to {trained[-1]:,}"
        seconds = statistics.fmean(run.seconds for run in runs)
        return [counts, f"{seconds:.2f}", f"{max(memory):.0f}" if memory else ""]

    def publish(self) -> None:
        """Print everything, and write it as JSON."""
        print(f"\n{self.question}\n")
        for name, fact in self.facts.items():
            print(f"  {name}: {fact}")
        print(f"\n{self.markdown()}\n")
        for finding in self.findings:
            print(f"* {finding}")
        self.write()

    def write(self) -> None:
        """Write everything as JSON."""
        if self.file is None:
            return
        document = {
            "question": self.question,
            "facts": self._facts(),
            "columns": [asdict(column) for column in self.columns],
            "findings": self.findings,
            "runs": [asdict(run) for run in self.runs],
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".part")
        partial.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
        partial.replace(self.file)

    def _facts(self) -> dict[str, object]:
        """Return the facts as they are after a way through JSON."""
        plain: dict[str, object] = json.loads(json.dumps(self.facts, default=str))
        return {"machine": f"{platform.machine()}, {platform.system()}", **plain}
