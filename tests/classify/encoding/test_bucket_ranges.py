"""Parts of objects: which requests they cost, and that the bytes are the right ones."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from abs_classify.encoding import bucket_ranges
from abs_classify.encoding.bucket_ranges import FetchedRanges, RangeReader, WantedRanges
from abs_core.buckets import Bucket

DATA = np.random.default_rng(0).bytes(1000)


class CountingBucket:
    """Bytes in memory, with the ranges that were asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def read(self, path: str, start: int, end: int) -> bytes:
        if path != "there":
            raise FileNotFoundError(path)
        self.asked.append((start, end))
        return DATA[start:end]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> CountingBucket:
    for name, value in {"_GAP": 10, "_LONGEST": 400, "_FIRST_AHEAD": 50, "_MOST_AHEAD": 200}.items():
        monkeypatch.setattr(bucket_ranges, name, value)
    return CountingBucket()


def read(reader: RangeReader, *spans: tuple[int, int]) -> None:
    [stream] = reader.fetch([WantedRanges("there", len(DATA), 20, spans)])
    assert stream is not None
    for start, end in spans:
        buffer = bytearray(end - start)
        assert stream.seek(start) == start
        assert stream.readinto(memoryview(buffer)) == end - start
        assert bytes(buffer) == DATA[start:end]


def test_neighbours_come_in_one_request_and_large_parts_in_several(bucket: CountingBucket) -> None:
    reader = RangeReader(cast("Bucket", bucket))
    read(reader, (100, 110), (118, 130), (300, 310))
    assert bucket.asked == [(100, 130), (300, 310)]
    bucket.asked.clear()
    read(reader, (400, 900))
    assert sorted(bucket.asked) == [(400, 800), (800, 900)]


def test_more_is_read_ahead_of_whoever_goes_on(bucket: CountingBucket) -> None:
    reader = RangeReader(cast("Bucket", bucket))
    for start in range(20, 1000, 20):
        read(reader, (start, start + 20))
    assert bucket.asked == [(20, 90), (90, 200), (200, 420), (420, 640), (640, 860), (860, 1000)]


def test_nothing_is_read_ahead_of_whoever_jumps(bucket: CountingBucket) -> None:
    reader = RangeReader(cast("Bucket", bucket))
    for start in (500, 100, 700, 300):
        read(reader, (start, start + 20))
    assert bucket.asked == [(500, 520), (100, 120), (700, 720), (300, 320)]


@pytest.mark.parametrize("seed", range(20))
def test_any_parts_in_any_order(bucket: CountingBucket, seed: int) -> None:
    random = np.random.default_rng(seed)
    reader = RangeReader(cast("Bucket", bucket))
    for _ in range(20):
        starts = np.sort(random.integers(0, 950, random.integers(1, 6)))
        read(reader, *((int(start), int(start + random.integers(1, 50))) for start in starts))


def test_what_is_gone_and_what_was_not_asked_for(bucket: CountingBucket) -> None:
    reader = RangeReader(cast("Bucket", bucket))
    wanted = [WantedRanges(path, 1000, 20, [(100, 120)]) for path in ("gone", "there")]
    gone, there = reader.fetch(wanted)
    assert gone is None
    assert there is not None
    there.seek(115)
    assert there.readinto(memoryview(bytearray(20))) == 5
    assert there.seek(0, 2) == 1000
    assert FetchedRanges([], 7).readinto(memoryview(bytearray(1))) == 0
