"""What tests of features in a bucket have in common: rows, stores of several homes, a server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from abs_classify.encoding.bucket_store import BucketStore
from abs_classify.encoding.feature_store import open_store
from abs_classify.encoding.spaces import FeatureStore, Segment, Space, text_id

PLACE = "s3://team/cache"
SPACE = Space("view-features", 4, {"seed": 1}, "a model")
IDS = [text_id(str(number)) for number in range(400)]
ROWS = np.random.default_rng(0).normal(size=(400, 6, 5)).astype(np.float32)

#: Credentials that must not be seen anywhere.
SECRETS = ("AKIAEXAMPLEEXAMPLE02", "aJalrXUtnFEMIsecretsecret")


def environment_of(address: str) -> dict[str, str]:
    """What leads clients to a server of S3 on this machine, and to nothing else."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": SECRETS[0],
        "AWS_SECRET_ACCESS_KEY": SECRETS[1],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def store_of(home: Path, place: str = PLACE, limit: float | None = None) -> BucketStore:
    """The store of a machine of its own."""
    store = open_store(place, index=home / "index", home=home / "cache", limit=limit)
    assert isinstance(store, BucketStore)
    return store


def segments(start: int, end: int, items: Sequence[int] = range(40)) -> list[Segment]:
    return [Segment(IDS[item], start, ROWS[item, start:end]) for item in items]


def assert_rows(store: FeatureStore, count: int, items: Sequence[int] = range(40)) -> None:
    loaded = store.load(SPACE, [IDS[item] for item in items])
    assert store.counts(SPACE, [IDS[item] for item in items]) == [count] * len(items)
    for item, rows in zip(items, loaded, strict=True):
        assert rows is not None
        np.testing.assert_array_equal(rows, ROWS[item, :count])


def put_packs(store: BucketStore, packs: int, items_each: int = 4) -> None:
    """Upload rows in several packs, one after the other."""
    for first in range(0, packs * items_each, items_each):
        store.append(SPACE, segments(0, 6, range(first, first + items_each)))
        assert store.flush()
