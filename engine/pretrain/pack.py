"""Packs: folders of images with layers of label maps, written once and read by windows while training.

An entry is ``NAME.image.npy`` (H, W, 3) uint8 and ``NAME.labels.npy`` (L, H, W) uint16, 0 being "no object here"; a
line of ``index.jsonl`` names the entry, the set it comes from and what kind each layer is. The line is written last,
so a pack can be read while a worker still adds to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...models.errors import SamTuneError

INDEX = "index.jsonl"


@dataclass(frozen=True)
class Entry:
    """One packed image.

    Attributes:
        folder: the pack's folder.
        name: file stem within it.
        source: name of the set the image comes from.
        layers: the kind of each label map, such as ``instance`` or ``felz-fine``.
    """

    folder: Path
    name: str
    source: str
    layers: tuple[str, ...]

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """The (H, W, 3) RGB image, mapped from the file."""
        return np.load(self.folder / f"{self.name}.image.npy", mmap_mode="r")

    @cached_property
    def labels(self) -> NDArray[np.uint16]:
        """The (L, H, W) label maps, mapped from the file."""
        return np.load(self.folder / f"{self.name}.labels.npy", mmap_mode="r")


def write_entry(
    folder: Path,
    name: str,
    source: str,
    image: NDArray[np.uint8],
    layers: Sequence[tuple[str, NDArray[np.uint16]]],
) -> None:
    """Add one image to a pack.

    Args:
        folder: the pack; made if absent.
        name: file stem, unique in the pack.
        source: name of the set.
        image: (H, W, 3) uint8 RGB.
        layers: kind and (H, W) uint16 label map of each layer; layers without any object are left out.
    """
    kept = [(kind, labels) for kind, labels in layers if labels.any()]
    if not kept:
        return
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.image.npy", np.ascontiguousarray(image, np.uint8))
    np.save(folder / f"{name}.labels.npy", np.stack([labels.astype(np.uint16) for _, labels in kept]))
    line = json.dumps({"name": name, "source": source, "layers": [kind for kind, _ in kept]})
    with (folder / INDEX).open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def read_pack(folder: Path) -> list[Entry]:
    """Return the entries of a pack in the order they were written.

    Raises:
        SamTuneError: there is no pack in the folder.
    """
    return list(_entries(folder))


def names_in(folder: Path) -> set[str]:
    """Return the names of a pack's entries; none where there is no pack yet."""
    return {entry.name for entry in _entries(folder)} if (folder / INDEX).is_file() else set()


def _entries(folder: Path) -> Iterator[Entry]:
    index = folder / INDEX
    if not index.is_file():
        raise SamTuneError(f"There is no data pack in {folder}. Make it with 'samtune pretrain CONFIG --pack'.")
    for line in index.read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        yield Entry(folder, fields["name"], fields["source"], tuple(fields["layers"]))
