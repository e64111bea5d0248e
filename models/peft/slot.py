"""Which adapter a loaded model computes with: one at a time, changed without reloading, safe between threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ..sam_modules import Sam
    from .adapter import Adapter


class AdapterSlot:
    """Holds the adapter that is attached to a network.

    An adapter stays attached after use, so that a run of requests with the same one pays for it once. Whoever computes
    says under the lock which one is wanted; the base alone is one of the answers.

    Attributes:
        current: the adapter that is attached; None for the base alone.
        lock: held while the network computes. Re-entrant.
    """

    def __init__(self, network: Sam) -> None:
        """Begin with the base alone.

        Args:
            network: that adapters are attached to.
        """
        self.current: Adapter | None = None
        self.lock = threading.RLock()
        self._network = network

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def use(self, adapter: Adapter | None) -> None:
        """Put an adapter into use, merged where its methods can be, which then costs nothing per request.

        Args:
            adapter: built for this network; None for the base alone, which is then bit for bit what it was.

        Raises:
            TuningError: it is attached elsewhere, or does not fit. The base alone is in use then.
        """
        with self.lock:
            if adapter is self.current:
                return
            if self.current is not None:
                self.current.detach()
                self.current = None
            if adapter is not None:
                adapter.eval()
                adapter.attach(self._network, merged=True)
                self.current = adapter
