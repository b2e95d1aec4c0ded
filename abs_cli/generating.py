"""A label set and a language model to a bundle in the store: what is unchanged stays the version that it was."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_cli.console import note, progress
from abs_cli.home import Home
from abs_cli.importing import timestamp
from abs_core.files import ensure_writable
from abs_core.printable import printable

if TYPE_CHECKING:
    from abs_descriptions.backends.base import Backend
    from abs_descriptions.bundle import Bundle
    from abs_descriptions.generation import GenerationResult, Progress
    from abs_descriptions.labels import LabelSet
    from abs_descriptions.prompts import PromptSet
    from abs_descriptions.store import BundleStore

__all__ = ["GenerationOptions", "Made", "generate_bundle"]


@dataclass(frozen=True)
class GenerationOptions:
    """What `abs gen-descriptions` may be told, with the names of its options."""

    backend: str
    model: str | None
    base_url: str | None
    key_variable: str | None
    prompts: str
    per_class: int
    tries: int
    max_tokens: int
    temperature: float
    seed: int
    batch_size: int | None
    concurrency: int | None
    threads: int | None
    licence: str


@dataclass(frozen=True)
class Made:
    """What came of it.

    Args:
        reference: the bundle, pinned.
        is_new: whether the store got a new version.
        result: what the generation gave.
        reused: replies that were not paid for again.
        seconds: of the whole command.
    """

    reference: str
    is_new: bool
    result: GenerationResult
    reused: int
    seconds: float

    @property
    def _asked(self) -> int:
        return sum(line.asked for line in self.result.report)

    def text(self) -> str:
        """For a terminal: the reference, what was kept and why the rest was not."""
        result = self.result
        reasons = Counter(dict[str, int]())
        for line in result.report:
            reasons.update(line.rejected)
        why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        fewest = min(result.report, key=lambda line: line.accepted)
        lines = [
            self.reference,
            f"  {len(result.descriptions)} sentences of {len(result.report)} classes; "
            f"fewest: {fewest.accepted} of {printable(fewest.name)}",
            f"  {self._asked} replies, {self.reused} of them from the journal; rejected: {why or 'none'}",
        ]
        if not self.is_new:
            lines.append("  unchanged: the store has this version already")
        if result.stopped:
            lines.append("  PARTIAL: interrupted; the same command goes on from here")
        for line in result.short:
            lines.append(f"  short: {printable(line.name)} has {line.accepted} of {result.wanted}")
        lines += [f"  failed: {printable(reason)}" for reason in result.failures]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "bundle": self.reference,
            "new": self.is_new,
            "complete": self.result.complete,
            "replies": self._asked,
            "reused": self.reused,
            "seconds": round(self.seconds, 3),
            "failures": list(self.result.failures),
            "classes": [
                {
                    "id": line.class_id,
                    "name": line.name,
                    "asked": line.asked,
                    "accepted": line.accepted,
                    "failed": line.failed,
                    "rejected": dict(line.rejected),
                }
                for line in self.result.report
            ],
        }


def generate_bundle(home: Home, labels: str, name: str, options: GenerationOptions) -> Made:
    """Write descriptions of a label set and keep them as a bundle.

    Raises:
        LabelError, PromptError, UnknownNameError, UsageError: an input that cannot be used; nothing was asked.
        BackendError: the model gives no usable reply; what it gave before is in the journal.
        StorageError: the store or the journal cannot be written.
    """
    from abs_descriptions.backends.base import Parameters
    from abs_descriptions.generation import Plan, generate
    from abs_descriptions.journal import Journal
    from abs_descriptions.labels import read_labels
    from abs_descriptions.store import BundleStore

    start = time.monotonic()
    label_set = read_labels(labels)
    store = BundleStore(home.bundles)
    store.next_version(name)  # refuses a bad name before any work
    backend = _backend(home, options)
    prompts = _prompts(options)
    plan = Plan(
        per_class=options.per_class,
        tries=options.tries,
        parameters=Parameters(max_tokens=options.max_tokens, temperature=options.temperature, seed=options.seed),
    )
    ensure_writable(home.root)
    watcher = _Watcher(label_set, options.per_class)
    with Journal(home.journals / f"{name}.jsonl") as journal, watcher:
        result = generate(label_set, prompts, backend, plan, journal=journal, on_progress=watcher.see)
    if result.stopped and not result.descriptions:
        raise KeyboardInterrupt  # there is nothing to keep but the journal
    reference, is_new = _keep(home, store, name, label_set, result, options.licence)
    seconds = time.monotonic() - start
    if watcher.asked and watcher.reused == watcher.asked:
        note(f"every reply came from the journal, {seconds:.1f} s")
    else:
        rate = watcher.tokens / max(seconds, 1e-9)
        note(f"{watcher.asked - watcher.reused} replies, {watcher.tokens} tokens, {rate:.0f} tokens/s, {seconds:.1f} s")
    return Made(reference, is_new, result, watcher.reused, seconds)


class _Watcher:
    """Shows how far a generation is, and remembers the last figures."""

    def __init__(self, label_set: LabelSet, per_class: int) -> None:
        self._progress = progress("describing", len(label_set.classes) * per_class, "sentences")
        self._accepted = 0
        self.asked = self.reused = self.tokens = 0

    def __enter__(self) -> _Watcher:
        self._advance = self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)

    def see(self, now: Progress) -> None:
        """Take note of a step."""
        self.asked, self.reused, self.tokens = now.done + now.failed, now.reused, now.completion_tokens
        step, self._accepted = now.accepted - self._accepted, now.accepted
        self._advance(step, f"{now.done} replies, {now.failed} failed, {now.completion_tokens} tokens")


def _backend(home: Home, options: GenerationOptions) -> Backend:
    from abs_descriptions.backends import BackendOptions, build_backend

    told = BackendOptions(
        model=options.model,
        base_url=options.base_url,
        key_variable=options.key_variable,
        concurrency=options.concurrency,
        batch_size=options.batch_size,
        threads=options.threads,
        keep=home.cache / "derived",
    )
    return build_backend(options.backend, told)


def _prompts(options: GenerationOptions) -> PromptSet:
    from abs_descriptions.prompts import read_prompts

    small = options.backend == "local" and options.model is None
    default = "objects-small" if small else "objects"
    return read_prompts(default if options.prompts == "auto" else options.prompts)


def _keep(
    home: Home, store: BundleStore, name: str, label_set: LabelSet, result: GenerationResult, licence: str
) -> tuple[str, bool]:
    """The pinned reference, and whether it is new: the same content under the same version is not written again."""
    latest = store.list(name)[-1:] if name else []
    with tempfile.TemporaryDirectory(dir=home.root, prefix=".writing-") as folder:
        path = Path(folder) / f"{name}.jsonl"
        for entry in latest:
            if _write(path, name, entry.version, entry.created, label_set, result, licence).reference == str(entry):
                return str(entry), False
        version = store.next_version(name)
        _write(path, name, version, timestamp(), label_set, result, licence)
        return str(store.add(path)), True


def _write(
    path: Path, name: str, version: str, created: str, label_set: LabelSet, result: GenerationResult, licence: str
) -> Bundle:
    from abs_descriptions.bundle import write_bundle

    return write_bundle(
        path,
        name=name,
        version=version,
        created=created,
        label_set=label_set,
        generators=[result.generator],
        licence=licence,
        records=result.descriptions,
        rejected=result.rejected,
        complete=result.complete,
    )
