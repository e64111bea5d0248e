"""A small pool of labelled images, made on the spot, and its pack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from samtune.engine.pretrain.pack import Entry, read_pack
from samtune.engine.pretrain.pool import pack_job, pool_jobs
from skimage import io


def disc(size: int, row: int, column: int, radius: int) -> np.ndarray:
    rows, columns = np.ogrid[:size, :size]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def write_pool(folder: Path) -> Path:
    """Make sets nwpu (2 training images, 1 validation image), water (1) and bsds (1)."""
    rng = np.random.default_rng(0)
    for name in ("nwpu/images", "water/images", "water/masks", "bsds/images", "bsds/labels"):
        (folder / name).mkdir(parents=True)
    for part, numbers in (("train", (1, 2)), ("val", (3,))):
        images, annotations = [], []
        for number in numbers:
            image = rng.normal(80, 10, (96, 120, 3))
            image[disc(120, 40, 50, 20)[:96]] += 90
            io.imsave(
                folder / f"nwpu/images/{number:03d}.png", image.clip(0, 255).astype(np.uint8), check_contrast=False
            )
            angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
            ring = np.stack([50 + 20 * np.cos(angles), 40 + 20 * np.sin(angles)], 1).ravel().tolist()
            images.append({"id": number, "file_name": f"{number:03d}.png", "width": 120, "height": 96})
            annotations.append({"id": number, "image_id": number, "category_id": 1, "segmentation": [ring]})
            square = [80.0, 10.0, 100.0, 10.0, 100.0, 30.0, 80.0, 30.0]
            annotations.append({"id": number + 10, "image_id": number, "category_id": 2, "segmentation": [square]})
        document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "tank"}]}
        (folder / f"nwpu/{part}.json").write_text(json.dumps(document), encoding="utf-8")
    lake = disc(96, 50, 50, 30)
    image = np.where(lake[..., None], [20, 40, 90], [110, 100, 60]) + rng.normal(0, 5, (96, 96, 3))
    io.imsave(folder / "water/images/a.png", image.clip(0, 255).astype(np.uint8))
    io.imsave(folder / "water/masks/a.png", lake.astype(np.uint8) * 255)
    io.imsave(folder / "bsds/images/b.png", image.clip(0, 255).astype(np.uint8))
    segments = np.stack([lake, lake * 2, np.arange(96)[None, :] // 32 + np.zeros((96, 1), int)], -1)
    io.imsave(folder / "bsds/labels/b.png", segments.astype(np.uint8), check_contrast=False)
    return folder


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pool(tmp_path_factory.mktemp("pool"))


@pytest.fixture(scope="session")
def pack(pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    for job in pool_jobs(pool):
        pack_job(job, folder, regions=job.source == "water")
    return folder


@pytest.fixture(scope="session")
def entries(pack: Path) -> list[Entry]:
    return read_pack(pack)
