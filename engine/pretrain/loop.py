"""The pretraining loop: resumable, checkpointed atomically, with a log of losses and validation figures."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from ...models.conv_stem import fold_published
from ...models.errors import SamTuneError
from ...models.fast_attention import computes_in_bfloat16
from ...models.sam_modules import Sam
from ...models.tiny import build_tiny
from ..progress import Progress
from .checkpoint import read_checkpoint, write_checkpoint
from .config import PretrainConfig
from .curves import Curves
from .fast_training import speed_up_training
from .pack import read_pack
from .prompting import Batch, make_batch
from .sampling import Sampler
from .step import run_step

_AHEAD = 3
_VALIDATION_BATCHES = 8
_MOST_CORRECTIONS = 6


class Trainer:
    """A run of :class:`PretrainConfig`, from its checkpoint if there is one."""

    def __init__(self, config: PretrainConfig, build: Callable[[], Sam] = build_tiny) -> None:
        """Build or resume.

        Args:
            config: the run.
            build: makes the network; tests give a smaller one.
        """
        if config.threads:
            torch.set_num_threads(config.threads)
        self._config = config
        self._device = torch.device(config.device)
        self._bf16 = computes_in_bfloat16(self._device)
        torch.manual_seed(config.seed)
        self.model = build().to(self._device).train()
        if config.stem is not None:
            published = torch.load(config.stem, map_location="cpu", weights_only=True)
            self.model.image_encoder.patch_embed.load_state_dict(fold_published(published), strict=False)
        _freeze(self.model, config.optimisation.frozen)
        self.model.image_encoder.to(memory_format=torch.channels_last)
        if self._device.type == "cpu":
            speed_up_training(self.model)
        self.average = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.optimiser = torch.optim.AdamW(_groups(self.model, config), betas=(0.9, 0.999), fused=True)
        self.step = 0
        self._curves = Curves(config.folder)
        self._resume()

    def run(self, stop_at: int | None = None, progress: Progress | None = None) -> None:
        """Train to the end, or to a step.

        Args:
            stop_at: step to stop at, with a checkpoint.
            progress: told about every step, and asked whether to stop.

        Raises:
            SamTuneError: the loss is no number any more.
        """
        last = min(self._config.steps, stop_at or self._config.steps)
        sampler = Sampler([e for pack in self._config.packs for e in read_pack(pack)], self._config.sampling)
        for batch in _ahead(lambda step: self._batch(sampler, step), self.step, last):
            if progress is not None:
                progress.check()
                progress.report(self.step / self._config.steps, f"Training, step {self.step}")
            started = time.monotonic()
            figures = self._train(batch)
            self.step += 1
            self._curves.add(self.step, {**figures, "seconds": time.monotonic() - started})
            if self._config.validation is not None and self.step % self._config.validate_every == 0:
                self._curves.add_validation(self.step, self.validate(self._config.validation))
            if self.step % self._config.save_every == 0 or self.step == last:
                self.save()

    def validate(self, pack: Path) -> dict[str, float]:
        """Return mean figures of the averaged weights on fixed samples of a pack (every sample from one seed)."""
        settings = self._config.sampling
        entries = read_pack(pack)
        sources = {entry.source: 1.0 for entry in entries}
        sampler = Sampler(entries, type(settings)(sources, settings.kinds, settings.masks, empty=0.0))
        model = copy.deepcopy(self.model).eval()
        model.load_state_dict(self.average)
        found: list[dict[str, float]] = []
        with torch.no_grad():
            for index in range(_VALIDATION_BATCHES):
                rng = np.random.default_rng([self._config.seed, 1, index])
                batch = make_batch([sampler.draw(rng, 256) for _ in range(8)], 4, rng)
                found.append(run_step(model, batch, 2, rng, bf16=self._bf16).figures)
        return {name: float(np.mean([figures[name] for figures in found])) for name in found[0]}

    def save(self) -> None:
        """Write the checkpoint (atomically), the averaged weights as fp16 safetensors, and the plot of the curves."""
        folder = self._config.folder
        write_checkpoint(folder / "checkpoint.pt", self.step, self.model, self.average, self.optimiser)
        export(self.average, folder / "tiny.safetensors")
        self._curves.plot()

    def _resume(self) -> None:
        path = self._config.folder / "checkpoint.pt"
        if path.is_file():
            self.step, self.average = read_checkpoint(path, self.model, self.optimiser)
            self._curves.cut(self.step)

    def _batch(self, sampler: Sampler, step: int) -> Batch:
        rng = np.random.default_rng([self._config.seed, 0, step])
        stage = self._config.stage_at(step)
        samples = [sampler.draw(rng, stage.size) for _ in range(stage.batch)]
        return make_batch(samples, round(self._config.optimisation.boxes * stage.batch + rng.uniform(-0.5, 0.5)), rng)

    def _train(self, batch: Batch) -> dict[str, float]:
        settings = self._config.optimisation
        factor = _rate_factor(self.step, self._config)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        batch = batch.to(self._device)
        rng = np.random.default_rng([self._config.seed, 2, self.step])
        clicks = _number_of_corrections(self._config.stage_at(self.step).clicks, rng)
        result = run_step(self.model, batch, clicks, rng, bf16=self._bf16)
        if not torch.isfinite(result.loss):
            raise SamTuneError(
                f"The loss became {float(result.loss.detach())} at step {self.step}. Lower the learning rate."
            )
        self.optimiser.zero_grad(set_to_none=True)
        result.loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.optimiser.step()
        decay = min(settings.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, tensor in self.model.state_dict().items():
                self.average[name].lerp_(tensor.detach(), 1 - decay)
        own = {"loss": float(result.loss.detach()), "rate": factor * settings.rate, "norm": float(norm)}
        return {**own, **result.figures}


def _number_of_corrections(mean: float, rng: np.random.Generator) -> int:
    """Draw how often a step corrects: geometrically, so that a few steps have many clicks though most have none."""
    return min(int(rng.geometric(1 / (1 + mean))) - 1, _MOST_CORRECTIONS)


def export(weights: dict[str, torch.Tensor], path: Path) -> None:
    """Write weights as fp16 safetensors, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    save_file({name: tensor.to(torch.float16).contiguous().cpu() for name, tensor in weights.items()}, partial)
    partial.replace(path)


def _groups(model: nn.Module, config: PretrainConfig) -> list[dict[str, object]]:
    settings = config.optimisation
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        stem = name.startswith("image_encoder.patch_embed") and ".proj." not in name
        plain = parameter.ndim > 1 and "pos" not in name and "embed.weight" not in name
        groups.setdefault((stem, plain), []).append(parameter)
    return [
        {"params": found, "peak": settings.stem_rate if stem else settings.rate, "weight_decay": settings.decay * plain}
        for (stem, plain), found in groups.items()
    ]


def _freeze(model: Sam, blocks: int) -> None:
    """Keep the stem's first convolution and blocks as they are. They stay with the optimiser, which passes them by."""
    if blocks:
        stem = model.image_encoder.patch_embed
        for part in (stem.first, *stem.blocks[:blocks]):
            part.requires_grad_(requires_grad=False)


def _rate_factor(step: int, config: PretrainConfig) -> float:
    settings = config.optimisation
    if step < settings.warm_up:
        return (step + 1) / settings.warm_up
    progress = (step - settings.warm_up) / max(1, config.steps - settings.warm_up)
    return settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _ahead(make: Callable[[int], Batch], first: int, last: int) -> Iterator[Batch]:
    """Yield the batches of steps, a few of them prepared ahead in a thread."""
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[Batch]] = [pool.submit(make, step) for step in range(first, min(first + _AHEAD, last))]
        for step in range(first, last):
            batch = waiting.pop(0).result()
            if step + _AHEAD < last:
                waiting.append(pool.submit(make, step + _AHEAD))
            yield batch
