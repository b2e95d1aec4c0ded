"""Answers that are to be a JSON list: what is asked of a server, and what is made of every kind of reply."""

from __future__ import annotations

import json

import pytest

from abs_descriptions.generation.providers.base import (
    Failure,
    Message,
    Outcome,
    Parameters,
    Reply,
    Request,
    Tokens,
    request_digest,
)
from abs_descriptions.generation.providers.openai_server import OpenAIServer
from abs_descriptions.generation.providers.response_validation import LIST_SCHEMA, validate_outcome

TURNS = (Message("user", "Which features tell a fox?"),)
TEXT = Request(TURNS, Parameters())
LIST = Request(TURNS, Parameters(), answer="list")


def answer(text: str, finish: str = "stop") -> Outcome:
    return validate_outcome(LIST, Reply(text, "length" if finish == "length" else "stop", 7, 9))


def test_a_list_becomes_one_line_for_each_text() -> None:
    got = answer(json.dumps({"descriptions": ["a bushy tail", " white\nchin ", "", "red-brown fur"]}))
    assert got == Reply("a bushy tail\nwhite chin\nred-brown fur", "stop", 7, 9)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a bushy tail", "not the JSON"),
        ('{"descriptions": ["a bushy', "not the JSON"),
        ("[" * 100_000, "not the JSON"),
        ('["a bushy tail"]', "not the list"),
        ('{"features": ["a bushy tail"]}', "not the list"),
        ('{"descriptions": "a bushy tail"}', "not the list"),
        ('{"descriptions": ["a bushy tail", 3]}', "not the list"),
        ('{"descriptions": []}', "empty"),
        ('{"descriptions": [" "]}', "empty"),
    ],
)
def test_an_invalid_list_fails(text: str, reason: str) -> None:
    got = answer(text)
    assert isinstance(got, Failure)
    assert reason in got.reason
    assert got.lost == Tokens(7, 9)
    assert got.text == text


def test_a_list_that_was_cut_fails_and_says_what_it_needs() -> None:
    got = answer('{"descriptions": ["a tail"]}', "length")
    text = '{"descriptions": ["a tail"]}'
    assert got == Failure("the list is cut off; it needs more tokens", Tokens(7, 9), "no list", text=text)


def test_text_and_failures_are_left_as_they_are() -> None:
    for outcome in (Reply("no JSON", "length"), Failure("no reply in time")):
        assert validate_outcome(TEXT, outcome) is outcome
    assert validate_outcome(LIST, Failure("no reply in time")) == Failure("no reply in time")


def test_a_server_is_asked_for_the_schema_only_where_a_list_is_wanted() -> None:
    server = OpenAIServer("http://127.0.0.1:1/v1", None)
    assert "response_format" not in server.chat_body("m", TEXT)
    asked = server.chat_body("m", LIST)["response_format"]
    assert asked["json_schema"]["schema"] == LIST_SCHEMA


def test_the_same_question_for_a_list_is_another_request() -> None:
    assert request_digest({}, TEXT) != request_digest({}, LIST)
    assert TEXT.draw_seed == LIST.draw_seed
