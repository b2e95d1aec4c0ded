"""A folder as a storage: only the bytes that were validated are published."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_samples import filled, write_version

from abs_core.canonical import sha256_bytes
from abs_core.errors import BundleError
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.storage import Blob
from abs_descriptions.bundles.storage.folder import FolderStorage


def test_a_bundle_that_changed_after_it_was_validated_is_not_published(tmp_path: Path) -> None:
    store = Repository.local(tmp_path / "store")
    bundle = write_version(tmp_path, "1.0.0")
    # another valid one of that name and version, as an editor or a second run would leave it
    write_version(tmp_path, "1.0.0", text="A cat barks.")
    with pytest.raises(BundleError, match=r"pets-1\.0\.0\.jsonl changed while it was copied"):
        store.publish(bundle)
    assert store.list() == []
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
    assert store.add(bundle.path).version == "1.0.0"


def test_bytes_that_are_there_are_written_again_only_if_they_are_damaged(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path / "store")
    source, target = tmp_path / "source", tmp_path / "store" / "object"
    source.write_bytes(b"whole")
    blob = Blob("object", source, sha256_bytes(b"whole"))
    assert storage.publish([blob], "manifest", b"{}")
    before = target.stat().st_ino
    with target.open("rb") as kept:  # so that its number is not given to another file
        assert not storage.publish([blob], "manifest", b"{}")
        assert target.stat().st_ino == before
        target.write_bytes(b"torn")
        assert not storage.publish([blob], "manifest", b"{}")
        assert target.read_bytes() == b"whole"
        assert target.stat().st_ino != before
        assert kept.read() == b"torn"


def test_a_bundle_is_published_under_its_manifest_once(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0")
    bundle = write_version(tmp_path, "1.0.0")
    assert store.publish(bundle) is False
    assert store.publish(write_version(tmp_path, "1.1.0")) is True
    assert [manifest.version for manifest in store.list()] == ["1.0.0", "1.1.0"]
