"""A bundle to a child version of it that holds fewer descriptions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_classify.encoding.cache import CacheKey, StageCache
from abs_core.canonical import digest
from abs_core.errors import UsageError
from abs_core.files import ensure_writable, storage_errors
from abs_core.home import Home
from abs_descriptions.bundles.lookup import shipped_bundles
from abs_descriptions.bundles.new_versions import add_version, child_version, find_same_version, timestamp

if TYPE_CHECKING:
    from abs_descriptions.bundles import Bundle, Generator
    from abs_descriptions.filtering import Criteria, Encoder, FilteredBundle

__all__ = [
    "check_child",
    "filter_sentences",
    "keep_child",
    "spare_own_result",
]


# whose versions may change an embedding
_PACKAGES = ("sentence-transformers", "transformers", "tokenizers", "torch")


def filter_sentences(home: Home, bundle: Bundle, encoder: Encoder, criteria: Criteria) -> FilteredBundle:
    """Judge the descriptions of a bundle by their sentence embeddings, which the stage cache remembers.

    Raises:
        as ``filter_records``; CacheError: the cache cannot be used.
    """
    from abs_descriptions.filtering import encoded_texts, filter_records

    texts = encoded_texts(bundle)
    unique = sorted(set(texts))
    cache = StageCache(home.cache)
    packages = {name: _version(name) for name in _PACKAGES}
    key = CacheKey("sentence-embeddings", 1, {"encoder": encoder.digest, "texts": digest(unique), "packages": packages})
    found = cache.load(key)
    if found is None:
        cache.require_writable()
        found = {"vectors": encoder.encode(unique)}
        cache.store(key, found)
    position = {text: at for at, text in enumerate(unique)}
    return filter_records(bundle, encoder, criteria, found["vectors"][[position[text] for text in texts]])


def keep_child(
    home: Home, parent: Bundle, filtered: FilteredBundle, name: str | None, out: Path | None
) -> tuple[str, bool]:
    """Write the child version: to a file, or as a new version in the store.

    A child that the store has already, of the same parent and by the same criteria, gets no second version: what was
    lost of it is put back, and stderr says if it was yanked. Nor is there a new version of the parent that would lack
    nothing.

    Args:
        home: has the store.
        parent: what was filtered.
        filtered: what stays and goes.
        name: of the child; None: the parent's.
        out: a file; None: the store.

    Returns:
        The pinned reference, and whether it was written now.
    """
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.filtering import write_child

    store = Repository.local(home.bundles)
    chosen = parent.header.name if name is None else name
    following = child_version(store, chosen, [parent.header])

    def write(path: Path, number: str, created: str) -> Bundle:
        return write_child(path, parent, filtered, name=chosen, version=number, created=created)

    if out is not None:
        return write(out, following, timestamp()).reference, True
    if not filtered.removed and chosen == parent.header.name:
        return parent.reference, False
    again = find_same_version(store, chosen, len(filtered.kept), write)
    if again is not None:
        return str(again), False
    versions = {entry.version for entry in store.list(parent.header.name)}
    if parent.path in shipped_bundles().values() and parent.header.version not in versions:
        store.add(parent.path)  # so that child and parent can be pushed together
    return str(add_version(store, lambda path: write(path, following, timestamp()))), True


def spare_own_result(bundle: Bundle, filtered: FilteredBundle) -> FilteredBundle:
    """Take nothing from a bundle that is what a filter of the same criteria left, if nothing was done to it since.

    What is left is less alike than what there was, so the same criteria may take more of it, and more again.
    """
    header = bundle.header
    last = header.generators[-1] if header.generators else None
    # A review is a generator after the filter; a merge has several parents and may bring back what the filter took.
    if last is None or len(header.parents) != 1 or _criteria(last) != _criteria(filtered.filter):
        return filtered
    kept = tuple(bundle.records())
    keep = last.parameters.get("keep")
    if isinstance(keep, int) and max(Counter(record.class_id for record in kept).values(), default=0) > keep:
        return filtered
    return replace(filtered, kept=kept, removed=(), spared=0)


def _criteria(filter_: Generator) -> tuple[str, str, dict[str, Any]]:
    """What a filter was told; the digest of the texts says what it was applied to."""
    told = {name: value for name, value in filter_.parameters.items() if name != "texts_digest"}
    return filter_.backend, filter_.model, told


def check_child(home: Home, parent: Bundle, name: str | None, out: Path | None) -> None:
    """Find out before any work whether ``keep_child`` could write.

    Raises:
        UsageError: a name that cannot be one, or a file that is the parent itself.
        StorageError: the store, or the folder of the file, cannot be written.
    """
    from abs_descriptions.bundles.repository import Repository

    child_version(Repository.local(home.bundles), parent.header.name if name is None else name, [parent.header])
    ensure_writable(home.root if out is None else out.absolute().parent)
    if out is not None:
        with storage_errors(out, "write"):
            if out.exists() and out.samefile(parent.path):
                raise UsageError(f"--out {str(out)!r} is the bundle to be filtered", remedy="Name another file")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
