"""Connections for downloads: proxy, trust, patience, and letting go when the user cancels."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import certifi
import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, LocationValueError

from ..models.errors import CancelledByUser, DownloadError
from .progress import Progress

PROXY_SETTING = "the proxy is set in QGIS's options (Network), on the command line with --proxy"

_WATCH_SECONDS = 0.1


@dataclass(frozen=True)
class Transport:
    """How it is fetched.

    Attributes:
        proxy: URL of an HTTP proxy, with user and password where needed; empty for none.
        attempts: how often in a row a connection may fail without bringing a single byte.
        connect_seconds: longest wait for a connection.
        read_seconds: longest silence of the server.
        pause_seconds: wait before the second attempt; doubles with each further one.
        sleep: how to wait; tests wait less.
    """

    proxy: str = ""
    attempts: int = 5
    connect_seconds: float = 15.0
    read_seconds: float = 15.0
    pause_seconds: float = 0.5
    sleep: Callable[[float], None] = time.sleep


def make_pool(transport: Transport) -> urllib3.PoolManager:
    """Return where connections come from.

    Args:
        transport: proxy and patience.

    Raises:
        DownloadError: the proxy's address cannot be used, or it is a SOCKS proxy.
    """
    timeout = urllib3.Timeout(connect=transport.connect_seconds, read=transport.read_seconds)
    # The machine's own authorities know a company's; the public ones help a Python that finds none on the machine.
    trust = urllib3.util.create_urllib3_context()
    trust.load_default_certs()
    trust.load_verify_locations(certifi.where())
    if not transport.proxy:
        return urllib3.PoolManager(timeout=timeout, ssl_context=trust)
    if transport.proxy.lower().startswith("socks"):
        raise DownloadError(
            "SamTune cannot use a SOCKS proxy. Ask for the address of an HTTP proxy, or fetch the file on another "
            f"machine and load it from file; {PROXY_SETTING}."
        )
    try:
        proxy = urllib3.util.parse_url(transport.proxy)
        login = urllib3.make_headers(proxy_basic_auth=proxy.auth) if proxy.auth else None
        return urllib3.ProxyManager(transport.proxy, proxy_headers=login, timeout=timeout, ssl_context=trust)
    except (LocationParseError, LocationValueError, HTTPError) as error:
        raise DownloadError(
            f"The proxy address cannot be used. It must be of the form http://host:port; {PROXY_SETTING}.",
            type(error).__name__,  # not its text, which may hold the password
        ) from error


def redirects_only() -> urllib3.Retry:
    """Return the rule that urllib3 follows redirects, but leaves every other second attempt to us."""
    return urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5)


def range_start(content_range: str) -> int:
    """Return the position of a range's first byte; -1 if the header is not of the form ``bytes 100-199/200``.

    Args:
        content_range: the header.
    """
    unit, _, rest = content_range.partition(" ")
    start = rest.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdigit() else -1


def validator_of(response: urllib3.HTTPResponse) -> str:
    """Return what If-Range may carry: a strong entity tag, else the date; empty if there is neither.

    Args:
        response: whose headers are looked at.
    """
    tag = str(response.headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


@contextlib.contextmanager
def interruptible(response: urllib3.HTTPResponse, progress: Progress) -> Iterator[None]:
    """End a read that waits for a silent server when the user cancels; the reader then sees a closed connection.

    Args:
        response: being read while the context lasts.
        progress: its ``check`` is called ten times a second, from another thread.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_WATCH_SECONDS):
            try:
                progress.check()
            except CancelledByUser:
                response.shutdown()
                return

    watcher = threading.Thread(target=watch, name="samtune-download-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
