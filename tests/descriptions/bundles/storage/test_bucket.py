"""Buckets: conditional writes, pushes that are killed, and servers that refuse."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from bucket_server import Bucket, serving_s3
from sharing import (
    SECRETS,
    add,
    python,
    s3_environment,
    send,
    take,
)
from web import reply, serve_on_loopback

from abs_core import buckets
from abs_core.errors import StorageError
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.storage import bucket as bucket_storage

# --- S3 ---


pytestmark = pytest.mark.faults


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


def test_an_old_object_is_written_again_unless_its_manifest_keeps_it(
    tmp_path: Path, enter: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = add(tmp_path / "a")
    with serving_s3(Bucket()) as bucket:
        enter(s3_environment(bucket))
        place = Repository.open("s3://team/x")

        def written_by_a_push() -> bool:
            bucket.requests.clear()
            send(tmp_path / "a", place)
            return f"PUT /team/x/{entry.object_path}" in bucket.requests

        assert written_by_a_push()
        monkeypatch.setattr(bucket_storage, "_YOUNG", -1.0)
        assert not written_by_a_push()
        place.storage.delete(place.storage.files("versions"))
        assert written_by_a_push()
        place.storage.delete(place.storage.files("versions"))
        monkeypatch.setattr(bucket_storage, "_YOUNG", 600.0)
        assert not written_by_a_push()


async def refuse_each(*args: object) -> list[str]:
    """As s3fs answers where the service refuses each file: it says of none why."""
    return []


def test_files_that_the_service_keeps_are_said(
    tmp_path: Path, enter: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path / "a")
    with serving_s3(Bucket()) as bucket:
        enter(s3_environment(bucket))
        place = Repository.open("s3://team/x")
        send(tmp_path / "a", place)
        monkeypatch.setattr("s3fs.S3FileSystem._bulk_delete", refuse_each)
        with pytest.raises(StorageError, match=r"2 of 2 files could not be removed from s3://team/x, such as objects/"):
            place.storage.delete(place.storage.files("objects"))


def test_a_server_that_ignores_conditions_is_refused(tmp_path: Path, enter: Callable[..., None]) -> None:
    add(tmp_path / "a")
    with serving_s3(Bucket(honours_conditions=False)) as bucket:
        enter(s3_environment(bucket))
        with pytest.raises(StorageError, match="does not honour conditional writes"):
            send(tmp_path / "a", "s3://team/x")
    assert not any("versions" in request or "objects" in request for request in bucket.requests)


@pytest.mark.parametrize("folder", ["objects", "versions"])
@pytest.mark.slow
def test_a_push_that_is_killed_announces_nothing(folder: str, tmp_path: Path, enter: Callable[..., None]) -> None:
    entry = add(tmp_path / "a")
    reached, go_on = threading.Event(), threading.Event()

    def before(method: str, path: str) -> None:
        if method == "PUT" and f"/{folder}/" in path and not reached.is_set():
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}, "no credentials"),
        ({"BUCKET": "nobody"}, "there is no such bucket"),
    ],
)
def test_what_keeps_a_bucket_from_us_is_said(
    change: dict[str, str], problem: str, tmp_path: Path, enter: Callable[..., None]
) -> None:
    add(tmp_path / "a")
    with serving_s3(Bucket()) as bucket:
        enter(s3_environment(bucket) | change)
        with pytest.raises(StorageError, match=problem) as refused:
            send(tmp_path / "a", f"s3://{change.get('BUCKET', 'team')}/x")
    assert refused.value.remedy
    assert refused.value.__suppress_context__
    assert not any(secret in str(refused.value) for secret in SECRETS)


def refusing(code: str, status: int, **headers: str) -> Callable[..., BaseHTTPRequestHandler]:
    """A server that answers every request as S3 does when it refuses."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>secret words</Message></Error>".encode()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reply(self, status, b"" if self.command == "HEAD" else body, Content_Type="application/xml", **headers)

        do_GET = do_HEAD = answer  # noqa: N815

    return Handler


@pytest.mark.parametrize(
    ("code", "status", "headers", "problem", "remedy"),
    [
        ("NoSuchBucket", 404, {}, "there is no such bucket", "Create it"),
        ("ExpiredToken", 400, {}, "the credentials have expired", "aws sso login"),
        ("InvalidAccessKeyId", 403, {}, "the access key does not exist there", "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", 403, {}, "the secret key does not fit", "AWS_SECRET_ACCESS_KEY"),
        ("AccessDenied", 403, {}, "access was refused", "rights"),
        ("SlowDown", 503, {}, "it is busy", "Try again later"),
        ("RequestTimeTooSkewed", 403, {}, "the clock of this machine is wrong", "Set it"),
        ("PermanentRedirect", 301, {"x-amz-bucket-region": "eu-west-1"}, "in the region eu-west-1", "=eu-west-1"),
        ("AuthorizationHeaderMalformed", 400, {"x-amz-bucket-region": "eu-west-1"}, "eu-west-1", "=eu-west-1"),
    ],
)
def test_the_name_that_the_service_gives_its_refusal_is_said(
    code: str,
    status: int,
    headers: dict[str, str],
    problem: str,
    remedy: str,
    tmp_path: Path,
    enter: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(buckets, "_RETRIES", {"max_attempts": 1, "mode": "standard"})
    with serve_on_loopback(refusing(code, status, **headers)) as address:
        enter(s3_environment(Bucket(address=address)))
        with pytest.raises(
            StorageError, match=rf"cannot read s3://team/x: .*{problem}.* \({code}, HTTP {status}\)"
        ) as refused:
            take(tmp_path / "a", "s3://team/x")
    assert remedy in refused.value.remedy
    assert "secret words" not in str(refused.value)


def test_an_empty_folder_of_a_bucket_is_no_missing_bucket(tmp_path: Path, enter: Callable[..., None]) -> None:
    with serving_s3(Bucket()) as bucket:
        enter(s3_environment(bucket))
        assert Repository.open("s3://team/x").names() == []
        with pytest.raises(StorageError, match="there is no such bucket"):
            Repository.open("s3://nobody/x").names()


def test_a_bucket_that_asks_for_fewer_requests_is_asked_again(
    enter: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_RETRIES", {"max_attempts": 2, "mode": "standard"})
    asked: list[str] = []

    class Busy(refusing("SlowDown", 503)):  # type: ignore[misc]
        def answer(self) -> None:
            asked.append(self.path)
            super().answer()

        do_GET = do_HEAD = answer  # noqa: N815

    with serve_on_loopback(Busy) as address:
        enter(s3_environment(Bucket(address=address)))
        with pytest.raises(StorageError, match="SlowDown"):
            Repository.open("s3://team/x").names()
    assert len(asked) >= 2
