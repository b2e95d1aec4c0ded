"""The provider openai-batch against a server with files and batches, one of whose models is real."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batch_requests import ask, ask_until_the_end, echo, empty, posts, provider_at, replies, request
from servers import BatchServer, completion_body, error, execute_on

from abs_core.errors import FatalProviderError
from abs_core.labels import from_names
from abs_descriptions.generation.cost import Budget, Prices
from abs_descriptions.generation.prompts import PromptSet
from abs_descriptions.generation.providers.base import (
    Adaptation,
    Failure,
    Message,
    Parameters,
    Reply,
    Request,
    Tokens,
    max_tokens_per_attempt,
)
from abs_descriptions.generation.providers.openai_batch_api import custom_id
from abs_descriptions.generation.providers.transformers_local import TransformersProvider
from abs_descriptions.generation.runner import GenerationPlan, StopReason, run_generation

pytest.importorskip("openai")


@pytest.mark.slow
def test_a_batch_runs_on_the_real_model_and_a_request_that_does_not_fit_fails_alone(
    batch_api: BatchServer, small_model: TransformersProvider, tmp_path: Path
) -> None:
    batch_api.execute = execute_on(small_model)
    asked = [Request((Message("user", f"Describe a {name}."),), Parameters(max_tokens=8)) for name in ("cat", "dog")]
    too_long = Request((Message("user", "cat " * 9000),), Parameters(max_tokens=8))
    got = dict(provider_at(batch_api, tmp_path).complete([*asked, too_long]))
    for one in asked:
        reply = got[one]
        assert isinstance(reply, Reply)
        assert reply.prompt_tokens > 10
        assert 1 <= reply.completion_tokens <= 8
    assert isinstance(got[too_long], Failure)
    assert "tokens" in got[too_long].reason
    assert posts(batch_api, "batches") == 1


def test_replies_are_matched_by_their_id_in_any_order(batch_api: BatchServer, tmp_path: Path) -> None:
    assert ask(provider_at(batch_api, tmp_path), 20) == replies(range(20))
    assert not list(tmp_path.iterdir())


def test_the_file_says_what_a_chat_completion_would_be_asked(batch_api: BatchServer, tmp_path: Path) -> None:
    provider = provider_at(batch_api, tmp_path)
    ask(provider, 1)
    (line,) = [json.loads(line) for line in batch_api.files["file-0"].splitlines()]
    assert line == {
        "custom_id": custom_id(provider.key(), request(0)),
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "m",
            "messages": [{"role": "user", "content": "question 0"}],
            "max_tokens": 20,
            "temperature": 0.8,
            "top_p": 0.95,
            "seed": request(0).draw_seed,
        },
    }


def test_equal_requests_share_a_line_and_a_reply(batch_api: BatchServer, tmp_path: Path) -> None:
    got = list(provider_at(batch_api, tmp_path).complete([request(1), request(1), request(2)]))
    assert Counter(asked.tag for asked, _ in got) == {1: 2, 2: 1}
    assert batch_api.paid.total() == 2


@pytest.mark.parametrize("limit", [{"batch_size": 3}, {"batch_bytes": 3 * 240}])
@pytest.mark.slow
def test_batches_are_cut_to_the_limits_and_not_too_many_are_under_way(
    batch_api: BatchServer, tmp_path: Path, limit: dict[str, int]
) -> None:
    taken = 0

    def counted() -> Iterator[Request]:
        nonlocal taken
        for taken in range(10):
            yield request(taken)

    outcomes = provider_at(batch_api, tmp_path, concurrency=2, **limit).complete(counted())
    got = dict([next(outcomes)])
    assert taken <= 2 * 3 + 1
    got |= dict(outcomes)
    assert len(got) == 10
    sizes = [len(batch_api.files[one["input_file_id"]].splitlines()) for one in batch_api.batches.values()]
    assert sizes == [3, 3, 3, 1]
    assert all(
        len(batch_api.files[one["input_file_id"]]) <= limit.get("batch_bytes", 10**6)
        for one in batch_api.batches.values()
    )


def test_what_failed_is_asked_again_in_a_new_batch_and_nothing_else(batch_api: BatchServer, tmp_path: Path) -> None:
    def some_fail(bodies: Sequence[dict[str, Any]]) -> list[tuple[int, Any]]:
        first = len(batch_api.batches) == 1
        bad = [(500, None), (200, completion_body(None)), (200, {}), (429, {"error": {"message": "slow"}})]
        return [bad[place % 5] if first and place % 5 < 4 else echo([body])[0] for place, body in enumerate(bodies)]

    batch_api.execute = some_fail
    got = ask(provider_at(batch_api, tmp_path), 10)
    # What an answer of 200 states is paid, and the most where it states nothing.
    paid = {
        1: Tokens(7, 3),
        2: max_tokens_per_attempt(request(2)),
        6: Tokens(7, 3),
        7: max_tokens_per_attempt(request(7)),
    }
    assert got == {
        number: replace(reply, lost=paid.get(number, Tokens())) for number, reply in replies(range(10)).items()
    }
    assert [len(batch_api.files[one["input_file_id"]].splitlines()) for one in batch_api.batches.values()] == [
        10,
        8,
    ]


def test_a_server_that_knows_no_schemas_is_asked_in_words_alone(batch_api: BatchServer, tmp_path: Path) -> None:
    refused = (400, {"error": {"message": "response_format is not supported"}})
    batch_api.execute = lambda bodies: [refused if "response_format" in body else echo([body])[0] for body in bodies]
    asked = [replace(request(number), answer="list") for number in range(3)]
    got = {one.tag: outcome for one, outcome in provider_at(batch_api, tmp_path).complete([*asked, request(3)])}
    in_words = Adaptation(("response_format",))
    assert got == replies([3]) | {
        number: replace(reply, adaptation=in_words) for number, reply in replies(range(3)).items()
    }
    assert len(batch_api.batches) == 2


def test_a_lasting_failure_ends_after_a_bounded_number_of_batches(batch_api: BatchServer, tmp_path: Path) -> None:
    batch_api.execute = lambda bodies: [
        (500, None) if body["messages"][-1]["content"] == "question 1" else echo([body])[0] for body in bodies
    ]
    got = ask(provider_at(batch_api, tmp_path), 3)
    assert got.pop(1) == Failure("status 500 (3 attempts)", kind="status 500")
    assert got == replies([0, 2])
    assert len(batch_api.batches) == 3


def test_batches_that_gave_no_reply_are_paid_all_the_same(batch_api: BatchServer, tmp_path: Path) -> None:
    batch_api.execute = empty
    failed = Failure("the reply is empty (3 attempts)", Tokens(3 * 7, 3 * 3), "empty")
    assert ask(provider_at(batch_api, tmp_path), 3) == dict.fromkeys(range(3), failed)


def test_what_earlier_batches_took_is_known_when_a_later_one_is_found_again(
    batch_api: BatchServer, tmp_path: Path
) -> None:
    batch_api.execute = empty
    batch_api.fault = lambda seen: error(401) if seen.path == "/v1/batches/batch_1" else None
    with pytest.raises(FatalProviderError, match="key"):
        ask(provider_at(batch_api, tmp_path), 2)
    assert len(batch_api.batches) == 2
    batch_api.fault, batch_api.execute = (lambda seen: None), echo
    paid = {number: replace(reply, lost=Tokens(7, 3)) for number, reply in replies(range(2)).items()}
    assert ask(provider_at(batch_api, tmp_path), 2) == paid
    assert set(batch_api.paid.values()) == {2}


@pytest.mark.parametrize("end", ["cancelled", "no upload", "refused"])
def test_what_was_paid_before_the_end_of_a_run_is_reported(batch_api: BatchServer, tmp_path: Path, end: str) -> None:
    batch_api.execute = empty
    batch_api.fate = lambda number: {"cancelled": "cancelled", "refused": "failed: no"}.get(
        end if number else "", "completed"
    )
    if end == "no upload":
        batch_api.fault = lambda seen: error(401) if batch_api.batches and seen.path == "/v1/files" else None
    got, error_ = ask_until_the_end(provider_at(batch_api, tmp_path), 2)
    assert error_.remedy
    assert {type(outcome) for outcome in got.values()} == {Failure}
    assert (
        sum(outcome.lost.prompt for outcome in got.values())
        == 7 * batch_api.paid.total()
        == (21 if end == "cancelled" else 14)
    )


def test_a_record_of_an_older_version_is_read(batch_api: BatchServer, tmp_path: Path) -> None:
    with closing(provider_at(batch_api, tmp_path).complete(request(number) for number in range(3))) as outcomes:  # type: ignore[type-var]
        next(outcomes)
    (path,) = tmp_path.iterdir()
    record = json.loads(path.read_text())
    assert record.pop("lost") == {}
    path.write_text(json.dumps(record))
    assert ask(provider_at(batch_api, tmp_path), 3) == replies(range(3))
    assert len(batch_api.batches) == 1


def test_a_cost_limit_holds_for_requests_that_are_put_into_further_batches(
    batch_api: BatchServer, tmp_path: Path
) -> None:
    prompts = PromptSet(id="p", version=1, description="d", prompts=({"id": "a", "text": "{name}"},))
    labels, plan = (
        from_names(f"kind {number}" for number in range(20)),
        GenerationPlan(per_class=3, parameters=Parameters(max_tokens=9)),
    )
    most = max_tokens_per_attempt(Request((Message("user", "kind 0"),), plan.parameters))

    def mostly_empty(bodies: Sequence[dict[str, Any]]) -> list[tuple[int, Any]]:
        texts = [f"A {body['messages'][-1]['content']} has long legs and a tail." for body in bodies]
        return [
            (200, completion_body(text if text.startswith("A kind 3 ") else None, prompt=most.prompt, drawn=9))
            for text in texts
        ]

    batch_api.execute = mostly_empty
    budget = Budget(Prices(1e6, 1e6), 100.5 * most.total)
    result = run_generation(labels, prompts, provider_at(batch_api, tmp_path), plan, budget=budget)
    assert result.stop is StopReason.COST
    assert batch_api.paid.total() == 100
    assert budget.spent == pytest.approx(100 * most.total)
