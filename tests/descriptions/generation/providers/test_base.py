"""What identifies a request in the journal, and the seed of its draw."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from abs_descriptions.generation.providers.base import Message, Parameters, Request, request_digest

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
    other = replace(REQUEST, tag=7, may_repeat=lambda lost: False)
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
