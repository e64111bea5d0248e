"""The one exception base of SamTune and its subclasses. Standard library only: every part raises these."""

from __future__ import annotations


class SamTuneError(Exception):
    """Something the user should hear about.

    Attributes:
        user_text: one or two sentences: what happened and what to do next.
        details: for the log and the diagnostics report; may be empty or many lines long.
    """

    def __init__(self, user_text: str, details: str = "") -> None:
        """Keep both texts.

        Args:
            user_text: what happened and what to do next, for the message bar.
            details: technical text for the log.
        """
        super().__init__(user_text)
        self.user_text = user_text
        self.details = details

    @property
    def kind(self) -> str:
        """Return the class name, which is how the error travels from the engine to QGIS."""
        return type(self).__name__


class RasterError(SamTuneError):
    """A raster cannot be opened or read as asked."""


class PromptError(SamTuneError):
    """A prompt cannot be used: outside the raster, on nodata, or contradictory."""


class OutputError(SamTuneError):
    """A result could not be written; what was there before is as it was."""


class StoreError(SamTuneError):
    """The embedding store cannot be used (folder not writable, disk full)."""


class DeviceError(SamTuneError):
    """The asked-for computing device is absent or ran out of memory."""


class ModelMissingError(SamTuneError):
    """The model's weight file is not on this machine."""


class WeightsError(SamTuneError):
    """A weight file is corrupt, of another architecture, or not the one its card names."""


class TuningError(SamTuneError):
    """A tuning method cannot be applied, or an adapter does not fit."""


class DownloadError(SamTuneError):
    """A download failed; what was received stays for a resume where the server supports it."""


class EnvironmentMissingError(SamTuneError):
    """No usable Python environment for the engine was found."""


class EngineStartError(SamTuneError):
    """The engine process did not come up."""


class EngineDiedError(SamTuneError):
    """The engine process ended while a request was under way; the next request starts a new one."""


class DeadlineError(SamTuneError):
    """The engine gave no sign of life, or no answer, in the time its request class allows."""


class ProtocolError(SamTuneError):
    """A message was not what the protocol says: versions differ, or the stream is corrupt."""


class CancelledByUser(Exception):  # noqa: N818 - a result, not an error
    """The request was cancelled. Deliberately not a :class:`SamTuneError`: nobody is shown an error for it."""


def error_classes() -> dict[str, type[SamTuneError]]:
    """Return every error class by its name, to rebuild on one side what the other side raised."""
    found: dict[str, type[SamTuneError]] = {SamTuneError.__name__: SamTuneError}
    pending = [SamTuneError]
    while pending:
        for subclass in pending.pop().__subclasses__():
            found[subclass.__name__] = subclass
            pending.append(subclass)
    return found
