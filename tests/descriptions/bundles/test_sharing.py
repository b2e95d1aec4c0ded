"""Bundles copied through folders, an S3 server and a hub: what travels, who wins."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from sharing import add, enter_environment, place_of, race, send, store_of, take

from abs_core.errors import BundleError, StorageError, UnknownNameError, UsageError
from abs_core.files import sha256_file
from abs_descriptions.bundles import iter_rejected
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.sharing import copy_bundles

# --- every kind of place ---


def test_a_bundle_travels_whole(place: Repository, tmp_path: Path) -> None:
    entry = add(tmp_path / "a")
    assert [shared.is_new for shared in send(tmp_path / "a", place)] == [True]
    assert [shared.is_new for shared in send(tmp_path / "a", place)] == [False]
    listing = place.catalogue()
    assert ([entry.manifest for entry in listing.entries], listing.problems, listing.truncated) == ([entry], [], False)

    assert [shared.is_new for shared in take(tmp_path / "b", place)] == [True]
    assert [shared.is_new for shared in take(tmp_path / "b", place)] == [False]
    got = store_of(tmp_path / "b").read("pets@1.0.0")
    assert got.digest == entry.digest
    assert [rejection.text for rejection in iter_rejected(got.path, got.header)] == ["Sure! A cat."]
    records = (tmp_path / "b" / "bundles" / "pulls.jsonl").read_text().splitlines()
    assert [json.loads(record)["bundle"] for record in records] == [str(entry)]
    assert json.loads(records[0])["from"] == place.address


@pytest.mark.slow
def test_a_version_keeps_its_bytes(place: Repository, tmp_path: Path) -> None:
    first, second = add(tmp_path / "a"), add(tmp_path / "b", "Another cat.")
    send(tmp_path / "a", place)
    with pytest.raises(BundleError, match=f"has pets@1.0.0 with the digest {first.digest}") as refused:
        send(tmp_path / "b", place)
    assert refused.value.remedy.startswith(
        "Give yours a new version, such as 1.1.0, with `abs bundle renumber pets@1.0.0 "
    )
    with pytest.raises(BundleError, match=f"has pets@1.0.0 with the digest {second.digest}"):
        take(tmp_path / "b", place)
    with pytest.raises(BundleError, match=f"not {second.digest}"):
        take(tmp_path / "c", place, str(second))
    assert not (tmp_path / "c").exists()
    assert str(take(tmp_path / "c", place, str(first))[0].manifest) == str(first)


def test_the_latest_version_is_the_highest_that_is_not_yanked(place: Repository, tmp_path: Path) -> None:
    store = store_of(tmp_path / "a")
    for version in ("1.9.0", "1.10.0", "2.0.0-rc.1", "1.11.0"):
        add(tmp_path / "a", f"Cat {version}.", version)
    store.yank("pets@1.11.0", "half of it is about dogs")
    for version in ("1.9.0", "1.10.0", "2.0.0-rc.1", "1.11.0"):
        send(tmp_path / "a", place, f"pets@{version}")
    assert take(tmp_path / "b", place)[0].manifest.version == "1.10.0"
    pulled = take(tmp_path / "b", place, "pets@1.11.0")[0]
    assert (pulled.is_new, pulled.yanked) == (True, "half of it is about dogs")
    assert store_of(tmp_path / "b").resolve("pets").version == "1.10.0"
    yanks = {listed.manifest.version: listed.yanked for listed in place.catalogue().entries}
    assert yanks == {"1.9.0": None, "1.10.0": None, "2.0.0-rc.1": None, "1.11.0": "half of it is about dogs"}
    with pytest.raises(UnknownNameError, match=r"'pets@3.0.0'; valid: pets@2.0.0-rc.1, pets@1.11.0"):
        take(tmp_path / "b", place, "pets@3.0.0")
    with pytest.raises(UnknownNameError, match="'birds'; valid: pets"):
        take(tmp_path / "b", place, "birds")


def test_a_yank_reaches_those_who_have_the_version(place: Repository, tmp_path: Path) -> None:
    add(tmp_path / "a")
    send(tmp_path / "a", place)
    assert take(tmp_path / "b", place)[0].yanked is None
    store_of(tmp_path / "a").yank("pets@1.0.0", "wrong cats")
    assert send(tmp_path / "a", place, "pets@1.0.0")[0].yanked == "wrong cats"
    with pytest.raises(BundleError, match=r"every version of 'pets' is yanked, pets@1.0.0 because: wrong cats"):
        take(tmp_path / "b", place)
    again = take(tmp_path / "b", place, "pets@1.0.0")[0]
    assert (again.is_new, again.yanked) == (False, "wrong cats")
    store = store_of(tmp_path / "b")
    yank = store.yank_of(store.resolve("pets@1.0.0"))
    assert yank is not None
    assert yank.reason == "wrong cats"


def test_a_name_alone_takes_the_yanks_that_decide_what_it_means(place: Repository, tmp_path: Path) -> None:
    add(tmp_path / "a")
    second = add(tmp_path / "a", "Cats in a row.", "1.1.0")
    for reference in ("pets@1.0.0", "pets@1.1.0"):
        send(tmp_path / "a", place, reference)
    theirs = store_of(tmp_path / "b")
    take(tmp_path / "b", place)
    yank = store_of(tmp_path / "a").yank("pets@1.1.0", "rows of cats")

    assert send(tmp_path / "a", place, "pets@1.0.0")[0].yanks == [], "a version is no word about others"
    assert place.yank_of(second) is None
    assert send(tmp_path / "a", place, "pets")[0].yanks == [yank]
    assert theirs.resolve("pets") == second
    assert take(tmp_path / "b", place, "pets")[0].yanks == [yank]
    assert str(theirs.resolve("pets")).startswith("pets@1.0.0#")
    assert take(tmp_path / "b", place, "pets")[0].yanks == [], "it is there"
    assert take(tmp_path / "c", place, "pets")[0].yanks == [], "who lacks the version needs no yank of it"


def test_a_yank_of_other_bytes_under_the_same_number_stays_where_it_is(tmp_path: Path) -> None:
    for home, text in (("a", "A cat."), ("b", "Another cat.")):
        add(tmp_path / home, text, "1.1.0")
        add(tmp_path / home, "Shared.")
    send(tmp_path / "a", tmp_path / "shared", "pets@1.1.0")
    store_of(tmp_path / "b").yank("pets@1.1.0", "wrong cats")
    assert send(tmp_path / "b", tmp_path / "shared", "pets")[0].yanks == []
    assert Repository.open(str(tmp_path / "shared")).resolve("pets").version == "1.1.0"


@pytest.mark.slow
def test_parents_travel_when_they_are_asked_for(place: Repository, tmp_path: Path) -> None:
    home = tmp_path / "a"
    old = add(home, "Old.", "1.0.0")
    middle = add(home, "Middle.", "1.1.0", parents=[str(old)])
    gone = f"pets@0.1.0#sha256:{'0' * 64}"
    add(home, "New.", "1.2.0", parents=[str(middle), gone])
    assert len(send(home, place)) == 1
    sent = send(home, place, with_parents=True)
    assert [shared.manifest.version for shared in sent] == ["1.2.0", "1.1.0", "1.0.0"]
    assert sent[0].missing == [gone]
    got = take(tmp_path / "b", place, with_parents=True)
    assert [shared.manifest.version for shared in got] == ["1.2.0", "1.1.0", "1.0.0"]
    assert got[0].missing == [gone]


def test_a_listing_is_bounded(place: Repository, tmp_path: Path) -> None:
    for number in range(4):
        add(tmp_path / "a", f"Cat {number}.", f"1.{number}.0")
        send(tmp_path / "a", place, f"pets@1.{number}.0")
    listing = place.catalogue(3)
    assert [listed.manifest.version for listed in listing.entries] == ["1.0.0", "1.1.0", "1.2.0"]
    assert listing.truncated
    assert place.list("birds") == place.list("../birds") == []
    assert [str(version) for version in place.versions("pets")] == ["1.0.0", "1.1.0", "1.2.0", "1.3.0"]


def test_a_version_is_yanked_where_it_is(place: Repository, tmp_path: Path) -> None:
    entry = add(tmp_path / "a")
    send(tmp_path / "a", place)
    assert place.yank("pets@1.0.0", "wrong cats").reason == "wrong cats"
    with pytest.raises(BundleError, match="every version of 'pets' is yanked"):
        place.resolve("pets")
    assert place.resolve("pets@1.0.0") == entry
    if place.address.startswith(str(tmp_path)):
        assert place.yank("pets@1.0.0", "no cats").reason == "no cats"
        assert place.undo_yank("pets@1.0.0") == place.remove("pets@1.0.0") == entry
        assert place.list() == []
        return
    assert place.yank("pets@1.0.0", "no cats").reason == "wrong cats"
    for work in (place.undo_yank, place.remove):
        with pytest.raises(UsageError, match="nothing can be removed from"):
            work("pets@1.0.0")
    assert place.list() == [entry]


def test_a_bundle_is_read_and_copied_from_one_place_to_another(place: Repository, tmp_path: Path) -> None:
    entry = add(tmp_path / "a")
    send(tmp_path / "a", place)
    with pytest.raises(UsageError, match="is not a local store"):
        place.read("pets")
    (tmp_path / "download").mkdir()
    bundle = place.read("pets", tmp_path / "download")
    assert (bundle.reference, bundle.path.parent) == (str(entry), tmp_path / "download")
    elsewhere = Repository.open(str(tmp_path / "elsewhere"))
    assert [copied.is_new for copied in copy_bundles("pets", place, elsewhere)] == [True]
    assert [copied.is_new for copied in copy_bundles("pets", place, elsewhere)] == [False]
    assert take(tmp_path / "b", elsewhere)[0].manifest == entry
    assert not (tmp_path / "elsewhere" / "pulls.jsonl").exists()


# --- folders ---


def test_a_shared_folder_is_a_store(tmp_path: Path) -> None:
    entry = add(tmp_path / "a")
    send(tmp_path / "a", tmp_path / "shared")
    assert Repository.local(tmp_path / "shared").list() == [entry]
    assert Repository.local(tmp_path / "shared").read("pets").digest == entry.digest
    with pytest.raises(StorageError, match="cannot create"):
        send(tmp_path / "a", tmp_path / "not mounted" / "shared")


def test_pushing_again_mends_a_folder(tmp_path: Path) -> None:
    entry = add(tmp_path / "a")
    send(tmp_path / "a", tmp_path / "shared")
    file = tmp_path / "shared" / entry.object_path
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BundleError, match="has the digest"):
        take(tmp_path / "b", tmp_path / "shared")
    assert not send(tmp_path / "a", tmp_path / "shared")[0].is_new
    assert take(tmp_path / "b", tmp_path / "shared")[0].is_new


def test_a_damaged_local_copy_is_not_pushed_and_is_mended_by_a_pull(tmp_path: Path) -> None:
    entry = add(tmp_path / "a")
    send(tmp_path / "a", tmp_path / "shared")
    path = store_of(tmp_path / "a").path("pets")
    path.write_bytes(path.read_bytes().replace(b"A cat.", b"A dog."))
    with pytest.raises(BundleError):
        send(tmp_path / "a", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere" / "versions").exists()
    assert take(tmp_path / "a", tmp_path / "shared")[0].is_new
    assert sha256_file(path) == entry.digest


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rounds"), [("folder", 5), ("s3", 2), ("hf", 2)])
def test_many_processes_push_at_once(kind: str, rounds: int, tmp_path: Path) -> None:
    """Other bundles as the same version, and a bundle of its own each, at the same moments."""
    homes = [tmp_path / f"p{number}" for number in range(6 if kind == "folder" else 3)]
    for home in homes:
        for number in range(rounds):
            add(home, f"The cat of {home.name}, {number}.", f"1.{number}.0")
            add(home, f"The own cat of {home.name}, {number}.", f"1.{number}.0", home.name)
    with place_of(kind, tmp_path) as (location, environment):
        results = race(homes, location, environment, rounds, time.time() + 4)
        with pytest.MonkeyPatch.context() as patch:
            enter_environment(patch, environment)
            taken = take_all(location, tmp_path / "reader")
    winners = {}
    for result in results:
        for reference, is_new, digest, problem in result:
            if reference.startswith("pets@"):
                assert is_new == (problem == ""), problem
                assert is_new or "Give yours a new version, such as 1." in problem
                if is_new:
                    assert reference not in winners
                    winners[reference] = digest
            else:
                assert is_new, problem
    assert sorted(winners) == [f"pets@1.{number}.0" for number in range(rounds)]
    assert len(taken) == rounds * (1 + len(homes))
    assert {name: digest for name, digest in taken.items() if name.startswith("pets@")} == winners
    print({reference: digest[7:15] for reference, digest in winners.items()})


def take_all(location: str, home: Path) -> dict[str, str]:
    """Pull, and so verify, everything that a place announces."""
    remote = Repository.open(location)
    listing = remote.catalogue()
    assert not listing.problems
    for listed in listing.entries:
        take(home, remote, str(listed.manifest))
        got = store_of(home).read(str(listed.manifest))
        assert sum(1 for _ in iter_rejected(got.path, got.header)) == 1
    return {f"{listed.manifest.name}@{listed.manifest.version}": listed.manifest.digest for listed in listing.entries}
