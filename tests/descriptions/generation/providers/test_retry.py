"""The retry policy: how often, how long, and when no more. Pure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from abs_descriptions.generation.providers.error_responses import ResponseProblem
from abs_descriptions.generation.providers.retry import RetryPolicy, RetryState

BUSY = ResponseProblem("again", "status 503")
THROTTLED = ResponseProblem("again", "status 429", throttled=True)
POLICY = RetryPolicy(attempts=8, first_wait=1.0, longest_wait=5.0, give_up_after=100.0)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_waits_double_up_to_the_longest_and_are_shortened_by_up_to_a_half(
    monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: {0.5: low, 1.0: high}[share])
    state = RetryState(POLICY, 0.0)
    waits = [state.wait_after(BUSY, 0.0) for _ in range(8)]
    assert waits == [*(share * wait for wait in (1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0)), None]


def test_requests_do_not_come_in_step() -> None:
    waits = {RetryState(POLICY, 0.0).wait_after(BUSY, 0.0) for _ in range(20)}
    assert len(waits) == 20
    assert all(wait is not None and 0.5 <= wait <= 1.0 for wait in waits)


def test_after_a_time_no_request_is_attempted_again() -> None:
    for problem in (BUSY, THROTTLED, replace(THROTTLED, wait=3.0)):
        assert RetryState(POLICY, 50.0).wait_after(problem, 150.0) is not None
        assert RetryState(POLICY, 50.0).wait_after(problem, 150.1) is None


def test_a_throttled_attempt_is_none_of_those_that_are_counted() -> None:
    state = RetryState(replace(POLICY, attempts=2), 0.0)
    assert all(state.wait_after(THROTTLED, 0.0) is not None for _ in range(20))
    assert state.wait_after(BUSY, 0.0) is not None
    assert state.wait_after(BUSY, 0.0) is None
    assert state.reason(BUSY) == "status 503 (2 attempts)"


def test_what_the_server_asks_for_is_waited_and_does_not_change_the_next_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    state = RetryState(POLICY, 0.0)
    assert [state.wait_after(replace(BUSY, wait=wait), 0.0) for wait in (30.0, None, 7.0, None)] == [30, 1, 7, 2]


@pytest.mark.parametrize("action", ["give up", "stop"])
def test_only_what_may_pass_is_attempted_again(action: str) -> None:
    problem = ResponseProblem("give up" if action == "give up" else "stop", "no")
    state = RetryState(POLICY, 0.0)
    assert state.wait_after(problem, 0.0) is None
    assert state.reason(problem) == "no"


def test_a_server_that_asks_to_wait_for_too_long_ends_the_run() -> None:
    policy = RetryPolicy(longest_retry_after=60.0)
    for wait in (None, 0.0, 60.0):
        problem = replace(THROTTLED, wait=wait)
        assert policy.cap(problem, "host") is problem
    capped = policy.cap(replace(THROTTLED, wait=61.0), "host")
    assert (capped.action, capped.reason) == ("stop", "host asks to wait for 61 s (status 429)")
    assert capped.remedy
