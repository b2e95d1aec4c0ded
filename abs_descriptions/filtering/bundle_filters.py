"""Filters of bundles, by sentence embeddings, by text alone or by what images use, and the child version.

filter_bundle(bundle, SentenceFilter(Criteria(keep=20)), FilterOutput(repository))

The child says what was removed and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import JsonValue

from abs_core.canonical import canonical_json
from abs_core.descriptions import Description, Rejection, top_by_weight
from abs_core.errors import BundleError, UsageError
from abs_core.extras import installed_version, require
from abs_core.files import storage_errors
from abs_descriptions.bundles.format import MAX_SCORES, BundleHeader, Generator
from abs_descriptions.bundles.reader import Bundle, iter_rejected, rejected_path
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import (
    add_version,
    check_output,
    child_version,
    find_same_version,
    shipped_bundles,
    timestamp,
)
from abs_descriptions.bundles.writer import write_bundle
from abs_descriptions.filtering.criteria import Criteria, Decision, Decisions, TextCriteria
from abs_descriptions.filtering.encoder_choice import TEXT_ALONE, open_encoder
from abs_descriptions.filtering.encoders import Encoder
from abs_descriptions.filtering.text_decisions import decide_by_text
from abs_descriptions.generation.cleaning import RejectionReason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "EmbeddingCache",
    "FilterOutput",
    "FilterResult",
    "FilteredBundle",
    "RemovedDescription",
    "SentenceFilter",
    "TextFilter",
    "encoded_texts",
    "filter_bundle",
    "filter_by_weight",
    "filter_generator",
    "write_child",
]

# Enough to find a sentence again; a detail of a rejected completion holds up to 4,000 characters.
_SHOWN = 300

# Packages whose versions may change an embedding.
_PACKAGES = ("sentence-transformers", "transformers", "tokenizers", "torch", "onnxruntime")

# What a text filter compares, and its version: to be raised when another trigram is counted.
_TEXT_MEASURE = "jaccard of character trigrams, 1"


class EmbeddingCache(Protocol):
    """Remembers sentence embeddings between runs."""

    def embeddings(
        self,
        inputs: Mapping[str, JsonValue],
        texts: Sequence[str],
        compute: Callable[[Sequence[str]], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        """The embeddings [texts, d] of texts; those that are not remembered are computed.

        Args:
            inputs: everything besides a text that its embedding depends on, as JSON values.
            texts: distinct.
            compute: the embeddings [n, d] float32 of some of the texts.
        """
        ...


@dataclass(frozen=True)
class RemovedDescription:
    """A record that a filter removes.

    Args:
        record: as it is in the parent.
        reason: why it is removed.
        evidence: what was measured, and the limit it was compared with; JSON values.
    """

    record: Description
    reason: RejectionReason
    evidence: Mapping[str, JsonValue]


@dataclass(frozen=True)
class FilteredBundle:
    """The decisions of a filter on all records of a bundle.

    Args:
        kept: the records that stay, with what was measured in their scores, in the parent's order.
        removed: the records that go, in the parent's order.
        filter: the generator entry that describes the filter.
        protected: kept records that failed a criterion, but that their class needs to keep its minimum.
    """

    kept: tuple[Description, ...]
    removed: tuple[RemovedDescription, ...]
    filter: Generator
    protected: int = 0


def filter_generator(header: BundleHeader, model: str, parameters: Mapping[str, JsonValue]) -> Generator:
    """The entry of a filter in the header of the child: backend "filter", with an id that the parent does not use.

    Args:
        header: of the parent.
        model: the sentence encoder or image-text model that measured.
        parameters: criteria and digests.
    """
    used = {generator.id for generator in header.generators}
    number = 1
    while (generator_id := "filter" if number == 1 else f"filter-{number}") in used:
        number += 1
    return Generator(id=generator_id, backend="filter", model=model, parameters=dict(parameters))


def encoded_texts(bundle: Bundle) -> list[str]:
    """The text by which each record is compared, in file order: a sentence itself, a phrase after its class name."""
    names = {label.id: label.name.replace("_", " ") for label in bundle.header.label_set.classes}
    return [
        record.text if record.kind == "sentence" else f"{names[record.class_id]}: {record.text}"
        for record in bundle.records()
    ]


@dataclass(frozen=True)
class SentenceFilter:
    """Judges the records of a bundle by their sentence embeddings.

    Args:
        criteria: what to apply.
        encoder: makes the embeddings; its name and digest enter the child.
        cache: remembers the embeddings; None computes them each time.
    """

    criteria: Criteria = field(default_factory=Criteria)
    encoder: Encoder = field(default_factory=open_encoder)
    cache: EmbeddingCache | None = None

    def __call__(self, bundle: Bundle) -> FilteredBundle:
        """Decide on all records of a bundle.

        Raises:
            BundleError: the bundle has no records, or is no longer the one that was validated.
            ModelError, WeightsError, MissingExtraError, StorageError: the encoder cannot be used.
            CacheError: the cache cannot be used.
        """
        require("numpy", extra="filter-light")
        from abs_descriptions.filtering.embedding_decisions import decide

        records = _records(bundle)
        vectors = _embed(bundle, self.encoder, self.cache)
        texts = [record.text for record in records]
        decisions = decide(vectors, _class_indices(bundle, records), texts, self.criteria)
        parameters: dict[str, JsonValue] = {**asdict(self.criteria), "encoder_digest": self.encoder.digest}
        return _filtered(bundle, records, decisions, filter_generator(bundle.header, self.encoder.name, parameters))


@dataclass(frozen=True)
class TextFilter:
    """Judges the records of a bundle by their characters alone: copies and near duplicates. Needs no encoder.

    Args:
        criteria: what to apply.
    """

    criteria: TextCriteria = field(default_factory=TextCriteria)

    def __call__(self, bundle: Bundle) -> FilteredBundle:
        """Decide on all records of a bundle.

        Raises:
            BundleError: the bundle has no records, or is no longer the one that was validated.
        """
        records = _records(bundle)
        texts = [record.text for record in records]
        decisions = decide_by_text(texts, _class_indices(bundle, records), self.criteria)
        parameters: dict[str, JsonValue] = {**asdict(self.criteria), "measure": _TEXT_MEASURE}
        return _filtered(bundle, records, decisions, filter_generator(bundle.header, TEXT_ALONE, parameters))


def _class_indices(bundle: Bundle, records: Sequence[Description]) -> list[int]:
    positions = {label.id: position for position, label in enumerate(bundle.header.label_set.classes)}
    return [positions[record.class_id] for record in records]


def _filtered(
    bundle: Bundle, records: Sequence[Description], decisions: Decisions, generator: Generator
) -> FilteredBundle:
    class_ids = [label.id for label in bundle.header.label_set.classes]
    kept, removed = [], []
    for record, decision in zip(records, decisions.decisions, strict=True):
        if decision.reason is None:
            kept.append(_with_scores(record, decision.measured))
        else:
            removed.append(RemovedDescription(record, decision.reason, _evidence(decision, records, class_ids)))
    return FilteredBundle(tuple(kept), tuple(removed), generator, decisions.protected)


def _embed(bundle: Bundle, encoder: Encoder, cache: EmbeddingCache | None) -> NDArray[np.float32]:
    """Unit rows [records, d]. Each text is encoded once and in a fixed order, so the order of the records is free."""
    texts = encoded_texts(bundle)
    unique = sorted(set(texts))
    if cache is None:
        vectors = encoder.encode(unique)
    else:
        versions = {package: installed_version(package) for package in _PACKAGES}
        packages: dict[str, JsonValue] = {package: version for package, version in versions.items() if version}
        vectors = cache.embeddings({"encoder": encoder.digest, "packages": packages}, unique, encoder.encode)
    rows = {text: row for row, text in enumerate(unique)}
    return vectors[[rows[text] for text in texts]]


def filter_by_weight(
    bundle: Bundle,
    weights: Sequence[float],
    *,
    keep: int | None,
    share: float | None,
    model: str,
    parameters: Mapping[str, JsonValue],
) -> FilteredBundle:
    """Keep the records with the largest usage weights of their class, as images determine them.

    Args:
        bundle: the parent.
        weights: usage weight of each record, in file order, none negative.
        keep: at most this many of each class; or
        share: as many of each class as together hold this share of its weight.
        model: the image-text model that measured the weights.
        parameters: how they were measured; recorded in the child.

    Raises:
        BundleError: the bundle has no records, or is no longer the one that was validated.
        UsageError: not exactly one of ``keep`` and ``share``.
    """
    records = _records(bundle)
    is_kept = top_by_weight(
        weights, [record.class_id for record in records], [record.text for record in records], keep=keep, share=share
    )
    totals: dict[str, float] = {}
    for record, weight in zip(records, weights, strict=True):
        totals[record.class_id] = totals.get(record.class_id, 0.0) + weight
    total = sum(totals.values())
    kept, removed = [], []
    for record, weight, keeps in zip(records, weights, is_kept, strict=True):
        class_total = totals[record.class_id]
        measured = {
            "mass": round(weight / total, 9) if total else 0.0,
            "mass-share": round(weight / class_total, 6) if class_total else 0.0,
        }
        if keeps:
            kept.append(_with_scores(record, measured))
        else:
            removed.append(RemovedDescription(record, RejectionReason.UNUSED, {**measured}))
    chosen: dict[str, JsonValue] = {"keep": keep, "min_mass": share}
    return FilteredBundle(tuple(kept), tuple(removed), filter_generator(bundle.header, model, {**chosen, **parameters}))


def _records(bundle: Bundle) -> list[Description]:
    records = list(bundle.records())
    if not records:
        raise BundleError(f"{bundle.reference} has no records", remedy="Name a bundle with descriptions")
    return records


def _with_scores(record: Description, measured: Mapping[str, float]) -> Description:
    """The record with what was measured; scores of the same names from an earlier filter are replaced."""
    scores = {**(record.scores or {}), **measured}
    return replace(record, scores=dict(list(scores.items())[-MAX_SCORES:]) or None)


def _evidence(decision: Decision, records: Sequence[Description], class_ids: Sequence[str]) -> dict[str, JsonValue]:
    evidence: dict[str, JsonValue] = dict(decision.measured)
    if decision.neighbour is not None:
        # A class has a text only once, so the text identifies a sentence without an id.
        other = records[decision.neighbour]
        evidence["neighbour"] = other.id or other.text[:_SHOWN]
    if decision.rival is not None:
        evidence["rival"] = class_ids[decision.rival]
    return evidence


@dataclass(frozen=True)
class FilterResult:
    """What a filter decided, and where the child version is.

    Args:
        filtered: what stays and what goes.
        reference: the pinned reference of the child, or of the parent if nothing was removed; None after a dry run.
        is_new: whether the child was written now.
    """

    filtered: FilteredBundle
    reference: str | None
    is_new: bool


@dataclass(frozen=True)
class FilterOutput:
    """Where a child version goes.

    Args:
        repository: it gets a new version; if there is a ``file``, it only determines the version number.
        name: of the child; None: the parent's.
        file: the file to write; None: the repository.
        version: of the child, as ``child_version`` takes it.
    """

    repository: Repository
    name: str | None = None
    file: Path | None = None
    version: str | None = None

    def check(self, parent: Bundle) -> None:
        """Find out before any work whether ``write`` could write.

        Raises:
            UsageError: an invalid name or version, or a file that is the parent itself.
            StorageError: the repository, or the folder of the file, cannot be written.
        """
        child_version(self.repository, self._name(parent), [parent.header], self.version)
        check_output(self.file or self.repository)
        if self.file is not None:
            with storage_errors(self.file, "write"):
                if self.file.exists() and self.file.samefile(parent.path):
                    raise UsageError(
                        f"the output must not be the bundle that is filtered, got {str(self.file)!r}",
                        remedy="Name another file",
                    )

    def settle(self, parent: Bundle, filtered: FilteredBundle) -> FilteredBundle:
        """Keep everything of a parent that is itself what a filter with the same criteria left, unchanged since then.

        Descriptions that were filtered are less alike than before, so the same criteria might remove more of them, and
        more again each time. A child with a name or file of its own is filtered as asked.
        """
        is_same_bundle = self.file is None and self.name in (None, parent.header.name)
        return _keep_own_result(parent, filtered) if is_same_bundle else filtered

    def write(self, parent: Bundle, filtered: FilteredBundle) -> FilterResult:
        """Write the child version, to the file or as a new version of the repository.

        A child that the repository has already, of the same parent and by the same criteria, is not written twice: what
        was lost of it is restored, and a warning says if it was yanked. Nor is a child written that would be the parent
        once more.

        Raises:
            BundleError, StorageError: as ``write_child``, or the repository cannot be written.
        """
        name = self._name(parent)
        version = child_version(self.repository, name, [parent.header], self.version)

        def write(path: Path, number: str, created: str) -> Bundle:
            return write_child(path, parent, filtered, name=name, version=number, created=created)

        if self.file is not None:
            return FilterResult(filtered, write(self.file, version, timestamp()).reference, True)
        if not filtered.removed and name == parent.header.name:
            return FilterResult(filtered, parent.reference, False)
        same = find_same_version(self.repository, name, len(filtered.kept), write)
        if same is not None:
            return FilterResult(filtered, str(same), False)
        versions = {manifest.version for manifest in self.repository.list(parent.header.name)}
        if parent.path in shipped_bundles().values() and parent.header.version not in versions:
            self.repository.add(parent.path)  # so that child and parent can be pushed together
        manifest = add_version(self.repository, lambda path: write(path, version, timestamp()))
        return FilterResult(filtered, str(manifest), True)

    def _name(self, parent: Bundle) -> str:
        return parent.header.name if self.name is None else self.name


def filter_bundle(
    bundle: Bundle, judge: Callable[[Bundle], FilteredBundle], output: FilterOutput, *, dry_run: bool = False
) -> FilterResult:
    """Write a child version of a bundle with the descriptions that a filter keeps.

    Args:
        bundle: the parent.
        judge: decides what stays: a ``SentenceFilter``, or a function that ends in ``filter_by_weight``.
        output: where the child goes.
        dry_run: only decide, write nothing.

    Raises:
        UsageError, StorageError: the child cannot be written there; found out before ``judge`` is called.
        BundleError: the bundle has no records, or is no longer the one that was validated; and what ``judge`` raises.
    """
    if not dry_run:
        output.check(bundle)
    filtered = output.settle(bundle, judge(bundle))
    return FilterResult(filtered, None, False) if dry_run else output.write(bundle, filtered)


def write_child(
    path: Path, parent: Bundle, filtered: FilteredBundle, *, name: str, version: str, created: str
) -> Bundle:
    """Write the child version of a bundle to ``path``, its rejected completions beside it.

    Label set, license and completeness are the parent's; the parent's own rejected completions are kept.

    Raises:
        BundleError, StorageError: as ``write_bundle``, or the parent can no longer be read.
    """
    header = parent.header
    return write_bundle(
        path,
        name=name,
        version=version,
        created=created,
        label_set=header.label_set,
        generators=[*header.generators, filtered.filter],
        license=header.license,
        records=filtered.kept,
        rejected=_rejections(parent, filtered.removed),
        parents=[parent.reference],
        complete=header.complete,
    )


def _rejections(parent: Bundle, removed: Sequence[RemovedDescription]) -> Iterator[Rejection]:
    if rejected_path(parent.path).exists():
        yield from iter_rejected(parent.path, parent.header)
    for removal in removed:
        record = removal.record
        yield Rejection(
            record.class_id,
            record.text,
            removal.reason.value,
            record.provenance,
            canonical_json(dict(removal.evidence)),
        )


def _keep_own_result(parent: Bundle, filtered: FilteredBundle) -> FilteredBundle:
    header = parent.header
    last = header.generators[-1] if header.generators else None
    # A review is a generator after the filter; a merge has several parents and may bring back what the filter removed.
    if last is None or len(header.parents) != 1 or _criteria(last) != _criteria(filtered.filter):
        return filtered
    kept = tuple(parent.records())
    keep = last.parameters.get("keep")
    if isinstance(keep, int) and max(Counter(record.class_id for record in kept).values(), default=0) > keep:
        return filtered
    return replace(filtered, kept=kept, removed=(), protected=0)


def _criteria(generator: Generator) -> tuple[str, str, dict[str, Any]]:
    """The settings of a filter, without the digest of the texts that it was applied to."""
    settings = {name: value for name, value in generator.parameters.items() if name != "texts_digest"}
    return generator.backend, generator.model, settings
