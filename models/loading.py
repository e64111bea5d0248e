"""From a weight file to a model, strictly: the file's hash, every tensor by name and shape, and nothing unpickled."""

from __future__ import annotations

# For its exception only: weights_only=True unpickles nothing.
import pickle  # nosec B403
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from .card import Architecture, ModelCard
from .errors import ModelMissingError, WeightsError
from .hashing import verify
from .promptable import PromptableModel
from .sam_modules import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from .tiny import build_tiny

if TYPE_CHECKING:
    from torch import Tensor

_MOST_NAMED = 4

_DAMAGED = (
    *(SafetensorError, pickle.UnpicklingError, struct.error, RuntimeError, EOFError, ValueError),
    *(LookupError, AttributeError, TypeError, OSError),
)
"""What the two readers raise on files that are damaged or something else; for random bytes torch's raises many."""


@dataclass(frozen=True)
class VitSize:
    """The numbers in which the published image encoders differ.

    Attributes:
        dim: width of the tokens.
        depth: number of blocks.
        heads: attention heads per block.
        global_blocks: blocks that attend over the whole image; the others over windows of 14 x 14 tokens.
    """

    dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]


VIT_SIZES: Mapping[Architecture, VitSize] = {
    Architecture.VIT_B: VitSize(768, 12, 12, (2, 5, 8, 11)),
    Architecture.VIT_L: VitSize(1024, 24, 16, (5, 11, 17, 23)),
    Architecture.VIT_H: VitSize(1280, 32, 16, (7, 15, 23, 31)),
}


def build(architecture: Architecture) -> Sam:
    """Build a network with meaningless weights, in evaluation mode.

    Args:
        architecture: which.

    Returns:
        A ``segment_anything`` ``Sam``. Under ``torch.device("meta")`` it takes no memory.
    """
    if architecture is Architecture.TINY:
        return build_tiny()
    return _build_published(VIT_SIZES[architecture])


def _build_published(size: VitSize) -> Sam:
    side, patch, width = 1024, 16, 256
    grid = side // patch
    network = Sam(
        image_encoder=ImageEncoderViT(
            img_size=side,
            patch_size=patch,
            embed_dim=size.dim,
            depth=size.depth,
            num_heads=size.heads,
            mlp_ratio=4,
            out_chans=width,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
            global_attn_indexes=size.global_blocks,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=width, image_embedding_size=(grid, grid), input_image_size=(side, side), mask_in_chans=16
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=2048, num_heads=8),
            transformer_dim=width,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    )
    return network.eval()


def _scaffold(architecture: Architecture) -> Sam:
    """Build a network of which the names and shapes of its tensors are wanted, and not what is in them.

    A published one takes no memory. ``tiny`` takes a few megabytes: torch reckons with tensors without memory by parts
    of its compiler, and to import that takes two seconds, for which every engine's first click would wait.
    """
    if architecture is not Architecture.TINY:
        with torch.device("meta"):
            return build(architecture)
    with torch.random.fork_rng(devices=[]):
        return build(architecture)


def layout(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor that a weight file of this architecture holds."""
    network = _scaffold(architecture)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file: safetensors, or what ``torch.save`` wrote. Never runs code from the file.

    Args:
        path: safetensors, or a PyTorch file that holds one flat dictionary of tensors; told apart by content.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        ModelMissingError: there is no such file.
        WeightsError: it is damaged, or holds something else than tensors.
    """
    if not path.is_file():
        raise ModelMissingError(f"The model file {path.name} is not on this machine.", str(path))
    try:
        if _is_safetensors(path):
            return load_file(path, device="cpu")
        loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise WeightsError(
            f"The model file {path.name} is damaged, or no model file. Delete it and download or import it again.",
            f"{path}: {type(error).__name__}: {error}",
        ) from error
    if not isinstance(loaded, Mapping) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise WeightsError(
            f"The model file {path.name} holds something else than the weights of a model.",
            f"{path}: {type(loaded).__name__}",
        )
    return {str(name): value for name, value in loaded.items()}


def _is_safetensors(path: Path) -> bool:
    """Look for the JSON header that follows its own length in eight bytes; PyTorch files have no brace there."""
    with path.open("rb") as stream:
        return stream.read(9)[8:] == b"{"


def check_layout(card: ModelCard, state: Mapping[str, Tensor]) -> None:
    """Check that tensors are those of the card's architecture, all of them and no others.

    Args:
        card: of the model.
        state: tensors by name.

    Raises:
        WeightsError: a name is missing or unknown, a shape differs, or a tensor is not of floating point.
    """
    expected = layout(card.architecture)
    missing = sorted(set(expected) - set(state))
    unknown = sorted(set(state) - set(expected))
    wrong = [
        f"{name} {tuple(state[name].shape)} {state[name].dtype} instead of {shape}"
        for name, shape in expected.items()
        if name in state and (tuple(state[name].shape) != shape or not state[name].is_floating_point())
    ]
    if missing or unknown or wrong:
        problems = [("missing", missing), ("unknown", unknown), ("other shape or type", wrong)]
        raise WeightsError(
            f"The file does not hold the weights of {card.title}: it is of another model.",
            "\n".join(f"{what} ({len(names)}): {_some(names)}" for what, names in problems if names),
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")


def load(card: ModelCard, path: Path, device: torch.device | str, *, verified: bool = False) -> PromptableModel:
    """Load a model, ready for use.

    Args:
        card: of the model.
        path: its weight file.
        device: where it is to run.
        verified: the caller has checked the file's hash against the card before; it is not read twice.

    Returns:
        The model, in evaluation mode, float32, without gradients.

    Raises:
        ModelMissingError: there is no such file.
        WeightsError: the file is damaged, of another architecture, or not the one that the card names.
    """
    if not verified and path.is_file():
        verify(card, path)
    state = read_state(path)
    check_layout(card, state)
    network = _scaffold(card.architecture)
    # The parameters become the file's own tensors, so a 2.5 GB model is not held twice.
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True, assign=True)
    return PromptableModel(card, network.requires_grad_(requires_grad=False), torch.device(device))
