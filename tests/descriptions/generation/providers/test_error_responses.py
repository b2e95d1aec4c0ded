"""What errors of real servers mean: this prompt, this request, a pause, or the end of the run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_descriptions.generation.providers.error_responses import classify_error_body, classify_status

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def error(message: str, code: Any = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "code": code, **more}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, error("Your chosen model requires moderation and your input was flagged", 403)),
        (403, error("Provider returned error", 403, metadata={"reasons": ["violence"]})),
        (400, error("The response was filtered", None, innererror={"code": "ResponsibleAIPolicyViolation"})),
        (400, error("The response was filtered", "content_filter")),
        (400, error("Invalid prompt: it was flagged as potentially violating our usage policy.", "invalid_prompt")),
        (400, error("Output data may contain inappropriate content.", "data_inspection_failed")),
        (400, {"error": {"code": "1301", "message": "the prompt is not allowed"}}),
        (400, error("Output blocked by content filtering policy")),
        (403, {"error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"}),
        (422, {"detail": "Input was rejected by the moderation"}),
        (451, {}),
    ],
)  # fmt: skip
def test_a_moderated_prompt_fails_alone(status: int, body: dict[str, Any]) -> None:
    problem = classify_status(status, {}, body, "host")
    assert (problem.action, problem.scope, problem.kind) == ("give up", "prompt", "moderated")
    assert not problem.billed


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (403, error("This model is blocked in your region", 403), "does not permit"),
        (403, error("Project does not have access to model"), "does not permit"),
        (402, error("Insufficient Balance", "invalid_request_error"), "quota"),
        (429, error("litellm.RateLimitError", "429", type="insufficient_quota"), "quota"),
        (429, error("You exceeded your current quota, please check your plan"), "quota"),
        (400, error("Your credit balance is too low to access the Anthropic API"), "quota"),
        (400, [error("API key not valid. Please pass a valid API key.", 400, status="INVALID_ARGUMENT")], "key"),
        (401, {"detail": "Invalid API key"}, "key"),
        (404, error("model 'llama9' not found"), "no such model"),
        (400, {"error": "No models loaded. Please load a model"}, "no such model"),
        (400, error("gpt-9 is not a valid model ID"), "no such model"),
        (404, b"<html><title>404 Not Found</title></html>", "no such model or path: 404 Not Found"),
        (429, error("Rate limit exceeded: free-models-per-day"), "for a day or longer"),
        (429, error("Limit reached on requests per day (RPD): Limit 200. Please try again in 7.2s."), "day or longer"),
        (412, error("Account x is suspended, possibly due to reaching the monthly spending limit"), "quota"),
        (400, error("parameter.enable_thinking must be set to false for non-streaming calls"), "such requests"),
        (429, error("you have reached your session usage limit, please wait or upgrade to continue"), "usage limit"),
        (400, error("Budget has been exceeded! Current cost: 10.2, Max budget: 10.0", "400"), "quota"),
    ],
)  # fmt: skip
def test_what_concerns_every_request_ends_the_run(status: int, body: Any, words: str) -> None:
    problem = classify_status(status, {}, body if isinstance(body, bytes) else json.dumps(body).encode(), "host")
    assert (problem.action, problem.scope) == ("stop", "run")
    assert words in problem.reason
    assert problem.remedy


def test_a_limit_of_google_is_told_by_its_id() -> None:
    quota = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
    minute = [error("You exceeded your current quota, please check your plan.", 429, details=[info])]
    problem = classify_status(429, {}, minute, "host")
    assert (problem.action, problem.wait, problem.throttled) == ("again", 34.0, True)
    day = [error("You exceeded your current quota, please check your plan.", 429, details=[quota, info])]
    problem = classify_status(429, {}, day, "host")
    assert (problem.action, problem.remedy) == ("stop", "Run the same command again later; it resumes from here")


def test_a_tier_without_capacity_is_asked_again() -> None:
    assert classify_status(498, {}, error("Flex tier capacity exceeded", "capacity_exceeded"), "host").action == "again"


def test_the_time_to_resume_is_said() -> None:
    reset = {"X-RateLimit-Reset": str(int(NOW.timestamp() + 36000) * 1000), "X-RateLimit-Remaining": "0"}
    problem = classify_status(429, reset, error("50 requests per day"), "host", now=NOW)
    assert problem.remedy == "Run the same command again after 2026-11-28 22:00 UTC; it resumes from here"


def test_an_error_that_came_with_a_success_counts_as_its_status() -> None:
    assert "quota" in classify_error_body(error("Insufficient credits", 402), "host").reason
    assert classify_error_body(error("Provider returned error", 502), "host").action == "again"
    assert classify_error_body(error("Provider returned error", "502"), "host").status == 502
    lost = classify_error_body({"error": "who knows"}, "host")
    assert (lost.action, lost.reason) == ("again", "the server answers with an error: who knows")
    assert classify_error_body(error("flagged", "content_filter"), "host").scope == "prompt"


@pytest.mark.fuzz
@given(
    st.sampled_from([200, 301, 400, 401, 402, 403, 404, 408, 413, 422, 429, 451, 500, 503, 529, 999]),
    st.binary(max_size=100) | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "code", "type", "message", "detail", "metadata"]), inner),
        max_leaves=10,
    ),
)  # fmt: skip
def test_every_body_is_one_problem_on_one_line(status: int, body: Any) -> None:
    problem = classify_status(status, {}, body, "host", "sk-12345678")
    assert problem.reason
    assert "\n" not in problem.reason
    assert problem.action != "stop" or problem.remedy
    if isinstance(body, dict):
        assert classify_error_body(body, "host").reason
