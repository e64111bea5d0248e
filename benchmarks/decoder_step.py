"""A step of the decoder rung against the decoder's own work: ``python benchmarks/decoder_step.py``."""

from __future__ import annotations

import sys

from start import measure


def main(argv: list[str] | None = None) -> int:
    """Run everything and print the table."""
    return measure("decoder_step", argv)


if __name__ == "__main__":
    sys.exit(main())
