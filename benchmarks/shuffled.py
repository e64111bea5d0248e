"""Nonsense must never be called learnt: ``python benchmarks/shuffled.py``. See methods/shuffled.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from start import measure


def main(argv: list[str] | None = None) -> int:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description="Nonsense must be called not better.")
    parser.add_argument("--quick", action="store_true", help="few seeds, few steps: to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--wizard", action="store_true", help="as many steps as the wizard recommends; nonsense only")
    parser.add_argument("--only", choices=("clicks", "maps"), help="only this kind of adapter")
    return measure("shuffled", parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
