"""New versions out of bundles that are there: where they get their name and number and enter the store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from abs_cli.importing import timestamp
from abs_core.errors import UsageError
from abs_core.files import ensure_writable
from abs_core.home import Home
from abs_descriptions.bundles.repository import find_bundle, warn_of_yank

if TYPE_CHECKING:
    from abs_descriptions.bundles import Bundle, BundleHeader
    from abs_descriptions.bundles.repository import BundleStore, StoreEntry

__all__ = ["child_version", "find_again", "keep", "merge_into_store"]


def merge_into_store(
    home: Home,
    references: Sequence[str],
    name: str | None,
    on_conflict: Literal["refuse", "first"],
    labels: str | None,
    licence: str | None,
) -> StoreEntry:
    """Merge bundles and keep the result as a new version.

    Args:
        home: has the store.
        references: at least two bundles.
        name: of the result; None: that of the first.
        on_conflict: see ``merge_bundles``.
        labels: a label set that has the classes of all; None: they must have one label set.
        licence: None: they must have one licence.

    Raises:
        UsageError: fewer than two bundles, or one twice.
        BundleError, LabelError, UnknownNameError: a bundle or label set that cannot be used, or a conflict.
    """
    from abs_core.labels import read_labels
    from abs_descriptions.bundles.merge import merge_bundles
    from abs_descriptions.bundles.repository import BundleStore

    bundles = [find_bundle(home, reference) for reference in references]
    if len({bundle.digest for bundle in bundles}) != len(bundles) or len(bundles) < 2:
        raise UsageError("a merge needs at least two different bundles", remedy="Name each bundle once")
    label_set = None if labels is None else read_labels(labels)
    first = bundles[0].header
    chosen = first.name if name is None else name
    version = child_version(BundleStore(home.bundles), chosen, [bundle.header for bundle in bundles])

    def write(path: Path) -> Bundle:
        return merge_bundles(
            path,
            [bundle.path for bundle in bundles],
            name=chosen,
            version=version,
            created=timestamp(),
            label_set=label_set,
            license=licence,
            on_conflict=on_conflict,
        )

    return keep(home, write)


def child_version(store: BundleStore, name: str, parents: Sequence[BundleHeader]) -> str:
    """The version after all of ``name`` in the store and after those of its parents that have this name.

    Raises:
        UsageError: a name that cannot be one.
    """
    from abs_descriptions.bundles.references import parse_version

    following = store.next_version(name)
    for parent in parents:
        version, after = parse_version(parent.version), parse_version(following)
        if parent.name == name and version is not None and after is not None and after <= version:
            following = f"{version.major}.{version.minor + 1}.0"
    return following


def find_again(home: Home, name: str, records: int, write: Callable[[Path, str, str], Bundle]) -> StoreEntry | None:
    """The newest version in the store that ``write`` writes once more, byte for byte; None if there is none.

    What the store lost of that version is put back, and stderr says if it was yanked. What is in the store may be torn,
    so that bytes written anew are compared with its digest.

    Args:
        home: has the store.
        name: of the bundle.
        records: how many descriptions are written; other versions need no look.
        write: is given a path, a version and a time of creation.
    """
    from abs_descriptions.bundles.repository import BundleStore

    store = BundleStore(home.bundles)
    alike = [entry for entry in reversed(store.list(name)) if entry.counts.records == records]
    if not alike:
        return None
    with tempfile.TemporaryDirectory(dir=home.root, prefix=".bundle-") as folder:
        path = Path(folder) / "again.jsonl"
        for entry in alike:
            if write(path, entry.version, entry.created).reference == str(entry):
                store.add(path)
                warn_of_yank(store, entry)
                return entry
    return None


def keep(home: Home, write: Callable[[Path], Bundle]) -> StoreEntry:
    """Let ``write`` write a bundle to a path, and add it to the store.

    Raises:
        StorageError: the home cannot be written.
    """
    from abs_descriptions.bundles.repository import BundleStore

    ensure_writable(home.root)
    with tempfile.TemporaryDirectory(dir=home.root, prefix=".bundle-") as folder:
        path = Path(folder) / "new.jsonl"
        write(path)
        return BundleStore(home.bundles).add(path)
