"""The segmenter end to end, with a model that segments by grey value."""

from __future__ import annotations

import base64
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from rasterio.transform import Affine
from samtune.engine import outlines
from samtune.engine.messages import (
    Empty,
    OutlineOptions,
    PrepareParams,
    Prompt,
    RasterSpec,
    SegmentParams,
    SegmentResult,
)
from samtune.engine.progress import NullProgress
from samtune.engine.raster_source import RasterSource
from samtune.engine.segmenter import Segmenter
from samtune.engine.store import EmbeddingStore
from samtune.models.errors import CancelledByUser, ModelMissingError, PromptError, RasterError
from shapely.geometry import MultiPolygon

from .fakes import FakeDecoded, FakeModel, FakeModels
from .rasters import NORTH_UP, ROTATED, SOUTH_UP, disc, disc_area, disc_raster, write

PROGRESS = NullProgress()


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def segmenter(model: FakeModel) -> Segmenter:
    return Segmenter(FakeModels(model), EmbeddingStore(None))


def at(col: float, row: float, transform: Affine = NORTH_UP, *, positive: bool = True) -> Prompt:
    x, y = transform @ (col, row)
    return Prompt(x, y, positive)


def spec(path: Path) -> RasterSpec:
    return RasterSpec(str(path), stretch=((0.0, 255.0),))


def params(path: Path, *points: Prompt, **more: object) -> SegmentParams:
    return SegmentParams(spec(path), "fake", more.pop("level", 0), points, **more)


def outline(result: SegmentResult) -> shapely.MultiPolygon:
    assert result.empty is Empty.NONE, result.message
    geometry = shapely.from_wkb(bytes.fromhex(result.wkb))
    assert geometry.is_valid
    assert geometry.geom_type == "MultiPolygon"
    return geometry


@pytest.mark.parametrize("transform", [NORTH_UP, SOUTH_UP, ROTATED])
@pytest.mark.parametrize("level", [-1, 0, 1])
def test_a_click_gives_the_disc_where_it_lies(
    tmp_path: Path, segmenter: Segmenter, transform: Affine, level: int
) -> None:
    path = disc_raster(tmp_path / "disc.tif", radius=30.0, transform=transform)
    result = segmenter.segment(params(path, at(300, 280, transform), level=level), PROGRESS)
    found = outline(result)
    x, y = transform @ (300.0, 280.0)
    assert found.area == pytest.approx(disc_area(15.0), rel=0.02)
    assert result.area == pytest.approx(found.area)
    assert found.centroid.distance(shapely.Point(x, y)) < 0.05, "a tenth of a raster pixel"
    assert result.level == level
    assert not result.touches_edge
    assert result.score == pytest.approx(0.9)


def test_the_second_click_nearby_uses_the_embedding_and_hits_the_same_answer(
    tmp_path: Path, segmenter: Segmenter, model: FakeModel
) -> None:
    path = disc_raster(tmp_path / "disc.tif")
    first = segmenter.segment(params(path, at(300, 280)), PROGRESS)
    again = segmenter.segment(params(path, at(300, 280)), PROGRESS)
    near = segmenter.segment(params(path, at(305, 282)), PROGRESS)
    assert (first.source, again.source, near.source) == ("encoder", "memory", "memory")
    assert len(model.encoded) == 1
    assert len(model.decoded) == 2, "the repeated request costs no decoder run"
    assert again.wkb == first.wkb
    assert set(first.seconds) == {"read", "encode", "decode", "outline"}
    assert set(again.seconds) == {"decode", "outline"}


def test_corrections_feed_the_previous_logits_and_undo_is_free(
    tmp_path: Path, segmenter: Segmenter, model: FakeModel
) -> None:
    picture = np.maximum(disc((600, 600), (270.0, 280.0), 30.0), disc((600, 600), (330.0, 280.0), 30.0, inside=150.0))
    path = write(tmp_path / "two.tif", np.rint(picture).astype(np.uint8)[None])
    one, two = at(270, 280), at(330, 280, positive=False)
    both = outline(segmenter.segment(params(path, one), PROGRESS))
    only = outline(segmenter.segment(params(path, one, two), PROGRESS))
    assert only.area < 0.7 * both.area
    first, second = model.decoded
    assert first.multimask and first.mask_logits is None
    assert not second.multimask
    assert second.mask_logits is not None
    assert second.labels.tolist() == [1, 0]
    undone = outline(segmenter.segment(params(path, one), PROGRESS))
    assert undone.equals(both)
    assert len(model.decoded) == 2


def test_answers_do_not_depend_on_what_was_asked_before(tmp_path: Path) -> None:
    path = disc_raster(tmp_path / "disc.tif")
    prompts = (at(300, 280), at(320, 280), at(400, 280, positive=False))
    warm = Segmenter(FakeModels(FakeModel()), EmbeddingStore(None))
    for count in (1, 2):
        warm.segment(params(path, *prompts[:count]), PROGRESS)
    cold_model = FakeModel()
    cold = Segmenter(FakeModels(cold_model), EmbeddingStore(None)).segment(params(path, *prompts), PROGRESS)
    assert cold.wkb == warm.segment(params(path, *prompts), PROGRESS).wkb
    assert len(cold_model.decoded) == 3, "the whole chain is decoded"


def test_a_box_alone_segments_what_it_holds(tmp_path: Path, segmenter: Segmenter, model: FakeModel) -> None:
    path = disc_raster(tmp_path / "disc.tif")
    corners = tuple((point.x, point.y) for point in (at(230, 210), at(370, 350)))
    result = segmenter.segment(params(path, box=corners), PROGRESS)
    assert outline(result).area == pytest.approx(disc_area(30.0), rel=0.02)
    assert not model.decoded[0].multimask
    np.testing.assert_allclose(model.decoded[0].box, np.array([230, 210, 370, 350]) - [128, 128, 128, 128])


def test_prompts_that_do_not_fit_in_one_crop_choose_a_coarser_one(tmp_path: Path, segmenter: Segmenter) -> None:
    path = disc_raster(tmp_path / "disc.tif", size=1500, centre=(700.0, 700.0), radius=150.0)
    near = segmenter.segment(params(path, at(600, 700)), PROGRESS)
    both = segmenter.segment(params(path, at(600, 700), at(830, 700)), PROGRESS)
    far = segmenter.segment(params(path, at(600, 700), at(1400, 1400, positive=False)), PROGRESS)
    assert (near.level, near.touches_edge) == (0, True)
    assert both.level in (0, 1)
    assert far.level == 2
    assert outline(far).area == pytest.approx(disc_area(75.0), rel=0.03)


def test_an_object_at_the_rasters_border_does_not_touch_the_crops_edge(tmp_path: Path, segmenter: Segmenter) -> None:
    path = disc_raster(tmp_path / "disc.tif", centre=(0.0, 280.0), radius=60.0)
    result = segmenter.segment(params(path, at(10, 280)), PROGRESS)
    assert not result.touches_edge
    assert outline(result).area == pytest.approx(disc_area(30.0) / 2, rel=0.02)
    assert outline(result).bounds[0] == pytest.approx(500_000.0, abs=1e-6), "cut exactly at the raster's border"


def test_a_raster_smaller_than_the_crop_is_padded_and_the_outline_stays_on_it(
    tmp_path: Path, segmenter: Segmenter, model: FakeModel
) -> None:
    path = disc_raster(tmp_path / "small.tif", size=100, centre=(90.0, 50.0), radius=30.0)
    result = segmenter.segment(params(path, at(90, 50), level=3), PROGRESS)
    found = outline(result)
    assert result.level == -1
    assert found.bounds[2] <= 500_050.0 + 1e-6
    assert not result.touches_edge
    assert model.encoded[0][1] is not None
    assert not model.encoded[0][1][:, 200:].any()


def test_clicks_on_nothing_say_so(tmp_path: Path, segmenter: Segmenter, model: FakeModel) -> None:
    flat = write(tmp_path / "flat.tif", np.full((1, 600, 600), 90, np.uint8))
    whole = segmenter.segment(params(flat, at(300, 280)), PROGRESS)
    assert whole.empty is Empty.NOTHING
    assert "border" in whole.message
    assert whole.wkb == "" and whole.area == 0.0
    path = disc_raster(tmp_path / "disc.tif")
    model.ious = (0.05, 0.06, 0.08)
    unsure = segmenter.segment(params(path, at(300, 280)), PROGRESS)
    assert unsure.empty is Empty.NOTHING
    assert "not sure" in unsure.message


def test_the_whole_crop_mask_does_not_win_by_its_score(tmp_path: Path, segmenter: Segmenter, model: FakeModel) -> None:
    model.ious = (0.5, 0.6, 0.99)
    path = disc_raster(tmp_path / "disc.tif")
    result = segmenter.segment(params(path, at(300, 280)), PROGRESS)
    assert result.score == pytest.approx(0.6)
    assert outline(result).area == pytest.approx(disc_area(30.0), rel=0.02)


def test_an_empty_box_is_told_as_such(tmp_path: Path) -> None:
    picture = np.rint(disc((600, 600), (300.0, 280.0), 60.0)).astype(np.uint8)
    path = write(tmp_path / "disc.tif", picture[None])
    corners = tuple((point.x, point.y) for point in (at(230, 210), at(370, 350)))

    class Blind(FakeModel):
        def decode(self, *arguments: object, **more: object) -> FakeDecoded:
            answer = super().decode(*arguments, **more)
            return FakeDecoded(logits=np.full_like(answer.logits, -1.0), iou=answer.iou)

    blind = Segmenter(FakeModels(Blind()), EmbeddingStore(None))
    result = blind.segment(params(path, box=corners), PROGRESS)
    assert (result.empty, "in this box" in result.message) == (Empty.NOTHING, True)


def test_a_correction_that_removes_everything_says_so(tmp_path: Path, segmenter: Segmenter) -> None:
    path = disc_raster(tmp_path / "disc.tif")
    result = segmenter.segment(params(path, at(300, 280), at(310, 280, positive=False)), PROGRESS)
    assert result.empty is Empty.NOTHING
    assert "Undo" in result.message


@pytest.mark.parametrize(
    ("points", "box", "words"),
    [
        ((), (), "nothing to segment by"),
        ((Prompt(0.0, 0.0),), (), "outside the raster"),
        ((Prompt(math.nan, 0.0),), (), "outside the raster"),
        ((at(10, 10, positive=False),), (), "first click"),
        ((), ((0.0, 0.0), (5.0, 5.0)), "box"),
        ((), ((500_001.0, 5_299_990.0), (500_001.0, 5_299_990.0)), "box"),
    ],
)
def test_unusable_prompts_are_refused_in_words(
    tmp_path: Path,
    segmenter: Segmenter,
    points: tuple[Prompt, ...],
    box: tuple[tuple[float, float], ...],
    words: str,
) -> None:
    path = disc_raster(tmp_path / "disc.tif")
    with pytest.raises(PromptError, match=words):
        segmenter.segment(params(path, *points, box=box), PROGRESS)


def test_nodata_is_neither_clickable_nor_outlined(tmp_path: Path, segmenter: Segmenter, model: FakeModel) -> None:
    picture = np.rint(disc((600, 600), (300.0, 280.0), 60.0))
    picture[:, 300:] = 0
    path = write(tmp_path / "half.tif", picture.astype(np.uint8)[None], nodata=0)
    result = segmenter.segment(params(path, at(280, 280)), PROGRESS)
    found = outline(result)
    assert found.bounds[2] == pytest.approx(500_150.0, abs=1e-6)
    assert found.area == pytest.approx(disc_area(30.0) / 2, rel=0.02)
    with pytest.raises(PromptError, match="no data"):
        segmenter.segment(params(path, at(320, 280)), PROGRESS)
    assert len(model.encoded) == 1
    with pytest.raises(RasterError, match="no data"):
        segmenter.prepare(PrepareParams(spec(path), "fake", -1, *(NORTH_UP @ (500, 500))), PROGRESS)


def test_hover_never_encodes(tmp_path: Path, segmenter: Segmenter, model: FakeModel) -> None:
    path = disc_raster(tmp_path / "disc.tif")
    cold = segmenter.segment(params(path, at(300, 280), cached_only=True), PROGRESS)
    assert (cold.empty, cold.source) == (Empty.COLD, "")
    assert not model.encoded
    ready = segmenter.prepare(PrepareParams(spec(path), "fake", 0, *(NORTH_UP @ (300, 280))), PROGRESS)
    assert (ready.ready, ready.source) == (True, "encoder")
    assert ready.crop == cold.crop
    warm = segmenter.segment(params(path, at(300, 280), cached_only=True), PROGRESS)
    assert warm.source == "memory"
    assert outline(warm).area == pytest.approx(disc_area(30.0), rel=0.02)


def test_prepare_shows_exactly_what_the_model_sees(tmp_path: Path, segmenter: Segmenter, model: FakeModel) -> None:
    from io import BytesIO

    from PIL import Image

    path = disc_raster(tmp_path / "disc.tif")
    asked = PrepareParams(spec(path), "fake", 0, *(NORTH_UP @ (300, 280)), thumbnail=256)
    picture = Image.open(BytesIO(base64.b64decode(segmenter.prepare(asked, PROGRESS).thumbnail_png)))
    pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels[..., :3], model.encoded[0][0])
    assert (pixels[..., 3] == 255).all()
    small = PrepareParams(spec(path), "fake", 0, *(NORTH_UP @ (20, 20)), thumbnail=64, cached_only=True)
    answer = segmenter.prepare(small, PROGRESS)
    assert not answer.ready
    assert Image.open(BytesIO(base64.b64decode(answer.thumbnail_png))).size == (64, 64)
    assert len(model.encoded) == 1


def test_a_changed_file_is_read_anew_and_a_deleted_one_is_an_error(
    tmp_path: Path, segmenter: Segmenter, model: FakeModel
) -> None:
    path = disc_raster(tmp_path / "disc.tif")
    segmenter.segment(params(path, at(300, 280)), PROGRESS)
    disc_raster(path, radius=40.0)
    os.utime(path, ns=(1, 1))
    changed = segmenter.segment(params(path, at(300, 280)), PROGRESS)
    assert changed.source == "encoder"
    assert outline(changed).area == pytest.approx(disc_area(20.0), rel=0.02)
    path.unlink()
    with pytest.raises(RasterError, match="no file"):
        segmenter.segment(params(path, at(300, 280)), PROGRESS)
    assert len(model.encoded) == 2


def test_outline_options_reach_the_polygon(tmp_path: Path, segmenter: Segmenter) -> None:
    ring = disc((600, 600), (300.0, 280.0), 60.0) - disc((600, 600), (300.0, 280.0), 20.0, inside=150.0, outside=0.0)
    path = write(tmp_path / "ring.tif", np.rint(ring).astype(np.uint8)[None])
    click = at(340, 280)
    hole = outline(segmenter.segment(params(path, click), PROGRESS))
    filled = outline(segmenter.segment(params(path, click, outline=OutlineOptions(min_hole=400.0)), PROGRESS))
    simple = outline(segmenter.segment(params(path, click, outline=OutlineOptions(simplify=1.0)), PROGRESS))
    assert len(hole.geoms[0].interiors) == 1
    assert not filled.geoms[0].interiors
    assert len(simple.geoms[0].exterior.coords) < len(hole.geoms[0].exterior.coords) / 2


def test_cancel_stops_between_the_steps(tmp_path: Path, segmenter: Segmenter, model: FakeModel) -> None:
    class Impatient(NullProgress):
        calls = 0

        def check(self) -> None:
            self.calls += 1
            if self.calls > 2:
                raise CancelledByUser

    path = disc_raster(tmp_path / "disc.tif")
    with pytest.raises(CancelledByUser):
        segmenter.segment(params(path, at(300, 280)), Impatient())
    assert not model.encoded
    assert segmenter.segment(params(path, at(300, 280)), PROGRESS).empty is Empty.NONE


def test_progress_tells_the_steps(tmp_path: Path, segmenter: Segmenter) -> None:
    told: list[tuple[float, str]] = []

    class Listening(NullProgress):
        def report(self, fraction: float, message: str) -> None:
            told.append((fraction, message))

    segmenter.segment(params(disc_raster(tmp_path / "disc.tif"), at(300, 280)), Listening())
    words = [message.split()[0] for _, message in told]
    assert words == ["Reading", *["Encoding"] * 4, "Segmenting", "Tracing"]
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(set(fractions)), "it always goes on"
    assert fractions[1:5] == pytest.approx([0.2, 0.375, 0.55, 0.725]), "encoding takes longest, and each block counts"


def test_an_unknown_model_is_an_error(tmp_path: Path, segmenter: Segmenter) -> None:
    asked = SegmentParams(spec(disc_raster(tmp_path / "disc.tif")), "other", 0, (at(300, 280),))
    with pytest.raises(ModelMissingError):
        segmenter.segment(asked, PROGRESS)


def test_forgetting_closes_files_and_drops_answers(tmp_path: Path, segmenter: Segmenter, model: FakeModel) -> None:
    path = disc_raster(tmp_path / "disc.tif")
    before = segmenter.segment(params(path, at(300, 280)), PROGRESS)
    segmenter.forget()
    after = segmenter.segment(params(path, at(300, 280)), PROGRESS)
    assert len(model.decoded) == 2
    assert after.wkb == before.wkb


def test_a_raster_is_opened_once_for_its_short_and_its_complete_spec(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[RasterSpec] = []

    class Counting(RasterSource):
        def __init__(self, asked: RasterSpec) -> None:
            opened.append(asked)
            super().__init__(asked)

    monkeypatch.setattr("samtune.engine.segmenter.RasterSource", Counting)
    path = disc_raster(tmp_path / "disc.tif")
    short = RasterSpec(str(path))
    complete = segmenter.open(short, PROGRESS).spec
    assert segmenter.open(complete, PROGRESS).spec == complete
    assert segmenter.open(short, PROGRESS).spec == complete
    assert opened == [short]
    write(path, np.full((1, 300, 300), 200, np.uint8))
    os.utime(path, ns=(1, 1))
    assert segmenter.open(short, PROGRESS).spec.stretch != complete.stretch, "a changed file has a new stretch"
    assert segmenter.open(complete, PROGRESS).spec == complete, "but one that was asked for is kept"
    assert opened == [short, short, complete]


def test_many_rasters_are_served_with_few_open(tmp_path: Path, segmenter: Segmenter) -> None:
    for number in range(12):
        path = disc_raster(tmp_path / f"{number}.tif", size=300, centre=(150.0, 150.0), radius=20.0 + number)
        found = outline(segmenter.segment(params(path, at(150, 150)), PROGRESS))
        assert found.area == pytest.approx(disc_area((20.0 + number) / 2), rel=0.05)


def test_a_small_hole_that_was_clicked_stays(tmp_path: Path, segmenter: Segmenter) -> None:
    ring = disc((600, 600), (300.0, 280.0), 60.0) - disc((600, 600), (300.0, 280.0), 20.0, inside=150.0, outside=0.0)
    path = write(tmp_path / "ring.tif", np.rint(ring).astype(np.uint8)[None])
    cleaning = OutlineOptions(min_hole=1e6, min_part=1e6)
    click, away = at(340, 280), at(300, 280, positive=False)
    assert not outline(segmenter.segment(params(path, click, outline=cleaning), PROGRESS)).geoms[0].interiors
    (part,) = outline(segmenter.segment(params(path, click, away, outline=cleaning), PROGRESS)).geoms
    assert len(part.interiors) == 1
    assert shapely.Polygon(part.interiors[0]).contains(shapely.Point(away.x, away.y))


@pytest.mark.parametrize(("crs", "latitude", "expected"), [("EPSG:4326", 60.0, 0.5), ("EPSG:32633", 60.0, 1.0)])
def test_outlines_in_degrees_are_cleaned_as_on_the_ground(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, crs: str, latitude: float, expected: float
) -> None:
    """At 60 degrees north a degree of longitude is half as long as one of latitude."""
    grid = Affine(1e-5, 0.0, 10.0, 0.0, -1e-5, latitude)
    path = disc_raster(tmp_path / "disc.tif", crs=crs, transform=grid)
    aspects: list[float] = []
    plain = outlines.to_map

    def listening(*arguments: Any) -> MultiPolygon:
        aspects.append(arguments[4])
        return plain(*arguments)

    monkeypatch.setattr(outlines, "to_map", listening)
    outline(segmenter.segment(params(path, Prompt(*(grid @ (300, 280)))), PROGRESS))
    assert aspects == pytest.approx([expected], rel=1e-3)
