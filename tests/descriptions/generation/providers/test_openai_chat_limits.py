"""The provider openai and its rate limits: what replies cost is given back to the limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import ChatServer, completion, serving

from abs_descriptions.generation.providers.base import Message, Parameters, Reply, Request
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider

pytest.importorskip("openai")


@pytest.fixture
def server(no_ambient_key: None) -> Iterator[ChatServer]:
    with serving(ChatServer()) as state:
        yield state


def test_what_a_reply_took_is_settled_with_the_limits(server: ChatServer) -> None:
    server.behave = lambda number, body: completion("ok", prompt=1000, drawn=5)
    provider = OpenAIChatProvider("m", base_url=server.url, concurrency=1, tokens_per_minute=1050)
    asked = [Request((Message("user", "x"),), Parameters(max_tokens=2), sample=number) for number in range(2)]
    before = provider.limits.estimate_tokens(asked[0])
    outcomes = iter(provider.complete(asked[:1]))
    assert next(outcomes)[1] == Reply("ok", "stop", 1000, 5)
    # the estimate of prompts has learnt, and the minute holds what was used and not what was reserved
    assert provider.limits.estimate_tokens(asked[0]) > before
    wait = provider.limits.reserve(Request((Message("user", "x" * 30),), Parameters(max_tokens=20)))
    assert isinstance(wait, float)
    assert 0 < wait <= 60
