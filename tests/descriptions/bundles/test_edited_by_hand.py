"""Sentences that were edited by hand: what was left alone keeps its record byte for byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bundle_reviews import decide, table_of, write_table
from bundle_samples import G, texts, write_texts

from abs_core.descriptions import Description, Provenance, Rejection
from abs_core.errors import BundleError, UsageError
from abs_descriptions.bundles import Bundle, iter_rejected
from abs_descriptions.bundles.conflicts import MergeConflictError
from abs_descriptions.bundles.edited import EDIT_COLUMNS, add_edited, write_edit_file
from abs_descriptions.bundles.exporting import export_bundle
from abs_descriptions.bundles.merge import Settling
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.review import ReviewFile, add_reviewed, write_review_file

Row = dict[str, str]


@pytest.fixture
def store(tmp_path: Path) -> Repository:
    store = Repository.local(tmp_path / "store")
    records = [
        Description("A cat has whiskers.", class_id="cat", provenance=Provenance("g", 0, "looks"), scores={"s": 0.5}),
        Description(
            "=A cat barks.", class_id="cat", provenance=Provenance("g", 1, "looks", accepted_by="g"), scores={"s": 1.0}
        ),
        Description("pointed ears", "phrase", class_id="cat", provenance=G, id="c3"),
        *texts("dog", "A dog has a wet nose.", "1"),
    ]
    rejected = [Rejection("cat", "Sure!", "chatty", G), Rejection("dog", "It meows.", "review", G, None, "g")]
    store.add(write_texts(tmp_path / "pets.jsonl", records, rejected=rejected, license="MIT").path)
    return store


@pytest.fixture
def bundle(store: Repository) -> Bundle:
    return store.read("pets")


def edited(store: Repository, bundle: Bundle, path: Path, rows: list[Row], **options: object) -> Bundle:
    write_table(path, rows, EDIT_COLUMNS)
    return store.read(add_edited(store, bundle, path, reviewer="Ann", **options))  # type: ignore[arg-type]


def rows_of(bundle: Bundle, path: Path) -> list[Row]:
    write_edit_file(bundle, path)
    return table_of(path)


def test_an_edit_keeps_parent_provenance_reviewer_and_rejected(
    store: Repository, bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "abs_descriptions")
    rows = rows_of(bundle, tmp_path / "e.csv")
    assert rows[1]["text"] == "'=A cat barks."
    rows[1]["text"] = "A cat purrs."
    rows[4]["text"] = "1.0"  # as a spreadsheet shows it
    rows.append({"class": "dog", "text": "It wags its\ntail. "})
    child = edited(store, bundle, tmp_path / "e.csv", [rows[0], *rows[2:], rows[1]][::-1])
    assert "4 kept, 1 edited, 1 new, 0 removed" in caplog.messages
    assert (child.header.parents, child.header.license) == ((bundle.reference,), "MIT")
    reviewer = child.header.generators[-1]
    assert (reviewer.id, reviewer.backend, reviewer.model) == ("review", "review", "Ann")
    assert reviewer.parameters["added"] == reviewer.parameters["edited"] == 1
    records = {record.text: record for record in child.records()}
    before = {record.text: record for record in bundle.records()}
    assert {text: records[text] for text in before if text != "=A cat barks."} == {
        text: record for text, record in before.items() if text != "=A cat barks."
    }
    assert records["A cat purrs."].provenance == Provenance("g", 1, "looks", edited_by="review")
    assert records["A cat purrs."].scores is None
    assert records["It wags its tail."].provenance == Provenance("review", 0)
    assert list(iter_rejected(child.path, child.header))[2:] == [
        Rejection("cat", "=A cat barks.", "edited", before["=A cat barks."].provenance, None, "review")
    ]


def test_lines_that_were_left_alone_are_the_same_bytes(store: Repository, bundle: Bundle, tmp_path: Path) -> None:
    rows = rows_of(bundle, tmp_path / "e.csv")
    child = edited(store, bundle, tmp_path / "e.csv", rows[:3])
    assert child.path.read_bytes().split(b"\n")[1:4] == bundle.path.read_bytes().split(b"\n")[1:4]
    removed = list(iter_rejected(child.path, child.header))[2:]
    assert [(entry.text, entry.reason, entry.rejected_by) for entry in removed] == [
        ("A dog has a wet nose.", "removed", "review"), ("1", "removed", "review")]  # fmt: skip
    assert not child.header.complete


def test_nothing_changed_is_no_version(store: Repository, bundle: Bundle, tmp_path: Path) -> None:
    rows = rows_of(bundle, tmp_path / "e.csv")
    assert edited(store, bundle, tmp_path / "e.csv", rows[::-1]).reference == bundle.reference
    assert [str(version) for version in store.versions("pets")] == ["1.0.0"]


def test_a_file_without_rows_does_not_empty_the_bundle(store: Repository, bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"e\.csv: the file has no rows, so that no sentence would be left"):
        edited(store, bundle, tmp_path / "e.csv", [])
    assert store.resolve("pets").version == bundle.header.version


def test_a_sentence_may_move_to_another_class_and_change_its_kind(
    store: Repository, bundle: Bundle, tmp_path: Path
) -> None:
    rows = rows_of(bundle, tmp_path / "e.csv")
    rows[2].update({"class": "dog", "name": "dog"})
    rows[0]["kind"] = "Phrase"
    child = edited(store, bundle, tmp_path / "e.csv", rows)
    before = list(bundle.records())
    moved = replace(before[2], class_id="dog", id=None, provenance=replace(G, edited_by="review"))
    assert moved in child.records()
    source = replace(before[0].provenance, edited_by="review")
    assert next(child.records()) == replace(before[0], kind="phrase", scores=None, provenance=source)
    assert [(e.class_id, e.text) for e in iter_rejected(child.path, child.header)][2:] == [("cat", "pointed ears")]


def test_an_export_and_a_review_file_may_be_edited_too(store: Repository, bundle: Bundle, tmp_path: Path) -> None:
    export_bundle(bundle.path, tmp_path / "export.csv", "csv")
    content = (tmp_path / "export.csv").read_text("utf-8").replace("A cat has whiskers.", "A cat has long whiskers.")
    (tmp_path / "export.csv").write_text(content, "utf-8")
    child = store.read(add_edited(store, bundle, tmp_path / "export.csv", reviewer="Ann", fork=True))
    assert next(child.records()).provenance == Provenance("g", 0, "looks", edited_by="review")
    assert list(child.records())[1:] == list(bundle.records())[1:]
    write_review_file(bundle, tmp_path / "review.csv")
    rows = table_of(tmp_path / "review.csv")
    rows[0]["text"] = "It has whiskers."
    write_table(tmp_path / "review.csv", rows)
    third = store.read(add_edited(store, bundle, tmp_path / "review.csv", reviewer="Bob", fork=True))
    assert next(third.records()).text == "It has whiskers."
    with pytest.raises(BundleError, match="line 3: the file has decisions: read it with `abs bundle review --read`"):
        add_edited(store, bundle, decide(bundle, tmp_path / "r.csv", {"=A cat barks.": ("accept",)}), reviewer="A")


def test_an_edit_of_an_older_version_goes_onto_the_newest(store: Repository, bundle: Bundle, tmp_path: Path) -> None:
    review = decide(bundle, tmp_path / "r.csv", {"=A cat barks.": ("reject",), "A cat has whiskers.": ("accept",)})
    head = store.read(add_reviewed(store, bundle, [ReviewFile(review, "Bob")]))
    rows = rows_of(bundle, tmp_path / "e.csv")
    rows[3]["text"] = "It has a wet nose."
    child = edited(store, bundle, tmp_path / "e.csv", rows)
    assert child.header.parents == (head.reference,)
    assert [record.text for record in child.records()] == [
        "A cat has whiskers.", "pointed ears", "It has a wet nose.", "1"]  # fmt: skip
    rows[1]["text"] = "A cat purrs."
    with pytest.raises(
        MergeConflictError, match=r"'=A cat barks\.': rejected by Bob in pets@1\.2\.0, edited to 'A cat pur"
    ):
        edited(store, bundle, tmp_path / "e.csv", rows)
    decided = edited(store, bundle, tmp_path / "e.csv", rows, settling=Settling("last"))
    assert "A cat purrs." in [record.text for record in decided.records()]
    assert edited(store, bundle, tmp_path / "e.csv", rows, settling=Settling("first")).reference == decided.reference


def test_a_review_that_names_a_version_in_between_makes_no_fork(
    store: Repository, bundle: Bundle, tmp_path: Path
) -> None:
    review = decide(bundle, tmp_path / "r.csv", {"=A cat barks.": ("reject",)})
    between = store.read(add_reviewed(store, bundle, [ReviewFile(review, "Bob")]))
    rows = rows_of(between, tmp_path / "e.csv")
    newest = edited(store, between, tmp_path / "e.csv", [{**rows[0], "text": "A cat purrs."}, *rows[1:]])
    late = [ReviewFile(decide(bundle, tmp_path / "s.csv", {"pointed ears": ("reject",)}), "Cay")]
    child = store.read(add_reviewed(store, between, late))
    assert child.header.parents == (newest.reference,)
    assert store.read(add_reviewed(store, between, late, onto=between.reference)).header.parents == (between.reference,)


def test_a_text_that_was_rejected_before_is_said(
    store: Repository, bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = rows_of(bundle, tmp_path / "e.csv")
    edited(store, bundle, tmp_path / "e.csv", [*rows, {"class": "dog", "text": "It meows."}])
    assert "1 added again after a reviewer rejected it (It meows.)" in caplog.messages


BAD: dict[str, tuple[int, Row, str]] = {
    "an unknown row": (1, {"row": "r0000000000000000"}, "line 3: pets@1.0.0#sha256:"),
    "an empty text": (0, {"text": " "}, "line 2: the text is empty; to remove a sentence remove its row"),
    "a text twice": (2, {"text": "A cat has whiskers."}, "line 4: 'cat' has the text 'A cat has whiskers.' already"),
    "an error of a spreadsheet": (0, {"text": "#NAME?"}, "line 2: the text is an error of a spreadsheet"),
    "an unknown class": (0, {"class": "horse"}, "line 2: the class 'horse' is no class of the bundle"),
    "an unknown kind": (0, {"kind": "word"}, "line 2: the kind must be 'sentence' or 'phrase', got 'word'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_refused_with_their_line(store: Repository, bundle: Bundle, tmp_path: Path, case: str) -> None:
    place, cells, words = BAD[case]
    rows = rows_of(bundle, tmp_path / "e.csv")
    rows[place].update(cells)
    with pytest.raises(BundleError, match=r"e\.csv, line") as caught:
        edited(store, bundle, tmp_path / "e.csv", rows)
    assert words in caught.value.message
    assert len(store.versions("pets")) == 1


def test_a_row_twice_another_version_and_no_name(store: Repository, bundle: Bundle, tmp_path: Path) -> None:
    rows = rows_of(bundle, tmp_path / "e.csv")
    with pytest.raises(BundleError, match=r"line 7: the row 'r.*' is already on line 2"):
        edited(store, bundle, tmp_path / "e.csv", [*rows, rows[0]])
    with pytest.raises(UsageError, match="the reviewer's name '' is empty"):
        add_edited(store, bundle, tmp_path / "e.csv", reviewer="")
    write_review_file(bundle, tmp_path / "r.csv")
    (tmp_path / "r.csv").write_bytes((tmp_path / "r.csv").read_bytes().replace(b"pets@1.0.0", b"pets@0.9.0"))
    with pytest.raises(
        BundleError, match=r"is of 'pets@0\.9\.0#.*', which is not in the store, and pets@1\.0\.0 was not"
    ):
        add_edited(store, bundle, tmp_path / "r.csv", reviewer="Ann")


def test_a_row_that_lost_its_id_keeps_its_record(store: Repository, bundle: Bundle, tmp_path: Path) -> None:
    rows = rows_of(bundle, tmp_path / "e.csv")
    rows[0]["row"] = rows[2]["row"] = rows[2]["kind"] = ""
    rows[1]["text"] = "A cat purrs."
    child = edited(store, bundle, tmp_path / "e.csv", rows)
    kept = [record for record in bundle.records() if record.text != "=A cat barks."]
    assert [record for record in child.records() if record.text != "A cat purrs."] == kept
    rejected = [entry.text for entry in iter_rejected(child.path, child.header)]
    assert rejected == ["Sure!", "It meows.", "=A cat barks."]
