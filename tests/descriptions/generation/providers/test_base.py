"""What identifies a request in the journal, and the seed of its draw."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from abs_descriptions.generation.providers.base import (
    Adaptation,
    Failure,
    Message,
    Parameters,
    Request,
    max_tokens_per_attempt,
    request_digest,
)

PARAMETERS = Parameters(max_tokens=60, temperature=0.8, top_p=0.95, seed=0)
REQUEST = Request((Message("system", "Be brief."), Message("user", "What is a fox?")), PARAMETERS)
PROVIDER = {"backend": "openai", "base_url": "http://host/v1", "model": "m"}


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": replace(PARAMETERS, max_tokens=61)},
        {"parameters": replace(PARAMETERS, temperature=0.7)},
        {"parameters": replace(PARAMETERS, temperature=None)},
        {"parameters": replace(PARAMETERS, top_p=0.9)},
        {"parameters": replace(PARAMETERS, top_p=None)},
        {"parameters": replace(PARAMETERS, seed=1)},
        {"parameters": replace(PARAMETERS, seed=None)},
        {"sample": 1},
        {"answer": "list"},
        {"messages": REQUEST.messages[1:]},
        {"messages": (REQUEST.messages[0], Message("user", "What is a cat?"))},
        {"messages": (Message("user", "Be brief."), REQUEST.messages[1])},
        {"messages": REQUEST.messages[::-1]},
    ],
)
def test_all_that_is_sent_identifies_a_request(change: dict[str, Any]) -> None:
    assert request_digest(PROVIDER, replace(REQUEST, **change)) != request_digest(PROVIDER, REQUEST)


@pytest.mark.parametrize("field", PROVIDER)
def test_the_provider_identifies_a_request(field: str) -> None:
    assert request_digest({**PROVIDER, field: "other"}, REQUEST) != request_digest(PROVIDER, REQUEST)


def test_what_is_not_sent_does_not() -> None:
    other = replace(REQUEST, tag=7, may_repeat=lambda lost, maximum: False)
    assert request_digest(PROVIDER, other) == request_digest(PROVIDER, REQUEST)


def test_a_draw_has_its_own_seed() -> None:
    others = [
        replace(REQUEST, sample=1),
        replace(REQUEST, messages=REQUEST.messages[1:]),
        replace(REQUEST, parameters=replace(PARAMETERS, seed=1)),
    ]
    seeds = [request.draw_seed for request in (REQUEST, *others)]
    assert len(set(seeds)) == 4
    assert all(seed is not None and 0 <= seed < 2**31 for seed in seeds)
    assert replace(REQUEST, parameters=replace(PARAMETERS, top_p=None)).draw_seed == REQUEST.draw_seed
    assert replace(REQUEST, parameters=replace(PARAMETERS, seed=None)).draw_seed is None


def test_an_adaptation_survives_json_and_says_what_is_really_asked() -> None:
    adaptation = Adaptation(("seed", "top_p"), (("max_tokens", "max_completion_tokens"),), 1024)
    assert Adaptation.from_dict(json.loads(json.dumps(adaptation.to_dict()))) == adaptation
    assert Adaptation.from_dict({}) == Adaptation()
    assert Adaptation().to_dict() == {}
    assert adaptation.applied_to(Parameters()) == Parameters(1024, 0.8, None, None)
    assert adaptation.applied_to(Parameters(4000)).max_tokens == 4000
    assert Adaptation(("response_format",)).applied_to(Parameters()) == Parameters()
    assert max_tokens_per_attempt(REQUEST, adaptation).completion == 1024


def test_failures_that_are_alike_have_one_signature() -> None:
    assert Failure("status 500: no GPU 3", kind="status 500").signature == "status 500"
    assert Failure("an empty reply").signature == "an empty reply"
