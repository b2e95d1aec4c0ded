"""Bundles merged into a new version in the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from abs_core.errors import UsageError
from abs_core.home import Home
from abs_descriptions.bundles.repository import find_bundle

if TYPE_CHECKING:
    from abs_descriptions.bundles import Bundle
    from abs_descriptions.bundles.repository import StoreEntry

__all__ = ["merge_into_store"]


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
    from abs_descriptions.bundles.new_versions import add_version, child_version, timestamp
    from abs_descriptions.bundles.repository import BundleStore

    bundles = [find_bundle(home, reference) for reference in references]
    if len({bundle.digest for bundle in bundles}) != len(bundles) or len(bundles) < 2:
        raise UsageError("a merge needs at least two different bundles", remedy="Name each bundle once")
    label_set = None if labels is None else read_labels(labels)
    first = bundles[0].header
    chosen = first.name if name is None else name
    store = BundleStore(home.bundles)
    version = child_version(store, chosen, [bundle.header for bundle in bundles])

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

    return add_version(store, write)
