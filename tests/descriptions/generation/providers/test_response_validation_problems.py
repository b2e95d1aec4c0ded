"""What statuses and odd completions mean: a reply, another attempt, giving up, or the end of the run."""

from __future__ import annotations

from typing import Any

import pytest

from abs_descriptions.generation.providers.base import Reply, Tokens
from abs_descriptions.generation.providers.error_responses import ResponseProblem, classify_status
from abs_descriptions.generation.providers.response_validation import validate_completion


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_a_status_that_may_pass_is_asked_again(status: int) -> None:
    problem = classify_status(status, {"retry-after": "7"}, {}, "host")
    assert (problem.action, problem.wait, problem.status) == ("again", 7.0, status)
    # a server says so with 429 alone
    assert problem.throttled is (status == 429)
    assert classify_status(status, {}, {}, "host").wait is None


@pytest.mark.parametrize("status", [400, 406, 410, 413, 415, 422, 451])
def test_a_status_about_one_request_fails_it_alone(status: int) -> None:
    assert classify_status(status, {}, {"error": {"message": "no"}}, "host").action == "give up"


@pytest.mark.parametrize("status", [301, 307, 401, 402, 403, 404, 405])
def test_a_status_about_all_requests_ends_the_run(status: int) -> None:
    problem = classify_status(status, {}, {}, "host")
    assert problem.action == "stop"
    assert problem.remedy


@pytest.mark.parametrize("code", ["insufficient_quota", "model_not_found", "unsupported_parameter"])
@pytest.mark.parametrize("field", ["code", "type"])
def test_a_code_about_all_requests_ends_the_run_whatever_the_status(code: str, field: str) -> None:
    assert classify_status(429, {}, {"error": {field: code}}, "host").action == "stop"


def completion(
    content: Any = "A cat.", finish: Any = "stop", refusal: Any = None, prompt: Any = 7, drawn: Any = 3
) -> Any:
    message = {"content": content, "refusal": refusal}
    usage = {"prompt_tokens": prompt, "completion_tokens": drawn}
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def test_a_refusal_beside_an_answer_does_not_take_the_answer_away() -> None:
    assert validate_completion(completion(refusal="I'd rather not."), "host") == Reply("A cat.", "stop", 7, 3)


@pytest.mark.parametrize("content", [None, ""])
def test_a_refusal_instead_of_an_answer_is_final(content: str | None) -> None:
    problem = validate_completion(completion(content, refusal="I'd rather not."), "host")
    assert isinstance(problem, ResponseProblem)
    assert (problem.action, problem.reason) == ("give up", "the model refused: I'd rather not.")
    assert (problem.billed, problem.tokens) == (True, Tokens(7, 3))


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        (completion(" \n"), "again"),
        (completion(None), "again"),
        (completion(3), "again"),
        (completion("", "length"), "give up"),
        (completion("A cat", "error"), "again"),
        (completion("A cat", "abort"), "again"),
        (completion("A cat.", "content_filter"), "give up"),
        ({"choices": []}, "again"),
        ({"choices": None}, "again"),
        (None, "again"),
    ],
)
def test_what_is_no_reply(answer: Any, action: str) -> None:
    problem = validate_completion(answer, "host")
    assert isinstance(problem, ResponseProblem)
    assert (problem.action, problem.billed) == (action, True)


@pytest.mark.parametrize("count", [None, -1, "seven", 7.5, True, [], 2**41, "9" * 5000])
def test_a_count_that_is_none_is_not_believed(count: Any) -> None:
    assert validate_completion(completion(prompt=count), "host") == Reply("A cat.", "stop", 0, 3)
    problem = validate_completion(completion("", prompt=count), "host")
    assert isinstance(problem, ResponseProblem)
    assert problem.tokens is None
