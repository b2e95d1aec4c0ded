"""Filters of bundles: by sentence embeddings, or by the weight that images give to each description.

filtered = SentenceFilter(Criteria(keep=20))(bundle)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from pydantic import JsonValue

from abs_core.canonical import digest
from abs_core.descriptions import Description, top_by_weight
from abs_core.errors import BundleError
from abs_core.extras import installed_version
from abs_descriptions.bundles.format import MAX_SCORES, BundleHeader, Generator
from abs_descriptions.bundles.reader import Bundle
from abs_descriptions.filtering.criteria import Criteria, Decision, decide
from abs_descriptions.filtering.encoders import Encoder, SentenceEncoder
from abs_descriptions.generation.cleaning import RejectionReason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "EmbeddingCache",
    "FilteredBundle",
    "RemovedDescription",
    "SentenceFilter",
    "encoded_texts",
    "filter_by_weight",
    "filter_generator",
]


# Enough to find a sentence again; a detail of a rejected completion holds up to 4,000 characters.
_SHOWN = 300

# Packages whose versions may change an embedding.
_PACKAGES = ("sentence-transformers", "transformers", "tokenizers", "torch")


class EmbeddingCache(Protocol):
    """Remembers sentence embeddings between runs."""

    def embeddings(
        self, inputs: Mapping[str, JsonValue], compute: Callable[[], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """The array of these inputs, computed if it is not remembered.

        Args:
            inputs: everything that the array depends on, as JSON values.
            compute: computes it, [texts, d] float32.
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
    encoder: Encoder = field(default_factory=SentenceEncoder)
    cache: EmbeddingCache | None = None

    def __call__(self, bundle: Bundle) -> FilteredBundle:
        """Decide on all records of a bundle.

        Raises:
            BundleError: the bundle has no records, or is no longer the one that was validated.
            ModelError, WeightsError, MissingExtraError, StorageError: the encoder cannot be used.
            CacheError: the cache cannot be used.
        """
        records = _records(bundle)
        class_ids = [label.id for label in bundle.header.label_set.classes]
        positions = {class_id: position for position, class_id in enumerate(class_ids)}
        decisions = decide(
            _embed(bundle, self.encoder, self.cache),
            [positions[record.class_id] for record in records],
            [record.text for record in records],
            self.criteria,
        )
        parameters: dict[str, JsonValue] = {**asdict(self.criteria), "encoder_digest": self.encoder.digest}
        kept, removed = [], []
        for record, decision in zip(records, decisions.decisions, strict=True):
            if decision.reason is None:
                kept.append(_with_scores(record, decision.measured))
            else:
                removed.append(RemovedDescription(record, decision.reason, _evidence(decision, records, class_ids)))
        generator = filter_generator(bundle.header, self.encoder.name, parameters)
        return FilteredBundle(tuple(kept), tuple(removed), generator, decisions.protected)


def _embed(bundle: Bundle, encoder: Encoder, cache: EmbeddingCache | None) -> NDArray[np.float32]:
    """Unit rows [records, d]. Each text is encoded once and in a fixed order, so the order of the records is free."""
    texts = encoded_texts(bundle)
    unique = sorted(set(texts))
    if cache is None:
        vectors = encoder.encode(unique)
    else:
        packages: dict[str, JsonValue] = {package: installed_version(package) for package in _PACKAGES}
        inputs: dict[str, JsonValue] = {"encoder": encoder.digest, "texts": digest(unique), "packages": packages}
        vectors = cache.embeddings(inputs, lambda: encoder.encode(unique))
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
