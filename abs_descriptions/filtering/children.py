"""The child version of a bundle: what was kept, what was removed and why, and what decided. Nothing vanishes.

Removed records join the rejected completions beside the bundle, with one of the reasons of ``cleaning.Reason`` and, as
their detail, the evidence in canonical JSON. The filter stands in the header's generators, with its parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from abs_core.canonical import canonical_json
from abs_descriptions.bundles.format import Description, Rejection
from abs_descriptions.bundles.models import BundleHeader, Generator
from abs_descriptions.bundles.reader import Bundle
from abs_descriptions.bundles.rejected import iter_rejected, rejected_path
from abs_descriptions.bundles.writer import write_bundle
from abs_descriptions.cleaning import Reason

__all__ = ["Filtered", "Removed", "filter_generator", "write_child"]


@dataclass(frozen=True)
class Removed:
    """A record that goes.

    Args:
        record: as it stood in the parent.
        reason: why.
        evidence: what was measured, and with which limit it was compared; JSON values.
    """

    record: Description
    reason: Reason
    evidence: Mapping[str, JsonValue]


@dataclass(frozen=True)
class Filtered:
    """What a filter decided of all records of a bundle.

    Args:
        kept: with what was measured in their scores, in the parent's order.
        removed: in the parent's order.
        filter: the generator entry that says what decided.
        spared: records that a criterion spoke against and that stay, so that their class keeps enough.
    """

    kept: tuple[Description, ...]
    removed: tuple[Removed, ...]
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


def write_child(path: Path, parent: Bundle, filtered: Filtered, *, name: str, version: str, created: str) -> Bundle:
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
        licence=header.licence,
        records=filtered.kept,
        rejected=_rejections(parent, filtered.removed),
        parents=[parent.reference],
        complete=header.complete,
    )


def _rejections(parent: Bundle, removed: Sequence[Removed]) -> Iterator[Rejection]:
    if rejected_path(parent.path).exists():
        yield from iter_rejected(parent.path, parent.header)
    for one in removed:
        record = one.record
        yield Rejection(
            record.class_id, record.text, one.reason.value, record.provenance, canonical_json(dict(one.evidence))
        )
