"""A batch job as the user wants it, before its features are in files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..engine.batch_messages import BatchSpec, VectorSource
from .feature_file import FeatureSnapshot


@dataclass(frozen=True)
class BatchOrder:
    """What the batch dialog orders.

    Attributes:
        spec: without the files of prompts and area.
        job: path of the job file; must not exist.
        prompts: each one object; None for tasks without prompts.
        area: polygons to which the work is limited; None for the whole rasters.
        show: put the results into the project when they are there.
    """

    spec: BatchSpec
    job: str
    prompts: FeatureSnapshot | None = None
    area: FeatureSnapshot | None = None
    show: bool = True

    def files(self, folder: Path, stem: str) -> list[tuple[FeatureSnapshot, Path]]:
        """Return which features go to which files.

        Args:
            folder: of the files.
            stem: first part of their names.
        """
        named = ((self.prompts, "prompts"), (self.area, "area"))
        return [(found, folder / f"{stem}.{name}.gpkg") for found, name in named if found is not None]

    def with_files(self, written: tuple[VectorSource, ...]) -> BatchSpec:
        """Return the whole specification.

        Args:
            written: the files of :meth:`files`, in their order.
        """
        left = list(written)
        prompts = left.pop(0) if self.prompts is not None else VectorSource()
        area = left.pop(0) if self.area is not None else VectorSource()
        return replace(self.spec, prompts=prompts, area=area)
