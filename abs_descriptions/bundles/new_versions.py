"""New versions made of what is there: their number, whether the store has them already, and how they enter it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from abs_core.files import ensure_writable
from abs_descriptions.bundles.format import BundleHeader
from abs_descriptions.bundles.reader import Bundle
from abs_descriptions.bundles.references import parse_version
from abs_descriptions.bundles.repository import BundleStore, StoreEntry, warn_of_yank

__all__ = ["add_version", "child_version", "find_same_version", "timestamp"]


def timestamp() -> str:
    """The current time as bundles write it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def child_version(store: BundleStore, name: str, parents: Sequence[BundleHeader] = ()) -> str:
    """The version after all versions of ``name`` in the store and after those of its parents that have this name.

    Raises:
        UsageError: an invalid name.
    """
    following = store.next_version(name)
    for parent in parents:
        version, after = parse_version(parent.version), parse_version(following)
        if parent.name == name and version is not None and after is not None and after <= version:
            following = f"{version.major}.{version.minor + 1}.0"
    return following


def find_same_version(
    store: BundleStore, name: str, records: int, write: Callable[[Path, str, str], Bundle]
) -> StoreEntry | None:
    """The newest version in the store that ``write`` reproduces byte for byte; None if there is none.

    What the store has lost of that version is restored, and a warning says if it was yanked. The stored file may be
    damaged, so newly written bytes are compared with its digest.

    Args:
        store: where to look.
        name: of the bundle.
        records: the number of descriptions written; versions with another number are not compared.
        write: takes a path, a version and a time of creation.
    """
    candidates = [entry for entry in reversed(store.list(name)) if entry.counts.records == records]
    if not candidates:
        return None
    with tempfile.TemporaryDirectory(dir=store.root, prefix=".bundle-") as folder:
        path = Path(folder) / "again.jsonl"
        for entry in candidates:
            if write(path, entry.version, entry.created).reference == str(entry):
                store.add(path)
                warn_of_yank(store, entry)
                return entry
    return None


def add_version(store: BundleStore, write: Callable[[Path], Bundle]) -> StoreEntry:
    """Have ``write`` write a bundle to a path, and add it to the store.

    Raises:
        StorageError: the store cannot be written.
    """
    ensure_writable(store.root)
    with tempfile.TemporaryDirectory(dir=store.root, prefix=".bundle-") as folder:
        path = Path(folder) / "new.jsonl"
        write(path)
        return store.add(path)
