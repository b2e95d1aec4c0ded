"""What a generation is asked for and what it gives: the plan, the progress, the result and the estimate. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from abs_core.remarks import Remark
from abs_descriptions.bundles import Description, Generator, Rejection
from abs_descriptions.generation.class_progress import ClassReport
from abs_descriptions.generation.cleaning import CleaningRules
from abs_descriptions.generation.providers.base import Parameters, Tokens

__all__ = ["GenerationEstimate", "GenerationPlan", "GenerationProgress", "GenerationResult", "StopReason"]


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
    """

    per_class: int = 20
    tries: int = 4
    parameters: Parameters = field(default_factory=Parameters)
    rules: CleaningRules = field(default_factory=CleaningRules)
    by_server: bool = False

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
