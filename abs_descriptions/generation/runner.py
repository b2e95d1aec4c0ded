"""Label set x prompt set x provider -> descriptions, in rounds, until each class has enough or its tries are used up.

Each class gets samples 0, 1, 2, ...; sample s asks prompt s mod P. The requests of a round go to the provider together,
whatever their class, so that its batches are full. A class is cleaned in the order of its samples as soon as all its
replies of the round have arrived, so the order of arrival has no effect. What is then missing is requested with new
samples in the next round.

The first requests of a run are about as many classes as possible: if all of them fail alike, it is not for one class.

Every outcome is written to the journal before anything else happens, and what the journal holds is not requested again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import nsmallest
from pathlib import Path
from typing import Any

from abs_core.canonical import digest
from abs_core.errors import ProviderError, UsageError
from abs_core.labels import LabelSet
from abs_core.remarks import RemarkCounter
from abs_descriptions.bundles import Generator, PromptSetEntry, Provenance
from abs_descriptions.bundles.format import MAX_CLASS_NAME, token_problem
from abs_descriptions.generation.circuit_breaker import CircuitBreaker, RepeatDetector
from abs_descriptions.generation.cleaning import description_key
from abs_descriptions.generation.cost import Budget
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.naming import NameMatcher
from abs_descriptions.generation.paid_replies import PaidReplies, PaidReply
from abs_descriptions.generation.plan import (
    ClassProgress,
    GenerationEstimate,
    GenerationPlan,
    GenerationProgress,
    GenerationResult,
    PromptedClass,
    StopReason,
    class_progress,
)
from abs_descriptions.generation.prompts import PromptSet
from abs_descriptions.generation.providers.base import (
    Adaptation,
    Failure,
    Outcome,
    Parameters,
    Provider,
    Reply,
    Request,
    Tokens,
    estimate_prompt_tokens,
    max_tokens_per_attempt,
    used_tokens,
)

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


_REASONED = "replies with reasoning, which is paid for and not kept: turn it off, or choose a model without it"

# The position of a class, and a sample number.
_SampleKey = tuple[int, int]


def run_generation(
    labels: LabelSet,
    prompts: PromptSet,
    provider: Provider,
    plan: GenerationPlan,
    *,
    classes: Sequence[PromptedClass] | None = None,
    journal: Journal | None = None,
    beside: Sequence[Path] = (),
    budget: Budget | None = None,
    on_progress: Callable[[GenerationProgress], None] = lambda _: None,
    may_ask: Callable[[], bool] = lambda: True,
) -> GenerationResult:
    """Write descriptions for every class.

    If everything fails alike, it ends after as many requests as go to the provider at once, and at least 12.

    Ctrl-C ends the run at once with what has arrived. Requests in flight are cancelled: no journal, total or budget
    accounts for what a server bills for them.

    Args:
        labels: the classes.
        prompts: what the language model is asked about each.
        provider: the language model.
        plan: how many descriptions are wanted and how they are sampled.
        classes: which of the classes are asked about, and in what context; None: each once, in none. The result has
            one entry of its report for each, and their descriptions in the same order.
        journal: where outcomes are recorded and found again; None records none.
        beside: the journals of other bundles, in which replies to the same requests are found as well.
        budget: no request is sent that could exceed it; None sets no limit.
        on_progress: called after each outcome.
        may_ask: called before each request, in a thread of the provider. False ends the run once the requests in
            flight, which are paid for, have been answered.

    Raises:
        UsageError: a plan that requests nothing, or a budget too small for a single request.
        FatalProviderError: a wrong key, an exhausted quota, an unknown model; the journal keeps what it has.
        ProviderError: no request of the first round got a usable reply, or none of the first replies is a description.
        StorageError: the journal cannot be written.
    """
    hooks = _Hooks(on_progress, may_ask)
    with _open(journal, beside, provider, plan) as paid:
        return _GenerationRun(labels, prompts, provider, plan, paid, classes, budget, hooks).result()


def estimate_requests(
    labels: LabelSet,
    prompts: PromptSet,
    provider: Provider,
    plan: GenerationPlan,
    *,
    classes: Sequence[PromptedClass] | None = None,
    journal: Journal | None = None,
    beside: Sequence[Path] = (),
) -> GenerationEstimate:
    """What ``run_generation`` would request with the same arguments. Sends nothing and writes nothing.

    Raises:
        UsageError: a plan that requests nothing.
        StorageError: the journal cannot be read.
    """
    with _open(journal, beside, provider, plan) as paid:
        return _GenerationRun(labels, prompts, provider, plan, paid, classes).estimate()


def _open(journal: Journal | None, beside: Sequence[Path], provider: Provider, plan: GenerationPlan) -> PaidReplies:
    return PaidReplies(journal, provider, beside=beside, by_server=plan.by_server)


def describe_generator(
    prompts: PromptSet, provider: Provider, parameters: Parameters, servers: Sequence[str] = ()
) -> Generator:
    """The header entry of a bundle: provider, model, parameters and prompt set, with an id made of their digest.

    Args:
        prompts: what is asked.
        provider: the language model.
        parameters: as they are sent.
        servers: the addresses that answered; by default the provider's.

    Raises:
        UsageError: a model name that a bundle cannot hold.
    """
    problem = token_problem(provider.model, MAX_CLASS_NAME)
    if problem is not None:
        raise UsageError(f"the name of the model {problem}", remedy="Check the name")
    settings: dict[str, Any] = {**provider.key(), **parameters.key()}
    if servers:
        settings["base_url"] = ", ".join(servers)
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
    expected: int = 0
    held: int = 0
    paid: Tokens = field(default_factory=Tokens)
    saved: Tokens = field(default_factory=Tokens)


@dataclass(frozen=True, slots=True)
class _Hooks:
    """What the caller of a generation is asked and told; see ``run_generation``."""

    on_progress: Callable[[GenerationProgress], None] = lambda _: None
    may_ask: Callable[[], bool] = lambda: True


_REPEATS = "the model gives the same reply again; a higher temperature or more prompts would change that"

# Outcomes that all fail alike before a run ends, unless more requests go to the provider at once.
_MIN_OUTCOMES = 12


class _GenerationRun:
    """One generation."""

    def __init__(
        self,
        labels: LabelSet,
        prompts: PromptSet,
        provider: Provider,
        plan: GenerationPlan,
        paid: PaidReplies,
        classes: Sequence[PromptedClass] | None = None,
        budget: Budget | None = None,
        hooks: _Hooks = _Hooks(),
    ) -> None:
        if plan.per_class < 1 or plan.tries < 1 or plan.parameters.max_tokens < 1:
            raise UsageError(
                "descriptions per class, tries and tokens must be at least 1, "
                f"got {plan.per_class}, {plan.tries} and {plan.parameters.max_tokens}",
                remedy="Give larger numbers",
            )
        self._prompts, self._provider, self._plan, self._paid = prompts, provider, plan, paid
        self._budget, self._hooks = budget, hooks
        self._generator = describe_generator(prompts, provider, plan.parameters)
        self._rules = replace(plan.rules, kind=prompts.kind, language=prompts.language)
        # A small model copies its examples with another name in them.
        self._example_keys = frozenset(
            description_key(example.text, NameMatcher(example.name)) for example in prompts.examples
        )
        self._classes = class_progress(labels, classes)
        self._counts = _Counts()
        self._failures: dict[str, None] = {}
        self._remarks = RemarkCounter(labels.remarks)
        self._stop: StopReason | None = None
        self._reason = ""
        self._cut_short = False
        # A batch holds all requests of a round and takes up to a day: neither its first ones nor one alone go ahead.
        self._is_batch = provider.name == "openai-batch"
        self._limit = max(_MIN_OUTCOMES, 1 if self._is_batch else getattr(provider, "concurrency", 1))
        self._breaker = CircuitBreaker(math.inf if self._is_batch else self._limit)
        self._repeats = RepeatDetector(self._limit, len(prompts.prompts), len(self._classes))
        self._dropped: list[_SampleKey] = []
        # How requests were changed for the model, and which addresses answered, the latest last.
        self._adaptations: dict[Adaptation, None] = {}
        self._servers: dict[str, None] = {}
        known = paid.known_adaptation()
        if known is not None:
            provider.adaptation = known

    def result(self) -> GenerationResult:
        """Run all rounds."""
        try:
            self._run_rounds()
        except KeyboardInterrupt:
            self._stop = StopReason.INTERRUPT
        except ProviderError:
            self._hooks.on_progress(self._progress())  # with what was sent for nothing
            raise
        for progress in self._classes:
            self._clean(progress)
        if self._cut_short and any(len(progress.descriptions) < self._plan.per_class for progress in self._classes):
            self._stop = self._stop or StopReason.COST
        for progress in self._classes:
            if progress.reasoned:
                self._remarks.add(_REASONED, progress.label.name, progress.reasoned)
        generator = self._final_generator()
        is_other = generator.id != self._generator.id
        return GenerationResult(
            generator=generator,
            descriptions=tuple(
                replace(record, provenance=replace(record.provenance, generator=generator.id)) if is_other else record
                for progress in self._classes
                for record in progress.descriptions
            ),
            rejected=tuple(
                replace(record, provenance=replace(record.provenance, generator=generator.id)) if is_other else record
                for progress in self._classes
                for record in progress.rejected
            ),
            report=tuple(progress.report() for progress in self._classes),
            wanted=self._plan.per_class,
            stop=self._stop,
            failures=tuple(self._failures)[:10],
            reason=self._reason,
            remarks=(*self._paid.remarks, *self._remarks.remarks),
        )

    def _run_rounds(self) -> None:
        first = True
        while self._stop is None and (samples := self._next_round()):
            pending = self._reuse(samples)
            if first:
                self._breaker.has_descriptions = self._counts.accepted > 0
                pending = _spread(pending, self._limit)
            self._request_all(pending)
            if first and self._stop is None and not self._counts.done:
                raise ProviderError(
                    f"none of {len(samples)} requests got a usable reply; the last one: {list(self._failures)[-1]}",
                    remedy="Check the model and the server",
                )
            first = False

    def _final_generator(self) -> Generator:
        """The generator of the replies that were used: other addresses and parameters than those of the plan, if so."""
        parameters = self._plan.parameters
        for adaptation in self._adaptations:
            parameters = adaptation.applied_to(parameters)
        return describe_generator(self._prompts, self._provider, parameters, sorted(filter(None, self._servers)))

    def estimate(self) -> GenerationEstimate:
        """Run the rounds that the journal answers and count what follows; a class with open requests is left alone."""
        pending: deque[_SampleKey] = deque()
        while round_samples := self._next_round():
            pending += (sample for sample in self._reuse(round_samples) if not self._is_useless(sample))
        prompt = sum(estimate_prompt_tokens(self._request(*sample).messages) for sample in pending)
        most = max(self._plan.parameters.max_tokens, self._provider.adaptation.min_tokens)
        billed = round(self._counts.saved.completion / max(1, self._counts.reused))
        completion = max(most, billed)
        samples = self._most_samples()
        max_requests = sum(
            max(0, progress.waiting + samples - progress.asked)
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
            held=counts.held,
            billed_completion=billed if billed > most else 0,
        )

    def _most_samples(self) -> int:
        """The most samples that are requested for a class."""
        useful = self._repeats.useful_samples
        return self._plan.limit if useful is None else min(useful, self._plan.limit)

    def _next_round(self) -> list[_SampleKey]:
        """The samples to request; none if every class has enough or has used up its tries."""
        most = self._most_samples()
        samples = [
            (position, sample)
            for position, progress in enumerate(self._classes)
            if not progress.waiting
            for sample in progress.next_samples(
                self._plan.per_class, self._breaker.most_samples(position, most), self._plan.per_reply
            )
        ]
        self._counts.asked += len(samples)
        return samples

    def _reuse(self, samples: list[_SampleKey]) -> deque[_SampleKey]:
        """Settle what the journal answers; returns the rest."""
        pending: deque[_SampleKey] = deque()
        for position, sample in samples:
            if self._paid.is_empty:
                pending.append((position, sample))
                continue
            request, number = self._request(position, sample), self._number(sample)
            self._counts.saved += self._paid.lost(request, number)
            found = self._paid.find(request, number)
            if found is None:
                pending.append((position, sample))
                continue
            self._counts.reused += 1
            self._counts.saved += used_tokens(request, found.outcome)
            self._settle(position, sample, found)
        return pending

    def _request_all(self, pending: deque[_SampleKey]) -> None:
        """Have the provider answer the rest of a round.

        The provider gets no more requests than the budget can pay if each costs its maximum. Once they are answered
        they have cost less, and it gets more, until the budget cannot pay another one. Nor does it get more than the
        circuit breaker allows.
        """
        while pending and self._stop is None:
            reason = self._breaker.initial_stop_reason()
            if reason:
                self._give_up(reason)
                return
            if not self._can_pay(pending[0]):
                self._stop = StopReason.COST
                return
            self._receive(self._provider.complete(self._requests(pending)))
            self._settle_dropped()
            if self._reason and self._stop is None:
                self._give_up(self._reason)

    def _settle_dropped(self) -> None:
        """Account for samples that were left out because it is known that they would give nothing."""
        for position, _ in self._dropped:
            progress = self._classes[position]
            progress.drop()
            self._clean_if_done(progress)
            is_refused = self._breaker.is_refused(position)
            why = "the model refuses everything about the class" if is_refused else _REPEATS
            self._remarks.add(f"requests not sent: {why}", progress.label.name)
        self._counts.asked -= len(self._dropped)
        self._dropped.clear()

    def _give_up(self, reason: str) -> None:
        """End the run because nothing more is worth its price: with what there is, or an error if there is nothing."""
        if self._counts.done:
            self._stop, self._reason = StopReason.FAILURES, reason
            return
        last = list(self._failures)[-1]
        raise ProviderError(
            reason if reason.endswith(last) else f"{reason}; the last one: {last}",
            remedy="Check the model and the server; the same command resumes",
        )

    def _can_pay(self, sample: _SampleKey) -> bool:
        budget, adaptation = self._budget, self._provider.adaptation
        if budget is None or budget.fits(self._request(*sample), adaptation):
            return True
        if not self._counts.done and not budget.spent:
            raise UsageError(
                f"the cost limit must cover one request, which costs up to "
                f"{budget.max_cost(self._request(*sample), adaptation):.2g}, got {budget.limit:g}",
                remedy="Raise the limit, or lower the number of tokens",
            )
        return False

    def _requests(self, pending: deque[_SampleKey]) -> Iterator[Request]:
        """Requests, taken from ``pending`` as the provider asks for them, in a thread of the provider."""
        budget, breaker = self._budget, self._breaker
        goes_alone = budget is not None and not budget.has_bill and not self._is_batch
        while pending and not self._reason:
            if not self._hooks.may_ask():
                self._stop = StopReason.REQUESTED
                return
            if self._is_useless(pending[0]):
                self._dropped.append(pending.popleft())
                continue
            if not breaker.may_send():
                return
            request = replace(self._request(*pending[0]), may_retry=breaker.may_retry)
            if budget is not None:
                if not budget.reserve(request, self._provider.adaptation):
                    breaker.take_back()
                    return
                request = replace(request, may_repeat=partial(self._may_repeat, budget, request))
            pending.popleft()
            yield request
            if goes_alone:
                return

    def _is_useless(self, sample: _SampleKey) -> bool:
        """Whether it is known that a sample will give nothing."""
        useful = self._repeats.useful_samples
        return self._breaker.is_refused(sample[0]) or (useful is not None and sample[1] >= useful)

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
        prompt, progress = self._prompts.prompts[sample % len(self._prompts.prompts)], self._classes[position]
        messages = self._prompts.messages(prompt, progress.label.name, progress.label.note, progress.context)
        return Request(messages, self._plan.parameters, sample, tag=position, answer=self._prompts.answer)

    def _number(self, sample: int) -> int:
        """The number of a sample among those of the same conversation."""
        return sample // len(self._prompts.prompts)

    def _record(self, request: Request, outcome: Outcome) -> None:
        if self._budget is not None:
            self._budget.settle(request, outcome)
        self._counts.paid += used_tokens(request, outcome)
        label = self._classes[request.tag].label
        context = {"class": label.id, "prompt": self._prompt_id(request.sample), "sample": request.sample}
        recorded = self._paid.add(request, self._number(request.sample), outcome, context)
        self._note_bill(request, outcome)
        self._judge(request, recorded.outcome)
        if isinstance(recorded.outcome, Reply):
            progress, wanted = self._classes[request.tag], self._plan.per_class
            self._counts.expected += progress.expect(recorded.outcome, self._rules, wanted, self._example_keys)
        self._settle(request.tag, request.sample, recorded)

    def _note_bill(self, request: Request, outcome: Outcome) -> None:
        """Remark what makes totals uncertain."""
        if not isinstance(outcome, Reply):
            return
        if not (outcome.prompt_tokens and outcome.completion_tokens):
            self._remarks.add("replies without token counts, counted with the maximum", self._paid.server)
        most = max_tokens_per_attempt(request, outcome.adaptation).completion
        if outcome.completion_tokens > most:
            count = f"{outcome.completion_tokens} instead of {most}"
            self._remarks.add("replies billed for more tokens than they may have, such as hidden reasoning", count)

    def _judge(self, request: Request, outcome: Outcome) -> None:
        """Tell the circuit breaker what became of a request."""
        breaker, progress = self._breaker, self._classes[request.tag]
        if isinstance(outcome, Failure):
            breaker.note_failure(request.tag, outcome)
        else:
            is_open = breaker.judges_replies
            breaker.note_reply(
                request.tag, progress.rejection(outcome, self._rules, self._example_keys) if is_open else None
            )
        self._reason = self._reason or breaker.recent_stop_reason()

    def _settle(self, position: int, sample: int, paid: PaidReply) -> None:
        progress, outcome = self._classes[position], paid.outcome
        progress.waiting -= 1
        if isinstance(outcome, Failure):
            progress.failed += 1
            self._counts.failed += 1
            # The latest reason comes last, even if it occurred before.
            self._failures.pop(outcome.reason, None)
            self._failures[outcome.reason] = None
        else:
            progress.replies[sample] = (paid.request, outcome)
            self._counts.done += 1
            self._counts.held += 1
            self._repeats.note(position, sample, outcome.text)
            self._servers[paid.server or self._paid.server] = None
            if outcome.adaptation != Adaptation():
                self._adaptations[outcome.adaptation] = None
                self._remarks.add(_adaptation_remark(outcome.adaptation), self._provider.model)
        self._clean_if_done(progress)
        self._hooks.on_progress(self._progress())

    def _clean_if_done(self, progress: ClassProgress) -> None:
        if progress.waiting == 0:
            self._clean(progress)

    def _clean(self, progress: ClassProgress) -> None:
        self._counts.held -= len(progress.replies)
        self._counts.expected -= progress.count(self._plan.per_class)
        self._counts.accepted += progress.clean_replies(
            self._rules, self._plan.per_class, self._example_keys, self._provenance
        )
        self._counts.expected += progress.count(self._plan.per_class)

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
            held=counts.held,
            sent=self._breaker.sent,
            expected=counts.expected,
        )


def _spread(pending: deque[_SampleKey], count: int) -> deque[_SampleKey]:
    """The first ``count`` samples about as many classes as possible, then the others in their order."""
    first = nsmallest(count, pending, key=lambda sample: (sample[1], sample[0]))
    chosen = set(first)
    return deque([*first, *(sample for sample in pending if sample not in chosen)])


def _adaptation_remark(adaptation: Adaptation) -> str:
    """How the requests of replies were changed for the model, in words."""
    unsent = ["a system message" if name == "system" else name for name in adaptation.unsent]
    without = f"without {', '.join(unsent)}" if unsent else ""
    longer = f"with up to {adaptation.min_tokens} tokens" if adaptation.min_tokens else ""
    renamed = f"with {', '.join(new for _, new in adaptation.renamed)}" if adaptation.renamed else ""
    return f"replies requested {' and '.join(filter(None, (without, longer or renamed)))}, as the model requires"


def _close(outcomes: Iterator[tuple[Request, Outcome]]) -> None:
    """Have a provider clean up if it is a generator."""
    close = getattr(outcomes, "close", None)
    if close is not None:
        close()
