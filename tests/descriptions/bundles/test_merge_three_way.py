"""Two reviewers of one version: both have their say in the merge, and where they disagree it is refused."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import texts, write_texts

from abs_core.descriptions import Provenance
from abs_core.errors import BundleError
from abs_descriptions.bundles import Bundle, iter_rejected
from abs_descriptions.bundles.merge import Settling, add_merged
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.review import ReviewFile, add_reviewed, write_review_file

Decisions = dict[str, tuple[str, str]]


@pytest.fixture
def store(tmp_path: Path) -> Repository:
    store = Repository.local(tmp_path / "store")
    records = [replace(record, provenance=Provenance("g", place)) for place, record in enumerate(
        texts("cat", "It purrs.", "It barks.", "It is a pet.", "It sleeps."))]  # fmt: skip
    store.add(write_texts(tmp_path / "pets.jsonl", records).path)
    return store


def review(store: Repository, folder: Path, who: str, decisions: Decisions, of: str = "pets@1.0.0") -> Bundle:
    bundle = store.read(of)
    sheet = folder / f"{who}.csv"
    write_review_file(bundle, sheet)
    lines = sheet.read_text(encoding="utf-8-sig").splitlines()
    for number, line in enumerate(lines):
        for text, (decision, new) in decisions.items():
            if f",{text}," in line:
                lines[number] = line.removesuffix(",,,") + f",{decision},{new},"
    sheet.write_text("\n".join(lines), encoding="utf-8")
    return store.read(add_reviewed(store, bundle, [ReviewFile(sheet, who)], fork=True))


def test_what_each_reviewer_changed_is_changed(
    store: Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "abs_descriptions")
    ann = review(store, tmp_path, "Ann", {"It barks.": ("reject", ""), "It purrs.": ("accept", "")})
    assert not caplog.messages
    bob = review(store, tmp_path, "Bob", {"It is a pet.": ("edit", "It is small.")})
    assert caplog.messages == [
        "pets@1.1.0 was made of the same version, and this review does not have its changes: "
        "`abs bundle merge pets@1.1.0 pets@1.2.0` joins both"
    ]
    merged = store.read(add_merged(store, [ann, bob]))
    records = {record.text: record.provenance for record in merged.records()}
    assert list(records) == ["It purrs.", "It is small.", "It sleeps."]
    assert (records["It purrs."].accepted_by, records["It is small."].edited_by) == ("review", "review-2")
    assert [generator.model for generator in merged.header.generators] == ["none", "Ann", "Bob"]
    rejected = [(entry.text, entry.reason) for entry in iter_rejected(merged.path, merged.header)]
    assert sorted(rejected) == [("It barks.", "review"), ("It is a pet.", "edited")]
    caplog.clear()
    review(store, tmp_path, "Cay", {"It sleeps.": ("accept", "")}, "pets@1.3.0")
    assert not caplog.messages


@pytest.mark.parametrize(
    ("first", "second", "words", "winner"),
    [
        (("reject", ""), ("accept", ""), "rejected by Ann in pets@1.1.0, accepted by Bob in pets@1.2.0", []),
        (("accept", ""), ("reject", ""), "accepted by Ann in pets@1.1.0, rejected by Bob in pets@1.2.0", ["It barks."]),
        (("edit", "It growls."), ("reject", ""), "edited to 'It growls.' by Ann in pets@1.1.0, rej", ["It growls."]),
        (("edit", "It growls."), ("edit", "It yaps."), "edited to 'It yaps.' by Bob in pets@1.2", ["It growls."]),
    ],
)
def test_two_changes_of_one_sentence_are_a_conflict(
    store: Repository, tmp_path: Path, first: tuple[str, str], second: tuple[str, str], words: str, winner: list[str]
) -> None:
    bundles = [
        review(store, tmp_path, "Ann", {"It barks.": first}),
        review(store, tmp_path, "Bob", {"It barks.": second}),
    ]
    with pytest.raises(BundleError, match=f"'It barks.': .*{words}"):
        add_merged(store, bundles)
    merged = store.read(add_merged(store, bundles, settling=Settling("first")))
    others = {"It purrs.", "It is a pet.", "It sleeps."}
    assert [record.text for record in merged.records() if record.text not in others] == winner


def test_the_same_change_twice_is_no_conflict_and_rejections_stay_single(store: Repository, tmp_path: Path) -> None:
    decisions = {"It barks.": ("reject", ""), "It is a pet.": ("edit", "It is small.")}
    merged = store.read(add_merged(store, [review(store, tmp_path, who, decisions) for who in ("Ann", "Bob")]))
    assert [record.text for record in merged.records()] == ["It purrs.", "It is small.", "It sleeps."]


def test_a_version_merged_with_its_child_is_the_child(store: Repository, tmp_path: Path) -> None:
    child = review(store, tmp_path, "Ann", {"It barks.": ("reject", "")})
    merged = store.read(add_merged(store, [store.read("pets@1.0.0"), child]))
    assert [record.text for record in merged.records()] == ["It purrs.", "It is a pet.", "It sleeps."]


def test_a_parent_that_is_gone_is_named_and_is_done_without_only_when_asked(store: Repository, tmp_path: Path) -> None:
    ann = review(store, tmp_path, "Ann", {"It barks.": ("reject", "")})
    bob = review(store, tmp_path, "Bob", {"It sleeps.": ("reject", "")})
    parent = store.remove("pets@1.0.0")
    with pytest.raises(BundleError, match=f"of pets@1.1.0, pets@1.2.0 is not in the store: {parent}") as caught:
        add_merged(store, [ann, bob])
    assert "`abs bundle pull pets@1.1.0 LOCATION --with-parents`" in caught.value.remedy
    merged = store.read(add_merged(store, [ann, bob], two_way=True))
    assert [record.text for record in merged.records()] == ["It purrs.", "It is a pet."]
