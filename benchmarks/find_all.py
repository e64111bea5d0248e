"""Find all on real imagery: ``python benchmarks/find_all.py --data DATA``. See methods/find_all.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from start import measure


def main(argv: list[str] | None = None) -> int:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description="Find all objects of a class on imagery that took no part.")
    parser.add_argument("--quick", action="store_true", help="two steps: to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--data", type=Path, required=True, help="folder with pool/nwpu, see benchmarks/README.md")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=["airplane", "tennis_court"])
    parser.add_argument("--objects", type=int, default=40, help="to learn from, about (40)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each kind (1)")
    parser.add_argument("--steps", type=int, help="other than those of the suggested rung")
    parser.add_argument("--threads", type=int, default=1, help="of the processor (1)")
    return measure("find_all", parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
