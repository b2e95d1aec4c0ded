"""Reading ahead: in order, a few items ahead and no more, across calls; and digests remembered step by step."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from abs_cli.memo import DigestMemo
from abs_cli.reading import ReadAhead
from abs_core.canonical import sha256_bytes
from abs_core.errors import StorageError


class Work:
    """Notes what was begun; fails on what it is told to."""

    def __init__(self, *bad: int) -> None:
        self.begun: list[int] = []
        self._bad, self._lock = bad, threading.Lock()

    def __call__(self, item: int) -> int:
        with self._lock:
            self.begun.append(item)
        if item in self._bad:
            raise ValueError(item)
        time.sleep(0.001 * (item % 3))
        return 10 * item


def settle(work: Work, count: int) -> None:
    """Wait until as many were begun, and a little longer for any that should not be."""
    until = time.monotonic() + 5
    while len(work.begun) < count and time.monotonic() < until:
        time.sleep(0.002)
    time.sleep(0.02)


def test_results_come_in_order_and_few_items_are_begun_ahead() -> None:
    work = Work()
    results = ReadAhead(work, 2).take(range(100))
    assert next(results) == 0
    settle(work, 9)
    assert sorted(work.begun) == list(range(9))
    assert list(results) == [10 * item for item in range(1, 100)]
    assert sorted(work.begun) == list(range(100))


def test_the_next_call_finds_its_first_items_begun_and_foreign_ones_are_dropped() -> None:
    work = Work()
    reader = ReadAhead(work, 2)
    assert list(reader.take([0, 1], then=range(2, 50))) == [0, 10]
    settle(work, 10)
    assert sorted(work.begun) == list(range(10))
    assert list(reader.take([2, 3, 4])) == [20, 30, 40]
    assert [work.begun.count(item) for item in (2, 3, 4)] == [1, 1, 1]
    assert list(reader.take([9])) == [90]
    assert work.begun.count(9) == 2


def test_an_item_that_fails_is_tried_again_and_its_neighbours_are_not() -> None:
    work = Work(1)
    reader = ReadAhead(work, 2)
    results = reader.take([0, 1, 2])
    assert next(results) == 0
    with pytest.raises(ValueError, match="1"):
        next(results)
    assert list(reader.take([0, 2])) == [0, 20]
    assert work.begun.count(2) == 1
    with pytest.raises(ValueError, match="1"):
        list(reader.take([1]))


def test_an_item_that_comes_twice_gives_two_results() -> None:
    assert list(ReadAhead(Work(), 2).take([3, 3, 4, 3])) == [30, 30, 40, 30]


def test_digests_are_those_of_the_files_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_cli.memo._AT_ONCE", 3)
    paths = [tmp_path / f"{number}.bin" for number in range(10)]
    for number, path in enumerate(paths):
        path.write_bytes(b"x" * number)
    expected = [sha256_bytes(b"x" * number) for number in range(10)]
    memo = DigestMemo(tmp_path / "cache")
    assert memo.files(paths[::-1]) == expected[::-1]
    # the same size and time again, so a digest that comes from the file would be another
    stamps = [path.stat() for path in paths]
    for path, status in zip(paths, stamps, strict=True):
        path.write_bytes(b"y" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert DigestMemo(tmp_path / "cache").files(paths) == expected


def test_a_file_that_cannot_be_read_leaves_the_steps_before_it_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abs_cli.memo._AT_ONCE", 2)
    paths = [tmp_path / f"{number}.bin" for number in range(4)]
    for path in paths[:3]:
        path.write_bytes(path.name.encode())
    memo = DigestMemo(tmp_path / "cache")
    with pytest.raises(StorageError, match=r"3\.bin"):
        memo.files(paths)
    status = paths[0].stat()
    paths[0].write_bytes(b"5.bin")
    os.utime(paths[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert memo.file(paths[0]) == sha256_bytes(b"0.bin")
