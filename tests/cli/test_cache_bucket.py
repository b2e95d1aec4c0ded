"""`abs cache` and `abs doctor` with a cache in a bucket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bucket_server import Bucket, serving_s3
from feature_buckets import PLACE, environment_of, put_packs, store_of
from support import Abs


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with serving_s3(Bucket()) as server:
        for name, value in environment_of(server.address).items():
            monkeypatch.setenv(name, value)
        yield server


def test_every_command_takes_the_bucket(abs_command: Abs, tmp_path: Path, bucket: Bucket) -> None:
    put_packs(store_of(tmp_path), 2)
    listing = json.loads(abs_command("cache", "ls", "--json", "--cache", PLACE).out)
    assert (listing["folder"], [space["items"] for space in listing["spaces"]]) == (PLACE, [8])
    assert f"{PLACE}: can be written" in abs_command("--cache", PLACE, "doctor").out
    assert "48 sound, 0 damaged" in abs_command(f"--cache={PLACE}", "cache", "verify").out
    assert "removed 2 files" in abs_command("--cache", PLACE, "cache", "prune", "--max-size", "0").out
    assert "empty" in abs_command("--cache", PLACE, "cache", "ls").out
    refused = abs_command("--cache", "s3://nobody/x", "cache", "ls")
    assert refused.code == 2
    assert "cannot list s3://nobody/x: there is no such bucket" in refused.err
