"""Where to label next: what is unlike the labels, and what the model is unsure of, first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from samtune.engine.adapters import LoadedAdapter
from samtune.engine.area_messages import SuggestParams, SuggestResult
from samtune.engine.areas.embeddings import CropEmbeddings, View
from samtune.engine.areas.ranking import masked_mean, ranked, uncertainty
from samtune.engine.areas.service import AreaService
from samtune.engine.areas.tiles import TilePlan
from samtune.engine.messages import PrepareParams, RasterSpec
from samtune.engine.progress import NullProgress
from samtune.engine.raster_source import RasterSource
from samtune.engine.segmenter import Segmenter
from samtune.engine.store import EmbeddingStore
from samtune.engine.tune_messages import LabelSource
from samtune.models import registry
from samtune.models.errors import CancelledByUser, PromptError, TuningError
from samtune.models.peft.card_records import HeadKind

from ..engine.adapter_files import card_for
from ..engine.fakes import FakeModel, FakeModels
from ..engine.rasters import NORTH_UP, UTM, disc, write
from ..tuning.ground import write_shapes
from .test_find import StopAt

PROGRESS = NullProgress()
SPEC = ((0.0, 255.0),)
KNOWN = [(60, 60), (180, 60), (60, 180)]
"""Middles of bright discs that are labelled; ``BRIGHT`` are like them, ``DARK`` is not."""
BRIGHT, DARK = [(180, 180), (310, 70)], (310, 200)


class SmoothModel(FakeModel):
    """As the fake, but its embedding is grey alone: 256 steps of brightness, so that discs have a kind."""

    def encode(self, *args: object, **more: object) -> NDArray[np.float16]:
        """Also remember the picture, which decoding needs."""
        packed = super().encode(*args, **more)
        self.pictures = getattr(self, "pictures", {})
        grey = packed.astype(np.float32).mean(axis=0)
        steps = np.exp(-(((np.arange(256)[:, None, None] - grey) / 25.0) ** 2))
        kept = steps.astype(np.float16)
        self.pictures[kept.tobytes()] = packed
        return kept

    def decode(self, embedding: NDArray[np.float16], *args: object, **more: object) -> SimpleNamespace:
        """Segment the picture."""
        return super().decode(self.pictures[embedding.tobytes()], *args, **more)


@pytest.fixture
def model() -> SmoothModel:
    return SmoothModel(size=384)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    picture = np.full((260, 380), 50.0)
    for middle in (*KNOWN, *BRIGHT):
        picture = np.maximum(picture, disc((260, 380), middle, 26, inside=220))
    picture = np.minimum(picture, disc((260, 380), DARK, 26, inside=0, outside=255))
    picture[disc((260, 380), DARK, 26) > 100] = 135
    return write(tmp_path / "scene.tif", np.rint(picture).astype(np.uint8)[None])


def labels(folder: Path, middles: list[tuple[int, int]]) -> LabelSource:
    shapes = [shapely.Point(*(NORTH_UP @ middle)).buffer(13) for middle in middles]
    return LabelSource(str(write_shapes(folder / "labels.gpkg", shapes, crs=UTM)))


def ask(scene: Path, model: FakeModel, source: LabelSource | None = None, **more: object) -> SuggestResult:
    store = more.pop("store", None) or EmbeddingStore(None)
    adapters = more.pop("adapters", None) or SimpleNamespace()
    progress = more.pop("progress", PROGRESS)
    spec = RasterSpec(str(scene), (), SPEC)
    params = SuggestParams(spec, "fake", source or LabelSource(""), **({"level": 0} | more))
    return AreaService(FakeModels(model), store, adapters).suggest(params, progress)


def at(result: SuggestResult, middle: tuple[int, int]) -> list[int]:
    """Return the places in the list of what is outlined around a middle."""
    point = shapely.Point(*(NORTH_UP @ middle))
    shapes = [shapely.from_wkb(item.wkb) for item in result.suggestions]
    return [number for number, shape in enumerate(shapes) if shape.intersects(point) and shape.area < 1000]


def test_the_unlike_kind_of_object_comes_first(scene: Path, model: SmoothModel, tmp_path: Path) -> None:
    result = ask(scene, model, labels(tmp_path, KNOWN))
    assert at(result, DARK) == [0]
    first = result.suggestions[0]
    assert first.difference > 0.5 and "unlike what is labelled" in first.reason
    for middle in BRIGHT:
        assert len(at(result, middle)) == 1, "found as well"
        assert result.suggestions[at(result, middle)[0]].difference < 0.2
    for middle in KNOWN:
        assert at(result, middle) == [], "labelled already"
    ranks = [item.rank for item in result.suggestions]
    assert ranks == sorted(ranks, reverse=True)
    for item in result.suggestions:
        assert shapely.from_wkb(item.wkb).is_valid
        assert item.rank == pytest.approx((item.uncertainty + item.difference) / 2)
        assert shapely.from_wkb(item.wkb).distance(shapely.Point(item.x, item.y)) < 2


def test_labels_of_the_other_kind_turn_the_order(scene: Path, model: SmoothModel, tmp_path: Path) -> None:
    result = ask(scene, model, labels(tmp_path, [DARK]))
    assert at(result, DARK) == []
    assert result.suggestions[0].difference > 0.5
    assert min(at(result, middle)[0] for middle in (*KNOWN, *BRIGHT)) == 0


def test_without_labels_suggestions_differ_from_each_other(scene: Path, model: SmoothModel) -> None:
    result = ask(scene, model, count=3)
    assert len(result.suggestions) == 3
    assert len(at(result, DARK)) == 1, "the only one of its kind"
    assert len([middle for middle in (*KNOWN, *BRIGHT) if at(result, middle)]) <= 2, "not five alike"
    assert all(item.difference > 0.2 and item.reason for item in result.suggestions)


def test_the_answer_is_the_same_each_time(scene: Path, model: SmoothModel, tmp_path: Path) -> None:
    source = labels(tmp_path, KNOWN)
    once, again = ask(scene, model, source), ask(scene, SmoothModel(size=384), source)
    assert once.suggestions == again.suggestions


def test_only_the_area_is_looked_at(scene: Path, model: SmoothModel) -> None:
    corners = [NORTH_UP @ corner for corner in ((0, 0), (120, 0), (120, 260), (0, 260))]
    area = shapely.Polygon(corners)
    result = ask(scene, model, area=area.wkb_hex)
    assert result.suggestions
    assert all(area.covers(shapely.Point(item.x, item.y)) for item in result.suggestions)
    with pytest.raises(PromptError, match="outside the raster"):
        ask(scene, model, area=shapely.box(0, 0, 1, 1).wkb_hex)
    with pytest.raises(PromptError, match="cannot be read"):
        ask(scene, model, area="zz")


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    return write(tmp_path / "wide.tif", rng.integers(40, 60, (1, 256, 2048), dtype=np.uint8))


def test_what_is_in_the_store_comes_first(wide: Path) -> None:
    model, store = FakeModel(), EmbeddingStore(None)
    segmenter = Segmenter(FakeModels(model), store)
    spec = segmenter.open(RasterSpec(str(wide), (), SPEC), PROGRESS).spec
    for column in (1500, 1900):
        segmenter.prepare(PrepareParams(spec, "fake", 0, *(NORTH_UP @ (column, 100))), PROGRESS)
    view = View(RasterSource(spec), model)
    plan = TilePlan(view.source.frame, 256, 0)
    embeddings = CropEmbeddings(view, store, PROGRESS, 3)
    order = [tile.crop.col for tile, _ in embeddings.in_order(plan, 5)]
    assert sorted(order[:2]) == [1408, 1792]
    assert len(order) == len(set(order)) == 5
    assert (len(model.encoded), embeddings.left) == (5, 0)
    assert embeddings.has(plan.tile(0, 11).crop)
    result = ask(wide, model, store=store, crops=4)
    assert (result.crops, len(model.encoded)) == (4, 5), "nothing more had to be encoded"
    assert any("4 of 15 parts" in note for note in result.notes)


def test_crops_that_are_encoded_are_spread_over_the_area(wide: Path) -> None:
    view = View(RasterSource(RasterSpec(str(wide), (), SPEC)), FakeModel())
    plan = TilePlan(view.source.frame, 256, 0)
    order = [tile.crop.col for tile, _ in CropEmbeddings(view, EmbeddingStore(None), PROGRESS, 9).in_order(plan, 4)]
    assert max(np.diff(sorted(order))) < 900
    assert max(order) - min(order) > 1000


def test_no_data_is_no_place_to_label(tmp_path: Path) -> None:
    picture = np.full((1, 300, 700), 0, np.uint8)
    picture[:, :, :200] = 50
    picture[:, 80:150, 60:130] = 220
    raster = write(tmp_path / "half.tif", picture, nodata=0)
    result = ask(raster, FakeModel())
    assert result.suggestions
    assert all(item.x < (NORTH_UP @ (200, 0))[0] for item in result.suggestions)
    empty = write(tmp_path / "empty.tif", np.zeros((1, 90, 90), np.uint8), nodata=0)
    nothing = ask(empty, FakeModel())
    assert nothing.suggestions == () and "no data" in nothing.notes[-1]


def test_the_level_is_that_of_the_labels_or_covers_the_area(wide: Path, tmp_path: Path) -> None:
    large = [shapely.box(*(NORTH_UP @ (100, 250)), *(NORTH_UP @ (500, 50)))]
    source = LabelSource(str(write_shapes(tmp_path / "large.gpkg", large, crs=UTM)))
    assert ask(wide, FakeModel(), source, level=None).level == 2
    assert ask(wide, FakeModel(), level=None).level == 0
    assert ask(wide, FakeModel(), level=None, crops=4).level == 2


def test_an_adapter_that_answers_no_clicks_is_refused(scene: Path, model: SmoothModel) -> None:
    card = card_for(registry.card("tiny"), "maps", head=HeadKind.SEMANTIC)
    loaded = LoadedAdapter(card, SimpleNamespace(), "d", "", 1)
    with pytest.raises(TuningError, match="class maps"):
        ask(scene, model, adapter="maps", adapters=SimpleNamespace(get=lambda *_: loaded))


def test_the_adapter_takes_part(scene: Path, model: SmoothModel) -> None:
    loaded = LoadedAdapter(card_for(registry.card("tiny"), "ponds"), SimpleNamespace(name="ponds"), "d", "e" * 64, 1)
    result = ask(scene, model, adapter="ponds", adapters=SimpleNamespace(get=lambda *_: loaded))
    assert result.suggestions
    assert {getattr(used, "name", None) for used in model.used} == {"ponds"}


def test_a_cancel_is_heard(scene: Path, model: SmoothModel) -> None:
    for moment in (0, 3, 8, 20):
        with pytest.raises(CancelledByUser):
            ask(scene, model, progress=StopAt(moment))


def test_doubts_are_of_the_right_kind() -> None:
    sure = np.full((3, 8, 8), -5.0, np.float32)
    sure[:, 2:6, 2:6] = 5.0
    assert uncertainty(sure, sure[0], 1.0) == 0.0
    assert uncertainty(sure, sure[0], 0.4) == pytest.approx(0.2)
    torn = sure.copy()
    torn[1] *= -1
    assert uncertainty(torn, sure[0], 1.0) > 0.15
    assert uncertainty(sure, sure[0] / 10, 1.0) > 0.15


def test_ranking_is_greedy_and_mixes_doubt_and_difference() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [0, 1], [-1, 0]], np.float32)
    none, centre = np.zeros((0, 2), np.float32), np.zeros(2, np.float32)
    order = ranked(np.array([0.5, 0.9, 0.1, 0.0]), vectors, none, centre, 3, lambda _: ())
    assert [item.index for item in order] == [1, 2, 3]
    assert [item.rank for item in order] == pytest.approx([0.95, 0.545, 0.5], abs=1e-3)
    known = ranked(np.full(4, 0.5), vectors, vectors[2:3], centre, 4, lambda index: [1] if index == 0 else [])
    assert [item.index for item in known] == [0, 3, 2]
    assert known[-1].difference == pytest.approx(0.0)


def test_a_mean_is_of_the_mask_alone() -> None:
    embedding = np.arange(8, dtype=np.float16).reshape(2, 2, 2)
    mask = np.zeros((8, 8), np.float32)
    mask[:4, :4] = 1
    mask[:2, 4:] = 1
    assert masked_mean(embedding, mask) == pytest.approx([1 / 3, 4 + 1 / 3])
    assert masked_mean(embedding, np.zeros((8, 8), np.float32)) is None
