"""Downloads against a server that cuts, stalls, lies and refuses."""

from __future__ import annotations

import hashlib
import random
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samtune.engine.downloads import SPARE_BYTES, RemoteFile, download
from samtune.engine.file_lock import locked
from samtune.engine.progress import NullProgress
from samtune.engine.transport import Transport
from samtune.models.errors import CancelledByUser, DownloadError

from .flaky_server import Plan, serving

CONTENT = random.Random(1).randbytes(400_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
IMPATIENT = Transport(attempts=3, connect_seconds=2, read_seconds=2, pause_seconds=0.01)


class Recorder:
    """A progress that keeps what it was told and cancels when asked to."""

    def __init__(self, cancel_when: Callable[[float], bool] = lambda _fraction: False) -> None:
        self.fractions: list[float] = []
        self.messages: list[str] = []
        self.cancelled = threading.Event()
        self._cancel_when = cancel_when

    def report(self, fraction: float, message: str) -> None:
        self.fractions.append(fraction)
        self.messages.append(message)
        if self._cancel_when(fraction):
            self.cancelled.set()

    def check(self) -> None:
        if self.cancelled.is_set():
            raise CancelledByUser


class Paths(NamedTuple):
    target: Path
    part: Path


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    folder = tmp_path / "models" / "deep"
    return Paths(folder / "weights.bin", folder / "weights.bin.part")


def _remote(url: str, content: bytes = CONTENT) -> RemoteFile:
    return RemoteFile(url, len(content), hashlib.sha256(content).hexdigest(), "The model")


def _leftovers(paths: Paths) -> list[str]:
    return _names(paths.target.parent)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".download.lock")


def test_a_file_arrives_whole(paths: Paths) -> None:
    progress = Recorder()
    with serving(Plan(CONTENT)) as url:
        assert download(_remote(url), paths.target, progress, IMPATIENT) == SHA256
    assert paths.target.read_bytes() == CONTENT
    assert _leftovers(paths) == ["weights.bin"]
    assert progress.fractions == sorted(progress.fractions)
    assert progress.fractions[-1] == 1.0
    assert len(progress.fractions) > 3
    assert "0 of 0 MB" in progress.messages[0]


def test_cut_connections_are_continued_where_they_broke(paths: Paths) -> None:
    plan = Plan(CONTENT, cut_after=[100_000, 1, 150_000])
    with serving(plan) as url:
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert paths.target.read_bytes() == CONTENT
    asked = [request.get("Range") for request in plan.seen]
    assert asked == [None, "bytes=100000-", "bytes=100001-", "bytes=250001-"]
    assert {request.get("If-Range") for request in plan.seen[1:]} == {'"one"'}


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(1, len(CONTENT) - 1), max_size=4),
    statuses=st.lists(st.sampled_from([0, 500, 503]), max_size=2),
    ranges=st.booleans(),
    tagged=st.booleans(),
)
def test_whatever_happens_on_the_way_the_file_is_right(
    cuts: list[int], statuses: list[int], ranges: bool, tagged: bool
) -> None:
    plan = Plan(CONTENT, cut_after=list(cuts), statuses=statuses, ranges=ranges, etag='"one"' if tagged else "")
    patient = Transport(attempts=6, read_seconds=2, pause_seconds=0.001, sleep=lambda _seconds: None)
    with tempfile.TemporaryDirectory() as folder, serving(plan) as url:
        target = Path(folder) / "weights.bin"
        download(_remote(url), target, NullProgress(), patient)
        assert target.read_bytes() == CONTENT
        assert _names(Path(folder)) == ["weights.bin"]


def test_patience_counts_only_attempts_without_progress(paths: Paths) -> None:
    plan = Plan(CONTENT, cut_after=[10_000] * 20)
    with serving(plan) as url:
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert len(plan.seen) == 21


def test_without_ranges_it_starts_again(paths: Paths) -> None:
    plan = Plan(CONTENT, cut_after=[300_000], ranges=False)
    with serving(plan) as url:
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert paths.target.read_bytes() == CONTENT
    assert len(plan.seen) == 2


def test_a_later_call_continues(paths: Paths) -> None:
    with serving(Plan(CONTENT, cut_after=[200_000, 0, 0])) as url, pytest.raises(DownloadError, match="is kept"):
        download(_remote(url), paths.target, NullProgress(), Transport(attempts=2, pause_seconds=0.01))
    assert paths.part.stat().st_size == 200_000
    assert not paths.target.exists()
    plan = Plan(CONTENT)
    with serving(plan) as url:
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert plan.seen[0]["Range"] == "bytes=200000-"
    assert "If-Range" not in plan.seen[0]  # another address: its versions say nothing about this one's
    assert paths.target.read_bytes() == CONTENT


def test_a_changed_file_on_the_server_is_not_glued_to_the_old_part(paths: Paths) -> None:
    newer = bytes(reversed(CONTENT))
    plan = Plan(CONTENT, cut_after=[150_000, 0, 0])
    with serving(plan) as url:
        with pytest.raises(DownloadError):
            download(_remote(url), paths.target, NullProgress(), IMPATIENT)
        plan.content, plan.etag = newer, '"two"'
        download(_remote(url, newer), paths.target, NullProgress(), IMPATIENT)
    assert plan.seen[-1]["If-Range"] == '"one"'
    assert paths.target.read_bytes() == newer


def test_a_whole_part_needs_no_server(paths: Paths) -> None:
    paths.part.parent.mkdir(parents=True)
    paths.part.write_bytes(CONTENT)
    download(_remote("http://127.0.0.1:9/file"), paths.target, NullProgress(), IMPATIENT)
    assert paths.target.read_bytes() == CONTENT
    assert _leftovers(paths) == ["weights.bin"]


def test_a_part_that_is_too_long_is_dropped(paths: Paths) -> None:
    paths.part.parent.mkdir(parents=True)
    paths.part.write_bytes(CONTENT + b"more")
    plan = Plan(CONTENT)
    with serving(plan) as url:
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert "Range" not in plan.seen[0]
    assert paths.target.read_bytes() == CONTENT


def test_wrong_bytes_are_deleted_and_told(paths: Paths) -> None:
    wrong = CONTENT[:-1] + b"?"
    with serving(Plan(wrong)) as url, pytest.raises(DownloadError, match=r"not the published file.*deleted") as caught:
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert SHA256 in caught.value.details
    assert _leftovers(paths) == []


def test_a_wrong_part_does_not_spoil_the_next_attempt(paths: Paths) -> None:
    paths.part.parent.mkdir(parents=True)
    paths.part.write_bytes(b"x" * 1000)
    with serving(Plan(CONTENT)) as url:
        with pytest.raises(DownloadError, match="deleted"):
            download(_remote(url), paths.target, NullProgress(), IMPATIENT)
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert paths.target.read_bytes() == CONTENT


def test_an_existing_file_stays_until_the_new_one_is_right(paths: Paths) -> None:
    paths.target.parent.mkdir(parents=True)
    paths.target.write_bytes(b"old")
    with serving(Plan(CONTENT[::-1])) as url, pytest.raises(DownloadError):
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert paths.target.read_bytes() == b"old"
    with serving(Plan(CONTENT)) as url:
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert paths.target.read_bytes() == CONTENT


def test_a_login_page_is_refused_before_it_is_written(paths: Paths) -> None:
    page = b"<html>Please sign in</html>"
    with serving(Plan(page)) as url, pytest.raises(DownloadError, match=rf"another file.*{len(page)} bytes"):
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert _leftovers(paths) == []


def test_an_endless_answer_is_stopped(paths: Paths) -> None:
    plan = Plan(CONTENT * 10, length=False)
    with serving(plan) as url, pytest.raises(DownloadError, match="not the published file"):
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert _leftovers(paths) == []


def test_a_shifted_range_is_not_believed(paths: Paths) -> None:
    plan = Plan(CONTENT, cut_after=[100_000], shift=7)
    with serving(plan) as url:
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert paths.target.read_bytes() == CONTENT


def test_busy_servers_are_asked_again(paths: Paths) -> None:
    plan = Plan(CONTENT, statuses=[503, 429])
    with serving(plan) as url:
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert len(plan.seen) == 3


@pytest.mark.parametrize("status", [403, 404, 410, 501])
def test_refusals_are_told_at_once(paths: Paths, status: int) -> None:
    plan = Plan(CONTENT, statuses=[status] * 9)
    with serving(plan) as url, pytest.raises(DownloadError, match=f"HTTP status {status}"):
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert len(plan.seen) == 1


def test_redirects_are_followed(paths: Paths) -> None:
    with serving(Plan(CONTENT, redirect="/old")) as url:
        download(_remote(url.replace("/file", "/old")), paths.target, NullProgress(), IMPATIENT)
    assert paths.target.read_bytes() == CONTENT


def test_cancelling_keeps_the_part_for_later(paths: Paths) -> None:
    with serving(Plan(CONTENT)) as url:
        with pytest.raises(CancelledByUser):
            download(_remote(url), paths.target, Recorder(lambda fraction: fraction > 0.4), IMPATIENT)
        kept = paths.part.stat().st_size
        assert 0.4 * len(CONTENT) < kept < len(CONTENT)
        assert not paths.target.exists()
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert paths.target.read_bytes() == CONTENT


def test_cancelling_does_not_wait_for_a_silent_server(paths: Paths) -> None:
    progress = Recorder()
    patient = Transport(attempts=3, read_seconds=30)
    with serving(Plan(CONTENT, stall_after=100_000)) as url:
        threading.Timer(0.4, progress.cancelled.set).start()
        start = time.monotonic()
        with pytest.raises(CancelledByUser):
            download(_remote(url), paths.target, progress, patient)
        assert time.monotonic() - start < 3
    assert paths.part.stat().st_size == 100_000


def test_a_silent_server_is_given_up(paths: Paths) -> None:
    quick = Transport(attempts=2, read_seconds=0.2, pause_seconds=0.01)
    plan = Plan(CONTENT, stall_after=0)
    with serving(plan) as url, pytest.raises(DownloadError, match=r"no lasting connection to 127.0.0.1") as caught:
        download(_remote(url), paths.target, NullProgress(), quick)
    assert "timed out" in caught.value.details
    assert len(plan.seen) == 2


def test_offline_is_told_with_what_to_do(paths: Paths) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
    progress = Recorder()
    with pytest.raises(DownloadError, match=r"Check the internet connection.*load it from file") as caught:
        download(_remote(url), paths.target, progress, IMPATIENT)
    assert "is kept" not in caught.value.user_text
    assert any("trying again" in message for message in progress.messages)


def test_an_unknown_host_is_told(paths: Paths) -> None:
    with pytest.raises(DownloadError, match=r"no lasting connection to nowhere\.invalid"):
        download(_remote("http://nowhere.invalid/file"), paths.target, NullProgress(), IMPATIENT)


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[str]:
    """Serve with a certificate that nobody vouches for."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(Plan(CONTENT), context) as url:
        yield url


def test_an_untrusted_certificate_is_told(paths: Paths, tls_server: str) -> None:
    with pytest.raises(DownloadError, match="not trusted"):
        download(_remote(tls_server), paths.target, NullProgress(), IMPATIENT)
    assert _leftovers(paths) == []


@pytest.mark.parametrize("url", ["ftp://example.org/x", "file:///etc/passwd", "sam.pth", ""])
def test_only_web_addresses(paths: Paths, url: str) -> None:
    with pytest.raises(DownloadError, match="no web address"):
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)


def test_two_processes_do_not_write_into_one_part(paths: Paths) -> None:
    paths.target.parent.mkdir(parents=True)
    plan = Plan(CONTENT)
    with serving(plan) as url:
        with locked(paths.target.parent / ".download.lock"):
            with pytest.raises(DownloadError, match="Another SamTune"):
                download(_remote(url), paths.target, NullProgress(), IMPATIENT)
            assert plan.seen == []
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert paths.target.read_bytes() == CONTENT


def test_a_full_disk_is_told_before_anything_is_asked(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=SPARE_BYTES + len(CONTENT) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    plan = Plan(CONTENT)
    with serving(plan) as url, pytest.raises(DownloadError, match="are free in"):
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert plan.seen == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with serving(Plan(CONTENT)) as url, pytest.raises(DownloadError, match="another folder"):
        download(_remote(url), tmp_path / "models" / "weights.bin", NullProgress(), IMPATIENT)


def test_a_disk_that_fills_up_keeps_what_arrived(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, stream: object) -> None:
            self.stream = stream

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_args: object) -> None:
            self.stream.close()  # type: ignore[attr-defined]

        def tell(self) -> int:
            return self.stream.tell()  # type: ignore[attr-defined, no-any-return]

        def write(self, piece: bytes) -> int:
            if self.tell() > 100_000:
                raise OSError(28, "No space left on device")
            return self.stream.write(piece)  # type: ignore[attr-defined, no-any-return]

    original = Path.open

    def open_(path: Path, mode: str = "r", **kwargs: object) -> object:
        stream = original(path, mode, **kwargs)  # type: ignore[call-overload]
        return Full(stream) if mode in {"wb", "ab"} and path.suffix == ".part" else stream

    with serving(Plan(CONTENT)) as url:
        monkeypatch.setattr(Path, "open", open_)
        with pytest.raises(DownloadError, match="No space left on device"):
            download(_remote(url), paths.target, NullProgress(), IMPATIENT)
        monkeypatch.undo()
        assert 0 < paths.part.stat().st_size < len(CONTENT)
        download(_remote(url), paths.target, NullProgress(), IMPATIENT)
    assert paths.target.read_bytes() == CONTENT


def test_a_file_of_unknown_size_and_hash(paths: Paths) -> None:
    progress = Recorder()
    with serving(Plan(CONTENT, length=False, etag="")) as url:
        remote = RemoteFile(url, 0, "", "The model")
        assert download(remote, paths.target, progress, IMPATIENT) == SHA256
    assert paths.target.read_bytes() == CONTENT
    assert progress.fractions[0] == -1.0


def test_through_a_proxy_with_login(paths: Paths) -> None:
    plan = Plan(CONTENT, login="Basic dXNlcjpzZWNyZXQ=")
    with serving(plan) as address:
        proxy = address.removesuffix("/file").replace("http://", "http://user:secret@")
        transport = Transport(proxy=proxy, attempts=2, pause_seconds=0.01)
        download(_remote("http://models.example.org/file"), paths.target, NullProgress(), transport)
    assert plan.seen[0][":line"].startswith("GET http://models.example.org/file")
    assert paths.target.read_bytes() == CONTENT


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_login_is_told(paths: Paths, scheme: str) -> None:
    with serving(Plan(CONTENT, login="Basic dXNlcjpzZWNyZXQ=")) as address:
        transport = Transport(proxy=address.removesuffix("/file"), attempts=2, pause_seconds=0.01)
        with pytest.raises(DownloadError, match=r"[Pp]roxy") as caught:
            download(_remote(f"{scheme}://models.example.org/file"), paths.target, NullProgress(), transport)
    assert "user name and password" in caught.value.user_text


@pytest.mark.parametrize("proxy", ["gopher://user:secret@host", "http://[broken", "user:secret@host:port:port"])
def test_a_wrong_proxy_address_is_told_without_its_password(paths: Paths, proxy: str) -> None:
    transport = Transport(proxy=proxy, attempts=1)
    with pytest.raises(DownloadError, match="proxy address") as caught:
        download(_remote("http://127.0.0.1:9/file"), paths.target, NullProgress(), transport)
    assert "secret" not in caught.value.user_text + caught.value.details


@pytest.mark.parametrize("proxy", ["socks5h://user:secret@host:1080", "SOCKS5://host:1080", "socks4a://host"])
def test_a_socks_proxy_is_refused_in_words(paths: Paths, proxy: str) -> None:
    with pytest.raises(DownloadError, match="cannot use a SOCKS proxy") as caught:
        download(_remote("http://127.0.0.1:9/file"), paths.target, NullProgress(), Transport(proxy=proxy))
    assert "load it from file" in caught.value.user_text
    assert "secret" not in caught.value.user_text + caught.value.details


@pytest.mark.parametrize(
    "plan",
    [Plan(CONTENT, statuses=[404]), Plan(CONTENT + b"more"), Plan(CONTENT[::-1]), Plan(CONTENT, statuses=[503])],
    ids=["missing", "another size", "other bytes", "not now"],
)
def test_a_mirrors_login_is_in_no_message(paths: Paths, plan: Plan) -> None:
    with serving(plan) as address:
        url = address.replace("http://", "http://user:hush@") + "?token=hush"
        with pytest.raises(DownloadError) as caught:
            download(_remote(url), paths.target, NullProgress(), Transport(attempts=1, pause_seconds=0.01))
    assert "hush" not in caught.value.user_text + caught.value.details


@pytest.mark.parametrize("address", ["ftp://user:hush@host/file", "user:hush@host"])
def test_a_wrong_mirror_is_told_without_its_login(paths: Paths, address: str) -> None:
    with pytest.raises(DownloadError, match="no web address") as caught:
        download(_remote(address), paths.target, NullProgress())
    assert "://user" not in caught.value.user_text
