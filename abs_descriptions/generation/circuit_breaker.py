"""When to stop asking: everything fails alike, one class is refused, or the model repeats itself. Thread-safe and pure.

Nothing is paid for nothing: until the first usable reply of a run, no more requests are sent than ``limit``, all their
attempts counted.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from abs_core.text import counted
from abs_descriptions.generation.providers.base import Failure

__all__ = ["CircuitBreaker", "RepeatDetector"]

# Replies that are rejected for different reasons, in multiples of the limit, before the run is given up.
_MIXED_FACTOR = 4

# Failures in a row of any kinds, in multiples of the limit; more than a few refused classes give.
_LONGEST_ROW = 6

#: Refusals of a class, and no reply, after which nothing more is asked about it.
MAX_REFUSALS = 12

# Classes whose replies repeat before it is taken for the model's way.
_CLASSES = 3


@dataclass(slots=True)
class _Row:
    """Failures in a row, without a reply between them."""

    count: int = 0
    alike: int = 0
    signature: str = ""


class CircuitBreaker:
    """Decides whether a request may be sent, by what became of those before it.

    Args:
        limit: outcomes that all failed alike after which nothing more is sent; infinite for no limit.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.has_descriptions = False
        """Whether a reply, also one of the journal, became a description, so that the prompts are known to work.
        Replies that are all rejected then do not end the run."""
        self._lock = threading.Lock()
        self._sent = self._replies = 0
        self._problems = Counter[str]()
        self._row = _Row()
        self._refused = Counter[int]()
        self._replied = set[int]()

    @property
    def sent(self) -> int:
        """Requests that were sent so far, each attempt counted."""
        return self._sent

    def may_send(self) -> bool:
        """Whether one more request may be sent; if so, it counts as sent."""
        with self._lock:
            return self._count_if(self._sent < self._most())

    def take_back(self) -> None:
        """The request that was allowed last has not been sent."""
        with self._lock:
            self._sent -= 1

    def may_retry(self) -> bool:
        """Whether a request that failed may be attempted once more; if so, it counts as sent."""
        with self._lock:
            return self._count_if(bool(self._replies) or self._sent < self.limit)

    def note_reply(self, position: int, rejected_for: str | None) -> None:
        """A reply of the class at this position has arrived; ``rejected_for`` is None if it gives a description."""
        with self._lock:
            self._replies += 1
            self._replied.add(position)
            self._row = _Row()
            if rejected_for is None:
                self.has_descriptions = True
            else:
                self._problems[rejected_for] += 1

    def note_failure(self, position: int, failure: Failure) -> None:
        """A request about the class at this position has failed in the end."""
        with self._lock:
            self._problems[failure.signature] += 1
            self._row.count += 1
            if failure.scope == "prompt":
                self._refused[position] += 1
                return
            is_alike = failure.signature == self._row.signature
            self._row.alike = self._row.alike + 1 if is_alike else 1
            self._row.signature = failure.signature

    @property
    def judges_replies(self) -> bool:
        """Whether it still matters if a reply gives a description."""
        return not self.has_descriptions

    def most_samples(self, position: int, most: int) -> int:
        """How many of at most ``most`` samples of the class at this position are worth a request."""
        return min(most, MAX_REFUSALS) if self._refused[position] and position not in self._replied else most

    def is_refused(self, position: int) -> bool:
        """Whether the class at this position only ever met refusals, as many as prove it."""
        return self._refused[position] >= MAX_REFUSALS and position not in self._replied

    def recent_stop_reason(self) -> str:
        """Why nothing more is to be sent by the latest outcomes, in words; empty if there is no reason."""
        with self._lock:
            which = "the last" if self._replies else "all of the first"
            if self._row.alike >= self.limit:
                return f"{which} {self._row.alike} requests failed in the same way: {self._row.signature}"
            if self._row.count >= _LONGEST_ROW * self.limit:
                return f"{which} {self._row.count} requests failed"
            return ""

    def initial_stop_reason(self) -> str:
        """The same by the first outcomes, once none is outstanding."""
        if self._sent < self._most():
            return ""
        count = sum(self._problems.values())
        if len(self._problems) == 1:
            (problem,) = self._problems
            what = "replies were rejected for the same reason" if self._replies else "requests failed in the same way"
            return f"all of the first {count} {what}: {problem}"
        listed = ", ".join(f"{problem} {number}" for problem, number in self._problems.most_common(5))
        return f"none of the first {counted(count, 'request', 'requests')} gave a description: {listed}"

    def _most(self) -> float:
        """The most requests that may be sent by now."""
        if self._replies and self.has_descriptions:
            return float("inf")
        # Different problems may be chance: a weak model, a few odd classes.
        is_mixed = self._replies and len(self._problems) > 1
        return _MIXED_FACTOR * self.limit if is_mixed else self.limit

    def _count_if(self, allowed: bool) -> bool:
        self._sent += allowed
        return allowed


class RepeatDetector:
    """Notices that a model gives the same reply again and again, because it ignores the seed or the question.

    Args:
        limit: replies that all repeat an earlier one before the model is known to do so.
        prompts: the number of questions that are asked about each class.
        classes: the number of classes.
    """

    def __init__(self, limit: int, prompts: int, classes: int) -> None:
        self._prompts = prompts
        self._of_class = _Repeats(limit, classes)
        self._of_conversation = _Repeats(limit, classes)

    @property
    def useful_samples(self) -> int | None:
        """How many samples of a class can differ: one, one for each question, or any number (None)."""
        if self._of_class.only_repeats:
            return 1
        return self._prompts if self._of_conversation.only_repeats else None

    def note(self, position: int, sample: int, text: str) -> None:
        """The reply to a sample of the class at this position."""
        key = hash(" ".join(text.split()).casefold())
        self._of_class.note((position, 0), key)
        self._of_conversation.note((position, sample % self._prompts), key)


class _Repeats:
    """Whether replies of one group repeat an earlier one of the same group; forgets them once one did not."""

    def __init__(self, limit: int, classes: int) -> None:
        self._limit, self._min_classes = limit, min(_CLASSES, classes)
        self._first: dict[tuple[int, int], int] | None = {}
        self._count = 0
        self._classes = set[int]()

    @property
    def only_repeats(self) -> bool:
        return self._count >= self._limit and len(self._classes) >= self._min_classes

    def note(self, group: tuple[int, int], key: int) -> None:
        if self._first is None:
            return
        if group not in self._first:
            self._first[group] = key
        elif self._first[group] == key:
            self._count += 1
            self._classes.add(group[0])
        elif not self.only_repeats:
            self._first = None
