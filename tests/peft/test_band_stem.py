"""The band stem: silent without bands, blind to the order of pixels, bounded, and safe where there is no data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from samtune.models.card import Architecture
from samtune.models.loading import build
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.band_inputs import (
    CLIP,
    Spread,
    index_bands,
    index_formula,
    measure,
    normalised_difference,
    raster_bands,
    to_channels,
)
from samtune.models.peft.band_stem import (
    CODE,
    CODE_WIDTH,
    BandStem,
    BandStemConfig,
    PixelSetEncoder,
    bounded,
    mean_code,
    statistics,
)
from samtune.models.peft.card_records import BandRecord
from samtune.models.peft.contract import MethodConfig, SideInputs, TuningError
from samtune.models.peft.hybrid import HybridConfig
from samtune.models.peft.mm_adapter import MmAdapterConfig
from samtune.models.peft.new_patch_embed import NewPatchEmbedConfig
from samtune.models.sam_modules import Sam
from samtune.models.tiny import build_tiny

from .windowed import SIDE, attached, embed, gradients, images, perturb, windowed_sam

CHANNELS = 5
BOTH: list[MethodConfig] = [BandStemConfig(CHANNELS), NewPatchEmbedConfig(CHANNELS)]
CPU = torch.device("cpu")


@pytest.fixture
def sam() -> Sam:
    return windowed_sam()


def bands(number: int, seed: int = 3, channels: int = CHANNELS, side: int = SIDE) -> torch.Tensor:
    return torch.randn(number, channels, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("architecture", "width", "maps"),
    [(Architecture.VIT_B, 768, 5), (Architecture.VIT_L, 1024, 9), (Architecture.VIT_H, 1280, 11)],
)
def test_count_of_the_stem(architecture: Architecture, width: int, maps: int) -> None:
    with torch.device("meta"):
        sam = build(architecture)
    for channels in (1, 13, 300):
        part = BandStemConfig(channels).build(sam)
        counted = sum(value.numel() for value in part.parameters())
        encoder = channels * 16 + 16 + 16 * 32 + 32 + 128 * 32 + 32
        assert counted == BandStemConfig(channels).plan(sam).trainable == encoder + maps * 32 * width
        if architecture is Architecture.VIT_B:
            assert 60_000 <= counted <= 150_000


def test_the_code_enters_after_the_embedding_and_before_the_first_third_of_the_blocks() -> None:
    with torch.device("meta"):
        plans = {name: BandStemConfig(4).plan(build(name)).sites for name in Architecture}
    assert plans[Architecture.VIT_B] == (
        "image_encoder.patch_embed",
        *(f"image_encoder.blocks.{index}" for index in range(4)),
    )
    assert len(plans[Architecture.VIT_H]) == 1 + 10
    assert len(plans[Architecture.TINY]) == 1 + 2


def test_count_of_the_new_patch_embedding() -> None:
    with torch.device("meta"):
        sam = build(Architecture.VIT_B)
    assert NewPatchEmbedConfig(13).plan(sam).trainable == 768 * 13 * 256
    assert NewPatchEmbedConfig(13).plan(build_tiny()).trainable == 32 * 13 * 9


@pytest.mark.parametrize("config", BOTH)
@pytest.mark.parametrize("tiny", [False, True])
def test_a_new_one_changes_nothing(config: MethodConfig, tiny: bool) -> None:
    sam = build_tiny() if tiny else windowed_sam()
    frozen = embed(sam, images(4))
    adapter, _ = attached(sam, config, moved=False)
    assert torch.equal(embed(sam, images(4), adapter, SideInputs(bands=bands(4))), frozen)
    assert torch.equal(embed(sam, images(4), adapter, SideInputs(bands=bands(2), streams=2)), frozen)


@pytest.mark.parametrize("config", BOTH)
@pytest.mark.parametrize("tiny", [False, True])
def test_a_trained_one_changes_nothing_without_bands(config: MethodConfig, tiny: bool) -> None:
    sam = build_tiny() if tiny else windowed_sam()
    frozen = embed(sam, images(2))
    adapter, _ = attached(sam, config)
    assert torch.equal(embed(sam, images(2), adapter, SideInputs()), frozen)
    assert torch.equal(embed(sam, images(2), adapter, SideInputs(streams=2)), frozen)
    assert (embed(sam, images(2), adapter, SideInputs(bands=bands(2))) - frozen).abs().max() > 1e-2
    assert torch.equal(embed(sam, images(2), adapter, SideInputs()), frozen), "bands of a batch stay with it"


@pytest.mark.parametrize("config", BOTH)
def test_bands_belong_to_the_images_not_to_the_second_modality(sam: Sam, config: MethodConfig) -> None:
    frozen = embed(sam, images(4))
    adapter, _ = attached(sam, config)
    found = embed(sam, images(4), adapter, SideInputs(bands=bands(2), streams=2))
    assert torch.equal(found[2:], frozen[2:])
    alone = embed(sam, images(4)[:2], adapter, SideInputs(bands=bands(2)))
    torch.testing.assert_close(found[:2], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", BOTH)
def test_gradients_reach_everything(sam: Sam, config: MethodConfig) -> None:
    adapter, _ = attached(sam, config)
    found = gradients(sam, images(2), adapter, SideInputs(bands=bands(2)))
    assert found
    for name, gradient in found.items():
        assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().max() > 0, name


def test_gradients_are_finite_at_the_start(sam: Sam) -> None:
    # There the displacement's norm is 0, which has no slope.
    adapter, _ = attached(sam, BandStemConfig(CHANNELS), moved=False)
    found = gradients(sam, images(2), adapter, SideInputs(bands=bands(2)))
    for name, gradient in found.items():
        assert gradient is not None and torch.isfinite(gradient).all(), name
        assert (gradient.abs().max() > 0) == (".maps." in name), name


def test_computing_blocks_again_gives_the_same_gradients_whatever_was_encoded_in_between(sam: Sam) -> None:
    adapter, _ = attached(sam, BandStemConfig(CHANNELS))
    side = SideInputs(bands=bands(2))
    plain = gradients(sam, images(2), adapter, side)
    again = gradients(sam, images(2), adapter, side, recompute=True)
    embed(sam, images(1), adapter, SideInputs(bands=bands(1, seed=8)))
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, msg=name)


@pytest.mark.parametrize("config", BOTH)
def test_state_goes_round_bit_for_bit_and_detaching_leaves_nothing(sam: Sam, config: MethodConfig) -> None:
    frozen, side = embed(sam, images(2)), SideInputs(bands=bands(2))
    adapter, part = attached(sam, config)
    expected = embed(sam, images(2), adapter, side)
    adapter.detach()
    assert torch.equal(embed(sam, images(2)), frozen)
    other, twin = attached(sam, config, moved=False)
    twin.load_state_dict(part.state_dict())
    assert torch.equal(embed(sam, images(2), other, side), expected)


def shuffled_within_cells(x: torch.Tensor, cell: int = 16) -> torch.Tensor:
    """Return bands whose pixels changed places, each within its cell."""
    out = x.clone()
    random = torch.Generator().manual_seed(4)
    for row in range(0, x.shape[-2], cell):
        for column in range(0, x.shape[-1], cell):
            order = torch.randperm(cell * cell, generator=random)
            part = x[..., row : row + cell, column : column + cell]
            out[..., row : row + cell, column : column + cell] = part.flatten(-2)[..., order].reshape(part.shape)
    return out


def test_the_code_does_not_see_the_order_of_a_cells_pixels(sam: Sam) -> None:
    torch.manual_seed(0)
    encoder = PixelSetEncoder(CHANNELS, CPU)
    x = bands(2)
    x[:, :, 3:9, 20:30] = torch.nan
    with torch.no_grad():
        code, _ = encoder(x, (5, 5))
        again, _ = encoder(shuffled_within_cells(x), (5, 5))
        elsewhere, _ = encoder(x.roll(8, dims=-1), (5, 5))
    torch.testing.assert_close(again, code, atol=1e-6, rtol=1e-5)
    assert (elsewhere - code).abs().max() > 1e-3
    adapter, _ = attached(sam, BandStemConfig(CHANNELS))
    first = embed(sam, images(2), adapter, SideInputs(bands=x))
    second = embed(sam, images(2), adapter, SideInputs(bands=shuffled_within_cells(x)))
    torch.testing.assert_close(second, first, atol=1e-4, rtol=1e-4)


def test_a_cell_speaks_of_its_own_pixels_only() -> None:
    encoder = PixelSetEncoder(CHANNELS, CPU)
    x = bands(1)
    other = x.clone()
    other[..., 16:32, 32:48] += 1
    with torch.no_grad():
        changed = (encoder(x, (5, 5))[0] - encoder(other, (5, 5))[0]).abs().amax(dim=-1)[0] > 1e-6
    assert changed.nonzero().tolist() == [[1, 2]]


def test_pixels_without_data_do_not_count() -> None:
    encoder = PixelSetEncoder(CHANNELS, CPU)
    x = bands(1)
    x[0, :, 8:16, :] = torch.nan
    other = x.clone()
    other[0, 0, 8:16, :] = 77.0  # the other channels are still missing there
    half = x[..., :8, :].reshape(1, CHANNELS, 8, SIDE)
    with torch.no_grad():
        code, _ = encoder(x, (5, 5))
        assert torch.equal(encoder(other, (5, 5))[0], code)
        # The same pixels twice have the same statistics as once.
        doubled, _ = encoder(torch.cat([half, half, x[..., 16:, :]], dim=-2), (5, 5))
    torch.testing.assert_close(code, doubled, atol=1e-5, rtol=1e-5)


def test_a_cell_without_data_is_displaced_by_nothing(sam: Sam) -> None:
    x = bands(2)
    x[1] = torch.nan
    x[0, :, :16, :16] = torch.inf
    frozen = embed(sam, images(2))
    adapter, part = attached(sam, BandStemConfig(CHANNELS))
    side = SideInputs(bands=x)
    found = embed(sam, images(2), adapter, side)
    assert torch.equal(found[1], frozen[1])
    assert torch.isfinite(found).all()
    assert not torch.equal(found[0], frozen[0])
    assert torch.equal(side.published[CODE][1], torch.zeros(CODE_WIDTH))
    assert isinstance(part, BandStem)
    with torch.no_grad():
        code, has_data = part.pixels(x, (5, 5))
    assert not has_data[0, 0, 0] and has_data[0].sum() == 24 and not has_data[1].any()
    assert not code[0, 0, 0].any()
    trained = gradients(sam, images(2), adapter, SideInputs(bands=x))
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in trained.values())


def test_statistics_by_hand() -> None:
    pixels = torch.tensor([[[1.0, 2.0, 6.0, 100.0]], [[5.0, 5.0, 5.0, 5.0]], [[7.0, 7.0, 7.0, 7.0]]])
    inside = torch.tensor([[[1, 1, 1, 0]], [[1, 0, 1, 1]], [[0, 0, 0, 0]]]).bool()
    found = statistics(pixels, inside)
    deviation = math.sqrt((4 + 1 + 9) / 3)
    expected = torch.tensor([[3.0, deviation, 1.0, 6.0], [5.0, 0.0, 5.0, 5.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert torch.equal(found[2], torch.zeros(4))
    whole = torch.randn(5, 3, 16)
    padded = torch.cat([whole, torch.full((5, 3, 1), 9.0)], dim=-1)
    counts = torch.ones(5, 1, 17, dtype=torch.bool)
    counts[..., -1] = False
    torch.testing.assert_close(statistics(whole, counts[..., :-1]), statistics(padded, counts), atol=1e-5, rtol=1e-5)


def test_displacements_are_bounded_and_keep_their_direction() -> None:
    of = torch.randn(6, 9)
    displacement = torch.randn(6, 9) * torch.tensor([0.0, 1e-3, 0.1, 1.0, 10.0, 1e6])[:, None]
    found = bounded(displacement, of, 0.25)
    lengths, limits = found.norm(dim=-1), 0.25 * of.norm(dim=-1)
    assert (lengths <= limits * 1.00001).all()
    torch.testing.assert_close(found[:3], displacement[:3])
    torch.testing.assert_close(lengths[4:], limits[4:])
    cosine = torch.nn.functional.cosine_similarity(found[1:], displacement[1:], dim=-1)
    torch.testing.assert_close(cosine, torch.ones(5))


def test_the_embedding_is_never_displaced_by_more_than_rho(sam: Sam) -> None:
    adapter, part = attached(sam, BandStemConfig(CHANNELS, rho=0.1), moved=False)
    assert isinstance(part, BandStem)
    with torch.no_grad():
        for value in part.maps:
            value.normal_(std=100.0)
        plain = sam.image_encoder.patch_embed.proj(images(2)).permute(0, 2, 3, 1)
        with adapter.given(SideInputs(bands=bands(2))):
            displaced = sam.image_encoder.patch_embed(images(2))
    share = (displaced - plain).norm(dim=-1) / plain.norm(dim=-1)
    assert share.max() <= 0.1 * 1.0001
    assert share.min() > 0.09, "a large displacement is cut to the limit, not dropped"


def test_the_mean_code_of_every_image_is_published(sam: Sam) -> None:
    x = bands(2)
    x[0, :, :, 16:] = torch.nan
    side = SideInputs(bands=x, streams=2)
    adapter, part = attached(sam, BandStemConfig(CHANNELS))
    embed(sam, images(4), adapter, side)
    assert isinstance(part, BandStem)
    with torch.no_grad():
        code, has_data = part.pixels(x, (5, 5))
    assert side.published[CODE].shape == (2, CODE_WIDTH)
    torch.testing.assert_close(side.published[CODE][0], code[0, :, 0].mean(dim=0))
    torch.testing.assert_close(side.published[CODE][1], code[1].mean(dim=(0, 1)))
    torch.testing.assert_close(mean_code(code, has_data), side.published[CODE])


def test_the_stem_stacks_with_two_streams_and_tells_the_hybrid_adapter(sam: Sam) -> None:
    frozen = embed(sam, images(4))
    stack = Adapter(sam, [BandStemConfig(CHANNELS), HybridConfig(spectral=True), MmAdapterConfig()])
    stack.attach(sam)
    side, other = (SideInputs(bands=bands(2, seed=seed), streams=2) for seed in (3, 4))
    assert torch.equal(embed(sam, images(4), stack, side), frozen)
    # With the stem's own maps still zero, bands reach the tokens through the code that it publishes, and only so.
    perturb(stack.parts["hybrid"])
    found = [embed(sam, images(4), stack, given) for given in (side, other)]
    assert not torch.equal(*found)
    code = side.published[CODE]
    stack.detach()
    alone = Adapter(sam, [stack.configs[1]])
    alone.load_state_dict({key: value for key, value in stack.state_dict().items() if key.startswith("hybrid.")})
    alone.attach(sam)
    told = SideInputs(streams=2, published={CODE: code})
    torch.testing.assert_close(embed(sam, images(4), alone, told), found[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 300])
def test_from_one_channel_to_three_hundred(sam: Sam, channels: int) -> None:
    adapter, _ = attached(sam, BandStemConfig(channels))
    x = bands(1, channels=channels)
    found = embed(sam, images(1), adapter, SideInputs(bands=x))
    assert torch.isfinite(found).all()
    assert not torch.equal(found, embed(sam, images(1), adapter, SideInputs()))


def test_coarser_bands_do_when_cells_hold_whole_pixels_of_them(sam: Sam) -> None:
    adapter, _ = attached(sam, BandStemConfig(CHANNELS))
    coarse = bands(1, side=SIDE // 4)
    fine = coarse.repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
    torch.testing.assert_close(
        embed(sam, images(1), adapter, SideInputs(bands=coarse)),
        embed(sam, images(1), adapter, SideInputs(bands=fine)),
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize("config", BOTH)
@pytest.mark.parametrize(
    "wrong", [bands(2)[:, :4], bands(1), bands(2)[..., :-1], bands(2)[..., :4], bands(2)[0], bands(3)]
)
def test_bands_that_do_not_fit_are_refused(sam: Sam, config: MethodConfig, wrong: torch.Tensor) -> None:
    adapter, _ = attached(sam, config)
    with pytest.raises(TuningError):
        embed(sam, images(2), adapter, SideInputs(bands=wrong))


@pytest.mark.parametrize(
    "config",
    [BandStemConfig(0), BandStemConfig(301), BandStemConfig(4, rho=0.0), BandStemConfig(4, rho=1.5),
     NewPatchEmbedConfig(0), NewPatchEmbedConfig(301)],
)  # fmt: skip
def test_settings_out_of_range_are_refused(sam: Sam, config: MethodConfig) -> None:
    with pytest.raises(TuningError):
        config.plan(sam)


def test_settings_go_through_json() -> None:
    config = BandStemConfig(13, rho=0.5)
    assert BandStemConfig.from_json(config.to_json()) == config


def test_the_new_patch_embedding_is_one_convolution_over_image_and_bands(sam: Sam) -> None:
    adapter, part = attached(sam, NewPatchEmbedConfig(CHANNELS))
    frozen = sam.image_encoder.patch_embed.proj
    x = bands(2)
    with torch.no_grad():
        with adapter.given(SideInputs(bands=x)):
            found = frozen(images(2))
        weight = torch.cat([frozen.weight, part.get_parameter("bands.weight")], dim=1)
        whole = torch.nn.functional.conv2d(torch.cat([images(2), x], dim=1), weight, frozen.bias, 16)
    torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)


def test_the_new_patch_embedding_of_tiny_lies_on_the_stems_grid() -> None:
    tiny = build_tiny()
    adapter, part = attached(tiny, NewPatchEmbedConfig(3), moved=False)
    with torch.no_grad():
        part.get_parameter("bands.weight").copy_(tiny.image_encoder.patch_embed.first.weight)
        x = images(1)
        with adapter.given(SideInputs(bands=x)):
            found = tiny.image_encoder.patch_embed.first(images(1, seed=5))
        adapter.detach()
        first = tiny.image_encoder.patch_embed.first
        expected = first(images(1, seed=5)) + first(x) - first.bias[:, None, None]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_missing_pixels_are_the_mean_for_the_new_patch_embedding(sam: Sam) -> None:
    adapter, _ = attached(sam, NewPatchEmbedConfig(CHANNELS))
    x = bands(1)
    x[:, :, 5:40, 5:40] = torch.nan
    found = embed(sam, images(1), adapter, SideInputs(bands=x))
    assert torch.equal(found, embed(sam, images(1), adapter, SideInputs(bands=x.nan_to_num(0.0))))


# From raw bands to channels.


def test_normalised_difference_by_hand() -> None:
    near, red = np.array([0.6, 0.0, 0.2, np.nan, -0.1, 1e-30]), np.array([0.2, 0.0, 0.2, 0.1, 0.3, 0.0])
    found = normalised_difference(near, red)
    np.testing.assert_allclose(found[[0, 1, 2, 5]], [0.5, 0.0, 0.0, 1.0])
    assert np.isnan(found[3])
    assert found[4] == -1.0, "beyond -1 because of a negative value: cut"
    opposite = normalised_difference(np.array([0.5]), np.array([-0.5]))
    assert opposite[0] == 0.0, "a sum of 0 divides nothing"


def test_channels_are_bands_then_indices_on_a_common_scale() -> None:
    rng = np.random.default_rng(0)
    raw = np.stack([rng.normal(1000, 200, 40_000), rng.normal(3000, 10, 40_000), rng.normal(50, 3, 40_000)])
    records = measure(raw, [2, 5, 9], [(5, 2)], names=["red", "near infrared"])
    assert [(record.number, record.name, record.formula) for record in records] == [
        (2, "red", ""), (5, "near infrared", ""), (9, "", ""), (0, "", "(b5 - b2) / (b5 + b2)"),
    ]  # fmt: skip
    assert raster_bands(records) == (2, 5, 9)
    channels = to_channels(raw.reshape(3, 200, 200), records)
    assert channels.shape == (4, 200, 200) and channels.dtype == np.float32
    np.testing.assert_allclose(channels.mean(axis=(1, 2)), 0, atol=0.25)
    np.testing.assert_allclose(channels.std(axis=(1, 2)), 1, atol=0.1)
    index = (raw[1] - raw[0]) / (raw[1] + raw[0])
    np.testing.assert_allclose(channels[3].ravel(), (index - records[3].mean) / records[3].std, atol=1e-4, rtol=1e-4)


def test_percentiles_do_not_mind_clouds_and_moments_do() -> None:
    rng = np.random.default_rng(1)
    clear = rng.normal(100, 5, 10_000)
    cloudy = clear.copy()
    cloudy[:50] = 10_000
    robust = [measure(values[None], [1])[0] for values in (clear, cloudy)]
    assert abs(robust[0].mean - robust[1].mean) < 1 and abs(robust[0].std - robust[1].std) < 1
    (moments,) = measure(cloudy[None], [1], spread=Spread.MOMENTS)
    assert moments.std > 500
    np.testing.assert_allclose((moments.mean, moments.std), (cloudy.mean(), cloudy.std()))
    assert to_channels(cloudy.reshape(1, 100, 100), robust[1:]).max() == CLIP


def test_no_data_stays_no_data_also_in_indices() -> None:
    records = measure(np.array([[1.0, 2, 3, np.nan], [4, 4, 9, 1]]), [1, 2], [(1, 2)])
    raw = np.array([[[1, 2, 30000, 5]], [[3, np.inf, 2, 6]]], np.float32)
    valid = np.array([[True, True, False, True]])
    channels = to_channels(raw, records, valid)
    assert np.isnan(channels).tolist() == [
        [[False, False, True, False]], [[False, True, True, False]], [[False, True, True, False]],
    ]  # fmt: skip
    integers = to_channels(raw[:, :, [0, 3]].astype(np.uint16), records)
    np.testing.assert_array_equal(integers, channels[:, :, [0, 3]])
    assert raw[0, 0, 2] == 30000, "the raster's own array is not written to"


def test_nearly_constant_and_constant_bands_keep_a_usable_spread() -> None:
    mask = np.zeros(1000)
    mask[:10] = 1
    records = measure(np.stack([mask, np.full(1000, 7.0)]), [1, 2])
    assert records[0].std == pytest.approx(mask.std())
    assert (records[1].mean, records[1].std) == (7.0, 1.0)
    assert not to_channels(np.full((2, 2, 2), 7.0), records)[1].any()


def test_a_band_without_data_is_named() -> None:
    with pytest.raises(TuningError, match="Band 4"):
        measure(np.array([[1.0, 2.0], [np.nan, np.nan]]), [3, 4])


def test_another_number_of_bands_is_refused() -> None:
    records = measure(np.arange(6.0).reshape(2, 3), [1, 2])
    with pytest.raises(TuningError, match="2 bands, the raster has 3"):
        to_channels(np.zeros((3, 4, 4)), records)


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_a_damaged_scale_is_refused(std: float) -> None:
    with pytest.raises(TuningError, match="scale"):
        to_channels(np.zeros((1, 2, 2)), [BandRecord(1, std=std)])


def test_formulas_of_indices() -> None:
    assert index_bands(BandRecord(0, formula=index_formula(8, 4))) == (8, 4)
    for formula in ("", "(b8 - b4) / (b8 + b5)", "(b4 - b4) / (b4 + b4)", "__import__('os')", "b8 / b4"):
        with pytest.raises(TuningError, match="Update"):
            index_bands(BandRecord(0, formula=formula))
    with pytest.raises(TuningError, match="band 4"):
        raster_bands([BandRecord(8), BandRecord(0, formula=index_formula(8, 4))])
