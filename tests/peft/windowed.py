"""A small SAM whose encoder has windows and padding, as the published ones do, and what tests do with parts on it."""

from __future__ import annotations

from functools import partial

import torch
from samtune.models.encoder import encode
from samtune.models.peft.adapter import Adapter, freeze
from samtune.models.peft.contract import MethodConfig, Part, SideInputs
from samtune.models.sam_modules import ImageEncoderViT, Sam
from samtune.models.tiny import build_tiny

SIDE = 80
"""Pixels; 5 x 5 tokens, which windows of 3 do not divide."""

DIM = 32


def windowed_sam() -> Sam:
    torch.manual_seed(5)
    sam = build_tiny()
    sam.image_encoder = ImageEncoderViT(
        img_size=SIDE, embed_dim=DIM, depth=3, num_heads=2, use_rel_pos=True, rel_pos_zero_init=False, window_size=3,
        global_attn_indexes=(2,), out_chans=256,
    )  # fmt: skip
    for name, parameter in sam.image_encoder.named_parameters():
        if "pos" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    freeze(sam)
    return sam.eval()


def images(number: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def perturb(part: torch.nn.Module, seed: int = 1, size: float = 0.2) -> None:
    """Move everything that is trained, as training does, so that nothing is zero any more."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random), alpha=size)


def attached(sam: Sam, config: MethodConfig, *, moved: bool = True) -> tuple[Adapter, Part]:
    adapter = Adapter(sam, [config])
    part = adapter.parts[config.method]
    if moved:
        perturb(part)
    adapter.attach(sam)
    return adapter, part


def embed(
    sam: Sam, batch: torch.Tensor, adapter: Adapter | None = None, side: SideInputs | None = None
) -> torch.Tensor:
    if adapter is None or side is None:
        with torch.no_grad():
            return encode(sam.image_encoder, batch).embedding
    with torch.no_grad(), adapter.given(side):
        return encode(sam.image_encoder, batch).embedding


def gradients(
    sam: Sam, batch: torch.Tensor, adapter: Adapter, side: SideInputs, *, recompute: bool = False
) -> dict[str, torch.Tensor | None]:
    """Return the gradient of everything trainable for an arbitrary loss that looks at every stream."""
    adapter.zero_grad()
    with adapter.given(side):
        again = partial(adapter.given, side)
        embedding = encode(sam.image_encoder, batch, recompute=recompute, again=again).embedding
    # As in training, where the loss is computed when the side inputs are given no longer.
    weights = torch.linspace(-1, 1, embedding.numel()).reshape(embedding.shape)
    (embedding * weights).sum().backward()
    return {name: value.grad for name, value in adapter.trainable_parameters()}
