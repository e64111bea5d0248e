"""The configuration of a pretraining run: one TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...models.errors import SamTuneError
from .sampling import SamplingSettings


@dataclass(frozen=True)
class Stage:
    """A part of the run with its own crop size.

    Attributes:
        until: share of the run's steps at which the stage ends.
        size: crop side in pixels, a multiple of 16.
        batch: images per step.
        clicks: correction clicks after the first prompt, on average over the steps; drawn geometrically.
    """

    until: float
    size: int
    batch: int
    clicks: float = 2.0


@dataclass(frozen=True)
class Optimisation:
    """Learning rates and the like.

    Attributes:
        rate: peak learning rate.
        stem_rate: peak learning rate of the convolutional stem, which starts from published weights.
        final: share of the peak rate that the cosine ends at.
        warm_up: steps of linear warm-up.
        decay: weight decay of matrices and filters.
        clip: largest gradient norm.
        average: decay of the weights' moving average, which is what is evaluated and shipped.
        boxes: share of images whose first prompt is a box.
        frozen: the stem's first convolution and this many of its first blocks keep their published weights; they see
        the
            most pixels, so their gradients cost most.
    """

    rate: float = 5e-4
    stem_rate: float = 1.5e-4
    final: float = 0.01
    warm_up: int = 100
    decay: float = 0.05
    clip: float = 1.0
    average: float = 0.998
    boxes: float = 0.35
    frozen: int = 0


@dataclass(frozen=True)
class PretrainConfig:
    """Everything a run depends on besides the packs' content.

    Attributes:
        folder: where checkpoint, curves and exports go.
        steps: length of the run.
        packs: folders of training packs.
        validation: folder of the validation pack, or None.
        stem: published EfficientNet-Lite0 weights to start the stem from, or None for random ones.
        seed: of everything drawn.
        threads: torch threads on the CPU, 0 for torch's own choice.
        device: ``cpu`` or ``cuda``.
        save_every: steps between checkpoints.
        validate_every: steps between validations.
        stages: crop sizes over the run.
        optimisation: rates.
        sampling: what is drawn.
    """

    folder: Path
    steps: int
    packs: tuple[Path, ...]
    validation: Path | None = None
    stem: Path | None = None
    seed: int = 0
    threads: int = 0
    device: str = "cpu"
    save_every: int = 100
    validate_every: int = 200
    stages: tuple[Stage, ...] = (Stage(1.0, 256, 8),)
    optimisation: Optimisation = field(default_factory=Optimisation)
    sampling: SamplingSettings = field(default_factory=lambda: SamplingSettings({}, {}))

    def stage_at(self, step: int) -> Stage:
        """Return the stage a step (from 0) belongs to."""
        return next((stage for stage in self.stages if step < stage.until * self.steps), self.stages[-1])


def read_config(path: Path) -> PretrainConfig:
    """Read a run's configuration. Paths in it are relative to the file.

    Raises:
        SamTuneError: the file is missing, is not TOML, or has unknown or missing settings.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        _check_sections(document)
        run = dict(document["run"])
        for key in ("folder", "validation", "stem"):
            if key in run:
                run[key] = path.parent / run[key]
        run["packs"] = tuple(path.parent / pack for pack in run["packs"])
        return PretrainConfig(
            **run,
            stages=tuple(Stage(**stage) for stage in document.get("stage", [{"until": 1.0, "size": 256, "batch": 8}])),
            optimisation=Optimisation(**document.get("optimisation", {})),
            sampling=SamplingSettings(**document["sampling"]),
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise SamTuneError(f"The configuration {path} cannot be used: {error}.") from error


def _check_sections(document: Mapping[str, object]) -> None:
    unknown = set(document) - {"run", "stage", "optimisation", "sampling"}
    if unknown:
        raise KeyError(f"unknown section {', '.join(sorted(unknown))}")
