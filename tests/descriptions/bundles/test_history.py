"""The history of a bundle: what it was made of, what changed, what a name means, and versions that went apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundle_samples import filled, generator, texts, write_texts
from sharing import add, send, store_of

from abs_core.descriptions import Provenance
from abs_core.errors import BundleError, UnknownNameError
from abs_core.files import data_folder
from abs_core.labels import from_names
from abs_descriptions.bundles.history import find_forks, has_version, list_versions, read_history
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.reader import read_bundle
from abs_descriptions.bundles.repository import Repository

JANE = generator("review", backend="review", model="Jane")
SHIPPED = read_bundle(data_folder() / "bundles" / "pets-1.0.0.jsonl")


def put(
    store: Repository, folder: Path, version: str, records: Any, *parents: Manifest | str, **changes: Any
) -> Manifest:
    fields = {"name": "own", "version": version, "parents": [str(parent) for parent in parents]}
    fields["created"] = f"2025-01-{int(version[2]) + 1:02}T12:00:00Z"
    return store.add(write_texts(folder / f"{version}.jsonl", records, **fields | changes).path)


@pytest.fixture
def store(tmp_path: Path) -> Repository:
    """own@1.0.0, two versions made of it, and a merge of these."""
    store = Repository.local(tmp_path / "store")
    accepted = replace(texts("cat", "A.")[0], provenance=Provenance("g", accepted_by="review"))
    first = put(store, tmp_path, "1.0.0", texts("cat", "A.", "B."))
    left = put(store, tmp_path, "1.1.0", [accepted, *texts("cat", "B.")], first, generators=[generator(), JANE])
    right = put(store, tmp_path, "1.2.0", texts("cat", "B.", "C."), first)
    put(store, tmp_path, "1.3.0", texts("cat", "B."), left, right, generators=[generator(), JANE])
    return store


def versions(history: Any) -> list[str]:
    return [entry.summary.version for entry in history.entries]


class TestHistory:
    def test_is_what_a_version_was_made_of(self, store: Repository) -> None:
        history = read_history(store, "own")
        assert versions(history) == ["1.3.0", "1.2.0", "1.1.0", "1.0.0"]
        assert (history.total, history.others, history.problems) == (4, [], [])
        assert [[author.model for author in entry.authors] for entry in history.entries] == [[], [], ["Jane"], ["none"]]
        assert [entry.is_meant for entry in history.entries] == [True, False, False, False]
        merged, _, left, first = history.entries
        assert [
            (change.parent[:9], change.counts and (change.counts.added, change.counts.removed, change.counts.classes))
            for change in history.changes(merged)
        ] == [("own@1.1.0", (0, 1, 1)), ("own@1.2.0", (0, 1, 1))]
        [change] = history.changes(left)
        assert change.counts is not None
        assert change.counts.accepted == 1
        assert history.changes(first) == []

    def test_of_an_earlier_version_leaves_out_the_later_ones_unless_all_are_wanted(self, store: Repository) -> None:
        history = read_history(store, "own@1.1.0")
        assert versions(history) == ["1.1.0", "1.0.0"]
        assert [other[:9] for other in history.others] == ["own@1.2.0", "own@1.3.0"]
        history = read_history(store, "own@1.1.0", every=True)
        assert (versions(history), history.others) == (["1.3.0", "1.2.0", "1.1.0", "1.0.0"], [])

    def test_up_to_a_limit(self, store: Repository) -> None:
        history = read_history(store, "own", limit=2)
        assert (versions(history), history.total) == (["1.3.0", "1.2.0"], 4)

    def test_a_child_comes_before_its_parent_whatever_the_clocks_said(self, store: Repository, tmp_path: Path) -> None:
        put(store, tmp_path, "1.4.0", texts("cat", "B."), store.resolve("own"), created="2020-01-01T00:00:00Z")
        assert versions(read_history(store, "own"))[:2] == ["1.4.0", "1.3.0"]

    def test_a_parent_that_is_not_here_or_damaged(self, store: Repository, tmp_path: Path) -> None:
        gone = f"own@0.9.0#sha256:{'0' * 64}"
        damaged = store.resolve("own@1.2.0")
        store.path(damaged).write_bytes(store.path(damaged).read_bytes()[:-3])
        put(store, tmp_path, "2.0.0", texts("cat", "D."), gone, damaged)
        history = read_history(store, "own")
        lost, other = history.changes(history.entries[0])
        assert (lost.found, lost.counts, lost.problem) == (False, None, None)
        assert (other.found, other.counts, other.problem) == (True, None, "the bytes of own@1.2.0 are damaged")
        store.path(damaged).write_bytes(
            store.path(damaged).read_bytes().replace(b'"class":"cat"', b'"class":"\xff\\x"')
        )
        assert read_history(store, "own").changes(history.entries[0])[1].problem == other.problem
        store.path(damaged).write_bytes(b"{}\n")
        history = read_history(store, "own")
        assert [change.found for change in history.changes(history.entries[0])] == [False, False]
        assert "the header is invalid" in str(history.problems[0]) or "not a description bundle" in str(
            history.problems[0]
        )

    def test_reaches_what_ships_with_the_toolkit(self, tmp_path: Path) -> None:
        store = Repository.local(tmp_path / "store")
        child = replace(next(iter(SHIPPED.records())), text="Another.")
        fields = {"name": "pets", "label_set": SHIPPED.header.label_set, "generators": SHIPPED.header.generators}
        put(store, tmp_path, "1.1.0", [child], SHIPPED.reference, **fields)
        history = read_history(store, "pets")
        assert [(entry.summary.version, entry.origin, entry.is_meant) for entry in history.entries] == [
            ("1.1.0", "store", True),
            ("1.0.0", "shipped", False),
        ]
        [change] = history.changes(history.entries[0])
        assert change.counts is not None
        assert (change.counts.added, change.counts.removed) == (1, SHIPPED.header.counts.records)

    def test_of_a_file(self, tmp_path: Path) -> None:
        path = write_texts(tmp_path / "own.jsonl", texts("cat", "A.")).path
        [entry] = read_history(Repository.local(tmp_path / "store"), str(path)).entries
        assert (entry.origin, entry.path, entry.is_meant) == ("file", path, False)

    def test_label_sets_that_differ(self, store: Repository, tmp_path: Path) -> None:
        more = from_names(["cat", "dog", "fish", "owl"], name="pets")
        put(store, tmp_path, "1.4.0", texts("cat", "B."), store.resolve("own"), label_set=more)
        history = read_history(store, "own")
        [change] = history.changes(history.entries[0])
        assert change.labels is not None
        assert change.labels.added == ("owl",)

    def test_a_yanked_version_is_marked(self, store: Repository) -> None:
        store.yank("own@1.3.0", "wrong cats")
        entries = read_history(store, "own@1.3.0").entries
        assert [(entry.yanked, entry.is_meant) for entry in entries[:2]] == [("wrong cats", False), (None, True)]


class TestListing:
    def test_of_a_store_has_parents_and_what_ships(self, store: Repository) -> None:
        store.yank("own@1.3.0", "wrong cats")
        listing = list_versions(store)
        own = [listed for listed in listing.versions if listed.manifest.name == "own"]
        assert [
            (listed.manifest.version, len(listed.parents or ()), listed.yanked, listed.is_meant) for listed in own
        ] == [
            ("1.0.0", 0, None, False),
            ("1.1.0", 1, None, False),
            ("1.2.0", 1, None, True),
            ("1.3.0", 2, "wrong cats", False),
        ]
        shipped = next(listed for listed in listing.versions if listed.manifest.name == "pets")
        assert (shipped.origin, shipped.is_meant, str(shipped.manifest)) == ("shipped", True, SHIPPED.reference)
        assert len(list_versions(store, "own").versions) == 4
        with pytest.raises(UnknownNameError, match=r"'onw' \(did you mean 'own'\?\)"):
            list_versions(store, "onw")

    def test_names_what_cannot_be_read_and_lists_the_rest(self, store: Repository) -> None:
        assert store.root is not None
        (store.root / "versions" / "own" / "1.3.0.json").write_text("broken")
        store.path("own@1.1.0").write_bytes(b"broken")
        listing = list_versions(store, "own")
        assert [(listed.manifest.version, listed.parents, listed.is_meant) for listed in listing.versions] == [
            ("1.0.0", (), False),
            ("1.1.0", None, False),
            ("1.2.0", (str(store.resolve("own@1.0.0")),), True),
        ]
        assert "1.3.0.json, line 1: the manifest is broken" in str(listing.problems[0])

    def test_a_release_is_meant_before_a_pre_release(self, tmp_path: Path) -> None:
        versions = list_versions(filled(tmp_path, "1.0.0", "2.0.0-rc.1"), "pets").versions
        assert [(listed.manifest.version, listed.is_meant) for listed in versions] == [
            ("1.0.0", True),
            ("2.0.0-rc.1", False),
        ]

    def test_a_cut_listing_does_not_say_what_the_last_name_means(self, tmp_path: Path) -> None:
        add(tmp_path / "a", name="ants")
        for version in ("1.0.0", "1.1.0"):
            add(tmp_path / "a", version, version)
        for reference in ("ants", "pets@1.0.0", "pets@1.1.0"):
            send(tmp_path / "a", tmp_path / "shared", reference)
        listing = list_versions(Repository.open(str(tmp_path / "shared")), limit=2)
        assert [(listed.manifest.name, listed.is_meant) for listed in listing.versions] == [
            ("ants", True),
            ("pets", False),
        ]
        assert listing.truncated


class TestForks:
    def test_a_version_of_a_colleague_that_ours_lacks(self, place: Repository, tmp_path: Path) -> None:
        first = add(tmp_path / "a")
        theirs = add(tmp_path / "b", "Theirs.", "1.1.0", parents=[str(first)])
        ours = add(tmp_path / "a", "Ours.", "1.2.0", parents=[str(first)])
        send(tmp_path / "b", place, "pets@1.1.0")
        assert find_forks(store_of(tmp_path / "a"), place, ours) == [theirs]
        assert find_forks(store_of(tmp_path / "a"), place, first) == [], "theirs was made of it"
        merged = add(tmp_path / "a", "Both.", "1.3.0", parents=[str(ours), str(theirs)])
        assert find_forks(store_of(tmp_path / "a"), place, merged) == []
        place.yank("pets@1.1.0", "wrong cats")
        assert find_forks(store_of(tmp_path / "a"), place, ours) == []

    def test_of_a_line_of_versions_the_last_alone_is_named(self, tmp_path: Path) -> None:
        first = add(tmp_path / "a")
        second = add(tmp_path / "b", "Second.", "1.1.0", parents=[str(first)])
        third = add(tmp_path / "b", "Third.", "1.2.0", parents=[str(second)])
        for reference in ("pets@1.1.0", "pets@1.2.0"):
            send(tmp_path / "b", tmp_path / "shared", reference)
        ours, place = add(tmp_path / "a", "Ours.", "1.3.0", parents=[str(first)]), tmp_path / "shared"
        assert find_forks(store_of(tmp_path / "a"), Repository.open(str(place)), ours) == [third]

    def test_what_was_made_of_ours_through_a_version_that_only_the_place_has(self, tmp_path: Path) -> None:
        first = add(tmp_path / "a")
        second = add(tmp_path / "b", "Second.", "1.1.0", parents=[str(first)])
        add(tmp_path / "b", "Third.", "1.2.0", parents=[str(second)])
        for reference in ("pets@1.1.0", "pets@1.2.0"):
            send(tmp_path / "b", tmp_path / "shared", reference)
        assert find_forks(store_of(tmp_path / "a"), Repository.open(str(tmp_path / "shared")), first) == []

    def test_without_a_common_version_only_a_higher_one_counts(self, tmp_path: Path) -> None:
        for version in ("1.0.0", "2.0.0"):
            add(tmp_path / "b", version, version)
            send(tmp_path / "b", tmp_path / "shared", f"pets@{version}")
        ours, place = add(tmp_path / "a", "Ours.", "1.5.0"), Repository.open(str(tmp_path / "shared"))
        assert [fork.version for fork in find_forks(store_of(tmp_path / "a"), place, ours)] == ["2.0.0"]

    def test_a_place_that_cannot_be_listed_has_none(self, tmp_path: Path) -> None:
        ours = add(tmp_path / "a")
        assert find_forks(store_of(tmp_path / "a"), Repository.open(str(tmp_path / "nowhere")), ours) == []


def test_a_version_is_here_in_the_store_or_shipped(store: Repository) -> None:
    assert has_version(store, str(store.resolve("own")))
    assert has_version(store, SHIPPED.reference)
    assert not has_version(store, f"own@1.0.0#sha256:{'0' * 64}")


def test_the_summary_of_a_version_is_its_first_line(place: Repository, tmp_path: Path) -> None:
    first = add(tmp_path / "a")
    entry = add(tmp_path / "a", "Another.", "1.1.0", parents=[str(first)])
    send(tmp_path / "a", place)
    for repository in (place, store_of(tmp_path / "a")):
        summary = repository.summary(entry)
        assert (summary.name, summary.counts.records, summary.parents) == ("pets", 1, (str(first),))
        with pytest.raises(BundleError, match=r"names the bytes of pets@1.1.0"):
            repository.summary(entry.model_copy(update={"version": "1.2.0"}))
