"""What makes a training step faster on a processor and leaves its result the same up to rounding.

Measured on a Xeon with AMX, one thread, torch 2.13, filters of 5 x 5: oneDNN's backward pass of a depthwise convolution
takes four to six times as long in bfloat16 as in full precision, and activation functions whose two arguments differ
in memory format ten times as long as where they agree.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...models.fast_attention import speed_up
from ...models.sam_modules import Sam


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution that is differentiated in full precision."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (torch's own, untyped)
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        stride: int,
        padding: int,
    ) -> torch.Tensor:
        """Convolve (B, C, H, W) with (C, 1, k, k)."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), stride, padding, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401
        """Return the gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        wanted = [bool(needed) for needed in ctx.needs_input_grad[:3]]
        grads = torch.ops.aten.convolution_backward(
            grad.float(),
            x.float(),
            weight.float(),
            [weight.shape[0]],
            [ctx.stride, ctx.stride],
            [ctx.padding, ctx.padding],
            [1, 1],
            False,  # noqa: FBT003
            [0, 0],
            weight.shape[0],
            wanted,
        )
        first = grads[0].to(x.dtype) if wanted[0] else None
        return first, grads[1], grads[2], None, None


def _convolve(module: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Do what the stem's padded convolution does."""
    kernel, stride = module.kernel_size[0], module.stride[0]
    total = max(kernel - stride, 0)
    before = total // 2
    padding = before
    if total != 2 * before:
        x = functional.pad(x, (before, total - before, before, total - before))
        padding = 0
    result: torch.Tensor = _Depthwise.apply(x, module.weight, module.bias, stride, padding)  # type: ignore[no-untyped-call]
    return result


def _normalise_channels(norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    """Do what SAM's ``LayerNorm2d`` does (it has ``LayerNorm``'s weight, bias and eps), in one fused call."""
    last = functional.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), norm.weight, norm.bias, norm.eps)
    return last.permute(0, 3, 1, 2)


def speed_up_training(sam: Sam) -> None:
    """Give a network's modules faster forward and backward passes; weights and their names stay.

    Args:
        sam: ``tiny``, or another ``Sam``.
    """
    speed_up(sam.image_encoder)
    for module in sam.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.forward = MethodType(_convolve, module)  # type: ignore[method-assign]
        elif type(module).__name__ == "LayerNorm2d":
            module.forward = MethodType(_normalise_channels, module)
