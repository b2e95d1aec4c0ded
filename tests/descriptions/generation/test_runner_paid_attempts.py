"""What attempts without a usable reply cost: counted, kept and limited, against a real HTTP server. Takes seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from servers import Answer, ChatServer, completion, error, serving
from support import ROOT

from abs_core.errors import FatalProviderError
from abs_core.labels import from_names
from abs_descriptions.bundles import write_bundle
from abs_descriptions.generation.cost import Budget, Prices
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
from abs_descriptions.generation.runner import (
    GenerationPlan,
    GenerationProgress,
    GenerationResult,
    StopReason,
    estimate_requests,
    run_generation,
)

pytest.importorskip("openai")
pytestmark = pytest.mark.faults
HASTE = RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.02, timeout=30)
PROMPTS = PromptSet(id="p", version=1, description="d", prompts=({"id": "a", "text": "Tell {name}"},))
NAMES = ["cat", "dog", "cow"]
PLAN = GenerationPlan(per_class=2, parameters=Parameters(max_tokens=20))
PRICES = Prices(1000, 2000)
EMPTY = completion(None)  # states 7 and 3 tokens


@pytest.fixture
def server(no_ambient_key: None) -> Iterator[ChatServer]:
    with serving(ChatServer()) as state:
        yield state


def good(body: dict[str, Any]) -> str:
    return f"The {body['messages'][-1]['content'].removeprefix('Tell ')} with the seed {body['seed']} has a tail."


@dataclass
class Twice:
    """Answers each request twice in vain and then well."""

    bad: Answer = EMPTY
    asked: Counter[int] = field(default_factory=Counter)

    def __call__(self, number: int, body: dict[str, Any]) -> str | Answer:
        self.asked[body["seed"]] += 1
        return self.bad if self.asked[body["seed"]] <= 2 else good(body)


@dataclass
class Ran:
    """A generation and the last that it said of itself."""

    result: GenerationResult
    now: GenerationProgress

    @property
    def known(self) -> Tokens:
        return self.now.paid + self.now.saved


def run(server: ChatServer, journal: Path, budget: Budget | None = None, **options: Any) -> Ran:
    provider = OpenAIChatProvider(
        "m", base_url=server.url, retry_policy=HASTE, concurrency=options.pop("concurrency", 4)
    )
    said: list[GenerationProgress] = []
    with Journal(journal) as kept:
        result = run_generation(
            from_names(NAMES),
            PROMPTS,
            provider,
            options.pop("plan", PLAN),
            journal=kept,
            budget=budget,
            on_progress=said.append,
        )
    return Ran(result, said[-1])


def ask(server: ChatServer, asked: Request, **retry_policy: Any) -> Outcome:
    provider = OpenAIChatProvider("m", base_url=server.url, retry_policy=replace(HASTE, **retry_policy))
    ((_, outcome),) = provider.complete([asked])
    return outcome


ASKED = Request((Message("user", "Tell cat"),), Parameters(max_tokens=20))
MOST = max_tokens_per_attempt(ASKED)


@pytest.mark.parametrize(
    ("bad", "each"),
    [
        (EMPTY, Tokens(7, 3)),
        (completion(None, drawn=0), Tokens(7, 0)),
        (completion("half", "error"), Tokens(7, 3)),
        (Answer(200, b'{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}'), Tokens(5, 2)),
        (Answer(200, b'{"choices": []}'), MOST),
        (Answer(200, b'{"choices": [], "usage": {"prompt_tokens": 5}}'), MOST),
        (Answer(200, b'{"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}'), MOST),
        (Answer(200, b'{"choices": [], "usage": {"prompt_tokens": -5, "completion_tokens": 2}}'), MOST),
        (Answer(200, b'{"choices": [], "usage": "much"}'), MOST),
        (Answer(200, b"<html>"), MOST),
        (Answer(200, completion("cut").raw, {"content-length": "9999"}), MOST),
        (Answer(drop=True), MOST),
        (error(500), Tokens()),
        (error(429), Tokens()),
    ],
    ids=lambda value: None if isinstance(value, Answer) else f"{value.prompt} and {value.completion}",
)
def test_each_attempt_counts_with_what_it_states_or_with_the_most(
    server: ChatServer, bad: Answer, each: Tokens
) -> None:
    server.behave = Twice(bad)
    outcome = ask(server, ASKED)
    assert isinstance(outcome, Reply)
    assert outcome == Reply(outcome.text, "stop", 7, 3, each + each)
    assert len(server.seen) == 3


def test_an_attempt_that_is_not_answered_in_time_counts_with_the_most(server: ChatServer) -> None:
    server.behave = lambda number, body: good(body) if number else replace(EMPTY, delay=5)
    outcome = ask(server, ASKED, timeout=1.5)
    assert isinstance(outcome, Reply)
    assert outcome.lost == MOST


@pytest.mark.parametrize(
    ("bad", "lost"),
    [
        (EMPTY, Tokens(4 * 7, 4 * 3)),
        (completion(None, "content_filter"), Tokens(7, 3)),
        (completion("", "length", drawn=20), Tokens(2 * 7, 2 * 20)),  # once more with room for reasoning
        (completion(None, refusal="no"), Tokens(7, 3)),
        (error(400), Tokens()),
    ],
    ids=["empty", "filtered", "cut", "refused", "an error"],
)
def test_a_request_that_fails_in_the_end_counts_with_all_its_attempts(
    server: ChatServer, bad: Answer, lost: Tokens
) -> None:
    server.behave = lambda number, body: bad
    outcome = ask(server, ASKED)
    assert isinstance(outcome, Failure)
    assert outcome.lost == lost


def test_totals_the_limit_and_the_journal_count_every_attempt(server: ChatServer, tmp_path: Path) -> None:
    server.behave = Twice()
    budget = Budget(PRICES, 100)
    ran = run(server, tmp_path / "j.jsonl", budget)
    assert ran.result.complete
    assert len(server.seen) == 18
    assert (ran.now.paid, ran.now.saved) == (Tokens(18 * 7, 18 * 3), Tokens())
    assert budget.spent == pytest.approx(PRICES.cost(ran.now.paid))
    again = run(server, tmp_path / "j.jsonl", budget)
    assert len(server.seen) == 18
    assert (again.now.paid, again.now.saved) == (Tokens(), ran.now.paid)
    assert again.result == ran.result
    with Journal(tmp_path / "j.jsonl", read_only=True) as kept:
        ahead = estimate_requests(
            from_names(NAMES), PROMPTS, OpenAIChatProvider("m", base_url=server.url), PLAN, journal=kept
        )
    assert (ahead.requests, ahead.saved) == (0, ran.now.paid)


def test_what_nobody_states_is_marked_in_the_totals(server: ChatServer, tmp_path: Path) -> None:
    server.behave = Twice(Answer(200, b"<html>"))
    budget = Budget(PRICES, 100)
    ran = run(server, tmp_path / "j.jsonl", budget)
    assert ran.now.paid == Tokens(6 * 7 + 12 * MOST.prompt, 6 * 3 + 12 * MOST.completion, 12)
    assert budget.spent == pytest.approx(PRICES.cost(ran.now.paid))
    assert run(server, tmp_path / "j.jsonl").now.saved == ran.now.paid


def test_what_failed_requests_took_is_known_to_the_run_that_asks_them_again(server: ChatServer, tmp_path: Path) -> None:
    def no_dogs(number: int, body: dict[str, Any]) -> str | Answer:
        return EMPTY if body["messages"][-1]["content"] == "Tell dog" else good(body)

    server.behave = no_dogs
    plan = replace(PLAN, tries=1)
    budget = Budget(PRICES, 100)
    ran = run(server, tmp_path / "j.jsonl", budget, plan=plan)
    assert [line.failed for line in ran.result.report] == [0, 2, 0]
    assert ran.now.paid == Tokens((4 + 2 * 4) * 7, (4 + 2 * 4) * 3)
    assert budget.spent == pytest.approx(PRICES.cost(ran.now.paid))
    server.behave = lambda number, body: good(body)
    for paid in (2, 0):
        again = run(server, tmp_path / "j.jsonl", plan=plan)
        assert again.result.complete
        assert again.now.paid == Tokens(paid * 7, paid * 3)
        assert again.known == Tokens(len(server.seen) * 7, len(server.seen) * 3)


def test_a_reply_that_is_no_list_is_paid_for_and_used(server: ChatServer, tmp_path: Path) -> None:
    prompts = PROMPTS.model_copy(update={"answer": "list"})
    provider = OpenAIChatProvider("m", base_url=server.url, retry_policy=HASTE)
    server.behave = Twice(EMPTY)  # and then a sentence, which is not the JSON that was asked for
    for _ in range(2):
        with Journal(tmp_path / "j.jsonl") as kept:
            ran = run_generation(
                from_names(["cat"]), prompts, provider, GenerationPlan(1, 1, PLAN.parameters), journal=kept
            )
        assert [one.text for one in ran.descriptions] == [good(server.seen[-1].body)]
    # The text is kept, and judged anew for nothing by the second run.
    assert len(server.seen) == 3
    (line,) = [json.loads(line) for line in (tmp_path / "j.jsonl").read_text().splitlines()[1:]]
    assert line["text"] == good(server.seen[-1].body)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (7, 3)
    assert Tokens.from_dict(line["lost"]) == Tokens(14, 6)


def test_a_run_that_ends_tells_what_its_last_requests_took(server: ChatServer) -> None:
    server.behave = lambda number, body: error(402) if number else EMPTY
    outcomes = OpenAIChatProvider("m", base_url=server.url, retry_policy=HASTE, concurrency=1).complete([ASKED])
    asked, outcome = next(outcomes)
    assert asked == ASKED
    assert isinstance(outcome, Failure)
    assert outcome.lost == Tokens(7, 3)
    with pytest.raises(FatalProviderError, match="quota"):
        next(outcomes)


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("bad", [3, 9])
@pytest.mark.slow
def test_a_cost_limit_holds_whatever_is_under_way(
    server: ChatServer, tmp_path: Path, concurrency: int, bad: int
) -> None:
    """The server bills the most for each attempt, and two of three, or almost all, are in vain."""
    most = max_tokens_per_attempt(Request((Message("user", "Tell cat"),), PLAN.parameters))
    fine = completion("", prompt=most.prompt, drawn=20)

    def behave(number: int, body: dict[str, Any]) -> Answer:
        content = json.loads(fine.raw)
        content["choices"][0]["message"]["content"] = None if number % bad else good(body)
        return replace(fine, raw=json.dumps(content).encode(), delay=0.005)

    server.behave = behave
    budget = Budget(PRICES, 20.5 * PRICES.cost(most))
    plan = GenerationPlan(per_class=50, parameters=PLAN.parameters)
    ran = run(server, tmp_path / "j.jsonl", budget, plan=plan, concurrency=concurrency)
    assert ran.result.stop is StopReason.COST
    assert len(server.seen) == 20
    assert budget.spent == pytest.approx(20 * PRICES.cost(most))
    assert ran.now.paid == Tokens(20 * most.prompt, 20 * 20)
    assert run(server, tmp_path / "j.jsonl", plan=replace(plan, per_class=1)).now.saved.total <= ran.now.paid.total


def test_a_request_that_the_limit_kept_from_further_attempts_makes_the_run_partial(
    server: ChatServer, tmp_path: Path
) -> None:
    most = max_tokens_per_attempt(Request((Message("user", "Tell cat"),), PLAN.parameters))
    server.behave = lambda number, body: completion(
        good(body) if number < 2 else None, prompt=most.prompt, drawn=most.completion
    )
    budget = Budget(PRICES, 3.5 * PRICES.cost(most))
    ran = run(server, tmp_path / "j.jsonl", budget, plan=GenerationPlan(1, 1, PLAN.parameters), concurrency=1)
    assert [line.accepted for line in ran.result.report] == [1, 1, 0]
    assert ran.result.stop is StopReason.COST
    assert ran.result.failures == ("the reply is empty; the cost limit allows no further attempt",)
    assert len(server.seen) == 3


def test_a_bundle_does_not_depend_on_the_attempts(server: ChatServer, tmp_path: Path) -> None:
    made = []
    for number, behave in enumerate((Twice(), lambda number, body: good(body), Twice(Answer(200, b"<html>")))):
        server.behave = behave
        result = run(server, tmp_path / f"{number}.jsonl").result
        path = tmp_path / f"bundle-{number}.jsonl"
        write_bundle(
            path,
            name="zoo",
            version="1.0.0",
            created="2025-01-01T00:00:00Z",
            label_set=from_names(NAMES),
            generators=[result.generator],
            license="CC0-1.0",
            records=result.descriptions,
            rejected=result.rejected,
            complete=result.complete,
        )
        made.append(path.read_bytes())
    assert made[0] == made[1] == made[2]


RUNNER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_runner_paid_attempts import ChatServer, run
run(ChatServer(url=sys.argv[2]), Path(sys.argv[1]), concurrency=1)
"""


@pytest.mark.slow
def test_a_run_resumed_after_a_kill_counts_the_same(server: ChatServer, tmp_path: Path) -> None:
    server.behave = Twice()
    whole = run(server, tmp_path / "whole.jsonl").now.paid
    behave = Twice()

    def hold(number: int, body: dict[str, Any]) -> str | Answer:
        """The fourth request waits for ever."""
        return replace(EMPTY, delay=60) if len({**behave.asked, body["seed"]: 1}) == 4 else behave(number, body)

    server.seen.clear()
    server.behave = hold
    path = tmp_path / "killed.jsonl"
    command = [sys.executable, "-c", RUNNER, str(path), server.url, str(Path(__file__).parent), str(ROOT / "tests")]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        wait_for(lambda: len(server.seen) == 10 and path.read_bytes().count(b"\n") == 4)
        os.kill(process.pid, signal.SIGKILL)
    server.behave = behave
    ran = run(server, path)
    assert ran.result.complete
    assert ran.now.saved == ran.now.paid == Tokens(9 * 7, 9 * 3)
    assert ran.known == whole


def wait_for(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not there() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert there()
