"""Give the distribution the version that QGIS reads, so that one place has it. All else is in pyproject.toml."""

from __future__ import annotations

import configparser
from pathlib import Path

from setuptools import setup

metadata = configparser.ConfigParser(interpolation=None)
metadata.read(Path(__file__).resolve().parent / "metadata.txt", encoding="utf-8")
setup(version=metadata["general"]["version"])
