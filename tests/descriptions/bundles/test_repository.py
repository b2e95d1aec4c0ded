"""The local store: names that cannot climb, versions that never change, damage that is named."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bundle_samples import filled, write_cat, write_version

from abs_core.errors import BundleError, StorageError, UnknownNameError, UsageError
from abs_descriptions.bundles import Provenance, Rejection, iter_rejected
from abs_descriptions.bundles.references import name_problem
from abs_descriptions.bundles.repository import Repository

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "../x", "a/b", "a\\b", "Birds", "birds ", "a:b", "a\nb", "a\0b", "é", "x" * 101, "a.",
     "con", "nul.txt", "aux", "com1", "lpt9.x", "~", "a@b", "a#b", "birds\n", "*", "..."],
)  # fmt: skip
def test_bad_names_reach_no_path(tmp_path: Path, name: str) -> None:
    store = filled(tmp_path, "1.0.0")
    assert name_problem(name) is not None
    with pytest.raises(UsageError):
        store.resolve(f"{name}@1.0.0")
    with pytest.raises(UsageError):
        store.next_version(name)
    with pytest.raises(BundleError, match="name: "):
        write_cat(tmp_path / "x.jsonl", name=name)
    assert store.list(name) == []


def test_add_resolve_and_read(tmp_path: Path) -> None:
    bundle = write_version(tmp_path)
    store = Repository.local(str(tmp_path / "store"))
    entry = store.add(bundle.path)
    assert str(entry) == bundle.reference
    assert store.list() == [entry]
    for reference in ("pets", "pets@1.0.0", bundle.reference, entry.reference):
        assert store.resolve(reference) == entry
        read = store.read(reference)
        assert read.reference == bundle.reference
        assert read.descriptions() == bundle.descriptions()
        assert store.path(reference).read_bytes() == bundle.path.read_bytes()
    assert (entry.created, entry.complete, entry.counts.records) == ("2025-01-31T12:00:00Z", True, 1)
    assert entry.size == bundle.path.stat().st_size


def test_rejected_completions_come_along(tmp_path: Path) -> None:
    rejected = [Rejection("cat", "Sure!", "chatty", Provenance("g", 1))]
    store = Repository.local(tmp_path / "store")
    store.add(write_version(tmp_path, rejected=rejected).path)
    read = store.read("pets")
    assert list(iter_rejected(read.path, read.header)) == rejected


def test_bare_name_is_the_highest_release(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.9.0", "1.10.0", "2.0.0-rc.1", "0.1.0")
    assert store.resolve("pets").version == "1.10.0"
    assert [entry.version for entry in store.list()] == ["0.1.0", "1.9.0", "1.10.0", "2.0.0-rc.1"]
    only_pre = filled(tmp_path, "1.0.0-alpha", "1.0.0-beta", name="cats")
    assert only_pre.resolve("cats").version == "1.0.0-beta"
    assert [entry.name for entry in only_pre.list()] == ["cats"] * 2 + ["pets"] * 4
    assert [entry.version for entry in only_pre.list("cats")] == ["1.0.0-alpha", "1.0.0-beta"]


def test_unknown_names_list_the_valid_ones(tmp_path: Path) -> None:
    empty = Repository.local(tmp_path / "nothing")
    assert empty.list() == []
    with pytest.raises(UnknownNameError, match="there are none"):
        empty.resolve("pets")
    store = filled(tmp_path, "1.0.0", "1.1.0")
    filled(tmp_path, "1.0.0", name="cats")
    with pytest.raises(UnknownNameError, match="unknown bundle 'dogs'; valid: cats, pets"):
        store.read("dogs")
    with pytest.raises(UnknownNameError, match=r"unknown bundle 'pets@3.0.0'; valid: pets@1.1.0, pets@1.0.0"):
        store.read("pets@3.0.0")
    assert not (tmp_path / "nothing").exists()


def test_version_never_changes_its_bytes(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0")
    [before] = store.list()
    with pytest.raises(BundleError, match=r"has pets@1.0.0 with the digest") as caught:
        store.add(write_version(tmp_path, text="Another cat.").path)
    assert caught.value.remedy == "Give yours a new version, such as 1.1.0"
    assert store.list() == [before]
    assert store.read("pets").digest == before.digest


def test_same_bytes_again_change_nothing_and_mend(tmp_path: Path) -> None:
    bundle = write_version(tmp_path)
    store = Repository.local(tmp_path / "store")
    entry = store.add(bundle.path)
    files = sorted(path for path in store.root.rglob("*") if path.is_file())
    assert store.add(bundle.path) == entry
    store.path("pets").write_bytes(b"damaged")
    with pytest.raises(BundleError, match="line 1"):
        store.read("pets")
    store.path("pets").unlink()
    with pytest.raises(StorageError, match="no such file"):
        store.read("pets")
    assert store.add(bundle.path) == entry
    assert store.read("pets").digest == bundle.digest
    assert sorted(path for path in store.root.rglob("*") if path.is_file()) == files


def test_pinned_digest_is_compared(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0")
    with pytest.raises(BundleError, match=f"not {DIGEST}"):
        store.resolve(f"pets@1.0.0#{DIGEST}")


def test_object_that_is_another_bundle_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0")
    store.path("pets@1.0.0").write_bytes(store.path("pets@1.1.0").read_bytes())
    with pytest.raises(BundleError, match="not the expected"):
        store.read("pets@1.0.0")


@pytest.mark.parametrize(
    ("text", "problem"),
    [(text, "manifest is broken") for text in ("", "{", "[]", '{"name":"pets"}', "\ud800")]
    + [("x" * 100_000, "more than the 65536 bytes")],
)
def test_broken_manifest_is_named(tmp_path: Path, text: str, problem: str) -> None:
    store = filled(tmp_path, "1.0.0")
    manifest = tmp_path / "store" / "versions" / "pets" / "1.0.0.json"
    manifest.write_bytes(text.encode("utf-8", "surrogatepass"))
    for work in (store.list, lambda: store.resolve("pets"), lambda: store.read("pets")):
        with pytest.raises(BundleError, match=problem) as caught:
            work()
        assert str(manifest) in caught.value.message
        assert caught.value.remedy


def test_manifest_cannot_lead_out_of_the_store(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0")
    manifest = tmp_path / "store" / "versions" / "pets" / "1.0.0.json"
    value = json.loads(manifest.read_text())
    for change in ({"digest": "sha256:../../../etc/passwd"}, {"name": "other"}, {"version": "1.1.0"}, {"path": "/etc"}):
        manifest.write_text(json.dumps(value | change))
        with pytest.raises(BundleError, match="manifest is broken"):
            store.read("pets")
    other = filled(tmp_path, "2.0.0").resolve("pets@2.0.0")
    manifest.write_text(json.dumps(value | {"digest": other.digest}))
    with pytest.raises(BundleError, match=r"names the bytes of pets@2\.0\.0"):
        store.read("pets@1.0.0")


def test_strangers_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0")
    versions = tmp_path / "store" / "versions"
    (versions / "UPPER").mkdir()
    (versions / ".hidden").mkdir()
    (versions / "README").write_text("x")
    (versions / "pets" / "notes.txt").write_text("x")
    (versions / "pets" / "latest.json").write_text("x")
    (versions / "pets" / ".abc.part").write_text("x")
    assert [str(entry.version) for entry in store.list()] == ["1.0.0"]


def test_what_changes_a_version_needs_one(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0")
    for work in (store.remove, store.undo_yank, store.resolve_version, lambda name: store.yank(name, "x")):
        with pytest.raises(UsageError, match="must name a version, got 'pets'"):
            work("pets")
        with pytest.raises(UnknownNameError, match=r"valid: pets@1\.0\.0"):
            work("pets@9.0.0")
        with pytest.raises(UsageError, match="leading dot"):
            work("../x@1.0.0")
    with pytest.raises(BundleError, match="not sha256:0000"):
        store.remove("pets@1.0.0#sha256:" + "0" * 64)
    assert store.read("pets").header.version == "1.0.0"


def test_remove_leaves_nothing_of_a_version(tmp_path: Path) -> None:
    store = Repository.local(tmp_path / "store")
    rejected = [Rejection("cat", "Sure!", "chatty", Provenance("g", 1))]
    kept = store.add(write_version(tmp_path, "1.0.0").path)
    before = sorted(store.root.rglob("*"))
    store.add(write_version(tmp_path, "1.1.0", rejected=rejected).path)
    store.yank("pets@1.1.0", "x")
    store.remove("pets@1.1.0")
    assert [path for path in sorted(store.root.rglob("*")) if path.is_file()] == [p for p in before if p.is_file()]
    assert store.resolve("pets") == kept
    store.remove("pets@1.0.0")
    assert store.list() == []
    with pytest.raises(UnknownNameError, match="there are none"):
        store.resolve("pets")
    assert store.add(write_version(tmp_path, "1.0.0").path) == kept


def test_children_are_those_that_name_a_parent(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0")
    parent = store.resolve("pets@1.0.0")
    child = store.add(write_version(tmp_path, "1.2.0", text="It purrs.", parents=[str(parent)]).path)
    assert list(store.children(parent)) == [child]
    assert list(store.children(child)) == []
    lost = store.add(write_version(tmp_path, "1.3.0", text="It meows.", parents=[str(parent)]).path)
    assert list(store.children(parent)) == [child, lost]
    store.path(str(lost)).unlink()
    (store.root / "versions" / "pets" / "1.1.0.json").write_text("{}")
    assert list(store.children(parent)) == [child]
    store.path(str(parent)).unlink()
    assert list(store.children(parent)) == [child]


def test_broken_bundle_is_not_added(tmp_path: Path) -> None:
    path = write_version(tmp_path).path
    path.write_bytes(path.read_bytes()[:-3])
    store = Repository.local(tmp_path / "store")
    with pytest.raises(BundleError, match="truncated"):
        store.add(path)
    assert not store.root.exists()


@pytest.mark.parametrize(
    ("versions", "bump", "following"),
    [
        ([], "minor", "1.0.0"),
        (["1.2.3"], "minor", "1.3.0"),
        (["1.2.3"], "major", "2.0.0"),
        (["1.2.3"], "patch", "1.2.4"),
        (["1.9.0", "1.10.0"], "minor", "1.11.0"),
        (["1.2.0", "2.0.0-rc.1"], "minor", "2.0.0"),
    ],
)
def test_next_version(tmp_path: Path, versions: Sequence[str], bump: Any, following: str) -> None:
    assert filled(tmp_path, *versions).next_version("pets", bump) == following


def test_unwritable_store_is_a_storage_error(tmp_path: Path) -> None:
    bundle = write_version(tmp_path)
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="store"):
        Repository.local(tmp_path / "store").add(bundle.path)


def test_the_time_of_a_listing_grows_no_faster_than_the_number_of_versions(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0")
    folder = tmp_path / "store" / "versions" / "pets"
    text = (folder / "1.0.0.json").read_text()

    def fastest_listing(versions: int) -> float:
        for number in range(1, versions):
            (folder / f"1.{number}.0.json").write_text(text.replace('"1.0.0"', f'"1.{number}.0"'))
        seconds = []
        for _ in range(3):
            started = time.process_time()
            assert len(store.list()) == versions
            seconds.append(time.process_time() - started)
        return min(seconds)

    # ten times as many; a listing that looks at all versions for each takes a hundred times as long
    few = fastest_listing(100)
    assert fastest_listing(1000) < 30 * few


def test_a_store_whose_bytes_were_replaced_does_not_give_them(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0")
    path = store.path("pets@1.0.0")
    other = write_version(tmp_path, "1.0.0", text="A cat barks.")
    path.chmod(0o644)
    path.write_bytes(other.path.read_bytes())
    with pytest.raises(BundleError, match="digest"):
        store.read("pets@1.0.0")
