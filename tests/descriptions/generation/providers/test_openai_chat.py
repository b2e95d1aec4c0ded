"""The provider openai against a real HTTP server that misbehaves on request. Takes seconds; no network but loopback."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from servers import Answer, ChatServer, completion, error, serving

from abs_core.errors import AbsError, FatalProviderError, ProviderError, UsageError
from abs_core.http import retry_after
from abs_core.labels import from_names
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.prompts import PromptSet
from abs_descriptions.generation.providers.base import Failure, Message, Outcome, Parameters, Reply, Request
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider
from abs_descriptions.generation.providers.registry import ProviderOptions, build_provider
from abs_descriptions.generation.providers.retry import RetryPolicy
from abs_descriptions.generation.runner import GenerationPlan, run_generation

KEY = "sk-test-0123456789-very-secret"
HASTE = RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.02, longest_retry_after=5, give_up_after=20, timeout=30)
pytest.importorskip("openai")


@pytest.fixture
def server(no_ambient_key: None) -> Iterator[ChatServer]:
    with serving(ChatServer()) as state:
        yield state


def request(text: str = "What does a cat look like?", sample: int = 0) -> Request:
    return Request((Message("user", text),), Parameters(max_tokens=20), sample)


def ask(server: ChatServer, count: int = 1, **options: Any) -> list[Outcome]:
    provider = OpenAIChatProvider("m", base_url=server.url, retry_policy=options.pop("patience", HASTE), **options)
    return [outcome for _, outcome in provider.complete(request(sample=number) for number in range(count))]


def test_a_reply_comes_back_with_its_request_and_what_was_sent_is_what_was_asked(server: ChatServer) -> None:
    provider = OpenAIChatProvider("m", base_url=server.url)
    asked = request()
    assert list(provider.complete([asked])) == [(asked, Reply("ok", "stop", 7, 3))]
    body = server.seen[0].body
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "What does a cat look like?"}],
        "max_tokens": 20,
        "temperature": 0.8,
        "top_p": 0.95,
        "seed": asked.draw_seed,
    }
    assert asked.draw_seed != request(sample=1).draw_seed


def test_what_the_parameters_leave_open_is_not_sent(server: ChatServer) -> None:
    open_request = Request((Message("user", "x"),), Parameters(9, None, None, None))
    list(OpenAIChatProvider("m", base_url=server.url).complete([open_request]))
    assert set(server.seen[0].body) == {"model", "messages", "max_tokens"}


@pytest.mark.parametrize(("status", "asked"), [(422, 4), (400, 4), (500, 6)])
def test_a_server_that_knows_no_schemas_is_asked_in_words_alone(server: ChatServer, status: int, asked: int) -> None:
    def behave(number: int, body: dict[str, Any]) -> str | Answer:
        return error(status, "unsupported_parameter") if "response_format" in body else "good"

    server.behave = behave
    lists = [replace(request(sample=number), answer="list") for number in range(3)]
    provider = OpenAIChatProvider("m", base_url=server.url, concurrency=1, retry_policy=HASTE)
    assert [outcome for _, outcome in provider.complete(lists)] == [Reply("good", "stop", 7, 3)] * 3
    # A status that says so is believed for all requests; 500 may be chance, and the next request tries it again.
    assert len(server.seen) == asked
    schema = server.seen[0].body["response_format"]["json_schema"]
    assert schema["strict"]
    assert schema["schema"]["required"] == ["descriptions"]


def test_a_list_that_is_refused_in_any_form_fails_alone(server: ChatServer) -> None:
    server.behave = lambda number, body: error(400, message="too long") if number < 2 else "good"
    lists = [replace(request(sample=number), answer="list") for number in range(2)]
    provider = OpenAIChatProvider("m", base_url=server.url, concurrency=1, retry_policy=HASTE)
    first, second = (outcome for _, outcome in provider.complete(lists))
    assert isinstance(first, Failure)
    assert isinstance(second, Reply)
    assert ["response_format" in one.body for one in server.seen] == [True, False, True]


def test_many_requests_are_bounded_by_the_concurrency_and_none_is_lost(server: ChatServer) -> None:
    server.behave = lambda number, body: time.sleep(0.01) or f"reply {body['seed']}"
    provider = OpenAIChatProvider("m", base_url=server.url, concurrency=4)
    asked = [request(sample=number) for number in range(40)]
    got = list(provider.complete(iter(asked)))
    assert {one.sample: outcome.text for one, outcome in got if isinstance(outcome, Reply)} == {
        one.sample: f"reply {one.draw_seed}" for one in asked
    }
    assert 2 <= server.most_under_way <= 4


def test_requests_are_taken_only_as_replies_are_taken(server: ChatServer) -> None:
    taken = []

    def endless() -> Iterator[Request]:
        for number in range(10**9):
            taken.append(number)
            yield request(sample=number)

    outcomes = OpenAIChatProvider("m", base_url=server.url, concurrency=3).complete(endless())
    next(outcomes)
    time.sleep(0.3)
    assert len(taken) <= 1 + 2 * 3 + 3
    outcomes.close()  # type: ignore[attr-defined]
    stopped_at = len(server.seen)
    time.sleep(0.1)
    assert len(server.seen) == stopped_at


@pytest.mark.parametrize(
    "fault", [error(500), completion(None), Answer(200, b"<html>"), Answer(200, b'{"choices": []}')]
)
def test_a_lasting_error_is_a_failure_after_a_bounded_number_of_attempts(server: ChatServer, fault: Answer) -> None:
    server.behave = lambda number, body: fault
    (outcome,) = ask(server)
    assert isinstance(outcome, Failure)
    assert "4 attempts" in outcome.reason
    assert len(server.seen) == 4


@pytest.mark.parametrize(
    "wait", ["0.4", format_datetime(datetime.now(UTC) + timedelta(days=-1)), "nonsense"], ids=["seconds", "date", "bad"]
)
def test_retry_after_is_honoured(server: ChatServer, wait: str) -> None:
    server.behave = lambda number, body: error(429, retry_after=wait) if number == 0 else "good"
    assert ask(server) == [Reply("good", "stop", 7, 3)]
    between = server.seen[1].time - server.seen[0].time
    assert between >= 0.4 if wait == "0.4" else between < 4


def test_one_retry_after_holds_all_workers_back(server: ChatServer) -> None:
    def behave(number: int, body: dict[str, Any]) -> Answer:
        return error(429, retry_after="0.6") if number == 0 else replace(completion("good"), delay=0.3)

    server.behave = behave
    outcomes = ask(server, count=12, concurrency=4)
    assert outcomes == [Reply("good", "stop", 7, 3)] * 12
    # Three more were on their way when the server asked for a pause.
    after = [seen.time - server.seen[0].time for seen in server.seen[4:]]
    assert len(after) == 9
    assert min(after) >= 0.6


@pytest.mark.parametrize(
    ("limit", "count"),
    # A request reserves 9 + 20 tokens and uses 7 + 3; six that are done leave no room for a seventh.
    [({"requests_per_minute": 4}, 4), ({"tokens_per_minute": 3 * (20 + 9)}, 6)],
    ids=["requests", "tokens"],
)
def test_no_more_is_sent_than_a_minute_may_hold(server: ChatServer, limit: dict[str, float], count: int) -> None:
    provider = OpenAIChatProvider("m", base_url=server.url, retry_policy=HASTE, **limit)  # type: ignore[arg-type]
    outcomes = provider.complete(request(sample=number) for number in range(20))
    assert [next(outcomes)[1] for _ in range(count)] == [Reply("ok", "stop", 7, 3)] * count
    time.sleep(0.5)
    assert len(server.seen) == count
    started = time.monotonic()
    outcomes.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 20
    # Another call of the provider, such as the next round of a generation, knows of this one.
    assert isinstance(provider.limits.reserve(request()), float)


def test_being_throttled_for_long_is_no_failure(server: ChatServer) -> None:
    server.behave = lambda number, body: error(429, retry_after="0.02") if number < 12 else "good"
    assert ask(server) == [Reply("good", "stop", 7, 3)]


def test_a_server_that_asks_to_wait_for_hours_ends_the_run_and_is_not_asked_by_all_requests(server: ChatServer) -> None:
    server.behave = lambda number, body: error(429, retry_after="7200")
    started = time.monotonic()
    with pytest.raises(FatalProviderError, match="wait for 7200 s"):
        ask(server, count=50, concurrency=2)
    assert time.monotonic() - started < 20
    assert len(server.seen) <= 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error(429, "insufficient_quota", retry_after="30"), "quota"),
        (error(402), "quota"),
        (error(401, "invalid_api_key", f"Incorrect API key provided: {KEY}"), "key"),
        (error(403, message=f"{KEY} may not"), "permit"),
        (error(404, "model_not_found", "The model `m` does not exist"), "model"),
        (error(400, "unsupported_parameter", "max_tokens is not supported"), "max_tokens"),
        (Answer(307, b"", {"location": "http://127.0.0.1:9/v1"}), "redirects"),
    ],
    ids=["quota", "payment", "wrong key", "forbidden", "no model", "parameter", "redirect"],
)
def test_what_asking_again_cannot_mend_ends_the_run_at_once(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, answer: Answer, words: str
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    server.behave = lambda number, body: answer
    started = time.monotonic()
    with pytest.raises(FatalProviderError) as caught:
        ask(server, count=50, concurrency=2, key_variable="MY_KEY")
    assert words in caught.value.message
    assert caught.value.remedy
    assert KEY not in str(caught.value)
    assert len(server.seen) <= 2
    assert time.monotonic() - started < 20


def test_replies_that_are_under_way_when_the_quota_ends_are_not_lost(server: ChatServer) -> None:
    def behave(number: int, body: dict[str, Any]) -> str | Answer:
        if number == 1:  # the first one was sent alone
            return error(429, "insufficient_quota")
        time.sleep(0.3)
        return "paid"

    server.behave = behave
    got: list[Outcome] = []
    outcomes = OpenAIChatProvider("m", base_url=server.url, concurrency=3).complete(request() for _ in range(9))
    with pytest.raises(FatalProviderError):
        got.extend(outcome for _, outcome in outcomes)
    assert got == [Reply("paid", "stop", 7, 3)] * 3


def test_a_host_that_is_not_there_ends_the_run_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    provider = OpenAIChatProvider("m", base_url=f"http://127.0.0.1:{port}/v1")
    started = time.monotonic()
    with pytest.raises(FatalProviderError, match="cannot be reached"):
        list(provider.complete([request()]))
    assert time.monotonic() - started < 30


def test_a_key_goes_to_the_host_it_was_named_for_and_to_no_other(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Secret: {KEY}\nAuthorization: Bearer {KEY}")
    ask(server)
    assert not [value for value in server.seen[0].headers.values() if KEY in value or "org-secret" in value]
    assert "authorization" not in server.seen[0].headers
    monkeypatch.setenv("MY_KEY", "another-key-for-this-host")
    ask(server, key_variable="MY_KEY")
    assert server.seen[1].headers["authorization"] == "Bearer another-key-for-this-host"
    assert not [value for value in server.seen[1].headers.values() if KEY in value]
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    list(OpenAIChatProvider("m").complete([request()]))
    assert server.seen[2].headers["authorization"] == f"Bearer {KEY}"
    assert "x-secret" not in server.seen[2].headers


def test_a_redirect_to_another_host_is_not_followed_and_the_key_not_sent_on(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with serving(ChatServer()) as other:
        for status in (301, 302, 303, 307, 308):
            there = {"location": f"{other.url}/chat/completions"}
            server.behave = lambda number, body, status=status, there=there: Answer(status, b"", there)  # type: ignore[misc]
            with pytest.raises(FatalProviderError, match="redirects"):
                ask(server, key_variable="MY_KEY")
        assert not other.seen
    assert len(server.seen) == 5


def test_a_missing_or_broken_key_is_said_without_showing_it(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"MY_KEY.*is not set"):
        ask(server, key_variable="MY_KEY")
    monkeypatch.setenv("MY_KEY", f"{KEY}\nsecond line")
    with pytest.raises(UsageError, match="no usable key") as caught:
        ask(server, key_variable="MY_KEY")
    assert KEY not in str(caught.value)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        OpenAIChatProvider("gpt-5-mini").complete([request()])
    assert not server.seen


@pytest.mark.parametrize("url", [f"http://user:{KEY}@host/v1", f"http://host/v1?api_key={KEY}", "host/v1", "ftp://a/b"])
def test_a_base_url_holds_no_credentials(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        OpenAIChatProvider("m", base_url=url)
    assert KEY not in str(caught.value)


def test_the_key_is_written_nowhere(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level("DEBUG")

    def behave(number: int, body: dict[str, Any]) -> str | Answer:
        if "dog" in body["messages"][-1]["content"]:
            return error(400, message=f"your key {KEY} is fine, your request is not")
        return f"A cat is a small furry animal with the key {KEY}. A cat has {number} soft paws and a long tail."

    server.behave = behave
    provider = OpenAIChatProvider("m", base_url=server.url, key_variable="MY_KEY", retry_policy=HASTE)
    prompts = PromptSet(id="p", version=1, description="d", prompts=({"id": "a", "text": "Tell {name}"},))
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        result = run_generation(
            from_names(["cat", "dog"]), prompts, provider, GenerationPlan(per_class=2, tries=2), journal=journal
        )
    assert [line.accepted for line in result.report] == [2, 0]
    everything = [path.read_text(), repr(result), caplog.text, json.dumps(dict(provider.key())), repr(provider)]
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert not [text for text in everything if KEY in text]


def test_a_class_without_usable_replies_does_not_delay_the_others(server: ChatServer, tmp_path: Path) -> None:
    def behave(number: int, body: dict[str, Any]) -> str | Answer:
        name = body["messages"][-1]["content"].removeprefix("Tell ")
        return (
            Answer(200, b"<html>") if name == "dog" else f"This {name} number {number} has a long tail and soft ears."
        )

    server.behave = behave
    provider = OpenAIChatProvider("m", base_url=server.url, retry_policy=HASTE)
    prompts = PromptSet(id="p", version=1, description="d", prompts=({"id": "a", "text": "Tell {name}"},))
    with Journal(tmp_path / "j.jsonl") as journal:
        result = run_generation(
            from_names(["cat", "dog", "cow"]), prompts, provider, GenerationPlan(3, tries=2), journal=journal
        )
    assert [line.accepted for line in result.report] == [3, 0, 3]
    assert [line.class_id for line in result.short] == ["dog"]
    assert not result.complete
    assert result.report[1].asked == result.report[1].failed == 6
    assert any("not JSON" in reason for reason in result.failures)


def test_a_server_that_never_gives_a_usable_reply_is_an_error(server: ChatServer) -> None:
    server.behave = lambda number, body: completion(None)
    provider = OpenAIChatProvider("m", base_url=server.url, retry_policy=HASTE)
    prompts = PromptSet(id="p", version=1, description="d", prompts=({"id": "a", "text": "Tell {name}"},))
    with pytest.raises(ProviderError, match="none of 2 requests"):
        run_generation(from_names(["cat"]), prompts, provider, GenerationPlan(per_class=2))


def test_a_worker_of_the_callers_that_fails_is_not_swallowed(server: ChatServer) -> None:
    def broken() -> Iterator[Request]:
        yield request()
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        list(OpenAIChatProvider("m", base_url=server.url).complete(broken()))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 01 Jan 2025 00:00:10 GMT"}, 10.0),
        ({"retry-after": "Tue, 31 Dec 2024 00:00:00 GMT"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 01 Jan 99999999999999999999 00:00:10 GMT"}, None),
        ({"retry-after": "Wed, 01 Jan 2025 00:00:10 +99999999999999999999999"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_a_number_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, datetime(2025, 1, 1, tzinfo=UTC)) == seconds


def test_a_count_of_tokens_that_cannot_be_one_is_not_taken_over(server: ChatServer) -> None:
    server.behave = lambda number, body: completion("good", prompt=10**400, drawn=3)
    (outcome,) = ask(server)
    assert outcome == Reply("good", "stop", 0, 3)


def test_the_registry_names_what_it_has() -> None:
    with pytest.raises(AbsError, match="local, openai"):
        build_provider("gpt")
    with pytest.raises(UsageError, match="needs a model"):
        build_provider("openai")
    with pytest.raises(UsageError, match="batch_size"):
        build_provider("openai", ProviderOptions(model="m", batch_size=3))
    provider = build_provider("openai", ProviderOptions(model="m", base_url="http://127.0.0.1:1/v1/"))
    assert provider.key() == {"backend": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
