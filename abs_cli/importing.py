"""Foreign description files into the store, with the class matching shown first; bundles and archives of them too."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from abs_cli.console import note
from abs_core.errors import BundleError, LabelError, UsageError
from abs_core.files import ensure_writable
from abs_core.home import Home
from abs_core.text import printable

if TYPE_CHECKING:
    from abs_core.labels import LabelSet
    from abs_descriptions.bundles.exchange import ExternalText, LabelMatching
    from abs_descriptions.bundles.repository import StoreEntry

__all__ = ["import_bundles", "import_foreign", "is_of_bundles"]


_BY_ENDING = {".json": "cupl", ".tsv": "text", ".txt": "text", ".csv": "csv"}


def import_foreign(
    home: Home, file: Path, name: str, format_name: str | None, labels: str | None, licence: str, source: str
) -> StoreEntry:
    """Read a foreign file, match its classes and keep the descriptions as a new version of a bundle.

    Args:
        home: has the store.
        file: what to read.
        name: of the bundle.
        format_name: of the file; None goes by its ending.
        labels: the label set to match with; None takes the file's own labels as classes, with the names it states.
        licence: of the texts.
        source: who or what wrote them.

    Raises:
        UsageError: an ending that says nothing.
        BundleError: a broken file, or a label that names no class or several.
        LabelError, UnknownNameError: a label set that cannot be used, or a file that gives one class two names.
    """
    from abs_core.labels import read_labels
    from abs_descriptions.bundles import write_bundle
    from abs_descriptions.bundles.exchange import import_generator, match_labels, read_external, to_records
    from abs_descriptions.bundles.new_versions import timestamp
    from abs_descriptions.bundles.repository import BundleStore

    kind = format_name or _BY_ENDING.get(file.suffix.lower())
    if kind is None:
        raise UsageError(f"the ending of {file.name!r} does not say its format", remedy="Give --format")
    texts = read_external(file, kind)
    label_set = _own_labels(file, texts, name) if labels is None else read_labels(labels)
    matching = match_labels([text.label for text in texts], label_set)
    _show_matching(matching, label_set)
    matching.check()
    generator = import_generator(file, kind).model_copy(update={"model": source})
    records, rejected = to_records(texts, matching, generator.id)
    store = BundleStore(home.bundles)
    ensure_writable(home.root)
    with tempfile.TemporaryDirectory(dir=home.root, prefix=".import-") as folder:
        path = Path(folder) / f"{name}.jsonl"
        write_bundle(
            path,
            name=name,
            version=store.next_version(name),
            created=timestamp(),
            label_set=label_set,
            generators=[generator],
            license=licence,
            records=records,
            rejected=rejected,
            complete=len({record.class_id for record in records}) == len(label_set.classes),
        )
        return store.add(path)


def _show_matching(matching: LabelMatching, label_set: LabelSet) -> None:
    note(f"{len(matching.matched)} labels matched with {len(label_set.classes)} classes of {label_set.name}:")
    names = label_set.names
    for label, class_id in matching.matched.items():
        note(f"  {label} -> {class_id}" + ("" if names[class_id] == label else f" ({names[class_id]})"))
    for label, ids in matching.ambiguous.items():
        note(f"  {label} -> several: {', '.join(ids)}")
    for label in matching.unknown:
        note(f"  {label} -> no class")
    if matching.missing:
        shown = ", ".join(matching.missing[:10]) + (", ..." if len(matching.missing) > 10 else "")
        note(f"warning: {len(matching.missing)} classes get no description: {shown}")


def is_of_bundles(file: Path) -> bool:
    """Whether the name of a file says that it is a bundle or an archive of bundles."""
    from abs_descriptions.bundles.archives import ARCHIVES

    return file.name.lower().endswith((".jsonl", *ARCHIVES))


def import_bundles(home: Home, file: Path) -> list[StoreEntry]:
    """Add a bundle, or all bundles of an archive, to the store as they are: all of them or none.

    Raises:
        BundleError: a broken bundle or archive, or a version that the store has with another digest.
        StorageError: a file cannot be read or written.
    """
    from abs_descriptions.bundles import read_bundle
    from abs_descriptions.bundles.archives import unpack_bundles
    from abs_descriptions.bundles.repository import BundleStore

    store = BundleStore(home.bundles)
    if file.name.lower().endswith(".jsonl"):
        return [store.add(file)]
    ensure_writable(home.root)
    with tempfile.TemporaryDirectory(dir=home.root, prefix=".import-") as folder:
        unpacked = unpack_bundles(file, Path(folder))
        for name in unpacked.ignored:
            note(f"left out: {name}")
        try:
            taken: dict[tuple[str, str], str] = {}
            for bundle in map(read_bundle, unpacked.bundles):
                own = (bundle.header.name, bundle.header.version)
                store.refuse_other(*own, bundle.digest)
                if taken.setdefault(own, bundle.digest) != bundle.digest:
                    raise BundleError(
                        f"{printable(str(bundle.path))}: {own[0]}@{own[1]} is in this archive twice, with other bytes",
                        remedy="Ask which one is meant",
                    )
            return [store.add(path) for path in unpacked.bundles]
        except BundleError as error:
            # The user knows the archive, not where it was unpacked.
            message = error.message.replace(printable(folder), printable(str(file)))
            raise BundleError(message, remedy=error.remedy) from None


def _own_labels(file: Path, texts: Sequence[ExternalText], name: str) -> LabelSet:
    """The labels of a file as classes: where it states a name beside a label, the label is the id."""
    from abs_core.labels import LabelEntry, build_label_set
    from abs_descriptions.bundles.references import quoted

    where, remedy = printable(str(file)), "Correct the file, or name a label set with --labels"
    names: dict[str, str | None] = {}
    for text in texts:
        stated = names.get(text.label)
        if stated and text.name and stated != text.name:
            raise LabelError(
                f"{where} gives the class {quoted(text.label)} two names, {quoted(stated)} and {quoted(text.name)}",
                remedy=remedy,
            )
        names[text.label] = stated or text.name
    entries = (
        LabelEntry(f"{where}, class {position}", stated or label, stated and label)
        for position, (label, stated) in enumerate(names.items(), 1)
    )
    try:
        return build_label_set(entries, where=where, name=name, source="a list of names")
    except LabelError as error:
        raise LabelError(error.message, remedy=remedy) from None
