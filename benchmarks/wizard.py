"""From ten polygons to an adapter: ``python benchmarks/wizard.py``. See methods/wizard.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from start import measure


def main(argv: list[str] | None = None) -> int:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description="From ten polygons to an adapter, on a processor.")
    parser.add_argument("--quick", action="store_true", help="two steps of everything: to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind (3)")
    parser.add_argument("--sets", type=lambda text: text.split(","), help="only these sets, by their names")
    parser.add_argument("--threads", type=int, default=2, help="of the processor (2)")
    parser.add_argument("--data", type=Path, help="folder with more sets, see benchmarks/README.md")
    args = parser.parse_args(argv)
    return measure("wizard", args)


if __name__ == "__main__":
    sys.exit(main())
