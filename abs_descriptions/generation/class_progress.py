"""The progress of one class in a generation: what was requested, what arrived, and what was kept of it. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from abs_core.labels import ClassLabel
from abs_descriptions.bundles import Description, Provenance, Rejection
from abs_descriptions.generation.cleaning import CleaningRules, RejectionReason, clean, description_key
from abs_descriptions.generation.naming import NameMatcher
from abs_descriptions.generation.providers.base import Reply

__all__ = ["ClassProgress", "ClassReport"]

# The lowest yield that is assumed: at most four samples are requested for each missing description.
_MIN_YIELD = 0.25


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
        descriptions, rejected: what was kept, and what was not.
        longer_names: names of other classes that contain the name of this one, as "corn field" contains "field".
        aliases: other names that a text may have in place of the class's own.
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
    descriptions: list[Description] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    reasoned: int = 0
    is_given_up: bool = False
    _seen: AbstractSet[str] = frozenset()

    def next_samples(self, wanted: int, limit: int) -> range:
        """The samples to request next, as many as will probably supply what is missing; they count as waiting.

        Args:
            wanted: descriptions wanted for the class.
            limit: the most samples that may be requested in all.
        """
        missing = 0 if self.is_given_up else wanted - len(self.descriptions)
        rate = max(_MIN_YIELD, len(self.descriptions) / self.asked) if self.asked else 1.0
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
            cleaned = clean(
                reply.text,
                finish_reason=reply.finish_reason,
                matcher=matcher,
                name=self.label.name,
                rules=rules,
                seen=seen,
            )
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
        return len(self.descriptions) - before

    def rejection(self, reply: Reply, rules: CleaningRules, example_keys: frozenset[str]) -> str | None:
        """Why a reply gives no description, whatever came before it; None if it gives one."""
        cleaned = clean(
            reply.text,
            finish_reason=reply.finish_reason,
            matcher=self._matcher(),
            name=self.label.name,
            rules=rules,
            seen=example_keys,
        )
        return None if cleaned.accepted else cleaned.rejected[0].reason.value

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
