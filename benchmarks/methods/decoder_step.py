"""Time a training step of the decoder rung against the decoder's own work in it.

Both in one process, in turn, on the same crops, objects and prompts. The reference does forward and backward through
prompt encoder and mask decoder with the tensors that the step gave them, recorded from the step itself, and nothing
else: no drawing of objects, no clicks, no losses but a sum, no optimiser. Embeddings are made before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import torch
from samtune.engine.device import DeviceChoice
from samtune.engine.model_service import ModelService
from samtune.engine.progress import NullProgress
from samtune.engine.tune_ladder import DECODER, Situation, rungs
from samtune.engine.tuning import promptable
from samtune.engine.tuning.encoding import Encoding, training_precision
from samtune.engine.tuning.loop import Trainer
from samtune.engine.tuning.prepare import prepared
from samtune.engine.tuning.settings import Labels, TuneSettings

SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "sample"

Call = tuple[object, ...]


def never() -> None:
    """Nobody stops it."""


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """Record what the decoder is given while the context lasts."""
    calls: list[Call] = []
    plain = promptable.decode_batch

    def recording(sam: object, *given: object) -> object:
        calls.append(tuple(item.detach() if isinstance(item, torch.Tensor) else item for item in given))
        return plain(sam, *given)

    promptable.decode_batch = recording
    try:
        yield calls
    finally:
        promptable.decode_batch = plain


def bare(trainer: Trainer, calls: list[Call]) -> Callable[[], None]:
    """Return the decoder's own forward and backward passes on recorded prompts."""
    model = trainer.encoding.model

    def run() -> None:
        trainer.adapter.zero_grad(set_to_none=True)
        for given in calls:
            with training_precision(model.device, amp=trainer.settings.amp):
                logits, predicted = promptable.decode_batch(model.network, *given)
            (logits.float().sum() + predicted.float().sum()).backward()

    return run


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that some work takes: of one processor core, whatever else the machine does; or of the GPU."""
    if device.type != "cuda":
        spent = time.process_time()
        work()
        return time.process_time() - spent
    torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def timings(steps: int, folder: Path) -> tuple[list[float], list[float]]:
    """Return the seconds of steps, and of the decoder's work in each of them."""
    torch.set_num_threads(1)  # threads that wait for each other would be counted as work
    device = DeviceChoice("cuda" if torch.cuda.is_available() else "cpu", "", torch.get_num_threads())
    rung = next(r for r in rungs(Situation(10, processor=device.name == "cpu")) if r.name == DECODER)
    labels = Labels(SAMPLE / "landsat_labels.geojson", class_field="kind")
    settings = TuneSettings(
        (SAMPLE / "landsat_raleigh.tif",), labels, folder / "a", rung.methods, rgb=(4, 3, 2), schedule=rung.schedule
    )
    whole, own = [], []
    with prepared(settings, ModelService(folder, device), NullProgress()) as ready:
        ready.adapter.attach(ready.model.network)
        encoding = Encoding(ready.model, ready.adapter, ready.cache)
        trainer = Trainer(settings, encoding, ready.adapter, ready.objective, None, folder, "")
        for number in range(steps + 1):
            for work in trainer.works(trainer.state.step, rung.schedule.batch):
                encoding.kept(ready.train, work.laid, never)
                ready.train.labels(work.item, never)
            with recorded() as calls:
                step = timed(lambda: trainer.step(never), ready.model.device)
            reference = timed(bare(trainer, calls), ready.model.device)
            trainer.state.step += 1
            if number:  # the first ones pay for what happens once
                whole.append(step)
                own.append(reference)
    return whole, own


def measure(argv: list[str] | None, report: ModuleType) -> None:
    """Measure and print.

    Args:
        argv: of the command line; None for the process's own.
        report: the module that publishes.
    """
    args = report.arguments("A step of the decoder rung against the decoder's own work.", argv)
    with TemporaryDirectory() as folder:
        whole, own = timings(5 if args.quick else 40, Path(folder))
    ratios = [step / reference for step, reference in zip(whole, own, strict=True)]
    rows = [
        report.Row("step", report.median(whole), "s", note=report.spread(whole)),
        report.Row("decoder forward and backward", report.median(own), "s", note=report.spread(own)),
        report.Row("step over decoder", report.median(ratios), "x", "<= 1.2", report.spread(ratios)),
    ]
    report.publish("A step of the decoder rung", rows, args.json, model="tiny", threads=torch.get_num_threads())
