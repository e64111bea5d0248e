"""The base models as a service: which there are, fetching and importing them, and loading each once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..models import registry
from ..models.card import ModelCard
from ..models.errors import DownloadError
from .device import DeviceChoice
from .downloads import RemoteFile, download
from .messages import Done, DownloadParams, ImportParams, ModelInfo, ModelList
from .model_files import ModelFiles
from .progress import NullProgress, Progress
from .transport import Transport

if TYPE_CHECKING:
    from ..models.promptable import PromptableModel

_log = logging.getLogger(__name__)


class ModelService:
    """Models by name. May be asked from several threads."""

    def __init__(
        self,
        models_dir: Path,
        device: DeviceChoice,
        cards: Mapping[str, ModelCard] | None = None,
        files: ModelFiles | None = None,
    ) -> None:
        """Prepare; nothing is loaded and no folder is made yet.

        Args:
            models_dir: folder of downloaded and imported weight files.
            device: where models are to run.
            cards: the models there are; None for the registry.
            files: the weight files; None for those in ``models_dir`` and the shipped ones.
        """
        self.device = device
        self._cards = registry.cards() if cards is None else cards
        self._files = ModelFiles(models_dir) if files is None else files
        self._loaded: dict[str, PromptableModel] = {}
        self._warm: set[str] = set()
        self._lock = threading.Lock()

    def info(self) -> ModelList:
        """Return all models, the smallest first, and which are on this machine."""
        return ModelList(tuple(self._info(card) for card in self._cards.values()))

    def card(self, name: str) -> ModelCard:
        """Return what is known of a model without loading it.

        Raises:
            ModelMissingError: there is no such model.
        """
        return registry.card(name, self._cards)

    def get(self, name: str, progress: Progress | None = None) -> PromptableModel:
        """Return a model, loading it at the first call.

        Of those that do not come with the plugin, which are large, one is kept: another makes room for it first.

        Args:
            name: of the model.
            progress: told what is being done; may stop the check of a large file.

        Raises:
            ModelMissingError: there is no such model, or its file is not on this machine.
            WeightsError: its file is damaged or another one.
            DeviceError: the device's memory does not suffice.
            CancelledByUser: from ``progress.check``.
        """
        card = registry.card(name, self._cards)
        with self._lock:
            if name not in self._loaded:
                if not card.shipped:
                    self._make_room()
                self._loaded[name] = self._load(card, progress or NullProgress())
            return self._loaded[name]

    def _make_room(self) -> None:
        """Let go of the large model loaded before: two of them are more than many machines have memory for."""
        for name in [name for name in self._loaded if not self._cards[name].shipped]:
            _log.info("%s is let go to make room for another model", name)
            del self._loaded[name]
            self._warm.discard(name)

    def _load(self, card: ModelCard, progress: Progress) -> PromptableModel:
        checked = self._files.verified(card, progress)
        progress.report(-1.0, f"Loading {card.title}")
        from ..models.loading import load  # torch

        return load(checked, self._files.path(card), self.device.name, verified=True)

    def warm_up(self, name: str, progress: Progress | None = None) -> Done:
        """Load a model and run it once, unless that was done before.

        Args:
            name: of the model.
            progress: may stop the work.

        Raises:
            ModelMissingError: as for :meth:`get`.
            WeightsError: as for :meth:`get`.
            DeviceError: the device's memory does not suffice.
            CancelledByUser: from ``progress.check``.
        """
        listener = progress or NullProgress()
        start = time.perf_counter()
        model = self.get(name, listener)
        if name in self._warm:
            return Done(f"{model.card.title} is ready.")
        listener.report(-1.0, f"Warming up {model.card.title}")
        model.warm_up(listener.check)
        self._warm.add(name)
        return Done(f"{model.card.title} is ready after {time.perf_counter() - start:.1f} s.")

    def download(self, params: DownloadParams, progress: Progress, transport: Transport | None = None) -> ModelInfo:
        """Fetch a published weight file. Asking the user is the caller's job.

        Args:
            params: which model, mirror and proxy.
            progress: told the fraction; may stop the download, which keeps what has arrived for the next attempt.
            transport: patience; None for the usual one with the proxy of ``params``.

        Raises:
            ModelMissingError: there is no such model.
            DownloadError: it cannot be had, or the folder takes no notes about it.
            CancelledByUser: from ``progress.check``.
        """
        card = registry.card(params.model, self._cards)
        if not card.url:
            raise DownloadError(f"{card.title} comes with the plugin; there is nothing to download.")
        url = f"{params.mirror.rstrip('/')}/{card.file_name}" if params.mirror else card.url
        remote = RemoteFile(url, card.size_bytes, card.sha256, card.title)
        found = download(remote, self._files.path(card), progress, transport or Transport(proxy=params.proxy))
        try:
            self._files.record(replace(card, sha256=found))
        except OSError as error:
            raise DownloadError(
                f"{card.title} was downloaded, but {self._files.folder} takes no other files: "
                f"{error.strerror or error}. Make room there, or choose another folder for models in the settings.",
                repr(error),
            ) from error
        return self._info(card)

    def import_file(self, params: ImportParams, progress: Progress) -> ModelInfo:
        """Take in a weight file that the user already has.

        Args:
            params: which model, and where its file is.
            progress: told the fraction; may stop the work, which leaves nothing behind.

        Raises:
            ModelMissingError: there is no such model or file.
            WeightsError: the file is not the model's.
            DownloadError: the disk is too full.
            CancelledByUser: from ``progress.check``.
        """
        card = registry.card(params.model, self._cards)
        self._files.take(card, Path(params.path).expanduser(), progress)
        return self._info(card)

    def _info(self, card: ModelCard) -> ModelInfo:
        present = self._files.present(card)
        return ModelInfo(
            name=card.name,
            title=card.title,
            description=card.description,
            present=present,
            size_bytes=card.size_bytes,
            input_size=card.input_size,
            licence=card.licence,
            url=card.url,
            path=str(self._files.path(card)) if present else "",
        )
