"""Scenes as other sensors see them: labels stay true, and what should differ differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from samtune.engine.pretrain import scenes, sensors
from samtune.engine.pretrain.pack import Entry, read_pack
from samtune.engine.pretrain.scenes import Composer

SIDE = 96


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def two_fields_and_a_house() -> tuple[np.ndarray, np.ndarray]:
    ground = np.ones((SIDE, SIDE), np.uint16)
    ground[:, SIDE // 2 :] = 2
    objects = np.zeros_like(ground)
    objects[30:60, 10:40] = 1
    ground[objects > 0] = 0
    return ground, objects


@pytest.mark.parametrize("factor", sensors.COARSENINGS)
def test_coarse_pixels_are_means_and_labels_keep_their_place(factor: int) -> None:
    ground, objects = two_fields_and_a_house()
    image = np.full((SIDE, SIDE, 3), 50, np.uint8)
    image[objects > 0] = 210
    small, layers = sensors.coarsened(image, [("cell", ground), ("object", objects)], rng(), factor)
    labels = dict(layers)
    assert small.shape == (SIDE // factor, SIDE // factor, 3)
    assert labels["object"].shape == small.shape[:2]
    house = labels["object"] == 1
    assert house.sum() == pytest.approx(900 / factor**2, rel=0.25)
    assert small[house].mean() > 170
    assert small[~house].mean() < 80


@pytest.mark.parametrize("seed", range(6))
def test_a_drawn_coarsening_is_one_of_those_named(seed: int) -> None:
    ground, objects = two_fields_and_a_house()
    image = np.full((SIDE, SIDE, 3), 50, np.uint8)
    small, _ = sensors.coarsened(image, [("cell", ground), ("object", objects)], rng(seed))
    assert SIDE // small.shape[0] in sensors.COARSENINGS


@pytest.mark.parametrize("seed", range(8))
def test_things_stand_above_the_ground(seed: int) -> None:
    ground, objects = two_fields_and_a_house()
    surface = sensors.heights(ground, objects, rng(seed))
    assert surface.shape == ground.shape
    middle = surface[40:50, 20:30].mean()
    assert middle > surface[5:25, 10:40].mean()
    assert middle > surface[65:90, 10:40].mean()


def test_shading_is_of_slopes_not_of_heights() -> None:
    flat = np.full((SIDE, SIDE), 0.7)
    light = sensors.shaded(flat, rng())
    assert np.ptp(light) < 1e-9
    step = flat.copy()
    step[:, SIDE // 2 :] = 0.2
    light = sensors.shaded(step, rng())
    changed = np.abs(light - light[0, 0]) > 1e-6
    assert changed.any()
    assert set(np.nonzero(changed)[1]) <= {SIDE // 2 - 1, SIDE // 2}


def test_radar_regions_differ_in_their_mean_and_speckle_within() -> None:
    ground, _ = two_fields_and_a_house()
    differences = []
    for seed in range(12):
        seen = sensors.backscatter(ground.astype(int), rng(seed))
        assert np.isfinite(seen).all()
        assert seen[:, : SIDE // 2 - 4].std() > 0.02
        differences.append(abs(seen[:, :40].mean() - seen[:, 56:].mean()))
    assert np.median(differences) > 0.2


def test_noisy_cover_varies_within_a_region() -> None:
    regions = np.zeros((SIDE, SIDE), int)
    regions[:, 48:] = 1
    for seed in range(6):
        seen = sensors.noisy_cover(regions, rng(seed))
        assert seen.shape == (SIDE, SIDE, 3)
        assert seen[:, :40].std(axis=(0, 1)).mean() > 1.5


def test_gray_images_span_the_range() -> None:
    values = rng().normal(0, 3, (SIDE, SIDE))
    image = sensors.as_gray_image(values, rng(1))
    assert image.dtype == np.uint8
    assert (image[..., 0] == image[..., 2]).all()
    assert image.min() == 0
    assert image.max() >= 254
    assert np.corrcoef(image[..., 0].ravel(), values.ravel())[0, 1] > 0.9
    assert not sensors.as_gray_image(np.zeros((8, 8)), rng()).any()


@pytest.mark.parametrize("seed", range(24))
def test_every_sensor_keeps_image_and_labels_in_step(seed: int) -> None:
    ground, objects = two_fields_and_a_house()
    image = rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    seen, layers = sensors.resensed(image, [("cell", ground), ("object", objects), ("class", ground)], rng(seed))
    assert seen.dtype == np.uint8
    assert [kind for kind, _ in layers] == ["cell", "object", "class"]
    for _, labels in layers:
        assert labels.shape == seen.shape[:2]
        assert labels.dtype == np.uint16
    assert set(np.unique(dict(layers)["object"])) == {0, 1}


def test_a_scene_is_the_same_whoever_writes_it(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers are seeds: workers may share them out in any way; some scenes are of other sensors."""
    monkeypatch.setattr(scenes, "SIZE", 96)
    composer = Composer(entries, [])
    for folder, numbers in ((tmp_path / "a", range(8)), (tmp_path / "b", reversed(range(8)))):
        for number in numbers:
            composer.write(folder, number, 4)
    first, second = ({entry.name: entry for entry in read_pack(folder)} for folder in (tmp_path / "a", tmp_path / "b"))
    assert set(first) == set(second)
    assert {entry.source for entry in first.values()} == {"scenes", "sensors"}
    for name, entry in first.items():
        assert entry.source == second[name].source
        assert np.array_equal(entry.image, second[name].image)
        assert np.array_equal(entry.labels, second[name].labels)
