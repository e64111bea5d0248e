"""SAM's mask decoder over several objects of several images at once, as training and evaluation need it."""

from __future__ import annotations

import torch

from .answers import changed
from .sam_modules import PromptEncoder, Sam


def decode_batch(
    sam: Sam,
    embeddings: torch.Tensor,
    points: torch.Tensor,
    labels: torch.Tensor,
    boxes: torch.Tensor | None,
    planes: torch.Tensor | None,
    window: tuple[int, int] = (0, 0),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode M objects in each of B images.

    ``MaskDecoder`` itself takes one image at a time and repeats it; this gives it ready-made pairs instead.

    Args:
        sam: a SAM; its ``prompt_encoder`` and ``mask_decoder`` are used.
        embeddings: (B, 256, h, w) from its encoder.
        points: (B * M, P, 2) x, y in input pixels of the (window of the) input; objects of one image lie together.
        labels: (B * M, P): 1 object, 0 background, -1 no click.
        boxes: (B * M, 4) x0, y0, x1, y1, or None; rows with NaN have none.
        planes: (B * M, 1, 4 h, 4 w) mask prompts, or None; a plane with NaN says that its object has none.
        window: token row and column of the embeddings within the model's grid, for inputs smaller than its native size.

    Returns:
        All four masks' logits (B * M, 4, 4 h, 4 w), the single-answer mask first, and predicted IoU (B * M, 4).
    """
    encoder, decoder = sam.prompt_encoder, sam.mask_decoder
    count, (height, width) = points.shape[0], embeddings.shape[-2:]
    origin = torch.tensor([window[1] * 16.0, window[0] * 16.0], device=points.device)
    # Where things are is told by sines of coordinates times random frequencies, which half precision blurs.
    with torch.autocast(embeddings.device.type, enabled=False):
        sparse = encoder._embed_points(points + origin - 0.5, labels, pad=boxes is None)
        if boxes is not None:
            sparse = torch.cat([sparse, _embed_boxes(encoder, boxes, origin)], dim=1)
        position = encoder.get_dense_pe()[:, :, window[0] : window[0] + height, window[1] : window[1] + width]
    dense = _embed_planes(encoder, planes)
    tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight], dim=0)
    tokens = torch.cat([tokens[None].expand(count, -1, -1), sparse], dim=1)
    source = embeddings.repeat_interleave(count // embeddings.shape[0], dim=0) + dense
    states, source = decoder.transformer(source, position.expand(count, -1, -1, -1), tokens)
    source = source.transpose(1, 2).reshape(count, -1, height, width)
    upscaled = decoder.output_upscaling(source)
    weights = torch.stack(
        [mlp(states[:, 1 + index]) for index, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )
    size = upscaled.shape[-2:]
    logits = (upscaled.permute(0, 2, 3, 1).flatten(1, 2) @ weights.transpose(1, 2)).transpose(1, 2).unflatten(2, size)
    iou = decoder.iou_prediction_head(states[:, 0])
    return changed(decoder, logits, iou), iou


def _embed_boxes(encoder: PromptEncoder, boxes: torch.Tensor, origin: torch.Tensor) -> torch.Tensor:
    """Return (N, 2, C) corner tokens; objects without a box get two "not a point" tokens."""
    absent = torch.isnan(boxes).any(dim=1)
    known = torch.where(absent[:, None], torch.zeros_like(boxes), boxes)
    tokens: torch.Tensor = encoder._embed_boxes(known + origin.repeat(2) - 0.5)
    return torch.where(absent[:, None, None], encoder.not_a_point_embed.weight[None], tokens)


def _embed_planes(encoder: PromptEncoder, planes: torch.Tensor | None) -> torch.Tensor:
    """Return (N, C, h, w) of mask prompts; SAM's embedding for "none", (1, C, 1, 1), where nobody has one."""
    none: torch.Tensor = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    if planes is None:
        return none
    absent = torch.isnan(planes).flatten(1).any(dim=1)
    if not bool(absent.any()):
        dense: torch.Tensor = encoder.mask_downscaling(planes)
        return dense
    return torch.where(absent[:, None, None, None], none, encoder.mask_downscaling(torch.nan_to_num(planes)))
