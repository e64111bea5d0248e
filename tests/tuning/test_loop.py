"""The loop: resumed to the bit, stopped in good order, sparing with memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from samtune.engine.progress import NullProgress
from samtune.engine.tuning.checkpoint import State, read_checkpoint, write_checkpoint
from samtune.engine.tuning.distil_hook import StepContext
from samtune.engine.tuning.encoding import Encoding
from samtune.engine.tuning.exam import Exam, Examiner
from samtune.engine.tuning.fallback import fall_back, is_out_of_memory
from samtune.engine.tuning.loop import Trainer
from samtune.engine.tuning.prepare import Prepared, prepared
from samtune.engine.tuning.rates import default_rate, factor, parameter_groups
from samtune.engine.tuning.settings import Labels, Schedule, TuneSettings
from samtune.engine.tuning.task import Figures, Moment, Work
from samtune.models.card import Architecture
from samtune.models.errors import CancelledByUser, DeviceError, SamTuneError
from samtune.models.peft.adapter import Adapter
from samtune.models.peft.contract import MethodConfig, Scope, TuningError
from samtune.models.peft.lora import LoraConfig
from samtune.models.peft.selective import DecoderConfig

from .ground import LEFT, TOP, Ground, make_ground, service, write_shapes

SCHEDULE = Schedule(steps=4, batch=2, objects=1, prompts=1, save_every=2, checks=2)
METHODS = (LoraConfig(rank=2, start=0.5),)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("ground"), size=384, each=3)


@pytest.fixture
def settings(ground: Ground, tmp_path: Path) -> TuneSettings:
    return ground.settings(tmp_path / "a.safetensors", methods=METHODS, schedule=SCHEDULE, amp=False)


class Watch(NullProgress):
    """Stops at the n-th look."""

    def __init__(self, stop_at: int = 0) -> None:
        self.looks, self.stop_at = 0, stop_at

    def check(self) -> None:
        self.looks += 1
        if self.looks == self.stop_at:
            raise CancelledByUser


@contextmanager
def trainer_of(
    settings: TuneSettings, examiner: Examiner | None = None, key: str = "k", **changes: object
) -> Iterator[Trainer]:
    with prepared(settings, service(), NullProgress()) as ready:
        yield make(ready, examiner, key, **changes)


def make(ready: Prepared, examiner: Examiner | None = None, key: str = "k", **changes: object) -> Trainer:
    ready.adapter.attach(ready.model.network)
    encoding = Encoding(ready.model, ready.adapter, ready.cache, amp=ready.settings.amp)
    folder = ready.settings.work_folder
    return Trainer(ready.settings, encoding, ready.adapter, ready.objective, examiner, folder, key, **changes)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.adapter.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Scripted(Examiner):
    """Gives figures from a list, and remembers the weights that were measured."""

    def __init__(self, values: Sequence[float]) -> None:
        self.values, self.seen = list(values), []

    def examine(self, encoding: Encoding, check: Callable[[], None], most: int | None = None) -> Exam:
        assert encoding.adapter is not None
        self.seen.append({name: value.clone() for name, value in encoding.adapter.state_dict().items()})
        return Fixed(self.values.pop(0))


class Fixed(Exam):
    units, main = 3, "x"

    def __init__(self, given: float) -> None:
        self.given = given

    def figures(self, rows: object) -> dict[str, float]:
        return {"x": self.given}

    def fits(self) -> None:
        return None

    def each(self) -> np.ndarray:
        return np.full(self.units, self.given)

    seen = None

    def arrays(self) -> dict[str, np.ndarray]:
        return {"x": self.each()}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> Fixed:
        return cls(float(arrays["x"][0]))


def test_a_stopped_run_goes_on_as_if_it_had_not_been(settings: TuneSettings, tmp_path: Path) -> None:
    with trainer_of(settings) as whole:
        begun = weights(whole)
        whole.run(NullProgress())
        expected = weights(whole)
    assert not same(begun, expected)
    parted = replace(settings, folder=tmp_path / "other")
    with trainer_of(parted) as first:
        first.run(NullProgress(), stop_at=2)
        assert first.state.step == 2
    with trainer_of(parted) as second:
        assert second.state.step == 2
        second.run(NullProgress())
        assert same(weights(second), expected)
        csv = (tmp_path / "other" / "training.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in csv] == ["step", "1", "2", "3", "4"]


def test_the_seed_decides_everything(settings: TuneSettings, tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((0, 0, 1)):
        short = replace(settings, seed=seed, folder=tmp_path / str(number), schedule=replace(SCHEDULE, steps=1))
        with trainer_of(short) as trainer:
            trainer.run(NullProgress())
            found.append(weights(trainer))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_stopping_within_a_step_leaves_the_step_before(settings: TuneSettings, tmp_path: Path) -> None:
    with trainer_of(settings) as whole:
        whole.run(NullProgress(), stop_at=1)
        expected = weights(whole)
    stopped = replace(settings, folder=tmp_path / "other")

    class Within(NullProgress):
        """Stops at the fourth look within the second step."""

        left = 0

        def report(self, fraction: float, message: str) -> None:
            self.left = 4 if "step 2 of" in message else 0

        def check(self) -> None:
            self.left -= 1
            if self.left == 0:
                raise CancelledByUser

    with trainer_of(stopped) as trainer:
        with pytest.raises(CancelledByUser):
            trainer.run(Within())
        assert trainer.state.step == 1
    with trainer_of(stopped) as again:
        assert again.state.step == 1
        assert same(weights(again), expected)


def test_a_checkpoint_of_another_run_is_not_gone_on_from(settings: TuneSettings) -> None:
    with trainer_of(settings) as trainer:
        trainer.run(NullProgress(), stop_at=1)
    with trainer_of(settings, key="other") as other:
        assert other.state.step == 0


def test_a_damaged_checkpoint_says_what_to_do(settings: TuneSettings) -> None:
    settings.work_folder.mkdir()
    (settings.work_folder / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(TuningError, match="Delete it"), trainer_of(settings):
        pass


def test_an_interrupted_write_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    value = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([value])
    write_checkpoint(path, "k", State(step=1), {"a": value.detach()}, optimiser)

    def broken(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(SamTuneError, match="Make room"):
        write_checkpoint(path, "k", State(step=2), {"a": value.detach()}, optimiser)
    found = read_checkpoint(path, "k", torch.device("cpu"))
    assert found is not None
    assert found[0].step == 1
    assert list(tmp_path.iterdir()) == [path]


def test_frozen_weights_stay_and_adapters_move(settings: TuneSettings) -> None:
    with prepared(settings, service(), NullProgress()) as ready:
        before = {name: value.clone() for name, value in ready.model.network.state_dict().items()}
        trainer = make(ready)
        begun = weights(trainer)
        trainer.run(NullProgress(), stop_at=1)
        assert not same(begun, weights(trainer))
        ready.adapter.detach()
        assert same(before, dict(ready.model.network.state_dict()))


def test_a_loss_that_is_no_number_stops_the_run(settings: TuneSettings) -> None:
    with trainer_of(settings) as trainer:
        with torch.no_grad():
            next(value for name, value in trainer.adapter.trainable_parameters() if "lora_B" in name).fill_(np.nan)
        with pytest.raises(SamTuneError, match=r"step 1, so training was stopped. Lower the learning rate"):
            trainer.run(NullProgress())
        assert trainer.state.step == 0


class Tight:
    """An objective that runs out of memory unless few crops are computed at once, or activations computed again."""

    population = 9

    def __init__(self, inner: object, most: int, *, again: bool = False, text: str = "") -> None:
        self.inner, self.most, self.again, self.text = inner, most, again, text
        self.tries: list[tuple[int, bool]] = []

    def draw(self, number: int, way: int, rng: np.random.Generator) -> Work:
        return self.inner.draw(number % self.inner.population, way, rng)

    def weight(self, work: Work) -> int:
        return 1

    def probe(self, work: Work, moment: Moment) -> torch.Tensor:
        return self.inner.probe(work, moment)

    def learn(self, works: Sequence[Work], moment: Moment) -> Figures:
        self.tries.append((len(works), moment.encoding.recompute))
        if len(works) > self.most or (self.again and not moment.encoding.recompute):
            raise RuntimeError(self.text) if self.text else torch.OutOfMemoryError("injected")
        return self.inner.learn(works, moment)


@pytest.mark.parametrize("text", ["", "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"])
def test_too_large_a_batch_is_halved_with_the_same_result(settings: TuneSettings, tmp_path: Path, text: str) -> None:
    wide = replace(settings, schedule=replace(SCHEDULE, batch=4, steps=1))
    with trainer_of(wide) as whole:
        whole.run(NullProgress())
        expected = weights(whole)
    with trainer_of(replace(wide, folder=tmp_path / "other")) as trainer:
        tight = Tight(trainer.objective, 1, text=text)
        trainer.objective = tight
        trainer.objective.population = tight.inner.population
        trainer.run(NullProgress())
        assert tight.tries == [(4, False), (2, False), (1, False), (1, False), (1, False), (1, False)]
        assert trainer.state.part == 1
        assert any("1 crops are now computed at once" in note for note in trainer.notes)
        for name, value in weights(trainer).items():
            assert torch.allclose(value, expected[name], atol=2e-4), name


def test_then_activations_are_computed_again(settings: TuneSettings) -> None:
    with trainer_of(settings) as trainer:
        trainer.objective = Tight(trainer.objective, 1, again=True)
        trainer.run(NullProgress(), stop_at=1)
        assert trainer.state.recompute
        assert trainer.objective.tries == [(2, False), (1, False), (1, True), (1, True)]
    with trainer_of(settings) as again:
        assert again.state.recompute


@pytest.mark.parametrize(
    ("methods", "recompute", "text"),
    [(METHODS, None, "late LoRA"), (METHODS, False, "late LoRA"), ((DecoderConfig(),), None, "fewer objects")],
)
def test_in_the_end_the_error_says_what_would_fit(
    settings: TuneSettings, methods: tuple[MethodConfig, ...], recompute: bool | None, text: str
) -> None:
    with trainer_of(replace(settings, methods=methods, recompute=recompute)) as trainer:
        trainer.objective = Tight(trainer.objective, 0)
        with pytest.raises(DeviceError, match=text):
            trainer.run(NullProgress())
        assert trainer.state.recompute is (methods == METHODS and recompute is None)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(DeviceError):
        state = State(part=1, recompute=True)
        fall_back(state, tunes_encoder=True, fixed=False, error=MemoryError(), device=torch.device("cpu"))


def test_the_best_weights_are_kept(settings: TuneSettings) -> None:
    script = Scripted([0.5, 0.3])
    with trainer_of(settings, script) as trainer:
        trainer.run(NullProgress())
        assert trainer.state.best == 0.5
        last = weights(trainer)
        trainer.finish()
        assert same(weights(trainer), script.seen[0])
        assert not same(weights(trainer), last)
        assert not trainer.adapter.training


def test_training_ends_when_nothing_is_gained(settings: TuneSettings) -> None:
    long = replace(settings, schedule=replace(SCHEDULE, steps=8, checks=8, patience=2))
    with trainer_of(long, Scripted([0.5, 0.5, 0.4, 0.9])) as trainer:
        trainer.run(NullProgress())
        assert trainer.state.step == 3
        assert any("ended at step 3" in note for note in trainer.notes)


def test_a_method_with_a_schedule_is_neither_cut_short_nor_taken_back(settings: TuneSettings) -> None:
    short = replace(settings, schedule=replace(SCHEDULE, steps=2, checks=2, patience=1))
    with trainer_of(short, Scripted([0.5, 0.1])) as trainer:
        begun = []
        part = next(iter(trainer.adapter.parts.values()))
        kind = type("Scheduled", (type(part),), {"begin_step": lambda self, progress: begun.append(progress)})
        part.__class__ = kind
        trainer.run(NullProgress())
        assert begun == [0.0, 0.5]
        last = weights(trainer)
        trainer.finish()
        assert same(weights(trainer), last)


def test_an_added_loss_teaches_too(settings: TuneSettings) -> None:
    seen: list[StepContext] = []

    def added(context: StepContext) -> torch.Tensor:
        seen.append(context)
        return sum(value.square().sum() for _, value in context.adapter.trainable_parameters())

    with trainer_of(replace(settings, schedule=replace(SCHEDULE, steps=1))) as plain:
        plain.run(NullProgress())
        expected = weights(plain)
    other = replace(settings, folder=settings.work_folder / "o", schedule=replace(SCHEDULE, steps=1))
    with trainer_of(other, added=added) as trainer:
        trainer.run(NullProgress())
        assert not same(weights(trainer), expected)
    assert [(context.step, context.steps) for context in seen] == [(0, 1)]


def test_everyone_has_a_turn_in_every_round(settings: TuneSettings) -> None:
    with trainer_of(settings) as trainer:
        population = trainer.objective.population
        drawn = [work for step in range(population) for work in trainer.works(step, 2)]
        first = [work.objects[0] for work in drawn[:population]]
        assert len(set(first)) == population
        assert trainer.works(3, 2) == trainer.works(3, 2)
        assert len({work.laid.way for work in drawn}) > 3


def test_the_rate_rises_and_falls() -> None:
    schedule = Schedule(steps=100, warm_up=0.1)
    values = [factor(step, schedule) for step in range(100)]
    assert values[0] == pytest.approx(0.1)
    assert max(values) == values[9] == pytest.approx(1.0)
    assert all(a >= b for a, b in itertools.pairwise(values[10:]))
    assert 0.01 <= values[-1] < 0.02
    assert default_rate("decoder", Scope.DECODER, Architecture.VIT_B) == 1e-4
    assert default_rate("lora", Scope.ENCODER, Architecture.VIT_B) <= 5e-5


def test_rate_factors_and_decay_are_applied() -> None:
    sam = service().get("tiny").network
    adapter = Adapter(sam, (LoraConfig(rank=2), DecoderConfig()))
    part = adapter.parts["lora"]
    chosen = next(name for name, _ in part.trainable_parameters())
    kind = type("Faster", (type(part),), {"rate_factors": property(lambda self: {chosen: 10.0})})
    part.__class__ = kind
    groups = parameter_groups(adapter, Schedule(rate=1e-3), Architecture.TINY)
    listed = [id(value) for group in groups for value in group["params"]]
    assert sorted(listed) == sorted(id(value) for _, value in adapter.trainable_parameters())
    fast = next(group for group in groups if group["peak"] == pytest.approx(1e-2))
    assert [id(value) for value in fast["params"]] == [id(part.get_parameter(chosen))]
    assert {group["weight_decay"] for group in groups for value in group["params"] if value.ndim == 1} == {0.0}


def test_a_look_that_was_cut_short_is_done_when_the_run_goes_on(settings: TuneSettings, tmp_path: Path) -> None:
    class Stopped(Scripted):
        def examine(self, encoding: Encoding, check: Callable[[], None], most: int | None = None) -> Exam:
            if self.values[0] < 0:
                raise CancelledByUser
            return super().examine(encoding, check, most)

    with trainer_of(settings, Scripted([0.5, 0.3])) as whole:
        whole.run(NullProgress())
        expected = whole.state.best_weights
    parted = replace(settings, folder=tmp_path / "other")
    with trainer_of(parted, Stopped([-1.0])) as first:
        with pytest.raises(CancelledByUser):
            first.run(NullProgress())
        assert (first.state.step, first.state.looked) == (2, 0)
    with trainer_of(parted, Scripted([0.5, 0.3])) as second:
        second.run(NullProgress())
        assert (second.state.best_step, second.state.looked, second.examiner.values) == (2, 4, [])
        assert same(second.state.best_weights, expected)


def test_what_an_added_loss_remembers_is_kept_with_the_run(settings: TuneSettings) -> None:
    class Counting:
        def __init__(self) -> None:
            self.calls = torch.zeros(1)

        def __call__(self, context: StepContext) -> None:
            self.calls += 1

        def remembered(self) -> dict[str, torch.Tensor]:
            return {"calls": self.calls.clone()}

        def recall(self, tensors: dict[str, torch.Tensor]) -> None:
            self.calls = tensors["calls"]

    with trainer_of(settings, added=Counting()) as first:
        first.run(NullProgress(), stop_at=2)
    again = Counting()
    with trainer_of(settings, added=again) as second:
        assert float(again.calls) == 2
        second.run(NullProgress())
    assert float(again.calls) == 4


def test_objects_without_a_pixel_to_judge_by_teach_nothing(ground: Ground, settings: TuneSettings) -> None:
    thin = [shapely.box(LEFT + 5, TOP - y - 0.1, LEFT + 150, TOP - y) for y in (50.3, 100.3)]
    labels = write_shapes(settings.output.with_name("thin.gpkg"), thin)
    with trainer_of(replace(settings, labels=Labels(labels))) as trainer:
        begun = weights(trainer)
        trainer.run(NullProgress())
        assert trainer.state.step == 4
        assert same(weights(trainer), begun)
    logged = (settings.work_folder / "training.csv").read_text(encoding="utf-8").splitlines()
    assert logged[0].startswith("step,loss,first,point,box,corrected")
    assert len(logged) == 5


def test_calibrating_with_little_memory_computes_activations_again(
    settings: TuneSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def calibrate(self: Adapter, sam: object, losses: Sequence[Callable[[], torch.Tensor]]) -> None:
        tries.append(len(losses))
        if len(tries) < 3:
            raise torch.OutOfMemoryError("injected")

    monkeypatch.setattr(Adapter, "calibrate", calibrate)
    with trainer_of(settings) as trainer:
        assert len(tries) == 3
        assert trainer.state.recompute
        assert trainer.encoding.recompute
        assert len(trainer.notes) == 2
