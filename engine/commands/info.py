"""``samtune info``: what is installed, which device is used and why, which models are here, how large the store is."""

from __future__ import annotations

import argparse

from .. import console
from ..about import Places, engine_info
from ..cli import Subparsers
from ..device import AUTO, choose
from ..messages import EngineInfo, ModelList
from ..model_service import ModelService
from ..store_files import problem


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command's parser.

    Args:
        subparsers: of the ``samtune`` parser.
    """
    parser = subparsers.add_parser("info", help="versions, device, models and store of this installation")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--device", default=AUTO, help="auto, cpu, cuda or mps")
    console.add_folder_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print it.

    Args:
        args: as parsed.

    Returns:
        0.

    Raises:
        DeviceError: the device asked for is absent.
    """
    device = choose(args.device)
    places = Places(console.models_dir(args), console.store_dir(args))
    trouble = problem(places.store)
    info = engine_info(device, places, (trouble,) if trouble else ())
    models = ModelService(places.models, device).info()
    if args.json:
        console.write_json({"engine": info, "models": models.models})
    else:
        console.write(as_text(info, models))
    return 0


def as_text(info: EngineInfo, models: ModelList) -> str:
    """Lay it out for reading.

    Args:
        info: of this process.
        models: of the registry.

    Returns:
        Lines without a trailing line end.
    """
    rows = [
        ("SamTune", info.version),
        ("Python", info.python),
        *info.versions.items(),
        ("device", f"{info.device} - {info.device_reason}"),
        ("threads", str(info.threads)),
        ("models in", info.models_dir),
        *((f"model {model.name}", model.path or "not on this machine") for model in models.models),
        ("store in", info.store_dir),
        ("store size", f"{info.store_bytes / 1e6:.1f} MB"),
        *(("warning", warning) for warning in info.warnings),
    ]
    width = max(len(name) for name, _value in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
