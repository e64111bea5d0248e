"""Nonsense must never be called learnt: ``python benchmarks/shuffled.py``. See methods/shuffled.py."""

from __future__ import annotations

import sys

from start import local, measure


def main(argv: list[str] | None = None) -> int:
    """Run everything and print the table."""
    args = local("report").arguments("Nonsense must be called not better.", argv)
    return measure("shuffled", args)


if __name__ == "__main__":
    sys.exit(main())
