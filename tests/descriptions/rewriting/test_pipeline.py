"""Rewriting: what is chosen, tested once, kept or not, and what is paid for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rewriting import NAMES, PairScript, ScriptedJudge, gain_of, pair_answer, small_bundle

from abs_core.confusions import Confusion
from abs_core.errors import ProviderError, UsageError
from abs_descriptions import Prices, RewriteOutput, RewritePlan, estimate_rewrite, read_bundle, rewrite_bundle
from abs_descriptions.bundles import Bundle, iter_rejected
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.providers.base import Failure, Reply


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return small_bundle(tmp_path / "birds.jsonl")


class Rewriting:
    """``rewrite_bundle`` with a store and journals of its own."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self.bundle, self.repository = bundle, Repository.local(folder / "store")
        self.inputs: dict[str, Any] = {"journals": folder / "journals", "plan": RewritePlan(per_class=2)}
        self.folder = folder

    def __call__(self, judge: ScriptedJudge, provider: PairScript | None = None, **inputs: Any) -> Any:
        output = RewriteOutput(self.repository, proposals=self.folder, **inputs.pop("output", {}))
        return rewrite_bundle(self.bundle, judge, provider or PairScript(), output=output, **{**self.inputs, **inputs})

    def estimate(self, judge: ScriptedJudge, provider: PairScript | None = None) -> Any:
        output = RewriteOutput(self.repository)
        return estimate_rewrite(self.bundle, judge, provider or PairScript(), output=output, **self.inputs)


@pytest.fixture
def rewrite(bundle: Bundle, tmp_path: Path) -> Rewriting:
    return Rewriting(bundle, tmp_path)


def test_what_gains_on_both_halves_becomes_a_child_with_its_reason(rewrite: Rewriting) -> None:
    judge = ScriptedJudge()
    summary = rewrite(judge)
    assert (summary.outcome.value, summary.is_new, summary.pairs) == ("kept", True, 2)
    child = rewrite.repository.read(summary.reference)
    assert child.header.version == "1.1.0"
    assert child.header.parents == (rewrite.bundle.reference,)
    old, new = list(rewrite.bundle.records()), list(child.records())
    fresh = [record for record in new if record not in old]
    assert [record for record in new if record in old] == old
    assert len(fresh) == 8 == len(summary.chosen)
    generators = {generator.id: generator for generator in child.header.generators}
    reasons = {record.class_id: generators[record.provenance.generator] for record in fresh}
    assert {record.class_id for record in fresh} == {"crane", "heron", "stork"}
    heron = reasons["heron"]
    assert heron.parameters["confusion"] == {
        "classes": ["crane", "heron"], "first_as_second": 5, "second_as_first": 2
    }  # fmt: skip
    assert heron.prompts is not None
    assert (heron.backend, heron.model, heron.prompts.id, heron.prompts.version) == ("script", "rule", "pairs", "1")
    with Journal(rewrite.folder / "journals" / "birds.jsonl", read_only=True) as journal:
        assert all(journal.find(str(record.provenance.request)) for record in fresh)
    chooser = next(generator for generator in child.header.generators if generator.backend == "rewrite")
    assert chooser.parameters["test"] == summary.test.model_dump(mode="json")


def test_the_whole_choice_is_tested_once_and_nothing_else_is(rewrite: Rewriting) -> None:
    good = f"crane has {100 * ord('h') + 1} "
    judge = ScriptedJudge(
        rule=lambda texts, half: (
            gain_of(sum(good in text for text in texts), len(texts) - 1, 1.0)
            if half == "choice"
            else gain_of(1, 0, 0.5)
        )
    )
    summary = rewrite(judge)
    halves = [half for half, _ in judge.asked]
    assert halves == ["choice", "choice", "test"]
    (alone, together, tested) = (texts for _, texts in judge.asked)
    assert [len(texts) for texts in alone] == [1] * 8 + [2] * (4 + 4)
    assert [len(texts) for texts in together] == [1]
    assert tested == [together[0]]
    assert [entry.description.text for entry in summary.chosen] == tested[0]
    child = rewrite.repository.read(summary.reference)
    refused = [entry for entry in iter_rejected(child.path, child.header) if entry.reason == "no gain on the images"]
    assert len(refused) == 7


def test_two_that_help_only_together_are_chosen_together(rewrite: Rewriting) -> None:
    needed = (f"crane has {100 * ord('h')} ", f"heron has {100 * ord('c') + 1} ")
    judge = ScriptedJudge(
        rule=lambda texts, half: gain_of(
            10 * all(any(words in text for text in texts) for words in needed), len(texts) - 1, 1.0
        )
    )
    chosen = [entry.description.text for entry in rewrite(judge).chosen]
    assert len(chosen) == 2
    assert all(words in text for words, text in zip(needed, chosen, strict=True))


@pytest.mark.parametrize("low", [0.0, -0.1])
def test_an_interval_that_is_not_above_zero_adds_no_version(rewrite: Rewriting, low: float) -> None:
    judge = ScriptedJudge(rule=lambda texts, half: gain_of(len(texts), 0, low))
    summary = rewrite(judge)
    assert (summary.outcome.value, summary.reference) == ("no gain", None)
    assert summary.test.interval.low == low
    assert rewrite.repository.list("birds") == []


def test_the_test_half_is_not_looked_at_where_nothing_wins(rewrite: Rewriting) -> None:
    judge = ScriptedJudge(rule=lambda texts, half: gain_of(1, 1, 1.0))
    summary = rewrite(judge)
    assert (summary.outcome.value, summary.test, summary.chosen) == ("no gain", None, ())
    assert [half for half, _ in judge.asked] == ["choice"]
    assert not (rewrite.folder / "journals" / "tested").exists()


def test_a_second_test_of_the_same_images_is_told_as_one(rewrite: Rewriting, caplog: pytest.LogCaptureFixture) -> None:
    first = rewrite(ScriptedJudge())
    assert (first.test_images, caplog.text) == (0, "")
    again = rewrite(ScriptedJudge())
    assert (again.test_images, again.is_new, again.reference) == (0, False, first.reference)
    other = ScriptedJudge(ids={"choice": ["a"], "test": ["d", "e"]})
    other.rule = lambda texts, half: gain_of(len(texts) if "heron" in texts[0] else 0, 0, 1.0)
    second = rewrite(other)
    assert second.test_images == 1
    assert "1 of the 2 images of the test half have tested an earlier rewriting" in caplog.text
    chooser = rewrite.repository.read(second.reference).header.generators[-1]
    assert chooser.parameters["test_images_used_before"] == 1


def test_an_interrupted_run_resumes_without_paying_again(rewrite: Rewriting) -> None:
    provider = PairScript()
    judge = ScriptedJudge()
    stopped = rewrite(judge, provider, may_ask=lambda: len(provider.requests) < 6)
    assert (stopped.outcome.value, stopped.was_interrupted) == ("stopped", True)
    assert judge.asked == []
    paid = len(provider.requests)
    assert paid == 6
    summary = rewrite(judge, provider)
    assert summary.outcome.value == "kept"
    assert summary.written.reused == 6
    before = len(provider.requests)
    assert rewrite(judge, provider).reference == summary.reference
    assert len(provider.requests) == before


def test_a_cost_limit_stops_it_before_anything_is_tested(rewrite: Rewriting) -> None:
    judge = ScriptedJudge()
    summary = rewrite(judge, prices=Prices(1000, 1000), max_cost=1.4)
    assert (summary.outcome.value, summary.written.stop) == ("stopped", "cost limit")
    assert not summary.was_interrupted
    assert judge.asked == []
    assert 0 < summary.cost.paid.total < 2000
    assert rewrite.repository.list("birds") == []


def test_nonsense_for_ever_ends_with_what_was_spent_and_no_version(rewrite: Rewriting) -> None:
    provider = PairScript(
        lambda question, sample: (
            pair_answer(question, sample)
            if "What tells" not in question
            else Reply(f"Lorem ipsum dolor {sample}", "stop", 20, 10)
        )
    )
    with pytest.raises(ProviderError, match=r"requests were sent: \d+ tokens in, \d+ out.*replies are in the journal"):
        rewrite(ScriptedJudge(), provider, prices=Prices(1, 1))
    paid = [len(provider.requests)]
    assert paid[0] == 4 + 12
    for _ in range(4):
        with pytest.raises(ProviderError, match="too short"):
            rewrite(ScriptedJudge(), provider)
        paid.append(len(provider.requests))
    assert paid[-2:] == [4 + 2 * 4 * 4] * 2  # both classes of two pairs, with all their tries
    assert rewrite.repository.list("birds") == []


def test_refusals_of_the_first_step_end_it(rewrite: Rewriting) -> None:
    provider = PairScript(lambda question, sample: Failure("status 500", kind="status 500"))
    with pytest.raises(ProviderError, match="status 500"):
        rewrite(ScriptedJudge(), provider)
    assert len(provider.requests) <= 12


def test_a_pair_that_nothing_tells_apart_is_left_out(rewrite: Rewriting) -> None:
    provider = PairScript(
        lambda question, sample: (
            Reply("I cannot tell.", "stop", 20, 10) if "stork" in question else pair_answer(question, sample)
        )
    )
    summary = rewrite(ScriptedJudge(), provider)
    assert {entry.confusion.first for entry in summary.candidates} == {"crane"}
    assert "stork and crane" in str(summary.written.remarks[-1])


def test_what_is_said_of_both_classes_tells_nothing(rewrite: Rewriting) -> None:
    def rule(question: str, sample: int) -> Reply:
        if sample or "What tells" not in question:
            return pair_answer(question, sample)
        return Reply(f"A {question.split()[2]} has broad wings.", "stop", 20, 10)

    written = rewrite(ScriptedJudge(), PairScript(rule)).written
    assert not any("broad wings" in entry.description.text for entry in written.candidates)
    assert [entry.text for entry in written.rejected if entry.reason == "said of both classes"] == [
        "A crane has broad wings.", "A heron has broad wings.", "A stork has broad wings.", "A crane has broad wings."
    ]  # fmt: skip


def test_descriptions_of_both_classes_alone_are_no_gain(rewrite: Rewriting) -> None:
    provider = PairScript(
        lambda question, sample: (
            Reply(f"A {question.split()[2]} has {sample} broad wings.", "stop", 20, 10)
            if "What tells" in question
            else pair_answer(question, sample)
        )
    )
    judge = ScriptedJudge()
    summary = rewrite(judge, provider)
    assert (summary.outcome.value, summary.candidates, summary.written.stop) == ("no gain", (), None)
    assert judge.asked == []


def test_images_that_confuse_nothing_cost_nothing(rewrite: Rewriting) -> None:
    provider = PairScript()
    summary = rewrite(ScriptedJudge(pairs=[]), provider)
    assert (summary.outcome.value, summary.reference, provider.requests) == ("no confusion", None, [])
    assert rewrite.estimate(ScriptedJudge(pairs=[])).requests.requests == 0


def test_a_dry_run_counts_both_steps_and_writes_nothing(rewrite: Rewriting) -> None:
    estimate = rewrite.estimate(ScriptedJudge()).requests
    assert (estimate.requests, estimate.wanted, estimate.reused) == (2 * 2 + 2 * 2 * 2, 8, 0)
    assert not (rewrite.folder / "journals").exists()
    rewrite(ScriptedJudge())
    after = rewrite.estimate(ScriptedJudge()).requests
    assert (after.requests, after.reused, after.accepted) == (0, 12, 8)


def test_pairs_beyond_the_limit_are_not_asked_about(rewrite: Rewriting) -> None:
    provider = PairScript()
    summary = rewrite(ScriptedJudge(), provider, plan=RewritePlan(pairs=1, per_class=1))
    assert (summary.pairs, len(summary.confusions)) == (2, 1)
    assert len(provider.requests) == 2 + 2
    assert not any("stork" in request.messages[-1].content for request in provider.requests)


def test_without_true_classes_it_only_proposes(rewrite: Rewriting) -> None:
    judge = ScriptedJudge(has_truth=False, pairs=[Confusion("crane", "heron", 5, 2)])
    summary = rewrite(judge)
    assert (summary.outcome.value, summary.reference, summary.test) == ("proposed", None, None)
    assert judge.asked == []
    (path,) = summary.files
    text = path.read_text(encoding="utf-8-sig")
    assert text.count(",add,") == 4 == len(summary.candidates)
    assert "7 images waver between crane and heron" in text
    assert rewrite(judge).files == summary.files
    path.write_text("my work", encoding="utf-8")
    with pytest.raises(UsageError, match="exists and says something else"):
        rewrite(judge)


def test_without_true_classes_a_child_must_be_asked_for(rewrite: Rewriting) -> None:
    summary = rewrite(ScriptedJudge(has_truth=False), output={"add": True, "name": "storks", "version": "3.0.0"})
    assert (summary.outcome.value, summary.test) == ("kept", None)
    child = rewrite.repository.read("storks@3.0.0")
    assert child.header.counts.records == 6 + 8
    assert "test" not in child.header.generators[-1].parameters


def test_what_cannot_be_used_is_refused_before_anything_is_asked(rewrite: Rewriting, tmp_path: Path) -> None:
    provider = PairScript()
    with pytest.raises(UsageError, match=r"pairs must be at least 1, got 0"):
        rewrite(ScriptedJudge(), provider, plan=RewritePlan(pairs=0))
    with pytest.raises(UsageError, match="the bundle name"):
        rewrite(ScriptedJudge(), provider, output={"name": "no/name"})
    alone = Rewriting(small_bundle(tmp_path / "alone.jsonl", NAMES[:1]), tmp_path)
    with pytest.raises(UsageError, match="has one class"):
        alone(ScriptedJudge(), provider)
    assert provider.requests == []


def test_a_damaged_record_of_a_test_does_not_stop_the_next(rewrite: Rewriting) -> None:
    rewrite(ScriptedJudge())
    (record,) = (rewrite.folder / "journals" / "tested").glob("*/*")
    assert json.loads(record.read_text())["parent"] == rewrite.bundle.reference
    record.write_text('{"images": 3}')
    assert rewrite(ScriptedJudge()).outcome.value == "kept"
    assert read_bundle(rewrite.bundle.path).reference == rewrite.bundle.reference
