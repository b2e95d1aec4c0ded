"""`abs gen-descriptions`: what is sent with a request, and what a model does not take."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from gen_descriptions_command import ChatScript, Generate, good

pytest.importorskip("openai")


def test_none_sends_no_parameter_and_an_extra_body_is_sent(generate: Generate, server: ChatScript) -> None:
    none = ("--temperature", "none", "--top-p", "NONE", "--seed", "none", "--extra-body", '{"reasoning_effort": "low"}')
    server.behave = lambda name, body: f"This {name} number {len(server.seen)} has soft ears and a tail."
    assert generate(["cat"], "--per-class", "1", *none).code == 0
    (body,) = server.asked
    assert set(body) == {"model", "messages", "max_tokens", "reasoning_effort"}
    assert generate(["cat"], "--per-class", "1", "--temperature", "0.2", "--top-p", "0.5", "--seed", "7").code == 0
    assert (server.asked[-1]["temperature"], server.asked[-1]["top_p"]) == (0.2, 0.5)
    parameters = generate.bundle("zoo").header.generators[0].parameters
    assert (parameters["temperature"], parameters["top_p"], parameters["seed"]) == (0.2, 0.5, 7)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--temperature", "-1", "range"),
        ("--temperature", "warm", "warm"),
        ("--top-p", "0", "range"),
        ("--seed", "1.5", "1.5"),
        ("--timeout", "0", "range"),
        ("--extra-body", "[1]", "JSON object"),
        ("--extra-body", "{", "JSON object"),
        ("--extra-body", '{"n": 2}', "must not contain 'n'"),
        ("--extra-body", '{"seed": 2}', "Use --seed"),
    ],
)
def test_a_parameter_that_cannot_be_sent_is_refused(
    generate: Generate, server: ChatScript, option: str, value: str, words: str
) -> None:
    assert words in generate.refuses(["cat"], option, value)
    assert not server.asked


def test_a_timeout_is_kept(generate: Generate, server: ChatScript) -> None:
    def slow_once(name: str, body: dict[str, Any]) -> str:
        if len(server.seen) == 1:
            time.sleep(1)
        return good(name, body)

    server.behave = slow_once
    assert generate(["cat"], "--per-class", "1", "--timeout", "0.3").code == 0
    assert len(server.asked) == 2


def test_what_a_model_refuses_is_said_and_found_in_the_journal_by_the_same_command(
    generate: Generate, server: ChatScript
) -> None:
    def behave(name: str, body: dict[str, Any]) -> str | tuple[int, str]:
        if "temperature" in body:
            return 400, "Unsupported value: 'temperature' does not support 0.8 with this model."
        return good(name, body)

    server.behave = behave
    first = generate(["cat", "dog"], "--per-class", "2")
    assert first.code == 0
    assert "m does not accept temperature; requests are sent without" in first.err
    sent = len(server.asked)
    assert sent == 4 + 1
    assert json.loads(generate(["cat", "dog"], "--per-class", "2", "--json").out)["reused"] == 4
    assert len(server.asked) == sent
