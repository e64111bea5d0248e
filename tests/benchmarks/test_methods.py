"""What the benchmark of the tuning methods is made of: data made up or parted, scores, tables."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def _main_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("samtune_benchmark_methods", ROOT / "benchmarks" / "methods.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_main_module().prepare()


def part(name: str) -> ModuleType:
    return importlib.import_module(f"samtune_method_tables.{name}")


bands, city, data, few_shot, maps, modalities, promptable, record = (
    part(name) for name in ("bands", "city", "data", "few_shot", "maps", "modalities", "promptable", "record")
)


def test_a_town_comes_from_its_seed_alone() -> None:
    first, again, other = (city.make_town(np.random.default_rng(seed), 128) for seed in (1, 1, 2))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.height, again.height)
    assert not np.array_equal(first.image, other.image)
    assert first.image.shape == (128, 128, 3)
    assert set(np.unique(first.classes)) <= set(range(len(city.CLASSES)))


def test_colours_do_not_tell_roofs_from_streets_but_heights_do() -> None:
    towns = [city.make_town(np.random.default_rng(seed)) for seed in range(12)]
    image = np.concatenate([town.image.reshape(-1, 3) for town in towns]).astype(float)
    height = np.concatenate([town.height.ravel() for town in towns])
    classes = np.concatenate([town.classes.ravel() for town in towns])
    street, roof, grass, tree = (classes == number for number in range(4))
    spread = image[street].std(axis=0).mean()
    assert np.abs(image[street].mean(axis=0) - image[roof].mean(axis=0)).max() < 0.6 * spread
    assert height[roof].mean() - height[street].mean() > 3
    assert np.abs(height[street].mean() - height[grass].mean()) < 1  # and height alone is not enough:
    assert height[tree].mean() > 2


def test_heights_are_shown_on_one_scale_in_all_towns() -> None:
    town = city.Town(np.zeros((128, 128, 3), np.uint8), np.full((128, 128), 5, np.float32), np.zeros((128, 128), int))
    [crop] = modalities.town_crops([town])
    assert crop.second.shape == (128, 128, 3)
    assert set(np.unique(crop.second)) == {128}


def scenes(*counts: int) -> list[object]:
    found = []
    for number, count in enumerate(counts):
        masks = np.zeros((count, 8, 8), bool)
        masks[:, 0, 0] = True
        found.append(data.Scene(f"s{number}", np.zeros((8, 8, 3), np.uint8), masks, f"place{number}"))
    return found


def test_images_are_parted_and_hold_enough_objects() -> None:
    given = scenes(3, 9, 4, 7, 2, 8)
    learn, test = few_shot.parted(given, 15, seed=4)
    assert sum(len(scene.masks) for scene in learn) >= 15
    assert {scene.place for scene in learn}.isdisjoint(scene.place for scene in test)
    assert len(learn) + len(test) == len(given)
    assert [scene.place for scene in few_shot.parted(given, 15, seed=4)[0]] == [scene.place for scene in learn]
    assert any([s.place for s in few_shot.parted(given, 15, seed)[0]] != [s.place for s in learn] for seed in (5, 6, 7))


def test_more_objects_contain_the_fewer_ones() -> None:
    given = scenes(3, 9, 4)
    few, more = few_shot.first_objects(given, 5), few_shot.first_objects(given, 12)
    assert [len(scene.masks) for scene in few] == [2, 2, 1]
    assert sum(len(scene.masks) for scene in more) == 12
    assert all(len(a.masks) <= len(b.masks) for a, b in zip(few, more, strict=True))
    assert [len(scene.masks) for scene in few_shot.first_objects(given, 1)] == [1]


def test_a_close_up_shows_one_object_magnified() -> None:
    mask = np.zeros((3, 256, 256), bool)
    mask[0, 10:40, 100:120] = True
    mask[1, 250:256, 250:256] = True  # in the corner
    mask[2, 20:120, 20:120] = True  # too large
    image = np.zeros((256, 256, 3), np.uint8)
    image[mask[0]] = 200
    found = data.close_ups([data.Scene("house", image, mask, "here")])
    assert len(found) == 2
    assert all(scene.image.shape == (128, 128, 3) and scene.masks.shape == (1, 128, 128) for scene in found)
    assert [int(scene.masks.sum()) for scene in found] == [4 * 600, 4 * 36]
    rows, columns = np.nonzero(found[0].masks[0])
    assert abs(columns.mean() - 63.5) <= 2
    assert found[0].image[rows, columns].mean() > 190
    assert {scene.place for scene in found} == {"here"}


def test_the_main_arms_come_first_and_nothing_twice() -> None:
    turns = few_shot._order(few_shot.SIZES)
    assert turns[:2] == [(20, True), (20, False)]
    assert [size for size, main in turns if main] == [20, 50, 10, 5]
    assert len(set(turns)) == len(turns) == 2 * len(few_shot.SIZES)
    assert {arm.name for arm in few_shot.ARMS} >= set(few_shot._MAIN)


def ground(classes: np.ndarray, groups: np.ndarray) -> object:
    values = np.random.default_rng(0).normal(size=(4, *classes.shape)).astype(np.float32)
    return data.Bands("made up", values, (2, 1, 0), (3, 3, 3), classes, groups, 4)


def test_groups_are_parted_class_by_class() -> None:
    groups = np.arange(64).reshape(8, 8) // 4
    classes = groups % 3
    classes[0, :4] = 3  # a class that only the first group has
    for seed in range(5):
        learn, test = bands.parted(ground(classes, groups), 0.5, seed)
        assert set(learn.tolist()).isdisjoint(test.tolist())
        assert set(learn.tolist()) | set(test.tolist()) == set(range(16))
        assert 0 in learn
        for number in range(3):
            members = set(np.unique(groups[classes == number]).tolist())
            assert members & set(learn.tolist())
            assert members & set(test.tolist())


def test_crops_know_only_the_labels_of_their_side() -> None:
    groups = np.zeros((64, 64), int)
    groups[:, 32:] = 1
    classes = np.ones((64, 64), int)
    crops = maps.crops_of(ground(classes, groups), np.array([1]), zoom=4)
    assert len(crops) == 2
    for crop in crops:
        assert crop.image.shape == (128, 128, 3)
        assert crop.image.dtype == np.uint8
        assert crop.bands.shape == (128, 128, 4)
        assert (crop.classes == 1).all()
    assert {int((c.classes == 1).sum()) for c in maps.crops_of(ground(classes, groups), np.array([0, 1]), zoom=2)} == {
        128 * 128
    }


def test_crops_are_laid_in_eight_ways_with_all_that_belongs_to_them() -> None:
    picture = np.arange(16, dtype=np.uint8).reshape(4, 4)
    crop = maps.MapCrop(
        np.stack([picture] * 3, -1), picture.astype(int), np.stack([picture] * 2, -1).astype(np.float32)
    )
    seen = set()
    for way in range(8):
        turned = crop.laid(way)
        assert np.array_equal(turned.image[..., 0], turned.classes)
        assert np.array_equal(turned.bands[..., 1], turned.classes)
        seen.add(turned.classes.tobytes())
    assert len(seen) == 8


def test_bands_are_standardised_and_keep_their_gaps() -> None:
    values = np.random.default_rng(0).normal(50, 7, (2, 40, 40)).astype(np.float32)
    values[:, :3] = np.nan
    found = maps.standardised(values)
    assert np.isnan(found[:3]).all()
    assert abs(np.nanmean(found)) < 0.01
    assert abs(np.nanstd(found) - 1) < 0.02
    assert maps.picture(np.concatenate([values, values[:1]]))[:3].max() == 0


def test_scores_are_of_the_classes_that_are_there() -> None:
    table = torch.tensor([[8, 2, 0], [1, 4, 1], [0, 0, 0]])
    found = maps.scores_of(table)
    assert found["accuracy"] == pytest.approx(12 / 16)
    assert found["miou"] == pytest.approx((8 / 11 + 4 / 8) / 2)


def test_a_perfect_answer_has_the_best_scores() -> None:
    assert maps.scores_of(torch.diag(torch.tensor([3, 5]))) == {"miou": 1.0, "accuracy": 1.0}


def run(arm: str, seed: int, value: float, *, case: str = "20", trainable: int = 7) -> object:
    return record.Run(arm, case, seed, {"iou": value}, trainable, 0.25, 12.0)


def report(*runs: object) -> object:
    made = record.Report("a question", {"seeds": (0, 1)}, [record.Column("20 objects", "20", "iou")])
    for item in runs:
        made.add(item)
    return made


def test_tables_hold_means_and_spreads_over_the_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    made = report(run("lora", 1, 0.6), run("lora", 0, 0.5), run("frozen", 0, 0.4, trainable=0))
    assert made.values("lora", "20", "iou") == [0.5, 0.6]
    assert made.mean("lora", "20", "iou") == pytest.approx(0.55)
    lines = made.markdown().splitlines()
    assert lines[0] == "| arm | 20 objects | trained | s a step | MiB |"
    assert lines[2] == "| lora | 0.550 ± 0.071 | 7 | 0.25 | 12 |"
    assert lines[3] == "| frozen | 0.400 (seeds: 1) |  |  |  |"
    assert made.gain("lora", "frozen", "20", "iou") == pytest.approx(0.1)  # of the seed that both have
    assert made.gain("lora", "full", "20", "iou") is None
    with pytest.raises(ValueError, match="no run"):
        made.mean("full", "20", "iou")


def test_what_is_published_is_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = report(run("lora", 0, 0.5))
    made.findings = ["It gains."]
    made.file = tmp_path / "new" / "found.json"
    made.publish()
    printed = capsys.readouterr().out
    assert "| lora | 0.500 (seeds: 1) | 7 | 0.25 | 12 |" in printed
    assert "* It gains." in printed
    kept = json.loads((tmp_path / "new" / "found.json").read_text(encoding="utf-8"))
    assert kept["runs"][0]["scores"] == {"iou": 0.5}
    assert kept["findings"] == ["It gains."]


def test_a_table_goes_on_where_it_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = report()
    first.file = tmp_path / "found.json"
    first.add(run("lora", 0, 0.5))
    second = report()
    second.file = first.file
    second.go_on()
    assert second.runs == first.runs
    assert not second.needs("lora", "20", 0)
    assert second.needs("lora", "20", 1)
    assert second.needs("lora", "50", 0)
    second.minutes = 0.0
    assert not second.needs("lora", "20", 1)
    other = report()
    other.file, other.facts = first.file, {"seeds": (0, 1, 2)}
    other.go_on()
    assert other.runs == []


def test_a_table_that_is_not_full_says_so() -> None:
    made = report(run("lora", 0, 0.5))
    made.conclude(lambda made: [str(made.mean("full", "20", "iou"))])
    assert made.findings == ["Not all runs were made: no run of full in 20 has iou."]


def test_the_gates_share_of_the_gain_is_told_with_its_aim() -> None:
    made = report(run(few_shot.FROZEN, 0, 0.40, trainable=0), run(few_shot.GATE, 0, 0.58), run(few_shot.FULL, 0, 0.60))
    [text] = few_shot.findings(made, [20])
    assert "= 0.90; aim >= 0.85: met." in text
    made = report(run(few_shot.FROZEN, 0, 0.40, trainable=0), run(few_shot.GATE, 0, 0.45), run(few_shot.FULL, 0, 0.39))
    assert "gains nothing" in few_shot.findings(made, [20])[0]


def test_memory_and_processor_time_are_of_the_work_alone() -> None:
    measuring = part("measuring")
    with measuring.measured() as cost:
        block = np.ones(40 * 1024**2, np.uint8)
        block += 1
        del block
    assert cost.seconds >= 0
    if cost.memory is not None:
        assert 35 <= cost.memory <= 120


def test_a_fingerprint_is_of_content_shape_and_order() -> None:
    one, other = np.arange(6), np.arange(6).reshape(2, 3)
    assert data.fingerprint([one]) == data.fingerprint([one.copy()])
    assert len({data.fingerprint(items) for items in ([one], [other], [one, other], [other, one])}) == 4


def test_right_answers_measure_as_right(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros((1, 64, 64), bool)
    mask[0, 16:48, 16:48] = True
    scene = data.Scene("square", np.zeros((64, 64, 3), np.uint8), mask, "here")
    asked: list[int] = []

    def right(sam: object, embedding: object, points: torch.Tensor, *rest: object) -> torch.Tensor:
        asked.append(points.shape[1])
        coarse = torch.from_numpy(mask[:, ::4, ::4].copy()).float()
        return coarse * 20 - 10

    class Encoder:
        embedding = torch.zeros(1, 256, 4, 4)

    class Base:
        image_encoder = None

    monkeypatch.setattr(promptable, "_ask", right)
    monkeypatch.setattr(promptable, "encode", lambda *_: Encoder())
    found = promptable.measure(Base(), None, [scene])
    assert set(found) == {"iou", "iou_1_click", "iou_3_clicks", "iou_box"}
    assert found["iou"] > 0.85
    assert asked[0] == 1
    assert asked[-1] == 0  # the box comes without clicks


@pytest.mark.parametrize("question", ["few-shot", "bands", "forgetting"])
def test_without_data_it_says_what_it_needs(question: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "methods.py"), question]
    found = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert found.returncode != 0
    assert "--data FOLDER with methods/" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_folder_that_lacks_something_is_named(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    with pytest.raises(SystemExit, match="lacks pool/water"):
        data.folder(tmp_path, "methods", "pool/water")
    assert data.folder(tmp_path, "methods") == tmp_path
