"""New versions: their number, and that what is unchanged stays the version that it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_samples import filled, write_cat

from abs_core.errors import UsageError
from abs_descriptions.bundles.reader import Bundle
from abs_descriptions.bundles.versions import add_version, child_version, find_same_version


def test_a_child_comes_after_the_store_and_after_its_parents(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0")
    assert child_version(store, "pets") == "1.2.0"
    newer = write_cat(tmp_path / "newer.jsonl", version="3.4.5").header
    assert child_version(store, "pets", [newer]) == "3.5.0"
    assert child_version(store, "cats", [newer]) == "1.0.0"
    with pytest.raises(UsageError, match="leading dot"):
        child_version(store, "../pets")


def test_the_same_content_is_found_and_restored(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0")

    def write(path: Path, version: str, created: str) -> Bundle:
        return write_cat(path, version=version, created=created)

    manifest = store.resolve("pets@1.1.0")
    store.path(manifest).write_bytes(b"damaged")
    assert find_same_version(store, "pets", 1, write) == manifest
    assert store.read(manifest).digest == manifest.digest
    assert find_same_version(store, "pets", 2, write) is None
    assert (
        find_same_version(store, "pets", 1, lambda path, version, _: write_cat(path, "Else.", version=version)) is None
    )


def test_what_is_written_is_added(tmp_path: Path) -> None:
    store = filled(tmp_path)
    manifest = add_version(store, lambda path: write_cat(path, "New."))
    assert store.list() == [manifest]
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["objects", "versions"]
