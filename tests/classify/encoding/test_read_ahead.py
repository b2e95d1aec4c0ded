"""The read-ahead: in order, a little ahead and no more, across calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from abs_classify.encoding.read_ahead import ReadAhead


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


class Encode:
    """Takes a few ahead, as encoders do; notes what arrives and whether it was closed."""

    def __init__(self, ahead: int = 2) -> None:
        self.begun: list[int] = []
        self.ended = 0
        self._ahead = ahead

    def __call__(self, items: Iterator[int]) -> Generator[int, None, None]:
        waiting: list[int] = []
        try:
            for item in items:
                self.begun.append(item)
                waiting.append(item)
                if len(waiting) > self._ahead:
                    yield waiting.pop(0) + 1
            yield from (item + 1 for item in waiting)
        finally:
            self.ended += 1


def settle(work: Work, count: int) -> None:
    """Wait until as many were begun, and a little longer for any that should not be."""
    until = time.monotonic() + 60
    while len(work.begun) < count and time.monotonic() < until:
        time.sleep(0.002)
    time.sleep(0.02)


def results(items: Sequence[int]) -> list[int]:
    return [10 * item + 1 for item in items]


def test_results_come_in_order_and_each_item_is_read_and_encoded_once() -> None:
    read, encode = Work(), Encode()
    pipeline = ReadAhead(read, encode, 3)
    numbers = range(100)
    parts = [list(pipeline.take(numbers[at : at + 10], numbers[at + 10 : at + 20])) for at in range(0, 100, 10)]
    assert [result for part in parts for result in part] == results(numbers)
    assert sorted(read.begun) == list(numbers)
    assert encode.begun == [10 * number for number in numbers]
    assert encode.ended == 1


def test_a_few_items_of_the_next_call_are_begun_and_no_more() -> None:
    read, encode = Work(), Encode()
    pipeline = ReadAhead(read, encode, 2)
    assert list(pipeline.take([0, 1, 2], range(3, 60))) == results([0, 1, 2])
    settle(read, 12)
    # three taken, two ahead in the encoder, and seven or eight that are read
    assert encode.begun == [0, 10, 20, 30, 40]
    assert sorted(read.begun) in (list(range(12)), list(range(13)))
    pipeline.close()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_encoder_may_be_through_before_the_call_after_the_next_is_announced(size: int) -> None:
    read, numbers = Work(), range(21)
    pipeline = ReadAhead(read, Encode(ahead=5), 2)
    parts = [
        list(pipeline.take(numbers[at : at + size], numbers[at + size : at + 2 * size])) for at in range(0, 21, size)
    ]
    assert [result for part in parts for result in part] == results(numbers)
    assert sorted(read.begun) == list(numbers)


def test_without_a_next_call_everything_ends() -> None:
    before, encode = set(threading.enumerate()), Encode()
    pipeline = ReadAhead(Work(), encode, 2)
    assert list(pipeline.take([0, 1, 2])) == results([0, 1, 2])
    assert encode.ended == 1
    assert set(threading.enumerate()) <= before


def test_what_was_begun_for_nobody_is_dropped() -> None:
    before, read, encode = set(threading.enumerate()), Work(), Encode()
    pipeline = ReadAhead(read, encode, 2)
    assert list(pipeline.take([0, 1], range(2, 50))) == results([0, 1])
    assert list(pipeline.take([30, 31], [2])) == results([30, 31])
    assert (encode.ended, read.begun.count(49)) == (1, 0)
    pipeline.close()
    assert encode.ended == 2
    assert set(threading.enumerate()) <= before


def test_results_that_were_given_are_not_kept() -> None:
    read = Work()
    pipeline = ReadAhead(read, Encode(), 2)
    for _ in range(2):
        assert list(pipeline.take([0, 1])) == results([0, 1])
    assert sorted(read.begun) == [0, 0, 1, 1]


def test_what_is_closed_begins_anew() -> None:
    before, read = set(threading.enumerate()), Work()
    pipeline = ReadAhead(read, Encode(), 2)
    assert list(pipeline.take([0, 1], [2, 3])) == results([0, 1])
    pipeline.close()
    assert set(threading.enumerate()) <= before
    assert list(pipeline.take([4])) == results([4])
    assert set(threading.enumerate()) <= before
    assert read.begun.count(4) == 1


def test_an_item_that_fails_ends_the_call_after_those_before_it() -> None:
    read, encode = Work(4), Encode()
    pipeline = ReadAhead(read, encode, 2)
    taken = pipeline.take([0, 1, 2, 3, 4, 5], [6])
    assert [next(taken) for _ in range(4)] == results([0, 1, 2, 3])
    with pytest.raises(ValueError, match="4"):
        next(taken)
    with pytest.raises(ValueError, match="4"):
        list(pipeline.take([4, 5]))
    assert list(pipeline.take([5])) == results([5])
    assert [read.begun.count(item) for item in range(5)] == [1, 1, 1, 1, 2]


def test_a_call_that_is_not_taken_to_its_end_leaves_nothing_begun() -> None:
    before, encode = set(threading.enumerate()), Encode()
    pipeline = ReadAhead(Work(), encode, 2)
    taken = pipeline.take([0, 1, 2], [3])
    assert next(taken) == 1
    taken.close()
    assert encode.ended == 1
    assert set(threading.enumerate()) <= before
    assert list(pipeline.take([1, 2])) == results([1, 2])


def test_an_item_of_the_next_call_fails_in_that_call() -> None:
    pipeline = ReadAhead(Work(3), Encode(), 2)
    assert list(pipeline.take([0, 1], [2, 3])) == results([0, 1])
    with pytest.raises(ValueError, match="3"):
        list(pipeline.take([2, 3], [4]))
    assert list(pipeline.take([2], [4])) == results([2])
    assert list(pipeline.take([4])) == results([4])


def test_a_failure_of_the_encoder_ends_the_call_and_leaves_no_threads() -> None:
    before = set(threading.enumerate())

    def encode(items: Iterator[int]) -> Generator[int, None, None]:
        yield next(items)
        raise ArithmeticError("no direction")

    pipeline = ReadAhead(Work(), encode, 2)
    with pytest.raises(ArithmeticError, match="no direction"):
        list(pipeline.take([0, 1], [2]))
    assert set(threading.enumerate()) <= before


def test_an_interruption_while_readers_end_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = ReadAhead(Work(), Encode(), 2)
    taken = ahead.take([1, 2], [3, 4])
    assert list(taken) == results([1, 2])

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ahead.close()
