"""Label set x prompt set x backend -> descriptions, in rounds, until each class has enough or has had its tries.

Each class gets samples 0, 1, 2, ...; sample s asks prompt s mod P. The requests of a round go to the backend together,
whatever their class, so that its batches are full. A class is cleaned in the order of its samples as soon as all its
replies of the round are there, so that the order of arrival changes nothing. What is missing then is asked for with
new samples in the next round.

Every outcome passes through the journal before anything else, and what the journal has is not asked again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from abs_core.canonical import digest
from abs_core.errors import BackendError, UsageError
from abs_descriptions.backends.base import Backend, Failure, Outcome, Parameters, Reply, Request, request_digest
from abs_descriptions.bundle import Description, Generator, PromptSetEntry, Provenance, Rejection
from abs_descriptions.cleaning import Reason, Rules, clean, description_key
from abs_descriptions.journal import Journal
from abs_descriptions.labels import ClassName, LabelSet
from abs_descriptions.prompts import PromptSet
from abs_descriptions.wording import NameMatcher

__all__ = ["ClassReport", "GenerationResult", "Plan", "Progress", "describe_generator", "generate"]

# A class that yields little is asked for at most this many samples for each description that it lacks.
_LEAST_YIELD = 0.25


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is wanted and how it is drawn.

    Args:
        per_class: accepted descriptions that each class is to have.
        tries: a class is asked for at most ``tries * per_class`` samples.
        parameters: of each request.
        rules: of cleaning; kind and language come from the prompt set whatever they say here.
    """

    per_class: int = 20
    tries: int = 4
    parameters: Parameters = field(default_factory=Parameters)
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a generation stands.

    Args:
        asked: requests so far, those included that the journal answered.
        done, failed: outcomes so far; ``done`` counts good replies.
        reused: good replies that came from the journal.
        prompt_tokens, completion_tokens: of the good replies that did not.
        accepted, wanted: descriptions.
    """

    asked: int
    done: int
    failed: int
    reused: int
    prompt_tokens: int
    completion_tokens: int
    accepted: int
    wanted: int


@dataclass(frozen=True, slots=True)
class ClassReport:
    """What came of one class: samples asked for, failed ones, accepted descriptions, rejections by reason."""

    class_id: str
    name: str
    asked: int
    failed: int
    accepted: int
    rejected: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """What a generation gave, in the order of the label set and of the samples.

    Args:
        generator: the header entry of a bundle that all provenance points to.
        descriptions, rejected: records of a bundle.
        report: one line a class.
        wanted: descriptions a class was to have.
        stopped: it ended early because it was told to.
        failures: up to ten distinct reasons of failed requests.
    """

    generator: Generator
    descriptions: tuple[Description, ...]
    rejected: tuple[Rejection, ...]
    report: tuple[ClassReport, ...]
    wanted: int
    stopped: bool
    failures: tuple[str, ...]

    @property
    def short(self) -> tuple[ClassReport, ...]:
        """The classes that have fewer descriptions than were wanted."""
        return tuple(line for line in self.report if line.accepted < self.wanted)

    @property
    def complete(self) -> bool:
        """It was not stopped, and every class has at least one description."""
        return not self.stopped and all(line.accepted for line in self.report)


def generate(
    labels: LabelSet,
    prompts: PromptSet,
    backend: Backend,
    plan: Plan,
    *,
    journal: Journal | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> GenerationResult:
    """Write descriptions for every class.

    Args:
        journal: where outcomes are kept and found again; None keeps none.
        on_progress: called after each outcome.
        should_stop: asked after each outcome; True ends the run with what there is. So does Ctrl-C.

    Raises:
        UsageError: a plan that asks for nothing.
        FatalBackendError: a wrong key, a spent quota, no such model: what the journal has stays.
        BackendError: not one request of the first round got a usable reply.
        StorageError: the journal cannot be written.
    """
    if plan.per_class < 1 or plan.tries < 1 or plan.parameters.max_tokens < 1:
        raise UsageError("a generation needs at least one description, one try and one token", remedy="Ask for more")
    return _Run(labels, prompts, backend, plan, journal, on_progress, should_stop).result()


def describe_generator(prompts: PromptSet, backend: Backend, parameters: Parameters) -> Generator:
    """The header entry of a bundle: backend, model, parameters and prompt set, with an id made of their digest."""
    told: dict[str, Any] = {**backend.key(), **parameters.key()}
    mark = digest([told, backend.model, prompts.digest]).removeprefix("sha256:")[:12]
    entry = PromptSetEntry(id=prompts.id, version=str(prompts.version), digest=prompts.digest)
    return Generator(
        id=f"{backend.name}-{mark}", backend=backend.name, model=backend.model, parameters=told, prompts=entry
    )


@dataclass(slots=True)
class _Class:
    """The state of one class during a run."""

    name: ClassName
    matcher: NameMatcher
    seen: set[str]
    asked: int = 0
    failed: int = 0
    waiting: int = 0
    replies: dict[int, tuple[str, Reply]] = field(default_factory=dict)
    descriptions: list[Description] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


class _Run:
    """One generation."""

    def __init__(
        self,
        labels: LabelSet,
        prompts: PromptSet,
        backend: Backend,
        plan: Plan,
        journal: Journal | None,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._prompts, self._backend, self._plan, self._journal = prompts, backend, plan, journal
        self._on_progress, self._should_stop = on_progress, should_stop
        self._key = backend.key()
        self._generator = describe_generator(prompts, backend, plan.parameters)
        self._rules = Rules(
            kind=prompts.kind,
            language=prompts.language,
            naming=plan.rules.naming,
            min_words=plan.rules.min_words,
            max_words=plan.rules.max_words,
            count_tokens=plan.rules.count_tokens,
            token_limit=plan.rules.token_limit,
        )
        # A small model copies its examples with another name in them.
        shown = {description_key(one.text, NameMatcher(one.name)) for one in prompts.examples}
        self._classes = [_Class(one, NameMatcher(one.name), set(shown)) for one in labels.classes]
        self._counts = Counter[str]()
        self._failures: dict[str, None] = {}
        self._stopped = False

    def result(self) -> GenerationResult:
        """Run all rounds."""
        first = True
        while not self._stopped and (pending := self._next_round()):
            try:
                self._run_round(pending)
            except KeyboardInterrupt:
                self._stopped = True
            if first and not self._stopped and not self._counts["done"]:
                raise BackendError(
                    f"not one of {len(pending)} requests got a usable reply; the last one: {list(self._failures)[-1]}",
                    remedy="Check the model and the server",
                )
            first = False
        for one in self._classes:
            self._clean(one)
        return GenerationResult(
            generator=self._generator,
            descriptions=tuple(record for one in self._classes for record in one.descriptions),
            rejected=tuple(record for one in self._classes for record in one.rejected),
            report=tuple(_report(one) for one in self._classes),
            wanted=self._plan.per_class,
            stopped=self._stopped,
            failures=tuple(self._failures)[:10],
        )

    def _next_round(self) -> list[tuple[int, int]]:
        """Class positions and sample numbers to ask for; none where every class has enough or has had its tries."""
        limit = self._plan.per_class * self._plan.tries
        asks = []
        for position, one in enumerate(self._classes):
            missing = self._plan.per_class - len(one.descriptions)
            rate = max(_LEAST_YIELD, len(one.descriptions) / one.asked) if one.asked else 1.0
            count = min(limit - one.asked, math.ceil(missing / rate))
            asks += [(position, sample) for sample in range(one.asked, one.asked + max(0, count))]
            one.asked += max(0, count)
            one.waiting += max(0, count)
        self._counts["asked"] += len(asks)
        return asks

    def _run_round(self, asks: Sequence[tuple[int, int]]) -> None:
        pending = []
        for position, sample in asks:
            found = self._find(self._request(position, sample))
            if found is None:
                pending.append((position, sample))
            else:
                self._counts["reused"] += 1
                self._settle(position, sample, *found)
        outcomes = self._backend.complete(self._request(*ask) for ask in pending)
        try:
            for request, outcome in outcomes:
                self._arrive(request, outcome)
                if self._should_stop():
                    self._stopped = True
                    return
        finally:
            _close(outcomes)

    def _request(self, position: int, sample: int) -> Request:
        prompt = self._prompts.prompts[sample % len(self._prompts.prompts)]
        messages = self._prompts.messages(prompt, self._classes[position].name.name)
        return Request(messages, self._plan.parameters, sample, tag=position)

    def _find(self, request: Request) -> tuple[str, Reply] | None:
        if self._journal is None:
            return None
        mark = request_digest(self._key, request)
        reply = self._journal.find(mark)
        return None if reply is None else (mark, reply)

    def _arrive(self, request: Request, outcome: Outcome) -> None:
        mark = request_digest(self._key, request)
        if self._journal is not None:
            name = self._classes[request.tag].name
            about = {"class": name.id, "prompt": self._prompt_id(request.sample), "sample": request.sample}
            outcome = self._journal.add(mark, outcome, about)
        if isinstance(outcome, Reply):
            self._counts["prompt_tokens"] += outcome.prompt_tokens
            self._counts["completion_tokens"] += outcome.completion_tokens
        self._settle(request.tag, request.sample, mark, outcome)

    def _settle(self, position: int, sample: int, mark: str, outcome: Outcome) -> None:
        one = self._classes[position]
        one.waiting -= 1
        if isinstance(outcome, Failure):
            one.failed += 1
            self._counts["failed"] += 1
            # The last one comes last, also when it was there before.
            self._failures.pop(outcome.reason, None)
            self._failures[outcome.reason] = None
        else:
            one.replies[sample] = (mark, outcome)
            self._counts["done"] += 1
        if one.waiting == 0:
            self._clean(one)
        self._on_progress(self._progress())

    def _clean(self, one: _Class) -> None:
        """Judge the replies that wait, in the order of their samples."""
        for sample, (mark, reply) in sorted(one.replies.items()):
            source = Provenance(self._generator.id, sample, self._prompt_id(sample), mark)
            cleaned = clean(
                reply.text,
                finish_reason=reply.finish_reason,
                matcher=one.matcher,
                name=one.name.name,
                rules=self._rules,
                seen=one.seen,
            )
            for text in cleaned.accepted:
                self._accept(one, text, source)
            one.rejected += [
                Rejection(one.name.id, no.text, no.reason.value, source, no.detail or None) for no in cleaned.rejected
            ]
        one.replies.clear()

    def _accept(self, one: _Class, text: str, source: Provenance) -> None:
        one.seen.add(description_key(text, one.matcher))
        if len(one.descriptions) >= self._plan.per_class:
            one.rejected.append(Rejection(one.name.id, text, Reason.SURPLUS.value, source))
            return
        one.descriptions.append(Description(one.name.id, text, source, self._rules.kind))
        self._counts["accepted"] += 1

    def _prompt_id(self, sample: int) -> str:
        return self._prompts.prompts[sample % len(self._prompts.prompts)].id

    def _progress(self) -> Progress:
        counts = self._counts
        return Progress(
            asked=counts["asked"],
            done=counts["done"],
            failed=counts["failed"],
            reused=counts["reused"],
            prompt_tokens=counts["prompt_tokens"],
            completion_tokens=counts["completion_tokens"],
            accepted=counts["accepted"],
            wanted=self._plan.per_class * len(self._classes),
        )


def _report(one: _Class) -> ClassReport:
    return ClassReport(
        class_id=one.name.id,
        name=one.name.name,
        asked=one.asked,
        failed=one.failed,
        accepted=len(one.descriptions),
        rejected=dict(Counter(no.reason for no in one.rejected)),
    )


def _close(outcomes: Iterator[tuple[Request, Outcome]]) -> None:
    """End a backend's work where it is a generator, which has something to put away."""
    close = getattr(outcomes, "close", None)
    if close is not None:
        close()
