"""What every benchmark of this folder shares: a table on the screen, and the same figures as JSON.

Standard library only, so that it runs inside QGIS as well as in the engine's environment.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        name: what was measured.
        value: the figure.
        unit: its unit, ``x`` for a ratio.
        aim: what we want it to be, as text with its direction (``<= 1.15``); empty for none.
        note: how it came about (number of runs, spread).
    """

    name: str
    value: float
    unit: str
    aim: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        """Return ``yes`` or ``no`` for a figure with an aim, else an empty string."""
        if not self.aim:
            return ""
        sign, limit = self.aim.split()
        return "yes" if (self.value <= float(limit) if sign == "<=" else self.value >= float(limit)) else "no"


def arguments(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options that every benchmark takes: ``--quick`` and ``--json FILE``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args(argv)


def spread(samples: Sequence[float]) -> str:
    """Return number, 10 % and 90 % quantile of samples, for a row's note (same unit as the samples)."""
    if not samples:
        return "n=0"
    ordered = sorted(samples)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    return f"n={len(ordered)}, p10 {low:.4g}, p90 {high:.4g}"


def median(samples: Sequence[float]) -> float:
    """Return the median; of nothing, infinity, so that a missing measurement can never look good."""
    return statistics.median(samples) if samples else float("inf")


def publish(title: str, rows: Sequence[Row], file: Path | None, **facts: object) -> None:
    """Print the table and write the JSON file.

    Args:
        title: heading.
        rows: the figures.
        file: where the JSON goes, or None.
        facts: what the figures depend on (model, sizes, counts).
    """
    facts = {"machine": f"{platform.machine()}, {platform.system()}", **facts}
    print(f"\n{title}")
    for name, fact in facts.items():
        print(f"  {name}: {fact}")
    width = max(len(row.name) for row in rows)
    print(f"\n  {'figure':{width}}  {'value':>10} {'unit':<5} {'aim':>8}  met   note")
    for row in rows:
        print(f"  {row.name:{width}}  {row.value:>10.4g} {row.unit:<5} {row.aim:>8}  {row.verdict:4}  {row.note}")
    if file is not None:
        report = {"title": title, "facts": facts, "rows": [{**asdict(row), "met": row.verdict} for row in rows]}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
