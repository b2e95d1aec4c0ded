"""What a bucket answers where its client does not answer as usual."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from feature_buckets import environment_of

from abs_core import buckets
from abs_core.buckets import Bucket, open_bucket
from abs_core.errors import StorageError
from abs_core.locations import parse_location


def test_an_address_of_a_server_that_is_none_is_no_empty_object(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of("localhost:9000").items():  # without http://
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match="cannot read s3://team/cache"):
        open_bucket(parse_location("s3://team/cache")).read("features/space.json")


def test_objects_that_are_gone_keep_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    removed = []

    class Client:
        def rm(self, paths: Sequence[str]) -> None:
            if any(path.endswith("gone") for path in paths):
                raise FileNotFoundError(paths[0])
            removed.extend(paths)

    monkeypatch.setattr(buckets, "_MOST_REMOVED", 1)
    Bucket(parse_location("gs://team/cache"), Client()).remove(["gone", "there"])
    assert removed == ["team/cache/there"]


class ConflictingClient:
    """Answers writes with HTTP statuses, then takes one.

    Args:
        statuses: of the answers.
    """

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.written = 0

    def pipe_file(self, path: str, data: bytes, **options: object) -> None:
        if self.statuses:
            error = OSError(path)
            metadata = {"HTTPStatusCode": self.statuses.pop(0)}
            error.response = {"ResponseMetadata": metadata}  # type: ignore[attr-defined]
            raise error
        self.written += 1


@pytest.mark.parametrize(
    ("statuses", "is_created", "left"),
    [((409, 409), True, []), ((409, 412), False, []), ((412, 409), False, [409])],
)
def test_a_write_that_meets_another_one_is_tried_again(
    statuses: tuple[int, ...], is_created: bool, left: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_PAUSES", (0.0, 0.0, 0.0))
    client = ConflictingClient(*statuses)
    assert Bucket(parse_location("s3://team/cache"), client).create("claims/x", b"") is is_created
    assert (client.written, client.statuses) == (int(is_created), left)


def test_a_write_that_keeps_meeting_others_is_an_error_and_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "_PAUSES", (0.0, 0.0, 0.0))
    client = ConflictingClient(*[409] * 4)
    with pytest.raises(StorageError, match=r"others keep writing the same object \(HTTP 409\). Try again later"):
        Bucket(parse_location("s3://team/cache"), client).create("claims/x", b"")
    assert client.statuses == []
