"""What the feature store in a bucket costs: requests and bytes an image, and how a million items are found.

    python benchmarks/bucket_store.py [--images 2048] [--items 1000000] [--json]

The bucket is moto's, on loopback, and requests are counted there. ``cold`` adds what ``abs eval`` keeps of images,
shard by shard, with ``clip`` alone and with ``abs`` (50 views of each kind); ``warm`` reads it on the same machine, and
``elsewhere`` on one that has no index yet. ``items``: that number of items with one small row each, of which a machine
without an index, and one with, look 1,000 up.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from bucket_server import Bucket, serving_s3
from feature_buckets import environment_of, store_of

from abs_classify.encoding.bucket_store import BucketStore
from abs_classify.encoding.spaces import Segment, Space, text_id

SHARD = 32


class Traffic:
    """What a server was asked, and how many bytes went to and fro, since it was last told."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.sent = self.received = 0

    def follow(self, store: BucketStore) -> BucketStore:
        """Count the bytes of a store."""
        read, create = store._bucket.read, store._bucket.create

        def counting_read(path: str, start: int = 0, end: int | None = None) -> bytes:
            data = read(path, start, end)
            self.received += len(data)
            return data

        def counting_create(path: str, data: bytes) -> bool:
            self.sent += len(data)
            return create(path, data)

        store._bucket.read, store._bucket.create = counting_read, counting_create  # type: ignore[method-assign]
        return store

    def tell(self) -> dict[str, int]:
        """Requests by method, and bytes; counted anew from here on."""
        methods = Counter(
            "LIST" if request.startswith("GET /team") and request.count("/") == 1 else request.partition(" ")[0]
            for request in self._bucket.requests
        )
        told = {**methods, "requests": len(self._bucket.requests), "sent": self.sent, "received": self.received}
        self._bucket.requests.clear()
        self.sent = self.received = 0
        return told


@contextmanager
def serving() -> Iterator[tuple[Traffic, Path]]:
    with serving_s3(Bucket()) as bucket, tempfile.TemporaryDirectory() as folder:
        os.environ.update(environment_of(bucket.address))
        bucket.requests.clear()
        yield Traffic(bucket), Path(folder)


def kept(views: int) -> list[tuple[Space, np.ndarray]]:
    """The spaces of a run and what an image has in each: facts, its full image, with views also maps and two kinds."""
    rows = {"images": np.zeros((1, 12), np.uint8), "whole": np.zeros((1, 512), np.float32)}
    if views:
        rows["attention"] = np.zeros((1, 14, 14), np.float32)
        rows |= {kind: np.zeros((views, 512), np.float32) for kind in ("box", "window")}
    return [(Space(name, 1, {"benchmark": True}), values) for name, values in rows.items()]


def images(count: int, views: int) -> dict[str, dict[str, int]]:
    """Traffic of a cold and of warm runs over images."""
    shards = [[text_id(str(number)) for number in range(first, first + SHARD)] for first in range(0, count, SHARD)]
    results = {}
    with serving() as (traffic, folder):
        store = traffic.follow(store_of(folder / "one"))
        store.require_writable()
        for number, ids in enumerate(shards):
            for space, _ in kept(views):
                store.load(space, ids)
            with store.claim(str(number)):
                for space, values in kept(views):
                    store.append(space, [Segment(item, 0, values) for item in ids])
        assert store.flush()
        results["cold"] = traffic.tell()
        for name, home in (("warm", "one"), ("elsewhere", "other")):
            reader = traffic.follow(store_of(folder / home))
            for ids in shards:
                for space, values in kept(views):
                    assert all(rows is not None and rows.shape == values.shape for rows in reader.load(space, ids))
            reader.flush()
            results[name] = traffic.tell()
    return results


def items(count: int, at_once: int = 8192) -> dict[str, dict[str, float]]:
    """Traffic and seconds of finding items."""
    space, row = Space("images", 1, {"benchmark": True}), np.zeros((1, 16), np.uint8)
    results: dict[str, dict[str, float]] = {}
    with serving() as (traffic, folder):
        store = traffic.follow(store_of(folder / "one"))
        for first in range(0, count, at_once):
            numbers = range(first, min(count, first + at_once))
            store.append(space, [Segment(text_id(str(number)), 0, row) for number in numbers])
            store.flush()
        results["filled"] = dict(traffic.tell())
        some = [text_id(str(number)) for number in range(0, count, max(1, count // 1000))]
        for name in ("without an index", "with an index"):
            start = time.perf_counter()
            reader = traffic.follow(store_of(folder / "other"))
            assert reader.counts(space, some) == [1] * len(some)
            seconds = time.perf_counter() - start
            reader.flush()
            results[name] = {"seconds": seconds, **traffic.tell()}
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    results = {
        "clip": images(10 * options.images, 0),
        "abs": images(options.images, 50),
        "items": items(options.items),
    }
    if options.json:
        print(json.dumps(results))
        return
    for name, rows in results.items():
        for step, figures in rows.items():
            print(name, step, {key: round(value, 2) for key, value in figures.items()})


if __name__ == "__main__":
    main()
