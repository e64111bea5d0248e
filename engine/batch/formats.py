"""Vector formats that a job may write, and what must be so before it is begun."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import pyogrio

from ...models.errors import OutputError
from ..batch_messages import BatchOutputs, BatchTask


@dataclass(frozen=True)
class Format:
    """A vector format.

    Attributes:
        title: for the user.
        driver: GDAL's name of it.
    """

    title: str
    driver: str


FORMATS = {
    ".gpkg": Format("GeoPackage", "GPKG"),
    ".fgb": Format("FlatGeobuf", "FlatGeobuf"),
    ".parquet": Format("GeoParquet", "Parquet"),
}


def writes_itself(driver: str) -> bool:
    """Say whether this GDAL writes a format."""
    return "w" in (pyogrio.list_drivers().get(driver) or "")


def check_outputs(task: BatchTask, outputs: BatchOutputs, *, ours: tuple[str, ...] = ()) -> None:
    """Refuse outputs that cannot be written, before any work is done.

    Args:
        task: of the job.
        outputs: as the user wants them.
        ours: paths of existing files that this job wrote and that nobody changed since: they may be replaced.

    Raises:
        OutputError: a file exists, has an unknown suffix, or its folder is missing or protected.
    """
    if task is BatchTask.EMBEDDINGS:
        if outputs.vector or outputs.maps:
            raise OutputError("The task embeddings fills the store and writes no file. Leave the output out.")
        return
    if outputs.maps and task is not BatchTask.MAP:
        raise OutputError(f"The task {task.value} makes no class maps. Leave their folder out.")
    if not outputs.vector and not outputs.maps:
        wanted = (
            "a folder for the maps, or a vector file" if task is BatchTask.MAP else "a .gpkg, .fgb or .parquet file"
        )
        raise OutputError(f"The job has no output. Name {wanted}.")
    if outputs.vector:
        _check_vector(Path(outputs.vector), overwrite=outputs.overwrite or outputs.vector in ours)
    if outputs.maps and Path(outputs.maps).exists() and not Path(outputs.maps).is_dir():
        raise OutputError(f"{outputs.maps} is no folder. Name another one for the class maps.")


def _check_vector(path: Path, *, overwrite: bool) -> None:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise OutputError(f"{path} has no known suffix. Give a name that ends in {', '.join(FORMATS)}.")
    form = FORMATS[suffix]
    if not writes_itself(form.driver) and not (suffix == ".parquet" and importlib.util.find_spec("pyarrow")):
        raise OutputError(
            f"{form.title} cannot be written here: this GDAL lacks it, and the package pyarrow is not installed. "
            "Write a .gpkg or .fgb, or install pyarrow into the engine's environment."
        )
    if not path.parent.is_dir():
        raise OutputError(f"There is no folder {path.parent}. Make it first.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists. Choose another name, or say that it may be replaced (--overwrite).")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: the folder is protected. Choose another one.")
