"""Requests and tokens per minute, in a loop whose time passes only by waiting. Takes a second."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abs_core.errors import UsageError
from abs_descriptions.generation.providers.base import Message, Parameters, Reply, Request
from abs_descriptions.generation.providers.rate_limit import RateLimiter, RateLimits, Reservation


class _Jump(selectors.SelectSelector):
    """Does not wait, and says how long it would have waited."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing would ever happen"
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop without real time."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def run(act: Callable[[VirtualLoop], Awaitable[Any]]) -> Any:
    loop = VirtualLoop()

    async def main() -> Any:
        return await act(loop)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main())


def request(words: int = 30, max_tokens: int = 20) -> Request:
    return Request((Message("user", "abc" * words),), Parameters(max_tokens=max_tokens))


def passages(limits: dict[str, float], asked: Sequence[Request], gaps: Sequence[float] | None = None) -> list[float]:
    """When each request was let through."""

    async def act(loop: VirtualLoop) -> list[float]:
        gate = RateLimiter(RateLimits(**limits, clock=loop.time))
        times = []

        async def one(number: int, at: float) -> None:
            await asyncio.sleep(at)
            assert isinstance(await gate.acquire(asked[number]), Reservation)
            times.append(loop.time())

        at = 0.0
        starts = []
        for gap in gaps or [0.0] * len(asked):
            at += gap
            starts.append(at)
        await asyncio.gather(*(one(number, start) for number, start in enumerate(starts)))
        return times

    return list(run(act))


def most_in_a_minute(times: Sequence[float], amounts: Sequence[float]) -> float:
    return max(
        sum(amount for time, amount in zip(times, amounts, strict=True) if start <= time < start + 60.0 - 1e-9)
        for start in times
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.lists(st.floats(0, 40), min_size=1, max_size=30))
def test_no_minute_holds_more_requests_than_allowed_and_none_waits_without_need(limit: int, gaps: list[float]) -> None:
    times = passages({"requests_per_minute": limit}, [request()] * len(gaps), gaps)
    assert most_in_a_minute(times, [1.0] * len(times)) <= limit
    at = 0.0
    for number, gap in enumerate(gaps):
        at += gap
        free = times[number - limit] + 60.0 if number >= limit else 0.0
        assert times[number] == pytest.approx(max(at, free), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=30))
def test_no_minute_holds_more_tokens_than_allowed(sizes: list[int]) -> None:
    asked = [request(30, size) for size in sizes]
    times = passages({"tokens_per_minute": 400}, asked)
    assert most_in_a_minute(times, [30 + size for size in sizes]) <= 400
    assert times == sorted(times)


def test_a_request_larger_than_the_limit_goes_alone() -> None:
    times = passages({"tokens_per_minute": 100}, [request(30, 20), request(30, 5000), request(30, 20)])
    assert times == pytest.approx([0.0, 60.0, 120.0])


def test_less_than_one_request_a_minute_is_possible() -> None:
    assert passages({"requests_per_minute": 0.5}, [request()] * 3) == pytest.approx([0.0, 120.0, 240.0])


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (0.4, [0.0, 150.0, 300.0]),
        (1.5, [0.0, 60.0, 120.0]),
        (1.9, [0.0, 60.0, 120.0]),
        (2.5, [0.0, 0.0, 60.0, 60.0, 120.0]),
    ],
)
def test_a_fraction_of_a_request_is_not_sent(limit: float, expected: list[float]) -> None:
    assert passages({"requests_per_minute": limit}, [request()] * len(expected)) == pytest.approx(expected)


def test_a_fraction_of_a_token_is_not_used() -> None:
    asked = [request(30, 20)] * 3  # 50 tokens
    assert passages({"tokens_per_minute": 99.9}, asked) == pytest.approx([0.0, 60.0, 120.0])
    assert passages({"tokens_per_minute": 100.5}, asked) == pytest.approx([0.0, 0.0, 60.0])


def test_without_limits_nobody_waits() -> None:
    assert passages({}, [request(10_000, 10_000)] * 500) == [0.0] * 500


def test_a_reservation_is_corrected_to_the_tokens_used_and_waiting_requests_continue_at_once() -> None:
    async def act(loop: VirtualLoop) -> list[float]:
        gate = RateLimiter(RateLimits(tokens_per_minute=130, clock=loop.time))
        first = await gate.acquire(request(30, 90))  # 30 + 90 tokens
        assert first is not None
        loop.call_later(2.0, gate.settle, first, request(30, 90), Reply("x", "stop", 30, 10))
        await gate.acquire(request(30, 50))
        small = loop.time()
        await gate.acquire(request(30, 50))
        return [small, loop.time()]

    assert run(act) == pytest.approx([2.0, 62.0])


def test_a_correction_that_comes_after_its_minute_changes_nothing() -> None:
    async def act(loop: VirtualLoop) -> float:
        limits = RateLimits(tokens_per_minute=100, clock=loop.time)
        gate = RateLimiter(limits)
        late = await gate.acquire(request(30, 70))
        assert late is not None
        await gate.acquire(request(30, 70))  # at 60 s
        gate.settle(late, request(30, 70), Reply("x", "stop", 1, 1))
        await gate.acquire(request(30, 70))
        return loop.time()

    assert run(act) == pytest.approx(120.0)


def test_the_estimate_of_prompts_learns_from_what_the_server_counts() -> None:
    limits = RateLimits(tokens_per_minute=10**9)
    assert limits.estimate_tokens(request(200, 20)) == 200 + 20
    for _ in range(200):
        spent = limits.reserve(request(200, 20))
        assert isinstance(spent, Reservation)
        limits.settle(spent, request(200, 20), Reply("x", "stop", 150, 5))
    assert limits.estimate_tokens(request(200, 20)) == pytest.approx(150 + 20, abs=2)


def test_a_server_that_counts_no_tokens_leaves_the_estimate() -> None:
    limits = RateLimits(tokens_per_minute=120, clock=lambda: 0.0)
    spent = limits.reserve(request(30, 60))
    assert isinstance(spent, Reservation)
    limits.settle(spent, request(30, 60), Reply("x", "stop"))
    assert limits.reserve(request(30, 60)) == 60.0


def test_holding_back_holds_everybody_for_the_longest_time_asked_for() -> None:
    async def act(loop: VirtualLoop) -> list[float]:
        gate = RateLimiter(RateLimits(clock=loop.time))
        gate.throttle(7.0)
        gate.throttle(3.0)
        await asyncio.gather(*(gate.acquire(request()) for _ in range(5)))
        return [loop.time()]

    assert run(act) == pytest.approx([7.0])


def test_closing_lets_nobody_pass_and_ends_all_waiting() -> None:
    async def act(loop: VirtualLoop) -> Any:
        gate = RateLimiter(RateLimits(requests_per_minute=1, clock=loop.time))
        first = await gate.acquire(request())
        loop.call_later(5.0, gate.close)
        rest = await asyncio.gather(*(gate.acquire(request()) for _ in range(3)), gate.pause(50.0))
        return first is not None, rest, loop.time()

    assert run(act) == (True, [None] * 4, pytest.approx(5.0))


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_is_above_zero(limit: float) -> None:
    with pytest.raises(UsageError, match="requests per minute"):
        RateLimits(requests_per_minute=limit)
    with pytest.raises(UsageError, match="tokens per minute"):
        RateLimits(tokens_per_minute=limit)
