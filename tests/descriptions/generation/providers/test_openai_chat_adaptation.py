"""Models that do not take requests as they are, odd base URLs, outages: against a real HTTP server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from servers import Answer, ChatServer, completion, error, serving

from abs_core.errors import FatalProviderError, UsageError
from abs_descriptions.generation.cost import Budget, Prices
from abs_descriptions.generation.providers.base import (
    Adaptation,
    Failure,
    Message,
    Outcome,
    Parameters,
    Reply,
    Request,
    Tokens,
)
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider
from abs_descriptions.generation.providers.openai_server import OpenAIServer, validate_extra_body
from abs_descriptions.generation.providers.retry import RetryPolicy

pytest.importorskip("openai")
HASTE = RetryPolicy(attempts=3, first_wait=0.01, longest_wait=0.02, timeout=30, longest_outage=0.2)
RENAMED = (("max_tokens", "max_completion_tokens"),)


@pytest.fixture
def server(no_ambient_key: None) -> Iterator[ChatServer]:
    with serving(ChatServer()) as state:
        yield state


def request(sample: int = 0, **options: Any) -> Request:
    return Request((Message("user", "A cat?"),), Parameters(max_tokens=20), sample, **options)


def ask(provider: OpenAIChatProvider, count: int) -> list[Outcome]:
    return [outcome for _, outcome in provider.complete(request(number) for number in range(count))]


def gpt5(number: int, body: dict[str, Any]) -> Answer:
    """As documented: another name for the length, no temperature, no top_p, and reasoning first."""
    if "max_tokens" in body:
        return error(
            400, "unsupported_parameter", "'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        )
    for name in ("temperature", "top_p"):
        if name in body:
            return error(400, "unsupported_value", f"'{name}' does not support {body[name]} with this model.")
    limit = body["max_completion_tokens"]
    return completion("", "length", drawn=limit) if limit < 400 else completion("A cat.", drawn=300)


def test_a_reasoning_model_is_asked_in_its_own_way_after_one_request(server: ChatServer) -> None:
    server.behave = gpt5
    provider = OpenAIChatProvider("m", base_url=server.url, retry_policy=HASTE)
    adaptation = Adaptation(("temperature", "top_p"), RENAMED, 1024)
    good = Reply("A cat.", "stop", 7, 300, Tokens(), adaptation)
    outcomes = ask(provider, 20)
    # Three refusals, which cost nothing, and one reply without a word.
    assert outcomes.count(good) == 19
    assert outcomes.count(replace(good, lost=Tokens(7, 20))) == 1
    assert len(server.seen) == 20 + 4
    assert provider.adaptation == adaptation
    known = OpenAIChatProvider("m", base_url=server.url)
    known.adaptation = adaptation
    assert ask(known, 2) == [good] * 2
    assert len(server.seen) == 20 + 4 + 2


def test_the_cost_limit_counts_the_longer_replies(server: ChatServer) -> None:
    server.behave = gpt5
    provider = OpenAIChatProvider("m", base_url=server.url, retry_policy=HASTE)
    budget = Budget(Prices(0, 1_000_000), 1000)  # a unit for each token of a reply
    asked = request(may_repeat=lambda lost, maximum: budget.repeat(request(), lost, maximum))
    assert budget.reserve(asked)
    ((_, outcome),) = provider.complete([asked])
    assert isinstance(outcome, Failure)
    assert "1024 tokens" in outcome.reason
    assert outcome.lost == Tokens(7, 20)
    assert len(server.seen) == 4


def test_a_parameter_out_of_its_range_ends_the_run_and_is_named(server: ChatServer) -> None:
    server.behave = lambda number, body: error(400, message="temperature must be between 0 and 0.5")
    with pytest.raises(FatalProviderError, match=r"between 0 and 0.5. Give another --temperature"):
        ask(OpenAIChatProvider("m", base_url=server.url, retry_policy=HASTE), 5)
    assert len(server.seen) == 1


def test_an_extra_body_is_sent_and_is_part_of_the_key(server: ChatServer) -> None:
    extra = {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}
    provider = OpenAIChatProvider("m", base_url=server.url, extra_body=extra)
    ask(provider, 1)
    assert {name: server.seen[0].body[name] for name in extra} == extra
    assert provider.key()["extra_body"] == extra
    assert "extra_body" not in OpenAIChatProvider("m", base_url=server.url).key()


@pytest.mark.parametrize("extra", [{"n": 2}, {"stream": True}, {"max_tokens": 9}, {"x": float("nan")}, [1], "a"])
def test_an_extra_body_holds_nothing_that_has_an_option_or_is_no_json(extra: Any) -> None:
    with pytest.raises(UsageError, match="the extra body must"):
        validate_extra_body(extra)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf")])
def test_a_timeout_is_a_positive_number(timeout: float) -> None:
    with pytest.raises(UsageError, match="the timeout must be"):
        OpenAIChatProvider("m", base_url="http://127.0.0.1:1/v1", timeout=timeout)


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/", "/v1/chat/completions", "/v1//chat/completions/"])
def test_a_base_url_may_be_written_in_every_usual_way(server: ChatServer, ending: str) -> None:
    def behave(number: int, body: dict[str, Any]) -> str | Answer:
        return "A cat." if server.seen[number].path == "/v1/chat/completions" else Answer(404, b"404 page not found")

    server.behave = behave
    provider = OpenAIChatProvider("m", base_url=server.url.removesuffix("/v1") + ending)
    assert all(isinstance(outcome, Reply) for outcome in ask(provider, 3))
    assert len(ask(provider, 3)) == 3  # another round knows it
    assert len(server.seen) == 6 + (ending in ("", "/"))


def test_a_path_that_is_not_there_in_any_way_is_said(server: ChatServer) -> None:
    server.behave = lambda number, body: Answer(404, b"404 page not found")
    with pytest.raises(FatalProviderError, match="no such model or path: 404 page not found"):
        ask(OpenAIChatProvider("m", base_url=server.url.removesuffix("/v1"), retry_policy=HASTE), 3)
    assert len(server.seen) == 2


def test_azure_gets_its_version_and_its_header_for_the_key(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_KEY", "a-key-of-azure")
    url = server.url.removesuffix("/v1") + "/openai/deployments/d/chat/completions?api-version=2024-10-21"
    ask(OpenAIChatProvider("m", base_url=url, key_variable="AZURE_KEY"), 1)
    (seen,) = server.seen
    assert seen.path == "/openai/deployments/d/chat/completions?api-version=2024-10-21"
    assert seen.headers["api-key"] == "a-key-of-azure"
    assert "authorization" not in seen.headers
    assert OpenAIServer("https://api.openai.com", None).is_official


def test_a_server_that_goes_down_ends_the_run_within_the_longest_outage(server: ChatServer) -> None:
    server.behave = lambda number, body: "A cat." if number < 4 else error(503, message="no backend")
    policy = RetryPolicy(first_wait=0.05, longest_wait=0.1, longest_outage=0.4)
    provider = OpenAIChatProvider("m", base_url=server.url, concurrency=4, retry_policy=policy)
    started, got = time.monotonic(), list[Outcome]()
    with pytest.raises(FatalProviderError, match=r"has given no answer for .* attempt: status 503: no back"):
        got.extend(outcome for _, outcome in provider.complete(request(number) for number in range(1000)))
    assert time.monotonic() - started < 30
    assert len(server.seen) < 60


def test_a_moderated_prompt_fails_alone_whatever_its_status(server: ChatServer) -> None:
    def behave(number: int, body: dict[str, Any]) -> str | Answer:
        return error(403, "403", "your input was flagged for 'violence'") if number in (1, 2) else "A cat."

    server.behave = behave
    outcomes = ask(OpenAIChatProvider("m", base_url=server.url, concurrency=1), 5)
    assert [isinstance(outcome, Reply) for outcome in outcomes] == [True, False, False, True, True]
    assert [outcome.scope for outcome in outcomes if isinstance(outcome, Failure)] == ["prompt", "prompt"]
    assert len(server.seen) == 5
