"""New versions: their number, and that what is unchanged stays the version that it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_samples import G, filled, write_cat

from abs_core.descriptions import Rejection
from abs_core.errors import UsageError
from abs_descriptions.bundles.reader import Bundle, iter_rejected
from abs_descriptions.bundles.versions import add_version, child_version, find_same_version, renumber_version


def test_a_child_comes_after_the_store_and_after_its_parents(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0")
    assert child_version(store, "pets") == "1.2.0"
    newer = write_cat(tmp_path / "newer.jsonl", version="3.4.5").header
    assert child_version(store, "pets", [newer]) == "3.5.0"
    assert child_version(store, "cats", [newer]) == "1.0.0"
    with pytest.raises(UsageError, match="leading dot"):
        child_version(store, "../pets")


@pytest.mark.parametrize(
    ("chosen", "version"), [("major", "2.0.0"), ("minor", "1.3.0"), ("patch", "1.2.1"), ("1.1.1", "1.1.1")]
)
def test_the_user_chooses_the_version(tmp_path: Path, chosen: str, version: str) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0", "1.2.0")
    parent = store.read("pets@1.1.0").header
    assert child_version(store, "pets", [parent], chosen) == version
    store.add(write_cat(tmp_path / "child.jsonl", version=version).path)
    assert child_version(store, "pets", [parent], "patch") == str(store.versions("pets")[-1].following("patch"))


def test_a_chosen_number_rises_from_a_parent_that_is_elsewhere(tmp_path: Path) -> None:
    parent = write_cat(tmp_path / "newer.jsonl", version="3.4.5").header
    assert child_version(filled(tmp_path, "1.0.0"), "pets", [parent], "patch") == "3.4.6"


@pytest.mark.parametrize(
    ("chosen", "problem"),
    [
        ("1.2", "must be MAJOR.MINOR.PATCH, or major, minor or patch, got '1.2'. Write it as in 1.2.0 or 1.2.0-rc.1,"),
        ("v2.0.0", "got 'v2.0.0'"),
        ("2.0.0+build", "got '2.0.0\\+build'"),
        ("01.2.0", "got '01.2.0'"),
        ("", "got ''"),
        ("1.1.0", "pets@1.1.0 exists already, and a version never changes. Choose another, such as 1.2.0"),
        ("0.9.0", "must be above that of its parent pets@1.0.0, got 0.9.0"),
        ("1.0.0-rc.1", "must be above that of its parent pets@1.0.0"),
    ],
)
def test_a_version_that_cannot_be_is_refused(tmp_path: Path, chosen: str, problem: str) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0")
    with pytest.raises(UsageError, match=problem):
        child_version(store, "pets", [store.read("pets@1.0.0").header], chosen)


def test_a_version_below_the_highest_is_said_not_to_be_what_the_name_means(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert child_version(filled(tmp_path, "2.0.0"), "pets", (), "1.0.1") == "1.0.1"
    assert caplog.messages == ["pets@1.0.1 is below pets@2.0.0, so pets alone does not mean it"]


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


def test_a_version_gets_another_number_and_keeps_all_else(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0")
    parent = store.resolve("pets")
    rejected = [Rejection("cat", "Sure!", "chatty", G)]
    made = write_cat(tmp_path / "n.jsonl", "New.", version="1.1.0", parents=[str(parent)], rejected=rejected)
    old = store.add(made.path)
    store.yank("pets@1.1.0", "wrong cats")
    with pytest.raises(UsageError, match=r"pets@1.0.0 is a parent of pets@1.1.0"):
        renumber_version(store, "pets@1.0.0", "1.2.0")
    with pytest.raises(UsageError, match=r"must be above that of its parent pets@1.0.0"):
        renumber_version(store, "pets@1.1.0", "0.9.0")
    new = renumber_version(store, str(old), "1.3.0")
    assert [manifest.version for manifest in store.list()] == ["1.0.0", "1.3.0"]
    bundle, yank = store.read(new), store.yank_of(new)
    assert (bundle.header.parents, bundle.header.created) == ((str(parent),), made.header.created)
    assert [rejection.text for rejection in iter_rejected(bundle.path, bundle.header)] == ["Sure!"]
    assert [record.text for record in bundle.records()] == ["New."]
    assert yank is not None
    assert yank.reason == "wrong cats"
