"""Downloads from real servers on loopback that misbehave on request: whole or not at all, and within the policy."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from web import create_certificate, reply, serve_on_loopback

from abs_core.errors import DownloadError, StorageError, UsageError
from abs_core.http import download, is_url, read_url, validate_url

DATA = bytes(range(256)) * 12_000  # 3 MB: some blocks
LIMIT = len(DATA)


class FileServer:
    """Serves one file, with ranges, and lets ``behave`` answer a request otherwise: it gets its number from 1."""

    def __init__(self) -> None:
        self.data, self.headers = DATA, {"ETag": '"v1"'}
        self.has_ranges = True
        self.cut_after: int | None = None
        self.behave: Callable[[BaseHTTPRequestHandler, int], bool] = lambda handler, number: False
        self.ranges: list[str | None] = []
        self.url = ""

    def handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.ranges.append(self.headers["Range"])
                if not web.behave(self, len(web.ranges)):
                    web.send(self)

            def log_message(self, *args: object) -> None:
                pass

        return Handler

    def send(self, handler: BaseHTTPRequestHandler) -> None:
        begin, wanted = 0, handler.headers["Range"]
        if wanted and self.has_ranges and handler.headers["If-Range"] in (None, *self.headers.values()):
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if begin >= len(self.data) > 0:
            reply(handler, 416)
            return
        handler.send_response(206 if begin else 200)
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(self.data) - 1}/{len(self.data)}")
        for name, value in {"Content-Length": str(len(self.data) - begin), **self.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        end = len(self.data) if self.cut_after is None else begin + self.cut_after
        handler.wfile.write(self.data[begin:end])


@contextmanager
def serving(web: FileServer, encryption: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    with serve_on_loopback(web.handler(), encryption) as address:
        web.url = f"{address}/file"
        yield web


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr("abs_core.http._PAUSES", (0.01, 0.01))
    with serving(FileServer()) as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file.bin"


@pytest.fixture
def encryption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Of a server whose certificate this process trusts."""
    trusted, context = create_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    return context


def files_beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_is_downloaded_once(web: FileServer, target: Path) -> None:
    assert download(web.url, target, max_bytes=LIMIT)
    assert target.read_bytes() == DATA
    assert files_beside(target) == ["file.bin"]
    assert not download(web.url, target, max_bytes=LIMIT)
    assert web.ranges == [None]


def test_an_empty_file_is_a_file(web: FileServer, target: Path) -> None:
    web.data = b""
    assert download(web.url, target, max_bytes=0)
    assert target.read_bytes() == b""


def test_of_two_downloads_of_one_target_one_waits_for_the_other(web: FileServer, target: Path) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold(handler: BaseHTTPRequestHandler, number: int) -> bool:
        reached.set()
        return not go_on.wait(30)

    web.behave = hold
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(download, web.url, target, max_bytes=LIMIT)
        assert reached.wait(30)
        second = pool.submit(download, web.url, target, max_bytes=LIMIT)
        time.sleep(0.05)
        go_on.set()
        assert (first.result(30), second.result(30)) == (True, False)
    assert web.ranges == [None]
    assert files_beside(target) == ["file.bin"]


# --- attempts ---


@pytest.mark.parametrize("as_date", [False, True])
@pytest.mark.slow
def test_a_busy_server_is_asked_again_when_it_says(web: FileServer, target: Path, as_date: bool) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if as_date else "1"
    times = []

    def busy(handler: BaseHTTPRequestHandler, number: int) -> bool:
        times.append(time.monotonic())
        return number == 1 and reply(handler, 503, Retry_After=later)

    web.behave = busy
    download(web.url, target, max_bytes=LIMIT)
    assert target.read_bytes() == DATA
    assert 0.5 < times[1] - times[0] < 20


def test_a_server_that_asks_to_wait_for_hours_ends_the_download(web: FileServer, target: Path) -> None:
    web.behave = lambda handler, number: reply(handler, 429, Retry_After="7200")
    with pytest.raises(DownloadError, match=r"\(HTTP 429\).*wait for 7200 s") as caught:
        download(web.url, target, max_bytes=LIMIT)
    assert caught.value.status == 429
    assert len(web.ranges) == 1


@pytest.mark.parametrize(("status", "requests"), [(500, 3), (503, 3), (408, 3), (404, 1), (403, 1), (410, 1)])
def test_only_what_may_pass_is_asked_again(web: FileServer, target: Path, status: int, requests: int) -> None:
    web.behave = lambda handler, number: reply(handler, status)
    with pytest.raises(DownloadError, match=rf"cannot download {web.url}: .*\(HTTP {status}\)") as caught:
        download(web.url, target, max_bytes=LIMIT)
    assert caught.value.status == status
    assert len(web.ranges) == requests
    assert files_beside(target) == []


def test_no_server_and_no_such_host_are_said_so(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_core.http._PAUSES", ())
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(DownloadError, match=r"it cannot be reached\. Check the address and the connection"):
            download(f"http://127.0.0.1:{unused.getsockname()[1]}/x", target, max_bytes=1)
    with pytest.raises(DownloadError, match="cannot be resolved"):
        download("https://nowhere.invalid/x", target, max_bytes=1)


def test_a_server_that_is_silent_or_too_slow_is_left(
    web: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    web.behave = lambda handler, number: go_on.wait(30)
    monkeypatch.setattr("abs_core.http._TIMEOUT", 0.1)
    with pytest.raises(DownloadError, match="did not answer in time"):
        download(web.url, target, max_bytes=LIMIT)
    go_on.set()
    web.behave = lambda handler, number: False
    web.cut_after = 1000
    monkeypatch.setattr("abs_core.http._GRACE", 0.1)
    # each attempt makes progress, so that only the time ends them
    monkeypatch.setattr("abs_core.http._SLOWEST", 1e9)
    with pytest.raises(DownloadError, match="too slowly"):
        download(web.url, target, max_bytes=LIMIT)


# --- resuming ---


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified"])
def test_a_cut_connection_is_resumed_where_it_ended(web: FileServer, target: Path, validator: str) -> None:
    web.headers = {"ETag": '"v1"'} if validator == "ETag" else {"Last-Modified": "Sat, 01 Jan 2000 00:00:00 GMT"}
    web.cut_after = 1_000_000
    download(web.url, target, max_bytes=LIMIT)
    assert target.read_bytes() == DATA
    assert web.ranges == [None, "bytes=1000000-", "bytes=2000000-", "bytes=3000000-"]


def interrupt(web: FileServer, target: Path) -> None:
    """A download that ends after a million bytes."""
    web.behave = lambda handler, number: number > 1 and reply(handler, 404)
    web.cut_after = 1_000_000
    with pytest.raises(DownloadError):
        download(web.url, target, max_bytes=LIMIT)
    assert not target.exists()
    web.behave, web.cut_after = lambda handler, number: False, None
    web.ranges.clear()


def test_the_next_run_resumes(web: FileServer, target: Path) -> None:
    interrupt(web, target)
    assert len(files_beside(target)) == 2
    download(web.url, target, max_bytes=LIMIT)
    assert target.read_bytes() == DATA
    assert web.ranges == ["bytes=1000000-"]
    assert files_beside(target) == ["file.bin"]


def test_a_server_without_ranges_sends_all_again(web: FileServer, target: Path) -> None:
    interrupt(web, target)
    web.has_ranges = False
    download(web.url, target, max_bytes=LIMIT)
    assert target.read_bytes() == DATA
    assert web.ranges == ["bytes=1000000-"]


@pytest.mark.parametrize("length", [500_000, 1_000_000, 3_500_000])
def test_two_versions_never_mix(web: FileServer, target: Path, length: int) -> None:
    interrupt(web, target)
    web.data, web.headers = b"new!" * (length // 4), {"ETag": '"v2"'}
    download(web.url, target, max_bytes=2 * LIMIT)
    assert target.read_bytes() == web.data


def test_a_server_that_ignores_if_range_is_found_out(web: FileServer, target: Path) -> None:
    interrupt(web, target)
    web.data, web.headers = b"new!" * 900_000, {"ETag": '"v2"'}

    def ignore(handler: BaseHTTPRequestHandler, number: int) -> bool:
        del handler.headers["If-Range"]
        return False

    web.behave = ignore
    download(web.url, target, max_bytes=2 * LIMIT)
    assert target.read_bytes() == web.data
    assert web.ranges == ["bytes=1000000-", None]


def test_without_a_version_nothing_is_resumed(web: FileServer, target: Path) -> None:
    web.headers = {"ETag": 'W/"weak"'}
    interrupt(web, target)
    assert files_beside(target) == []


def test_a_stream_is_resumed_or_says_that_it_changed(web: FileServer) -> None:
    web.cut_after = 1_000_000
    assert b"".join(read_url(web.url)) == DATA
    web.has_ranges, web.cut_after = False, None
    web.ranges.clear()

    def cut(handler: BaseHTTPRequestHandler, number: int) -> bool:
        web.cut_after = 1_500_000 if number == 1 else None
        return False

    web.behave = cut
    assert b"".join(read_url(web.url)) == DATA
    web.ranges.clear()
    blocks = read_url(web.url)
    assert DATA.startswith(next(blocks))
    web.headers = {"ETag": '"v2"'}
    with pytest.raises(DownloadError, match="changed while it was read"):
        list(blocks)


# --- what is refused ---


@pytest.mark.parametrize("has_length", [True, False])
def test_a_file_that_is_too_large_is_not_kept(web: FileServer, target: Path, has_length: bool) -> None:
    def endless(handler: BaseHTTPRequestHandler, number: int) -> bool:
        handler.send_response(200)
        handler.send_header("ETag", '"v1"')
        handler.end_headers()
        handler.wfile.write(DATA)
        return True

    web.behave = (lambda handler, number: False) if has_length else endless
    with pytest.raises(DownloadError, match=f"more than the {LIMIT - 1} bytes"):
        download(web.url, target, max_bytes=LIMIT - 1)
    assert files_beside(target) == []


def test_a_target_that_cannot_be_written_is_named(web: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot write .*file/x"):
        download(web.url, tmp_path / "file" / "x", max_bytes=LIMIT)
    assert web.ranges == []


@pytest.mark.parametrize(
    "place",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://u:secret@127.0.0.1:9/", "http://[", "http://example.org/x"],
)
def test_a_redirect_out_of_the_policy_is_refused(web: FileServer, target: Path, place: str) -> None:
    web.behave = lambda handler, number: reply(handler, 302, Location=place)
    with pytest.raises(DownloadError, match=r"it redirects .*\(HTTP 302\)") as caught:
        download(web.url, target, max_bytes=LIMIT)
    assert "secret" not in str(caught.value)
    assert len(web.ranges) == 1


def test_a_redirect_within_the_policy_is_followed(web: FileServer, target: Path) -> None:
    signed = web.url + "?signature=secret"
    web.behave = lambda handler, number: "?" not in handler.path and reply(handler, 307, Location=signed)
    download(web.url, target, max_bytes=LIMIT)
    assert target.read_bytes() == DATA
    web.behave = lambda handler, number: reply(handler, 403 if "?" in handler.path else 307, Location=signed)
    with pytest.raises(DownloadError) as caught:
        b"".join(read_url(web.url))
    assert "secret" not in str(caught.value)


def test_encryption_is_never_given_up_on_the_way(web: FileServer, target: Path, encryption: ssl.SSLContext) -> None:
    with serving(FileServer(), encryption) as encrypted:
        assert encrypted.url.startswith("https://")
        download(encrypted.url, target, max_bytes=LIMIT)
        assert target.read_bytes() == DATA
        encrypted.behave = lambda handler, number: reply(handler, 302, Location=web.url)
        with pytest.raises(DownloadError, match="the address is without encryption"):
            b"".join(read_url(encrypted.url, plain_http=True))
    assert web.ranges == []


def test_a_certificate_that_nobody_vouches_for_is_refused(
    target: Path, encryption: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abs_core.http._PAUSES", ())
    monkeypatch.delenv("SSL_CERT_FILE")
    with (
        serving(FileServer(), encryption) as encrypted,
        pytest.raises(DownloadError, match="is not trusted"),
    ):
        download(encrypted.url, target, max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("https://user:secret@example.org/set", "'example.org' must not contain credentials"),
        ("https://secret@example.org/set", "'example.org' must not contain credentials"),
        ("http://example.org/secret", "scheme 'http' is not allowed"),
        ("ftp://example.org/secret", "scheme 'ftp' is not allowed"),
        ("https://example.org/set?token=secret", "must not contain '::'"),
        ("https://[secret", "is invalid"),
        ("https://example.org:secret/", "is invalid"),
    ],
)
def test_an_address_is_refused_without_repeating_a_secret(url: str, complaint: str, target: Path) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        validate_url(url)
    assert "secret" not in str(caught.value)
    if "?" not in url:
        with pytest.raises(UsageError, match=complaint):
            download(url, target, max_bytes=1)
        with pytest.raises(UsageError, match=complaint):
            next(read_url(url))
    assert not target.parent.exists() or files_beside(target) == []


def test_addresses_that_may_be_used() -> None:
    assert validate_url("https://example.org/set/") == "https://example.org/set"
    assert validate_url("http://127.0.0.1:8000/set") == "http://127.0.0.1:8000/set"
    assert (is_url("https://example.org"), is_url("C:/folder")) == (True, False)
