"""From a label set to a bundle: every input is checked before the first request, and the outcome is kept.

``generate`` is what ``abs gen-descriptions`` runs, ``estimate_cost`` what it runs with ``--dry-run``.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from abs_core.errors import ProviderError, UsageError
from abs_core.labels import LabelSet, read_labels
from abs_core.progress import Advance, Progress, no_progress
from abs_core.text import counted, quoted
from abs_descriptions.bundles import Bundle, Generator, write_bundle
from abs_descriptions.bundles.references import name_problem
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import add_version, check_output, child_version, find_same_version, timestamp
from abs_descriptions.generation.cost import Budget, Prices
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.prompts import PromptSet, read_prompts
from abs_descriptions.generation.providers.base import Provider, Tokens
from abs_descriptions.generation.providers.model_files import EMBEDDED
from abs_descriptions.generation.report import (
    CostEstimate,
    CostSummary,
    GenerationSummary,
    check_report_path,
    rejection_counts,
    write_report,
)
from abs_descriptions.generation.runner import (
    GenerationPlan,
    GenerationProgress,
    GenerationResult,
    StopReason,
    describe_generator,
    estimate_requests,
    run_generation,
)

__all__ = [
    "GenerationMonitor",
    "budget_of",
    "default_prompts",
    "estimate_cost",
    "generate",
    "journals_beside",
    "nothing_usable",
    "open_journal",
]

_logger = logging.getLogger(__name__)

# The version of a bundle that goes into a file and not into a repository.
_FIRST_VERSION = "1.0.0"


def default_prompts(provider: Provider) -> str:
    """The prompt set for a language model: ``objects-small`` for the embedded one, ``objects`` for all others."""
    return "objects-small" if provider.name in ("local", "vllm") and provider.model == EMBEDDED else "objects"


def generate(
    labels: LabelSet | str | Path,
    name: str,
    provider: Provider,
    *,
    output: Repository | Path,
    prompts: PromptSet | str | Path | None = None,
    plan: GenerationPlan | None = None,
    journals: Path | None = None,
    prices: Prices | None = None,
    max_cost: float | None = None,
    report: Path | None = None,
    version: str | None = None,
    license: str = "not stated",
    progress: Progress = no_progress,
    may_ask: Callable[[], bool] = lambda: True,
) -> GenerationSummary:
    """Write descriptions of every class with a language model and keep them as a bundle.

    A repository that has a version with exactly this content gets no new one. Ctrl-C keeps what has arrived.

    Args:
        labels: a label set, a file or folder, or the name of a shipped set.
        name: of the bundle, and of its journal.
        provider: the language model, see ``build_provider``.
        output: a repository, which gets a new version, or the file to write.
        prompts, plan, journals, prices: as of ``estimate_cost``.
        max_cost: no request is sent that could exceed this cost; needs ``prices``.
        report: a .csv or .json file for one line about each class.
        version: of the bundle, as ``child_version`` takes it; of a file ``X.Y.Z``, None being 1.0.0.
        license: of the descriptions.
        progress: shows how far the work is.
        may_ask: as in ``run_generation``.

    Returns:
        What was kept, requested and paid. A partial bundle has ``result.complete`` False.

    Raises:
        LabelError, PromptError, UnknownNameError, UsageError, BundleError: an unusable input; nothing was requested.
        ProviderError: the model gives no usable reply, or no reply that is a description; the journal has the replies.
        StorageError: the repository, a file or the journal cannot be written.
    """
    start = time.monotonic()
    inputs, budget = _Inputs.of(labels, name, provider, prompts, plan, journals), budget_of(prices, max_cost)
    if report is not None:
        check_report_path(report)
    target = _Target(output, name, inputs.labels, license, version)
    target.check(describe_generator(inputs.prompts, provider, inputs.plan.parameters))
    monitor = GenerationMonitor(prices, progress, is_journaled=journals is not None)
    with monitor.spent_in_errors():
        with monitor:
            result = inputs.run(provider, budget, monitor.update, may_ask)
        if report is not None:
            write_report(report, result)
        reference, is_new = _keep(target, result)
        seconds = time.monotonic() - start
        if reference is not None:
            _logger.info(monitor.summary(seconds))
    return GenerationSummary(reference, is_new, result, monitor.reused, monitor.cost, seconds)


def estimate_cost(
    labels: LabelSet | str | Path,
    name: str,
    provider: Provider,
    *,
    prompts: PromptSet | str | Path | None = None,
    plan: GenerationPlan | None = None,
    journals: Path | None = None,
    prices: Prices | None = None,
) -> CostEstimate:
    """What ``generate`` would request with the same arguments, and its cost. Sends nothing and writes nothing.

    Args:
        labels, name, provider: as of ``generate``.
        prompts: a prompt set, a YAML file, or the id of a shipped set; None: ``default_prompts``.
        plan: how many descriptions are wanted and how they are sampled.
        journals: a folder. Replies are recorded in ``NAME.jsonl`` in it, and found again there; None records none.
        prices: of the model; None computes no cost.

    Raises:
        LabelError, PromptError, UnknownNameError, UsageError: an input that cannot be used.
        StorageError: the journal cannot be read.
    """
    inputs = _Inputs.of(labels, name, provider, prompts, plan, journals)
    with open_journal(inputs.journal, read_only=True) as journal:
        estimate = estimate_requests(
            inputs.labels,
            inputs.prompts,
            provider,
            inputs.plan,
            journal=journal,
            beside=journals_beside(inputs.journal),
        )
    return CostEstimate(estimate, prices)


@dataclass(frozen=True)
class _Inputs:
    """What is read before anything is requested."""

    labels: LabelSet
    prompts: PromptSet
    plan: GenerationPlan
    journal: Path | None

    @classmethod
    def of(
        cls,
        labels: LabelSet | str | Path,
        name: str,
        provider: Provider,
        prompts: PromptSet | str | Path | None,
        plan: GenerationPlan | None,
        journals: Path | None,
    ) -> _Inputs:
        """Read the labels and the prompts, and check the name, which is the name of a file as well."""
        label_set = labels if isinstance(labels, LabelSet) else read_labels(labels)
        problem = name_problem(name)
        if problem is not None:
            raise UsageError(f"the bundle name {quoted(name)} {problem}", remedy="Choose another name")
        prompts = default_prompts(provider) if prompts is None else prompts
        prompt_set = prompts if isinstance(prompts, PromptSet) else read_prompts(prompts)
        return cls(
            label_set, prompt_set, plan or GenerationPlan(), None if journals is None else journals / f"{name}.jsonl"
        )

    def run(
        self,
        provider: Provider,
        budget: Budget | None,
        on_progress: Callable[[GenerationProgress], None],
        may_ask: Callable[[], bool],
    ) -> GenerationResult:
        """Generate, with the journal held."""
        with open_journal(self.journal) as journal:
            return run_generation(
                self.labels,
                self.prompts,
                provider,
                self.plan,
                journal=journal,
                beside=journals_beside(self.journal),
                budget=budget,
                on_progress=on_progress,
                may_ask=may_ask,
            )


def journals_beside(journal: Path | None) -> list[Path]:
    """The journals of other bundles in the folder of a journal."""
    if journal is None:
        return []
    return [path for path in sorted(journal.parent.glob("*.jsonl")) if path != journal and path.is_file()]


def open_journal(path: Path | None, *, read_only: bool = False) -> Journal | nullcontext[None]:
    """A journal, if there is one, for a ``with`` block; warns of what is damaged in it.

    Raises:
        StorageError: it is not a journal, is in use by another run, or cannot be read or written.
    """
    if path is None:
        return nullcontext()
    journal = Journal(path, read_only=read_only)
    if journal.damaged:
        lines = counted(len(journal.damaged), "damaged line", "damaged lines")
        _logger.warning("ignoring %s of the journal; the replies in it are requested again", lines)
    if journal.was_cut_off:
        _logger.info("the last line of the journal was incomplete and is removed; its request is sent again")
    return journal


def budget_of(prices: Prices | None, max_cost: float | None) -> Budget | None:
    """The budget of a run; None without a cost limit.

    Raises:
        UsageError: a limit without prices, or one that is not a positive number.
    """
    if max_cost is None:
        return None
    if prices is None:
        raise UsageError("a cost limit needs prices", remedy="Give the prices of the model")
    return Budget(prices, max_cost)


@dataclass(frozen=True)
class _Target:
    """Where the bundle goes, and what its header says whatever the model writes."""

    output: Repository | Path
    name: str
    labels: LabelSet
    license: str
    version: str | None

    def check(self, generator: Generator) -> None:
        """Write an empty bundle, so that what a bundle cannot hold is refused before anything is paid for."""
        with tempfile.TemporaryDirectory(dir=check_output(self.output), prefix=".checking-") as folder:
            self.write(Path(folder) / f"{self.name}.jsonl", self.number(), timestamp(), generator)

    def number(self) -> str:
        """The version of the bundle; errors as ``child_version``."""
        if isinstance(self.output, Repository):
            return child_version(self.output, self.name, chosen=self.version)
        return self.version or _FIRST_VERSION

    def write(
        self, path: Path, version: str, created: str, generator: Generator, result: GenerationResult | None = None
    ) -> Bundle:
        """Write the bundle to a file."""
        return write_bundle(
            path,
            name=self.name,
            version=version,
            created=created,
            label_set=self.labels,
            generators=[generator],
            license=self.license,
            records=result.descriptions if result else (),
            rejected=result.rejected if result else (),
            complete=result.complete if result else False,
        )


def _keep(target: _Target, result: GenerationResult) -> tuple[str | None, bool]:
    """The pinned reference of the bundle, and whether it was written now; None if there is nothing to keep."""
    if not result.descriptions:
        if result.stop in (StopReason.INTERRUPT, StopReason.REQUESTED):
            return None, False
        raise nothing_usable(result)

    def write(path: Path, version: str, created: str) -> Bundle:
        return target.write(path, version, created, result.generator, result)

    repository = target.output
    if not isinstance(repository, Repository):
        return write(repository, target.number(), timestamp()).reference, True
    same = find_same_version(repository, target.name, len(result.descriptions), write)
    if same is None:
        version = target.number()
        return str(add_version(repository, lambda path: write(path, version, timestamp()))), True
    if repository.yank_of(same) is None and (current := repository.resolve(target.name)) != same:
        _logger.info(
            "%s alone means %s@%s, not %s@%s", target.name, current.name, current.version, same.name, same.version
        )
    return str(same), False


def nothing_usable(result: GenerationResult) -> ProviderError:
    """The error of a run in which no reply is a description: how many there were, and why none is."""
    replies = sum(line.asked - line.failed for line in result.report)
    is_cost = result.stop is StopReason.COST
    why = "the cost limit is reached and " if is_cost else f"{result.reason}; " if result.reason else ""
    reasons = ", ".join(f"{reason} {count}" for reason, count in rejection_counts(result).most_common()) or "none"
    failed = f"; the last failed request: {result.failures[-1]}" if result.failures else ""
    look = (
        "Look at the replies in the journal, which are cleaned again at no cost, and change the class names, the "
        "model, the prompts or --max-tokens"
    )
    return ProviderError(
        f"{why}none of {replies} replies is a description; rejected: {reasons}{failed}",
        remedy="Raise the limit, or choose a model that costs less" if is_cost and not replies else look,
    )


class GenerationMonitor:
    """Shows the progress of a generation and remembers the latest figures.

    Args:
        prices: of the model; None: no cost is shown.
        progress: shows how far the work is.
        is_journaled: whether replies are kept.
        earlier: of the generation before in the same run, whose tokens and requests count as well.
    """

    def __init__(
        self,
        prices: Prices | None,
        progress: Progress,
        *,
        is_journaled: bool,
        earlier: GenerationMonitor | None = None,
    ) -> None:
        self._prices, self._progress, self._is_journaled, self._earlier = prices, progress, is_journaled, earlier
        self._display = ExitStack()
        self._advance: Advance | None = None
        self._latest: GenerationProgress | None = None
        self._accepted = self._held = self._shown = 0

    def __enter__(self) -> GenerationMonitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.close()
        if error is not None and not isinstance(error, ProviderError) and self._journaled():
            _logger.info("%s; the same command resumes from there", self._journaled())

    @contextmanager
    def spent_in_errors(self) -> Iterator[None]:
        """Have an error of the provider say what was spent and what was kept."""
        try:
            yield
        except ProviderError as error:
            sent = counted(self._sent, "request was", "requests were")
            said = [error.message, f"{sent} sent: {self.cost.paid_text()}", self._journaled()]
            raise type(error)("; ".join(filter(None, said)), remedy=error.remedy) from error

    def _journaled(self) -> str:
        """How many replies are in the journal; empty if none is."""
        if not self._is_journaled or not self._done:
            return ""
        return counted(self._done, "reply is in the journal", "replies are in the journal")

    @property
    def _done(self) -> int:
        return (self._latest.done if self._latest else 0) + (self._earlier._done if self._earlier else 0)

    @property
    def _sent(self) -> int:
        return (self._latest.sent if self._latest else 0) + (self._earlier._sent if self._earlier else 0)

    def update(self, latest: GenerationProgress) -> None:
        """Show the state after an outcome."""
        self._latest = latest
        if latest.done + latest.failed == latest.reused:
            self._accepted, self._held = latest.accepted, latest.held
            self._shown = latest.accepted
            return
        if self._advance is None:
            # What the journal supplied counts neither for the rate nor for the remaining time.
            if latest.reused:
                _logger.info(_reuse_text(latest, self._held, self._accepted))
            remaining = latest.wanted - self._accepted
            self._advance = self._display.enter_context(self._progress("describing", remaining, "sentences"))
        # in time: a class counts as a whole only when all of its replies are there, which may be much later
        step, self._shown = latest.expected - self._shown, latest.expected
        cost = "" if self._prices is None else f", cost {self._prices.cost(latest.paid):.4f}"
        replies = f"{latest.done - latest.reused} of {latest.asked - latest.reused} replies"
        self._advance(step, f"{replies}, {latest.failed} failed, {latest.paid.total} tokens{cost}")

    @property
    def reused(self) -> int:
        """Replies that came from the journal."""
        return (self._latest.reused if self._latest else 0) + (self._earlier.reused if self._earlier else 0)

    @property
    def cost(self) -> CostSummary:
        """Tokens so far."""
        before = self._earlier.cost if self._earlier else CostSummary(Tokens(), Tokens(), None)
        if self._latest is None:
            return before
        return CostSummary(before.paid + self._latest.paid, before.saved + self._latest.saved, self._prices)

    def summary(self, seconds: float) -> str:
        """One line at the end: replies, tokens and their rate."""
        latest = self._latest
        if latest is None or latest.done + latest.failed == latest.reused:
            return f"every reply came from the journal, {seconds:.1f} s"
        rate = latest.paid.completion / max(seconds, 1e-9)
        requests = latest.done + latest.failed - latest.reused
        at_most = "at most " if latest.paid.unstated else ""
        return f"{requests} replies, {at_most}{latest.paid.completion} tokens, {rate:.0f} tokens/s, {seconds:.1f} s"


def _reuse_text(latest: GenerationProgress, held: int, accepted: int) -> str:
    """What the journal supplied, and what waits for the replies that are requested now."""
    text = f"{counted(latest.reused, 'reply', 'replies')} from the journal: {accepted} of {latest.wanted} sentences"
    if not held:
        return text
    wait = "1 reply waits" if held == 1 else f"{held} replies wait"
    return f"{text}; {wait} for the other replies of the same class, with which they are cleaned in order"
