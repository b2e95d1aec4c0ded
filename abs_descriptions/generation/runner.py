"""Label set x prompt set x provider -> descriptions, in rounds, until each class has enough or its tries are used up.

Each class gets samples 0, 1, 2, ...; sample s asks prompt s mod P. The requests of a round go to the provider together,
whatever their class, so that its batches are full. A class is cleaned in the order of its samples as soon as all its
replies of the round have arrived, so the order of arrival has no effect. What is then missing is requested with new
samples in the next round.

Every outcome is written to the journal before anything else happens, and what the journal holds is not requested again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any

from abs_core.canonical import digest
from abs_core.errors import ProviderError, UsageError
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
    estimate_prompt_tokens,
    request_digest,
    used_tokens,
)
from abs_descriptions.generation.providers.response_validation import validate_outcome

__all__ = [
    "GenerationEstimate",
    "GenerationPlan",
    "GenerationProgress",
    "GenerationResult",
    "StopReason",
    "describe_generator",
    "estimate_requests",
    "run_generation",
]


class StopReason(StrEnum):
    """Why a generation ended before every class had enough descriptions or had used up its tries."""

    INTERRUPT = "interrupted"
    REQUESTED = "told to stop"
    COST = "cost limit"


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """How many descriptions are wanted and how they are sampled.

    Args:
        per_class: accepted descriptions wanted for each class.
        tries: at most ``tries * per_class`` samples are requested for a class.
        parameters: sampling parameters of each request.
        rules: cleaning rules; kind and language always come from the prompt set.
    """

    per_class: int = 20
    tries: int = 4
    parameters: Parameters = field(default_factory=Parameters)
    rules: CleaningRules = field(default_factory=CleaningRules)

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
    """The outcome of a generation, in the order of the label set and of the samples.

    Args:
        generator: the header entry of a bundle that all provenance points to.
        descriptions, rejected: records of a bundle.
        report: one entry for each class.
        wanted: descriptions that were wanted for each class.
        stop: why it ended early; None if it did not.
        failures: up to ten distinct reasons of failed requests, the latest one last.
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
        """The classes with fewer descriptions than wanted."""
        return tuple(line for line in self.report if line.accepted < self.wanted)

    @property
    def complete(self) -> bool:
        """Whether it ran to its end and every class has at least one description."""
        return self.stop is None and all(line.accepted for line in self.report)


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
    """

    requests: int
    tokens: Tokens
    max_requests: int
    max_tokens: Tokens
    reused: int
    saved: Tokens
    accepted: int
    wanted: int


# The position of a class, and a sample number.
_SampleKey = tuple[int, int]


def run_generation(
    labels: LabelSet,
    prompts: PromptSet,
    provider: Provider,
    plan: GenerationPlan,
    *,
    journal: Journal | None = None,
    budget: Budget | None = None,
    on_progress: Callable[[GenerationProgress], None] = lambda _: None,
    may_ask: Callable[[], bool] = lambda: True,
) -> GenerationResult:
    """Write descriptions for every class.

    Ctrl-C ends the run at once with what has arrived. Requests in flight are cancelled: no journal, total or budget
    accounts for what a server bills for them.

    Args:
        labels: the classes.
        prompts: what the language model is asked about each.
        provider: the language model.
        plan: how many descriptions are wanted and how they are sampled.
        journal: where outcomes are recorded and found again; None records none.
        budget: no request is sent that could exceed it; None sets no limit.
        on_progress: called after each outcome.
        may_ask: called before each request, in a thread of the provider. False ends the run once the requests in
            flight, which are paid for, have been answered.

    Raises:
        UsageError: a plan that requests nothing, or a budget too small for a single request.
        FatalProviderError: a wrong key, an exhausted quota, an unknown model; the journal keeps what it has.
        ProviderError: no request of the first round got a usable reply.
        StorageError: the journal cannot be written.
    """
    hooks = _Hooks(on_progress, may_ask)
    return _GenerationRun(labels, prompts, provider, plan, journal, budget, hooks).result()


def estimate_requests(
    labels: LabelSet, prompts: PromptSet, provider: Provider, plan: GenerationPlan, *, journal: Journal | None = None
) -> GenerationEstimate:
    """What ``run_generation`` would request with the same arguments. Sends nothing and writes nothing.

    Raises:
        UsageError: a plan that requests nothing.
        StorageError: the journal cannot be read.
    """
    return _GenerationRun(labels, prompts, provider, plan, journal).estimate()


def describe_generator(prompts: PromptSet, provider: Provider, parameters: Parameters) -> Generator:
    """The header entry of a bundle: provider, model, parameters and prompt set, with an id made of their digest.

    Raises:
        UsageError: a model name that a bundle cannot hold.
    """
    problem = token_problem(provider.model, MAX_CLASS_NAME)
    if problem is not None:
        raise UsageError(f"the name of the model {problem}", remedy="Check the name")
    settings: dict[str, Any] = {**provider.key(), **parameters.key()}
    short_digest = digest([settings, provider.model, prompts.digest]).removeprefix("sha256:")[:12]
    return Generator(
        id=f"{provider.name}-{short_digest}",
        backend=provider.name,
        model=provider.model,
        parameters=settings,
        prompts=PromptSetEntry(id=prompts.id, version=str(prompts.version), digest=prompts.digest),
    )


@dataclass(slots=True)
class _Counts:
    """Totals so far."""

    asked: int = 0
    done: int = 0
    failed: int = 0
    reused: int = 0
    accepted: int = 0
    paid: Tokens = field(default_factory=Tokens)
    saved: Tokens = field(default_factory=Tokens)


@dataclass(frozen=True, slots=True)
class _Hooks:
    """What the caller of a generation is asked and told; see ``run_generation``."""

    on_progress: Callable[[GenerationProgress], None] = lambda _: None
    may_ask: Callable[[], bool] = lambda: True


class _GenerationRun:
    """One generation."""

    def __init__(
        self,
        labels: LabelSet,
        prompts: PromptSet,
        provider: Provider,
        plan: GenerationPlan,
        journal: Journal | None,
        budget: Budget | None = None,
        hooks: _Hooks = _Hooks(),
    ) -> None:
        if plan.per_class < 1 or plan.tries < 1 or plan.parameters.max_tokens < 1:
            raise UsageError(
                "descriptions per class, tries and tokens must be at least 1, "
                f"got {plan.per_class}, {plan.tries} and {plan.parameters.max_tokens}",
                remedy="Give larger numbers",
            )
        self._prompts, self._provider, self._plan, self._journal = prompts, provider, plan, journal
        self._budget, self._hooks = budget, hooks
        self._key = provider.key()
        self._generator = describe_generator(prompts, provider, plan.parameters)
        self._rules = replace(plan.rules, kind=prompts.kind, language=prompts.language)
        # A small model copies its examples with another name in them.
        self._example_keys = frozenset(
            description_key(example.text, NameMatcher(example.name)) for example in prompts.examples
        )
        self._classes = [ClassProgress(label) for label in labels.classes]
        self._counts = _Counts()
        self._failures: dict[str, None] = {}
        self._stop: StopReason | None = None
        self._cut_short = False

    def result(self) -> GenerationResult:
        """Run all rounds."""
        try:
            first = True
            while self._stop is None and (samples := self._next_round()):
                self._request_all(self._reuse(samples))
                if first and self._stop is None and not self._counts.done:
                    raise ProviderError(
                        f"none of {len(samples)} requests got a usable reply; the last one: {list(self._failures)[-1]}",
                        remedy="Check the model and the server",
                    )
                first = False
        except KeyboardInterrupt:
            self._stop = StopReason.INTERRUPT
        for progress in self._classes:
            self._clean(progress)
        if self._cut_short and any(len(progress.descriptions) < self._plan.per_class for progress in self._classes):
            self._stop = self._stop or StopReason.COST
        return GenerationResult(
            generator=self._generator,
            descriptions=tuple(record for progress in self._classes for record in progress.descriptions),
            rejected=tuple(record for progress in self._classes for record in progress.rejected),
            report=tuple(progress.report() for progress in self._classes),
            wanted=self._plan.per_class,
            stop=self._stop,
            failures=tuple(self._failures)[:10],
        )

    def estimate(self) -> GenerationEstimate:
        """Run the rounds that the journal answers and count what follows; a class with open requests is left alone."""
        pending: deque[_SampleKey] = deque()
        while samples := self._next_round():
            pending += self._reuse(samples)
        completion = self._plan.parameters.max_tokens
        prompt = sum(estimate_prompt_tokens(self._request(*sample).messages) for sample in pending)
        max_requests = sum(
            progress.waiting + self._plan.limit - progress.asked
            for progress in self._classes
            if progress.waiting or len(progress.descriptions) < self._plan.per_class
        )
        counts = self._counts
        return GenerationEstimate(
            requests=len(pending),
            tokens=Tokens(prompt, completion * len(pending)),
            max_requests=max_requests,
            max_tokens=Tokens(round(prompt / max(1, len(pending)) * max_requests), completion * max_requests),
            reused=counts.reused,
            saved=counts.saved,
            accepted=counts.accepted,
            wanted=self._plan.per_class * len(self._classes),
        )

    def _next_round(self) -> list[_SampleKey]:
        """The samples to request; none if every class has enough or has used up its tries."""
        samples = [
            (position, sample)
            for position, progress in enumerate(self._classes)
            if not progress.waiting
            for sample in progress.next_samples(self._plan.per_class, self._plan.limit)
        ]
        self._counts.asked += len(samples)
        return samples

    def _reuse(self, samples: list[_SampleKey]) -> deque[_SampleKey]:
        """Settle what the journal answers; returns the rest."""
        pending: deque[_SampleKey] = deque()
        for position, sample in samples:
            if self._journal is None or self._journal.is_empty:
                pending.append((position, sample))
                continue
            request = self._request(position, sample)
            request_id = request_digest(self._key, request)
            self._counts.saved += self._journal.lost(request_id)
            reply = self._journal.find(request_id)
            if reply is None:
                pending.append((position, sample))
                continue
            self._counts.reused += 1
            self._counts.saved += used_tokens(request, reply)
            self._settle(position, sample, request_id, reply)
        return pending

    def _request_all(self, pending: deque[_SampleKey]) -> None:
        """Have the provider answer the rest of a round.

        The provider gets no more requests than the budget can pay if each costs its maximum. Once they are answered
        they have cost less, and it gets more, until the budget cannot pay another one.
        """
        while pending and self._stop is None:
            if not self._can_pay(pending[0]):
                self._stop = StopReason.COST
                return
            self._receive(self._provider.complete(self._requests(pending)))

    def _can_pay(self, sample: _SampleKey) -> bool:
        if self._budget is None or self._budget.fits(self._request(*sample)):
            return True
        if not self._counts.done and not self._budget.spent:
            raise UsageError(
                f"the cost limit must cover one request, which costs up to "
                f"{self._budget.max_cost(self._request(*sample)):.2g}, got {self._budget.limit:g}",
                remedy="Raise the limit, or lower the number of tokens",
            )
        return False

    def _requests(self, pending: deque[_SampleKey]) -> Iterator[Request]:
        """Requests, taken from ``pending`` as the provider asks for them."""
        while pending:
            if not self._hooks.may_ask():
                self._stop = StopReason.REQUESTED
                return
            request = self._request(*pending[0])
            if self._budget is not None:
                if not self._budget.reserve(request):
                    return
                request = replace(request, may_repeat=partial(self._may_repeat, self._budget, request))
            pending.popleft()
            yield request

    def _may_repeat(self, budget: Budget, request: Request, lost: Tokens, maximum: Tokens) -> bool:
        can_pay = budget.repeat(request, lost, maximum)
        self._cut_short = self._cut_short or not can_pay
        return can_pay

    def _receive(self, outcomes: Iterator[tuple[Request, Outcome]]) -> None:
        try:
            for request, outcome in outcomes:
                self._record(request, outcome)
        finally:
            _close(outcomes)

    def _request(self, position: int, sample: int) -> Request:
        prompt, label = self._prompts.prompts[sample % len(self._prompts.prompts)], self._classes[position].label
        messages = self._prompts.messages(prompt, label.name, label.note)
        return Request(messages, self._plan.parameters, sample, tag=position, answer=self._prompts.answer)

    def _record(self, request: Request, outcome: Outcome) -> None:
        request_id, outcome = request_digest(self._key, request), validate_outcome(request, outcome)
        if self._budget is not None:
            self._budget.settle(request, outcome)
        self._counts.paid += used_tokens(request, outcome)
        if self._journal is not None:
            label = self._classes[request.tag].label
            context = {"class": label.id, "prompt": self._prompt_id(request.sample), "sample": request.sample}
            outcome = self._journal.add(request_id, outcome, context)
        self._settle(request.tag, request.sample, request_id, outcome)

    def _settle(self, position: int, sample: int, request_id: str, outcome: Outcome) -> None:
        progress = self._classes[position]
        progress.waiting -= 1
        if isinstance(outcome, Failure):
            progress.failed += 1
            self._counts.failed += 1
            # The latest reason comes last, even if it occurred before.
            self._failures.pop(outcome.reason, None)
            self._failures[outcome.reason] = None
        else:
            progress.replies[sample] = (request_id, outcome)
            self._counts.done += 1
        if progress.waiting == 0:
            self._clean(progress)
        self._hooks.on_progress(self._progress())

    def _clean(self, progress: ClassProgress) -> None:
        self._counts.accepted += progress.clean_replies(
            self._rules, self._plan.per_class, self._example_keys, self._provenance
        )

    def _provenance(self, sample: int, request_id: str) -> Provenance:
        return Provenance(self._generator.id, sample, self._prompt_id(sample), request_id)

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
            wanted=self._plan.per_class * len(self._classes),
        )


def _close(outcomes: Iterator[tuple[Request, Outcome]]) -> None:
    """Have a provider clean up if it is a generator."""
    close = getattr(outcomes, "close", None)
    if close is not None:
        close()
