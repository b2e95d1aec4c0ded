"""Sharing work out between threads: order, limits, failures, and what it leaves behind."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from abs_classify.threads import Cores, even_parts, in_threads, set_threads
from abs_core.errors import UsageError


@pytest.fixture(params=[1, 2, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises, also where the tests were started in the background and inherited that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_whatever_ends_first(threads: int) -> None:
    first_may_end = threading.Event()

    def work(number: int) -> int:
        if number == 0 and threads > 1:
            assert first_may_end.wait(60)
        if number == 1:
            first_may_end.set()
        return number * number

    assert list(in_threads(work, range(9))) == [number * number for number in range(9)]


def test_threads_divide_the_cores_and_leave_the_setting_alone(four_threads: None) -> None:
    both_run = threading.Barrier(2, timeout=60)

    def work(_: int) -> tuple[int, str]:
        both_run.wait()
        return torch.get_num_threads(), threading.current_thread().name

    seen = list(in_threads(work, range(2)))
    assert [count for count, _ in seen] == [2, 2]
    assert len({name for _, name in seen}) == 2
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert torch.get_num_threads() == 4
    assert later == [4]


def test_ctrl_c_while_the_last_work_ends_leaves_the_setting_alone(four_threads: None, ctrl_c: None) -> None:
    let_go, later = threading.Event(), list[int]()

    def work() -> None:
        time.sleep(0.2)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        let_go.wait(60)

    with pytest.raises(KeyboardInterrupt), Cores(2) as cores:
        cores.submit(work)
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    let_go.set()
    assert later == [4]


def test_one_item_stays_in_the_thread_of_the_caller(four_threads: None) -> None:
    (seen,) = in_threads(lambda _: (threading.get_ident(), torch.get_num_threads()), [0])
    assert seen == (threading.get_ident(), 4)


def test_no_items_give_no_results(threads: int) -> None:
    assert list(in_threads(str, [])) == []


def test_work_runs_in_inference_mode(threads: int) -> None:
    parameter = torch.ones(1, requires_grad=True)
    assert all(result.is_inference() for result in in_threads(lambda number: parameter * number, range(5)))


def test_the_first_failure_is_raised_and_later_work_dropped(threads: int) -> None:
    begun: list[int] = []
    before = set(threading.enumerate())

    def work(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise ValueError("the fourth")
        return number

    results = in_threads(work, range(1000), ahead=8)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the fourth"):
        next(results)
    assert len(begun) < 20
    assert len(set(threading.enumerate()) - before) < 20


def test_no_more_is_under_way_than_asked(threads: int) -> None:
    begun: list[int] = []
    results = in_threads(lambda number: begun.append(number), range(100), ahead=5)
    for taken in range(1, 50):
        next(results)
        assert len(begun) <= taken + 5
    results.close()  # type: ignore[attr-defined]
    assert len(begun) < 60


@given(count=st.integers(0, 500), most=st.integers(1, 70))
def test_parts_are_even_and_small_enough(count: int, most: int) -> None:
    parts = even_parts(range(count), most)
    assert [item for part in parts for item in part] == list(range(count))
    sizes = [len(part) for part in parts]
    assert max(sizes, default=0) <= most
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert min(sizes, default=1) >= 1


def test_every_thread_gets_as_many_parts(four_threads: None) -> None:
    assert [len(even_parts(range(count), 4)) for count in (3, 4, 16, 17, 50)] == [3, 4, 4, 8, 16]


@pytest.mark.parametrize("number", [0, -1, 1025, 10**30])
def test_more_threads_than_any_machine_has_cores_are_refused(number: int) -> None:
    before = torch.get_num_threads()
    with pytest.raises(UsageError, match=rf"must be from 1 to 1024, got {number}"):
        set_threads(number)
    assert torch.get_num_threads() == before
