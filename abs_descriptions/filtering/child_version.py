"""Decisions applied to the records of a bundle: which text stands for a record, and what becomes of the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from abs_core.canonical import canonical_json
from abs_core.descriptions import Description, Rejection
from abs_core.errors import BundleError
from abs_descriptions.bundles.format import MAX_SCORES, BundleHeader, Generator
from abs_descriptions.bundles.reader import Bundle, iter_rejected, rejected_path
from abs_descriptions.bundles.writer import write_bundle
from abs_descriptions.filtering.criteria import Criteria, Decision, decide, top_by_weight
from abs_descriptions.filtering.encoders import Encoder
from abs_descriptions.generation.cleaning import RejectionReason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "FilteredBundle",
    "RemovedDescription",
    "encoded_texts",
    "filter_by_weight",
    "filter_generator",
    "filter_records",
    "write_child",
]


@dataclass(frozen=True)
class RemovedDescription:
    """A record that goes.

    Args:
        record: as it stood in the parent.
        reason: why.
        evidence: what was measured, and with which limit it was compared; JSON values.
    """

    record: Description
    reason: RejectionReason
    evidence: Mapping[str, JsonValue]


@dataclass(frozen=True)
class FilteredBundle:
    """What a filter decided of all records of a bundle.

    Args:
        kept: with what was measured in their scores, in the parent's order.
        removed: in the parent's order.
        filter: the generator entry that says what decided.
        spared: records that a criterion spoke against and that stay, so that their class keeps enough.
    """

    kept: tuple[Description, ...]
    removed: tuple[RemovedDescription, ...]
    filter: Generator
    spared: int = 0


def filter_generator(header: BundleHeader, model: str, parameters: Mapping[str, JsonValue]) -> Generator:
    """The entry that a filter gets in the header of the child: backend "filter", an id that the parent has not used.

    Args:
        header: of the parent.
        model: what measured: a sentence encoder or an image-text model.
        parameters: criteria and digests.
    """
    taken = {generator.id for generator in header.generators}
    number = 1
    while (ident := "filter" if number == 1 else f"filter-{number}") in taken:
        number += 1
    return Generator(id=ident, backend="filter", model=model, parameters=dict(parameters))


def write_child(
    path: Path, parent: Bundle, filtered: FilteredBundle, *, name: str, version: str, created: str
) -> Bundle:
    """Write the child version of a bundle to ``path``, its rejected completions beside it.

    Label set, licence and completeness are the parent's; the parent's own rejected completions are kept.

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
    for one in removed:
        record = one.record
        yield Rejection(
            record.class_id, record.text, one.reason.value, record.provenance, canonical_json(dict(one.evidence))
        )


# enough to find a sentence again; a detail holds 4,000 characters
_SHOWN = 300


def encoded_texts(bundle: Bundle) -> list[str]:
    """The text by which each record is compared, in file order: a sentence itself, a phrase after its class name."""
    names = {one.id: one.name.replace("_", " ") for one in bundle.header.label_set.classes}
    return [
        record.text if record.kind == "sentence" else f"{names[record.class_id]}: {record.text}"
        for record in bundle.records()
    ]


def filter_records(
    bundle: Bundle, encoder: Encoder, criteria: Criteria, vectors: NDArray[np.float32] | None = None
) -> FilteredBundle:
    """Judge the records of a bundle by their sentence embeddings.

    Args:
        bundle: the parent.
        encoder: makes the embeddings; its name and digest enter the child.
        criteria: what to apply.
        vectors: [records, d] unit rows, those of ``encoded_texts`` if they are there already.

    Raises:
        BundleError: the bundle has no records, or is no longer the one that was validated.
        ModelError, WeightsError, MissingExtraError, StorageError: the encoder cannot be used.
    """
    records = _records(bundle)
    if vectors is None:
        # each text once and in a fixed order, so that the order of the records changes nothing
        texts = encoded_texts(bundle)
        unique = sorted(set(texts))
        position = {text: at for at, text in enumerate(unique)}
        vectors = encoder.encode(unique)[[position[text] for text in texts]]
    classes = [one.id for one in bundle.header.label_set.classes]
    places = {class_id: at for at, class_id in enumerate(classes)}
    decisions = decide(
        vectors, [places[record.class_id] for record in records], [record.text for record in records], criteria
    )
    parameters: dict[str, JsonValue] = {**asdict(criteria), "encoder_digest": encoder.digest}
    kept, removed = [], []
    for record, decision in zip(records, decisions.each, strict=True):
        if decision.reason is None:
            kept.append(_scored(record, decision.measured))
        else:
            removed.append(RemovedDescription(record, decision.reason, _evidence(decision, records, classes)))
    return FilteredBundle(
        tuple(kept), tuple(removed), filter_generator(bundle.header, encoder.name, parameters), decisions.spared
    )


def filter_by_weight(
    bundle: Bundle,
    weights: Sequence[float],
    *,
    keep: int | None,
    share: float | None,
    model: str,
    parameters: Mapping[str, JsonValue],
) -> FilteredBundle:
    """Keep the records that carry the weight of their class, as a classification measured it.

    Args:
        bundle: the parent.
        weights: one a record, in file order, none negative.
        keep: at most so many of each class; or
        share: as many of each class as together hold this share of its weight.
        model: what measured the weights.
        parameters: how they were measured; enter the child.

    Raises:
        BundleError: the bundle has no records, or is no longer the one that was validated.
        UsageError: not exactly one of ``keep`` and ``share``.
    """
    records = _records(bundle)
    stays = top_by_weight(
        weights, [record.class_id for record in records], [r.text for r in records], keep=keep, share=share
    )
    totals: dict[str, float] = {}
    for record, weight in zip(records, weights, strict=True):
        totals[record.class_id] = totals.get(record.class_id, 0.0) + weight
    whole = sum(totals.values())
    kept, removed = [], []
    for record, weight, stay in zip(records, weights, stays, strict=True):
        part = totals[record.class_id]
        measured = {
            "mass": round(weight / whole, 9) if whole else 0.0,
            "mass-share": round(weight / part, 6) if part else 0.0,
        }
        if stay:
            kept.append(_scored(record, measured))
        else:
            removed.append(RemovedDescription(record, RejectionReason.UNUSED, {**measured}))
    chosen: dict[str, JsonValue] = {"keep": keep, "min_mass": share}
    return FilteredBundle(tuple(kept), tuple(removed), filter_generator(bundle.header, model, {**chosen, **parameters}))


def _records(bundle: Bundle) -> list[Description]:
    records = list(bundle.records())
    if not records:
        raise BundleError(f"{bundle.reference} has no records", remedy="Name a bundle with descriptions")
    return records


def _scored(record: Description, measured: Mapping[str, float]) -> Description:
    """The record with what was measured; numbers of the same name from an earlier filter give way."""
    scores = {**(record.scores or {}), **measured}
    return replace(record, scores=dict(list(scores.items())[-MAX_SCORES:]) or None)


def _evidence(decision: Decision, records: Sequence[Description], classes: Sequence[str]) -> dict[str, JsonValue]:
    evidence: dict[str, JsonValue] = dict(decision.measured)
    if decision.neighbour is not None:
        # a text stands once in a class, so where there is no id it is the sentence's identity
        other = records[decision.neighbour]
        evidence["neighbour"] = other.id or other.text[:_SHOWN]
    if decision.rival is not None:
        evidence["rival"] = classes[decision.rival]
    return evidence
