"""The segmenter with adapters: whose embeddings and answers are shared, and what the answer says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from samtune.engine.adapters import LoadedAdapter
from samtune.engine.messages import Empty, PrepareParams, Prompt, RasterSpec, SegmentParams
from samtune.engine.progress import NullProgress
from samtune.engine.segmenter import Segmenter
from samtune.engine.store import EmbeddingStore
from samtune.engine.wire import from_wire, to_wire
from samtune.models import registry
from samtune.models.errors import TuningError
from samtune.models.peft.card_records import GroundRecord, HeadKind

from .adapter_files import card_for
from .fakes import FakeModel, FakeModels
from .rasters import NORTH_UP, disc_raster

PROGRESS = NullProgress()


class FakeAdapters:
    """Knows adapters by name: what they change, and what their card says."""

    def __init__(self) -> None:
        """Make one of the encoder, two of the decoder, one with another ground resolution and one for maps."""
        self.known = {
            "encoder": self._make("encoder", encoder="e" * 64),
            "decoder": self._make("decoder"),
            "other": self._make("other"),
            "coarse": self._make("coarse", ground=GroundRecord(gsd=(30.0, 30.0))),
            "maps": self._make("maps", head=HeadKind.SEMANTIC),
        }

    def _make(self, name: str, encoder: str = "", **more: object) -> LoadedAdapter:
        card = card_for(registry.card("tiny"), name, **more)
        return LoadedAdapter(card, SimpleNamespace(name=name), f"digest of {name}", encoder, 1)

    def get(self, path: str, model: object, progress: object = None) -> LoadedAdapter:
        """Return one."""
        return self.known[path]


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def segmenter(model: FakeModel) -> Segmenter:
    return Segmenter(FakeModels(model), EmbeddingStore(None), FakeAdapters())


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    return disc_raster(tmp_path / "disc.tif", radius=30.0)


def params(raster: Path, adapter: str) -> SegmentParams:
    spec = RasterSpec(str(raster), stretch=((0.0, 255.0),))
    return SegmentParams(spec, "fake", 0, (Prompt(*(NORTH_UP @ (300, 280))),), adapter=adapter)


def names(model: FakeModel) -> list[str]:
    return [getattr(adapter, "name", "") for adapter in model.used]


def test_an_encoder_adapter_has_embeddings_of_its_own(raster: Path, model: FakeModel, segmenter: Segmenter) -> None:
    assert segmenter.segment(params(raster, ""), PROGRESS).source == "encoder"
    tuned = segmenter.segment(params(raster, "encoder"), PROGRESS)
    assert (tuned.source, tuned.adapter, tuned.empty) == ("encoder", "encoder", Empty.NONE)
    assert names(model) == ["", "", "encoder", "encoder"], "encoding and decoding, each with its adapter"
    assert len(model.encoded) == 2
    assert [segmenter.segment(params(raster, which), PROGRESS).source for which in ("", "encoder")] == ["memory"] * 2


def test_decoder_adapters_share_embeddings_but_no_answers(raster: Path, model: FakeModel, segmenter: Segmenter) -> None:
    for which in ("", "decoder", "other"):
        assert segmenter.segment(params(raster, which), PROGRESS).adapter == which
    assert len(model.encoded) == 1
    assert len(model.decoded) == 3
    for which in ("", "decoder", "other"):
        segmenter.segment(params(raster, which), PROGRESS)
    assert len(model.decoded) == 3, "each answer is remembered by its adapter"


def test_preparing_encodes_with_the_adapter(raster: Path, model: FakeModel, segmenter: Segmenter) -> None:
    place = NORTH_UP @ (300, 280)
    spec = params(raster, "").raster
    for which in ("", "encoder"):
        assert segmenter.prepare(PrepareParams(spec, "fake", 0, *place, adapter=which), PROGRESS).source == "encoder"
    assert names(model) == ["", "encoder"]
    assert segmenter.segment(params(raster, "encoder"), PROGRESS).source == "memory"
    cold = PrepareParams(spec, "fake", 0, *(NORTH_UP @ (10, 10)), cached_only=True, adapter="decoder")
    assert not segmenter.prepare(cold, PROGRESS).ready


def test_what_speaks_against_the_adapter_is_in_the_answer(raster: Path, segmenter: Segmenter) -> None:
    assert segmenter.segment(params(raster, "decoder"), PROGRESS).notes == ()
    (note,) = segmenter.segment(params(raster, "coarse"), PROGRESS).notes
    assert "30 m per pixel" in note
    prepared = segmenter.prepare(
        PrepareParams(params(raster, "").raster, "fake", 0, *(NORTH_UP @ (300, 280)), adapter="coarse"), PROGRESS
    )
    assert prepared.notes == (note,)


def test_an_adapter_for_maps_is_refused(raster: Path, model: FakeModel, segmenter: Segmenter) -> None:
    with pytest.raises(TuningError, match="class maps"):
        segmenter.segment(params(raster, "maps"), PROGRESS)
    assert model.encoded == []


def test_the_wire_carries_adapters_and_does_without() -> None:
    asked = SegmentParams(RasterSpec("a.tif"), "tiny", 0, adapter="/somewhere/a.safetensors")
    assert from_wire(SegmentParams, to_wire(asked)) == asked
    older = {name: value for name, value in to_wire(asked).items() if name != "adapter"}
    assert from_wire(SegmentParams, older).adapter == ""
    place = PrepareParams(RasterSpec("a.tif"), "tiny", 0, 1.0, 2.0, adapter="b")
    assert from_wire(PrepareParams, to_wire(place)) == place
