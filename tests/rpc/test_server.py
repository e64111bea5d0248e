"""The server's wire, byte by byte, and how its process ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samtune.engine.framing import FrameReader, encode
from samtune.engine.messages import PROTOCOL_VERSION, EngineSettings, Method, RasterSpec, SegmentParams
from samtune.engine.wire import to_wire

FAKE = Path(__file__).resolve().parent / "fake_engine.py"


class Wire:
    """A raw conversation with an engine process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-B", str(FAKE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.reader = FrameReader(self.process.stdout)
        self.heartbeats: list[dict[str, Any]] = []

    def send(self, data: bytes | dict[str, object]) -> None:
        self.process.stdin.write(data if isinstance(data, bytes) else encode(data))
        self.process.stdin.flush()

    def ask(self, request: object, method: str, params: object = None) -> None:
        self.send({"jsonrpc": "2.0", "id": request, "method": method, "params": params})

    def hello(self, protocol: int = PROTOCOL_VERSION) -> dict[str, Any]:
        self.ask(1, "initialize", {"protocol": protocol, "client": "test", "settings": to_wire(EngineSettings())})
        return self.receive()

    def receive(self) -> dict[str, Any]:
        """Return the next message that is no notification."""
        while (message := self.reader.read()) is not None:
            if message.get("method") == Method.HEARTBEAT.value:
                self.heartbeats.append(message["params"])
            elif "method" not in message:
                return message
        raise EOFError(self.process.wait(5), self.process.stderr.read())


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    watchdog = threading.Timer(20, made.process.kill)
    watchdog.start()
    yield made
    watchdog.cancel()
    made.process.kill()
    made.process.wait()
    for stream in (made.process.stdout, made.process.stderr):
        stream.close()


def segment(milliseconds: int) -> object:
    return to_wire(SegmentParams(RasterSpec("r.tif"), "tiny", milliseconds))


def test_the_handshake_answers_with_the_engine(wire: Wire) -> None:
    answer = wire.hello()
    assert answer["jsonrpc"] == "2.0"
    assert answer["id"] == 1
    assert answer["result"]["pid"] == wire.process.pid


def test_a_client_of_another_protocol_is_told_so(wire: Wire) -> None:
    answer = wire.hello(PROTOCOL_VERSION + 1)
    assert answer["error"]["data"]["kind"] == "ProtocolError"
    assert f"protocol {PROTOCOL_VERSION + 1}" in answer["error"]["data"]["details"]
    assert "result" in wire.hello()  # and may try again


def test_another_shape_of_handshake_is_a_version_message_too(wire: Wire) -> None:
    wire.ask(1, "initialize", {"protocol": 99, "unheard": "of"})
    assert "protocol 99" in wire.receive()["error"]["data"]["details"]


def test_nothing_is_served_before_the_handshake_and_no_second_one(wire: Wire) -> None:
    wire.ask(4, "info", {})
    assert "before the handshake" in wire.receive()["error"]["data"]["details"]
    wire.hello()
    assert "second handshake" in wire.hello()["error"]["data"]["details"]


@pytest.mark.parametrize(
    ("message", "request_id", "code"),
    [
        ({"jsonrpc": "2.0", "id": 5, "method": "no/such"}, 5, -32601),
        ({"jsonrpc": "2.0", "id": 5, "method": "$/progress"}, 5, -32601),
        ({"jsonrpc": "2.0", "id": 5, "method": "segment", "params": {}}, 5, -32602),
        ({"jsonrpc": "2.0", "id": 5, "method": "segment", "params": [1]}, 5, -32602),
        ({"jsonrpc": "2.0", "id": 5, "method": "info", "params": {"surprise": 1}}, 5, -32602),
        ({"jsonrpc": "2.0", "id": "text", "method": "info"}, None, -32600),
        ({"jsonrpc": "2.0", "id": True, "method": "info"}, None, -32600),
        ({"jsonrpc": "2.0", "id": 5, "method": 7}, None, -32600),
        ({}, None, -32600),
        (b"Content-Length: 2\r\n\r\n[]", None, -32700),
        (b"Content-Length: 3\r\n\r\n{x}", None, -32700),
    ],
)
def test_malformed_messages_are_answered_and_survived(
    wire: Wire, message: bytes | dict[str, object], request_id: object, code: int
) -> None:
    wire.hello()
    wire.send(message)
    answer = wire.receive()
    assert answer["id"] == request_id
    assert answer["error"]["code"] == code
    assert answer["error"]["message"]
    assert answer["error"]["data"]["kind"] == "ProtocolError"
    wire.ask(6, "info")
    assert wire.receive()["id"] == 6


def test_unknown_notifications_and_odd_cancellations_are_ignored(wire: Wire) -> None:
    wire.hello()
    wire.send({"jsonrpc": "2.0", "method": "$/whatever"})
    wire.send({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 77}})
    wire.send({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": "all"})
    wire.ask(6, "info")
    assert wire.receive()["id"] == 6


def test_an_id_in_use_is_refused_and_the_first_answered(wire: Wire) -> None:
    wire.hello()
    wire.ask(5, "segment", segment(200))
    wire.ask(5, "segment", segment(0))
    assert "in use" in wire.receive()["error"]["data"]["details"]
    assert wire.receive()["result"]["level"] == 200
    wire.ask(5, "segment", segment(0))
    assert wire.receive()["result"]["level"] == 0


def test_hearts_beat_from_the_start_each_second(wire: Wire) -> None:
    began = time.monotonic()
    first = wire.reader.read()
    assert first is not None
    assert first["method"] == "$/heartbeat"
    assert wire.reader.read()["method"] == "$/heartbeat"  # type: ignore[index]
    assert 0.9 < time.monotonic() - began < 3


def test_a_corrupt_stream_is_told_and_ends_the_process(wire: Wire) -> None:
    wire.hello()
    wire.send(b"Content-Length: nonsense\r\n\r\n")
    answer = wire.receive()
    assert answer["error"]["code"] == -32700
    assert "nonsense" in answer["error"]["data"]["details"]
    assert wire.process.wait(5) == 3


@pytest.mark.parametrize("kind", ["idle", "polite", "stuck"])
def test_the_end_of_stdin_ends_the_process_at_once(wire: Wire, kind: str) -> None:
    wire.hello()
    if kind == "polite":
        wire.ask(5, "segment", segment(60_000))
    if kind == "stuck":
        wire.ask(5, "models/warmUp", {"model": "sleep:60"})
    wire.ask(6, "info")
    assert wire.receive()["id"] == 6
    began = time.monotonic()
    wire.process.stdin.close()
    assert wire.process.wait(5) == 0
    assert time.monotonic() - began < 0.5


def test_a_message_cut_off_by_the_end_ends_the_process_too(wire: Wire) -> None:
    wire.hello()
    wire.send(b"Content-Length: 100\r\n\r\n{")
    wire.process.stdin.close()
    assert wire.process.wait(5) == 3


def test_a_client_that_stops_reading_does_not_keep_the_engine(wire: Wire) -> None:
    wire.hello()
    wire.process.stdout.close()
    wire.ask(5, "segment", segment(0))
    time.sleep(0.2)
    wire.process.stdin.close()
    assert wire.process.wait(5) == 0


@pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")
def test_ctrl_c_in_the_terminal_of_qgis_is_no_end(wire: Wire) -> None:
    import signal

    wire.hello()
    wire.process.send_signal(signal.SIGINT)
    wire.ask(6, "info")
    assert wire.receive()["id"] == 6


def test_the_log_goes_to_a_file_that_rotates_or_to_stderr_alone(tmp_path: Path) -> None:
    code = (
        "import importlib.util, logging, pathlib, sys\n"
        f"s = importlib.util.spec_from_file_location('b', {str(FAKE.parents[2] / 'engine' / 'bootstrap.py')!r})\n"
        "b = importlib.util.module_from_spec(s); s.loader.exec_module(b)\n"
        f"b.make_importable(pathlib.Path({str(FAKE.parents[2])!r}))\n"
        "from samtune.engine.logs import set_up\n"
        "path = set_up(pathlib.Path(sys.argv[1]))\n"
        "logging.getLogger('x').warning('a warning')\n"
        "print(path)\n"
    )

    def run(folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-B", "-c", code, str(folder)], capture_output=True, text=True, check=True
        )

    good = run(tmp_path / "logs")
    assert Path(good.stdout.strip()).read_text(encoding="utf-8").count("a warning") == 1
    assert "a warning" in good.stderr
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    bad = run(tmp_path / "file")
    assert bad.stdout.strip() == ""
    assert "No log file" in bad.stderr
    assert "a warning" in bad.stderr
