"""The log of a run: one CSV of training steps, one of validations, and a plot of both."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

_SMOOTHING = 50


class Curves:
    """Appends figures to ``training.csv`` and ``validation.csv`` in a folder and plots them to ``curves.png``."""

    def __init__(self, folder: Path) -> None:
        """Use a folder; it is made if absent."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def add(self, step: int, figures: dict[str, float]) -> None:
        """Append a training step's figures."""
        self._append("training.csv", step, figures)

    def add_validation(self, step: int, figures: dict[str, float]) -> None:
        """Append a validation's figures."""
        if figures:
            self._append("validation.csv", step, figures)

    def cut(self, step: int) -> None:
        """Drop what was logged after a step, when a run resumes from there."""
        for name in ("training.csv", "validation.csv"):
            rows = self._rows(name)
            kept = [row for row in rows if int(float(row["step"])) <= step]
            if len(kept) < len(rows):
                (self._folder / name).unlink()
                for row in kept:
                    self._append(name, int(row["step"]), {k: float(v) for k, v in row.items() if k != "step" and v})

    def plot(self) -> None:
        """Draw losses and IoU over the steps."""
        from matplotlib.figure import Figure  # slow to import and only needed here

        figure = Figure(figsize=(9, 6))
        upper, lower = figure.subplots(2, 1, sharex=True)
        training, validation = self._columns("training.csv"), self._columns("validation.csv")
        for axis, names in ((upper, ("loss", "dice")), (lower, ("point", "box", "corrected"))):
            for name in names:
                if name in training:
                    axis.plot(training["step"], _smooth(training[name]), label=f"{name} (training)", linewidth=1)
                if name in validation:
                    axis.plot(validation["step"], validation[name], ".--", label=f"{name} (validation)")
            axis.legend(fontsize=7)
        lower.set_ylabel("IoU")
        lower.set_xlabel("step")
        figure.savefig(self._folder / "curves.png", dpi=90)

    def _append(self, name: str, step: int, figures: dict[str, float]) -> None:
        path = self._folder / name
        fresh = not path.is_file()
        if fresh:
            header = ["step", *figures]
        else:
            with path.open(newline="", encoding="utf-8") as stream:
                header = next(csv.reader(stream))
        with path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, header, restval="", extrasaction="ignore")
            if fresh:
                writer.writeheader()
            writer.writerow({"step": step, **{key: f"{value:.6g}" for key, value in figures.items()}})

    def _rows(self, name: str) -> list[dict[str, str]]:
        path = self._folder / name
        if not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def _columns(self, name: str) -> dict[str, np.ndarray]:
        rows = self._rows(name)
        if not rows:
            return {}
        return {key: np.array([float(row[key] or "nan") for row in rows]) for key in rows[0]}


def _smooth(values: np.ndarray) -> np.ndarray:
    """Return the running mean over the last steps, with as many as there are at the beginning."""
    known = np.nan_to_num(values)
    sums = np.cumsum(np.insert(known, 0, 0.0))
    ends = np.arange(1, len(known) + 1)
    starts = np.maximum(ends - _SMOOTHING, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
