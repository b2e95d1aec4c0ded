"""`generate` and `estimate_cost` as a program uses them: into a file or repository, with a journal and a budget."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scripted_provider import NAMES, PROMPTS, Lazy, Script, good

from abs_core.errors import ProviderError, UsageError
from abs_core.labels import from_names
from abs_core.progress import Advance
from abs_descriptions import GenerationPlan, Parameters, Prices, Repository, estimate_cost, generate, read_bundle
from abs_descriptions.generation.pipeline import default_prompts
from abs_descriptions.generation.providers.base import Failure, Reply
from abs_descriptions.generation.runner import StopReason

LABELS = from_names(NAMES)
PLAN = GenerationPlan(per_class=4)


def test_a_file_holds_the_bundle_that_the_summary_names(tmp_path: Path) -> None:
    path = tmp_path / "zoo.jsonl"
    summary = generate(LABELS, "zoo", Script(good), output=path, prompts=PROMPTS, plan=PLAN, license="CC0-1.0")
    bundle = read_bundle(path)
    assert summary.reference == bundle.reference
    assert summary.is_new
    assert (bundle.header.name, bundle.header.version, bundle.header.license) == ("zoo", "1.0.0", "CC0-1.0")
    assert bundle.header.complete
    assert {class_id: len(records) for class_id, records in bundle.descriptions().items()} == dict.fromkeys(NAMES, 4)
    assert [entry.name for entry in tmp_path.iterdir()] == ["zoo.jsonl"]


def test_a_repository_gets_one_version_for_one_content(tmp_path: Path) -> None:
    repository, journals = Repository.local(tmp_path / "bundles"), tmp_path / "journals"

    def run(script: Script, per_class: int = 4) -> tuple[str | None, bool]:
        plan = GenerationPlan(per_class=per_class)
        summary = generate(LABELS, "zoo", script, output=repository, prompts=PROMPTS, plan=plan, journals=journals)
        return summary.reference, summary.is_new

    first, again = Script(good), Script(good)
    reference, is_new = run(first)
    assert is_new
    assert run(again) == (reference, False)
    assert (len(first.asked), again.asked) == (12, [])
    assert run(again, per_class=5)[1]
    assert [str(manifest.version) for manifest in repository.list("zoo")] == ["1.0.0", "1.1.0"]


def test_labels_and_prompts_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("- cat\n")
    provider = Script(lambda name, sample: Reply(f"The cat of number {sample} has soft ears.", "stop"))
    summary = generate(tmp_path / "labels.txt", "zoo", provider, output=tmp_path / "zoo.jsonl", plan=GenerationPlan(1))
    assert "1 read without the bullet before it (- cat)" in map(str, summary.result.remarks)
    (generator,) = read_bundle(tmp_path / "zoo.jsonl").header.generators
    assert generator.prompts is not None
    assert generator.prompts.id == default_prompts(provider) == "objects"


def test_an_estimate_writes_nothing_and_counts_the_journal(tmp_path: Path) -> None:
    inputs = {"prompts": PROMPTS, "plan": PLAN, "journals": tmp_path / "journals", "prices": Prices(1000, 2000)}
    before = estimate_cost(LABELS, "zoo", Script(good), **inputs)  # type: ignore[arg-type]
    assert (before.requests.requests, before.requests.reused) == (12, 0)
    assert before.to_dict()["to_ask"]["completion_tokens"] == 12 * 60
    assert list(tmp_path.iterdir()) == []
    generate(LABELS, "zoo", Script(good), output=tmp_path / "zoo.jsonl", **inputs)  # type: ignore[arg-type]
    after = estimate_cost(LABELS, "zoo", Script(good), **inputs)  # type: ignore[arg-type]
    assert (after.requests.requests, after.requests.reused, after.requests.accepted) == (0, 12, 12)


def test_a_cost_limit_leaves_a_partial_bundle(tmp_path: Path) -> None:
    summary = generate(
        LABELS,
        "zoo",
        Lazy(good),
        output=tmp_path / "zoo.jsonl",
        prompts=PROMPTS,
        plan=GenerationPlan(per_class=100, parameters=Parameters(max_tokens=1)),
        prices=Prices(1000, 2000),
        max_cost=1.0,
    )
    assert summary.result.stop is StopReason.COST
    assert summary.cost.to_dict()["paid"]["cost"] <= 1.0
    assert not read_bundle(tmp_path / "zoo.jsonl").header.complete


def test_an_interruption_before_the_first_reply_keeps_nothing(tmp_path: Path) -> None:
    summary = generate(
        LABELS, "zoo", Script(good), output=tmp_path / "zoo.jsonl", prompts=PROMPTS, may_ask=lambda: False
    )
    assert (summary.reference, summary.is_new) == (None, False)
    assert not (tmp_path / "zoo.jsonl").exists()


def test_progress_and_messages_reach_whoever_runs_the_library(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    steps: list[tuple[int, str]] = []
    opened: list[tuple[str, int, str]] = []

    @contextmanager
    def progress(title: str, total: int, unit: str) -> Iterator[Advance]:
        opened.append((title, total, unit))

        def advance(step: int = 1, remark: str = "") -> None:
            steps.append((step, remark))

        yield advance

    with caplog.at_level(logging.INFO, "abs_descriptions"):
        generate(
            LABELS, "zoo", Script(good), output=tmp_path / "zoo.jsonl", prompts=PROMPTS, plan=PLAN, progress=progress
        )
    assert opened == [("describing", 12, "sentences")]
    assert sum(step for step, _ in steps) == 12
    assert steps[-1][1] == "12 of 12 replies, 0 failed, 180 tokens"
    assert caplog.messages[-1].startswith("12 replies, 60 tokens")


def test_a_report_is_written_even_if_no_reply_is_a_description(tmp_path: Path) -> None:
    provider = Script(lambda name, sample: Reply("No.", "stop") if sample else Failure("status 500"))
    report = tmp_path / "report.json"
    with pytest.raises(ProviderError, match="none of 45 replies is a description; rejected: chatty 45"):
        generate(LABELS, "zoo", provider, output=tmp_path / "zoo.jsonl", prompts=PROMPTS, plan=PLAN, report=report)
    assert {line["asked"] for line in json.loads(report.read_text())["classes"]} == {16}


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("Zoo!", {}, "the bundle name 'Zoo!'"),
        ("zoo", {"max_cost": 1.0}, "a cost limit needs prices"),
        ("zoo", {"report": Path("report.html")}, "must be a .csv or .json file"),
        ("zoo", {"license": "a\nb"}, "licen"),
    ],
)
def test_an_unusable_input_is_refused_before_the_first_request(
    tmp_path: Path, name: str, options: dict[str, object], problem: str
) -> None:
    provider = Script(good)
    with pytest.raises(Exception, match=problem) as caught:
        generate(LABELS, name, provider, output=tmp_path / "zoo.jsonl", prompts=PROMPTS, **options)  # type: ignore[arg-type]
    assert type(caught.value).__module__ == UsageError.__module__
    assert not provider.asked
