"""Servers that compress unasked, and servers that break off: what is read is whole, and nothing takes for ever."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from web import reply, serve_on_loopback

from abs_core import http
from abs_core.errors import DownloadError
from abs_core.http import download

LIMIT = 10_000_000


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_PAUSES", (0.01, 0.01))


@contextmanager
def serving(data: bytes, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """A server with one answer; its address, and what it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            paths.append(self.path)
            reply(self, 200, data, **headers)

    handler: Callable[..., BaseHTTPRequestHandler] = Handler
    with serve_on_loopback(handler) as address:
        yield address, paths


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, gzip"])
def test_an_answer_that_is_badly_or_strangely_compressed_is_refused(tmp_path: Path, encoding: str) -> None:
    with serving(b"not compressed at all", Content_Encoding=encoding) as (address, paths):
        with pytest.raises(DownloadError, match="no proper answer"):
            download(f"{address}/file", tmp_path / "file", max_bytes=LIMIT)
        assert len(paths) == 3
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_is_compressed_unasked_is_read(tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    with serving(gzip.compress(data), Content_Encoding="gzip") as (address, _):
        assert download(f"{address}/file", tmp_path / "file", max_bytes=len(data))
        assert (tmp_path / "file").read_bytes() == data
        with pytest.raises(DownloadError, match="more than the 1000 bytes"):
            download(f"{address}/file", tmp_path / "other", max_bytes=1000)


def test_a_gzip_file_that_the_server_calls_an_encoding_stays_as_it_is(tmp_path: Path) -> None:
    data = gzip.compress(b"a file of a data set")
    with serving(data, Content_Encoding="x-gzip") as (address, _):
        assert download(f"{address}/set.tar.gz", tmp_path / "file", max_bytes=LIMIT)
    assert (tmp_path / "file").read_bytes() == data


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_server_that_always_breaks_off_at_one_place_is_not_asked_for_ever(tmp_path: Path, encoding: str) -> None:
    data = b"a line\n" * 1000 if encoding == "identity" else gzip.compress(b"a line\n" * 1000)
    headers = {"Content-Length": str(len(data)), "Connection": "close", "Content-Encoding": encoding}
    with serving(data[: len(data) // 2], **headers) as (address, paths):
        with pytest.raises(DownloadError, match="it broke off"):
            download(f"{address}/file", tmp_path / "file", max_bytes=LIMIT)
        assert len(paths) == 3
