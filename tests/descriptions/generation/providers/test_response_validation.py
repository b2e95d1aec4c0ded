"""Answers that are to be a JSON list: what is asked of a server, and what is made of every kind of reply."""

from __future__ import annotations

from abs_descriptions.generation.providers.base import (
    Message,
    Parameters,
    Request,
    request_digest,
)
from abs_descriptions.generation.providers.openai_server import OpenAIServer
from abs_descriptions.generation.providers.response_validation import LIST_SCHEMA

TURNS = (Message("user", "Which features tell a fox?"),)
TEXT = Request(TURNS, Parameters())
LIST = Request(TURNS, Parameters(), answer="list")


def test_a_server_is_asked_for_the_schema_only_where_a_list_is_wanted() -> None:
    server = OpenAIServer("http://127.0.0.1:1/v1", None)
    assert "response_format" not in server.chat_body("m", TEXT)
    asked = server.chat_body("m", LIST)["response_format"]
    assert asked["json_schema"]["schema"] == LIST_SCHEMA


def test_the_same_question_for_a_list_is_another_request() -> None:
    assert request_digest({}, TEXT) != request_digest({}, LIST)
    assert TEXT.draw_seed == LIST.draw_seed
