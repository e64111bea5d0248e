"""SAM's image encoder on inputs of any size, with the features of its blocks, for tuning and for heads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from .sam_modules import ImageEncoderViT
from .tiny import TinyEncoder


@dataclass(frozen=True)
class Features:
    """What the encoder makes of a batch.

    Attributes:
        embedding: (B, 256, h, w), for the mask decoder.
        blocks: block index -> (B, h, w, D) tokens after that block, for the blocks that were asked for.
    """

    embedding: torch.Tensor
    blocks: Mapping[int, torch.Tensor]


def encode(
    encoder: ImageEncoderViT,
    images: torch.Tensor,
    *,
    collect: Collection[int] = (),
    window: tuple[int, int] = (0, 0),
    recompute: bool = False,
    again: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> Features:
    """Encode images; adapters that are attached to the encoder take part.

    Args:
        encoder: SAM's of any size, or ``tiny``'s.
        images: (B, 3, H, W) float32, normalised by the model's mean and std; sides multiples of 16.
        collect: blocks whose tokens are wanted.
        window: ``tiny`` only, for inputs smaller than 512 px: their token row and column within its grid.
        recompute: keep no activations within blocks but compute them again for the backward pass (less memory, a third
            more time).
        again: makes the context in which that is done, such as ``adapter.given(side)``: adapters must see then what
            they see now, and the backward pass may come after that context has ended.

    Returns:
        The embedding and the tokens asked for.
    """
    tokens = encoder.patch_embed(images)
    tokens = tokens + positions(encoder, (tokens.shape[1], tokens.shape[2]), window)
    kept: dict[int, torch.Tensor] = {}
    for index, block in enumerate(encoder.blocks):
        run = encoder.run_block if isinstance(encoder, TinyEncoder) else _run_block
        if recompute and torch.is_grad_enabled():
            both = partial(_contexts, again)
            tokens = checkpoint(run, block, tokens, use_reentrant=False, context_fn=both)
        else:
            tokens = run(block, tokens)
        if index in collect:
            kept[index] = tokens
    return Features(encoder.neck(tokens.permute(0, 3, 1, 2)), kept)


def _contexts(
    again: Callable[[], contextlib.AbstractContextManager[object]],
) -> tuple[contextlib.AbstractContextManager[object], contextlib.AbstractContextManager[object]]:
    return contextlib.nullcontext(), again()


def _run_block(block: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = block(tokens)
    return result


@contextlib.contextmanager
def checked(encoder: ImageEncoderViT, check: Callable[[], None] | None) -> Iterator[None]:
    """Call ``check`` before every block while the context lasts, and where gradients go back into one.

    Args:
        encoder: of any size.
        check: may raise to stop the work; None for nothing.
    """
    if check is None:
        yield
        return
    stop = check

    def before(_module: torch.nn.Module, arguments: tuple[object, ...]) -> None:
        stop()
        tokens = arguments[0]
        if isinstance(tokens, torch.Tensor) and tokens.requires_grad and torch.is_grad_enabled():
            tokens.register_hook(lambda _gradient: stop())  # type: ignore[no-untyped-call]

    handles = [module.register_forward_pre_hook(before) for module in (*encoder.blocks, encoder.neck)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def positions(encoder: ImageEncoderViT, grid: tuple[int, int], window: tuple[int, int] = (0, 0)) -> torch.Tensor:
    """Return the position embedding for a grid of tokens.

    The published encoders' table is resized (bicubic) where the grid is not the trained one; ``tiny``'s is cut, because
    it was trained so.

    Args:
        encoder: whose.
        grid: (h, w) tokens.
        window: token row and column of the grid within ``tiny``'s.

    Returns:
        (1, h, w, D), or zeros (1, 1, 1, 1) for an encoder without.
    """
    if isinstance(encoder, TinyEncoder):
        return encoder.positions(*grid, *window)
    table = encoder.pos_embed
    if table is None:
        return torch.zeros(1, 1, 1, 1, device=next(encoder.parameters()).device)
    if tuple(table.shape[1:3]) == grid:
        whole: torch.Tensor = table
        return whole
    planes = table.permute(0, 3, 1, 2).float()
    return interpolate(planes, grid, mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
