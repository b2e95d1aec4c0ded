"""A cost limit against servers that bill what no request can bound: hidden reasoning, long templates, no counts."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from scripted_provider import Script, good
from servers import Answer, ChatServer, serving

from abs_core.labels import from_names
from abs_descriptions.generation.cost import Budget, Prices
from abs_descriptions.generation.pipeline import estimate_cost, generate
from abs_descriptions.generation.plan import GenerationPlan, StopReason
from abs_descriptions.generation.prompts import PromptSet
from abs_descriptions.generation.providers.base import Message, Outcome, Parameters, Reply, Request, Tokens
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider
from abs_descriptions.generation.report import GenerationSummary
from abs_descriptions.generation.runner import run_generation

pytest.importorskip("openai")
pytestmark = pytest.mark.faults

NAMES = [f"kind {number}" for number in range(10, 30)]
PROMPTS = PromptSet(id="p", version=1, description="d", prompts=({"id": "a", "text": "Tell {name}"},))
PRICES = Prices(1000, 2000)


@dataclass
class Biller:
    """Bills each request by a rule, and knows the sum.

    Args:
        reasoning: the hidden tokens of each reply.
        template: prompt tokens beyond those of the messages.
        hidden: count the reasoning in the total alone.
        delay: seconds before an answer, so that as many requests are in flight as there can be.
    """

    reasoning: Any
    template: int = 30
    hidden: bool = True
    delay: float = 0.02
    cost: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, number: int, body: dict[str, Any]) -> Answer:
        with self.lock:
            hidden, visible = self.reasoning(), 25
            self.cost += PRICES.cost(Tokens(self.template, visible + hidden))
        stated = visible if self.hidden else visible + hidden
        usage = {"prompt_tokens": self.template, "completion_tokens": stated}
        usage["total_tokens"] = self.template + visible + hidden
        text = f"The {body['messages'][-1]['content'].removeprefix('Tell ')} number {number} has a tail."
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        return Answer(200, json.dumps({"choices": [choice], "usage": usage}).encode(), delay=self.delay)


@pytest.fixture
def server(no_ambient_key: None) -> Iterator[ChatServer]:
    with serving(ChatServer()) as state:
        yield state


def run(server: ChatServer, folder: Path, limit: float | None, concurrency: int = 16) -> GenerationSummary:
    provider = OpenAIChatProvider("m", base_url=server.url, concurrency=concurrency)
    return generate(
        from_names(NAMES),
        "zoo",
        provider,
        output=folder / "b.jsonl",
        prompts=PROMPTS,
        plan=GenerationPlan(per_class=10),
        prices=PRICES,
        max_cost=limit,
    )


@pytest.mark.parametrize("concurrency", [1, 64])
@pytest.mark.parametrize("hidden", [True, False], ids=["in the total alone", "stated"])
def test_reasoning_beyond_the_tokens_of_a_reply_keeps_to_the_limit(
    server: ChatServer, tmp_path: Path, concurrency: int, hidden: bool
) -> None:
    server.behave = biller = Biller(lambda: 1000, hidden=hidden)
    summary = run(server, tmp_path, 60.0, concurrency)
    assert summary.result.stop is StopReason.COST
    # A reply costs 2.08, and twice that is reserved.
    assert 60 - 2 * 2.1 < biller.cost <= 60
    assert summary.cost.to_dict()["paid"]["cost"] == pytest.approx(biller.cost)
    (remark,) = summary.result.remarks
    assert remark.kind == "replies billed for more tokens than they may have, such as hidden reasoning"
    assert (remark.count, remark.examples) == (len(server.seen), ("1025 instead of 60",))


@pytest.mark.parametrize("seed", range(2))
def test_bills_that_vary_keep_to_the_limit(server: ChatServer, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    server.behave = biller = Biller(lambda: draw.choice((200, 400, 800, 1600)))
    assert run(server, tmp_path, 60.0).result.stop is StopReason.COST
    assert 60 - 2 * 3.3 < biller.cost <= 60


def test_a_template_that_is_longer_than_was_allowed_for_keeps_to_the_limit(server: ChatServer, tmp_path: Path) -> None:
    server.behave = biller = Biller(lambda: 0, template=2500)
    assert run(server, tmp_path, 60.0).result.stop is StopReason.COST
    assert 60 - 2.63 < biller.cost <= 60


class Waves(Script):
    """Takes all requests that it gets at once."""

    def __init__(self) -> None:
        super().__init__(good)
        self.sizes: list[int] = []

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Outcome]]:
        wave = list(requests)
        self.sizes.append(len(wave))
        return super().complete(wave)


def test_the_first_request_goes_alone_where_there_is_a_limit() -> None:
    for budget, first in ((Budget(PRICES, 1000), [1, 199]), (None, [12, 188])):
        provider = Waves()
        run_generation(from_names(NAMES), PROMPTS, provider, GenerationPlan(per_class=10), budget=budget)
        assert provider.sizes == first


def test_a_dry_run_knows_what_the_journal_was_billed(server: ChatServer, tmp_path: Path) -> None:
    server.behave = Biller(lambda: 1000)
    provider = OpenAIChatProvider("m", base_url=server.url)
    options: dict[str, Any] = {"prompts": PROMPTS, "journals": tmp_path, "prices": PRICES}
    small, large = GenerationPlan(per_class=1), GenerationPlan(per_class=3)
    before = estimate_cost(from_names(NAMES), "zoo", provider, plan=large, **options).requests
    assert (before.requests, before.tokens.completion) == (60, 60 * 60)
    generate(from_names(NAMES), "zoo", provider, output=tmp_path / "out" / "b.jsonl", plan=small, **options)
    after = estimate_cost(from_names(NAMES), "zoo", provider, plan=large, **options).requests
    assert (after.requests, after.tokens.completion) == (40, 40 * 1025)


def test_a_server_without_token_counts_is_charged_the_maximum_and_named(server: ChatServer, tmp_path: Path) -> None:
    def behave(number: int, body: dict[str, Any]) -> Answer:
        name = body["messages"][-1]["content"].removeprefix("Tell ")
        message = {"role": "assistant", "content": f"The {name} number {number} has a long tail."}
        return Answer(200, json.dumps({"choices": [{"finish_reason": "stop", "message": message}]}).encode())

    server.behave = behave
    summary = run(server, tmp_path, 4.0)
    assert summary.result.stop is StopReason.COST
    # 283 tokens in and 60 out
    assert len(server.seen) == summary.cost.paid.unstated == int(4 / (0.284 + 0.12))
    (remark,) = summary.result.remarks
    assert str(remark).startswith(f"{len(server.seen)} replies without token counts, counted with the maximum")


def test_a_budget_learns_from_bills_and_grows_slowly_after_a_surprise() -> None:
    budget, request = Budget(Prices(0, 1_000_000), 100_000), Request((Message("user", "x"),), Parameters(max_tokens=10))
    other = Request((Message("user", "y"),), Parameters(max_tokens=10))
    assert not budget.has_bill
    assert budget.max_cost(request) == 10
    assert budget.reserve(request)
    assert budget.reserve(other)
    budget.settle(request, Reply("a", "stop", 5, 500))
    assert budget.has_bill
    assert budget.max_cost(request) == 1000
    # What is in flight counts with the new maximum, and one answer allows one request in flight.
    assert not budget.reserve(request)
    budget.settle(other, Reply("a", "stop", 5, 9))
    assert budget.spent == 509
    assert [budget.reserve(request) for _ in range(3)] == [True, True, False]
    budget.settle(request, Reply("a", "stop", 5, 9))
    assert [budget.reserve(other) for _ in range(3)] == [True, True, False]


def test_each_attempt_is_a_bill_of_its_own() -> None:
    budget, request = Budget(Prices(0, 1_000_000), 100_000), Request((Message("user", "x"),), Parameters(max_tokens=10))
    budget.reserve(request)
    maximum = Tokens(0, 10)
    for attempts in range(1, 6):
        assert budget.repeat(request, Tokens(5 * attempts, 8 * attempts), maximum)
    budget.settle(request, Reply("a", "stop", 5, 8, Tokens(25, 40)))
    assert (budget.spent, budget.max_cost(request)) == (48, 10)
