"""Killed engines lose nothing: ``python benchmarks/interruption.py --kills 20``. See methods/interruption.py."""

from __future__ import annotations

import sys

from start import measure


def main(argv: list[str] | None = None) -> int:
    """Run everything and print the table."""
    return measure("interruption", argv)


if __name__ == "__main__":
    sys.exit(main())
