"""A local HTTP server that misbehaves on request: cuts connections, ignores ranges, sends wrong bytes, stalls."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Plan:
    """What the server does. Lists are used up one item per request; afterwards it behaves.

    Attributes:
        content: the file, at every path.
        cut_after: bytes of body sent before the connection is cut.
        statuses: sent instead of the file; 0 sends the file.
        ranges: whether it supports them.
        etag: its version of the file; empty sends none.
        shift: sends ranges that begin this many bytes later than asked for.
        stall_after: bytes of body after which it falls silent until the test ends.
        length: whether it tells the length (otherwise the end of the connection ends the body).
        login: what the proxy wants in Proxy-Authorization; empty for none.
        redirect: path from which it sends the client on to ``/file``.
        seen: the headers of each request, with its request line under ``:line``.
    """

    content: bytes
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    etag: str = '"one"'
    shift: int = 0
    stall_after: int | None = None
    length: bool = True
    login: str = ""
    redirect: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


class _Handler(http.server.BaseHTTPRequestHandler):
    plan: Plan

    def do_GET(self) -> None:
        plan = self.plan
        plan.seen.append({":line": self.requestline} | dict(self.headers.items()))
        if plan.login and self.headers.get("Proxy-Authorization") != plan.login:
            self._empty(407)
        elif plan.redirect and self.path == plan.redirect:
            self.send_response(302)
            self.send_header("Location", "/file")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif status := (plan.statuses.pop(0) if plan.statuses else 0):
            self._empty(status)
        else:
            self._file()

    do_CONNECT = do_GET  # noqa: N815 - http.server looks methods up by this name

    def _empty(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _start(self) -> int | None:
        """Return where the wanted range begins, None for the whole file."""
        asked = self.headers.get("Range", "")
        version = self.headers.get("If-Range", self.plan.etag)
        if not asked or not self.plan.ranges or version != self.plan.etag:
            return None
        return int(asked.removeprefix("bytes=").partition("-")[0])

    def _file(self) -> None:
        plan, start = self.plan, self._start()
        if start is not None and start >= len(plan.content):
            self._empty(416)
            return
        first = 0 if start is None else start + plan.shift
        body = plan.content[first:]
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {first}-{len(plan.content) - 1}/{len(plan.content)}")
        if plan.etag:
            self.send_header("ETag", plan.etag)
        if plan.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = plan.cut_after.pop(0) if plan.cut_after else None
        self.wfile.write(body[: cut if cut is not None else plan.stall_after])
        self.wfile.flush()
        if plan.stall_after is not None:
            plan.released.wait(20)
        if cut is not None or not plan.length:
            self.close_connection = True

    def log_message(self, *_args: object) -> None:
        """Keep quiet."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_args: object) -> None:
        """Keep quiet about clients that go away: that is what they are tested for."""


@contextmanager
def serving(plan: Plan, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve while the context lasts; yields the address of the file."""
    handler = type("Handler", (_Handler,), {"plan": plan})
    server = _Server(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}/file"
    finally:
        plan.released.set()
        server.shutdown()
        server.server_close()
