"""Replies in the shapes of real servers, and any JSON at all: a reply is a text, and nothing raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_descriptions.generation.providers.base import Reply, Tokens
from abs_descriptions.generation.providers.error_responses import ResponseProblem
from abs_descriptions.generation.providers.response_validation import validate_body, validate_completion

TEXT = "A cat has ears."


def body(content: Any = TEXT, finish: Any = "stop", usage: Any = None, **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return {"choices": [choice], "usage": usage or {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}


def reply(value: Any, **options: Any) -> Reply | ResponseProblem:
    return validate_body(json.dumps(value).encode(), "host", **options)


@pytest.mark.parametrize(
    "finish",
    [
        "stop",
        "STOP",
        "eos",
        "eos_token",
        "",
        None,
        "end_turn",
        "completed",
        "tool_calls",
        "FinishReason.STOP",
        7,
        "new",
    ],
)
def test_any_unknown_end_of_a_reply_is_an_end(finish: Any) -> None:
    assert reply(body(finish=finish)) == Reply(TEXT, "stop", 7, 3)


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS", "model_length", "FINISH_REASON_MAX_TOKENS"])
def test_a_cut_reply_is_cut_whatever_it_is_called(finish: str) -> None:
    assert reply(body(finish=finish)) == Reply(TEXT, "length", 7, 3)


def test_a_reply_that_has_all_its_tokens_was_cut_unless_the_server_says_that_it_stopped() -> None:
    assert reply(body(finish=None), max_tokens=3) == Reply(TEXT, "length", 7, 3)
    assert reply(body(finish="stop"), max_tokens=3) == Reply(TEXT, "stop", 7, 3)


@pytest.mark.parametrize(
    "finish", ["content_filter", "SAFETY", "RECITATION", "sensitive", "refusal", "content_filter: SAFETY"]
)
def test_a_moderated_reply_fails_alone_and_keeps_its_text(finish: str) -> None:
    problem = reply(body("A cat", finish))
    assert isinstance(problem, ResponseProblem)
    assert (problem.action, problem.scope, problem.text) == ("give up", "prompt", "A cat")
    assert problem.tokens == Tokens(7, 3)


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": TEXT}],
        [{"type": "text", "text": "A cat "}, {"type": "text", "text": "has ears."}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": TEXT}],
        [{"text": "Let me think", "thought": True}, {"text": TEXT}],
        [{"type": "output_text", "text": TEXT, "annotations": []}],
        [{"type": "text", "text": {"value": TEXT}}],
        {"type": "text", "text": TEXT},
        ["A cat ", "has ears."],
    ],
)
def test_text_parts_are_text_and_reasoning_parts_are_not(content: Any) -> None:
    assert reply(body(content)) == Reply(TEXT, "stop", 7, 3)


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning_content": "Let me see"},
        {"reasoning": "Let me see"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Let me see"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Let me see"}]}]},
        {"content": [{"text": "Let me see", "thought": True}]},
    ],
)
def test_reasoning_is_no_answer(message: dict[str, Any]) -> None:
    assert reply(body(**{k: v for k, v in message.items() if k != "content"})) == Reply(TEXT, "stop", 7, 3)
    alone = reply(body(**{"content": None, **message}))
    assert isinstance(alone, ResponseProblem)
    assert alone.kind == "reasoning alone"
    starved = reply(body(**{"content": None, **message}, finish="length"))
    assert isinstance(starved, ResponseProblem)
    assert starved.is_starved


@pytest.mark.parametrize("content", ["", None, "<think>\nThe user wants", "<|channel|>analysis<|message|>We need"])
def test_a_reply_that_is_cut_in_its_reasoning_is_starved(content: Any) -> None:
    problem = reply(body(content, "length"))
    assert isinstance(problem, ResponseProblem)
    assert (problem.kind, problem.is_starved, problem.tokens) == ("starved", True, Tokens(7, 3))


@pytest.mark.parametrize(
    ("usage", "billed"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 25, "total_tokens": 1125}, (100, 1025)),
        ({"prompt_tokens": 100, "completion_tokens": 0, "total_tokens": 160}, (100, 60)),
        ({"prompt_tokens": 100, "total_tokens": 160}, (100, 60)),
        ({"prompt_tokens": 100, "completion_tokens": 25, "total_tokens": 7}, (100, 25)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 90}}, (9, 95)),
        ({"prompt_tokens": 9, "completion_tokens": 95, "completion_tokens_details": {"reasoning_tokens": 90}}, (9, 95)),
        ({"input_tokens": 9, "output_tokens": 5}, (9, 5)),
        ({"prompt_tokens": "100", "completion_tokens": "25"}, (100, 25)),
        ({"prompt_tokens": 100.0, "completion_tokens": 25.0}, (100, 25)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, (0, 0)),
        ([], (7, 3)),
        ("much", (0, 0)),
    ],
)
def test_reasoning_is_billed_wherever_it_is_counted(usage: Any, billed: tuple[int, int]) -> None:
    assert reply(body(usage=usage)) == Reply(TEXT, "stop", *billed)


def test_headers_and_marks_around_a_reply_do_not_matter() -> None:
    raw = json.dumps(body()).encode()
    for text in (raw, b"\xef\xbb\xbf" + raw, b"\n   \n" * 50 + raw, json.dumps(body()).encode("utf-16")):
        assert validate_body(text, "host") == Reply(TEXT, "stop", 7, 3)
    events = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in ("A cat ", "has ears.")]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": body()["usage"]})
    lines = [*(f"data: {json.dumps(event)}\n\n" for event in events), "data: [DONE]\n\n"]
    kept_alive = b": keep-alive\n\n" * 3
    assert validate_body(kept_alive + "".join(lines).encode(), "host") == validate_body("".join(lines).encode(), "host")
    assert validate_body(kept_alive + json.dumps(body()).encode(), "host") == validate_completion(body(), "host")
    stream = (": OPENROUTER PROCESSING\n\n" + "".join(lines)).encode()
    assert validate_body(stream, "host") == Reply(TEXT, "stop", 7, 3)
    failed = validate_body(b'data: {"error": {"message": "no credits", "code": 402}}\n\n', "host")
    assert isinstance(failed, ResponseProblem)
    assert failed.action == "stop"


def test_choices_may_come_in_any_order_and_in_older_forms() -> None:
    first, second = body()["choices"][0], {"index": 1, "message": {"content": "Another."}}
    assert reply({**body(), "choices": [second, first]}) == Reply(TEXT, "stop", 7, 3)
    assert reply({**body(), "choices": [{"text": TEXT, "finish_reason": "stop"}]}) == Reply(TEXT, "stop", 7, 3)
    error = reply({"choices": [{"error": {"code": 502, "message": "gone"}, "message": {"content": ""}}]})
    assert isinstance(error, ResponseProblem)
    assert (error.status, error.reason) == (502, "status 502: gone")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "message", "content", "finish_reason", "usage", "prompt_tokens", "total_tokens", "error",
             "text", "refusal", "index", "type", "thinking", "delta", "reasoning", "completion_tokens_details", "code"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@pytest.mark.fuzz
@given(JSON, st.integers(0, 5))
def test_any_json_is_a_reply_with_a_text_or_one_problem(value: Any, max_tokens: int) -> None:
    for got in (
        validate_completion(value, "host", "sk-12345678", max_tokens=max_tokens),
        validate_completion({"choices": [{"message": value}]}, "host"),
        validate_completion({"choices": [{"message": {"content": value}, "finish_reason": value}]}, "host"),
        validate_completion({"choices": [{"message": {"content": TEXT}}], "usage": value}, "host"),
    ):
        if isinstance(got, Reply):
            assert got.text.strip()
            assert got.prompt_tokens >= 0 <= got.completion_tokens
        else:
            assert got.reason
            assert got.tokens is None or got.tokens.total >= 0


@pytest.mark.fuzz
@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda raw: b"data: " + raw + b"\n\ndata: {}"))
def test_any_bytes_are_one_problem(raw: bytes) -> None:
    got = validate_body(raw, "host")
    assert isinstance(got, ResponseProblem)
    assert got.reason
