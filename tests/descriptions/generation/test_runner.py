"""Generation: rounds, order of arrival, interruption and resumption, with providers that follow a script."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_provider import NAMES, PROMPTS, Lazy, Script, fetch, good

from abs_core.errors import FatalProviderError, UsageError
from abs_core.labels import ClassLabel, LabelSet, from_names
from abs_descriptions.bundles import read_bundle, write_bundle
from abs_descriptions.generation.cleaning import CleaningRules
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.prompts import read_prompts
from abs_descriptions.generation.providers.base import Failure, Outcome, Parameters, Provider, Reply, Tokens
from abs_descriptions.generation.runner import (
    GenerationPlan,
    GenerationProgress,
    StopReason,
    describe_generator,
    run_generation,
)


def test_each_class_gets_what_it_needs_and_no_more() -> None:
    provider: Provider = Script(good)
    result = run_generation(from_names(NAMES), PROMPTS, provider, GenerationPlan(per_class=4))
    assert fetch(result) == {name: [0, 1, 2, 3] for name in NAMES}
    assert result.complete
    assert not result.short
    assert not result.rejected
    assert [one.provenance.prompt for one in result.descriptions[:4]] == ["one", "two", "one", "two"]
    assert {one.provenance.generator for one in result.descriptions} == {result.generator.id}
    assert len({one.provenance.request for one in result.descriptions}) == 12


@pytest.mark.parametrize("order", range(5))
def test_the_order_of_arrival_changes_nothing(order: int) -> None:
    def rule(name: str, sample: int) -> Outcome:
        if (len(name) + sample) % 4 == 0:
            return Failure("status 500")
        return Reply("Too short." if sample % 3 == 0 else f"The {name} of kind {sample // 2} is soft.", "stop")

    reference = run_generation(from_names(NAMES), PROMPTS, Script(rule), GenerationPlan(per_class=5))
    result = run_generation(from_names(NAMES), PROMPTS, Script(rule, order + 1), GenerationPlan(per_class=5))
    assert result.descriptions == reference.descriptions
    assert result.rejected == reference.rejected
    assert result.report == reference.report


def test_descriptions_are_expected_as_replies_come_and_duplicates_once() -> None:
    def rule(name: str, sample: int) -> Outcome:
        return good(name, sample // 2) if sample < 4 else Reply("Too short.", "stop")

    seen: list[GenerationProgress] = []
    plan = GenerationPlan(per_class=4, tries=2)
    result = run_generation(from_names(["cat"]), PROMPTS, Lazy(rule), plan, on_progress=seen.append)
    assert [step.expected for step in seen[:5]] == [1, 1, 2, 2, 2]
    assert [step.accepted for step in seen[:5]] == [0, 0, 0, 2, 2]
    assert seen[-1].expected == seen[-1].accepted == len(result.descriptions) == 2


def test_what_is_missing_is_asked_for_with_new_samples() -> None:
    provider = Script(
        lambda name, sample: good(name, sample) if sample >= 3 or name != "dog" else Reply("A dog.", "stop")
    )
    result = run_generation(from_names(NAMES), PROMPTS, provider, GenerationPlan(per_class=3))
    assert fetch(result) == {"cat": [0, 1, 2], "dog": [3, 4, 5], "cow": [0, 1, 2]}
    assert sorted(set(provider.asked)) == sorted(provider.asked)
    assert result.report[1].rejected["too short"] == 3


def test_tries_are_bounded_and_the_others_finish() -> None:
    provider = Script(lambda name, sample: Reply("Nothing to say.", "stop") if name == "dog" else good(name, sample))
    result = run_generation(from_names(NAMES), PROMPTS, provider, GenerationPlan(per_class=3, tries=5))
    assert [line.accepted for line in result.report] == [3, 0, 3]
    assert result.report[1].asked == 15
    assert not result.complete
    assert [line.class_id for line in result.short] == ["dog"]


def test_what_is_left_over_is_kept_as_surplus() -> None:
    text = "A cat has soft ears and paws. A cat has a very long tail. A cat sleeps on a red rug."
    result = run_generation(
        from_names(["cat"]), PROMPTS, Script(lambda name, sample: Reply(text, "stop")), GenerationPlan(per_class=2)
    )
    assert len(result.descriptions) == 2
    assert [one.reason for one in result.rejected].count("surplus") == 1


def test_copies_of_the_examples_are_no_descriptions() -> None:
    prompts = read_prompts("objects-small")
    example = prompts.examples[0]
    text = example.text.replace(example.name, "cat")
    provider = Script(lambda name, sample: Reply(text if "cat" in name else "The dog of the house is brown.", "stop"))
    result = run_generation(from_names(["cat", "dog"]), prompts, provider, GenerationPlan(per_class=1, tries=2))
    assert [line.accepted for line in result.report] == [0, 1]
    assert {one.reason for one in result.rejected} == {"duplicate"}


def test_nothing_is_asked_twice_and_failures_are_asked_again(tmp_path: Path) -> None:
    labels, plan, path = from_names(NAMES), GenerationPlan(per_class=4), tmp_path / "j.jsonl"
    flaky = Script(lambda name, sample: Failure("status 503") if name == "dog" and sample == 1 else good(name, sample))
    with Journal(path) as journal:
        run_generation(labels, PROMPTS, flaky, plan, journal=journal)
    sound = Script(good)
    seen: list[GenerationProgress] = []
    with Journal(path) as journal:
        result = run_generation(labels, PROMPTS, sound, plan, journal=journal, on_progress=seen.append)
    assert sound.asked == [("dog", 1)]
    assert fetch(result)["dog"] == [0, 1, 2, 3]
    assert seen[-1] == GenerationProgress(12, 12, 0, 11, Tokens(10, 5), Tokens(110, 55), 12, 12, 0, 1, 12)
    none = Script(good)
    with Journal(path) as journal:
        again = run_generation(labels, PROMPTS, none, plan, journal=journal)
    assert none.asked == []
    assert again == result


@pytest.mark.parametrize("after", [1, 5, 11])
def test_a_stopped_run_says_so_and_resumes_where_it_was(tmp_path: Path, after: int) -> None:
    labels, plan, path = from_names(NAMES), GenerationPlan(per_class=4), tmp_path / "j.jsonl"
    whole = run_generation(labels, PROMPTS, Script(good), plan)
    count = iter(range(1, 100))
    with Journal(path) as journal:
        first = Script(good)
        part = run_generation(labels, PROMPTS, first, plan, journal=journal, may_ask=lambda: next(count) <= after)
    assert part.stop is StopReason.REQUESTED
    assert not part.complete
    assert len(first.asked) == len(part.descriptions) == after
    with Journal(path) as journal:
        second = Script(good)
        assert run_generation(labels, PROMPTS, second, plan, journal=journal) == whole
    assert not set(first.asked) & set(second.asked)


def test_an_interrupt_from_the_keyboard_ends_with_what_there_is() -> None:
    calls = iter(range(9))

    def rule(name: str, sample: int) -> Outcome:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return good(name, sample)

    result = run_generation(from_names(NAMES), PROMPTS, Script(rule), GenerationPlan(per_class=3))
    assert result.stop is StopReason.INTERRUPT
    assert len(result.descriptions) == 5


def test_what_is_under_way_is_waited_for_when_nothing_more_may_be_asked() -> None:
    provider = Lazy(good)
    result = run_generation(
        from_names(NAMES), PROMPTS, provider, GenerationPlan(per_class=4), may_ask=lambda: len(provider.asked) < 5
    )
    assert result.stop is StopReason.REQUESTED
    assert not result.complete
    assert len(provider.asked) == len(result.descriptions) == 5 + 2
    assert [line.asked for line in result.report] == [3, 2, 2]


def test_a_note_is_asked_and_enters_the_key_of_the_request(tmp_path: Path) -> None:
    bird, machine = ClassLabel("b", "crane", note="the bird"), ClassLabel("m", "crane", note="the machine")
    provider = Script(lambda name, sample: Reply(f"The crane number {sample}, {name}, is tall.", "stop"))
    for labels, names in (
        (LabelSet("l", (bird, machine)), ["crane (the bird)", "crane (the machine)"]),
        (LabelSet("l", (ClassLabel("b", "crane"), machine)), ["crane"]),
        (LabelSet("l", (ClassLabel("b", "crane", note="a tall bird"), machine)), ["crane (a tall bird)"]),
    ):
        provider.asked.clear()
        with Journal(tmp_path / "j.jsonl") as journal:
            run_generation(labels, PROMPTS, provider, GenerationPlan(per_class=1), journal=journal)
        assert provider.asked == [(name, 0) for name in names]


def test_what_cannot_be_mended_leaves_a_journal_behind(tmp_path: Path) -> None:
    def rule(name: str, sample: int) -> Outcome:
        if sample == 2:
            raise FatalProviderError("the quota is spent", remedy="Add credit")
        return good(name, sample)

    path = tmp_path / "j.jsonl"
    provider = Script(rule)
    with Journal(path) as journal, pytest.raises(FatalProviderError):
        run_generation(from_names(NAMES), PROMPTS, provider, GenerationPlan(per_class=3), journal=journal)
    with Journal(path) as journal:
        assert len(journal) == len(provider.asked) - 1


def test_another_prompt_model_or_parameter_is_asked_anew(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    other = PROMPTS.model_copy(update={"system": "Be brief."})
    for prompts, plan in (
        (PROMPTS, GenerationPlan(2)),
        (other, GenerationPlan(2)),
        (PROMPTS, GenerationPlan(2, parameters=Parameters(61))),
    ):
        provider = Script(good)
        with Journal(path) as journal:
            run_generation(from_names(NAMES), prompts, provider, plan, journal=journal)
        assert len(provider.asked) == 6
    reworded = PROMPTS.model_copy(update={"description": "the same questions"})
    provider = Script(good)
    with Journal(path) as journal:
        run_generation(from_names(NAMES), reworded, provider, GenerationPlan(2), journal=journal)
    assert provider.asked == []


def test_the_result_is_a_bundle(tmp_path: Path) -> None:
    labels = from_names(["cat", "東京タワー"])
    rules = CleaningRules(naming="prefix", count_tokens=len, token_limit=70)
    provider = Script(lambda name, sample: Reply(f"It is number {sample} and has a tail. {'It is ' * 20}", "stop"))
    result = run_generation(labels, PROMPTS, provider, GenerationPlan(per_class=3, tries=1, rules=rules))
    bundle = write_bundle(
        tmp_path / "b.jsonl",
        name="zoo",
        version="1.0.0",
        created="2025-01-01T00:00:00Z",
        label_set=labels,
        generators=[result.generator],
        license="CC0-1.0",
        records=result.descriptions,
        rejected=result.rejected,
        complete=result.complete,
    )
    assert read_bundle(tmp_path / "b.jsonl").reference == bundle.reference
    header = bundle.header
    assert (header.counts.records, header.counts.classes, header.complete) == (6, 2, True)
    assert header.counts.rejected == len(result.rejected) > 0
    assert header.generators[0].prompts is not None
    assert header.generators[0].prompts.digest == PROMPTS.digest


def test_the_generator_is_named_by_all_that_can_change_its_words() -> None:
    provider = Script(good)
    first = describe_generator(PROMPTS, provider, Parameters())
    assert describe_generator(PROMPTS, provider, Parameters()) == first
    assert describe_generator(PROMPTS, provider, Parameters(seed=1)).id != first.id
    assert describe_generator(PROMPTS.model_copy(update={"version": 3}), provider, Parameters()).id != first.id


@pytest.mark.parametrize(
    "plan", [GenerationPlan(per_class=0), GenerationPlan(tries=0), GenerationPlan(parameters=Parameters(max_tokens=0))]
)
def test_a_plan_that_asks_for_nothing_is_refused(plan: GenerationPlan) -> None:
    with pytest.raises(UsageError):
        run_generation(from_names(NAMES), PROMPTS, Script(good), plan)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_no_request_can_hold_are_refused(number: float) -> None:
    with pytest.raises(UsageError, match="the temperature must be a finite number"):
        Parameters(temperature=number)
    with pytest.raises(UsageError, match="the top_p must be a finite number"):
        Parameters(top_p=number)
