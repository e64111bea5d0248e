"""``tiny``: a compact SAM for overhead imagery (about 7 million parameters).

A ``segment_anything`` ``Sam`` made of its own blocks, so that whatever is written for SAM's ``Block``s, neck, prompt
encoder and mask decoder works on it unchanged; only the patch embedding is another one (:class:`.conv_stem.ConvStem`).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from .conv_stem import ConvStem
from .sam_modules import Block, ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

INPUT_SIZE = 512
PATCH = 16
GRID = INPUT_SIZE // PATCH
DIM = 192
DEPTH = 6
HEADS = 6
EMBED = 256
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


class TinyEncoder(ImageEncoderViT):  # type: ignore[misc]
    """SAM's encoder with the convolutional stem and a forward pass for inputs of any multiple of 16 pixels.

    Smaller inputs than 512 px are taken as a window of a 512 px crop (positions are cut out, not shrunk), so
    training on 256 px crops teaches exactly what 512 px inference uses; larger ones get their positions by bicubic
    resizing.
    """

    def __init__(self) -> None:
        """Make the encoder with random weights."""
        super().__init__(
            img_size=INPUT_SIZE,
            patch_size=PATCH,
            embed_dim=DIM,
            depth=DEPTH,
            num_heads=HEADS,
            mlp_ratio=4.0,
            out_chans=EMBED,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=0,
        )
        self.patch_embed = ConvStem(DIM)

    def forward(self, x: torch.Tensor, row: int = 0, column: int = 0) -> torch.Tensor:
        """Encode images.

        Args:
            x: (B, 3, H, W) float, normalised; H and W multiples of 16.
            row: for inputs smaller than 512 px: token row of the window within the 32 x 32 grid.
            column: token column of the window.

        Returns:
            (B, 256, H / 16, W / 16) embeddings.
        """
        x = self.patch_embed(x)
        height, width = x.shape[1], x.shape[2]
        x = x + self.positions(height, width, row, column)
        for block in self.blocks:
            x = self.run_block(block, x)
        embedding: torch.Tensor = self.neck(x.permute(0, 3, 1, 2))
        return embedding

    def positions(self, height: int, width: int, row: int = 0, column: int = 0) -> torch.Tensor:
        """Return the (1, height, width, 192) position embedding of a window of the grid, or resized to a larger one."""
        table: torch.Tensor = self.pos_embed
        if height <= GRID and width <= GRID:
            return table[:, row : row + height, column : column + width]
        planes = table.permute(0, 3, 1, 2)
        resized = functional.interpolate(planes, (height, width), mode="bicubic", align_corners=False)
        return resized.permute(0, 2, 3, 1)

    @staticmethod
    def run_block(block: Block, x: torch.Tensor) -> torch.Tensor:
        """Run one block on (B, h, w, 192) tokens.

        On a window smaller than the grid, with the rows of its relative positions that the window has.
        """
        height, width = x.shape[1], x.shape[2]
        if min(height, width) >= GRID or max(height, width) > GRID:
            whole: torch.Tensor = block(x)
            return whole
        attention = block.attn
        cut = {
            "attn.rel_pos_h": attention.rel_pos_h[GRID - height : GRID + height - 1],
            "attn.rel_pos_w": attention.rel_pos_w[GRID - width : GRID + width - 1],
        }
        part: torch.Tensor = functional_call(block, cut, (x,))
        return part


def build_tiny() -> Sam:
    """Return ``tiny`` with random weights, in evaluation mode.

    Load the shipped file with ``load_state_dict`` (keys are those of any SAM: ``image_encoder``, ``prompt_encoder``,
    ``mask_decoder``; ``pixel_mean`` and ``pixel_std`` are no part of it).
    """
    sam = Sam(
        image_encoder=TinyEncoder(),
        prompt_encoder=PromptEncoder(
            embed_dim=EMBED,
            image_embedding_size=(GRID, GRID),
            input_image_size=(INPUT_SIZE, INPUT_SIZE),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=EMBED, mlp_dim=1024, num_heads=8),
            transformer_dim=EMBED,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
        pixel_mean=list(MEAN),
        pixel_std=list(STD),
    )
    return sam.eval()
