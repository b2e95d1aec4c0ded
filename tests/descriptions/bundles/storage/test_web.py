"""Web servers: with and without an index, and those that break off, lie, redirect or never end."""

from __future__ import annotations

import gzip
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from sharing import (
    add,
    python,
    send,
    store_of,
    take,
)
from web import reply, serve_on_loopback

from abs_core.errors import AbsError, BundleError, StorageError, UnknownNameError, UsageError
from abs_descriptions.bundles.repository import Repository

# --- web servers ---


pytestmark = pytest.mark.faults


class Web:
    """A web server over a folder: ``misbehave`` sees each request first and says whether it answered."""

    def __init__(self, folder: Path, misbehave: Callable[[BaseHTTPRequestHandler, int], bool]) -> None:
        self.folder, self.misbehave = folder, misbehave
        self.requests: list[str] = []
        self.address = ""


@contextmanager
def serving_web(web: Web) -> Iterator[Web]:
    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            web.requests.append(self.path)
            if not web.misbehave(self, len(web.requests)):
                super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with serve_on_loopback(partial(Handler, directory=str(web.folder))) as web.address:
        yield web


def test_a_web_server_shows_what_is_in_a_folder(published: Path, tmp_path: Path) -> None:
    with serving_web(Web(published, lambda handler, number: False)) as web:
        assert take(tmp_path / "b", web.address)[0].manifest.version == "1.10.0"
        assert take(tmp_path / "b", web.address, "pets@1.0.0")[0].is_new
        assert len(Repository.open(web.address).catalogue().entries) == 2
        with pytest.raises(UsageError, match="can only be pulled from"):
            send(tmp_path / "a", web.address)
        with pytest.raises(UnknownNameError, match=r"valid: pets@1\.10\.0, pets@1\.0\.0"):
            take(tmp_path / "b", web.address, "pets@2.0.0")


def test_a_web_server_without_an_index_gives_named_versions(published: Path, tmp_path: Path) -> None:
    def misbehave(handler: BaseHTTPRequestHandler, number: int) -> bool:
        return handler.path.endswith("/") and reply(handler, 404)

    with serving_web(Web(published, misbehave)) as web:
        assert take(tmp_path / "b", web.address, "pets@1.0.0")[0].is_new
        with pytest.raises(UsageError, match="shows no index of versions/pets/"):
            take(tmp_path / "b", web.address)
        with pytest.raises(UnknownNameError, match="there are none"):
            take(tmp_path / "b", web.address, "pets@9.0.0")
        add(tmp_path / "c", "Another cat.")
        with pytest.raises(BundleError, match=r"has pets@1\.0\.0 with the digest") as refused:
            take(tmp_path / "c", web.address, "pets@1.0.0")
        assert refused.value.remedy.startswith(
            "Give yours a new version, such as 1.1.0, with `abs bundle renumber pets@1.0.0 "
        )


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_server_that_refuses_an_index_gives_named_versions(published: Path, tmp_path: Path, status: int) -> None:
    def misbehave(handler: BaseHTTPRequestHandler, number: int) -> bool:
        return handler.path.endswith("/") and reply(handler, status)

    with serving_web(Web(published, misbehave)) as web:
        with pytest.raises(UsageError, match=r"shows no index of versions/pets/\. Name the version, such as"):
            take(tmp_path / "b", web.address)
        assert take(tmp_path / "b", web.address, "pets@1.0.0")[0].is_new


def test_a_server_that_compresses_and_knows_no_ranges_is_read(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abs_core.http._PAUSES", (0.01, 0.01))

    def misbehave(handler: BaseHTTPRequestHandler, number: int) -> bool:
        file = published / handler.path.lstrip("/")
        if not file.is_file():
            return False
        data = gzip.compress(file.read_bytes())
        # every other answer breaks off, and what follows begins anew
        sent = data[: len(data) // 2] if number % 2 else data
        return reply(handler, 200, sent, Content_Encoding="gzip", Content_Length=str(len(data)), Connection="close")

    with serving_web(Web(published, misbehave)) as web:
        assert take(tmp_path / "b", web.address, "pets@1.10.0")[0].is_new
        assert store_of(tmp_path / "b").read("pets").header.version == "1.10.0"


def test_what_broke_off_goes_on_where_it_ended(published: Path, tmp_path: Path) -> None:
    def misbehave(handler: BaseHTTPRequestHandler, number: int) -> bool:
        file = published / handler.path.lstrip("/")
        if not handler.path.startswith("/objects/") or "rejected" in handler.path:
            return number == 1 and reply(handler, 503)
        data, wanted = file.read_bytes(), handler.headers.get("Range")
        if wanted is None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[:1000])
            handler.close_connection = True
            return True
        begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        return reply(handler, 206, data[begin:], Content_Range=f"bytes {begin}-{len(data) - 1}/{len(data)}")

    with serving_web(Web(published, misbehave)) as web:
        assert take(tmp_path / "b", web.address)[0].manifest.version == "1.10.0"
        assert store_of(tmp_path / "b").read("pets").header.version == "1.10.0"


def endless(handler: BaseHTTPRequestHandler) -> bool:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" " * 65536)
    except OSError:
        return True


BOMB = gzip.compress(bytes(100_000_000))
WEB_FAULTS: dict[str, tuple[Callable[[BaseHTTPRequestHandler], bool], str, int]] = {
    "down": (lambda h: reply(h, 500), r"\(HTTP 500\)", 3),
    "forbidden": (lambda h: reply(h, 403), r"\(HTTP 403\)", 1),
    "endless": (endless, "more than the 65536 bytes", 1),
    "badly compressed": (lambda h: reply(h, 200, b"x", Content_Encoding="gzip"), "cannot read", 3),
    "compressed unknown": (lambda h: reply(h, 200, b"x", Content_Encoding="br"), "cannot read", 3),
    "cut compressed": (lambda h: reply(h, 200, gzip.compress(b" " * 99)[:-9], Content_Encoding="gzip"), "broke", 3),
    "a bomb": (lambda h: reply(h, 200, BOMB, Content_Encoding="gzip"), "more than the 65536 bytes", 1),
    "a part unasked": (lambda h: reply(h, 206, b"x", Content_Range="bytes 0-0/9"), "cannot read", 3),
    "to a file": (lambda h: reply(h, 302, Location="file:///etc/passwd"), "HTTP 302", 1),
    "to a password": (lambda h: reply(h, 302, Location="http://u:p@127.0.0.1:9/"), "HTTP 302", 1),
    "to no address": (lambda h: reply(h, 302, Location="http://["), "HTTP 302", 1),
    "to no name": (lambda h: reply(h, 302, Location=f"http://{'a' * 70}.com/"), "HTTP 302", 1),
    "in circles": (lambda h: reply(h, 302, Location=h.path), "HTTP 302", 5),
    "many headers": (lambda h: reply(h, 200, b"{}", **{f"X-{n}": "y" for n in range(200)}), "cannot read", 3),
    "no HTTP": (lambda h: bool(h.wfile.write(b"hello\r\n\r\n")), "cannot read", 3),
}


@pytest.mark.parametrize("kind", WEB_FAULTS)
def test_web_servers_that_misbehave(
    kind: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abs_core.http._PAUSES", (0.01, 0.01))
    answer, problem, requests = WEB_FAULTS[kind]
    with serving_web(Web(published, lambda handler, number: answer(handler))) as web:
        with pytest.raises(AbsError, match=problem) as refused:
            take(tmp_path / "b", web.address, "pets@1.0.0")
        assert len(web.requests) == requests
    assert "u:p@" not in str(refused.value)
    assert not (tmp_path / "b").exists()


def test_a_host_that_can_be_none_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_core.http._PAUSES", ())
    with pytest.raises(StorageError, match=r"cannot read http://a\.\.b/x"):
        Repository.open("http://a..b/x").catalogue()


def test_a_redirect_to_another_web_address_is_followed(published: Path, tmp_path: Path) -> None:
    with serving_web(Web(published, lambda handler, number: False)) as there:

        def misbehave(handler: BaseHTTPRequestHandler, number: int) -> bool:
            return reply(handler, 302, Location=f"{there.address}{handler.path}?X-Amz-Signature=SECRET")

        with serving_web(Web(published, misbehave)) as web:
            assert take(tmp_path / "b", web.address, "pets@1.0.0")[0].is_new
    assert "SECRET" not in "".join(path.read_text() for path in (tmp_path / "b").rglob("*") if path.is_file())


def test_a_pull_that_is_interrupted_leaves_nothing(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def misbehave(handler: BaseHTTPRequestHandler, number: int) -> bool:
        if not handler.path.startswith("/objects/") or go_on.is_set():
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", "3000")
        handler.end_headers()
        handler.wfile.write(b"{")
        handler.wfile.flush()
        reached.set()
        return go_on.wait(30)

    root = store_of(tmp_path / "b").root
    with serving_web(Web(published, misbehave)) as web:
        for stop in (signal.SIGINT, signal.SIGKILL):
            reached.clear()
            puller = python(_PULL, {}, str(root), web.address)
            assert reached.wait(30)
            puller.send_signal(stop)
            puller.communicate()
            left = [path.name for path in root.iterdir()]
            assert left == [] if stop == signal.SIGINT else left[0].startswith(".pull-")
        go_on.set()
        later = time.time() + 2 * 86400
        monkeypatch.setattr(time, "time", lambda: later)
        assert take(tmp_path / "b", web.address)[0].is_new
        assert sorted(path.name for path in root.iterdir()) == ["objects", "pulls.jsonl", "versions"]


_PULL = """
import sys
from pathlib import Path
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.sharing import copy_bundles
copy_bundles("pets", Repository.open(sys.argv[2]), Repository.local(Path(sys.argv[1])))
"""
