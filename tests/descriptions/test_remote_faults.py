"""Sharing bundles with places that lie, break off, refuse or are killed at the wrong moment: nothing false enters."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from bucket_server import Bucket, serving_s3
from hub_server import Hub, commit_name, serving_hub
from sharing import (
    SECRETS,
    add,
    enter_environment,
    hub_environment,
    python,
    s3_environment,
    send,
    store_of,
    take,
)
from web import reply, serve_on_loopback

from abs_core.canonical import canonical_json
from abs_core.errors import AbsError, BundleError, StorageError, UnknownNameError, UsageError
from abs_descriptions.bundles.manifest import manifest_path, yank_path
from abs_descriptions.bundles.repository import MAX_BYTES, Repository


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    return partial(enter_environment, monkeypatch)


def test_an_error_of_a_parent_names_what_travelled(tmp_path: Path) -> None:
    ours, theirs, shared = tmp_path / "a", tmp_path / "b", tmp_path / "shared"
    child = add(ours, "New.", "1.1.0", parents=[str(add(ours, "Old."))])
    add(theirs, "Another.")
    send(theirs, shared)
    with pytest.raises(BundleError, match=f"; copied before that: {child}"):
        send(ours, shared, with_parents=True)
    (tmp_path / "c").mkdir()
    send(ours, tmp_path / "c", with_parents=True)
    with pytest.raises(BundleError, match=f"; copied before that: {child}"):
        take(theirs, tmp_path / "c", with_parents=True)


def test_a_pull_gives_the_reason_of_a_yank_that_only_the_store_has(tmp_path: Path) -> None:
    home, shared = tmp_path / "a", tmp_path / "shared"
    entry = add(home)
    send(home, shared)
    store_of(home).yank(str(entry), "no cats")
    [again] = take(home, shared, str(entry))
    assert (again.is_new, again.yanked) == (False, "no cats")
    other = add(tmp_path / "b")
    store_of(tmp_path / "b").yank(str(other), "wrong cats")
    send(tmp_path / "b", shared, str(other))
    [both] = take(home, shared, str(entry))
    assert both.yanked == "wrong cats; no cats"


# --- places that lie ---


def rewrite(shared: Path, **changes: Any) -> None:
    path = shared / manifest_path("pets", "1.0.0")
    path.write_text(canonical_json(json.loads(path.read_text()) | changes) + "\n")


def deliver(shared: Path, data: bytes) -> None:
    """Announce other bytes as pets@1.0.0, with their own digest."""
    hexadecimal = hashlib.sha256(data).hexdigest()
    path = shared / "objects" / "sha256" / hexadecimal[:2] / f"{hexadecimal}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    rewrite(shared, digest=f"sha256:{hexadecimal}", size=len(data))


def bundle_bytes(shared: Path) -> bytes:
    return next(path for path in shared.rglob("*.jsonl") if ".rejected" not in path.name).read_bytes()


def write_manifest(shared: Path, data: bytes) -> None:
    (shared / manifest_path("pets", "1.0.0")).write_bytes(data)


def replace_object(shared: Path, change: Callable[[Path], object]) -> None:
    path = next(path for path in shared.rglob("*.jsonl") if ".rejected" not in path.name)
    path.unlink()
    change(path)


LIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no JSON": (lambda s: write_manifest(s, b"<html>"), "the manifest is broken"),
    "not UTF-8": (lambda s: write_manifest(s, b'{"name": "\xff"}'), "the manifest is broken"),
    "deep JSON": (lambda s: write_manifest(s, b"[" * 60_000), "the manifest is broken"),
    "a huge manifest": (lambda s: write_manifest(s, b" " * 100_000), "more than the 65536 bytes"),
    "a climbing name": (lambda s: rewrite(s, name="../../x"), "the manifest is broken"),
    "another version": (lambda s: rewrite(s, version="9.0.0"), "the manifest is broken"),
    "an unknown key": (lambda s: rewrite(s, path="/etc/passwd"), "the manifest is broken"),
    "a climbing digest": (lambda s: rewrite(s, digest="sha256:../../x"), "the manifest is broken"),
    "a size of text": (lambda s: rewrite(s, size="1"), "the manifest is broken"),
    "a negative size": (lambda s: rewrite(s, size=-1), "the manifest is broken"),
    "an absurd size": (lambda s: rewrite(s, size=MAX_BYTES + 1), f"more than {MAX_BYTES}"),
    "a size too small": (lambda s: rewrite(s, size=10), "more than the 10 bytes"),
    "another digest": (lambda s: rewrite(s, digest="sha256:" + "0" * 64), "lacks its bytes"),
    "false counts": (lambda s: rewrite(s, counts={"classes": 9, "records": 9, "rejected": 1}), "misreports them"),
    "false date": (lambda s: rewrite(s, created="now"), "misreports them"),
    "bytes that changed": (
        lambda s: replace_object(s, lambda p: p.write_bytes(b'{"text":"A dog."}')),
        "has the digest",
    ),
    "a folder": (lambda s: replace_object(s, lambda p: p.mkdir()), "no regular file"),
    "a pipe": (lambda s: replace_object(s, os.mkfifo), "no regular file"),
    "a device": (lambda s: replace_object(s, lambda p: p.symlink_to("/dev/zero")), "no regular file"),
    "no bundle": (lambda s: deliver(s, b"hello\n"), "line 1"),
    "deep records": (lambda s: deliver(s, bundle_bytes(s) + b"[" * 100_000 + b"\n"), "line 3"),
    "a torn bundle": (lambda s: deliver(s, bundle_bytes(s)[:-9]), "line 2"),
    "another bundle": (lambda s: deliver(s, bundle_bytes(s).replace(b'"pets"', b'"bets"')), "names the bytes of bets@"),
    "a long line": (lambda s: deliver(s, bundle_bytes(s) + b'"' + b"x" * 2_000_000), "line 3"),
    "other rejections": (lambda s: next(s.rglob("*.rejected.jsonl")).write_bytes(b"{}\n"), "has the digest"),
    "a broken yank": (lambda s: (s / yank_path("pets", "1.0.0")).write_bytes(b"{}"), "the yank is broken"),
}


@pytest.mark.parametrize("lie", LIES)
def test_nothing_enters_from_a_place_that_lies(lie: str, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    add(tmp_path / "a")
    send(tmp_path / "a", shared)
    store_of(tmp_path / "b").root.mkdir(parents=True)
    change, fault = LIES[lie]
    change(shared)
    began = time.monotonic()
    with pytest.raises(AbsError, match=fault) as refused:
        take(tmp_path / "b", shared, "pets@1.0.0")
    assert time.monotonic() - began < 5
    assert len(str(refused.value)) < 1000
    assert list(store_of(tmp_path / "b").root.rglob("*")) == []


def test_a_bundle_larger_than_the_disk_is_not_begun(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abs_descriptions.bundles.repository.MAX_BYTES", 10**18)
    rewrite(published, size=10**17)
    with pytest.raises(StorageError, match="more than are free"):
        take(tmp_path / "b", published, "pets@1.0.0")
    assert list(store_of(tmp_path / "b").root.iterdir()) == []


# --- S3 ---


def test_the_manifest_is_written_last_and_conditionally(tmp_path: Path, enter: Callable[..., None]) -> None:
    entry = add(tmp_path / "a")
    with serving_s3(Bucket()) as bucket:
        enter(s3_environment(bucket))
        send(tmp_path / "a", "s3://team/x")
    writes = [request for request in bucket.requests if request.startswith("PUT /team/")]
    assert writes == [
        "PUT /team/x/conditional-write *",
        "PUT /team/x/conditional-write *",
        f"PUT /team/x/{entry.rejected_path}",
        f"PUT /team/x/{entry.object_path}",
        "PUT /team/x/versions/pets/1.0.0.json *",
    ]


def test_a_server_that_ignores_conditions_is_refused(tmp_path: Path, enter: Callable[..., None]) -> None:
    add(tmp_path / "a")
    with serving_s3(Bucket(honours_conditions=False)) as bucket:
        enter(s3_environment(bucket))
        with pytest.raises(StorageError, match="does not honour conditional writes"):
            send(tmp_path / "a", "s3://team/x")
    assert not any("versions" in request or "objects" in request for request in bucket.requests)


@pytest.mark.parametrize("at", ["objects", "versions"])
def test_a_push_that_is_killed_announces_nothing(at: str, tmp_path: Path, enter: Callable[..., None]) -> None:
    entry = add(tmp_path / "a")
    reached, go_on = threading.Event(), threading.Event()

    def before(method: str, path: str) -> None:
        if method == "PUT" and f"/{at}/" in path and not reached.is_set():
            reached.set()
            go_on.wait(30)
            raise ConnectionAbortedError("the client is gone")

    with serving_s3(Bucket(before=before)) as bucket:
        environment = s3_environment(bucket)
        enter(environment)
        pusher = python(_PUSH, environment, str(tmp_path / "a" / "bundles"), "s3://team/x")
        assert reached.wait(30)
        pusher.kill()
        pusher.communicate()
        go_on.set()
        remote = Repository.open("s3://team/x")
        assert remote.catalogue().entries == []
        assert send(tmp_path / "a", remote)[0].is_new
        assert take(tmp_path / "b", remote)[0].manifest == entry


_PUSH = """
import sys
from pathlib import Path
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.sharing import copy_bundles
copy_bundles("pets", Repository.local(Path(sys.argv[1])), Repository.open(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}, "no credentials"),
        ({"BUCKET": "nobody"}, "there is no such bucket"),
    ],
)
def test_what_keeps_a_bucket_from_us_is_said(
    change: dict[str, str], fault: str, tmp_path: Path, enter: Callable[..., None]
) -> None:
    add(tmp_path / "a")
    with serving_s3(Bucket()) as bucket:
        enter(s3_environment(bucket) | change)
        with pytest.raises(StorageError, match=fault) as refused:
            send(tmp_path / "a", f"s3://{change.get('BUCKET', 'team')}/x")
    assert refused.value.remedy
    assert refused.value.__suppress_context__
    assert not any(secret in str(refused.value) for secret in SECRETS)


# --- the hub ---


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the hub's client about itself
def test_a_pull_belongs_to_one_commit(tmp_path: Path, enter: Callable[..., None]) -> None:
    add(tmp_path / "a")
    add(tmp_path / "a", "Another cat. " + "It goes on." * 100, "1.1.0")
    with serving_hub(Hub(datasets={"org/pets": [{}]})) as hub:
        enter(hub_environment(hub, tmp_path))
        send(tmp_path / "a", "hf://datasets/org/pets", "pets@1.0.0")
        old = commit_name("org/pets", 1)
        send(tmp_path / "a", "hf://datasets/org/pets", "pets@1.1.0")
        assert hub.lfs  # the longer one went up as a large file
        assert take(tmp_path / "b", f"hf://datasets/org/pets@{old}")[0].manifest.version == "1.0.0"
        assert take(tmp_path / "b", "hf://datasets/org/pets")[0].manifest.version == "1.1.0"
        with pytest.raises(UsageError, match="is a commit, which cannot change"):
            send(tmp_path / "a", f"hf://datasets/org/pets@{old}")
        with pytest.raises(StorageError, match="no such revision"):
            take(tmp_path / "b", "hf://datasets/org/pets@v9")
        with pytest.raises(StorageError, match="no such repository, or not for you"):
            take(tmp_path / "b", "hf://datasets/org/dogs")
        with pytest.raises(StorageError, match="no such repository, or not for you"):
            send(tmp_path / "a", "hf://datasets/org/dogs")
    records = [json.loads(line) for line in (tmp_path / "b" / "bundles" / "pulls.jsonl").read_text().splitlines()]
    assert [record["from"] for record in records] == [
        f"hf://datasets/org/pets@{commit_name('org/pets', number)}" for number in (1, 2)
    ]


def test_a_repository_that_ignores_bundles_is_noticed(tmp_path: Path, enter: Callable[..., None]) -> None:
    add(tmp_path / "a")
    with serving_hub(Hub(datasets={"org/pets": [{}]}, ignored=".jsonl")) as hub:
        enter(hub_environment(hub, tmp_path))
        with pytest.raises(StorageError, match="lacks a part of what was pushed"):
            send(tmp_path / "a", "hf://datasets/org/pets")


# --- web servers ---


class Web:
    """A web server over a folder that can misbehave: ``fault`` sees each request first and says whether it answered."""

    def __init__(self, folder: Path, fault: Callable[[BaseHTTPRequestHandler, int], bool]) -> None:
        self.folder, self.fault = folder, fault
        self.requests: list[str] = []
        self.address = ""


@contextmanager
def serving_web(web: Web) -> Iterator[Web]:
    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            web.requests.append(self.path)
            if not web.fault(self, len(web.requests)):
                super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with serve_on_loopback(partial(Handler, directory=str(web.folder))) as web.address:
        yield web


@pytest.fixture
def published(tmp_path: Path) -> Path:
    add(tmp_path / "a")
    add(tmp_path / "a", "A newer cat. " + "It goes on." * 300, "1.10.0")
    for version in ("1.0.0", "1.10.0"):
        send(tmp_path / "a", tmp_path / "shared", f"pets@{version}")
    return tmp_path / "shared"


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
    def fault(handler: BaseHTTPRequestHandler, number: int) -> bool:
        return handler.path.endswith("/") and reply(handler, 404)

    with serving_web(Web(published, fault)) as web:
        assert take(tmp_path / "b", web.address, "pets@1.0.0")[0].is_new
        with pytest.raises(UsageError, match="shows no index of versions/pets/"):
            take(tmp_path / "b", web.address)
        with pytest.raises(UnknownNameError, match="valid: none yet"):
            take(tmp_path / "b", web.address, "pets@9.0.0")


def test_what_broke_off_goes_on_where_it_ended(published: Path, tmp_path: Path) -> None:
    def fault(handler: BaseHTTPRequestHandler, number: int) -> bool:
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

    with serving_web(Web(published, fault)) as web:
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


WEB_FAULTS: dict[str, tuple[Callable[[BaseHTTPRequestHandler], bool], str, int]] = {
    "down": (lambda h: reply(h, 500), r"\(HTTP 500\)", 3),
    "forbidden": (lambda h: reply(h, 403), r"\(HTTP 403\)", 1),
    "endless": (endless, "more than the 65536 bytes", 1),
    "compressed": (lambda h: reply(h, 200, b"x", Content_Encoding="gzip"), "cannot read", 3),
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
    answer, fault, requests = WEB_FAULTS[kind]
    with serving_web(Web(published, lambda handler, number: answer(handler))) as web:
        with pytest.raises(AbsError, match=fault) as refused:
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

        def fault(handler: BaseHTTPRequestHandler, number: int) -> bool:
            return reply(handler, 302, Location=f"{there.address}{handler.path}?X-Amz-Signature=SECRET")

        with serving_web(Web(published, fault)) as web:
            assert take(tmp_path / "b", web.address, "pets@1.0.0")[0].is_new
    assert "SECRET" not in "".join(path.read_text() for path in (tmp_path / "b").rglob("*") if path.is_file())


def test_a_pull_that_is_interrupted_leaves_nothing(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def fault(handler: BaseHTTPRequestHandler, number: int) -> bool:
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
    with serving_web(Web(published, fault)) as web:
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


_PULL = _PUSH.replace(
    "Repository.local(Path(sys.argv[1])), Repository.open(sys.argv[2])",
    "Repository.open(sys.argv[2]), Repository.local(Path(sys.argv[1]))",
)
