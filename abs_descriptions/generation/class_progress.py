"""One class of a generation: what was asked, what came, and what was kept of it. Pure."""

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


# A class that yields little is asked for at most this many samples for each description that it lacks.
_LEAST_YIELD = 0.25


@dataclass(frozen=True, slots=True)
class ClassReport:
    """What came of one class: samples with an outcome, failed ones, accepted descriptions, rejections by reason."""

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
        name: the class.
        asked: samples so far.
        failed: those among them that got no usable reply.
        waiting: those that have no outcome yet.
        replies: sample to the digest of its request and its reply, until they are judged.
        descriptions, rejected: what was kept, and what was not.
    """

    name: ClassLabel
    asked: int = 0
    failed: int = 0
    waiting: int = 0
    replies: dict[int, tuple[str, Reply]] = field(default_factory=dict)
    descriptions: list[Description] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    _seen: AbstractSet[str] = frozenset()

    def ask(self, wanted: int, limit: int) -> range:
        """The samples to ask for next, as many as are likely to fill what is missing; they wait from now on.

        Args:
            wanted: descriptions that the class is to have.
            limit: samples that it may be asked for in all.
        """
        missing = wanted - len(self.descriptions)
        rate = max(_LEAST_YIELD, len(self.descriptions) / self.asked) if self.asked else 1.0
        count = max(0, min(limit - self.asked, math.ceil(missing / rate)))
        samples = range(self.asked, self.asked + count)
        self.asked += count
        self.waiting += count
        return samples

    def judge(
        self, rules: CleaningRules, wanted: int, shown: frozenset[str], source: Callable[[int, str], Provenance]
    ) -> int:
        """Clean the replies that wait to be judged, in the order of their samples.

        Args:
            rules: of cleaning.
            wanted: descriptions that the class is to have; more are surplus.
            shown: ``description_key`` of the examples in the prompts.
            source: the provenance of a sample and the digest of its request.

        Returns:
            How many descriptions were added.
        """
        if not self.replies:
            return 0
        before = len(self.descriptions)
        # Made anew each time, because most classes are judged once and there may be 100,000.
        matcher = NameMatcher(self.name.name)
        seen = {*self._seen, *shown}
        for sample, (mark, reply) in sorted(self.replies.items()):
            where = source(sample, mark)
            cleaned = clean(
                reply.text,
                finish_reason=reply.finish_reason,
                matcher=matcher,
                name=self.name.name,
                rules=rules,
                seen=seen,
            )
            for text in cleaned.accepted:
                seen.add(description_key(text, matcher))
                self._accept(text, where, rules, wanted)
            self.rejected += [
                Rejection(self.name.id, no.text, no.reason.value, where, no.detail or None) for no in cleaned.rejected
            ]
        self._seen = seen
        self.replies.clear()
        return len(self.descriptions) - before

    def _accept(self, text: str, source: Provenance, rules: CleaningRules, wanted: int) -> None:
        if len(self.descriptions) >= wanted:
            self.rejected.append(Rejection(self.name.id, text, RejectionReason.SURPLUS.value, source))
        else:
            self.descriptions.append(Description(text, rules.kind, class_id=self.name.id, provenance=source))

    def report(self) -> ClassReport:
        """The line of the report."""
        return ClassReport(
            class_id=self.name.id,
            name=self.name.name,
            asked=self.asked - self.waiting,
            failed=self.failed,
            accepted=len(self.descriptions),
            rejected=dict(Counter(no.reason for no in self.rejected)),
        )
