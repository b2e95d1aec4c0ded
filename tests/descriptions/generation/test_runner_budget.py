"""Generation within a budget, and the estimate of what it would request."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_provider import NAMES, PROMPTS, Lazy, Script, good

from abs_core.errors import UsageError
from abs_core.labels import from_names
from abs_descriptions.generation.cost import Budget, Prices
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.providers.base import Failure, Outcome, Parameters, Reply, Tokens
from abs_descriptions.generation.runner import (
    GenerationEstimate,
    GenerationPlan,
    StopReason,
    estimate_requests,
    run_generation,
)


@pytest.mark.parametrize("provider", [Script(good), Lazy(good)], ids=["all at once", "a few at once"])
@pytest.mark.parametrize("limit", [0.4, 1.0, 1.7])
def test_a_budget_is_used_and_never_exceeded(tmp_path: Path, provider: Script, limit: float) -> None:
    provider.asked.clear()
    # A reply costs 0.02; a request may cost 0.281 to 0.291 before.
    budget = Budget(Prices(1000, 2000), limit)
    plan = GenerationPlan(per_class=100, parameters=Parameters(max_tokens=1))
    with Journal(tmp_path / "j.jsonl") as journal:
        result = run_generation(from_names(NAMES), PROMPTS, provider, plan, journal=journal, budget=budget)
    assert result.stop is StopReason.COST
    assert budget.spent == pytest.approx(0.02 * len(provider.asked))
    assert limit - 0.02 - 0.3 < budget.spent <= limit
    assert len(result.descriptions) == len(provider.asked)
    with Journal(tmp_path / "j.jsonl") as journal:
        again = run_generation(from_names(NAMES), PROMPTS, provider, plan, journal=journal)
    assert again.complete
    assert len(provider.asked) == len(set(provider.asked)) == 300


def test_failures_count_with_the_most_that_they_can_cost() -> None:
    provider = Lazy(lambda name, sample: good(name, sample) if sample == 0 else Failure("the reply is empty"))
    budget = Budget(Prices(1000, 2000), 2.0)
    run_generation(
        from_names(NAMES), PROMPTS, provider, GenerationPlan(10, parameters=Parameters(max_tokens=1)), budget=budget
    )
    assert len(provider.asked) <= 3 + 2.0 / 0.28  # the first sample of each class is good
    assert budget.spent <= 2.0


def test_a_budget_that_pays_no_request_is_refused() -> None:
    provider = Script(good)
    with pytest.raises(UsageError, match="must cover one request"):
        run_generation(from_names(NAMES), PROMPTS, provider, GenerationPlan(), budget=Budget(Prices(1000, 2000), 0.1))
    assert not provider.asked


def test_looking_ahead_asks_nothing_and_knows_what_will_be_asked(tmp_path: Path) -> None:
    def rule(name: str, sample: int) -> Outcome:
        return Reply("A dog.", "stop", 10, 5) if name == "dog" else good(name, sample)

    labels, path = from_names(NAMES), tmp_path / "j.jsonl"
    for plan, requests, most in (
        (GenerationPlan(4, 2), 12, 24),
        (GenerationPlan(4, 3), 4, 4),
        (GenerationPlan(6, 3), 10, 10 + 2 * 12),
    ):
        provider = Script(rule)
        with Journal(path, read_only=True) as journal:
            ahead = estimate_requests(labels, PROMPTS, provider, plan, journal=journal)
        assert not provider.asked
        assert (ahead.requests, ahead.max_requests) == (requests, most)
        assert ahead.tokens.completion == requests * plan.parameters.max_tokens
        with Journal(path) as journal:
            run_generation(labels, PROMPTS, provider, plan, journal=journal)
        assert requests <= len(provider.asked) <= most
    with Journal(path, read_only=True) as journal:
        done = estimate_requests(labels, PROMPTS, provider, plan, journal=journal)
    assert done == GenerationEstimate(0, Tokens(), 0, Tokens(), 30, Tokens(300, 150), 12, 18)
