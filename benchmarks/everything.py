"""Which masks are worth keeping of everything: ``python benchmarks/everything.py``. See methods/everything.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from start import measure


def main(argv: list[str] | None = None) -> int:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description="What is found where everything is outlined, by what is kept.")
    parser.add_argument("--quick", action="store_true", help="one image, few points: to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--data", type=Path, help="folder with labelled images, see benchmarks/README.md")
    parser.add_argument("--images", type=int, default=12, help="labelled images at most (12)")
    parser.add_argument("--only", choices=("labelled", "samples"), help="only this part; labelled needs --data")
    return measure("everything", parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
