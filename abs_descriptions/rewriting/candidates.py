"""New descriptions for the classes that images confuse, in two steps: what tells two classes apart, then descriptions.

The two steps are generations like any other: with the journal, in which no reply is paid for twice, one budget, one
circuit breaker each, and the cleaning. The second step asks about each class of a pair, given the answers of the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from pydantic import JsonValue

from abs_core.canonical import digest
from abs_core.confusions import Confusion
from abs_core.descriptions import Description, DescriptionKind, Rejection
from abs_core.labels import LabelSet
from abs_core.progress import Progress
from abs_core.remarks import Remark, RemarkCounter
from abs_descriptions.bundles import Bundle, Generator
from abs_descriptions.generation.cleaning import CleaningRules, RejectionReason, description_key
from abs_descriptions.generation.cost import Budget, Prices
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.naming import NameMatcher
from abs_descriptions.generation.pipeline import GenerationMonitor, journals_beside, nothing_usable, open_journal
from abs_descriptions.generation.plan import PromptedClass
from abs_descriptions.generation.prompts import article, full_name, read_prompts, shipped_prompt_sets
from abs_descriptions.generation.providers.base import Parameters, Provider, Tokens
from abs_descriptions.generation.report import CostSummary
from abs_descriptions.generation.runner import (
    GenerationEstimate,
    GenerationPlan,
    GenerationResult,
    StopReason,
    estimate_requests,
    run_generation,
)
from abs_descriptions.rewriting.pair_prompts import PairPromptSet, PairStep

__all__ = ["Candidate", "CandidateWriter", "RewritePlan", "WrittenCandidates", "subject_of"]

# Differences that are asked for; a reply probably gives two of them.
_DIFFERENCES, _DIFFERENCE_TRIES, _PER_LIST = 4, 2, 2

# Descriptions of the class, and names of other classes, that a prompt shows.
_EXAMPLES, _OTHER_CLASSES = 2, 8

# Domains of prompt sets that say nothing of what images are of.
_GENERAL = ("", "object", "thing")


@dataclass(frozen=True, slots=True)
class RewritePlan:
    """How many descriptions are asked for, and how they are sampled.

    Args:
        pairs: at most this many pairs of classes, the most confused first.
        per_class: new descriptions wanted for each class of a pair.
        tries: at most ``tries * per_class`` samples are requested for each class of a pair.
        parameters: sampling parameters of each request.
        rules: cleaning rules; kind and language are those of the bundle and of the prompt set.
        by_server: as in ``GenerationPlan``.
        subject: what the images are of, such as "photos of birds"; empty: what the bundle says of it.
    """

    pairs: int = 10
    per_class: int = 3
    tries: int = 4
    parameters: Parameters = field(default_factory=lambda: Parameters(max_tokens=120))
    rules: CleaningRules = field(default_factory=CleaningRules)
    by_server: bool = False
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A new description, and the confusion that it is to settle."""

    confusion: Confusion
    description: Description


@dataclass(frozen=True)
class WrittenCandidates:
    """What the language model gave.

    Args:
        candidates: new descriptions, pair by pair.
        rejected: what else it wrote in the second step, and why it is not kept.
        generators: that candidates and rejections point to: one for each pair, which has the confusion.
        differences: by pair, what tells the two apart.
        stop: why it ended early; None if it did not.
        reason, failures: as in ``GenerationResult``.
        wanted: descriptions that were wanted.
        reused: replies that came from the journal.
        cost: tokens and what they cost.
        remarks: what a reader must know of the replies.
    """

    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...]
    generators: tuple[Generator, ...]
    differences: Mapping[tuple[str, str], Sequence[str]]
    stop: StopReason | None
    reason: str
    failures: tuple[str, ...]
    wanted: int
    reused: int
    cost: CostSummary
    remarks: tuple[Remark, ...] = ()


def subject_of(bundle: Bundle) -> str:
    """What the images of a bundle's classes are of, by what its header says: its prompts, groups, or its label set."""
    header = bundle.header
    known = shipped_prompt_sets()
    for generator in header.generators:
        if generator.prompts is not None and generator.prompts.id in known:
            prompts = read_prompts(generator.prompts.id)
            if prompts.digest == generator.prompts.digest and prompts.domain not in _GENERAL:
                return f"photos, each of {article(prompts.domain)} {prompts.domain}"
    groups = {label.group for label in header.label_set.classes}
    if len(groups) == 1 and (group := groups.pop()):
        return f"photos, each of {article(group)} {group}"
    return f"photos of the data set {header.label_set.name}"


class CandidateWriter:
    """Asks a language model about pairs of classes.

    Args:
        bundle: its classes, and descriptions in the style of which new ones are.
        prompts: what is asked.
        provider: the language model.
        plan: how much.
        journal: the file for replies; None keeps none.
    """

    def __init__(
        self, bundle: Bundle, prompts: PairPromptSet, provider: Provider, plan: RewritePlan, journal: Path | None
    ) -> None:
        self.prompts, self.plan = prompts, plan
        self._provider, self._journal = provider, journal
        self._labels = bundle.header.label_set
        self._texts: dict[str, list[str]] = {class_id: [] for class_id in self._labels.ids}
        kinds = Counter[DescriptionKind]()
        for record in bundle.records():
            self._texts[record.class_id].append(record.text)
            kinds[record.kind] += 1
        self.kind: DescriptionKind = max(kinds, key=lambda kind: (kinds[kind], kind), default="sentence")
        self._subject = plan.subject or subject_of(bundle)

    def write(
        self,
        confusions: Sequence[Confusion],
        *,
        budget: Budget | None,
        prices: Prices | None,
        progress: Progress,
        may_ask: Callable[[], bool],
    ) -> WrittenCandidates:
        """Ask about the pairs, at most as many as the plan has.

        Raises:
            ProviderError: the model gives no usable reply, or no reply that is a difference or description; says what
                was spent. The journal has the replies.
            UsageError: a plan that requests nothing, or a budget too small for a request.
            StorageError: the journal cannot be written.
        """
        asked = list(confusions[: self.plan.pairs])
        run = _Run(self._provider, self._labels, budget, prices, progress, may_ask, is_journaled=bool(self._journal))
        with open_journal(self._journal) as journal:
            run.journal, run.beside = journal, journals_beside(self._journal)
            first = run.ask(self.prompts.first_step, self._first_plan, self._first_classes(asked))
            differences = dict(zip(map(_pair, asked), _by_class(first), strict=True))
            second: GenerationResult | None = None
            classes = self._second_classes(asked, differences)
            if first.stop is None and classes:
                second = run.ask(self.prompts.second_step(self.kind), self._second_plan, classes)
        return self._written(asked, differences, first, second, run)

    def estimate(self, confusions: Sequence[Confusion]) -> GenerationEstimate:
        """What ``write`` would request. The prompts of a second step whose first one is unanswered count with long
        answers.

        Raises:
            UsageError: a plan that requests nothing. StorageError: the journal cannot be read.
        """
        asked = list(confusions[: self.plan.pairs])
        with open_journal(self._journal, read_only=True) as journal:
            beside = journals_beside(self._journal)
            first = estimate_requests(
                self._labels,
                self.prompts.first_step,
                self._provider,
                self._first_plan,
                classes=self._first_classes(asked),
                journal=journal,
                beside=beside,
            )
            differences = self._known_differences(asked, journal, beside, is_answered=not first.requests)
            second = estimate_requests(
                self._labels,
                self.prompts.second_step(self.kind),
                self._provider,
                self._second_plan,
                classes=self._second_classes(asked, differences),
                journal=journal,
                beside=beside,
            )
        return _sum(first, second)

    def _known_differences(
        self, asked: Sequence[Confusion], journal: Journal | None, beside: Sequence[Path], *, is_answered: bool
    ) -> Mapping[tuple[str, str], Sequence[str]]:
        """The differences that the journal has if it answers the whole step; else texts as long as a reply may be."""
        if not is_answered:
            longest = "x" * (4 * self.plan.parameters.max_tokens)
            return {_pair(confusion): [longest] for confusion in asked}
        answers = run_generation(
            self._labels,
            self.prompts.first_step,
            self._provider,
            self._first_plan,
            classes=self._first_classes(asked),
            journal=journal,
            beside=beside,
        )
        return dict(zip(map(_pair, asked), _by_class(answers), strict=True))

    @property
    def _first_plan(self) -> GenerationPlan:
        plan = self.plan
        return GenerationPlan(
            _DIFFERENCES, _DIFFERENCE_TRIES, plan.parameters, CleaningRules(), plan.by_server, per_reply=_PER_LIST
        )

    @property
    def _second_plan(self) -> GenerationPlan:
        plan, per_reply = self.plan, 1 if self.kind == "sentence" else _PER_LIST
        return GenerationPlan(
            plan.per_class, plan.tries, plan.parameters, plan.rules, plan.by_server, per_reply=per_reply
        )

    def _first_classes(self, asked: Sequence[Confusion]) -> list[PromptedClass]:
        return [PromptedClass(confusion.first, self._context(confusion.first, confusion.second)) for confusion in asked]

    def _second_classes(
        self, asked: Sequence[Confusion], differences: Mapping[tuple[str, str], Sequence[str]]
    ) -> list[PromptedClass]:
        """Both classes of each pair that anything tells apart."""
        classes = []
        for confusion, class_id, other in _directions(asked, differences):
            told = "\n".join(f"- {text}" for text in differences[_pair(confusion)])
            shown = "\n".join(f"- {text}" for text in self._texts[class_id][:_EXAMPLES])
            context = {**self._context(class_id, other), "differences": told, "examples": shown}
            classes.append(PromptedClass(class_id, context, self._texts[class_id], other))
        return classes

    def _context(self, class_id: str, other: str) -> dict[str, str]:
        label = self._labels.by_id[other]
        names = [entry.name for entry in self._labels.classes if entry.id not in (class_id, other)]
        more = f" and {len(names) - _OTHER_CLASSES} more" if len(names) > _OTHER_CLASSES else ""
        return {
            "other": full_name(label.name, label.note),
            "other_article": article(label.name),
            "images": self._subject,
            "classes": (", ".join(names[:_OTHER_CLASSES]) or "none") + more,
        }

    def _written(
        self,
        asked: Sequence[Confusion],
        differences: Mapping[tuple[str, str], Sequence[str]],
        first: GenerationResult,
        second: GenerationResult | None,
        run: _Run,
    ) -> WrittenCandidates:
        candidates: list[Candidate] = []
        rejected: list[Rejection] = []
        generators: dict[str, Generator] = {}
        if second is not None:
            descriptions, rejections = iter(second.descriptions), iter(second.rejected)
            by_direction = list[tuple[Confusion, str, list[Description]]]()
            for line, (confusion, _, other) in zip(second.report, _directions(asked, differences), strict=True):
                generator = _with_reason(second.generator, confusion)
                generators[generator.id] = generator
                accepted = [_from_generator(record, generator.id) for record in islice(descriptions, line.accepted)]
                by_direction.append((confusion, other, accepted))
                for refused in islice(rejections, sum(line.rejected.values())):
                    source = replace(refused.provenance, generator=generator.id)
                    rejected.append(replace(refused, provenance=source))
            self._sort_out(by_direction, candidates, rejected)
        last = first if second is None else second
        remarks = RemarkCounter((*first.remarks, *(second.remarks if second else ())))
        for pair in (pair for pair, texts in differences.items() if not texts):
            remarks.add("pairs without a reply that tells the two apart", " and ".join(pair))
        return WrittenCandidates(
            tuple(candidates),
            tuple(rejected),
            tuple(generators.values()),
            differences,
            last.stop,
            last.reason,
            last.failures,
            self.plan.per_class * 2 * len(asked),
            run.reused,
            run.cost,
            remarks.remarks,
        )

    def _sort_out(
        self,
        by_direction: Sequence[tuple[Confusion, str, Sequence[Description]]],
        candidates: list[Candidate],
        rejected: list[Rejection],
    ) -> None:
        """Take each description once, and none that is said of the other class of its pair as well.

        Args:
            by_direction: of each class of each pair the confusion, the other class and what was written.
            candidates, rejected: get the descriptions.
        """
        said = dict[tuple[Confusion, str], set[str]]()
        for confusion, other, records in by_direction:
            class_id = confusion.first if other == confusion.second else confusion.second
            texts = [*self._texts[class_id], *(record.text for record in records)]
            said[confusion, class_id] = {self._key(class_id, text) for text in texts}
        seen = set[tuple[str, str]]()
        for confusion, other, records in by_direction:
            for record in records:
                if self._key(record.class_id, record.text) in said[confusion, other]:
                    reason = RejectionReason.SAID_OF_BOTH.value
                    rejected.append(Rejection(record.class_id, record.text, reason, record.provenance))
                elif (record.class_id, record.text) not in seen:
                    seen.add((record.class_id, record.text))
                    candidates.append(Candidate(confusion, record))

    def _key(self, class_id: str, text: str) -> str:
        label = self._labels.by_id[class_id]
        return description_key(text, NameMatcher(label.name, label.aliases))


class _Run:
    """The generations of one rewriting: one journal, one budget, one bill."""

    def __init__(
        self,
        provider: Provider,
        labels: LabelSet,
        budget: Budget | None,
        prices: Prices | None,
        progress: Progress,
        may_ask: Callable[[], bool],
        *,
        is_journaled: bool,
    ) -> None:
        self._provider, self._labels, self._budget, self._prices = provider, labels, budget, prices
        self._progress, self._may_ask, self._is_journaled = progress, may_ask, is_journaled
        self._monitor: GenerationMonitor | None = None
        self.journal: Journal | None = None
        self.beside: Sequence[Path] = ()

    @property
    def reused(self) -> int:
        return self._monitor.reused if self._monitor else 0

    @property
    def cost(self) -> CostSummary:
        return self._monitor.cost if self._monitor else CostSummary(Tokens(), Tokens(), None)

    def ask(self, prompts: PairStep, plan: GenerationPlan, classes: Sequence[PromptedClass]) -> GenerationResult:
        """One step, of which something must be usable unless it was interrupted."""
        monitor = GenerationMonitor(
            self._prices, self._progress, is_journaled=self._is_journaled, earlier=self._monitor
        )
        self._monitor = monitor
        with monitor.spent_in_errors():
            with monitor:
                result = run_generation(
                    self._labels,
                    prompts,
                    self._provider,
                    plan,
                    classes=classes,
                    journal=self.journal,
                    beside=self.beside,
                    budget=self._budget,
                    on_progress=monitor.update,
                    may_ask=self._may_ask,
                )
            if not result.descriptions and result.stop not in (StopReason.INTERRUPT, StopReason.REQUESTED):
                raise nothing_usable(result)
        return result


def _pair(confusion: Confusion) -> tuple[str, str]:
    return confusion.first, confusion.second


def _directions(
    asked: Sequence[Confusion], differences: Mapping[tuple[str, str], Sequence[str]]
) -> Iterator[tuple[Confusion, str, str]]:
    """Each class of each pair that anything tells apart, and the other one."""
    for confusion in asked:
        if differences[_pair(confusion)]:
            yield confusion, confusion.first, confusion.second
            yield confusion, confusion.second, confusion.first


def _by_class(result: GenerationResult) -> list[list[str]]:
    """The texts of each entry of the report."""
    texts = iter(result.descriptions)
    return [[record.text for record in islice(texts, line.accepted)] for line in result.report]


def _with_reason(generator: Generator, confusion: Confusion) -> Generator:
    """The generator of the descriptions of one pair, which says what they are for."""
    reason: dict[str, JsonValue] = {
        "classes": [confusion.first, confusion.second],
        "first_as_second": confusion.first_as_second,
        "second_as_first": confusion.second_as_first,
    }
    short = digest([generator.id, reason]).removeprefix("sha256:")[:8]
    parameters = {**generator.parameters, "confusion": reason}
    return generator.model_copy(update={"id": f"{generator.id}-{short}", "parameters": parameters})


def _from_generator(record: Description, generator: str) -> Description:
    return replace(record, provenance=replace(record.provenance, generator=generator))


def _sum(first: GenerationEstimate, second: GenerationEstimate) -> GenerationEstimate:
    """Both steps together; descriptions are those of the second."""
    return GenerationEstimate(
        requests=first.requests + second.requests,
        tokens=first.tokens + second.tokens,
        max_requests=first.max_requests + second.max_requests,
        max_tokens=first.max_tokens + second.max_tokens,
        reused=first.reused + second.reused,
        saved=first.saved + second.saved,
        accepted=second.accepted,
        wanted=second.wanted,
        held=first.held + second.held,
        billed_completion=max(first.billed_completion, second.billed_completion),
    )
