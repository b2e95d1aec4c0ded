"""Garbage and damage, in places of every kind: what goes, what stays, what is restored."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from bundle_samples import write_version
from sharing import PLACES, add, send, store_of, take

from abs_core.errors import BundleError, UsageError
from abs_core.files import sha256_file
from abs_descriptions.bundles.maintenance import MIN_AGE, collect_garbage, verify_repository
from abs_descriptions.bundles.manifest import manifest_path
from abs_descriptions.bundles.reader import rejected_path
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.storage import Blob

#: Places that say when a file was written.
DATED = [kind for kind in PLACES if kind != "hf"]
ORPHAN = f"objects/sha256/00/{'00' * 32}.jsonl"


def write(place: Repository, path: str, text: str, folder: Path) -> None:
    """Put a file into a place, whatever is there."""
    file = folder / "written"
    file.write_text(text)
    place.storage.restore([Blob(path, file, sha256_file(file))])


def all_files(place: Repository) -> set[str]:
    names = [name for name in place.storage.names("") if "." not in name]
    return {file.path for name in names for file in place.storage.files(name)}


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written now is old enough."""
    clock = SimpleNamespace(time=lambda: time.time() + 100_000)
    monkeypatch.setattr("abs_descriptions.bundles.maintenance.time", clock)


@pytest.mark.usefixtures("tomorrow")
def test_what_no_manifest_names_goes_and_nothing_else(place: Repository, tmp_path: Path) -> None:
    entry = add(tmp_path / "a")
    send(tmp_path / "a", place)
    rejected = ORPHAN.replace(".jsonl", ".rejected.jsonl")
    others = [
        "notes.txt",
        "mine/.x.abcdefgh.part",
        "objects/sha256/11/notes.jsonl",
        f"objects/sha256/11/{'00' * 32}.jsonl",
    ]
    for path in (ORPHAN, rejected, *others):
        write(place, path, "a cat", tmp_path)
    before = all_files(place)
    assert place.storage.files("nothing") == []
    garbage = collect_garbage(place)
    assert [(item.file.path, item.reason) for item in garbage.files] == [
        (ORPHAN, "no manifest names it"),
        (rejected, "no manifest names it"),
    ]
    assert garbage.size == 10
    assert all_files(place) == before
    assert len(collect_garbage(place, delete=True).files) == 2
    assert all_files(place) == before - {ORPHAN, rejected}
    assert collect_garbage(place, delete=True).files == []
    assert take(tmp_path / "b", place)[0].manifest == entry
    assert verify_repository(place).is_sound


@pytest.mark.parametrize("place", DATED, indirect=True)
def test_what_is_young_may_be_of_a_push_that_is_under_way(place: Repository, tmp_path: Path) -> None:
    write(place, ORPHAN, "a cat", tmp_path)
    garbage = collect_garbage(place, min_age=MIN_AGE, delete=True)
    assert (garbage.files, garbage.young) == ([], 1)
    assert [file.path for file in place.storage.files("objects")] == [ORPHAN]
    for age in (MIN_AGE - 1, 0, -1, float("nan")):
        with pytest.raises(UsageError, match="must be at least 1 hour old"):
            collect_garbage(place, min_age=age)


@pytest.mark.parametrize("place", DATED, indirect=True)
def test_what_was_written_since_it_was_listed_stays(place: Repository, tmp_path: Path) -> None:
    write(place, ORPHAN, "a cat", tmp_path)
    listed = place.storage.files("objects")
    time.sleep(1.1)  # an object of a bucket has whole seconds
    write(place, ORPHAN, "a dog", tmp_path)
    assert list(place.storage.delete(listed)) == []
    assert [file.path for file in place.storage.files("objects")] == [ORPHAN]


@pytest.mark.usefixtures("tomorrow")
def test_half_written_files_and_yanks_of_nothing_go(published: Path) -> None:
    place = Repository.open(str(published))
    names = [".pull-abcdefgh/pets.jsonl", "objects/.x.abcdefgh.part", "versions/pets/9.0.0.yank"]
    for name in names:
        (published / name).parent.mkdir(exist_ok=True)
        (published / name).write_text("x")
    place.yank("pets@1.0.0", "no cats")
    assert [item.file.path for item in collect_garbage(place, delete=True).files] == names
    assert not (published / ".pull-abcdefgh").exists()
    assert place.yank_of(place.resolve("pets@1.0.0")) is not None


@pytest.mark.usefixtures("tomorrow")
@pytest.mark.usefixtures("tomorrow")
def test_a_half_written_file_beside_the_folders_hinders_nothing_and_goes(published: Path) -> None:
    left = published / ".abcdefgh.part"
    left.write_text("of pulls.jsonl")
    place = Repository.open(str(published))
    assert verify_repository(place).is_sound
    garbage = collect_garbage(place, delete=True)
    assert [(item.file.path, item.file.size) for item in garbage.files] == [(left.name, 14)]
    assert not left.exists()


def test_nothing_goes_while_it_is_unknown_what_a_manifest_names(published: Path, tmp_path: Path) -> None:
    place = Repository.open(str(published))
    write(place, ORPHAN, "a cat", tmp_path)
    (published / manifest_path("pets", "1.0.0")).write_text("{}")
    with pytest.raises(BundleError, match=r"what 1 of 2 manifests name is unknown: .*nothing was removed"):
        collect_garbage(place, delete=True)
    assert (published / ORPHAN).exists()


@pytest.mark.parametrize("path", ["versions/pets/2026-11.json", "versions/Pets And More/1.0.0.json", "versions/x.json"])
def test_nothing_goes_beside_a_manifest_that_may_be_of_a_later_release(published: Path, path: str) -> None:
    before = {file for file in published.rglob("*") if file.is_file()}
    (published / path).parent.mkdir(exist_ok=True)
    (published / path).write_text("{}")
    with pytest.raises(BundleError, match=r"it is called as no manifest is.*nothing was removed"):
        collect_garbage(Repository.open(str(published)), min_age=3600, delete=True)
    assert before < {file for file in published.rglob("*") if file.is_file()}


def test_a_push_wins_over_a_collection_at_the_same_time(tmp_path: Path) -> None:
    bundle = write_version(tmp_path)
    place = Repository.open(str(tmp_path / "shared"))
    place.check_writable()
    manifest = place.add(bundle.path)
    path = tmp_path / "shared" / manifest.object_path
    for _ in range(40):
        (tmp_path / "shared" / manifest_path("pets", "1.0.0")).unlink()
        os.utime(path, (0, 0))
        both = threading.Barrier(2)

        def collect(both: threading.Barrier = both) -> None:
            both.wait()
            collect_garbage(place, delete=True)

        thread = threading.Thread(target=collect)
        thread.start()
        both.wait()
        place.publish(bundle)
        thread.join()
        assert sha256_file(path) == manifest.digest


# --- damage ---


def test_what_is_damaged_or_missing_is_named_and_restored(place: Repository, tmp_path: Path) -> None:
    entry, lost = add(tmp_path / "a"), add(tmp_path / "a", "A newer cat.", "1.1.0")
    send(tmp_path / "a", place, "pets@1.0.0")
    send(tmp_path / "a", place, "pets@1.1.0")
    data = store_of(tmp_path / "a").path(entry).read_text()
    write(place, entry.object_path, data.replace("A cat.", "A dog."), tmp_path)
    place.storage.delete([file for file in place.storage.files("objects") if file.path == lost.object_path])

    check = verify_repository(place)
    assert (check.checked, check.is_sound, check.unnamed) == (2, False, 0)
    problems = [(version.reference, version.problem.message) for version in check.damaged]
    assert problems[0][0] == "pets@1.0.0"
    assert f"not {entry.digest}" in problems[0][1]
    assert problems[1] == ("pets@1.1.0", f"{place.address} lists pets@1.1.0 but lacks its bytes")
    assert [version.reference for version in verify_repository(place, quick=True).damaged] == ["pets@1.1.0"]

    nothing = verify_repository(place, store_of(tmp_path / "empty"))
    assert [version.restored for version in nothing.damaged] == [False, False]
    repaired = verify_repository(place, store_of(tmp_path / "a"))
    assert [version.restored for version in repaired.damaged] == [True, True]
    assert repaired.is_sound
    assert verify_repository(place).damaged == []
    assert [copied.manifest for copied in take(tmp_path / "b", place)] == [lost]


def test_a_damaged_copy_leaves_the_others_to_be_restored(published: Path, tmp_path: Path) -> None:
    place, store = Repository.open(str(published)), store_of(tmp_path / "a")
    for version in ("1.0.0", "1.10.0"):
        (published / place.resolve(f"pets@{version}").object_path).unlink()
    rejected_path(store.path("pets@1.0.0")).write_text("{")
    check = verify_repository(place, store)
    assert [(version.reference, version.restored) for version in check.damaged] == [
        ("pets@1.0.0", False),
        ("pets@1.10.0", True),
    ]


def test_a_broken_manifest_and_strange_files_are_named_one_by_one(published: Path, tmp_path: Path) -> None:
    place = Repository.open(str(published))
    entry = place.resolve("pets@1.0.0")
    (published / entry.object_path).unlink()
    os.mkfifo(published / entry.object_path)
    (published / manifest_path("pets", "1.10.0")).write_text("{}")
    check = verify_repository(place, store_of(tmp_path / "a"))
    messages = [(version.reference, version.problem.message, version.restored) for version in check.damaged]
    assert messages[0][0] == "pets@1.0.0"
    assert "not a regular file" in messages[0][1]
    assert messages[0][2]
    assert "the manifest is broken" in messages[1][1]
    assert not messages[1][2]
    assert check.unnamed == 1


def test_the_local_store_is_verified_where_it_is(tmp_path: Path) -> None:
    entry = add(tmp_path / "a")
    store = store_of(tmp_path / "a")
    assert verify_repository(store).is_sound
    path = store.path(entry)
    path.write_bytes(path.read_bytes().replace(b"A cat.", b"A dog."))
    assert [version.reference for version in verify_repository(store).damaged] == ["pets@1.0.0"]
