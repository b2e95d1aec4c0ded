"""Common parents: the nearest one, through merges, where histories cross, and where something is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bundle_reviews import Decisions, decide
from bundle_samples import texts, write_texts

from abs_core.descriptions import Provenance
from abs_core.errors import BundleError, UsageError
from abs_descriptions.bundles import Bundle
from abs_descriptions.bundles.ancestry import Ancestry
from abs_descriptions.bundles.conflicts import MergeConflictError
from abs_descriptions.bundles.merge import Settling, add_merged
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.review import ReviewFile, add_reviewed


@pytest.fixture
def store(tmp_path: Path) -> Repository:
    store = Repository.local(tmp_path / "store")
    records = [
        replace(record, provenance=Provenance("g", place))
        for place, record in enumerate(texts("cat", "A.", "B.", "C.", "D."))
    ]
    store.add(write_texts(tmp_path / "pets.jsonl", records).path)
    return store


def review(store: Repository, folder: Path, who: str, decisions: Decisions, of: str = "pets@1.0.0") -> Bundle:
    bundle = store.read(of)
    file = ReviewFile(decide(bundle, folder / f"{who}.csv", decisions), who)
    return store.read(add_reviewed(store, bundle, [file], fork=True))


def merged(store: Repository, *bundles: Bundle, rule: str = "refuse", **options: bool) -> Bundle:
    return store.read(add_merged(store, bundles, settling=Settling(rule), **options))  # type: ignore[arg-type]


def shown(bundle: Bundle) -> list[str]:
    return [record.text + "!" * (record.provenance.accepted_by is not None) for record in bundle.records()]


def test_the_nearest_common_ancestors_of_a_graph() -> None:
    graph = Ancestry({"o": (), "p": ("o",), "q": ("o",), "a": ("p", "q"), "b": ("q", "p"), "c": ("a",), "x": ("lost",)})
    assert graph.nearest_common(["p", "q"]) == ["o"]
    assert graph.nearest_common(["a", "b"]) == ["p", "q"]
    assert graph.nearest_common(["a", "c"]) == ["a"]
    assert graph.nearest_common(["c", "b"]) == ["p", "q"]
    assert graph.nearest_common(["a", "x"]) == []
    assert graph.newest(["o", "a", "c", "b"]) == ["c", "b"]
    assert Ancestry({"x": ("lost",), "lost": None}).missing == {"lost"}


def test_the_nearest_parent_counts_not_the_oldest(store: Repository, tmp_path: Path) -> None:
    first = review(store, tmp_path, "Ann", {"A.": ("edit", "AA.")})
    left = review(store, tmp_path, "Bob", {"AA.": ("edit", "AAA.")}, first.reference)
    right = review(store, tmp_path, "Cay", {"B.": ("reject",)}, first.reference)
    assert shown(merged(store, left, right)) == ["AAA.", "C.", "D."], "from 1.0.0 these would be two edits of A."


def test_a_merge_of_a_merge_starts_from_what_was_merged(store: Repository, tmp_path: Path) -> None:
    ann = review(store, tmp_path, "Ann", {"A.": ("reject",)})
    bob = review(store, tmp_path, "Bob", {"B.": ("accept",)})
    both = merged(store, ann, bob)
    later = review(store, tmp_path, "Bob2", {"B.": ("edit", "BB.")}, bob.reference)
    assert shown(merged(store, both, later)) == ["BB.", "C.", "D."]
    assert add_merged(store, [both, ann]) == store.resolve(both.reference)
    named = store.read(add_merged(store, [ann, both], name="other"))
    assert (shown(named), named.header.parents) == (shown(both), (ann.reference, both.reference))


def test_histories_that_cross(store: Repository, tmp_path: Path) -> None:
    ann = review(store, tmp_path, "Ann", {"A.": ("reject",), "C.": ("accept",)})
    bob = review(store, tmp_path, "Bob", {"A.": ("accept",), "D.": ("edit", "DD.")})
    as_ann, as_bob = merged(store, ann, bob, rule="first"), merged(store, bob, ann, rule="first")
    assert (shown(as_ann), shown(as_bob)) == (["B.", "C.!", "DD."], ["A.!", "B.", "C.!", "DD."])
    with pytest.raises(MergeConflictError) as caught:
        merged(store, as_ann, as_bob)
    assert [conflict.text for conflict in caught.value.conflicts] == ["A."]
    assert shown(merged(store, as_ann, as_bob, rule="keep")) == ["A.!", "B.", "C.!", "DD."]
    left = review(store, tmp_path, "Cay", {"B.": ("reject",)}, as_ann.reference)
    right = merged(store, bob, ann, rule="reject")
    assert shown(merged(store, left, right)) == ["C.!", "DD."], "both sides rejected A., so there is nothing to decide"


def test_three_bundles_of_one_parent_and_of_several(store: Repository, tmp_path: Path) -> None:
    ann = review(store, tmp_path, "Ann", {"A.": ("reject",)})
    bob = review(store, tmp_path, "Bob", {"B.": ("accept",)})
    cay = review(store, tmp_path, "Cay", {"C.": ("edit", "CC.")})
    assert shown(merged(store, ann, bob, cay)) == ["B.!", "CC.", "D."]
    dan = review(store, tmp_path, "Dan", {"D.": ("reject",)}, cay.reference)
    eve = review(store, tmp_path, "Eve", {"CC.": ("accept",)}, cay.reference)
    with pytest.raises(UsageError, match=r"pets@1.5.0 and pets@1.6.0 have another common parent than all 3") as caught:
        merged(store, ann, dan, eve)
    assert "`abs bundle merge pets@1.5.0 pets@1.6.0`" in caught.value.remedy
    assert shown(merged(store, ann, merged(store, dan, eve))) == ["B.", "CC.!"]


def test_a_parent_that_may_be_behind_what_is_missing(store: Repository, tmp_path: Path) -> None:
    ann = review(store, tmp_path, "Ann", {"A.": ("reject",)})
    ann2 = review(store, tmp_path, "Ann2", {"B.": ("reject",)}, ann.reference)
    bob = review(store, tmp_path, "Bob", {"C.": ("reject",)})
    store.remove("pets@1.1.0")
    with pytest.raises(BundleError, match=r"may be a parent of what is not in the store: pets@1.1.0#"):
        merged(store, ann2, bob)
    assert shown(merged(store, ann2, bob, two_way=True)) == ["D."]
    other = write_texts(tmp_path / "birds.jsonl", texts("cat", "E."))
    assert shown(merged(store, ann2, other)) == ["C.", "D.", "E."], "bundles of other names have nothing in common"


def test_a_version_that_the_store_has_with_another_digest_is_missing(store: Repository, tmp_path: Path) -> None:
    ann = review(store, tmp_path, "Ann", {"A.": ("reject",)})
    bob = review(store, tmp_path, "Bob", {"C.": ("reject",)})
    store.remove("pets@1.0.0")
    store.add(write_texts(tmp_path / "pets.jsonl", texts("cat", "Another.")).path)
    with pytest.raises(BundleError, match=r"of pets@1.1.0, pets@1.2.0 is not in the store"):
        merged(store, ann, bob)
