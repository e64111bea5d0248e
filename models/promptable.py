"""A model that takes an image once and prompts many times: numpy in, numpy out, nothing but the network between."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import interpolate

from .encoder import checked, pieces
from .errors import DeviceError, PromptError
from .fast_attention import fastest_precision, speed_up
from .peft.contract import Scope, SideInputs
from .peft.slot import AdapterSlot
from .prompt_mask import draw_one
from .sam_modules import ImageEncoderViT, PromptEncoder, Sam

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .card import ModelCard
    from .peft.adapter import Adapter
    from .side_pixels import SidePixels

PATCH = 16
"""Input pixels per side of one cell of the embedding."""

_CENTRE = 0.5
"""SAM's prompt encoder adds this to every coordinate, taking it for a pixel's index. Ours are positions already."""


@dataclass(frozen=True)
class Decoded:
    """What the mask decoder answers to one object's prompts.

    Attributes:
        logits: (k, h, w) float32, k = 3 or 1, h = w = input size / 4; the outer corner of its first cell is the outer
            corner of the input's first pixel. Positive inside the object.
        iou: (k,) float32 in [0, 1]: how well the model expects each mask to fit.
    """

    logits: NDArray[np.float32]
    iou: NDArray[np.float32]


def is_ambiguous(points: int, *, box: bool, previous: bool) -> bool:
    """Say whether prompts may mean a part, a whole or a group, so that the decoder should offer three masks.

    As in SAM: one point alone may; with a second point, a box or a previous answer the single-mask output is better.

    Args:
        points: how many there are, positive and negative.
        box: one is given.
        previous: the logits of a previous answer are given.
    """
    return points <= 1 and not box and not previous


class PromptableModel:
    """A loaded base model, alone or with an adapter. Safe between threads, which take turns.

    Attributes:
        card: what it is.
        network: the ``segment_anything`` ``Sam``.
        device: where it runs.
    """

    def __init__(self, card: ModelCard, network: Sam, device: torch.device) -> None:
        """Take a network into use.

        Args:
            card: of the model.
            network: a ``Sam`` with its weights loaded, in evaluation mode.
            device: where it is to run.

        Raises:
            DeviceError: the device is absent, or its memory does not suffice.
        """
        self.card = card
        self.device = device
        with device_errors(device):
            self.network: Sam = network.to(device)
        speed_up(self.network.image_encoder)
        self._slot = AdapterSlot(self.network)
        self._prompt_encoders: dict[tuple[int, int], tuple[PromptEncoder, torch.Tensor]] = {}

    @property
    def encoder_steps(self) -> int:
        """How often :meth:`encode` calls its ``check``."""
        return len(self.network.image_encoder.blocks) + 1

    @property
    def adapter(self) -> Adapter | None:
        """The adapter that takes part now; None for the base alone."""
        return self._slot.current

    @contextlib.contextmanager
    def using(self, adapter: Adapter | None) -> Iterator[None]:
        """Encode and decode with an adapter while the context lasts; other threads wait until it ends.

        The base is not loaded again, and no adapter leaves a trace in it: with None its outputs are bit for bit those
        it had before.

        Args:
            adapter: built for this model's network; None for the base alone.

        Raises:
            TuningError: the adapter does not fit this network.
            DeviceError: the device ran out of memory.
        """
        with self._slot.lock:
            with device_errors(self.device):
                self._slot.use(adapter)
            yield

    @torch.inference_mode()
    def encode(
        self,
        image: NDArray[np.uint8],
        valid: NDArray[np.bool_] | None = None,
        check: Callable[[], None] | None = None,
        side: SidePixels | None = None,
    ) -> NDArray[np.float16]:
        """Run the image encoder.

        Args:
            image: (S, S, 3) uint8, RGB. S is the card's input size, or another multiple of 16.
            valid: (S, S), False where there is no data; such pixels become the model's mean colour. None: all valid.
            check: called before each block; may raise to stop the work.
            side: what the adapter in use sees besides; the base alone sees nothing of it.

        Returns:
            (256, S / 16, S / 16) float16.

        Raises:
            ValueError: the arrays are of another shape or type.
            DeviceError: the device ran out of memory.
        """
        _check_image(image, valid)
        pixels = [self._normalised(image, valid)]
        encoder = self.network.image_encoder
        with (
            self._slot.lock,
            device_errors(self.device),
            fastest_precision(self.device),
            checked(pieces(encoder), check),
        ):
            adapter = self.adapter if side is not None else None
            if adapter is not None and side is not None and side.second is not None:
                pixels.append(self._normalised(side.second, side.second_valid))
            with contextlib.nullcontext() if adapter is None else adapter.given(self._side(side, len(pixels))):
                embedding = _run_encoder(encoder, torch.stack(pixels))
        # Laid out as it comes back from the store: sums depend on the order, and so would answers in their last digits.
        result: NDArray[np.float16] = embedding[0].to(torch.float16).contiguous().cpu().numpy()
        return result

    @torch.inference_mode()
    def decode(
        self,
        embedding: NDArray[np.float16],
        points: NDArray[np.float32],
        labels: NDArray[np.int64],
        box: NDArray[np.float32] | None = None,
        mask_logits: NDArray[np.float32] | None = None,
        *,
        multimask: bool = True,
    ) -> Decoded:
        """Run the prompt encoder and the mask decoder for one object.

        Args:
            embedding: (256, h, w), from :meth:`encode`.
            points: (n, 2) x, y in input pixels, continuous: the first pixel's outer corner is (0, 0), its centre (0.5,
                0.5). n may be 0.
            labels: (n,) 1 for a point of the object, 0 for one of the background.
            box: (4,) x0, y0, x1, y1 in input pixels, or None.
            mask_logits: (4 h, 4 w) logits of the previous answer, or None.
            multimask: offer three masks, see :func:`is_ambiguous`; otherwise one.

        Raises:
            PromptError: there is no prompt at all.
            ValueError: arrays do not fit together.
            DeviceError: the device ran out of memory.
        """
        _check_prompts(embedding, points, labels, box, mask_logits)
        height, width = int(embedding.shape[1]), int(embedding.shape[2])
        prompts, positions = self._prompt_encoder(height, width)
        plane = self._mask_prompt(embedding, points, labels, box, mask_logits)
        with self._slot.lock, device_errors(self.device):
            sparse, dense = prompts(
                points=self._points(points, labels) if len(points) else None,
                boxes=None if box is None else self._tensor(np.asarray(box, np.float32)[None]) - _CENTRE,
                masks=None if plane is None else plane.to(self.device),
            )
            logits, iou = self.network.mask_decoder(
                image_embeddings=self._tensor(np.asarray(embedding, np.float32)[None]),
                image_pe=positions,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=multimask,
            )
        return Decoded(logits[0].float().cpu().numpy(), self.expected_iou(iou[0].float().cpu().numpy()))

    def expected_iou(self, estimates: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the IoU to expect from the decoder's estimates, by the card's table if it has one.

        Args:
            estimates: (k,).

        Returns:
            (k,) 0 to 1.
        """
        table = self.card.expected_iou
        tuned = () if self.adapter is None else self.adapter.configs
        # A tuned decoder has learnt to estimate its own IoU; the table is of the one before.
        if not table or any(config.scope is Scope.DECODER and config.merges for config in tuned):
            return np.clip(estimates, 0.0, 1.0)
        return np.interp(estimates, [pair[0] for pair in table], [pair[1] for pair in table]).astype(np.float32)

    def warm_up(self, check: Callable[[], None] | None = None) -> None:
        """Run once on an empty image, so that the first click does not pay for what happens only once.

        Args:
            check: as for :meth:`encode`.
        """
        size = self.card.input_size
        embedding = self.encode(np.zeros((size, size, 3), np.uint8), check=check)
        middle = np.full((1, 2), size / 2, np.float32)
        self.decode(embedding, middle, np.ones(1, np.int64), multimask=True)

    def _normalised(self, image: NDArray[np.uint8], valid: NDArray[np.bool_] | None) -> torch.Tensor:
        """Return (3, S, S) float32 with the mean and deviation that the model wants."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1).float()
        mean = torch.tensor(self.card.mean, device=self.device)[:, None, None]
        std = torch.tensor(self.card.std, device=self.device)[:, None, None]
        pixels = (pixels - mean) / std
        if valid is not None:
            pixels = pixels * torch.from_numpy(np.ascontiguousarray(valid)).to(self.device)
        return pixels

    def _side(self, side: SidePixels | None, streams: int) -> SideInputs:
        bands = None if side is None or side.bands is None else self._tensor(side.bands)[None]
        return SideInputs(bands, streams)

    def _tensor(self, values: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def _points(self, points: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        coordinates = self._tensor(np.asarray(points, np.float32)[None]) - _CENTRE
        return coordinates, self._tensor(np.asarray(labels, np.float32)[None])

    def _mask_prompt(
        self,
        embedding: NDArray[np.float16],
        points: NDArray[np.float32],
        labels: NDArray[np.int64],
        box: NDArray[np.float32] | None,
        previous: NDArray[np.float32] | None,
    ) -> torch.Tensor | None:
        if self.card.click_bumps:
            seen = torch.from_numpy(np.asarray(embedding, np.float32))
            size = (4 * seen.shape[1], 4 * seen.shape[2])
            return draw_one(size, points, labels, box, previous, seen)
        if previous is None:
            return None
        return torch.from_numpy(np.asarray(previous, np.float32)[None, None].copy())

    def _prompt_encoder(self, height: int, width: int) -> tuple[PromptEncoder, torch.Tensor]:
        """Return the prompt encoder for (height, width) cells and the positions of those, (1, 256, h, w).

        The encoders of all sizes share one set of weights; positions are computed once, because a click takes few
        milliseconds and they would be one of them.
        """
        size = (height, width)
        if size not in self._prompt_encoders:
            shared: PromptEncoder = copy.copy(self.network.prompt_encoder)
            shared.image_embedding_size = size
            shared.input_image_size = (height * PATCH, width * PATCH)
            shared.mask_input_size = (4 * height, 4 * width)
            self._prompt_encoders[size] = (shared, shared.get_dense_pe())
        return self._prompt_encoders[size]


def _check_image(image: NDArray[np.uint8], valid: NDArray[np.bool_] | None) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be (S, S, 3) uint8, not {image.shape} {image.dtype}")
    if image.shape[0] % PATCH or image.shape[1] % PATCH or not image.size:
        raise ValueError(f"the sides of the image must be multiples of {PATCH}, not {image.shape[:2]}")
    if valid is not None and (valid.shape != image.shape[:2] or valid.dtype != np.bool_):
        raise ValueError(f"valid must be {image.shape[:2]} bool, not {valid.shape} {valid.dtype}")


def _check_prompts(
    embedding: NDArray[np.float16],
    points: NDArray[np.float32],
    labels: NDArray[np.int64],
    box: NDArray[np.float32] | None,
    mask_logits: NDArray[np.float32] | None,
) -> None:
    if embedding.ndim != 3:
        raise ValueError(f"embedding must be (C, h, w), not {embedding.shape}")
    if points.shape != (len(labels), 2):
        raise ValueError(f"points must be ({len(labels)}, 2) to go with the labels, not {points.shape}")
    if box is not None and np.shape(box) != (4,):
        raise ValueError(f"box must be (4,), not {np.shape(box)}")
    expected = (4 * embedding.shape[1], 4 * embedding.shape[2])
    if mask_logits is not None and mask_logits.shape != expected:
        raise ValueError(f"mask_logits must be {expected}, not {mask_logits.shape}")
    if not len(points) and box is None and mask_logits is None:
        raise PromptError("There is nothing to segment by. Click a point on the object, or draw a box around it.")


def _run_encoder(encoder: ImageEncoderViT, pixels: torch.Tensor) -> torch.Tensor:
    """Encode (1, 3, H, W), resizing the position embedding where the size is not the trained one."""
    grid = (pixels.shape[2] // PATCH, pixels.shape[3] // PATCH)
    resizes_itself = type(encoder).forward is not ImageEncoderViT.forward
    if resizes_itself or encoder.pos_embed is None or tuple(encoder.pos_embed.shape[1:3]) == grid:
        result: torch.Tensor = encoder(pixels)
        return result
    # On the CPU: bicubic resizing does not exist on every device, and the table is small.
    table = encoder.pos_embed.permute(0, 3, 1, 2).float().cpu()
    positions = interpolate(table, size=grid, mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    tokens = encoder.patch_embed(pixels) + positions.to(pixels.device)
    for block in encoder.blocks:
        tokens = block(tokens)
    neck: torch.Tensor = encoder.neck(tokens.permute(0, 3, 1, 2))
    return neck


@contextlib.contextmanager
def device_errors(device: torch.device) -> Iterator[None]:
    """Turn the ways in which a device fails into one error with a remedy.

    Args:
        device: that computes while the context lasts.

    Raises:
        DeviceError: its memory does not suffice.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"The memory of the device {device} does not suffice. Close other programs that use it, choose a smaller "
            "model, or set the device to cpu in SamTune's settings.",
            str(error),
        ) from error
