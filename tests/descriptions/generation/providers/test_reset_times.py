"""When a server wants to be asked again, in the headers and bodies of the servers in use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_descriptions.generation.providers.reset_times import reset_wait

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
GOOGLE = [{"error": {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]}}]
GATEWAY = {"error": {"metadata": {"headers": {"X-RateLimit-Reset": str((EPOCH + 36000) * 1000)}}}}
ONE_USED_UP = {
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "6m0s",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "7.66s",
}
BY_DAY = {
    "x-ratelimit-remaining-requests-day": "0",
    "x-ratelimit-reset-requests-day": "33011.38",
    "x-ratelimit-remaining-tokens-minute": "0",
    "x-ratelimit-reset-tokens-minute": "11.4",
}


@pytest.mark.parametrize(
    ("headers", "body", "words", "seconds"),
    [
        ({"retry-after": "7"}, {}, "", 7),
        ({"retry-after-ms": "250", "retry-after": "9"}, {}, "", 0.25),
        ({"retry-after": "30s"}, {}, "", 30),
        ({"retry-after": "2", **ONE_USED_UP}, {}, "try again in 9s", 2),
        ({}, GOOGLE, "", 34.5),
        ({}, GATEWAY, "", 36000),
        ({}, {"retry_after": 1.5}, "", 1.5),
        ({}, {"error": {"retry_after_ms": 1500}}, "", 1.5),
        ({}, {"error": {"resets_at": EPOCH + 90}}, "", 90),
        ({}, {"error": {"resets_in_seconds": 90}}, "", 90),
        ({}, {"error": {"resetTime": "2026-11-28T12:01:30Z"}}, "", 90),
        ({}, {}, "Rate limit reached. Please try again in 7m12s. Visit us", 432),
        ({}, {}, "Please retry in 34.07s.", 34.07),
        ({}, {}, "Rate limit exceeded, retry after 5 seconds", 5),
        ({}, {}, "Your limit resets at 2026-11-29T00:00:00Z", 43200),
        ({}, {}, "Limit 6000, used 5990. Please try again in 1h2m3.5s", 3723.5),
        (ONE_USED_UP, {}, "", 360),
        (BY_DAY, {}, "", 33011.38),
        ({"X-RateLimit-Reset": str(EPOCH + 60), "X-RateLimit-Remaining": "0"}, {}, "", 60),
        ({"anthropic-ratelimit-requests-reset": "2026-11-28T12:01:00Z"}, {}, "", 60),
        ({"RateLimit": "limit=100, remaining=0, reset=50"}, {}, "", 50),
        ({"ratelimit": '"default";r=0;t=50'}, {}, "", 50),
        ({"x-ratelimit-reset-requests": "3s", "x-ratelimit-reset-tokens": "2s"}, {}, "", 2),
        ({"x-ratelimit-limit": "50"}, {}, "slow down", None),
        ({}, "too many requests", "too many requests", None),
        ({"retry-after": "0"}, {}, "", 0),
    ],
)
def test_every_form_in_use_is_read(headers: dict[str, str], body: Any, words: str, seconds: float | None) -> None:
    wait = reset_wait(headers, body, words, NOW)
    assert wait == (None if seconds is None else pytest.approx(seconds))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "details", "retryDelay", "retry_after", "resets_at", "headers", "X-RateLimit-Reset"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset", "ratelimit", "x-ratelimit-remaining"])


@pytest.mark.fuzz
@given(st.dictionaries(NAMES, st.text(max_size=30) | st.integers().map(str)), JSON, st.text(max_size=60))
def test_nothing_raises_whatever_a_server_writes(headers: dict[str, str], body: Any, words: str) -> None:
    wait = reset_wait(headers, body, f"try again in {words}", NOW)
    assert wait is None or wait >= 0
