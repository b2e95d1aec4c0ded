"""What a generation is asked for, how far it is with each class, and what it gives. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum

from abs_core.labels import ClassLabel, LabelSet
from abs_core.remarks import Remark
from abs_descriptions.bundles import Description, Generator, Provenance, Rejection
from abs_descriptions.generation.cleaning import CleanedText, CleaningRules, RejectionReason, clean, description_key
from abs_descriptions.generation.naming import NameMatcher, names_with, own_aliases
from abs_descriptions.generation.providers.base import Parameters, Reply, Tokens

__all__ = [
    "ClassProgress",
    "ClassReport",
    "GenerationEstimate",
    "GenerationPlan",
    "GenerationProgress",
    "GenerationResult",
    "PromptedClass",
    "StopReason",
    "class_progress",
]

# The lowest yield that is assumed: at most four samples are requested for each missing description.
_MIN_YIELD = 0.25


@dataclass(frozen=True, slots=True)
class PromptedClass:
    """What one class is asked about, where a run does not ask about each class of its label set once.

    Args:
        class_id: of the label set; several may have the same.
        context: what further placeholders of the prompts stand for.
        known: descriptions that the class has already; their duplicates are not kept.
        unwanted: the id of a class that a description must not name; None for none.
    """

    class_id: str
    context: Mapping[str, str] = field(default_factory=dict)
    known: Sequence[str] = ()
    unwanted: str | None = None


@dataclass(frozen=True, slots=True)
class ClassReport:
    """The outcome for one class: samples with an outcome, failed ones, accepted descriptions, rejections by reason."""

    class_id: str
    name: str
    asked: int
    failed: int
    accepted: int
    rejected: Mapping[str, int]


@dataclass(slots=True)
class ClassProgress:
    """The state of one class during a run.

    Args:
        label: the class.
        asked: samples requested so far.
        failed: samples without a usable reply.
        waiting: samples without an outcome so far.
        replies: sample number -> (digest of its request, reply), until they are cleaned.
        expected: keys of what those replies that came in this run will probably give, for the display.
        descriptions, rejected: what was kept, and what was not.
        longer_names: names of other classes that contain the name of this one, as "corn field" contains "field".
        aliases: other names that a text may have in place of the class's own.
        context: what further placeholders of the prompts stand for.
        unwanted: finds the name of the class that a description must not name; None for none.
        reasoned: replies that contained reasoning beside the answer.
        is_given_up: whether nothing more is to be requested.
    """

    label: ClassLabel
    longer_names: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    asked: int = 0
    failed: int = 0
    waiting: int = 0
    replies: dict[int, tuple[str, Reply]] = field(default_factory=dict)
    expected: set[str] = field(default_factory=set)
    descriptions: list[Description] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    context: Mapping[str, str] = field(default_factory=dict)
    unwanted: NameMatcher | None = None
    reasoned: int = 0
    is_given_up: bool = False
    _seen: AbstractSet[str] = frozenset()

    def know(self, texts: Sequence[str]) -> None:
        """The class has these descriptions already."""
        matcher = self._matcher()
        self._seen = {*self._seen, *(description_key(text, matcher) for text in texts)}

    def next_samples(self, wanted: int, limit: int, per_reply: int = 1) -> range:
        """The samples to request next, as many as will probably supply what is missing; they count as waiting.

        Args:
            wanted: descriptions wanted for the class.
            limit: the most samples that may be requested in all.
            per_reply: descriptions that a reply probably gives, as long as there is none.
        """
        missing = 0 if self.is_given_up else wanted - len(self.descriptions)
        rate = max(_MIN_YIELD, len(self.descriptions) / self.asked) if self.asked else per_reply
        count = max(0, min(limit - self.asked, math.ceil(missing / rate)))
        samples = range(self.asked, self.asked + count)
        self.asked += count
        self.waiting += count
        return samples

    def clean_replies(
        self,
        rules: CleaningRules,
        wanted: int,
        example_keys: frozenset[str],
        provenance: Callable[[int, str], Provenance],
    ) -> int:
        """Clean the replies that have arrived, in the order of their samples.

        Args:
            rules: cleaning rules.
            wanted: descriptions wanted for the class; more are surplus.
            example_keys: ``description_key`` of the examples in the prompts.
            provenance: takes a sample number and the digest of its request.

        Returns:
            How many descriptions were added.
        """
        if not self.replies:
            return 0
        before = len(self.descriptions)
        matcher = self._matcher()
        seen = {*self._seen, *example_keys}
        for sample, (request_id, reply) in sorted(self.replies.items()):
            source = provenance(sample, request_id)
            cleaned = self._clean(reply, matcher, rules, seen)
            self.reasoned += cleaned.has_reasoning
            for text in cleaned.accepted:
                seen.add(description_key(text, matcher))
                self._accept(text, source, rules, wanted)
            self.rejected += [
                Rejection(self.label.id, rejected.text, rejected.reason.value, source, rejected.detail or None)
                for rejected in cleaned.rejected
            ]
        self._seen = seen
        self.replies.clear()
        self.expected.clear()
        return len(self.descriptions) - before

    def rejection(self, reply: Reply, rules: CleaningRules, example_keys: frozenset[str]) -> str | None:
        """Why a reply gives no description, whatever came before it; None if it gives one."""
        cleaned = self._clean(reply, self._matcher(), rules, example_keys)
        return None if cleaned.accepted else cleaned.rejected[0].reason.value

    def expect(self, reply: Reply, rules: CleaningRules, wanted: int, example_keys: frozenset[str]) -> int:
        """How much a reply will probably add to ``count``, before it is cleaned in the order of the samples."""
        before, matcher = self.count(wanted), self._matcher()
        cleaned = self._clean(reply, matcher, rules, {*self._seen, *example_keys, *self.expected})
        self.expected.update(description_key(text, matcher) for text in cleaned.accepted)
        return self.count(wanted) - before

    def count(self, wanted: int) -> int:
        """The descriptions that there are, or will probably be when the replies are cleaned."""
        return min(wanted, len(self.descriptions) + len(self.expected))

    def _clean(self, reply: Reply, matcher: NameMatcher, rules: CleaningRules, seen: AbstractSet[str]) -> CleanedText:
        return clean(
            reply.text,
            finish_reason=reply.finish_reason,
            matcher=matcher,
            name=self.label.name,
            rules=rules,
            seen=seen,
            unwanted=self.unwanted,
        )

    def _matcher(self) -> NameMatcher:
        # Made anew each time, because most classes are judged once and there may be 100,000.
        return NameMatcher(self.label.name, self.aliases, self.longer_names)

    def drop(self) -> None:
        """A sample that was to be requested never will be, and no further one."""
        self.asked -= 1
        self.waiting -= 1
        self.is_given_up = True

    def _accept(self, text: str, source: Provenance, rules: CleaningRules, wanted: int) -> None:
        if len(self.descriptions) >= wanted:
            self.rejected.append(Rejection(self.label.id, text, RejectionReason.SURPLUS.value, source))
        else:
            self.descriptions.append(Description(text, rules.kind, class_id=self.label.id, provenance=source))

    def report(self) -> ClassReport:
        """The report entry of this class."""
        return ClassReport(
            class_id=self.label.id,
            name=self.label.name,
            asked=self.asked - self.waiting,
            failed=self.failed,
            accepted=len(self.descriptions),
            rejected=dict(Counter(rejection.reason for rejection in self.rejected)),
        )


def class_progress(labels: LabelSet, classes: Sequence[PromptedClass] | None) -> list[ClassProgress]:
    """The state of each class that is asked about, before anything is.

    Args:
        labels: all classes.
        classes: what is asked about; None: each class once.
    """
    longer_names, aliases = names_with(labels.classes), own_aliases(labels.classes)
    if classes is None:
        return [ClassProgress(label, longer_names.get(label.id, ()), aliases[label.id]) for label in labels.classes]
    states = []
    for prompted in classes:
        class_id, other = prompted.class_id, prompted.unwanted
        state = ClassProgress(labels.by_id[class_id], longer_names.get(class_id, ()), aliases[class_id])
        state.context = prompted.context
        if other is not None and labels.names[other] != labels.names[class_id]:
            # "crane" is no name of another class in "crane fly", if that is the class which is described
            longer = (*longer_names.get(other, ()), labels.by_id[class_id].name)
            state.unwanted = NameMatcher(labels.by_id[other].name, aliases[other], dict.fromkeys(longer))
        state.know(prompted.known)
        states.append(state)
    return states


class StopReason(StrEnum):
    """Why a generation ended before every class had enough descriptions or had used up its tries."""

    INTERRUPT = "interrupted"
    REQUESTED = "told to stop"
    COST = "cost limit"
    FAILURES = "failures"


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """How many descriptions are wanted and how they are sampled.

    Args:
        per_class: accepted descriptions wanted for each class.
        tries: at most ``tries * per_class`` samples are requested for a class.
        parameters: sampling parameters of each request.
        rules: cleaning rules; kind and language always come from the prompt set.
        by_server: whether only replies from the very address of the server are found again. By default the same model
            at another address is taken for the same model.
        per_reply: descriptions that a reply probably gives, more than one where lists are asked for.
    """

    per_class: int = 20
    tries: int = 4
    parameters: Parameters = field(default_factory=Parameters)
    rules: CleaningRules = field(default_factory=CleaningRules)
    by_server: bool = False
    per_reply: int = 1

    @property
    def limit(self) -> int:
        """The most samples that are requested for a class."""
        return self.per_class * self.tries


@dataclass(frozen=True, slots=True)
class GenerationProgress:
    """How far a generation has come.

    Args:
        asked: requests so far, including those answered by the journal.
        done, failed: outcomes so far; ``done`` counts good replies.
        reused: good replies that came from the journal.
        paid: tokens of the requests that were sent, all their attempts together (``used_tokens``).
        saved: tokens of these requests that earlier runs paid for, as the journal records them.
        accepted, wanted: descriptions.
        held: good replies that are cleaned only when the other replies of their class have arrived.
        sent: requests that were sent, counting each attempt.
        expected: descriptions that there are, or that replies of this run will probably give once they are cleaned.
    """

    asked: int
    done: int
    failed: int
    reused: int
    paid: Tokens
    saved: Tokens
    accepted: int
    wanted: int
    held: int = 0
    sent: int = 0
    expected: int = 0


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """The outcome of a generation, in the order of the label set and of the samples.

    Args:
        generator: the header entry of a bundle that all provenance points to.
        descriptions, rejected: records of a bundle.
        report: one entry for each class.
        wanted: descriptions that were wanted for each class.
        stop: why it ended early; None if it did not.
        failures: up to ten distinct reasons of failed requests, the latest one last.
        reason: in words, why it ended early or asked no more; empty if it did neither.
        remarks: what a reader must know of the labels and of the replies.
    """

    generator: Generator
    descriptions: tuple[Description, ...]
    rejected: tuple[Rejection, ...]
    report: tuple[ClassReport, ...]
    wanted: int
    stop: StopReason | None
    failures: tuple[str, ...]
    reason: str = ""
    remarks: tuple[Remark, ...] = ()

    @property
    def short(self) -> tuple[ClassReport, ...]:
        """The classes with fewer descriptions than wanted."""
        return tuple(line for line in self.report if line.accepted < self.wanted)

    @property
    def complete(self) -> bool:
        """Whether it ran to its end and every class has the descriptions that were wanted."""
        return self.stop is None and not self.short


@dataclass(frozen=True, slots=True)
class GenerationEstimate:
    """What a generation would request, and what the journal already answers.

    Args:
        requests: requests that will certainly be sent; rejected replies add to them.
        tokens: of these requests: prompt tokens by ``estimate_prompt_tokens``, completion tokens at their maximum.
        max_requests: requests of all rounds if every class needs all its tries.
        max_tokens: tokens of ``max_requests``, with prompts as long as those of ``requests`` on average.
        reused, saved: good replies in the journal, and the tokens that earlier runs paid for.
        accepted, wanted: descriptions that these replies give, and descriptions wanted in all.
        held: replies in the journal that are cleaned only when the other replies of their class have arrived.
        billed_completion: tokens of a reply by the bills in the journal, where they exceed its maximum; else 0.
    """

    requests: int
    tokens: Tokens
    max_requests: int
    max_tokens: Tokens
    reused: int
    saved: Tokens
    accepted: int
    wanted: int
    held: int = 0
    billed_completion: int = 0
