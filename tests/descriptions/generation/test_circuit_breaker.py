"""When nothing more is sent: the rules one by one."""

from __future__ import annotations

import pytest

from abs_descriptions.generation.circuit_breaker import MAX_REFUSALS, CircuitBreaker, RepeatDetector
from abs_descriptions.generation.providers.base import Failure

DOWN, REFUSED = Failure("status 500: x", kind="status 500"), Failure("refused", kind="refused", scope="prompt")


def send(breaker: CircuitBreaker, most: int = 1000) -> int:
    """How many requests may be sent now, up to a number."""
    for count in range(most):
        if not breaker.may_send():
            return count
    return most


def test_until_the_first_reply_requests_and_attempts_share_one_limit() -> None:
    breaker = CircuitBreaker(12)
    assert [breaker.may_send() for _ in range(4)] == [True] * 4
    assert [breaker.may_retry() for _ in range(9)] == [True] * 8 + [False]
    assert not breaker.may_send()
    assert breaker.sent == 12
    breaker.take_back()
    assert breaker.may_send()
    breaker.note_reply(0, None)
    assert send(breaker, 100) == 100
    assert breaker.may_retry()


@pytest.mark.parametrize(("reasons", "allowed"), [(["no class name"], 0), (["no class name", "chatty"], 36)])
def test_replies_that_are_all_rejected_end_the_run_sooner_if_they_are_alike(reasons: list[str], allowed: int) -> None:
    breaker = CircuitBreaker(12)
    for number in range(send(breaker)):
        breaker.note_reply(number, reasons[number % len(reasons)])
    assert breaker.judges_replies
    assert send(breaker) == allowed
    assert breaker.initial_stop_reason().endswith(
        "all of the first 12 replies were rejected for the same reason: no class name"
        if not allowed
        else "none of the first 12 requests gave a description: no class name 6, chatty 6"
    )


def test_replies_that_are_rejected_end_no_run_whose_prompts_are_known_to_work() -> None:
    breaker, failing = CircuitBreaker(12), CircuitBreaker(12)
    breaker.has_descriptions = failing.has_descriptions = True
    for number in range(send(breaker)):
        breaker.note_reply(number, "no class name")
    assert send(breaker, 100) == 100
    # But failures do: nothing of the journal says that the server answers today.
    assert send(failing) == 12


def test_a_batch_has_no_limit_and_is_counted() -> None:
    breaker = CircuitBreaker(float("inf"))
    assert send(breaker, 500) == breaker.sent == 500
    for number in range(500):
        breaker.note_failure(number, DOWN)
    assert breaker.initial_stop_reason() == breaker.recent_stop_reason() == ""


def test_a_row_of_failures_is_broken_by_any_reply() -> None:
    breaker = CircuitBreaker(12)
    breaker.note_reply(0, None)
    for _ in range(3):
        for _ in range(11):
            breaker.note_failure(1, DOWN)
        assert breaker.recent_stop_reason() == ""
        breaker.note_reply(2, "chatty")
    for number in range(12):
        assert breaker.recent_stop_reason() == ""
        breaker.note_failure(number, DOWN)
    assert breaker.recent_stop_reason() == "the last 12 requests failed in the same way: status 500"


def test_failures_of_all_kinds_end_the_run_later() -> None:
    breaker = CircuitBreaker(12)
    breaker.note_reply(0, None)
    for number in range(72):
        assert breaker.recent_stop_reason() == ""
        breaker.note_failure(number, Failure(f"status {500 + number % 2}"))
    assert breaker.recent_stop_reason() == "the last 72 requests failed"


def test_a_refused_class_concerns_nobody_else() -> None:
    breaker = CircuitBreaker(12)
    breaker.note_reply(1, None)
    for number in range(MAX_REFUSALS):
        assert not breaker.is_refused(0)
        assert breaker.most_samples(0, 40) == (40 if number == 0 else MAX_REFUSALS)
        breaker.note_failure(0, REFUSED)
    assert breaker.is_refused(0)
    assert not breaker.is_refused(1)
    assert breaker.recent_stop_reason() == ""
    breaker.note_reply(0, "chatty")
    assert not breaker.is_refused(0)


def test_a_model_that_repeats_itself_is_found_out() -> None:
    repeats = RepeatDetector(4, prompts=2, classes=9)
    for position in range(3):
        assert repeats.useful_samples is None
        for sample in range(3):
            repeats.note(
                position, sample, f"A kind {position}  HAS ears." if sample else f"a kind {position} has ears."
            )
    assert repeats.useful_samples == 1


def test_a_model_that_ignores_the_seed_may_still_answer_each_question() -> None:
    repeats = RepeatDetector(4, prompts=2, classes=9)
    for position in range(3):
        for sample in range(4):
            repeats.note(position, sample, f"To question {sample % 2}: a kind {position} has ears.")
    assert repeats.useful_samples == 2


def test_one_new_reply_is_enough_to_go_on() -> None:
    repeats = RepeatDetector(4, prompts=1, classes=9)
    repeats.note(0, 0, "A cat has ears.")
    repeats.note(0, 1, "A cat has a tail.")
    for position in range(9):
        for sample in range(9):
            repeats.note(position, sample, "The same.")
    assert repeats.useful_samples is None


def test_classes_that_happen_to_repeat_are_too_few() -> None:
    repeats = RepeatDetector(4, prompts=1, classes=9)
    for position in range(2):
        for sample in range(9):
            repeats.note(position, sample, "The same.")
    assert repeats.useful_samples is None
    alone = RepeatDetector(4, prompts=1, classes=1)
    for sample in range(5):
        alone.note(0, sample, "The same.")
    assert alone.useful_samples == 1
