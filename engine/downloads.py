"""Fetching large published files: resumes, checks, and never leaves a half file under the final name.

Bytes arrive in ``NAME.part``; a small ``NAME.part.json`` beside it remembers which version of the file on the server
they are of. Only when size and SHA-256 are right does the part get its final name, in one step. Asking the user is the
caller's job.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, ProxyError, SSLError

from ..models.errors import DownloadError
from ..models.hashing import sha256_of
from .file_lock import locked
from .partial_file import PartialFile
from .progress import Progress
from .provenance import without_secrets
from .transport import PROXY_SETTING, Transport, interruptible, make_pool, range_start, redirects_only, validator_of

CHUNK = 64 * 1024
SPARE_BYTES = 64 * 1024 * 1024
"""Left free on the disk."""

_PARTIAL, _OK, _NOT_SATISFIABLE, _PROXY_LOGIN = 206, 200, 416, 407
_WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})
_ELSEWHERE = "You can also fetch the file on another machine and load it from file."


@dataclass(frozen=True)
class RemoteFile:
    """What is to be fetched.

    Attributes:
        url: http or https.
        size_bytes: as published; 0 when unknown.
        sha256: as published, hexadecimal; empty when unknown.
        title: for messages.
    """

    url: str
    size_bytes: int
    sha256: str
    title: str


def download(remote: RemoteFile, target: Path, progress: Progress, transport: Transport | None = None) -> str:
    """Fetch a file, continuing an earlier attempt where the server allows it.

    Args:
        remote: what to fetch.
        target: final path. Its folder is made where needed; an existing file there is replaced at the very end.
        progress: told the fraction; its ``check`` may stop the download, which keeps the part for the next attempt.
        transport: proxy and patience.

    Returns:
        SHA-256 of the file.

    Raises:
        DownloadError: it cannot be had; the text says why and what to do.
        CancelledByUser: from ``progress.check``.
    """
    if urlsplit(remote.url).scheme not in {"http", "https"}:
        shown = without_secrets(remote.url)
        raise DownloadError(f"{shown!r} is no web address. Correct the mirror in SamTune's settings.")
    part = PartialFile(target)
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.parent / ".download.lock") as ours:
            if not ours:
                raise DownloadError("Another SamTune is downloading a model at the moment. Wait until it is done.")
            if remote.size_bytes and part.size > remote.size_bytes:
                part.discard()
            _require_space(remote, part)
            if not (remote.size_bytes and part.size == remote.size_bytes):
                _Transfer(remote, part, progress, transport or Transport()).run()
            return _finish(remote, part, target, progress)


class _Retry(Exception):  # noqa: N818 - never leaves this module
    """An attempt failed in a way that may pass."""


class _Transfer:
    """One download: attempts until the part is whole."""

    def __init__(self, remote: RemoteFile, part: PartialFile, progress: Progress, transport: Transport) -> None:
        self._remote = remote
        self._part = part
        self._progress = progress
        self._transport = transport
        self._total = remote.size_bytes
        self._host = urlsplit(remote.url).netloc.rpartition("@")[2]

    def run(self) -> None:
        """Fetch what is missing.

        Raises:
            DownloadError: it cannot be had.
            CancelledByUser: from ``progress.check``.
        """
        failures = 0
        with make_pool(self._transport) as pool:
            while True:
                self._progress.check()
                before = self._part.size
                try:
                    self._attempt(pool)
                except _Retry as error:
                    failures = 1 if self._part.size > before else failures + 1
                    if failures >= self._transport.attempts:
                        raise self._given_up(error) from error
                    self._wait(self._transport.pause_seconds * 2 ** (failures - 1))
                else:
                    return

    def _given_up(self, error: _Retry) -> DownloadError:
        kept = " What has arrived is kept: the next attempt continues from there." if self._part.size else ""
        return DownloadError(
            f"{self._remote.title} could not be downloaded: no lasting connection to {self._host}. Check the internet "
            f"connection and the proxy ({PROXY_SETTING}).{kept} {_ELSEWHERE}",
            self._details(error),
        )

    def _wait(self, seconds: float) -> None:
        step = 0.1
        self._report("Connection lost, trying again")
        while seconds > 0:
            self._progress.check()
            self._transport.sleep(min(step, seconds))
            seconds -= step

    def _attempt(self, pool: urllib3.PoolManager) -> None:
        have = self._part.size
        validator = self._part.validator(self._remote.url) if have else ""
        headers = {"Accept-Encoding": "identity", "User-Agent": "SamTune"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if validator:
                headers["If-Range"] = validator
        with self._request(pool, headers) as response:
            if response.status == _NOT_SATISFIABLE:
                self._part.discard()
                raise _Retry("the server's file is shorter than the part")
            append = response.status == _PARTIAL
            if append and range_start(response.headers.get("Content-Range", "")) != have:
                self._part.discard()
                raise _Retry("the server sent another range than asked for")
            self._check_total(response, have if append else 0)
            self._part.remember(self._remote.url, validator_of(response))
            self._receive(response, append=append)

    @contextlib.contextmanager
    def _request(self, pool: urllib3.PoolManager, headers: dict[str, str]) -> Iterator[urllib3.HTTPResponse]:
        try:
            answer = pool.request(
                "GET", self._remote.url, headers=headers, preload_content=False, retries=redirects_only()
            )
        except HTTPError as error:
            raise self._connection_error(error) from error
        response = cast("urllib3.HTTPResponse", answer)  # what HTTP/1.1 gives
        try:
            self._check_status(response.status)
            yield response
        except HTTPError as error:
            raise self._connection_error(error) from error
        finally:
            # Not released to the pool: an answer that was not read to its end would spoil the next request.
            response.close()

    def _connection_error(self, error: HTTPError) -> Exception:
        reason: BaseException = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        if isinstance(reason, SSLError):
            return DownloadError(
                f"The connection to {self._host} is not trusted: its certificate was refused. If your network "
                f"inspects traffic, ask for a mirror inside it and enter that in SamTune's settings. {_ELSEWHERE}",
                self._details(reason),
            )
        if isinstance(reason, ProxyError) and str(_PROXY_LOGIN) in str(reason.original_error):
            return self._proxy_wants_login(str(reason))
        return _Retry(f"{type(reason).__name__}: {reason}")

    def _proxy_wants_login(self, details: str) -> DownloadError:
        return DownloadError(
            f"The proxy asks for a user name and password. Enter them where it is set: {PROXY_SETTING}.",
            self._details(details),
        )

    def _check_status(self, status: int) -> None:
        if status in {_OK, _PARTIAL, _NOT_SATISFIABLE}:
            return
        if status == _PROXY_LOGIN:
            raise self._proxy_wants_login(f"HTTP status {status}")
        if status in _WORTH_RETRYING:
            raise _Retry(f"HTTP status {status}")
        raise DownloadError(
            f"{self._host} does not give out {self._remote.title} (HTTP status {status}). Check the mirror in "
            f"SamTune's settings. {_ELSEWHERE}",
            self._details(f"HTTP status {status}"),
        )

    def _details(self, what: object) -> str:
        return without_secrets(f"{self._remote.url}: {what}")

    def _check_total(self, response: urllib3.HTTPResponse, offset: int) -> None:
        """Refuse another file (a login page, an error page, a moved mirror) before a byte of it is written."""
        length = response.headers.get("Content-Length", "")
        if not length.isdigit():
            return
        total = offset + int(length)
        if self._remote.size_bytes and total != self._remote.size_bytes:
            raise DownloadError(
                f"{self._host} offers another file in place of {self._remote.title}: {total} bytes instead of "
                f"{self._remote.size_bytes}. Check the mirror and whether your network asks you to sign in. "
                f"{_ELSEWHERE}",
                without_secrets(self._remote.url),
            )
        self._total = total

    def _receive(self, response: urllib3.HTTPResponse, *, append: bool) -> None:
        with self._part.path.open("ab" if append else "wb") as stream, interruptible(response, self._progress):
            while piece := response.read1(CHUNK):
                stream.write(piece)
                if self._total and stream.tell() > self._total:
                    break
                self._report(f"Downloading {self._remote.title}", stream.tell())
                self._progress.check()
        if self._total and self._part.size < self._total:
            raise _Retry(f"connection closed after {self._part.size} of {self._total} bytes")

    def _report(self, message: str, have: int | None = None) -> None:
        done = self._part.size if have is None else have
        megabytes = f"{done / 1e6:.0f} of {self._total / 1e6:.0f} MB" if self._total else f"{done / 1e6:.0f} MB"
        self._progress.report(done / self._total if self._total else -1.0, f"{message}: {megabytes}")


def _finish(remote: RemoteFile, part: PartialFile, target: Path, progress: Progress) -> str:
    """Check the whole part and give it its final name."""
    progress.report(1.0, f"Checking {remote.title}")
    found = sha256_of(part.path, progress.check)
    size = part.size
    if (remote.sha256 and found != remote.sha256) or (remote.size_bytes and size != remote.size_bytes):
        part.discard()
        raise DownloadError(
            f"What {urlsplit(remote.url).hostname} sent is not the published file of {remote.title}; it was deleted. "
            f"Try again, with another mirror if it happens twice. {_ELSEWHERE}",
            f"{without_secrets(remote.url)}: {size} bytes, SHA-256 {found}; expected {remote.size_bytes} bytes, "
            f"{remote.sha256}",
        )
    part.become(target)
    return found


def require_space(folder: Path, needed: int, title: str) -> None:
    """Check that a folder's disk has room, with a little to spare.

    Args:
        folder: an existing folder.
        needed: bytes still to be written.
        title: of what is to be written, for the message.

    Raises:
        DownloadError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if needed and free < needed + SPARE_BYTES:
        raise DownloadError(
            f"{title} needs {needed / 1e6:.0f} MB, but only {free / 1e6:.0f} MB are free in {folder}. Free some "
            "space, or choose another folder for models in SamTune's settings."
        )


def _require_space(remote: RemoteFile, part: PartialFile) -> None:
    require_space(part.path.parent, max(0, remote.size_bytes - part.size), remote.title)


@contextlib.contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"{target.name} cannot be written to {target.parent}: {error.strerror or error}. Choose another folder "
            "for models in SamTune's settings.",
            f"{target}: {error!r}",
        ) from error
