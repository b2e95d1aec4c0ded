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
