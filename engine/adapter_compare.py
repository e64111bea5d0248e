"""Two adapters side by side, or one beside the model as it is, on labelled polygons of a raster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..models.errors import TuningError
from ..models.peft.selective import DecoderConfig
from .adapters import AdapterService, LoadedAdapter, refuse_without_prompts
from .area_messages import CompareParams, CompareResult
from .evaluate.answerers import ModelAnswerer
from .evaluate.protocol import Answerer, Plan
from .further_inputs import FurtherInputs
from .progress import Progress
from .raster_source import RasterSource
from .tuning.dataset import Dataset, load_dataset
from .tuning.exam import LEAST_UNITS, judge, spread
from .tuning.exam_prompts import CLICKS, PromptExam, prompted
from .tuning.figures import figure_rows
from .tuning.gains import largest
from .tuning.reading import GroundReader
from .tuning.samples import Samples
from .tuning.settings import Labels, TuneSettings
from .tuning.split import Split

if TYPE_CHECKING:
    from ..models.promptable import PromptableModel

_SEED = 0


class Models(Protocol):
    """The part of ``ModelService`` that is used here."""

    def get(self, name: str, progress: Progress | None = None) -> PromptableModel:
        """Return a loaded model; raises ModelMissingError."""


class Comparing:
    """Answers requests to compare adapters. For one thread."""

    def __init__(self, models: Models, adapters: AdapterService) -> None:
        """Join the parts.

        Args:
            models: gives loaded models by name.
            adapters: loads adapters.
        """
        self._models, self._adapters = models, adapters

    def compare(self, params: CompareParams, progress: Progress) -> CompareResult:
        """Measure both on the same clicks and boxes.

        Args:
            params: raster, model, the two adapters, the polygons.
            progress: told about every object; may cancel between prompts.

        Returns:
            Figures of the first (before) and of the second (after), and what they come to.

        Raises:
            TuningError: an adapter does not fit the model or answers no clicks, or no polygon lies on the raster.
            RasterError: a raster cannot be read.
            ModelMissingError: the model's weights are not on this machine.
            CancelledByUser: from ``progress.check``.
        """
        if params.first == params.second_adapter:
            raise TuningError("Both are the same. Choose two adapters, or an adapter and the model as it is.")
        model = self._models.get(params.model, progress)
        both = [self._loaded(path, model, progress) for path in (params.first, params.second_adapter)]
        settings = _settings(params)
        reader = GroundReader(settings)
        source = RasterSource(params.raster)
        try:
            dataset = load_dataset(settings, reader, model.card.input_size, progress.check)
            everyone = range(len(dataset.objects))
            members = [everyone[place] for place in spread(len(everyone), params.most)]
            one, other = (_measured(params, model, source, adapter, (dataset, members, progress)) for adapter in both)
            samples = Samples(
                dataset, Split((), tuple(members), ()), reader, held_out=True, maps=False, check=progress.check
            )
            pictures = largest(one, other, samples, progress.check, -(-params.pictures // 2))[: params.pictures]
        finally:
            reader.close()
            source.close()
        names = [params.model if adapter is None else adapter.card.name for adapter in both]
        sentence = _sentence(one, other, names)
        return CompareResult(
            figure_rows(one, other, _SEED, progress.check), sentence, other.units, pictures, dataset.notes
        )

    def _loaded(self, path: str, model: PromptableModel, progress: Progress) -> LoadedAdapter | None:
        if not path:
            return None
        loaded = self._adapters.get(path, model, progress)
        refuse_without_prompts(loaded.card)
        return loaded


def _settings(params: CompareParams) -> TuneSettings:
    """Return what reads the polygons and draws the crops; nothing is tuned."""
    labels = params.labels
    return TuneSettings(
        rasters=(Path(params.raster.uri),),
        labels=Labels(Path(labels.path), labels.layer, labels.class_field, class_name=labels.class_name),
        output=Path("none"),
        methods=(DecoderConfig(),),
        model=params.model,
        rgb=params.raster.bands,
    )


def _measured(
    params: CompareParams,
    model: PromptableModel,
    source: RasterSource,
    adapter: LoadedAdapter | None,
    work: tuple[Dataset, list[int], Progress],
) -> PromptExam:
    dataset, members, progress = work
    further = None if adapter is None else FurtherInputs(adapter.card, params.raster.uri, params.second)
    name = params.model if adapter is None else adapter.card.name
    counting = _counted(progress, name, len(members))

    def answerer(_raster: int) -> Answerer:
        return ModelAnswerer(model, source, None if adapter is None else adapter.adapter, further, check=progress.check)

    plan = Plan(clicks=CLICKS, count_clicks=False, seed=_SEED, jitter=False)
    try:
        return prompted(dataset, members, plan, answerer, counting)
    finally:
        if further is not None:
            further.close()


def _counted(progress: Progress, name: str, objects: int) -> Callable[[], None]:
    """Return what is called between prompts: it tells of them, and may cancel."""
    done = 0
    most = max(objects * (CLICKS + 1), 1)

    def check() -> None:
        nonlocal done
        progress.check()
        done += 1
        progress.report(min(done / most, 1.0), f"Measuring {name}")

    return check


def _sentence(one: PromptExam, other: PromptExam, names: list[str]) -> str:
    first, second = names
    if other.units < LEAST_UNITS:
        return f"{first} and {second} cannot be compared on fewer than {LEAST_UNITS} objects. Label more."
    gain = judge(one, other, _SEED).gain
    if gain is None:
        return f"{first} and {second} could not be measured on the same objects."
    mean, low, high = gain
    found = f"IoU {mean:+.3f} (95 % interval {low:+.3f} to {high:+.3f}, {other.units} objects)"
    if low > 0:
        return f"{second} is better than {first} here: {found}."
    if high < 0:
        return f"{second} is worse than {first} here: {found}."
    return f"{second} and {first} do not differ here beyond chance: {found}."
