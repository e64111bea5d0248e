"""``samtune pretrain``: pack data, compose scenes, and train a base model from a configuration file."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...models.errors import SamTuneError
from .. import console
from ..cli import Subparsers
from ..pretrain.config import PretrainConfig, read_config
from ..pretrain.loop import Trainer
from ..pretrain.pack import names_in, read_pack
from ..pretrain.pool import Job, image_jobs, pack_job, pool_jobs
from ..pretrain.scenes import Composer


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command's parser.

    Args:
        subparsers: of the ``samtune`` parser.
    """
    parser = subparsers.add_parser("pretrain", help="train a base model from a configuration file")
    parser.add_argument("config", type=Path, help="TOML file, see engine/pretrain/tiny.toml")
    parser.add_argument("--pack", type=Path, metavar="POOL", help="pack the labelled sets of a pool folder, then stop")
    parser.add_argument("--images", type=Path, metavar="DIR", help="pack images without labels, then stop")
    parser.add_argument("--source", default="images", help="name of the set that --images packs (images)")
    parser.add_argument("--bands", default="1,2,3", help="bands that --images packs as RGB (1,2,3)")
    parser.add_argument("--compose", type=int, metavar="N", help="have N composed scenes in the pack, then stop")
    parser.add_argument("--stop-at", type=int, metavar="STEP", help="train to this step only")


def run(args: argparse.Namespace) -> int:
    """Do it.

    Args:
        args: as parsed.

    Returns:
        0.

    Raises:
        SamTuneError: the configuration or the data cannot be used, or the loss diverged.
    """
    config = read_config(args.config)
    progress = console.ConsoleProgress()
    try:
        if args.pack is not None:
            _pack(pool_jobs(args.pack), config.packs[0], progress, regions=True)
            if config.validation is not None:
                _pack(pool_jobs(args.pack, nwpu_part="val"), config.validation, progress, regions=False)
        elif args.images is not None:
            bands = tuple(int(band) for band in str(args.bands).split(","))
            _pack(image_jobs(args.images, str(args.source), bands), config.packs[0], progress, regions=True)
        elif args.compose is not None:
            _compose(config, args.compose, progress)
        else:
            trainer = Trainer(config)
            trainer.run(args.stop_at, progress)
    finally:
        progress.close()
    return 0


def _pack(jobs: list[Job], folder: Path, progress: console.ConsoleProgress, *, regions: bool) -> None:
    """Pack what is not there yet."""
    if not jobs:
        raise SamTuneError("There is nothing to pack. The folder must hold the sets nwpu, water, roads, coast or bsds.")
    there = names_in(folder)
    for index, job in enumerate(jobs):
        progress.report(index / len(jobs), f"Packing {job.entry_name}")
        if job.entry_name not in there:
            pack_job(job, folder, regions=regions)


def _compose(config: PretrainConfig, count: int, progress: console.ConsoleProgress) -> None:
    if len(config.packs) < 2:
        raise SamTuneError("The configuration names no second pack, which is where composed scenes go.")
    entries = read_pack(config.packs[0])
    composer = Composer(entries, [entry for entry in entries if entry.layers[0] == "instance"])
    for number in range(len(names_in(config.packs[1])), count):
        progress.report(number / count, "Composing scenes")
        composer.write(config.packs[1], number, config.seed)
