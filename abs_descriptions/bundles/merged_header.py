"""What the header of a merged bundle takes from those of its sources: label set, license, generators. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from abs_core.errors import BundleError
from abs_core.labels import LabelSet
from abs_core.text import quoted
from abs_descriptions.bundles.diff import diff_labels, show_note
from abs_descriptions.bundles.format import BundleHeader, Generator

__all__ = ["MergedGenerators", "merged_generators", "merged_labels", "merged_license"]


def merged_labels(headers: Sequence[BundleHeader], label_set: LabelSet | None) -> LabelSet:
    """The label set of the merged bundle.

    Args:
        headers: of the sources.
        label_set: that the user names, which must have all their classes; None: they must have one label set.

    Raises:
        BundleError: label sets, names or notes that do not agree.
    """
    labels = headers[0].label_set if label_set is None else label_set
    if label_set is None and any(header.label_set.digest != labels.digest for header in headers):
        raise BundleError(
            "the bundles describe different label sets",
            remedy="Name the label set of the merged bundle (--labels); it must have all their classes",
        )
    if label_set is None:
        _refuse_other_notes(headers)
    names = labels.names
    for header in headers:
        for entry in header.label_set.classes:
            if names.get(entry.id) != entry.name:
                conflict = "is missing" if entry.id not in names else f"is called {quoted(names[entry.id])}"
                raise BundleError(
                    f"the class {quoted(entry.id)}, {quoted(entry.name)} in {header.name}@{header.version}, {conflict} "
                    f"in the label set {quoted(labels.name)}",
                    remedy="Merge bundles whose classes agree, or name a label set that has them all",
                )
    return labels


def _refuse_other_notes(headers: Sequence[BundleHeader]) -> None:
    first = headers[0]
    for header in headers[1:]:
        for class_id, first_note, note in diff_labels(first, header).noted:
            raise BundleError(
                f"the note of the class {quoted(class_id)} is {show_note(first_note)} in {first.name}@{first.version} "
                f"and {show_note(note)} in {header.name}@{header.version}",
                remedy="Name a label set whose notes hold (--labels)",
            )


def merged_license(headers: Sequence[BundleHeader], license: str | None) -> str:
    """The license of the merged bundle: the one that the user states, or that of all; BundleError if they differ."""
    if license is not None:
        return license
    licenses = list(dict.fromkeys(header.license for header in headers))
    if len(licenses) > 1:
        raise BundleError(
            f"the bundles have different licenses: {', '.join(map(quoted, licenses))}",
            remedy="Name the license of the merged bundle (--license)",
        )
    return licenses[0]


_NUMBER = re.compile(r"(?:-[0-9]+)+$")


@dataclass(frozen=True)
class MergedGenerators:
    """The generators of several bundles as one list, and for each bundle what its generator ids are in it."""

    generators: Sequence[Generator]
    renamed: Sequence[Mapping[str, str]]

    def mapping_of(self, header: BundleHeader) -> Mapping[str, str]:
        """What the generator ids of another bundle are in the list; one that it lacks gets an id that is none."""
        mapping: dict[str, str] = {}
        for generator in header.generators:
            equal = _equals(self.generators, generator)
            mapping[generator.id] = equal[0] if equal else f"\0{generator.id}"
        return mapping


def merged_generators(headers: Sequence[BundleHeader]) -> MergedGenerators:
    """Equal generators become one; an id with another meaning gets "-2", "-3" and so on."""
    merged: dict[str, Generator] = {}
    renamed: list[dict[str, str]] = []
    for header in headers:
        mapping: dict[str, str] = {}
        for generator in header.generators:
            equal = [known for known in _equals(merged.values(), generator) if known not in mapping.values()]
            identifier, number = equal[0] if equal else generator.id, 1
            while not equal and identifier in merged:
                number += 1
                identifier = f"{generator.id}-{number}"
            merged.setdefault(identifier, generator.model_copy(update={"id": identifier}))
            mapping[generator.id] = identifier
        renamed.append(mapping)
    return MergedGenerators(list(merged.values()), renamed)


def _equals(generators: Iterable[Generator], generator: Generator) -> list[str]:
    """The ids of the generators that differ in nothing but a number that a merge appended; the same id first."""
    stem = _NUMBER.sub("", generator.id)
    alike = (known for known in generators if _NUMBER.sub("", known.id) == stem)
    ids = [known.id for known in alike if known.model_copy(update={"id": generator.id}) == generator]
    return sorted(ids, key=lambda identifier: identifier != generator.id)
