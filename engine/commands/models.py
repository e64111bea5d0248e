"""``samtune models``: list, download and import the base models."""

from __future__ import annotations

import argparse
import sys
import urllib.request
from urllib.parse import urlsplit

from ...models import registry
from ...models.errors import DownloadError
from .. import console
from ..cli import Subparsers
from ..device import DeviceChoice, DeviceKind
from ..messages import DownloadParams, ImportParams, ModelInfo, ModelList
from ..model_service import ModelService


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add the command's parser.

    Args:
        subparsers: of the ``samtune`` parser.
    """
    parser = subparsers.add_parser("models", help="list, download and import the base models")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="which models there are, and which are on this machine")
    listing.add_argument("--json", action="store_true", help="as JSON")
    fetch = actions.add_parser("download", help="fetch a published model")
    fetch.add_argument("model", help="its name")
    fetch.add_argument("--yes", action="store_true", help="do not ask")
    fetch.add_argument("--mirror", default="", metavar="URL", help="folder that the file is fetched from instead")
    fetch.add_argument(
        "--proxy", default="", metavar="URL", help="of the proxy, with user and password (default: the environment's)"
    )
    take = actions.add_parser("import", help="take a weight file that you already have")
    take.add_argument("model", help="its name")
    take.add_argument("path", help="the file")
    for action in (listing, fetch, take):
        console.add_folder_options(action)


def run(args: argparse.Namespace) -> int:
    """Do it.

    Args:
        args: as parsed.

    Returns:
        0; 1 when the user declined the download.

    Raises:
        ModelMissingError: there is no such model or file.
        DownloadError: the download failed.
        WeightsError: the file is not the model's.
    """
    # No model runs here, so no device is looked for: torch stays unimported.
    service = ModelService(console.models_dir(args), DeviceChoice(DeviceKind.CPU.value, "", 1))
    if args.action == "list":
        models = service.info()
        if args.json:
            console.write_json(models.models)
        else:
            console.write(as_text(models))
        return 0
    progress = console.ConsoleProgress()
    try:
        if args.action == "import":
            taken = service.import_file(ImportParams(args.model, args.path), progress)
        elif not _consent(args):
            return 1
        else:
            taken = service.download(_download_params(args), progress)
    finally:
        progress.close()
    console.write(f"{taken.title}: {taken.path}")
    return 0


def _download_params(args: argparse.Namespace) -> DownloadParams:
    address = args.mirror or registry.card(args.model).url
    proxy = args.proxy or urllib.request.getproxies().get(urlsplit(address).scheme, "")
    if urllib.request.proxy_bypass(urlsplit(address).hostname or ""):
        proxy = args.proxy
    return DownloadParams(args.model, args.mirror, proxy)


def _consent(args: argparse.Namespace) -> bool:
    card = registry.card(args.model)
    if args.yes or not card.url:
        return True
    if not sys.stdin.isatty():
        raise DownloadError(
            f"Add --yes to download {card.title} ({card.size_bytes / 1e6:.0f} MB, licence {card.licence})."
        )
    host = urlsplit(args.mirror or card.url).hostname
    sys.stderr.write(
        f"Download {card.title} ({card.size_bytes / 1e6:.0f} MB, licence {card.licence}) from {host}? [y/N] "
    )
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def as_text(models: ModelList) -> str:
    """Lay the models out for reading.

    Args:
        models: of the registry.

    Returns:
        Lines without a trailing line end.
    """
    return "\n".join(_lines(model) for model in models.models)


def _lines(model: ModelInfo) -> str:
    size = f"{model.size_bytes / 1e6:.0f} MB" if model.size_bytes else "size unknown"
    state = f"here: {model.path}" if model.present else f"not on this machine, {size}"
    return (
        f"{model.name:<6}  {model.title}, {model.input_size} px, {model.licence}; {state}\n        {model.description}"
    )
