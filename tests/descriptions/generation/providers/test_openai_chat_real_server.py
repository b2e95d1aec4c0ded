"""The provider openai against `transformers serve` with the embedded model, alone and behind a proxy that makes faults.

The table of faults also stands in docs/servers.md, and is compared with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from real_server import RealServer
from servers import PASS, Answer, ChatServer, completion, error, serving
from support import ROOT

from abs_core.errors import FatalProviderError
from abs_core.labels import from_names
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.prompts import PromptSet
from abs_descriptions.generation.providers.base import (
    Failure,
    Message,
    Outcome,
    Parameters,
    Reply,
    Request,
    Tokens,
    max_tokens_per_attempt,
)
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider
from abs_descriptions.generation.providers.retry import RetryPolicy
from abs_descriptions.generation.runner import GenerationPlan, run_generation

pytest.importorskip("openai")
pytestmark = pytest.mark.faults
KEY = "sk-test-0123456789-very-secret"
DOCS = ROOT / "docs" / "servers.md"
# A reply of two tokens is there much sooner, also on a busy machine.
TIMEOUT, STALL = 5.0, 60.0
AGAIN, ALONE, ENDS = "retried", "this request fails", "the run ends"
ADAPTED = "retried in another form"
NONE, STATED, MOST = "none", "as stated", "the maximum"


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    Args:
        injected: what the server does.
        answer: how.
        seen: what the provider takes it for.
        outcome: what it does about it.
        counted: the tokens that count.
    """

    injected: str
    answer: Answer
    seen: str
    outcome: str
    counted: str


def ok(raw: bytes, **headers: str) -> Answer:
    return Answer(200, raw, {name.replace("_", "-"): value for name, value in headers.items()})


NO_JSON, NO_CHAT = "the reply is not JSON", "the reply is not a chat completion"
FAULTS = [
    Fault("429, `Retry-After: 1`", error(429, retry_after="1"), "status 429: no", AGAIN, NONE),
    Fault("429 without `Retry-After`", error(429), "status 429: no", AGAIN, NONE),
    Fault("429, `insufficient_quota`", error(429, "insufficient_quota", retry_after="9"),
          "the quota at HOST is exhausted: no", ENDS, NONE),
    Fault("429, `Retry-After: 7200`", error(429, retry_after="7200"),
          "HOST asks to wait for 7200 s (status 429: no)", ENDS, NONE),
    Fault("402", error(402), "the quota at HOST is exhausted: no", ENDS, NONE),
    Fault("401", error(401, message=f"bad key {KEY}"), "HOST does not accept the key: bad key ***", ENDS, NONE),
    Fault("403", error(403, message=f"{KEY} may not"), "HOST does not permit this: *** may not", ENDS, NONE),
    Fault("404", error(404, message="no m"), "HOST has no such model or path: no m", ENDS, NONE),
    Fault("400, `unsupported_parameter`", error(400, "unsupported_parameter", "no such tier"),
          "HOST cannot take such requests: no such tier", ENDS, NONE),
    Fault("400 about a parameter", error(400, "unsupported_parameter", "no seed"), "", ADAPTED, NONE),
    Fault("400, `content_filter`", error(400, "content_filter", "not this"),
          "the server's content filter refused the prompt (status 400: not this)", ALONE, NONE),
    Fault("429 about a day", error(429, "rate_limit_exceeded", "50 per day"),
          "the limit of HOST for a day or longer is used up: 50 per day", ENDS, NONE),
    Fault("an error in a success", ok(b'{"error": {"message": "no credits", "code": 402}}'),
          "the quota at HOST is exhausted: no credits", ENDS, NONE),
    Fault("307 to another host", Answer(307, b"", {"location": "http://127.0.0.1:9/"}),
          "HOST redirects elsewhere; the key is not sent there", ENDS, NONE),
    Fault("400 for one request", error(400, "context_length_exceeded", "too long"),
          "status 400: too long", ALONE, NONE),
    Fault("finish reason `content_filter`", completion(None, "content_filter"),
          "the server's content filter blocked the reply", ALONE, STATED),
    Fault("a refusal", completion(None, refusal="I would rather not"),
          "the model refused: I would rather not", ALONE, STATED),
    Fault("408", error(408), "status 408: no", AGAIN, NONE),
    Fault("500", error(500), "status 500: no", AGAIN, NONE),
    Fault("500 without a body", Answer(500), "status 500", AGAIN, NONE),
    Fault("503", error(503), "status 503: no", AGAIN, NONE),
    Fault("a stall", Answer(200, b"{}", delay=STALL), "no reply in time", AGAIN, MOST),
    Fault("a cut body", Answer(200, completion("cut").raw, {"content-length": "9999"}),
          "the connection broke (RemoteProtocolError)", AGAIN, MOST),
    Fault("the connection closed without a byte", Answer(drop=True),
          "the connection broke (RemoteProtocolError)", AGAIN, MOST),
    Fault("HTML with 200", ok(b"<html>Bad gateway</html>", content_type="text/html"),
          "the reply is not JSON but a page: Bad gateway", AGAIN, MOST),
    Fault("an empty body", ok(b""), NO_JSON, AGAIN, MOST),
    Fault("half a JSON text", ok(completion("half").raw[:60]), NO_JSON, AGAIN, MOST),
    Fault("bytes that are no UTF-8", ok(b'{"choices": "\xff\xfe"}'), NO_JSON, AGAIN, MOST),
    Fault("JSON nested 100,000 deep", ok(b"[" * 100_000), NO_JSON, AGAIN, MOST),
    Fault("JSON `null`", ok(b"null"), NO_CHAT, AGAIN, MOST),
    Fault("a JSON list", ok(b"[]"), NO_CHAT, AGAIN, MOST),
    Fault("a JSON number", ok(b"7"), NO_CHAT, AGAIN, MOST),
    Fault("a JSON string", ok(b'"choices"'), NO_CHAT, AGAIN, MOST),
    Fault("an empty object", ok(b"{}"), NO_CHAT, AGAIN, MOST),
    Fault("choices `null`", ok(b'{"choices": null}'), NO_CHAT, AGAIN, MOST),
    Fault("choices that are no list", ok(b'{"choices": {"0": 1}}'), NO_CHAT, AGAIN, MOST),
    Fault("no choices", ok(b'{"choices": []}'), "the reply has no choices", AGAIN, MOST),
    Fault("a choice `null`", ok(b'{"choices": [null]}'), "the reply is empty", AGAIN, MOST),
    Fault("a choice without message", ok(b'{"choices": [{"finish_reason": "stop"}]}'),
          "the reply is empty", AGAIN, MOST),
    Fault("content `null`", completion(None), "the reply is empty", AGAIN, STATED),
    Fault("content of white space", completion("  \n "), "the reply is empty", AGAIN, STATED),
    Fault("content that is no text", completion([1]), "the reply is empty", AGAIN, STATED),
    Fault("reasoning alone", completion(None, reasoning_content="Let me see"),
          "the reply has reasoning and no answer", AGAIN, STATED),
    Fault("finish reason `error`", completion("half", "error"), "the reply ended with 'error'", AGAIN, STATED),
]  # fmt: skip


@pytest.fixture(scope="module")
def proxy(real_server: RealServer) -> Iterator[ChatServer]:
    with serving(ChatServer(behind=real_server.url)) as state:
        yield state


@pytest.fixture
def provider(no_ambient_key: None, monkeypatch: pytest.MonkeyPatch, proxy: ChatServer, real_server: RealServer) -> Any:
    """A provider at the proxy, which has seen nothing and passes everything on."""
    monkeypatch.setenv("MY_KEY", KEY)
    proxy.seen.clear()
    proxy.behave = lambda number, body: PASS
    return lambda retry_policy: OpenAIChatProvider(
        real_server.model, base_url=proxy.url, key_variable="MY_KEY", concurrency=1, retry_policy=retry_policy
    )


def requests(count: int) -> list[Request]:
    turns = (Message("user", "Describe a cat."),)
    return [Request(turns, Parameters(max_tokens=2), sample) for sample in range(count)]


COUNTED = {NONE: Tokens(), STATED: Tokens(7, 3), MOST: max_tokens_per_attempt(requests(1)[0])}


def outcomes(provider: OpenAIChatProvider, count: int) -> list[Outcome]:
    return [outcome for _, outcome in provider.complete(requests(count))]


def is_real(outcome: Outcome) -> bool:
    return isinstance(outcome, Reply) and outcome.prompt_tokens > 10 and outcome.completion_tokens <= 2


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.injected)
@pytest.mark.slow
def test_every_fault_has_the_outcome_in_the_table(fault: Fault, provider: Any, proxy: ChatServer) -> None:
    proxy.behave = lambda number, body: fault.answer if number == 0 else PASS
    if fault.outcome != ADAPTED:
        assert told_by(provider, proxy, fault) == fault.seen
    if fault.outcome == ENDS:
        return
    proxy.seen.clear()
    started = time.monotonic()
    retry_policy = RetryPolicy(first_wait=0.01, longest_wait=0.02, timeout=TIMEOUT)
    first, *more = outcomes(provider(retry_policy), 1 if fault.outcome in (AGAIN, ADAPTED) else 2)
    assert is_real(first) == (fault.outcome in (AGAIN, ADAPTED))
    assert first.lost == COUNTED[fault.counted]
    assert not any(one.lost.total for one in more)
    assert all(is_real(one) for one in more)
    assert len(proxy.seen) == 2
    assert time.monotonic() - started >= float(fault.answer.headers.get("retry-after", 0))


def told_by(provider: Any, proxy: ChatServer, fault: Fault) -> str:
    """What the provider says of a fault when it may not ask again; no more than one request may have been sent."""
    patience = 1.0 if fault.seen == "no reply in time" else STALL  # a busy machine takes more than a second to reply
    once = RetryPolicy(attempts=1, give_up_after=0.0, timeout=patience)
    if fault.outcome == ENDS:
        with pytest.raises(FatalProviderError) as caught:
            outcomes(provider(once), 50)
        assert caught.value.remedy
        said = caught.value.message
    else:
        (outcome,) = outcomes(provider(once), 1)
        assert isinstance(outcome, Failure)
        said = outcome.reason
    assert KEY not in said
    assert len(proxy.seen) == 1
    return said.replace(proxy.url.removeprefix("http://").removesuffix("/v1"), "HOST")


def test_the_documentation_shows_the_table() -> None:
    rows = [f"| {one.injected} | {one.seen} | {one.outcome} | {one.counted} |" for one in FAULTS]
    text = DOCS.read_text(encoding="utf-8")
    start = text.index("| injected |")
    shown = text[start : text.index("\n\n", start)].splitlines()
    assert shown[2:] == rows


@pytest.mark.slow
def test_descriptions_come_from_a_real_server_and_only_once(real_server: RealServer, tmp_path: Path) -> None:
    provider = OpenAIChatProvider(real_server.model, base_url=real_server.url, concurrency=4)
    prompts = PromptSet(id="p", version=1, description="d", prompts=({"id": "a", "text": "Describe a {name}."},))
    plan = GenerationPlan(per_class=1, tries=2, parameters=Parameters(max_tokens=20))
    texts = []
    for _ in range(2):
        with Journal(tmp_path / "journal.jsonl") as journal:
            result = run_generation(from_names(["cat", "dog"]), prompts, provider, plan, journal=journal)
        texts.append([one.text for one in result.descriptions])
        lines = len((tmp_path / "journal.jsonl").read_text().splitlines())
    assert texts[0] == texts[1]
    assert lines == 1 + sum(line.asked for line in result.report)


def test_a_list_is_asked_for_in_words_where_the_server_knows_no_schemas(real_server: RealServer) -> None:
    (request,) = requests(1)
    provider = OpenAIChatProvider(real_server.model, base_url=real_server.url)
    ((_, outcome),) = provider.complete([replace(request, answer="list")])
    assert is_real(outcome)


def test_an_unknown_model_and_an_unknown_path_are_errors_that_name_the_server(real_server: RealServer) -> None:
    (outcome,) = outcomes(OpenAIChatProvider("another", base_url=real_server.url), 1)
    assert isinstance(outcome, Failure)
    assert "another" in outcome.reason
    with pytest.raises(FatalProviderError, match="no such model or path"):
        outcomes(OpenAIChatProvider(real_server.model, base_url=f"{real_server.url}/v2"), 1)
