"""The framing of the wire: ``Content-Length: N``, an empty line, then N bytes of UTF-8 JSON. Standard library only.

Same framing as the Language Server Protocol. Both sides read and write through here.
Keep it, like all that QGIS imports, to Python 3.9.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import IO

from ..models.errors import ProtocolError

JsonObject = dict[str, object]

MAX_BODY = 256 * 1024**2
"""Largest body accepted, bytes. Far above any real message; a larger length is a corrupt header."""

MAX_NOISE = 64 * 1024
"""Bytes that may precede a header before the stream counts as corrupt."""

_MAX_LINE = 8 * 1024
_LENGTH = "content-length"


class BodyError(ProtocolError):
    """One message's body is not a JSON object. The stream itself is sound: the next message can be read."""


class FrameReader:
    """Reads messages from a binary stream.

    Tolerant where it costs nothing: header names in any case, either line ending, other headers, and text that strayed
    into the stream between messages (it is handed to ``on_noise``).
    """

    def __init__(self, stream: IO[bytes], on_noise: Callable[[str], None] | None = None) -> None:
        """Take a stream.

        Args:
            stream: buffered binary stream, read only from here on.
            on_noise: called with each line that belongs to no message.
        """
        self._stream = stream
        self._on_noise = on_noise

    def read(self) -> JsonObject | None:
        """Wait for the next message.

        Returns:
            The message, or None when the stream ended between messages.

        Raises:
            BodyError: this message is not a JSON object; reading may go on.
            ProtocolError: the stream is corrupt or ended inside a message; reading cannot go on.
        """
        length = self._read_header()
        if length is None:
            return None
        body = self._stream.read(length)
        if len(body) != length:
            raise _broken(f"the stream ended after {len(body)} of {length} bytes of a message")
        return parse_body(body)

    def _read_header(self) -> int | None:
        length: int | None = None
        noise = 0
        while True:
            line = self._stream.readline(_MAX_LINE)
            if not line:
                if length is None:
                    return None
                raise _broken("the stream ended inside a header")
            text = line.decode("utf-8", errors="replace").strip()
            if not text:
                if length is not None:
                    return length
                continue
            name, _, value = text.partition(":")
            if name.strip().lower().endswith(_LENGTH):  # noise without a line end may stand before it
                length = _parse_length(value)
            elif length is None:
                noise += len(line)
                self._report_noise(text, noise)

    def _report_noise(self, text: str, total: int) -> None:
        if total > MAX_NOISE:
            raise _broken(f"no message header within {MAX_NOISE} bytes; last line: {text[:200]!r}")
        if self._on_noise is not None:
            self._on_noise(text)


class FrameWriter:
    """Writes messages to a binary stream; safe to use from several threads."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Take a stream.

        Args:
            stream: binary stream, written only from here on.
        """
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, message: JsonObject) -> None:
        """Send one message and flush.

        Args:
            message: what :func:`json.dumps` takes.

        Raises:
            OSError: the other side is gone.
            ValueError: the stream is closed here, or a number is not finite (JSON has none such).
        """
        frame = encode(message)
        with self._lock:
            self._stream.write(frame)
            self._stream.flush()

    def close(self) -> None:
        """Close the stream, which tells the other side that no more will come."""
        with self._lock:
            self._stream.close()


def encode(message: JsonObject) -> bytes:
    """Return a message with its header.

    Args:
        message: what :func:`json.dumps` takes.

    Raises:
        ValueError: a number is not finite.
    """
    body = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


def parse_body(body: bytes) -> JsonObject:
    """Turn the bytes of one message into a dict.

    Raises:
        BodyError: it is not a JSON object.
    """
    try:
        message = json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise BodyError(_USER_TEXT, f"{error}: {body[:200]!r}") from error
    if not isinstance(message, dict):
        raise BodyError(_USER_TEXT, f"not a JSON object: {body[:200]!r}")
    return message


_USER_TEXT = "The connection between QGIS and the SamTune engine is garbled. Try again; the engine is started anew."


def _parse_length(value: str) -> int:
    text = value.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MAX_BODY)) or int(text) > MAX_BODY:
        raise _broken(f"impossible content length {value[:40]!r}")
    return int(text)


def _broken(details: str) -> ProtocolError:
    return ProtocolError(_USER_TEXT, details)
