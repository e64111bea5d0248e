"""SAM's encoder attention without its largest table, and the precision in which a device runs it fastest.

SAM's ``Attention`` adds decomposed relative positions to the whole (heads, tokens, tokens) table of attention logits,
which at 4096 tokens and 12 heads is 800 MB, written and read several times: most of the encoder's time on a processor.
The positions are a sum of two terms, one for the key's row and one for its column,

    logit(q, k) = s * q.k + r_h(q)[row of k] + r_w(q)[column of k],

so they are a scalar product themselves: of (r_h(q), r_w(q)) with the one-hot row and column of k. Appended to queries
and keys they let torch's fused attention do the whole sum tile by tile. The result is SAM's up to rounding.
"""

from __future__ import annotations

import contextlib
from types import MethodType
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from .sam_modules import get_rel_pos

if TYPE_CHECKING:
    from .sam_modules import Attention, ImageEncoderViT


def attend(attention: Attention, x: torch.Tensor) -> torch.Tensor:
    """Do what ``segment_anything``'s ``Attention.forward`` does.

    Args:
        attention: an ``Attention`` with relative positions.
        x: (B, h, w, D) tokens.

    Returns:
        (B, h, w, D).
    """
    batch, height, width, dim = x.shape
    heads: int = attention.num_heads
    depth, tokens = dim // heads, height * width
    query, key, value = attention.qkv(x).reshape(batch, tokens, 3, heads, depth).permute(2, 0, 3, 1, 4).unbind(0)
    grid = query.reshape(batch * heads, height, width, depth)
    rows = get_rel_pos(height, height, attention.rel_pos_h).to(query.dtype)
    columns = get_rel_pos(width, width, attention.rel_pos_w).to(query.dtype)
    by_row = torch.einsum("bhwc,hkc->bhwk", grid, rows)
    by_column = torch.einsum("bhwc,wkc->bhwk", grid, columns)
    positions = torch.cat([by_row, by_column], dim=-1).reshape(batch, heads, tokens, height + width)
    query = torch.cat([query * attention.scale, positions.to(query.dtype)], dim=-1)
    key = torch.cat([key, _places(height, width, key).expand(batch, heads, -1, -1)], dim=-1)
    # The fused kernels want one depth for all three; the columns of zeros are cut off again.
    value = pad(value, (0, height + width))
    mixed = scaled_dot_product_attention(query, key, value, scale=1.0)[..., :depth]
    out: torch.Tensor = attention.proj(mixed.transpose(1, 2).reshape(batch, height, width, dim))
    return out


def _places(height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """Return (h * w, h + w): the one-hot row and column of every token."""
    rows = torch.eye(height, dtype=like.dtype, device=like.device).repeat_interleave(width, dim=0)
    columns = torch.eye(width, dtype=like.dtype, device=like.device).repeat(height, 1)
    return torch.cat([rows, columns], dim=-1)


def speed_up(encoder: ImageEncoderViT) -> None:
    """Have an encoder's blocks attend by :func:`attend`, and its patch embedding convolve with channels last.

    Weights, their names and the sub-modules stay as they are. Channels last halves the time of ``tiny``'s stem, whose
    depthwise convolutions are slow otherwise.

    Args:
        encoder: SAM's, of any size, or ``tiny``'s. Blocks without relative positions are left alone.
    """
    encoder.patch_embed.to(memory_format=torch.channels_last)
    for block in encoder.blocks:
        if block.attn.use_rel_pos:
            block.attn.forward = MethodType(attend, block.attn)


def fastest_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context in which an encoder runs fastest: in half precision where the hardware computes in it.

    Args:
        device: CUDA: bfloat16 where the card has it, else float16. Processor: bfloat16 where it has instructions for
            that (AMX or AVX-512 BF16). Otherwise full precision.
    """
    if computes_in_bfloat16(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.float16)
    return contextlib.nullcontext()


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware has instructions for bfloat16. Where it is emulated, it is slower than float32.

    Args:
        device: a card, or the processor.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        abilities = torch.cpu.get_capabilities()
        return bool(abilities.get("amx_bf16") or abilities.get("avx512_bf16"))
    return False
