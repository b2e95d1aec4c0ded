"""Label set x prompt set x backend -> descriptions, in rounds, until each class has enough or has had its tries.

Each class gets samples 0, 1, 2, ...; sample s asks prompt s mod P. The requests of a round go to the backend together,
whatever their class, so that its batches are full. A class is cleaned in the order of its samples as soon as all its
replies of the round are there, so that the order of arrival changes nothing. What is missing then is asked for with
new samples in the next round.

Every outcome passes through the journal before anything else, and what the journal has is not asked again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any

from abs_core.canonical import digest
from abs_core.errors import BackendError, UsageError
from abs_core.labels import LabelSet
from abs_descriptions.bundles import Description, Generator, PromptSetEntry, Provenance, Rejection
from abs_descriptions.bundles.format import MAX_CLASS_NAME, token_problem
from abs_descriptions.generation.class_progress import ClassProgress, ClassReport
from abs_descriptions.generation.cleaning import CleaningRules, description_key
from abs_descriptions.generation.cost import Budget
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.naming import NameMatcher
from abs_descriptions.generation.prompts import PromptSet
from abs_descriptions.generation.providers.base import (
    Failure,
    Outcome,
    Parameters,
    Provider,
    Request,
    Tokens,
    likely_prompt_tokens,
    request_digest,
    taken_tokens,
)
from abs_descriptions.generation.providers.response_validation import checked

__all__ = [
    "GenerationEstimate",
    "GenerationPlan",
    "GenerationProgress",
    "GenerationResult",
    "StopReason",
    "describe_generator",
    "estimate",
    "generate",
]


class StopReason(StrEnum):
    """Why a generation ended before every class had enough or had had its tries."""

    INTERRUPT = "interrupted"
    TOLD = "told to stop"
    COST = "cost limit"


@dataclass(frozen=True, slots=True)
class GenerationPlan:
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
    rules: CleaningRules = field(default_factory=CleaningRules)

    @property
    def limit(self) -> int:
        """Samples that a class may be asked for."""
        return self.per_class * self.tries


@dataclass(frozen=True, slots=True)
class GenerationProgress:
    """Where a generation stands.

    Args:
        asked: requests so far, those included that the journal answered.
        done, failed: outcomes so far; ``done`` counts good replies.
        reused: good replies that came from the journal.
        paid: tokens of the requests that were asked, all their attempts together (``costs.taken_tokens``).
        saved: tokens that the journal knows of these and all other requests, as earlier runs paid for them.
        accepted, wanted: descriptions.
    """

    asked: int
    done: int
    failed: int
    reused: int
    paid: Tokens
    saved: Tokens
    accepted: int
    wanted: int


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """What a generation gave, in the order of the label set and of the samples.

    Args:
        generator: the header entry of a bundle that all provenance points to.
        descriptions, rejected: records of a bundle.
        report: one line a class.
        wanted: descriptions a class was to have.
        stop: why it ended early; None where it did not.
        failures: up to ten distinct reasons of failed requests.
    """

    generator: Generator
    descriptions: tuple[Description, ...]
    rejected: tuple[Rejection, ...]
    report: tuple[ClassReport, ...]
    wanted: int
    stop: StopReason | None
    failures: tuple[str, ...]

    @property
    def short(self) -> tuple[ClassReport, ...]:
        """The classes that have fewer descriptions than were wanted."""
        return tuple(line for line in self.report if line.accepted < self.wanted)

    @property
    def complete(self) -> bool:
        """It was not stopped, and every class has at least one description."""
        return self.stop is None and all(line.accepted for line in self.report)


@dataclass(frozen=True, slots=True)
class GenerationEstimate:
    """What a generation would ask, and what the journal answers already.

    Args:
        requests: that are sure to be asked; rejected replies make them more.
        tokens: of these: ``likely_prompt_tokens`` of what is asked, and the most that can be answered.
        most_requests: of all rounds, should every class need all its tries.
        most_tokens: of these; the prompts as long as those of ``requests`` on average.
        reused, saved: good replies that the journal has, and the tokens that earlier runs paid.
        accepted, wanted: descriptions that these give, and descriptions in all.
    """

    requests: int
    tokens: Tokens
    most_requests: int
    most_tokens: Tokens
    reused: int
    saved: Tokens
    accepted: int
    wanted: int


# A class, by its position, and the sample to ask for.
_Ask = tuple[int, int]


def generate(
    labels: LabelSet,
    prompts: PromptSet,
    backend: Provider,
    plan: GenerationPlan,
    *,
    journal: Journal | None = None,
    budget: Budget | None = None,
    on_progress: Callable[[GenerationProgress], None] = lambda _: None,
    may_ask: Callable[[], bool] = lambda: True,
    should_stop: Callable[[], bool] = lambda: False,
) -> GenerationResult:
    """Write descriptions for every class.

    Args:
        journal: where outcomes are kept and found again; None keeps none.
        budget: nothing is asked that could exceed it; None sets no limit.
        on_progress: called after each outcome.
        may_ask: asked before each request, in a thread of the backend's. False ends the run as soon as the requests
            under way, which are paid, have come back.
        should_stop: asked after each outcome. True ends the run at once, with what there is; so does Ctrl-C. Requests
            under way are cut off: no journal, no count and no budget knows what a server bills for them.

    Raises:
        UsageError: a plan that asks for nothing, or a budget that cannot pay one request.
        FatalBackendError: a wrong key, a spent quota, no such model: what the journal has stays.
        BackendError: not one request of the first round got a usable reply.
        StorageError: the journal cannot be written.
    """
    run = _GenerationRun(labels, prompts, backend, plan, journal)
    run.budget, run.on_progress, run.may_ask, run.should_stop = budget, on_progress, may_ask, should_stop
    return run.result()


def estimate(
    labels: LabelSet, prompts: PromptSet, backend: Provider, plan: GenerationPlan, *, journal: Journal | None = None
) -> GenerationEstimate:
    """What ``generate`` would ask next with the same arguments. Asks nothing and writes nothing.

    Raises:
        UsageError: a plan that asks for nothing.
        StorageError: the journal cannot be read.
    """
    return _GenerationRun(labels, prompts, backend, plan, journal).outlook()


def describe_generator(prompts: PromptSet, backend: Provider, parameters: Parameters) -> Generator:
    """The header entry of a bundle: backend, model, parameters and prompt set, with an id made of their digest.

    Raises:
        UsageError: the name of the model is one that a bundle cannot hold.
    """
    fault = token_problem(backend.model, MAX_CLASS_NAME)
    if fault is not None:
        raise UsageError(f"the name of the model {fault}", remedy="Check the name")
    told: dict[str, Any] = {**backend.key(), **parameters.key()}
    mark = digest([told, backend.model, prompts.digest]).removeprefix("sha256:")[:12]
    entry = PromptSetEntry(id=prompts.id, version=str(prompts.version), digest=prompts.digest)
    return Generator(
        id=f"{backend.name}-{mark}", backend=backend.name, model=backend.model, parameters=told, prompts=entry
    )


@dataclass(slots=True)
class _Counts:
    """What has happened so far."""

    asked: int = 0
    done: int = 0
    failed: int = 0
    reused: int = 0
    accepted: int = 0
    paid: Tokens = field(default_factory=Tokens)
    saved: Tokens = field(default_factory=Tokens)


class _GenerationRun:
    """One generation."""

    budget: Budget | None = None
    on_progress: Callable[[GenerationProgress], None] = staticmethod(lambda _: None)
    may_ask: Callable[[], bool] = staticmethod(lambda: True)
    should_stop: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(
        self, labels: LabelSet, prompts: PromptSet, backend: Provider, plan: GenerationPlan, journal: Journal | None
    ) -> None:
        if plan.per_class < 1 or plan.tries < 1 or plan.parameters.max_tokens < 1:
            raise UsageError(
                "a generation needs at least one description, one try and one token", remedy="Ask for more"
            )
        self._prompts, self._backend, self._plan, self._journal = prompts, backend, plan, journal
        self._key = backend.key()
        self._generator = describe_generator(prompts, backend, plan.parameters)
        self._rules = replace(plan.rules, kind=prompts.kind, language=prompts.language)
        # A small model copies its examples with another name in them.
        self._shown = frozenset(description_key(one.text, NameMatcher(one.name)) for one in prompts.examples)
        self._drafts = [ClassProgress(one) for one in labels.classes]
        self._counts = _Counts()
        self._failures: dict[str, None] = {}
        self._stop: StopReason | None = None
        self._cut_short = False

    def result(self) -> GenerationResult:
        """Run all rounds."""
        try:
            first = True
            while self._stop is None and (asks := self._next_round()):
                self._ask(self._reuse(asks))
                if first and self._stop is None and not self._counts.done:
                    raise BackendError(
                        f"not one of {len(asks)} requests got a usable reply; the last one: {list(self._failures)[-1]}",
                        remedy="Check the model and the server",
                    )
                first = False
        except KeyboardInterrupt:
            self._stop = StopReason.INTERRUPT
        for draft in self._drafts:
            self._judge(draft)
        if self._cut_short and any(len(one.descriptions) < self._plan.per_class for one in self._drafts):
            self._stop = self._stop or StopReason.COST
        return GenerationResult(
            generator=self._generator,
            descriptions=tuple(record for one in self._drafts for record in one.descriptions),
            rejected=tuple(record for one in self._drafts for record in one.rejected),
            report=tuple(one.report() for one in self._drafts),
            wanted=self._plan.per_class,
            stop=self._stop,
            failures=tuple(self._failures)[:10],
        )

    def outlook(self) -> GenerationEstimate:
        """Run the rounds that the journal answers, and count what comes then; a class that waits is left alone."""
        pending: deque[_Ask] = deque()
        while asks := self._next_round():
            pending += self._reuse(asks)
        completion = self._plan.parameters.max_tokens
        prompt = sum(likely_prompt_tokens(self._request(*ask).messages) for ask in pending)
        most = sum(
            draft.waiting + self._plan.limit - draft.asked
            for draft in self._drafts
            if draft.waiting or len(draft.descriptions) < self._plan.per_class
        )
        counts = self._counts
        return GenerationEstimate(
            requests=len(pending),
            tokens=Tokens(prompt, completion * len(pending)),
            most_requests=most,
            most_tokens=Tokens(round(prompt / max(1, len(pending)) * most), completion * most),
            reused=counts.reused,
            saved=counts.saved,
            accepted=counts.accepted,
            wanted=self._plan.per_class * len(self._drafts),
        )

    def _next_round(self) -> list[_Ask]:
        """What to ask for; nothing where every class has enough or has had its tries."""
        asks = [
            (position, sample)
            for position, draft in enumerate(self._drafts)
            if not draft.waiting
            for sample in draft.ask(self._plan.per_class, self._plan.limit)
        ]
        self._counts.asked += len(asks)
        return asks

    def _reuse(self, asks: list[_Ask]) -> deque[_Ask]:
        """Settle what the journal answers; the rest."""
        pending: deque[_Ask] = deque()
        for position, sample in asks:
            if self._journal is None or self._journal.is_empty:
                pending.append((position, sample))
                continue
            request = self._request(position, sample)
            mark = request_digest(self._key, request)
            self._counts.saved += self._journal.lost(mark)
            reply = self._journal.find(mark)
            if reply is None:
                pending.append((position, sample))
                continue
            self._counts.reused += 1
            self._counts.saved += taken_tokens(request, reply)
            self._settle(position, sample, mark, reply)
        return pending

    def _ask(self, pending: deque[_Ask]) -> None:
        """Have the backend answer the rest of a round.

        A backend is given no more requests than the budget can pay should each cost the most. When these are back, they
        have cost less, and it is given more, until not one more can be paid.
        """
        while pending and self._stop is None:
            if not self._can_pay(pending[0]):
                self._stop = StopReason.COST
                return
            self._take(self._backend.complete(self._hand_out(pending)))

    def _can_pay(self, ask: _Ask) -> bool:
        if self.budget is None or self.budget.fits(self._request(*ask)):
            return True
        if not self._counts.done and not self.budget.spent:
            raise UsageError(
                f"the cost limit {self.budget.limit:g} cannot pay one request, which costs up to "
                f"{self.budget.most(self._request(*ask)):.2g}",
                remedy="Raise the limit, or ask for fewer tokens",
            )
        return False

    def _hand_out(self, pending: deque[_Ask]) -> Iterator[Request]:
        """Requests, as the backend takes them."""
        while pending:
            if not self.may_ask():
                self._stop = StopReason.TOLD
                return
            request = self._request(*pending[0])
            if self.budget is not None:
                if not self.budget.reserve(request):
                    return
                request = replace(request, may_repeat=partial(self._may_repeat, self.budget, request))
            pending.popleft()
            yield request

    def _may_repeat(self, budget: Budget, request: Request, lost: Tokens) -> bool:
        can_pay = budget.repeat(request, lost)
        self._cut_short = self._cut_short or not can_pay
        return can_pay

    def _take(self, outcomes: Iterator[tuple[Request, Outcome]]) -> None:
        try:
            for request, outcome in outcomes:
                self._arrive(request, outcome)
                if self.should_stop():
                    self._stop = StopReason.TOLD
                    return
        finally:
            _close(outcomes)

    def _request(self, position: int, sample: int) -> Request:
        prompt, name = self._prompts.prompts[sample % len(self._prompts.prompts)], self._drafts[position].name
        messages = self._prompts.messages(prompt, name.name, name.note)
        return Request(messages, self._plan.parameters, sample, tag=position, answer=self._prompts.answer)

    def _arrive(self, request: Request, outcome: Outcome) -> None:
        mark, outcome = request_digest(self._key, request), checked(request, outcome)
        if self.budget is not None:
            self.budget.settle(request, outcome)
        self._counts.paid += taken_tokens(request, outcome)
        if self._journal is not None:
            name = self._drafts[request.tag].name
            about = {"class": name.id, "prompt": self._prompt_id(request.sample), "sample": request.sample}
            outcome = self._journal.add(mark, outcome, about)
        self._settle(request.tag, request.sample, mark, outcome)

    def _settle(self, position: int, sample: int, mark: str, outcome: Outcome) -> None:
        draft = self._drafts[position]
        draft.waiting -= 1
        if isinstance(outcome, Failure):
            draft.failed += 1
            self._counts.failed += 1
            # The last one comes last, also when it was there before.
            self._failures.pop(outcome.reason, None)
            self._failures[outcome.reason] = None
        else:
            draft.replies[sample] = (mark, outcome)
            self._counts.done += 1
        if draft.waiting == 0:
            self._judge(draft)
        self.on_progress(self._progress())

    def _judge(self, draft: ClassProgress) -> None:
        self._counts.accepted += draft.judge(self._rules, self._plan.per_class, self._shown, self._source)

    def _source(self, sample: int, mark: str) -> Provenance:
        return Provenance(self._generator.id, sample, self._prompt_id(sample), mark)

    def _prompt_id(self, sample: int) -> str:
        return self._prompts.prompts[sample % len(self._prompts.prompts)].id

    def _progress(self) -> GenerationProgress:
        counts = self._counts
        return GenerationProgress(
            asked=counts.asked,
            done=counts.done,
            failed=counts.failed,
            reused=counts.reused,
            paid=counts.paid,
            saved=counts.saved,
            accepted=counts.accepted,
            wanted=self._plan.per_class * len(self._drafts),
        )


def _close(outcomes: Iterator[tuple[Request, Outcome]]) -> None:
    """End a backend's work where it is a generator, which has something to put away."""
    close = getattr(outcomes, "close", None)
    if close is not None:
        close()
