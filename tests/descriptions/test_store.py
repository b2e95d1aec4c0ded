"""The local store: names that cannot climb, versions that never change, many processes at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from abs_core.errors import BundleError, StorageError, UnknownNameError, UsageError
from abs_core.labels import from_names
from abs_descriptions.bundles import (
    Bundle,
    Description,
    Generator,
    Provenance,
    Rejection,
    Version,
    iter_rejected,
    parse_reference,
    parse_version,
    write_bundle,
)
from abs_descriptions.bundles.references import name_problem
from abs_descriptions.bundles.repository import Repository

ROOT = Path(__file__).parents[2]


def write_to(path: Path, text: str = "A cat.", **changes: Any) -> Bundle:
    fields: dict[str, Any] = {
        "name": "pets",
        "version": "1.0.0",
        "created": "2025-01-31T12:00:00Z",
        "label_set": from_names(["cat"]),
        "generators": [Generator(id="g", backend="hand", model="none", parameters={})],
        "license": "CC0-1.0",
        "records": [Description(text, class_id="cat", provenance=Provenance("g"))],
    }
    return write_bundle(path, **fields | changes)


def write(folder: Path, version: str = "1.0.0", name: str = "pets", **changes: Any) -> Bundle:
    return write_to(folder / f"{name}-{version}.jsonl", version=version, name=name, **changes)


def filled(folder: Path, *versions: str, name: str = "pets") -> Repository:
    store = Repository.local(folder / "store")
    for version in versions:
        store.add(write(folder, version, name).path)
    return store


@pytest.mark.parametrize("name", ["birds", "a", "0", "my_birds-2.v1", "_x", "-x", "x" * 100, "concert", "auxiliary"])
def test_good_names(name: str) -> None:
    assert name_problem(name) is None


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
        write_to(tmp_path / "x.jsonl", name=name)
    assert store.list(name) == []


def test_semantic_order() -> None:
    ordered = ["0.9.0", "1.0.0-0", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta",
               "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0", "10.0.0"]  # fmt: skip
    versions = [parse_version(text) for text in ordered]
    assert all(isinstance(version, Version) for version in versions)
    assert sorted(v for v in reversed(versions) if v) == versions
    assert [str(version) for version in versions] == ordered


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.0", "01.0.0", "1.0.0+build", "1.0.0-", "1.0.0-01", "1.0.0-RC", "1.0.0-a..b", "1.0.0\n", "v1.0.0",
     "1.0.0-../x", "1.0.0-a/b", "9999999999.0.0", "1.0.0-" + "a" * 200, "１.0.0", "-1.0.0"],
)  # fmt: skip
def test_what_is_no_version(text: str) -> None:
    assert parse_version(text) is None


DIGEST = "sha256:" + "ab" * 32


def test_references_are_read_and_written() -> None:
    for text in ("birds", "birds@1.2.0", f"birds@1.2.0#{DIGEST}", "birds@2.0.0-rc.1"):
        assert str(parse_reference(text)) == text
    assert parse_reference(f"birds@1.2.0#{DIGEST}").pinned
    assert not parse_reference("birds@1.2.0").pinned


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("birds@^1.2.0", "names a range"),
        ("birds@>=1.2.0", "names a range"),
        ("birds@1.x", "names a range"),
        ("birds@1.2.x", "names a range"),
        ("birds@*", "names a range"),
        ("birds@latest", "names a range"),
        ("birds@1.2", "names a range"),
        ("birds@", "names a range"),
        ("birds@1.2.0.0", "no semantic version"),
        ("birds@1.2.0+x", "no semantic version"),
        (f"birds#{DIGEST}", "not pinned correctly"),
        ("birds@1.2.0#sha256:12", "not pinned correctly"),
        (f"birds@1.2.0#{DIGEST.upper()}", "not pinned correctly"),
        (f"birds@1.2.0#{DIGEST}#", "not pinned correctly"),
        ("../birds@1.2.0", "the name is not"),
        ("\x1b[2J", "\\x1b[2J"),
    ],
)
def test_bad_references_say_why(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert words in caught.value.message
    assert caught.value.remedy
    assert str(caught.value).isprintable()


def test_add_resolve_and_read(tmp_path: Path) -> None:
    bundle = write(tmp_path)
    store = Repository.local(tmp_path / "store")
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
    store.add(write(tmp_path, rejected=rejected).path)
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
    with pytest.raises(UnknownNameError, match="valid: none yet"):
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
        store.add(write(tmp_path, text="Another cat.").path)
    assert caught.value.remedy == "Give yours a new version, such as 1.1.0"
    assert store.list() == [before]
    assert store.read("pets").digest == before.digest


def test_same_bytes_again_change_nothing_and_mend(tmp_path: Path) -> None:
    bundle = write(tmp_path)
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
    with pytest.raises(BundleError, match="expected was"):
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


def test_yanked_version_is_not_what_a_bare_name_means(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0", "2.0.0-rc.1")
    assert store.yank("pets@1.1.0", "the tails are wrong").reason == "the tails are wrong"
    assert store.resolve("pets").version == "1.0.0"
    entry = store.resolve("pets@1.1.0")
    assert store.resolve(str(entry)) == entry
    yank = store.yank_of(entry)
    assert yank is not None
    assert (yank.version, yank.digest, yank.reason) == ("1.1.0", entry.digest, "the tails are wrong")
    assert store.yank_of(store.resolve("pets@1.0.0")) is None
    assert len(store.list()) == 3
    assert store.next_version("pets") == "2.0.0"
    assert store.read("pets@1.1.0").digest == entry.digest
    store.yank("pets@1.0.0", "too")
    assert store.resolve("pets").version == "2.0.0-rc.1"
    store.yank("pets@2.0.0-rc.1", "three")
    with pytest.raises(BundleError, match=r"every version of 'pets' is yanked, pets@2.0.0-rc.1 because: three"):
        store.resolve("pets")
    store.undo_yank("pets@1.1.0")
    assert store.resolve("pets") == entry
    with pytest.raises(UsageError, match="is not yanked"):
        store.undo_yank("pets@1.1.0")


def test_yank_keeps_the_bytes_it_writes(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0")
    yank = store.yank("pets@1.0.0", 'a "reason" \x1b[2J')
    text = (store.root / "versions" / "pets" / "1.0.0.yank").read_text()
    assert text == (
        f'{{"digest":"{yank.digest}","format":"abs-bundle-yank","format_version":1,"name":"pets",'
        '"reason":"a \\"reason\\" \\u001b[2J","version":"1.0.0"}\n'
    )


def test_yank_of_a_version_called_yank(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0-rc", "1.0.0-rc.yank")
    store.yank("pets@1.0.0-rc", "x")
    assert [str(entry.version) for entry in store.list()] == ["1.0.0-rc", "1.0.0-rc.yank"]
    assert store.yank_of(store.resolve("pets@1.0.0-rc.yank")) is None


@pytest.mark.parametrize("reason", ["", " ", "two\nlines", "x" * 4001, "\ud800", "\0"])
def test_what_is_no_reason(tmp_path: Path, reason: str) -> None:
    store = filled(tmp_path, "1.0.0")
    with pytest.raises(UsageError, match="the reason"):
        store.yank("pets@1.0.0", reason)
    assert store.resolve("pets").version == "1.0.0"


@pytest.mark.parametrize("text", ["", "{}", '{"a":', "yes", '{"reason":"x"}'])
def test_broken_yank_is_named(tmp_path: Path, text: str) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0")
    (store.root / "versions" / "pets" / "1.1.0.yank").write_text(text)
    with pytest.raises(BundleError, match=r"1\.1\.0\.yank, line 1: the yank is broken"):
        store.resolve("pets")


def test_what_changes_a_version_needs_one(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0")
    for work in (store.remove, store.undo_yank, store.resolve_version, lambda name: store.yank(name, "x")):
        with pytest.raises(UsageError, match="'pets' names no version"):
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
    kept = store.add(write(tmp_path, "1.0.0").path)
    before = sorted(store.root.rglob("*"))
    store.add(write(tmp_path, "1.1.0", rejected=rejected).path)
    store.yank("pets@1.1.0", "x")
    store.remove("pets@1.1.0")
    assert [path for path in sorted(store.root.rglob("*")) if path.is_file()] == [p for p in before if p.is_file()]
    assert store.resolve("pets") == kept
    store.remove("pets@1.0.0")
    assert store.list() == []
    with pytest.raises(UnknownNameError, match="valid: none yet"):
        store.resolve("pets")
    assert store.add(write(tmp_path, "1.0.0").path) == kept


def test_children_are_those_that_name_a_parent(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0")
    parent = store.resolve("pets@1.0.0")
    child = store.add(write(tmp_path, "1.2.0", text="It purrs.", parents=[str(parent)]).path)
    assert list(store.children(parent)) == [child]
    assert list(store.children(child)) == []
    lost = store.add(write(tmp_path, "1.3.0", text="It meows.", parents=[str(parent)]).path)
    assert list(store.children(parent)) == [child, lost]
    store.path(str(lost)).unlink()
    (store.root / "versions" / "pets" / "1.1.0.json").write_text("{}")
    assert list(store.children(parent)) == [child]
    store.path(str(parent)).unlink()
    assert list(store.children(parent)) == [child]


def test_broken_bundle_is_not_added(tmp_path: Path) -> None:
    path = write(tmp_path).path
    path.write_bytes(path.read_bytes()[:-3])
    store = Repository.local(tmp_path / "store")
    with pytest.raises(BundleError, match="torn"):
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
    bundle = write(tmp_path)
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="store"):
        Repository.local(tmp_path / "store").add(bundle.path)


ADD = """
import sys
from pathlib import Path
from abs_core.errors import AbsError
from abs_descriptions.bundles.repository import Repository
store, ready, go, *paths = map(Path, sys.argv[1:])
ready.touch()
while not go.exists():
    pass
for path in paths:
    try:
        print("added", Repository.local(store).add(path))
    except AbsError as error:
        print("refused", error.message)
"""


def test_many_processes_at_once(tmp_path: Path) -> None:
    """Eight processes add twenty versions each; of every version there are two contents, and exactly one wins."""
    versions = [f"1.{number}.0" for number in range(20)]
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        for version in versions:
            write(tmp_path / side, version, text=f"A cat on the {side}.")
    go = tmp_path / "go"
    processes = []
    for number in range(8):
        side = ("left", "right")[number % 2]
        paths = [str(tmp_path / side / f"pets-{version}.jsonl") for version in versions]
        arguments = [str(tmp_path / "store"), str(tmp_path / f"ready-{number}"), str(go), *paths]
        processes.append(
            subprocess.Popen([sys.executable, "-c", ADD, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        )
    deadline = time.monotonic() + 60
    while not all((tmp_path / f"ready-{number}").exists() for number in range(8)) and time.monotonic() < deadline:
        time.sleep(0.01)
    go.touch()
    lines = [line for process in processes for line in process.communicate(timeout=60)[0].splitlines()]
    assert [process.returncode for process in processes] == [0] * 8
    assert len(lines) == 160
    store = Repository.local(tmp_path / "store")
    assert [entry.version for entry in store.list()] == versions
    for entry in store.list():
        assert store.read(entry.reference).digest == entry.digest
        added = {line for line in lines if line.startswith(f"added pets@{entry.version}#")}
        assert added == {f"added {entry}"}
        refused = [line for line in lines if line.startswith(f"refused {store.address} has pets@{entry.version} with")]
        assert len(refused) == 4
    assert not [path for path in store.root.rglob("*") if path.suffix == ".part"]


def raced(tmp_path: Path) -> tuple[Repository, Path]:
    path = write(tmp_path, "1.0.0", rejected=[Rejection("cat", "Sure!", "chatty", Provenance("g", 1))]).path
    store = Repository.local(tmp_path / "store")
    store.add(path)
    return store, path


def assert_whole(store: Repository) -> None:
    found = store.read("pets@1.0.0")
    assert [rejection.text for rejection in iter_rejected(found.path, found.header)] == ["Sure!"]
    assert not [path for path in store.root.rglob("*") if path.suffix == ".part"]


def test_version_that_is_added_while_it_is_removed_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process adds the version again between the going of its manifest and that of its bytes."""
    store, path = raced(tmp_path)
    unlink = Path.unlink

    def and_add_again(target: Path, missing_ok: bool = False) -> None:
        unlink(target, missing_ok)
        if target.name == "1.0.0.json":
            monkeypatch.undo()
            Repository.local(store.root).add(path)

    monkeypatch.setattr(Path, "unlink", and_add_again)
    store.remove("pets@1.0.0")
    assert_whole(store)


def test_version_that_is_removed_while_it_is_added_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process removes the version between the look at its bytes and the writing of the manifest."""
    store, path = raced(tmp_path)
    link = os.link

    def after_a_removal(source: Path, target: Path) -> None:
        monkeypatch.undo()
        Repository.local(store.root).remove("pets@1.0.0")
        link(source, target)

    monkeypatch.setattr(os, "link", after_a_removal)
    store.add(path)
    assert_whole(store)


def test_listing_a_thousand_versions_takes_under_a_second(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0")
    folder = tmp_path / "store" / "versions" / "pets"
    text = (folder / "1.0.0.json").read_text()
    for number in range(1, 1000):
        (folder / f"1.{number}.0.json").write_text(text.replace('"1.0.0"', f'"1.{number}.0"'))
    started = time.process_time()
    assert len(store.list()) == 1000
    assert time.process_time() - started < 1
