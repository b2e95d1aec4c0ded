"""Descriptions rewritten where images confuse classes: written, chosen on half of the images, tested on the other half.

``rewrite_bundle`` is what ``abs bundle rewrite`` runs, ``estimate_rewrite`` what it runs with ``--dry-run``. With true
classes nothing of the test half is looked at before what was chosen is final, it is looked at once, and a child version
is kept only if the lower end of the paired 95 % interval of its gain lies above 0. Without true classes there is no
gain to measure: what was written is proposed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from abs_core.bundle_scores import NetGain
from abs_core.canonical import digest
from abs_core.confusions import Confusion, SentenceJudge
from abs_core.descriptions import Description, Descriptions
from abs_core.errors import UsageError
from abs_core.progress import Progress, no_progress
from abs_descriptions.bundles import Bundle
from abs_descriptions.bundles.references import name_problem
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import check_output, child_version
from abs_descriptions.generation.cost import Prices
from abs_descriptions.generation.pipeline import budget_of
from abs_descriptions.generation.providers.base import Provider, Tokens
from abs_descriptions.generation.providers.model_files import EMBEDDED
from abs_descriptions.generation.report import CostEstimate, CostSummary
from abs_descriptions.generation.runner import GenerationEstimate, StopReason, describe_generator
from abs_descriptions.rewriting.candidates import Candidate, CandidateWriter, RewritePlan, WrittenCandidates
from abs_descriptions.rewriting.pair_prompts import PairPromptSet, default_pair_prompts, read_pair_prompts
from abs_descriptions.rewriting.rewritten import add_rewritten, rewriter, write_proposals
from abs_descriptions.rewriting.used_tests import UsedTests

__all__ = ["RewriteOutcome", "RewriteOutput", "RewriteSummary", "estimate_rewrite", "rewrite_bundle"]

_logger = logging.getLogger(__name__)


class RewriteOutcome(StrEnum):
    """What became of a rewriting."""

    KEPT = "kept"
    """A child version, which passed its test; or, without true classes, was asked for."""
    NO_GAIN = "no gain"
    """Nothing helps, or nothing tells two classes apart, and no version was added."""
    PROPOSED = "proposed"
    """Without true classes: in a review file."""
    NO_CONFUSION = "no confusion"
    """The images confuse no classes; nothing was asked."""
    STOPPED = "stopped"
    """The language model was not asked everything; nothing was chosen and the test half was not looked at."""


@dataclass(frozen=True)
class RewriteOutput:
    """Where results go.

    Args:
        repository: a local store, which gets the child version.
        name: of the child; None: the parent's.
        version: of the child, as ``child_version`` takes it.
        proposals: the folder of the review file of proposals, without true classes.
        add: without true classes, add all proposals as a child version.
    """

    repository: Repository
    name: str | None = None
    version: str | None = None
    proposals: Path = Path()
    add: bool = False

    def name_of_child(self, parent: Bundle) -> str:
        """The name of the child."""
        return parent.header.name if self.name is None else self.name


@dataclass(frozen=True)
class RewriteSummary:
    """What was asked, chosen and measured.

    Args:
        parent: the pinned reference of the bundle.
        outcome: what became of it.
        confusions: the pairs that were asked about, most images first; ``pairs`` counts all that images confuse.
        candidates: the new descriptions.
        chosen: those that gain on the choice half; without true classes all.
        choice: the gain of the chosen ones on the half on which they were chosen, which says little; None without
            true classes, or if none gains.
        test: their gain on the other half; None if it was not looked at.
        test_images: how many images of the test half had tested another rewriting.
        reference: the pinned reference of the child; None if there is none.
        is_new: whether it was written now.
        files: review files of proposals.
        written: what the language model gave; None if it was not asked.
        facts: how images were looked at.
        seconds: time taken.
    """

    parent: str
    outcome: RewriteOutcome
    confusions: tuple[Confusion, ...]
    pairs: int
    candidates: tuple[Candidate, ...] = ()
    chosen: tuple[Candidate, ...] = ()
    choice: NetGain | None = None
    test: NetGain | None = None
    test_images: int = 0
    reference: str | None = None
    is_new: bool = False
    files: tuple[Path, ...] = ()
    written: WrittenCandidates | None = None
    facts: dict[str, JsonValue] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def cost(self) -> CostSummary:
        """Tokens and what they cost."""
        return CostSummary(Tokens(), Tokens(), None) if self.written is None else self.written.cost

    @property
    def was_interrupted(self) -> bool:
        """Whether the user ended it."""
        return self.written is not None and self.written.stop in (StopReason.INTERRUPT, StopReason.REQUESTED)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        chosen = {(entry.description.class_id, entry.description.text) for entry in self.chosen}
        written = self.written
        return {
            "parent": self.parent,
            "outcome": self.outcome.value,
            "bundle": self.reference,
            "new": self.is_new,
            "pairs": self.pairs,
            "confusions": [
                {
                    "first": confusion.first,
                    "second": confusion.second,
                    "first_as_second": confusion.first_as_second,
                    "second_as_first": confusion.second_as_first,
                    "differences": list(written.differences.get((confusion.first, confusion.second), ()))
                    if written
                    else [],
                }
                for confusion in self.confusions
            ],
            "candidates": [
                {
                    "class": entry.description.class_id,
                    "text": entry.description.text,
                    "confused_with": [entry.confusion.first, entry.confusion.second],
                    "chosen": (entry.description.class_id, entry.description.text) in chosen,
                }
                for entry in self.candidates
            ],
            "choice": None if self.choice is None else self.choice.model_dump(mode="json"),
            "test": None if self.test is None else self.test.model_dump(mode="json"),
            "test_images_used_before": self.test_images,
            "files": [str(path) for path in self.files],
            "stopped": None if written is None else written.stop,
            "reason": "" if written is None else written.reason,
            "reused": 0 if written is None else written.reused,
            "tokens": self.cost.to_dict(),
            "measured": dict(self.facts),
            "remarks": [] if written is None else [remark.as_json() for remark in written.remarks],
            "seconds": round(self.seconds, 3),
        }


def rewrite_bundle(
    bundle: Bundle,
    judge: SentenceJudge,
    provider: Provider,
    *,
    output: RewriteOutput,
    prompts: PairPromptSet | str | Path | None = None,
    plan: RewritePlan | None = None,
    journals: Path | None = None,
    prices: Prices | None = None,
    max_cost: float | None = None,
    progress: Progress = no_progress,
    may_ask: Callable[[], bool] = lambda: True,
) -> RewriteSummary:
    """Write descriptions for the classes that images confuse, and keep them if they help.

    Replies are recorded as those of ``generate``, so the same call resumes an interrupted one without paying twice.

    Args:
        bundle: the parent.
        judge: the images, such as ``abs_classify.ImageJudge``.
        provider: the language model, see ``build_provider``.
        output: where the child or the proposals go.
        prompts: a set for pairs of classes, a YAML file, or the id of a shipped one; None: ``default_pair_prompts``.
        plan: how much is asked.
        journals: a folder, for replies in ``NAME.jsonl`` and for which images tested in ``NAME.tested``, with the
            name of the child; None keeps neither.
        prices, max_cost, progress, may_ask: as in ``generate``.

    Raises:
        UsageError, PromptError, UnknownNameError, BundleError: an unusable input; nothing was requested.
        ProviderError: the model gives no usable reply, or none that is a description; says what was spent. The journal
            has the replies, and no version was added.
        ImageError, ModelError: as ``judge`` raises. StorageError: something cannot be read or written.
    """
    start = time.monotonic()
    run = _Rewriting(bundle, judge, output, journals, start)
    writer = _writer(bundle, provider, prompts, plan, run.journal)
    budget = budget_of(prices, max_cost)
    run.check(provider, writer)
    confusions = judge.confusions()
    if not confusions:
        return run.summary(RewriteOutcome.NO_CONFUSION, (), 0)
    written = writer.write(confusions, budget=budget, prices=prices, progress=progress, may_ask=may_ask)
    summary = run.summary(
        RewriteOutcome.STOPPED,
        tuple(confusions[: writer.plan.pairs]),
        len(confusions),
        candidates=written.candidates,
        written=written,
    )
    if written.stop is not None:
        return summary
    if not written.candidates:
        return replace(summary, outcome=RewriteOutcome.NO_GAIN)
    return run.judged(summary) if judge.has_truth else run.proposed(summary)


def estimate_rewrite(
    bundle: Bundle,
    judge: SentenceJudge,
    provider: Provider,
    *,
    output: RewriteOutput,
    prompts: PairPromptSet | str | Path | None = None,
    plan: RewritePlan | None = None,
    journals: Path | None = None,
    prices: Prices | None = None,
) -> CostEstimate:
    """What ``rewrite_bundle`` would request with the same arguments, and its cost. Sends and writes nothing.

    The images are looked at, since what they confuse is what is asked about. Requests of the second step depend on the
    answers of the first: where the journal lacks these, they count with the longest there may be.

    Raises:
        AbsError: as ``rewrite_bundle``, but no ProviderError.
    """
    journal = _Rewriting(bundle, judge, output, journals, 0.0).journal
    writer = _writer(bundle, provider, prompts, plan, journal)
    confusions = judge.confusions()
    nothing = GenerationEstimate(0, Tokens(), 0, Tokens(), 0, Tokens(), 0, 0)
    return CostEstimate(writer.estimate(confusions) if confusions else nothing, prices)


def _writer(
    bundle: Bundle,
    provider: Provider,
    prompts: PairPromptSet | str | Path | None,
    plan: RewritePlan | None,
    journal: Path | None,
) -> CandidateWriter:
    is_small = provider.name in ("local", "vllm") and provider.model == EMBEDDED
    source = default_pair_prompts(is_small=is_small) if prompts is None else prompts
    prompt_set = source if isinstance(source, PairPromptSet) else read_pair_prompts(source)
    plan = plan or RewritePlan()
    if plan.pairs < 1:
        raise UsageError(f"the number of pairs must be at least 1, got {plan.pairs}", remedy="Give a larger number")
    if len(bundle.header.label_set.classes) < 2:
        raise UsageError(
            f"{bundle.reference} has one class, which nothing can be confused with", remedy="Name a bundle with more"
        )
    return CandidateWriter(bundle, prompt_set, provider, plan, journal)


class _Rewriting:
    """One rewriting: what was measured, and what is kept of it."""

    def __init__(
        self, bundle: Bundle, judge: SentenceJudge, output: RewriteOutput, journals: Path | None, start: float
    ) -> None:
        self._bundle, self._judge, self._output, self._start = bundle, judge, output, start
        self._name = output.name_of_child(bundle)
        problem = name_problem(self._name)
        if problem is not None:
            raise UsageError(f"the bundle name {self._name!r} {problem}", remedy="Choose another name")
        self.journal = None if journals is None else journals / f"{self._name}.jsonl"
        self._old: Descriptions = {}

    def check(self, provider: Provider, writer: CandidateWriter) -> None:
        """Refuse what could not be kept, before anything is paid for.

        Raises:
            UsageError, BundleError, StorageError: it cannot.
        """
        if self._judge.has_truth or self._output.add:
            child_version(self._output.repository, self._name, [self._bundle.header], self._output.version)
            check_output(self._output.repository)
        describe_generator(writer.prompts.second_step(writer.kind), provider, writer.plan.parameters)
        if not self._judge.has_truth and not self._output.add:
            check_output(self._output.proposals / "proposals.csv")

    def summary(
        self, outcome: RewriteOutcome, confusions: tuple[Confusion, ...], pairs: int, **values: Any
    ) -> RewriteSummary:
        """What there is to say so far."""
        return RewriteSummary(
            self._bundle.reference,
            outcome,
            confusions,
            pairs,
            facts=dict(self._judge.facts()),
            seconds=time.monotonic() - self._start,
            **values,
        )

    def judged(self, summary: RewriteSummary) -> RewriteSummary:
        """Choose on the one half, test what was chosen once on the other, and keep it if it gained."""
        chosen, choice = self._choose(summary.candidates)
        summary = replace(summary, outcome=RewriteOutcome.NO_GAIN, chosen=chosen, choice=choice)
        if not chosen:
            return self._timed(summary)
        images, tested = self._judge.image_ids("test"), self._digest(chosen)
        tests = UsedTests.beside(self.journal, self._bundle.header.label_set)
        used = tests.overlap(images, tested)
        if used:
            _logger.warning(
                "%d of the %d images of the test half have tested an earlier rewriting of these classes: the interval "
                "is too hopeful; take other images",
                used,
                len(images),
            )
        (test,) = self._judge.gains(self._descriptions, [self._with(chosen)], "test")
        about = {"parent": self._bundle.reference, "measured": dict(self._judge.facts())}
        tests.add(images, tested, test, about)
        summary = replace(summary, test=test, test_images=used)
        if not test.interval.low > 0:
            return self._timed(summary)
        return self._kept(summary)

    def proposed(self, summary: RewriteSummary) -> RewriteSummary:
        """Without true classes: a review file, or a child that was asked for."""
        summary = replace(summary, chosen=summary.candidates)
        if self._output.add:
            return self._kept(summary)
        files = write_proposals(self._bundle, summary.candidates, self._output.proposals)
        return self._timed(replace(summary, outcome=RewriteOutcome.PROPOSED, files=tuple(files)))

    def _kept(self, summary: RewriteSummary) -> RewriteSummary:
        assert summary.written is not None  # there are candidates
        measured: dict[str, JsonValue] = dict(self._judge.facts())
        for name, gain in (("choice", summary.choice), ("test", summary.test)):
            if gain is not None:
                measured[name] = gain.model_dump(mode="json")
        if summary.test is not None:
            measured["test_images_used_before"] = summary.test_images
        reference, is_new = add_rewritten(
            self._output.repository,
            self._bundle,
            summary.chosen,
            summary.candidates,
            summary.written,
            rewriter(self._bundle.header, measured),
            name=self._name,
            version=self._output.version,
        )
        return self._timed(replace(summary, outcome=RewriteOutcome.KEPT, reference=reference, is_new=is_new))

    def _timed(self, summary: RewriteSummary) -> RewriteSummary:
        return replace(summary, seconds=time.monotonic() - self._start)

    def _choose(self, candidates: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], NetGain | None]:
        """The candidates that gain most together on the choice half.

        Tried are each candidate alone, and each two of the two classes of a pair, since a description that draws in
        images of one class may need its counterpart. Those that win more images than they lose are ranked by that, ties
        with the fewest first and then in the order of the confusions. Of the first one, the first two together, ... the
        fewest with the largest gain are taken.
        """
        options = [*((entry,) for entry in candidates), *_counterparts(candidates)]
        gains = self._judge.gains(self._descriptions, [self._with(option) for option in options], "choice")
        net = [gain.won - gain.lost for gain in gains]
        order = [position for position, value in enumerate(net) if value > 0]
        order.sort(key=lambda position: (-net[position], len(options[position]), position))
        unions = list[tuple[Candidate, ...]]()
        for position in order:
            before = unions[-1] if unions else ()
            more = tuple(entry for entry in options[position] if entry not in before)
            if more:
                unions.append((*before, *more))
        if not unions:
            return (), None
        together = self._judge.gains(self._descriptions, [self._with(union) for union in unions], "choice")
        best = max(range(len(unions)), key=lambda number: (together[number].won - together[number].lost, -number))
        return unions[best], together[best]

    @property
    def _descriptions(self) -> Descriptions:
        if not self._old:
            by_class: dict[str, list[Description]] = {class_id: [] for class_id in self._bundle.header.label_set.ids}
            for record in self._bundle.records():
                by_class[record.class_id].append(record)
            self._old = by_class
        return self._old

    def _with(self, candidates: Sequence[Candidate]) -> Descriptions:
        """The descriptions of the bundle and these."""
        new = dict(self._descriptions)
        for entry in candidates:
            class_id = entry.description.class_id
            new[class_id] = [*new[class_id], entry.description]
        return new

    def _digest(self, chosen: Sequence[Candidate]) -> str:
        """What is tested: the same descriptions added to the same bundle, looked at in the same way."""
        texts = sorted([entry.description.class_id, entry.description.text] for entry in chosen)
        return digest([self._bundle.header.records_digest, texts, dict(self._judge.facts())])


def _counterparts(candidates: Sequence[Candidate]) -> Iterator[tuple[Candidate, Candidate]]:
    """Each two candidates for the two classes of one confusion."""
    for one, other in combinations(candidates, 2):
        if one.confusion == other.confusion and one.description.class_id != other.description.class_id:
            yield one, other
