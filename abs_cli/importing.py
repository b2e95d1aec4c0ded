"""Foreign description files into the store, with the class matching shown first."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from abs_cli.console import note
from abs_cli.home import Home
from abs_core.errors import UsageError
from abs_core.files import ensure_writable

if TYPE_CHECKING:
    from abs_descriptions.labels import LabelSet
    from abs_descriptions.store import StoreEntry

__all__ = ["import_foreign", "timestamp"]

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
        labels: the label set to match with; None takes the file's own labels as classes.
        licence: of the texts.
        source: who or what wrote them.

    Raises:
        UsageError: an ending that says nothing.
        BundleError: a broken file, or a label that names no class or several.
        LabelError, UnknownNameError: a label set that cannot be used.
    """
    from abs_descriptions.bundle import write_bundle
    from abs_descriptions.bundle_exchange import import_generator, match_labels, read_foreign, to_records
    from abs_descriptions.store import BundleStore

    kind = format_name or _BY_ENDING.get(file.suffix.lower())
    if kind is None:
        raise UsageError(f"the ending of {file.name!r} does not say its format", remedy="Give --format")
    texts = read_foreign(file, kind)
    label_set = _label_set(labels, dict.fromkeys(text.label for text in texts), name)
    matching = match_labels([text.label for text in texts], label_set)
    note(f"{len(matching.matched)} labels matched with {len(label_set.classes)} classes of {label_set.name}:")
    names = {one.id: one.name for one in label_set.classes}
    for label, class_id in matching.matched.items():
        note(f"  {label} -> {class_id}" + ("" if names[class_id] == label else f" ({names[class_id]})"))
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
            licence=licence,
            records=records,
            rejected=rejected,
        )
        return store.add(path)


def timestamp() -> str:
    """Now, as bundles write it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _label_set(labels: str | None, found: dict[str, None], name: str) -> LabelSet:
    from abs_descriptions.labels import from_names, read_labels

    return from_names(found, name=name) if labels is None else read_labels(labels)
