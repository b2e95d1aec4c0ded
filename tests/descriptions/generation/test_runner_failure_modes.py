"""What is sent and paid until a run stops, in each failure mode: the table in docs/servers.md, with a real server."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from servers import Answer, ChatServer, completion, error, serving
from support import ROOT

from abs_core.errors import ProviderError
from abs_core.labels import from_names
from abs_descriptions.generation.cost import Prices
from abs_descriptions.generation.pipeline import generate
from abs_descriptions.generation.plan import GenerationPlan
from abs_descriptions.generation.prompts import PromptSet
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider
from abs_descriptions.generation.providers.retry import RetryPolicy

pytest.importorskip("openai")
pytestmark = pytest.mark.faults

NAMES = [f"kind {number}" for number in range(10, 50)]
PROMPTS = PromptSet(id="p", version=1, description="d", prompts=({"id": "a", "text": "Tell {name}"},))
HASTE = RetryPolicy(first_wait=0.01, longest_wait=0.02, timeout=20)
Behave = Callable[[int, str, dict[str, Any]], Answer]


def reply(text: Any, finish: str = "stop", **more: Any) -> Answer:
    """A reply that is billed 100 tokens in and 50 out."""
    return completion(text, finish, prompt=100, drawn=50, **more)


def good(number: int, name: str, body: dict[str, Any]) -> Answer:
    return reply(f"This {name} number {number} has a long tail.")


def always(answer: Answer) -> Behave:
    return lambda number, name, body: answer


def starved(number: int, name: str, body: dict[str, Any]) -> Answer:
    return completion("", "length", prompt=100, drawn=body["max_tokens"])


def moderated(number: int, name: str, body: dict[str, Any]) -> Answer:
    flagged = "Your input was flagged for 'violence'"
    return error(403, "moderation", flagged) if name == NAMES[0] else good(number, name, body)


def weak(number: int, name: str, body: dict[str, Any]) -> Answer:
    return reply(
        ["It has a long tail and two ears.", "No.", f"The {name}, the {name}, the {name}, the {name}."][number % 3]
    )


CREDITS = Answer(200, b'{"error": {"message": "Insufficient credits", "code": 402}}')
DAILY = error(429, "rate_limit_exceeded", "Rate limit exceeded: free-models-per-day", Retry_After="36000")

#: The row of the table to what the server does.
MODES: dict[str, Behave] = {
    "nothing goes wrong": good,
    "401: a wrong key": always(error(401, "invalid_api_key", "Incorrect API key provided")),
    "404: an unknown model": always(error(404, "not_found_error", "model 'm' not found")),
    "402, or 429 with the quota spent": always(error(429, "insufficient_quota", "You exceeded your current quota")),
    "credits gone, said in a 200": always(CREDITS),
    "429 with a limit for the day": always(DAILY),
    "429 without an end": always(error(429, "rate_limit_exceeded", "slow down")),
    "500 to everything": always(error(500, "server_error", "boom")),
    "the connection is closed without a byte": always(Answer(drop=True)),
    "empty after reasoning, also with 1,024 tokens": starved,
    "empty replies": always(reply("")),
    "no chat completion": always(Answer(200, b"<html>")),
    "every prompt refused": always(reply(None, refusal="I can't help with that")),
    "every prompt filtered": always(reply(None, "content_filter")),
    "one class of 40 moderated (403)": moderated,
    "thinking that never ends": always(reply("<think> Let me see. The kind 10 might be", "length")),
    "a list that is not the JSON asked for": always(reply("A long tail, two ears")),
    "no class name in any reply": lambda number, name, body: reply(f"It has a long tail and {number} ears."),
    "rejected for different reasons": weak,
    "the same reply to every question": lambda number, name, body: reply(f"A {name} has a long tail and two ears."),
    "the quota is spent after 100 replies": lambda number, name, body: (
        good(number, name, body) if number < 100 else error(402, "quota", "pay")
    ),
    "500 to everything after 100 replies": lambda number, name, body: (
        good(number, name, body) if number < 100 else error(500, "server_error", "boom")
    ),
}


@dataclass
class Row:
    """A row of the table."""

    requests: str
    tokens: str
    end: str


def table() -> dict[str, Row]:
    page = (ROOT / "docs" / "servers.md").read_text(encoding="utf-8")
    section = page.partition("## What a failing run costs")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", section, flags=re.M)
    return {name: Row(requests, tokens, end) for name, requests, tokens, end in rows[1:]}


@pytest.fixture
def server(no_ambient_key: None) -> Iterator[ChatServer]:
    with serving(ChatServer()) as state:
        yield state


def run(server: ChatServer, folder: Path, mode: str, behave: Behave) -> Row:
    server.behave = lambda number, body: behave(number, body["messages"][-1]["content"].removeprefix("Tell "), body)
    prompts = PROMPTS.model_copy(update={"answer": "list"}) if "JSON" in mode else PROMPTS
    provider = OpenAIChatProvider("m", base_url=server.url, retry_policy=HASTE)
    options: dict[str, Any] = {"plan": GenerationPlan(per_class=10), "prompts": prompts, "prices": Prices(1, 1)}
    message, before = "", len(server.seen)
    try:
        summary = generate(from_names(NAMES), "zoo", provider, output=folder / "b.jsonl", journals=folder, **options)
    except ProviderError as failure:
        message = failure.message
    if message:
        found = re.search(r"(\d+) requests? (?:was|were) sent: (?:at most )?(\d+) tokens in, (\d+) out", message)
        assert found is not None, message
        assert int(found[1]) == len(server.seen) - before
        return Row(found[1], f"{found[2]} in, {found[3]} out", "error")
    paid = summary.cost.paid
    end = "complete" if summary.result.complete else "PARTIAL"
    return Row(str(len(server.seen)), f"{paid.prompt} in, {paid.completion} out", end)


def test_the_table_has_all_modes() -> None:
    assert set(table()) == {"dead server", *MODES}


@pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=pytest.mark.slow) if "500 to" in mode else mode for mode in MODES]
)
def test_the_table_says_what_happens(server: ChatServer, tmp_path: Path, mode: str) -> None:
    said, measured = table()[mode], run(server, tmp_path, mode, MODES[mode])
    if said.requests.startswith("up to "):  # what is in flight when it stops depends on the moment
        bounds, values = numbers(said), numbers(measured)
        assert all(value <= bound for value, bound in zip(values, bounds, strict=True)), measured
        assert measured.end == said.end
    else:
        assert measured == said


def numbers(row: Row) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", f"{row.requests} {row.tokens}")]


def test_a_dead_server_gets_nothing(tmp_path: Path, no_ambient_key: None) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = ChatServer(url=f"http://127.0.0.1:{free.getsockname()[1]}/v1")
    with pytest.raises(ProviderError, match=r"cannot be reached.*; 1 request was sent: 0 tokens in, 0 out"):
        run_dead(dead, tmp_path)
    assert table()["dead server"] == Row("1", "0 in, 0 out", "error")


def run_dead(server: ChatServer, folder: Path) -> None:
    provider = OpenAIChatProvider("m", base_url=server.url, retry_policy=HASTE)
    generate(from_names(NAMES), "zoo", provider, output=folder / "b.jsonl", prompts=PROMPTS)


@pytest.mark.parametrize("concurrency", [1, 40])
@pytest.mark.parametrize(
    "mode", ["500 to everything", "empty replies", "every prompt refused", "no class name in any reply"]
)
def test_everything_alike_costs_as_many_requests_as_run_at_once_and_at_least_12(
    server: ChatServer, tmp_path: Path, mode: str, concurrency: int
) -> None:
    behave = MODES[mode]
    server.behave = lambda number, body: behave(number, body["messages"][-1]["content"].removeprefix("Tell "), body)
    provider = OpenAIChatProvider("m", base_url=server.url, retry_policy=HASTE, concurrency=concurrency)
    with pytest.raises(ProviderError):
        generate(
            from_names(NAMES), "zoo", provider, output=tmp_path / "b.jsonl", prompts=PROMPTS, journals=tmp_path,
            plan=GenerationPlan(per_class=10),
        )  # fmt: skip
    assert len(server.seen) == max(12, concurrency)


def test_what_was_paid_is_in_the_journal_whatever_became_of_it(server: ChatServer, tmp_path: Path) -> None:
    for mode in ("no class name in any reply", "a list that is not the JSON asked for"):
        folder = tmp_path / mode.split()[0]
        server.seen.clear()
        run(server, folder, mode, MODES[mode])
        lines = [json.loads(line) for line in (folder / "zoo.jsonl").read_text().splitlines()[1:]]
        assert len(lines) == len(server.seen) == 16
        assert all(line["text"] for line in lines)
        # The next run judges them anew, and asks for as many again at most.
        run(server, folder, mode, MODES[mode])
        assert len(server.seen) == 32


def test_a_run_that_is_resumed_is_stopped_all_the_same(server: ChatServer, tmp_path: Path) -> None:
    run(server, tmp_path, "after", MODES["the quota is spent after 100 replies"])
    server.seen.clear()
    assert run(server, tmp_path, "again", MODES["500 to everything"]).requests == "16"


def test_a_moderated_class_is_named_in_the_partial_bundle(server: ChatServer, tmp_path: Path) -> None:
    server.behave = lambda number, body: moderated(number, body["messages"][-1]["content"].removeprefix("Tell "), body)
    provider = OpenAIChatProvider("m", base_url=server.url, retry_policy=replace(HASTE), concurrency=4)
    names, plan = from_names(NAMES[:3]), GenerationPlan(per_class=20)
    summary = generate(names, "zoo", provider, output=tmp_path / "b.jsonl", prompts=PROMPTS, plan=plan)
    assert [line.name for line in summary.result.short] == [NAMES[0]]
    assert [line.accepted for line in summary.result.report] == [0, 20, 20]
    assert not summary.result.complete
    (remark,) = summary.result.remarks
    assert (remark.kind, remark.examples) == (
        "requests not sent: the model refuses everything about the class",
        (NAMES[0],),
    )
    assert "flagged" in summary.result.failures[0]
