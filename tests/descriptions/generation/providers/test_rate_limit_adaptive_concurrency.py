"""How many requests a server gets at once: one at first, all where it is fast, few where it answers one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from servers import Answer, ChatServer, completion, error, serving

from abs_descriptions.generation.providers.base import Message, Parameters, Reply, Request
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider
from abs_descriptions.generation.providers.rate_limit import ConcurrencyWindow
from abs_descriptions.generation.providers.retry import RetryPolicy


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def sizes(latency: Callable[[int], float], replies: int = 200, timeout: float = 100.0) -> list[int]:
    """The window after each of so many replies, of which each takes ``latency(load)`` seconds."""
    clock, taken = Clock(), list[int]()
    window = ConcurrencyWindow(16, timeout, clock)
    for _ in range(replies):
        flight = window.send(window.size - 1)
        clock.now += latency(flight.load)
        window.succeed(flight)
        taken.append(window.size)
    return taken


def test_a_fast_server_gets_all_after_one_reply_and_a_parallel_one_soon() -> None:
    assert sizes(lambda load: 1.0)[0] == 16
    assert sizes(lambda load: load * 1.0)[0] == 16  # one at a time, but fast: 16 s of 100
    assert sizes(lambda load: 20.0)[:1] == [2]
    assert sizes(lambda load: 20.0)[-1] == 16


def test_a_slow_server_that_answers_one_at_a_time_gets_only_what_it_answers_within_half_of_the_timeout() -> None:
    assert set(sizes(lambda load: load * 20.0)) == {2}
    assert set(sizes(lambda load: load * 70.0)) == {1}


def test_overload_halves_the_window_once_for_all_requests_in_flight_and_replies_widen_it_by_one_each_window() -> None:
    clock = Clock()
    window = ConcurrencyWindow(16, 100.0, clock)
    window.succeed(window.send(0))
    flights = [window.send(load) for load in range(16)]
    clock.now = 1.0
    for flight in flights:
        window.overload(flight)
    assert window.size == 8
    clock.now = 2.0
    window.overload(window.send(0))
    assert window.size == 4
    for _ in range(5):
        window.succeed(window.send(3))
    assert window.size == 5
    for _ in range(100):
        clock.now += 1
        window.overload(window.send(0))
    assert window.size == 1


def requests(count: int) -> list[Request]:
    return [Request((Message("user", "A cat?"),), Parameters(max_tokens=20), sample) for sample in range(count)]


@pytest.mark.parametrize(("seconds", "timeout"), [(0.2, 2.0), (0.02, 300.0)])
def test_nothing_is_sent_twice_to_a_server_that_answers_one_at_a_time(
    no_ambient_key: None, seconds: float, timeout: float
) -> None:
    turn = threading.Lock()

    def behave(number: int, body: dict[str, Any]) -> str:
        with turn:
            time.sleep(seconds)
        return "A cat."

    with serving(ChatServer(behave=behave)) as server:
        provider = OpenAIChatProvider("m", base_url=server.url, concurrency=16, timeout=timeout)
        outcomes = [outcome for _, outcome in provider.complete(requests(20))]
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert len(server.seen) == len(outcomes) == 20


def test_a_server_that_is_overloaded_gets_fewer_requests(no_ambient_key: None) -> None:
    def behave(number: int, body: dict[str, Any]) -> Answer:
        time.sleep(0.02)
        return error(429) if server.under_way > 2 else completion("A cat.")

    with serving(ChatServer(behave=behave)) as server:
        policy = RetryPolicy(attempts=50, first_wait=0.01, longest_wait=0.02)
        provider = OpenAIChatProvider("m", base_url=server.url, concurrency=16, retry_policy=policy)
        outcomes = [outcome for _, outcome in provider.complete(requests(60))]
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert provider.window.size < 16
        assert len(server.seen) < 60 + 60
