"""The wire's framing, from its bytes."""

from __future__ import annotations

import io
import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samtune.engine.framing import MAX_BODY, MAX_NOISE, BodyError, FrameReader, FrameWriter, encode
from samtune.models.errors import ProtocolError

numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=5)


class Trickle(io.RawIOBase):
    """A stream that gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        super().__init__()
        self._data = io.BytesIO(data)
        self._sizes = sizes or [1]
        self._turn = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        size = min(len(buffer), self._sizes[self._turn % len(self._sizes)])
        self._turn += 1
        chunk = self._data.read(size)
        buffer[: len(chunk)] = chunk
        return len(chunk)


def read_all(data: bytes) -> list[object]:
    reader = FrameReader(io.BytesIO(data))
    found = []
    while (message := reader.read()) is not None:
        found.append(message)
    return found


@given(st.lists(json_objects, max_size=5), st.lists(st.integers(1, 9), min_size=1, max_size=7))
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_however_the_pipe_cuts_it(messages: list[dict[str, object]], sizes: list[int]) -> None:
    sink = io.BytesIO()
    writer = FrameWriter(sink)
    for message in messages:
        writer.write(message)
    reader = FrameReader(io.BufferedReader(Trickle(sink.getvalue(), sizes), buffer_size=16))
    assert [reader.read() for _ in messages] == messages
    assert reader.read() is None


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_end_in_messages_an_end_or_a_protocol_error(data: bytes) -> None:
    reader = FrameReader(io.BytesIO(data))
    for _ in range(len(data) + 2):
        try:
            message = reader.read()
        except BodyError:
            continue
        except ProtocolError:
            return
        if message is None:
            return
        assert isinstance(message, dict)
    pytest.fail("the reader made no headway")


@given(st.lists(st.text(alphabet=st.characters(codec="ascii", categories=("L", "N", "Zs")), max_size=30), max_size=6))
def test_noise_between_messages_is_reported_and_skipped(lines: list[str]) -> None:
    noise: list[str] = []
    data = "".join(f"{line}\n" for line in lines).encode()
    reader = FrameReader(io.BytesIO(encode({"a": 1}) + data + encode({"b": 2})), noise.append)
    assert reader.read() == {"a": 1}
    assert reader.read() == {"b": 2}
    assert noise == [line.strip() for line in lines if line.strip()]


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: 8\r\n\r\n",
        b"content-length:8\n\n",
        b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nCONTENT-LENGTH:   8\r\n\r\n",
        b"Content-Length: 8\r\nContent-Type: x\r\n\r\n",
        b"\r\n\r\nContent-Length: 8\r\n\r\n",
        b"no line endContent-Length: 8\r\n\r\n",
    ],
)
def test_headers_may_look_different(header: bytes) -> None:
    assert read_all(header + b'{"a": 1}') == [{"a": 1}]


@pytest.mark.parametrize("body", [b"[1, 2]", b"3", b"nothing", b"\xff\xfe", b'{"a":', b"[" * 100_000])
def test_a_bad_body_spoils_only_its_own_message(body: bytes) -> None:
    reader = FrameReader(io.BytesIO(b"Content-Length: %d\r\n\r\n" % len(body) + body + encode({"next": 1})))
    with pytest.raises(BodyError):
        reader.read()
    assert reader.read() == {"next": 1}


@pytest.mark.parametrize(
    ("data", "details"),
    [
        (b"Content-Length: ten\r\n\r\n", "ten"),
        (b"Content-Length: -1\r\n\r\n", "-1"),
        (b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1), str(MAX_BODY + 1)),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "999"),
        (b"Content-Length: 10\r\n\r\n{}", "2 of 10"),
        (b"Content-Length: 10\r\n", "inside a header"),
        (b"noise\n" * (MAX_NOISE // 4), "noise"),
    ],
)
def test_a_corrupt_stream_is_a_protocol_error_that_says_where(data: bytes, details: str) -> None:
    reader = FrameReader(io.BytesIO(data))
    with pytest.raises(ProtocolError) as caught:
        reader.read()
    assert not isinstance(caught.value, BodyError)
    assert details in caught.value.details
    assert caught.value.user_text


def test_numbers_that_json_lacks_are_refused() -> None:
    sink = io.BytesIO()
    with pytest.raises(ValueError, match="not JSON compliant"):
        FrameWriter(sink).write({"a": float("nan")})
    assert sink.getvalue() == b""


def test_names_of_files_that_are_no_unicode_survive() -> None:
    name = b"caf\xe9.tif".decode("utf-8", "surrogateescape")
    assert read_all(encode({"uri": name})) == [{"uri": name}]


def test_length_counts_bytes_and_not_letters() -> None:
    header, _, body = encode({"text": "Äcker 🛰"}).partition(b"\r\n\r\n")
    assert int(header.split(b":")[1]) == len(body)
    assert json.loads(body) == {"text": "Äcker 🛰"}


def test_threads_do_not_interleave() -> None:
    sink = io.BytesIO()
    writer = FrameWriter(sink)

    def write(name: int) -> None:
        for number in range(50):
            writer.write({"name": name, "number": number, "text": "x" * 200})

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_all(sink.getvalue())
    assert len(found) == 200
    for name in range(4):
        assert [item["number"] for item in found if item["name"] == name] == list(range(50))  # type: ignore[index]
