"""A label set and a language model to a bundle in the store: what is unchanged stays the version that it was."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_cli.console import Interrupts, note, progress
from abs_core.errors import BackendError, UsageError
from abs_core.files import ensure_writable
from abs_core.home import Home
from abs_core.progress import Advance
from abs_descriptions.bundles.new_versions import add_version, find_same_version, timestamp
from abs_descriptions.generation.report import (
    CostEstimate,
    CostSummary,
    GenerationSummary,
    check_report,
    reasons,
    write_report,
)

if TYPE_CHECKING:
    from abs_core.labels import LabelSet
    from abs_descriptions.bundles import Bundle
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.generation.cleaning import CleaningRules
    from abs_descriptions.generation.cost import Budget, Prices
    from abs_descriptions.generation.journal import Journal
    from abs_descriptions.generation.prompts import PromptSet
    from abs_descriptions.generation.providers.base import Provider
    from abs_descriptions.generation.runner import GenerationPlan, GenerationProgress, GenerationResult

__all__ = ["GenerationOptions", "generate_bundle", "look_ahead"]


@dataclass(frozen=True)
class GenerationOptions:
    """What `abs gen-descriptions` may be told, with the names of its options.

    Args:
        reach: the fields of ``BackendOptions`` that have an option; None leaves one to the backend.
    """

    backend: str
    reach: Mapping[str, Any]
    prompts: str
    per_class: int
    tries: int
    max_tokens: int
    temperature: float
    seed: int
    fit_model: str | None
    price_in: float | None
    price_out: float | None
    prices: Path | None
    max_cost: float | None
    report: Path | None
    licence: str


@dataclass(frozen=True)
class _Job:
    """Everything that can be wrong about an input has been looked at when there is one."""

    label_set: LabelSet
    store: Repository
    backend: Provider
    prompts: PromptSet
    plan: GenerationPlan
    prices: Prices | None
    budget: Budget | None
    journal: Path


def generate_bundle(home: Home, labels: str, name: str, options: GenerationOptions) -> GenerationSummary:
    """Write descriptions of a label set and keep them as a bundle.

    Raises:
        LabelError, PromptError, UnknownNameError, UsageError, BundleError: an input that cannot be used; nothing was
            asked.
        BackendError: the model gives no usable reply, or none that is a description; what it gave is in the journal.
        StorageError: the store or the journal cannot be written.
    """
    from abs_descriptions.generation.journal import Journal
    from abs_descriptions.generation.runner import describe_generator, generate

    start = time.monotonic()
    job = _prepare(home, labels, name, options, home.cache / "derived")
    ensure_writable(home.root)
    if options.report is not None:
        check_report(options.report)
    _check_header(home, name, job, describe_generator(job.prompts, job.backend, job.plan.parameters), options.licence)
    watcher = _Watcher(job.prices)
    with Journal(job.journal) as journal, watcher, Interrupts() as interrupts:
        _note_damage(journal)
        result = generate(
            job.label_set,
            job.prompts,
            job.backend,
            job.plan,
            journal=journal,
            budget=job.budget,
            on_progress=watcher.see,
            may_ask=lambda: not interrupts.asked,
        )
    if options.report is not None:
        write_report(options.report, result)
    _check_result(result)
    reference, is_new = _keep(job.store, name, job.label_set, result, options.licence)
    seconds = time.monotonic() - start
    note(watcher.summary(seconds))
    return GenerationSummary(reference, is_new, result, watcher.reused, watcher.cost, seconds)


def look_ahead(home: Home, labels: str, name: str, options: GenerationOptions) -> CostEstimate:
    """What ``generate_bundle`` would ask with the same arguments. Asks nothing and writes nothing.

    Raises:
        LabelError, PromptError, UnknownNameError, UsageError: an input that cannot be used.
        StorageError: the journal cannot be read.
    """
    from abs_descriptions.generation import runner as generation
    from abs_descriptions.generation.journal import Journal

    if options.report is not None:
        raise UsageError("a dry run writes no file, so there is no report", remedy="Leave out --report or --dry-run")
    job = _prepare(home, labels, name, options, None)
    with Journal(job.journal, read_only=True) as journal:
        _note_damage(journal)
        return CostEstimate(
            generation.estimate(job.label_set, job.prompts, job.backend, job.plan, journal=journal), job.prices
        )


def _prepare(home: Home, labels: str, name: str, options: GenerationOptions, derived: Path | None) -> _Job:
    """Look at every input. ``derived`` keeps what an image-text model computes from its weights; None keeps nothing."""
    from abs_core.labels import read_labels
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.generation.cost import Budget
    from abs_descriptions.generation.providers.base import Parameters
    from abs_descriptions.generation.runner import GenerationPlan

    label_set = read_labels(labels)
    store = Repository.local(home.bundles)
    store.next_version(name)  # refuses a bad name before any work
    backend = _backend(home, options)
    prices = _prices(backend.model, options)
    if options.max_cost is not None and prices is None:
        raise UsageError("a cost limit needs prices", remedy="Give --price-in and --price-out, or --prices FILE")
    plan = GenerationPlan(
        per_class=options.per_class,
        tries=options.tries,
        parameters=Parameters(max_tokens=options.max_tokens, temperature=options.temperature, seed=options.seed),
        rules=_rules(home, options.fit_model, derived),
    )
    budget = None if prices is None or options.max_cost is None else Budget(prices, options.max_cost)
    journal = home.journals / f"{name}.jsonl"
    return _Job(label_set, store, backend, _prompts(options), plan, prices, budget, journal)


def _backend(home: Home, options: GenerationOptions) -> Provider:
    from abs_descriptions.generation.providers.registry import ProviderOptions, build_provider

    variable = options.reach.get("key_variable")
    # Whoever gives the key itself must not find it in a log.
    if variable is not None and variable not in os.environ and not re.fullmatch("[A-Z_][A-Z0-9_]{0,60}", variable):
        raise UsageError(
            "--key-variable names no environment variable that is set",
            remedy="Put the key into a variable such as MY_KEY, and give that name, not the key",
        )
    # A cache may be emptied; what is known of paid batches stays with what else is paid.
    keep = home.journals if options.backend == "openai-batch" else home.cache / "derived"
    return build_provider(options.backend, ProviderOptions(**options.reach, keep=keep))


def _prices(model: str, options: GenerationOptions) -> Prices | None:
    from abs_descriptions.generation.cost import Prices, read_prices

    given = (options.price_in, options.price_out)
    if options.prices is not None:
        if given != (None, None):
            raise UsageError("--prices and --price-in or --price-out exclude each other", remedy="Give one of them")
        return read_prices(options.prices, model)
    if options.price_in is None and options.price_out is None:
        return None
    if options.price_in is None or options.price_out is None:
        raise UsageError("there is a price for one direction only", remedy="Give both --price-in and --price-out")
    return Prices(options.price_in, options.price_out)


def _rules(home: Home, model: str | None, derived: Path | None) -> CleaningRules:
    """The rules of cleaning, with the token limit of an image-text model where one is named."""
    from abs_descriptions.generation.cleaning import CleaningRules

    if model is None:
        return CleaningRules()
    from abs_classify.models.registry import load_model, local_names
    from abs_classify.models.store import WeightsStore

    note(f"loading {model}")
    local = local_names(WeightsStore(home.models), model, "none")[0]
    loaded = load_model(local, device="cpu", derived=derived)
    return CleaningRules(count_tokens=loaded.count_tokens, token_limit=loaded.context_length)


def _prompts(options: GenerationOptions) -> PromptSet:
    from abs_descriptions.generation.prompts import read_prompts

    small = options.backend in ("local", "vllm") and options.reach.get("model") is None
    default = "objects-small" if small else "objects"
    return read_prompts(default if options.prompts == "auto" else options.prompts)


def _note_damage(journal: Journal) -> None:
    count = len(journal.damaged)
    if count:
        lines, they = ("line of the journal is", "it") if count == 1 else ("lines of the journal are", "they")
        note(f"{count} damaged {lines} left out; what {they} held is asked again")


class _Watcher:
    """Shows how far a generation is, and remembers the last figures."""

    def __init__(self, prices: Prices | None) -> None:
        self._prices = prices
        self._shown = ExitStack()
        self._advance: Advance | None = None
        self._now: GenerationProgress | None = None
        self._accepted = 0

    def __enter__(self) -> _Watcher:
        return self

    def __exit__(self, *error: Any) -> None:
        self._shown.close()
        now = self._now
        if error[0] is not None and now is not None and now.done:
            note(f"{now.done} replies are in the journal; the same command goes on from there")

    def see(self, now: GenerationProgress) -> None:
        """Take note of a step."""
        self._now = now
        if now.done + now.failed == now.reused:
            self._accepted = now.accepted
            return
        if self._advance is None:
            # What the journal gave is no part of the rate, nor of the time that is left.
            if now.reused:
                note(f"{now.reused} replies from the journal, {self._accepted} of {now.wanted} sentences")
            left = now.wanted - self._accepted
            self._advance = self._shown.enter_context(progress("describing", left, "sentences"))
        step, self._accepted = now.accepted - self._accepted, now.accepted
        cost = "" if self._prices is None else f", cost {self._prices.cost(now.paid):.4f}"
        fresh = now.done - now.reused
        self._advance(step, f"{fresh} replies, {now.failed} failed, {now.paid.total} tokens{cost}")

    @property
    def reused(self) -> int:
        """Replies that came from the journal."""
        return self._now.reused if self._now else 0

    @property
    def cost(self) -> CostSummary:
        """Tokens so far."""
        from abs_descriptions.generation.providers.base import Tokens

        return (
            CostSummary(self._now.paid, self._now.saved, self._prices)
            if self._now
            else CostSummary(Tokens(), Tokens(), None)
        )

    def summary(self, seconds: float) -> str:
        """The last line: replies, tokens and their rate."""
        now = self._now
        if now is None or now.done + now.failed == now.reused:
            return f"every reply came from the journal, {seconds:.1f} s"
        rate = now.paid.completion / max(seconds, 1e-9)
        fresh = now.done + now.failed - now.reused
        most = "at most " if now.paid.unstated else ""
        return f"{fresh} replies, {most}{now.paid.completion} tokens, {rate:.0f} tokens/s, {seconds:.1f} s"


def _check_result(result: GenerationResult) -> None:
    """Refuse to store nothing."""
    if result.descriptions:
        return
    if result.stop in ("interrupted", "told to stop"):
        raise KeyboardInterrupt  # there is nothing to keep but the journal
    replies = sum(line.asked - line.failed for line in result.report)
    limit = "the cost limit is reached and " if result.stop else ""
    failed = f"; the last failed request: {result.failures[-1]}" if result.failures else ""
    raise BackendError(
        f"{limit}not one of {replies} replies is a description; rejected: {reasons(result)}{failed}",
        remedy="Look at the replies in the journal, and change the model, the prompts or --max-tokens",
    )


def _check_header(home: Home, name: str, job: _Job, generator: Any, licence: str) -> None:
    """Write a bundle of nothing, so that what a bundle cannot hold is refused before anything is paid."""
    with tempfile.TemporaryDirectory(dir=home.root, prefix=".checking-") as folder:
        _write(Path(folder) / f"{name}.jsonl", name, "1.0.0", timestamp(), job.label_set, [generator], licence)


def _keep(
    store: Repository, name: str, label_set: LabelSet, result: GenerationResult, licence: str
) -> tuple[str, bool]:
    """The pinned reference, and whether it is new: a version of the same content is mended, not repeated."""

    def write(path: Path, version: str, created: str) -> Bundle:
        return _write(path, name, version, created, label_set, [result.generator], licence, result)

    again = find_same_version(store, name, len(result.descriptions), write)
    if again is None:
        return str(add_version(store, lambda path: write(path, store.next_version(name), timestamp()))), True
    if store.yank_of(again) is None and (meant := store.resolve(name)) != again:
        note(f"{name} alone means {meant.name}@{meant.version}, not {again.name}@{again.version}")
    return str(again), False


def _write(
    path: Path,
    name: str,
    version: str,
    created: str,
    label_set: LabelSet,
    generators: list[Any],
    licence: str,
    result: GenerationResult | None = None,
) -> Bundle:
    from abs_descriptions.bundles import write_bundle

    return write_bundle(
        path,
        name=name,
        version=version,
        created=created,
        label_set=label_set,
        generators=generators,
        license=licence,
        records=result.descriptions if result else (),
        rejected=result.rejected if result else (),
        complete=result.complete if result else False,
    )
