"""Replies that are paid for are found again: at another address, with another question first, under another name."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from scripted_provider import NAMES, PROMPTS, Script, good

from abs_core.labels import from_names
from abs_descriptions.bundles import read_bundle
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.pipeline import estimate_cost, generate
from abs_descriptions.generation.plan import GenerationPlan, GenerationResult
from abs_descriptions.generation.prompts import Prompt, PromptSet
from abs_descriptions.generation.providers.base import Adaptation, Outcome, Parameters, Reply
from abs_descriptions.generation.runner import run_generation

PLAN = GenerationPlan(per_class=3)


class ServedScript(Script):
    """A script that is said to run on a server."""

    name, model = "openai", "m"

    def __init__(self, server: str = "http://a/v1", rule: Any = good) -> None:
        super().__init__(rule)
        self.server = server

    def key(self) -> Mapping[str, Any]:
        return {"backend": "openai", "base_url": self.server, "model": self.model}


@dataclass
class Home:
    """A folder of journals."""

    folder: Path

    def write(
        self, provider: ServedScript, name: str = "zoo", prompts: PromptSet = PROMPTS, plan: GenerationPlan = PLAN
    ) -> GenerationResult:
        labels = from_names(NAMES)
        options: dict[str, Any] = {"prompts": prompts, "plan": plan, "journals": self.folder}
        expected = estimate_cost(labels, name, provider, **options).requests.requests
        result = generate(labels, name, provider, output=self.folder / f"{name}-out" / "b.jsonl", **options).result
        assert len(provider.asked) == expected
        return result

    def remarks(self, result: GenerationResult) -> dict[str, tuple[int, tuple[str, ...]]]:
        return {remark.kind: (remark.count, remark.examples) for remark in result.remarks}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "journals")


def test_the_same_model_at_another_address_is_not_paid_again(home: Home) -> None:
    first = home.write(ServedScript("http://127.0.0.1:8000/v1"))
    moved = ServedScript("http://localhost:9000/v1")
    again = home.write(moved)
    assert moved.asked == []
    assert home.remarks(again) == {
        "replies reused from another address": (9, ("http://127.0.0.1:8000/v1",)),
    }
    # The bundle says where its sentences come from.
    assert replace(again, remarks=()) == first
    assert again.generator.parameters["base_url"] == "http://127.0.0.1:8000/v1"


def test_replies_of_two_addresses_are_both_named(home: Home) -> None:
    home.write(ServedScript("http://a/v1"))
    both = home.write(ServedScript("http://b/v1"), plan=replace(PLAN, per_class=4))
    assert both.generator.parameters["base_url"] == "http://a/v1, http://b/v1"
    assert {record.provenance.generator for record in both.descriptions} == {both.generator.id}
    assert read_bundle(home.folder / "zoo-out" / "b.jsonl").header.generators == (both.generator,)


def test_a_user_can_insist_on_the_address(home: Home) -> None:
    strict = replace(PLAN, by_server=True)
    for _ in range(2):
        for server, asked in (("http://a/v1", 9), ("http://b/v1", 9)):
            provider = ServedScript(server)
            home.write(provider, plan=strict)
            assert len(provider.asked) in (asked, 0)
    other = ServedScript("http://b/v1")
    home.write(other, plan=strict)
    assert other.asked == []


@pytest.mark.parametrize("model", ["n", "M"])
def test_another_model_is_paid(home: Home, model: str) -> None:
    home.write(ServedScript())
    provider = ServedScript()
    provider.model = model  # type: ignore[misc]
    home.write(provider)
    assert len(provider.asked) == 9


def test_another_question_put_first_costs_its_own_replies_only(home: Home) -> None:
    number = itertools.count()

    def rule(name: str, sample: int) -> Outcome:
        return Reply(f"This {name} number {next(number)} has a long tail.", "stop", 10, 5)

    home.write(ServedScript(rule=rule), plan=replace(PLAN, per_class=4))
    longer = PROMPTS.model_copy(update={"prompts": (Prompt(id="new", text="New {name}"), *PROMPTS.prompts)})
    provider = ServedScript(rule=rule)
    result = home.write(provider, prompts=longer, plan=replace(PLAN, per_class=6))
    # Samples 0 and 3 ask the new question, the others the old ones, each for the first and the second time.
    assert sorted(provider.asked) == sorted((name, sample) for name in NAMES for sample in (0, 3))
    assert [len({r.text for r in result.descriptions if r.class_id == name}) for name in NAMES] == [6, 6, 6]
    swapped = PROMPTS.model_copy(update={"prompts": PROMPTS.prompts[::-1]})
    provider = ServedScript()
    home.write(provider, prompts=swapped, plan=replace(PLAN, per_class=4))
    assert provider.asked == []


def test_a_bundle_of_another_name_pays_for_nothing_twice(home: Home) -> None:
    first = home.write(ServedScript())
    other = ServedScript()
    result = home.write(other, "birds")
    assert other.asked == []
    assert result.descriptions == first.descriptions
    assert home.remarks(result) == {"replies reused from the journal of another bundle": (9, ("zoo",))}
    # They are in its own journal now, which needs the other one no more.
    (home.folder / "zoo.jsonl").unlink()
    alone = ServedScript()
    assert home.write(alone, "birds").remarks == ()
    assert alone.asked == []


def test_journals_beside_that_cannot_be_read_are_passed_over(home: Home) -> None:
    home.folder.mkdir()
    (home.folder / "notes.jsonl").write_text("not a journal\n")
    (home.folder / "folder.jsonl").mkdir()
    os.mkfifo(home.folder / "pipe.jsonl")  # opening it would wait for ever
    (home.folder / "torn.jsonl").write_bytes(b'{"form')
    provider = ServedScript()
    assert home.write(provider).complete
    assert len(provider.asked) == 9
    assert (home.folder / "notes.jsonl").read_text() == "not a journal\n"
    assert (home.folder / "torn.jsonl").read_bytes() == b'{"form'


OLD = """\
{"format":"abs-journal","format_version":1}
{"class":"cat","completion_tokens":5,"finish_reason":"stop","prompt":"one","prompt_tokens":10,"request":"sha256:\
4b97bba35260e6300c661e6d954546abcbf46a3b9d9e8481dc1d47af50624cc7","sample":0,"status":"reply","text":"An old cat."}
{"class":"cat","completion_tokens":5,"finish_reason":"stop","prompt":"one","prompt_tokens":10,"request":"sha256:\
12de489b48cb55532ff05d30e2a4fb2bc4947f40a33809aff1c8cb74854459ab","sample":2,"status":"reply","text":"Third old cat."}
{"class":"cat","completion_tokens":5,"finish_reason":"stop","prompt":"two","prompt_tokens":10,"request":"sha256:\
a15333439ab19316ca349b8e099624d97af2dd85ddee540bb8882ec5c32b9f6c","sample":1,"status":"reply","text":"Next old cat."}
"""


def test_a_journal_of_version_1_is_read_and_from_then_on_found_everywhere(tmp_path: Path) -> None:
    """The lines are those that the version before wrote for this prompt set and server, with shorter texts."""
    path = tmp_path / "zoo.jsonl"
    path.write_text(OLD)
    labels = from_names(["cat"])
    rules = replace(PLAN.rules, min_words=3)
    for server in ("http://a/v1", "http://b/v1"):
        provider = ServedScript(server)
        with Journal(path) as journal:
            result = run_generation(labels, PROMPTS, provider, replace(PLAN, rules=rules), journal=journal)
            assert journal.damaged == []
        assert provider.asked == []
        assert [record.text for record in result.descriptions] == [
            "An old cat.",
            "Next old cat.",
            "Third old cat.",
        ]
        # What the older version wrote into bundles stays as it was.
        assert result.generator.id == "openai-c4fc55e71fd5"
        assert result.descriptions[0].provenance.request.endswith("624cc7")
    assert path.read_text().startswith(OLD)
    beside = ServedScript("http://a/v1")
    with Journal(tmp_path / "birds.jsonl") as journal:
        run_generation(labels, PROMPTS, beside, replace(PLAN, rules=rules), journal=journal, beside=[path])
    assert beside.asked == []


def test_what_the_model_refuses_is_known_to_the_next_run_and_named_in_the_bundle(home: Home) -> None:
    refuses = Adaptation(("temperature",), (), 1024)

    def rule(name: str, sample: int) -> Outcome:
        return Reply(f"This {name} number {sample} has a long tail.", "stop", 10, 5, adaptation=refuses)

    first = home.write(ServedScript(rule=rule))
    assert (first.generator.parameters["temperature"], first.generator.parameters["max_tokens"]) == (None, 1024)
    assert [str(remark) for remark in first.remarks] == [
        "9 replies requested without temperature and with up to 1024 tokens, as the model requires (m, ...)"
    ]
    provider = ServedScript(rule=rule)
    assert home.write(provider) == first
    assert (provider.asked, provider.adaptation) == ([], refuses)
    # A user who sends no temperature in the first place asks for the same.
    explicit = replace(PLAN, parameters=Parameters(1024, None))
    provider = ServedScript()
    home.write(provider, plan=explicit)
    assert provider.asked == []
    elsewhere = ServedScript("http://b/v1", rule=rule)
    home.write(elsewhere, "birds")
    assert (elsewhere.asked, elsewhere.adaptation) == ([], Adaptation())


def test_every_line_says_what_it_belongs_to(home: Home) -> None:
    home.write(ServedScript())
    lines = [json.loads(line) for line in (home.folder / "zoo.jsonl").read_text().splitlines()[1:]]
    assert {(line["model"], line["server"], len(line["check"])) for line in lines} == {("m", "http://a/v1", 16)}
