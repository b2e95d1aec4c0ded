"""Refusals of parameters in the words of real servers, and what is no refusal."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_descriptions.generation.providers.base import NO_ADAPTATION, Adaptation, Message, Parameters, Request
from abs_descriptions.generation.providers.error_responses import classify_status
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider
from abs_descriptions.generation.providers.openai_server import OpenAIServer
from abs_descriptions.generation.providers.parameter_refusals import (
    adapt_to_reasoning,
    adapt_to_refusal,
    apply_change,
    out_of_range,
)

SERVER = OpenAIServer("http://127.0.0.1:1/v1", None)
TURNS = (Message("system", "Be brief."), Message("user", "A cat?"), Message("assistant", "Yes."), Message("user", "A?"))
REQUEST = Request(TURNS, Parameters(), answer="list")
RENAMED = (("max_tokens", "max_completion_tokens"),)


def adapt(
    message: str, status: int = 400, adaptation: Adaptation = NO_ADAPTATION, model: str = "m"
) -> Adaptation | None:
    body = SERVER.chat_body(model, REQUEST, adaptation=adaptation)
    problem = classify_status(status, {}, {"error": {"message": message}}, "host")
    return adapt_to_refusal(adaptation, problem, body, model)


@pytest.mark.parametrize(
    ("message", "unsent"),
    [
        ("Unsupported value: 'temperature' does not support 0.8 with this model. Only the default (1) value is "
         "supported.", ["temperature"]),
        ("Unsupported parameter: 'top_p' is not supported with this model.", ["top_p"]),
        ("`temperature` and `top_p` cannot both be specified for this model. Please use only one.", ["top_p"]),
        ("`temperature` is deprecated for this model.", ["temperature"]),
        ("invalid temperature: only 1 is allowed for this model", ["temperature"]),
        ("Unknown parameter: 'seed'.", ["seed"]),
        ("Invalid JSON payload received. Unknown name \"seed\": Cannot find field.", ["seed"]),
        ("Unrecognized request argument supplied: seed", ["seed"]),
        ("body.seed: Extra inputs are not permitted", ["seed"]),
        ("litellm.UnsupportedParamsError: m does not support parameters: ['seed', 'top_p']", ["seed", "top_p"]),
        ("'messages[0].role' does not support 'system' with this model.", ["system"]),
        ("System role not supported", ["system"]),
        ("Conversation roles must alternate user/assistant/user", ["system"]),
        ("'response_format' of type json_schema is not supported with this model", ["response_format"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [400, 422])
def test_what_is_refused_is_left_out(message: str, unsent: list[str], status: int) -> None:
    assert adapt(message, status) == Adaptation(tuple(unsent))


def test_the_length_of_a_reply_is_only_renamed_and_only_once() -> None:
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    assert adapt(message) == Adaptation((), RENAMED)
    back = adapt("max_completion_tokens: Extra inputs are not permitted", adaptation=Adaptation((), RENAMED))
    assert back is None  # it takes neither name, and without a limit a reply could cost anything


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 50 tokens. However, you requested 160 tokens (max_tokens is 60)",
        "max_tokens is too large: 60. This model supports at most 32 completion tokens",
        "temperature must be between 0 and 0.5",
        "Input should be less than or equal to 0.5: temperature",
        "the model is busy",
        "the prompt about a seed is too long",
        "",
    ],
)
def test_what_is_no_refusal_changes_nothing(message: str) -> None:
    assert adapt(message) is None
    assert adapt("Unknown parameter: 'seed'", 503) is None
    assert adapt("seed-oss-36b is unknown", model="seed-oss-36b") is None
    assert adapt("temperature is not supported: content policy violation was flagged") is None


def test_a_value_out_of_range_is_named_for_the_user() -> None:
    body = SERVER.chat_body("m", REQUEST)
    for message, name in (("temperature must be between 0 and 0.5", "temperature"), ("top_p: maximum is 0.9", "top_p")):
        problem = classify_status(400, {}, {"detail": message}, "host")
        assert out_of_range(problem, body) == name
    assert out_of_range(classify_status(400, {}, {"detail": "context length exceeded"}, "host"), body) is None


def test_a_length_out_of_range_is_named_unless_the_prompt_has_its_part_in_it() -> None:
    body = SERVER.chat_body("m", REQUEST)
    for message, name in (
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", "max_tokens"),
        ("max_tokens is too large: 9. Maximum context length is 8 tokens", None),
        ("max_tokens must be at most 7 with an input of 9 tokens", None),
    ):
        assert out_of_range(classify_status(400, {}, {"error": message}, "host"), body) == name


def test_what_an_adaptation_leaves_out_is_not_sent() -> None:
    adaptation = Adaptation(("response_format", "seed", "system", "temperature"), RENAMED, 1024)
    assert SERVER.chat_body("m", REQUEST, adaptation=adaptation, extra={"think": False}) == {
        "model": "m",
        "messages": [
            {"role": "user", "content": "Be brief.\n\nA cat?"},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "A?"},
        ],
        "max_completion_tokens": 1024,
        "top_p": 0.95,
        "think": False,
    }


def test_reasoning_gets_more_tokens_once_and_every_change_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    provider = OpenAIChatProvider("m", base_url="http://127.0.0.1:1/v1")
    more = adapt_to_reasoning(NO_ADAPTATION, 60)
    assert more == Adaptation(min_tokens=1024)
    assert adapt_to_reasoning(NO_ADAPTATION, 1024) is None
    for change in (more, Adaptation(("seed",)), Adaptation(("seed", "system"), RENAMED), Adaptation(("seed",))):
        apply_change(provider, change)
    assert provider.adaptation == Adaptation(("seed", "system"), RENAMED, 1024)
    said = [record.message for record in caplog.records]
    assert len(said) == 3
    assert "1024" in said[0]
    assert said[1:] == [
        "m does not accept seed; requests are sent without",
        "m does not accept a system message; it goes into the user's message; "
        "m takes max_completion_tokens instead of max_tokens",
    ]


@pytest.mark.fuzz
@given(
    st.lists(
        st.sampled_from(
            ["temperature", "top_p", "seed", "max_tokens", "max_completion_tokens", "system", "role", "unsupported",
             "not permitted", "both", "unknown", "must be 1", "between", "response_format", "'", ":", "x"]
        ),
        max_size=8,
    ).map(" ".join) | st.text(max_size=60),
    st.sampled_from([200, 400, 404, 422, 500, 501]),
)  # fmt: skip
def test_every_refusal_changes_something_until_nothing_is_left(message: str, status: int) -> None:
    adaptation, steps = NO_ADAPTATION, 0
    while (change := adapt(message, status, adaptation)) is not None:
        assert change != adaptation
        adaptation, steps = adaptation.merged_with(change), steps + 1
        assert steps <= 8
    body: dict[str, Any] = SERVER.chat_body("m", replace(REQUEST, answer="text"), adaptation=adaptation)
    assert {"max_tokens", "max_completion_tokens"} & set(body)
