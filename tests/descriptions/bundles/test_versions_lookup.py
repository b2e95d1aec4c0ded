"""What a user's words mean: a file, a version of the local store, or a bundle that ships with the toolkit."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from bundle_samples import filled, write_cat

from abs_core.errors import BundleError, UnknownNameError, UsageError
from abs_descriptions.bundles.reader import read_bundle
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import find_bundle, is_bundle_name, refuse_shipped, shipped_bundles


def test_a_reference_means_the_local_store(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0", name="cats")
    assert find_bundle(store, "cats").header.version == "1.1.0"
    assert find_bundle(store, "cats@1.0.0").reference == str(store.resolve("cats@1.0.0"))
    with pytest.raises(UnknownNameError, match=r"'cats@3.0.0'; valid: cats@1.1.0, cats@1.0.0"):
        find_bundle(store, "cats@3.0.0")
    with pytest.raises(UsageError, match="names a range"):
        find_bundle(store, "cats@^1.0")


def test_a_path_means_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path, "1.0.0", name="cats")
    other = write_cat(tmp_path / "other.jsonl", "Another cat.")
    assert find_bundle(store, str(other.path)).digest == other.digest
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cats").write_bytes(other.path.read_bytes())
    assert find_bundle(store, "cats").header.name == "cats"
    assert find_bundle(store, "./cats").digest == other.digest
    (tmp_path / "cats.csv").write_text("class,text\ncat,A cat purrs.\n")
    with pytest.raises(BundleError, match=r"'cats.csv' is no bundle") as caught:
        find_bundle(store, "cats.csv")
    assert "`abs bundle import cats.csv --name NAME`" in caught.value.remedy


def test_shipped_bundles_are_found_behind_the_local_store(tmp_path: Path) -> None:
    shipped = read_bundle(shipped_bundles()["pets"])
    empty = Repository.local(tmp_path / "nothing")
    assert find_bundle(empty, "pets").digest == find_bundle(empty, shipped.reference).digest == shipped.digest
    with pytest.raises(UnknownNameError, match=r"'pets@9.0.0'; valid: pets@1.0.0#sha256:"):
        find_bundle(empty, "pets@9.0.0")
    with pytest.raises(
        UnknownNameError, match=r"'dogs'; valid: pets, textures\. See `abs bundle ls`, fetch one with `abs bundle pull"
    ):
        find_bundle(empty, "dogs")
    assert is_bundle_name(empty, "pets@9.0.0")
    assert not is_bundle_name(empty, "../pets")
    with pytest.raises(UsageError, match="ships with the toolkit"):
        refuse_shipped(empty, "pets")
    own = filled(tmp_path, "1.0.0")
    assert find_bundle(own, "pets@1.0.0").digest != shipped.digest
    assert find_bundle(own, shipped.reference).digest == shipped.digest
    refuse_shipped(own, "pets")


def test_a_yanked_version_is_found_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = filled(tmp_path, "1.0.0", name="cats")
    store.yank("cats@1.0.0", "wrong cats")
    with caplog.at_level(logging.WARNING, "abs_descriptions"):
        assert find_bundle(store, "cats@1.0.0").header.version == "1.0.0"
    assert caplog.messages == ["cats@1.0.0 was yanked: wrong cats"]
    with pytest.raises(BundleError, match="every version of 'cats' is yanked"):
        find_bundle(store, "cats")
